//! One WebSocket, over TLS unless the node is on this machine: opening it, and reading and writing without one waiting for the other.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::task::Poll;
use std::time::Duration;

use chat::{limits, wire};
use futures_util::{Sink, StreamExt};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Uri, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message, Utf8Bytes};

use crate::error::ConnectError;
use crate::options::{Encoding, Tls};

/// How long opening a connection may take, TLS and WebSocket handshakes included.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Buffers are small because one process may hold thousands of clients.
const BUFFER_BYTES: usize = 4 * 1024;

/// A node's address, checked.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    url: String,
    authority: (String, u16),
    name: ServerName<'static>,
    /// False only for an address of this machine.
    tls: bool,
}

impl Endpoint {
    pub(crate) fn parse(url: &str) -> Result<Self, ConnectError> {
        let wrong = |expected| ConnectError::Url { url: url.to_owned(), expected };
        let uri: Uri = url.parse().map_err(|_| wrong("expected wss://host:port"))?;
        let tls = uri.scheme_str() == Some("wss");
        if !tls && uri.scheme_str() != Some("ws") {
            return Err(wrong("only wss:// is spoken"));
        }
        let host = uri.host().ok_or_else(|| wrong("it has no host"))?;
        // TLS and the resolver want an IPv6 address without the brackets of its URL form.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        // Nothing but an address is known to be here: names resolve to whatever somebody says.
        if !tls && !host.parse().is_ok_and(|address: IpAddr| address.is_loopback()) {
            return Err(wrong("without TLS only a loopback address is spoken to: use wss://"));
        }
        let name = ServerName::try_from(host.clone()).map_err(|_| wrong("its host is not a name or an address"))?;
        let url = match uri.path() {
            "" | "/" => format!("{}{}", url.trim_end_matches('/'), wire::PATH),
            _ => url.to_owned(),
        };
        Ok(Self { url, authority: (host, uri.port_u16().unwrap_or(443)), name, tls })
    }
}

/// What came from the node.
#[derive(Debug)]
pub(crate) enum Incoming {
    Text(Utf8Bytes),
    /// A ping, a pong or something that means nothing: the node lives.
    Sign,
    Closed {
        code: Option<u16>,
        why: String,
    },
}

/// TCP, or TLS over it.
trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

pub(crate) struct Socket {
    stream: WebSocketStream<Box<dyn Bytes>>,
    encoding: Encoding,
    outgoing: VecDeque<Message>,
    flushed: bool,
}

impl Socket {
    pub(crate) async fn open(endpoint: &Endpoint, tls: &Tls, encoding: Encoding) -> Result<Self, String> {
        match tokio::time::timeout(DIAL_TIMEOUT, Self::handshake(endpoint, tls, encoding)).await {
            Ok(opened) => opened,
            Err(_) => Err(format!("{} did not answer within {} s", endpoint.url, DIAL_TIMEOUT.as_secs())),
        }
    }

    async fn handshake(endpoint: &Endpoint, tls: &Tls, encoding: Encoding) -> Result<Self, String> {
        let context = |what: &str, e: &dyn std::fmt::Display| format!("{what} {}: {e}", endpoint.url);
        let (host, port) = (endpoint.authority.0.as_str(), endpoint.authority.1);
        let tcp = TcpStream::connect((host, port)).await.map_err(|e| context("cannot connect to", &e))?;
        // Frames are small and each is waited for.
        tcp.set_nodelay(true).map_err(|e| context("cannot set up the socket to", &e))?;
        let bytes: Box<dyn Bytes> = if endpoint.tls {
            let connector = TlsConnector::from(tls.0.clone());
            Box::new(connector.connect(endpoint.name.clone(), tcp).await.map_err(|e| context("no TLS with", &e))?)
        } else {
            Box::new(tcp)
        };
        let mut request = endpoint.url.as_str().into_client_request().map_err(|e| context("bad url", &e))?;
        let subprotocol = match encoding {
            Encoding::Json => wire::SUBPROTOCOL,
            Encoding::MessagePack => wire::SUBPROTOCOL_PACKED,
        };
        request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES)
            .max_message_size(Some(limits::SERVER_FRAME_BYTES))
            .max_frame_size(Some(limits::SERVER_FRAME_BYTES));
        let (stream, _) = tokio_tungstenite::client_async_with_config(request, bytes, Some(config))
            .await
            .map_err(|e| context("no WebSocket with", &e))?;
        Ok(Self { stream, encoding, outgoing: VecDeque::new(), flushed: true })
    }

    /// Queues a frame; [`Self::next`] sends it. Bounded by the window of requests in flight.
    pub(crate) fn push(&mut self, text: String) {
        self.outgoing.push_back(match self.encoding {
            Encoding::Json => Message::text(text),
            Encoding::MessagePack => {
                Message::binary(chat::packed::pack(&text).expect("frames are JSON without numbers that it lacks"))
            }
        });
    }

    /// Writes what is queued and, if `read`, waits for what comes in. May be dropped and called again at any time.
    pub(crate) async fn next(&mut self, read: bool) -> Incoming {
        std::future::poll_fn(|cx| {
            // Writing never holds up reading: a node that waits for us to read must not be waited for.
            if let Poll::Ready(Err(error)) = self.poll_write(cx) {
                return Poll::Ready(lost(&error));
            }
            if !read {
                return Poll::Pending;
            }
            self.stream.poll_next_unpin(cx).map(incoming)
        })
        .await
    }

    fn poll_write(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<(), WsError>> {
        let mut stream = std::pin::Pin::new(&mut self.stream);
        while !self.outgoing.is_empty() {
            std::task::ready!(stream.as_mut().poll_ready(cx))?;
            if let Some(message) = self.outgoing.pop_front() {
                self.flushed = false;
                stream.as_mut().start_send(message)?;
            }
        }
        if !self.flushed {
            std::task::ready!(stream.as_mut().poll_flush(cx))?;
            self.flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Says goodbye, without waiting long for the answer.
    pub(crate) async fn close(mut self) {
        let _ = tokio::time::timeout(Duration::from_millis(500), self.stream.close(None)).await;
    }
}

fn incoming(item: Option<Result<Message, WsError>>) -> Incoming {
    match item {
        Some(Ok(Message::Text(text))) => Incoming::Text(text),
        Some(Ok(Message::Binary(packed))) => match chat::packed::unpack(&packed) {
            Ok(text) => Incoming::Text(text.into()),
            Err(error) => Incoming::Closed { code: None, why: error.to_string() },
        },
        Some(Ok(Message::Close(frame))) => {
            let code = frame.as_ref().map(|f| u16::from(f.code));
            let why = frame.map_or_else(|| "closed by the node".to_owned(), |f| f.reason.to_string());
            Incoming::Closed { code, why }
        }
        Some(Ok(_)) => Incoming::Sign,
        Some(Err(error)) => lost(&error),
        None => Incoming::Closed { code: None, why: "the connection ended".to_owned() },
    }
}

fn lost(error: &WsError) -> Incoming {
    Incoming::Closed { code: None, why: error.to_string() }
}

/// Nodes are tried in turn, from the one a user starts at.
#[derive(Debug)]
pub(crate) struct Rotation {
    endpoints: Vec<Endpoint>,
    next: usize,
}

impl Rotation {
    pub(crate) fn new(urls: &[String]) -> Result<Self, ConnectError> {
        let endpoints: Vec<Endpoint> = urls.iter().map(|url| Endpoint::parse(url)).collect::<Result<_, _>>()?;
        match endpoints.is_empty() {
            true => Err(ConnectError::NoUrl),
            false => Ok(Self { endpoints, next: 0 }),
        }
    }

    pub(crate) fn current(&self) -> Endpoint {
        self.endpoints[self.next].clone()
    }

    pub(crate) fn advance(&mut self) {
        self.next = (self.next + 1) % self.endpoints.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_get_the_path_and_wrong_ones_are_refused() {
        assert_eq!(Endpoint::parse("wss://127.0.0.1:7411").unwrap().url, "wss://127.0.0.1:7411/v1/connect");
        let full = Endpoint::parse("wss://[::1]:7411/v1/connect").unwrap();
        assert_eq!((full.url.as_str(), full.authority), ("wss://[::1]:7411/v1/connect", ("::1".to_owned(), 7411)));
        assert!(!Endpoint::parse("ws://127.0.0.1:7411").unwrap().tls);
        for far in ["ws://10.0.0.1:7411", "ws://localhost:7411", "http://127.0.0.1:7411"] {
            assert!(matches!(Endpoint::parse(far), Err(ConnectError::Url { .. })), "{far}");
        }
        assert!(matches!(Rotation::new(&[]), Err(ConnectError::NoUrl)));
    }

    #[test]
    fn nodes_are_tried_in_turn() {
        let mut rotation = Rotation::new(&["wss://a:1".into(), "wss://b:2".into()]).unwrap();
        let hosts: Vec<String> = (0..3)
            .map(|_| {
                let host = rotation.current().authority.0;
                rotation.advance();
                host
            })
            .collect();
        assert_eq!(hosts, ["a", "b", "a"]);
    }
}
