//! Between nodes: one mutually authenticated TLS connection per peer and direction, shared by all shards.

use std::time::Duration;

pub(crate) mod frame;
pub(crate) mod hello;
pub(crate) mod lane;
pub(crate) mod message;
pub(crate) mod server;
pub(crate) mod tls;

/// Deadline of one call to a peer.
pub(crate) const PEER_TIMEOUT: Duration = Duration::from_millis(chat::limits::PEER_TIMEOUT_MS);
