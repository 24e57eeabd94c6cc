//! What can go wrong, by what a caller can do about it.

use std::path::PathBuf;
use std::sync::Arc;

use chat::ids::ShardId;

use crate::fault::DiskFault;

/// An operation on an open engine. Cloned when one failure ends many waiting requests.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StorageError {
    /// A write, flush or fsync failed. Nothing is acknowledged after it; the process must end.
    #[error("storage has failed and answers nothing more: {reason}")]
    Failed { reason: Arc<str>, fault: DiskFault },
    /// The engine was closed while the request waited, or before.
    #[error("storage is closed")]
    Closed,
    /// Bytes that are not what was written: never served.
    #[error("corrupt {space} record {key} of shard {shard}: {what}")]
    Corrupt { shard: ShardId, space: &'static str, key: String, what: String },
    /// sled could not read.
    #[error("reading {space} records of shard {shard}")]
    Read { shard: ShardId, space: &'static str, source: Arc<dyn std::error::Error + Send + Sync> },
    #[error("{what} has {len} bytes, at most {max} are allowed")]
    TooLarge { what: &'static str, len: usize, max: usize },
    /// The caller broke the log's order: a bug above, nothing was done.
    #[error("log of shard {shard}: {what}")]
    Order { shard: ShardId, what: String },
    /// The snapshot was replaced while it was read, or the state while it was copied; ask again.
    #[error("the snapshot of shard {shard} was replaced meanwhile")]
    Replaced { shard: ShardId },
    /// The state was found to differ from the other replicas': nothing of it is shown until it is rebuilt.
    #[error("the replica of shard {shard} is being rebuilt")]
    Quarantined { shard: ShardId },
    /// The source of an incoming snapshot failed; the state is as before.
    #[error("the incoming snapshot ended early: {reason}")]
    Source { reason: String },
}

/// A damaged record, by what can be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Damage {
    /// A log record: other members have it too.
    Log { index: u64 },
    /// A state record: other replicas have the same state.
    State,
    /// A named record: an open engine knows what it holds.
    Meta,
}

impl StorageError {
    /// What is damaged, if that is what the error says.
    pub fn damage(&self) -> Option<Damage> {
        let Self::Corrupt { space, key, .. } = self else { return None };
        match *space {
            "log" => key.parse().ok().map(|index| Damage::Log { index }),
            "state" => Some(Damage::State),
            "meta" => Some(Damage::Meta),
            _ => None,
        }
    }

    /// Whether the same read can succeed once the replica is repaired.
    pub fn is_repairable(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::Quarantined { .. })
    }
}

/// Why a data directory was not created or opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{} holds a data directory already", dir.display())]
    Exists { dir: PathBuf },
    #[error("{} has a database but no identity.toml: an interrupted creation, or the file was removed", dir.display())]
    Unfinished { dir: PathBuf },
    #[error("{} is not a data directory: identity.toml is missing", dir.display())]
    Missing { dir: PathBuf },
    #[error("{} belongs to cluster {found}, this node is of cluster {expected}", dir.display())]
    OtherCluster { dir: PathBuf, found: String, expected: String },
    #[error("{} belongs to node {found}, this is node {expected}", dir.display())]
    OtherNode { dir: PathBuf, found: u64, expected: u64 },
    #[error("{} was sealed with another node key than the one given", dir.display())]
    WrongKey { dir: PathBuf },
    #[error("{} is in use: another process, or stores still held here", dir.display())]
    InUse { dir: PathBuf },
    #[error("{} is corrupt: {what}", place.display())]
    Corrupt { place: PathBuf, what: String },
    #[error("{} was not compacted", place.display())]
    Compact { place: PathBuf, source: Box<crate::compact::CompactError> },
    #[error("{what} {}", place.display())]
    Io { what: &'static str, place: PathBuf, source: std::io::Error },
}

impl OpenError {
    /// What is wrong with the disk, if that is the reason.
    pub fn fault(&self) -> Option<DiskFault> {
        match self {
            Self::Io { source, .. } => Some(DiskFault::of(source)),
            _ => None,
        }
    }
}

/// A sealed thing did not open: other key, other place, or changed bytes. Which of them cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("{len} bytes are too few for a sealed value")]
    Short { len: usize },
    #[error("seal format {found} is not known here")]
    Format { found: u8 },
    #[error("sealed with key {found}, this is key {expected}")]
    KeyId { found: u32, expected: u32 },
    #[error("the seal does not open: changed bytes, another place or another key")]
    Broken,
}
