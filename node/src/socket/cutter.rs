//! The last resort against a client that does not read.
//!
//! The WebSocket actor lives in the response body: while the client takes nothing it is never polled, so it can
//! neither close nor stop. A duplicate of the socket, taken when the connection was accepted, can be shut down from
//! outside; the actor is gone within milliseconds.

use std::any::Any;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream as ArbiterTcpStream;

/// One duplicate of the socket, shared by the connection and its session.
#[derive(Debug, Clone)]
pub(crate) struct Cutter(Arc<TcpStream>);

impl Cutter {
    pub(crate) fn cut(&self) {
        // The only failure is a connection that is gone already.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// For `HttpServer::on_connect`: keeps a duplicate of the accepted socket, TLS or not.
pub fn remember_socket(connection: &dyn Any, data: &mut Extensions) {
    let socket = match connection.downcast_ref::<TlsStream<ArbiterTcpStream>>() {
        Some(tls) => Some(tls.get_ref().0),
        None => connection.downcast_ref::<ArbiterTcpStream>(),
    };
    let Some(socket) = socket else { return };
    match socket.as_fd().try_clone_to_owned() {
        Ok(duplicate) => {
            data.insert(Cutter(Arc::new(TcpStream::from(duplicate))));
        }
        Err(error) => tracing::warn!(%error, "an accepted socket could not be duplicated"),
    }
}

/// The cutter of the connection that `request` came on.
pub(super) fn of(request: &actix_web::HttpRequest) -> Option<Cutter> {
    request.conn_data::<Cutter>().cloned()
}
