//! What nodes say to each other. Everything travels in bundles: one frame, one TLS record, many messages of many shards.

use std::collections::BTreeSet;

use bytes::Bytes;
use chat::command::{Command, Outcome};
use chat::ids::{NodeId, ShardId};
use serde::{Deserialize, Serialize};
use storage::{Applied, LogPosition, LogRecord, SnapshotChunk};

use crate::consensus::types::VoteRecord;

/// All messages that were waiting when the connection could take more.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Bundle {
    pub(crate) messages: Vec<Message>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Message {
    Request {
        id: u64,
        request: Request,
    },
    Response {
        id: u64,
        response: Response,
    },
    /// For the node above: [`crate::PeerService`]. Nothing answers it here.
    Note(Bytes),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Request {
    Append {
        shard: ShardId,
        append: Append,
    },
    Vote {
        shard: ShardId,
        vote: VoteRecord,
        last: Option<LogPosition>,
        transfer: bool,
        pre: bool,
    },
    Transfer {
        shard: ShardId,
        from: VoteRecord,
        to: NodeId,
        last: Option<LogPosition>,
    },
    /// One chunk of a snapshot; the last one has no chunk and asks for the installation.
    Snapshot {
        shard: ShardId,
        vote: VoteRecord,
        applied: Applied,
        id: String,
        number: u64,
        chunk: Option<SnapshotChunk>,
    },
    /// The index a linearizable read must wait for.
    ReadIndex {
        shard: ShardId,
    },
    Submit {
        shard: ShardId,
        command: Command,
    },
    /// Which members the asked node reaches.
    Reach,
    /// The digest of the replica's state after entry `index`, at which it was to make one.
    Digest {
        shard: ShardId,
        index: u64,
    },
    /// What most replicas have after entry `index`.
    Agreed {
        shard: ShardId,
        index: u64,
        digest: [u8; 32],
    },
    /// The sender leads nothing from now on, or does again.
    Leaving {
        leaving: bool,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Append {
    pub(crate) vote: VoteRecord,
    pub(crate) previous: Option<LogPosition>,
    pub(crate) records: Vec<LogRecord>,
    pub(crate) committed: Option<LogPosition>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Response {
    Append(Appended),
    Vote { vote: VoteRecord, granted: bool, last: Option<LogPosition> },
    Transfer(bool),
    Snapshot { vote: VoteRecord },
    SnapshotChunk,
    ReadIndex(u64),
    Submitted { outcome: Outcome, index: u64 },
    Failed(Failure),
    Heard,
    Digest { digest: [u8; 32], records: u64 },
    Reach(BTreeSet<NodeId>),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Appended {
    Success,
    Partial(Option<LogPosition>),
    Conflict,
    HigherVote(VoteRecord),
}

/// Why a request was not served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Failure {
    #[error("not the leader")]
    NotLeader { leader: Option<NodeId> },
    #[error("overloaded")]
    Overloaded,
    #[error("no majority")]
    Unavailable,
    #[error("outcome unknown")]
    Unknown,
    #[error("no such shard here")]
    NoShard,
    #[error("{0}")]
    Fault(String),
    #[error("no room on its disk")]
    NoRoom,
}

impl Request {
    /// Whose replica serves it, if it is about one.
    pub(crate) fn shard(&self) -> Option<ShardId> {
        match self {
            Self::Append { shard, .. }
            | Self::Vote { shard, .. }
            | Self::Transfer { shard, .. }
            | Self::Snapshot { shard, .. }
            | Self::ReadIndex { shard }
            | Self::Digest { shard, .. }
            | Self::Agreed { shard, .. }
            | Self::Submit { shard, .. } => Some(*shard),
            Self::Leaving { .. } | Self::Reach => None,
        }
    }

    /// Bytes of the parts that can be large: bounds a bundle.
    pub(crate) fn size_hint(&self) -> usize {
        match self {
            Self::Append { append, .. } => append.records.iter().map(LogRecord::size_hint).sum(),
            Self::Snapshot { .. } => 256 * 1024,
            Self::Submit { .. } => chat::limits::ENTRY_BYTES,
            Self::Vote { .. }
            | Self::Transfer { .. }
            | Self::ReadIndex { .. }
            | Self::Digest { .. }
            | Self::Agreed { .. }
            | Self::Leaving { .. }
            | Self::Reach => 64,
        }
    }
}
