//! Bytes that survive: one sled database per node behind types of our own. The only home of sled and chacha20poly1305.
//!
//! - [`Engine`]: a node's data directory, opened with its key and identity.
//! - [`LogStore`], [`StateStore`]: the Raft log and the state machine's records of one shard.
//! - [`Snapshot`], [`SnapshotSource`]: copies of a shard for other nodes.
//! - [`BodySealer`]: message bodies; [`sealed_log`]: an append-only hash-chained file.

mod body;
mod engine;
mod error;
mod key;
mod limits;
mod log;
mod record;
mod seal;
pub mod sealed_log;
mod secret;
mod snapshot;
mod state;

pub use body::{BodyContext, BodySealer};
pub use engine::{Engine, EngineOptions, EngineStats, Identity};
pub use error::{OpenError, SealError, StorageError};
pub use limits::{SEALED_LOG_RECORD_BYTES, STATE_KEY_BYTES, STATE_VALUE_BYTES};
pub use log::{Durable, LogBounds, LogStore};
pub use record::{Applied, LogPayload, LogPosition, LogRecord, SnapshotChunk, SnapshotMeta};
pub use secret::{ClusterKey, NodeKey};
pub use snapshot::{Snapshot, SnapshotSource};
pub use state::{StateDigest, StateStore};
