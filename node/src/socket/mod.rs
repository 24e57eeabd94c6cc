//! The WebSocket edge: bytes in, bytes out, nothing decided.
//!
//! - [`listen`]: the listener, with or without TLS.
//! - [`upgrade`]: the route; who may open a connection.
//! - [`transport`]: the socket's bytes, once it is a WebSocket.
//! - [`guard`]: frames that are too large cost no memory.
//! - [`packed`]: connections that speak MessagePack.
//! - [`pump`]: the actix-web-actors actor. It forwards text to its session and writes what waits in the [`pipe`].

mod guard;
mod listen;
mod packed;
mod pipe;
mod pump;
mod transport;
mod upgrade;

use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use actix::Message;
use bytestring::ByteString;

pub use listen::serve_clients;
pub(crate) use pipe::{Ended, Pipe};

/// Monotonic milliseconds since the process began to ask. Orders timeouts, nothing else.
pub(crate) fn now_ms() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_millis() as u64
}

/// Milliseconds of the node's clock, as everything that is stored or shown counts them. Orders nothing.
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// From the pump to its session. If the session's mailbox is full, a text is answered `overloaded` by the pump; the
/// others are hints to look at the pipe, which the session does after every message anyway.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) enum Inbound {
    Text(ByteString),
    /// A message of the kind that the subprotocol does not have.
    Unsupported,
    /// It cannot be read, and why.
    Malformed(String),
    /// Bytes were taken, or the pipe ended.
    Wake,
}

/// Who is at the other end, for the security log.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    pub(crate) user_agent: String,
}

/// What a session is given of its connection.
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) pipe: Pipe,
}
