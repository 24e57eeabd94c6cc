//! The route of the WebSocket endpoint.

use actix::Actor;
use actix_web::http::StatusCode;
use actix_web::http::header::{HOST, HeaderMap, HeaderName, ORIGIN, SEC_WEBSOCKET_PROTOCOL, USER_AGENT};
use actix_web::{HttpRequest, HttpResponse, web};
use actix_web_actors::ws::WsResponseBuilder;
use chat::errors::ErrorCode;
use chat::limits;
use chat::wire::{PATH, SUBPROTOCOL, WireError};

use super::guard::Guarded;
use super::pump::Pump;
use super::{Client, Connection, Pipe, cutter, now_ms};
use crate::page::Page;
use crate::session::{Floor, Services, Session};

/// Adds the endpoint; the app must hold a `web::Data<Services>` and the worker's [`Floor`].
pub fn configure(config: &mut web::ServiceConfig) {
    config.route(PATH, web::get().to(connect));
}

async fn connect(request: HttpRequest, payload: web::Payload, services: web::Data<Services>) -> HttpResponse {
    let page = request.app_data::<web::Data<Page>>().map(|page| page.get_ref());
    if let Err(refusal) = admit(request.headers(), page) {
        return refuse(StatusCode::BAD_REQUEST, refusal);
    }
    let Some(address) = request.peer_addr() else {
        return refuse(
            StatusCode::BAD_REQUEST,
            WireError::new(ErrorCode::Internal, "the peer's address is unknown", ""),
        );
    };
    let Some(floor) = request.app_data::<Floor>().cloned() else {
        let error = WireError::new(ErrorCode::Internal, "this worker serves no sessions", "");
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, error);
    };
    let Some(slot) = services.sessions.slot() else {
        let error = WireError::new(ErrorCode::TooManySessions, "this node has as many connections as it takes", "");
        return refuse(StatusCode::SERVICE_UNAVAILABLE, error);
    };
    let client = Client { ip: address.ip(), port: address.port(), user_agent: user_agent(request.headers()) };
    let pipe = Pipe::new(now_ms());
    let (guarded, violated) = Guarded::new(payload);
    let cutter = cutter::of(&request);
    let session_pipe = pipe.clone();
    let services = services.into_inner();
    let open = Box::new(move || {
        let connection = Connection { client, pipe: session_pipe, cutter };
        Session::new(services, &floor, connection, slot).start().recipient()
    });
    WsResponseBuilder::new(Pump::new(pipe, violated, open), &request, guarded)
        .protocols(&[SUBPROTOCOL])
        .frame_size(limits::FRAME_BYTES)
        .start()
        .unwrap_or_else(|error| error.error_response())
}

/// The subprotocol must be offered, and a browser must come from a page of this host, or from the chat page of
/// another node of the cluster: that page comes here when its own node dies.
fn admit(headers: &HeaderMap, page: Option<&Page>) -> Result<(), WireError> {
    let offered = header(headers, &SEC_WEBSOCKET_PROTOCOL).unwrap_or_default();
    if !offered.split(',').any(|one| one.trim() == SUBPROTOCOL) {
        let message = format!("offer the WebSocket subprotocol {SUBPROTOCOL}");
        return Err(WireError::new(ErrorCode::InvalidField, message, ""));
    }
    let Some(origin) = header(headers, &ORIGIN) else { return Ok(()) };
    let host = origin.split_once("://").map(|(_, host)| host);
    let own = host.is_some() && host == header(headers, &HOST);
    if own || page.is_some_and(|page| page.is_origin(origin)) {
        return Ok(());
    }
    Err(WireError::new(ErrorCode::Forbidden, "a page of another origin may not connect", ""))
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn user_agent(headers: &HeaderMap) -> String {
    header(headers, &USER_AGENT).unwrap_or_default().chars().take(limits::USER_AGENT_BYTES).collect()
}

fn refuse(status: StatusCode, error: WireError) -> HttpResponse {
    HttpResponse::build(status).json(error)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn the_subprotocol_is_required() {
        let offered = |text| admit(&headers(&[(SEC_WEBSOCKET_PROTOCOL, text)]), None).map_err(|error| error.code);
        assert_eq!(offered("campanile.v1.json"), Ok(()));
        assert_eq!(offered("mqtt, campanile.v1.json"), Ok(()));
        assert_eq!(offered("campanile.v2.json"), Err(ErrorCode::InvalidField.number()));
        assert!(admit(&HeaderMap::new(), None).is_err());
    }

    #[test]
    fn a_page_of_another_host_is_refused() {
        let from = |origin| {
            let host = (HOST, "chat.example:7411");
            admit(&headers(&[(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL), host, (ORIGIN, origin)]), None).is_ok()
        };
        assert!(from("https://chat.example:7411"));
        for bad in ["https://evil.example", "https://chat.example:7411.evil.example", "https://chat.example", "null"] {
            assert!(!from(bad), "{bad}");
        }
    }
}
