//! What is stored, before it is sealed: [`chat::codec`] envelopes. Golden files in `storage/golden` hold every layout.

use bytes::Bytes;
use chat::codec::{self, CodecError, Kind};
use chat::ids::NodeId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A place in a shard's log: Raft's log id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, Hash)]
pub struct LogPosition {
    pub term: u64,
    /// The leader of `term` that proposed the record.
    pub node: NodeId,
    pub index: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogRecord {
    pub position: LogPosition,
    pub payload: LogPayload,
}

/// What a log record carries. The order of variants is the stored format: new ones go last.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum LogPayload {
    Blank,
    /// An encoded `EntryBatch` envelope, stored as it is: the log record is the message record.
    Batch(Bytes),
    /// An encoded Raft membership, opaque here.
    Membership(Bytes),
}

impl LogPayload {
    /// Bytes of the payload itself.
    pub fn len(&self) -> usize {
        match self {
            Self::Blank => 0,
            Self::Batch(bytes) | Self::Membership(bytes) => bytes.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How far a shard's state machine has come.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Applied {
    pub position: Option<LogPosition>,
    /// The last applied membership with its own log position inside, opaque here.
    pub membership: Bytes,
}

/// A snapshot's name and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMeta {
    pub applied: Applied,
    pub id: String,
}

/// A piece of a streamed snapshot, at most 256 KiB encoded. The order of variants is the format between nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotChunk {
    /// Pairs of the state in key order.
    State(Vec<(Bytes, Bytes)>),
    /// Log records in order, as far as they exist.
    Records(Vec<LogRecord>),
}

impl LogRecord {
    /// About how many bytes the record takes when it is sent.
    pub fn size_hint(&self) -> usize {
        self.payload.len() + 32
    }
}

impl SnapshotChunk {
    /// About how many bytes the chunk takes when it is sent.
    pub fn size_hint(&self) -> usize {
        match self {
            Self::State(pairs) => pairs.iter().map(|(key, value)| key.len() + value.len() + 8).sum(),
            Self::Records(records) => records.iter().map(LogRecord::size_hint).sum(),
        }
    }
}

/// The marker of a shard's state in sled.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct StateMarker {
    /// Which generation of state records is the state.
    pub(crate) generation: u32,
    pub(crate) applied: Applied,
}

/// Present while a snapshot is being installed: what to undo if the process ends meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Installing {
    /// Log records with a greater index were staged.
    pub(crate) last: Option<LogPosition>,
}

/// The sealed twin of `identity.toml`: a database moved under another identity is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdentityRecord {
    pub(crate) cluster: String,
    pub(crate) node: NodeId,
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Bytes {
    codec::encode(Kind::Engine, value).expect("engine records are bounded and have no unencodable parts")
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    codec::decode(Kind::Engine, bytes)
}
