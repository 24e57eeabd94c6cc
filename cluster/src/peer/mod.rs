//! Between nodes: one mutually authenticated TLS connection per peer and direction, shared by all shards.

pub(crate) mod frame;
pub(crate) mod hello;
pub(crate) mod lane;
pub(crate) mod message;
pub(crate) mod server;
pub(crate) mod tls;
