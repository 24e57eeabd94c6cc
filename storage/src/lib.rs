//! Bytes that survive: one sled database per node behind types of our own. The only home of sled and chacha20poly1305.
//!
//! - [`Engine`]: a node's data directory, opened with its key and identity.
//! - [`LogStore`], [`StateStore`]: the Raft log and the state machine's records of one shard.
//! - [`Snapshot`], [`SnapshotSource`]: copies of a shard for other nodes.
//! - [`BodySealer`]: message bodies; [`sealed_log`]: an append-only hash-chained file.

pub mod backup;
mod body;
mod cache;
mod collect;
mod compact;
mod copy;
#[cfg(feature = "damage")]
pub mod damage;
mod disk;
mod engine;
mod error;
mod fault;
mod identity;
mod install;
mod key;
mod limits;
mod log;
mod merge;
mod queue;
mod rebuild;
mod record;
mod recover;
mod scrub;
mod seal;
pub mod sealed_log;
mod secret;
mod shared;
mod snapshot;
mod spool;
mod state;
mod thread;
mod wal;

pub use body::{BodyContext, BodySealer};
pub use collect::Collected;
pub use compact::{CompactError, Compacted, Compaction, Space};
pub use copy::{Cut, ShardCopy};
pub use engine::{Engine, EngineOptions, EngineStats};
pub use error::{Damage, OpenError, SealError, StorageError};
pub use fault::DiskFault;
pub use identity::Identity;
pub use key::hex;
pub use limits::{
    BACKUP_FRAME_BYTES, COMPACT_MIN_BYTES, DISK_OPEN_BYTES, DISK_STOP_BYTES, DISK_WARN_BYTES, SEALED_LOG_RECORD_BYTES,
    STATE_KEY_BYTES, STATE_PIECE_BYTES, STATE_VALUE_BYTES,
};
pub use log::{Durable, LogBounds, LogStore};
pub use rebuild::StagedState;
pub use record::{Applied, LogPayload, LogPosition, LogRecord, SnapshotChunk, SnapshotMeta};
pub use scrub::{ScrubCursor, Scrubbed};
pub use secret::{ClusterKey, NodeKey};
pub use shared::FailureHook;
pub use snapshot::{Snapshot, SnapshotSource};
pub use spool::{SpoolReader, SpoolWriter, Spools};
pub use state::{FrozenState, StateDigest, StateStore};

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod golden_tests;
