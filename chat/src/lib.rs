//! The rules of chat, and nothing else: no clock, no randomness, no input or output.
//!
//! - [`ids`], [`limits`], [`errors`]: the vocabulary every other crate speaks.
//! - [`wire`]: frames between a client and a node (JSON, docs/PROTOCOL.md).
//! - [`body`]: what messages hold, as bytes.
//! - [`packed`]: the compact form of frames.
//! - [`parse`], [`render`]: from a client's text to a request, and from committed events to frames.
//! - [`command`], [`event`]: what goes into a shard's log, and what has happened once it is applied.
//! - [`state`]: the replicated state machine, `apply(view, entry) -> Delta`.
//! - [`app`]: apps as tenants: what they are set to, and the keys of their tokens and backends.
//! - [`group`]: what groups are like and who may do what in them.
//! - [`level`]: feature levels: which of the commands a cluster's log may hold.
//! - [`retention`]: how long messages are kept.
//! - [`user`]: what users keep with the service.
//! - [`text`]: the rules for texts that people write.
//! - [`codec`]: the one file that touches bincode; envelopes for everything stored or sent between nodes.

pub mod app;
pub mod body;
pub mod codec;
pub mod command;
pub mod errors;
pub mod event;
pub mod group;
pub mod ids;
pub mod level;
pub mod limits;
pub mod packed;
pub mod parse;
pub mod render;
pub mod retention;
pub mod state;
pub mod text;
pub mod user;
pub mod wire;
