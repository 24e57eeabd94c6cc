//! The listener for clients: the chat page over HTTP, and connections that become WebSockets.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_codec::Framed;
use actix_http::{HttpService, Request, h1};
use actix_service::{fn_service, map_config};
use actix_web::dev::{AppConfig, Server};
use actix_web::{App, HttpResponse, web};
use anyhow::Context;
use chat::errors::ErrorCode;
use chat::limits;
use chat::wire::{PATH, WireError};

use super::upgrade::Endpoint;
use crate::config::NodeConfig;
use crate::page::Page;
use crate::server_api::{self, Api};
use crate::session::{Floor, Services};
use crate::tls;

/// A client may take this long to say what it wants, and to close when it is told to.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Listens with `workers` threads. `floor` makes what the sessions of one worker thread share.
pub fn serve_clients(
    config: &NodeConfig,
    workers: usize,
    services: Arc<Services>,
    floor: impl Fn() -> Floor + Clone + Send + 'static,
) -> anyhow::Result<Server> {
    let page = Page::new(config);
    let api = Arc::new(Api::new(services.clone()));
    let listen: SocketAddr = config.client.listen;
    // Called once on each worker thread.
    let endpoint = move || {
        let api = api.clone();
        Endpoint { services: services.clone(), floor: floor(), page: Rc::new(page.clone()), api }
    };
    // The service with and without TLS: its type has no name that a function could give back.
    macro_rules! http {
        ($endpoint:expr) => {{
            let endpoint: Endpoint = $endpoint;
            let app = App::new()
                .route(PATH, web::get().to(not_a_websocket))
                .configure(endpoint.page.routes())
                .configure(server_api::routes(endpoint.api.clone()));
            HttpService::build()
                .client_request_timeout(REQUEST_TIMEOUT)
                .client_disconnect_timeout(DISCONNECT_TIMEOUT)
                // An ack behind an event must not wait for the client's delayed TCP acknowledgement (40 ms).
                .tcp_nodelay(true)
                .local_addr(listen)
                .upgrade(fn_service(move |upgrade: (Request, Framed<_, h1::Codec>)| endpoint.clone().serve(upgrade)))
                .finish(map_config(app, |()| AppConfig::default()))
        }};
    }
    let server = Server::build()
        .workers(workers)
        .max_concurrent_connections(limits::NODE_SESSIONS)
        .disable_signals()
        .shutdown_timeout(1);
    let bound = if config.client.tls {
        let tls = tls::server_config(&config.client.certificate, &config.client.private_key)?;
        server.bind("clients", listen, move || http!(endpoint()).rustls_0_23(tls.clone()))
    } else {
        server.bind("clients", listen, move || http!(endpoint()).tcp())
    };
    Ok(bound.with_context(|| format!("cannot listen for clients on {listen}"))?.run())
}

/// Requests that ask for a WebSocket never come here.
async fn not_a_websocket() -> HttpResponse {
    let message = "this is a WebSocket endpoint: send Connection: Upgrade and Upgrade: websocket";
    HttpResponse::BadRequest().json(WireError::new(ErrorCode::InvalidField, message, ""))
}
