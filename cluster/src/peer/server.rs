//! Accepting peers: judged by certificate, name, cluster and membership before a request is read.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat::ids::NodeId;
use parking_lot::RwLock;
use rustls::ServerConfig;
use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::message::{Bundle, Hello, Message, Request, Response, VERSION, Welcome};
use super::{frame, tls};
use crate::roster::{Stranger, Table};

/// Connections that have not yet proved who they are.
const HALF_OPEN: usize = 64;
/// Handshake and hello together.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests of one peer served at once; beyond it the connection is not read.
const CONCURRENT: usize = 1024;
/// Responses waiting to be written.
const RESPONSES: usize = 1024;

/// Serves one peer's messages.
pub(crate) trait Handler: Send + Sync + 'static {
    fn handle(self: Arc<Self>, from: NodeId, request: Request) -> Pin<Box<dyn Future<Output = Response> + Send>>;

    /// Called in the order of the notes; must not wait.
    fn told(&self, from: NodeId, note: Bytes);
}

pub(crate) struct ServerOptions {
    pub(crate) cluster: String,
    pub(crate) node: NodeId,
    pub(crate) members: Arc<RwLock<Arc<Table>>>,
    pub(crate) tls: Arc<ServerConfig>,
}

pub(crate) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

pub(crate) async fn accept<H: Handler>(listener: TcpListener, options: ServerOptions, handler: Arc<H>) {
    let options = Arc::new(options);
    let half_open = Arc::new(Semaphore::new(HALF_OPEN));
    loop {
        let Ok(permit) = half_open.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((tcp, address)) => {
                let (options, handler) = (options.clone(), handler.clone());
                tokio::spawn(async move {
                    let greeted = timeout(HELLO_TIMEOUT, greet(tcp, &options)).await;
                    drop(permit);
                    match greeted {
                        Ok(Ok((stream, peer))) => serve(stream, peer, &options, handler).await,
                        Ok(Err(error)) => tracing::warn!(event = "peer_refused", %address, %error, "peer refused"),
                        Err(_) => tracing::warn!(event = "peer_refused", %address, "peer said nothing in time"),
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a peer failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn greet(tcp: TcpStream, options: &ServerOptions) -> io::Result<(TlsStream<TcpStream>, NodeId)> {
    tcp.set_nodelay(true)?;
    let mut stream = TlsAcceptor::from(options.tls.clone()).accept(tcp).await?;
    let hello: Hello = frame::read(&mut stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let named = certificate.is_some_and(|certificate| tls::names(certificate, &options.cluster, hello.node));
    let stranger = options.members.read().stranger(hello.node);
    let reason = judge(&hello, named, stranger, options);
    if let Some(reason) = reason {
        let removed = named && stranger == Some(Stranger::Removed) && hello.cluster == options.cluster;
        let answer = if removed { Welcome::Removed } else { Welcome::Refused { reason: reason.clone() } };
        frame::write(&mut stream, &answer).await?;
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
    }
    let own = Hello { version: VERSION, cluster: options.cluster.clone(), node: options.node };
    frame::write(&mut stream, &Welcome::Accepted(own)).await?;
    Ok((stream, hello.node))
}

/// Why a peer is refused, if it is.
fn judge(hello: &Hello, named: bool, stranger: Option<Stranger>, options: &ServerOptions) -> Option<String> {
    if hello.version != VERSION {
        return Some(format!("it speaks version {} of the peer protocol, this node speaks {VERSION}", hello.version));
    }
    if hello.cluster != options.cluster {
        return Some(format!("it belongs to cluster {}, this is {}", hello.cluster, options.cluster));
    }
    if stranger == Some(Stranger::Removed) {
        return Some(format!("node {} was removed from this cluster", hello.node));
    }
    if stranger.is_some() || hello.node == options.node {
        return Some(format!("node {} is not a peer in this cluster's membership", hello.node));
    }
    if !named {
        return Some(format!("its certificate does not name node {}", hello.node));
    }
    None
}

async fn serve<H: Handler>(stream: TlsStream<TcpStream>, peer: NodeId, options: &ServerOptions, handler: Arc<H>) {
    let (reader, mut writer) = tokio::io::split(stream);
    let mut reader = BufReader::with_capacity(64 * 1024, reader);
    let (responses, mut written) = mpsc::channel::<Message>(RESPONSES);
    let writing = tokio::spawn(async move {
        while let Some(first) = written.recv().await {
            // Whoever else is ready to run may have an answer for the same bundle.
            tokio::task::yield_now().await;
            let mut messages = vec![first];
            while messages.len() < 256 {
                let Ok(next) = written.try_recv() else { break };
                messages.push(next);
            }
            if frame::write(&mut writer, &Bundle { messages }).await.is_err() {
                return;
            }
        }
    });
    let room = Arc::new(Semaphore::new(CONCURRENT));
    loop {
        let bundle: Bundle = match frame::read(&mut reader).await {
            Ok(Some(bundle)) => bundle,
            Ok(None) => break,
            Err(error) => {
                tracing::info!(peer, %error, "connection from peer ended");
                break;
            }
        };
        if options.members.read().stranger(peer).is_some() {
            tracing::info!(peer, "connection from a node that is no peer any more");
            break;
        }
        for message in bundle.messages {
            let (id, request) = match message {
                Message::Request { id, request } => (id, request),
                Message::Note(note) => {
                    handler.told(peer, note);
                    continue;
                }
                Message::Response { .. } => continue,
            };
            let Ok(permit) = room.clone().acquire_owned().await else { return };
            let (handler, responses) = (handler.clone(), responses.clone());
            tokio::spawn(async move {
                let response = handler.handle(peer, request).await;
                // A broken connection takes its unanswered requests with it; the peer retries.
                let _ = responses.send(Message::Response { id, response }).await;
                drop(permit);
            });
        }
    }
    writing.abort();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_named_member_of_this_cluster_and_version_is_let_in() {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
        let options = ServerOptions { cluster: "c".to_owned(), node: 1, members: Arc::default(), tls: Arc::new(tls) };
        let hello = |version, cluster: &str, node| Hello { version, cluster: cluster.to_owned(), node };
        assert_eq!(judge(&hello(VERSION, "c", 2), true, None, &options), None);
        for (bad, named, stranger) in [
            (hello(VERSION + 1, "c", 2), true, None),
            (hello(VERSION, "d", 2), true, None),
            (hello(VERSION, "c", 4), true, Some(Stranger::Unknown)),
            (hello(VERSION, "c", 4), true, Some(Stranger::Removed)),
            (hello(VERSION, "c", 1), true, None),
            (hello(VERSION, "c", 2), false, None),
        ] {
            assert!(judge(&bad, named, stranger, &options).is_some(), "{bad:?}");
        }
    }
}
