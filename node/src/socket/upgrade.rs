//! The route of the WebSocket endpoint.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use actix::Actor;
use actix_codec::{AsyncRead, AsyncWrite, Framed};
use actix_http::body::{BodySize, BoxBody, MessageBody};
use actix_http::header::{HOST, HeaderMap, HeaderName, ORIGIN, SEC_WEBSOCKET_PROTOCOL, USER_AGENT};
use actix_http::{HttpMessage, Request, Response, StatusCode, h1, ws};
use actix_web_actors::ws::WebsocketContext;
use bytes::Bytes;
use chat::errors::ErrorCode;
use chat::limits;
use chat::wire::{PATH, SUBPROTOCOL, SUBPROTOCOL_PACKED, WireError};
use futures_util::SinkExt;

use super::guard::Guarded;
use super::pump::Pump;
use super::{Client, Connection, Pipe, now_ms, transport};
use crate::directory::Slot;
use crate::page::Page;
use crate::server_api::Api;
use crate::session::{Floor, Services, Session};

type Served = Pin<Box<dyn Future<Output = Result<(), Infallible>>>>;

/// What the connections of one worker thread share.
#[derive(Clone)]
pub(super) struct Endpoint {
    pub(super) services: Arc<Services>,
    pub(super) floor: Floor,
    pub(super) page: Rc<Page>,
    pub(super) api: Arc<Api>,
}

impl Endpoint {
    /// Answers one connection that asks to become a WebSocket, and has it served by a task of its own: what HTTP and the
    /// handshake needed ends here.
    pub(super) fn serve<Io>(self, (request, framed): (Request, Framed<Io, h1::Codec>)) -> Served
    where
        Io: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let mut framed = Box::new(framed);
        match self.admit(&request) {
            Ok(Admitted { response, client, slot, packed }) => Box::pin(async move {
                drop(request);
                if framed.send((response, BodySize::None).into()).await.is_ok() {
                    actix::spawn(self.chat(*framed, client, slot, packed));
                }
                Ok(())
            }),
            // Whoever is refused may be gone already.
            Err(refusal) => Box::pin(async move {
                drop(refuse(*framed, refusal).await);
                Ok(())
            }),
        }
    }

    fn admit(&self, request: &Request) -> Result<Admitted, Response<BoxBody>> {
        if request.path() != PATH {
            let message = format!("the WebSocket endpoint is {PATH}");
            return Err(refusal(StatusCode::NOT_FOUND, &WireError::new(ErrorCode::InvalidField, message, "")));
        }
        let spoken = admit(request.headers(), Some(&self.page));
        let subprotocol = spoken.map_err(|error| refusal(StatusCode::BAD_REQUEST, &error))?;
        let mut response = ws::handshake(request.head())?;
        let Some(address) = request.peer_addr() else {
            let error = WireError::new(ErrorCode::Internal, "the peer's address is unknown", "");
            return Err(refusal(StatusCode::BAD_REQUEST, &error));
        };
        if self.services.sessions.are_closed() {
            let error = WireError::new(ErrorCode::Unavailable, "this node is leaving: connect to another one", "");
            return Err(refusal(StatusCode::SERVICE_UNAVAILABLE, &error));
        }
        if let Err(early) = self.services.rates.connection(address.ip()) {
            let mut error = WireError::new(ErrorCode::RateLimited, "too many connections from your address", "");
            error.retry_after_ms = Some(early.retry_after_ms);
            return Err(refusal(StatusCode::TOO_MANY_REQUESTS, &error));
        }
        let Some(slot) = self.services.sessions.slot() else {
            let error = WireError::new(ErrorCode::TooManySessions, "this node has as many connections as it takes", "");
            return Err(refusal(StatusCode::SERVICE_UNAVAILABLE, &error));
        };
        let client = Client { ip: address.ip(), port: address.port(), user_agent: user_agent(request.headers()) };
        let response = response.insert_header((SEC_WEBSOCKET_PROTOCOL, subprotocol)).finish().drop_body();
        Ok(Admitted { response, client, slot, packed: subprotocol == SUBPROTOCOL_PACKED })
    }

    fn chat<Io>(
        self,
        framed: Framed<Io, h1::Codec>,
        client: Client,
        slot: Slot,
        packed: bool,
    ) -> impl Future<Output = ()>
    where
        Io: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let (incoming, outgoing) = {
            let parts = framed.into_parts();
            // A copy: the buffers of the handshake, 8 KiB each, end here.
            transport::split(parts.io, Bytes::copy_from_slice(&parts.read_buf))
        };
        let (guarded, violated) = Guarded::new(incoming);
        let pipe = Pipe::new(now_ms());
        let connection = Connection { client, pipe: pipe.clone() };
        let open = Box::new(move || Session::new(self.services, &self.floor, connection, slot).start().recipient());
        let codec = ws::Codec::new().max_size(limits::FRAME_BYTES);
        let frames = WebsocketContext::with_codec(Pump::new(pipe.clone(), packed, violated, open), guarded, codec);
        outgoing.carry(Box::pin(frames), pipe)
    }
}

/// A connection that may become a WebSocket.
struct Admitted {
    response: Response<()>,
    client: Client,
    slot: Slot,
    /// It speaks MessagePack.
    packed: bool,
}

/// The subprotocol that is spoken: of those that are offered the first that we know. It must be offered, and a browser must come from a page of this host, or from the chat page of
/// another node of the cluster: that page comes here when its own node dies.
fn admit(headers: &HeaderMap, page: Option<&Page>) -> Result<&'static str, WireError> {
    let offered = header(headers, &SEC_WEBSOCKET_PROTOCOL).unwrap_or_default();
    let known = |one: &str| [SUBPROTOCOL, SUBPROTOCOL_PACKED].into_iter().find(|known| *known == one.trim());
    let Some(subprotocol) = offered.split(',').find_map(known) else {
        let message = format!("offer the WebSocket subprotocol {SUBPROTOCOL} or {SUBPROTOCOL_PACKED}");
        return Err(WireError::new(ErrorCode::InvalidField, message, ""));
    };
    let Some(origin) = header(headers, &ORIGIN) else { return Ok(subprotocol) };
    let host = origin.split_once("://").map(|(_, host)| host);
    let own = host.is_some() && host == header(headers, &HOST);
    if own || page.is_some_and(|page| page.is_origin(origin)) {
        return Ok(subprotocol);
    }
    Err(WireError::new(ErrorCode::Forbidden, "a page of another origin may not connect", ""))
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn user_agent(headers: &HeaderMap) -> String {
    header(headers, &USER_AGENT).unwrap_or_default().chars().take(limits::USER_AGENT_BYTES).collect()
}

fn refusal(status: StatusCode, error: &WireError) -> Response<BoxBody> {
    let body = serde_json::to_string(error).expect("an error holds text and numbers");
    Response::build(status).content_type("application/json").body(body).map_into_boxed_body()
}

async fn refuse<Io>(mut framed: Framed<Io, h1::Codec>, refusal: Response<BoxBody>) -> std::io::Result<()>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let mut body = None;
    let head = refusal.map_body(|_, whole: BoxBody| body = Some(whole));
    let Some(body) = body else { return Ok(()) };
    framed.feed((head, body.size()).into()).await?;
    if let Ok(bytes) = body.try_into_bytes() {
        framed.feed(h1::Message::Chunk(Some(bytes))).await?;
    }
    // Closing alone would leave unwritten what was fed.
    framed.flush().await?;
    framed.close().await
}

#[cfg(test)]
mod tests {
    use actix_http::header::HeaderValue;

    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn the_subprotocol_is_required() {
        let offered = |text| admit(&headers(&[(SEC_WEBSOCKET_PROTOCOL, text)]), None).map_err(|error| error.code);
        assert_eq!(offered("campanile.v1.json"), Ok(SUBPROTOCOL));
        assert_eq!(offered("mqtt, campanile.v1.json"), Ok(SUBPROTOCOL));
        assert_eq!(offered("campanile.v1.msgpack, campanile.v1.json"), Ok(SUBPROTOCOL_PACKED));
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
