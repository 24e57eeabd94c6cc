//! What nodes say to each other. Everything travels in bundles: one frame, one TLS record, many messages of many shards.

use std::collections::BTreeSet;

use bytes::Bytes;
use chat::command::{Command, Outcome};
use chat::ids::{NodeId, ShardId};
use serde::{Deserialize, Serialize};
use storage::{Applied, LogPosition, LogRecord, SnapshotChunk, StateDigest};

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
    /// The sender leads these shards, in these terms, and nothing happens in them. Nothing answers it.
    Quiet(Vec<(ShardId, u64)>),
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
    /// To a shard's leader: what the shard should be like. It takes a step towards that.
    Settle {
        shard: ShardId,
        voters: Vec<NodeId>,
        members: BTreeSet<NodeId>,
    },
    /// The log record at `index`: the sender's own is damaged.
    LogRecord {
        shard: ShardId,
        index: u64,
    },
    /// The sender wants a copy of the state as it is after the next comparison.
    WishState {
        shard: ShardId,
    },
    /// Part `number` of that copy.
    StatePart {
        shard: ShardId,
        number: u64,
    },
    /// Up to which entry the replica has applied: whoever sends it a copy leaves out log records up to there.
    Holds {
        shard: ShardId,
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
    Vote {
        vote: VoteRecord,
        granted: bool,
        last: Option<LogPosition>,
    },
    Transfer(bool),
    Snapshot {
        vote: VoteRecord,
    },
    SnapshotChunk,
    ReadIndex(u64),
    Submitted {
        outcome: Outcome,
        index: u64,
    },
    Failed(Failure),
    Heard,
    Digest {
        digest: [u8; 32],
        records: u64,
    },
    Reach(BTreeSet<NodeId>),
    /// Whether nothing is left to do, and which of the wanted members lack entries.
    Settled {
        settled: bool,
        behind: BTreeSet<NodeId>,
    },
    /// What stands there, the position of the record before it, and how far entries are known to be committed.
    LogRecord {
        record: Option<LogRecord>,
        before: Option<LogPosition>,
        committed: u64,
    },
    /// A chunk of the state at `applied`, or at its end the digest of all of them.
    StatePart {
        applied: Applied,
        chunk: Option<SnapshotChunk>,
        digest: Option<StateDigest>,
    },
    Holds(Option<u64>),
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
            | Self::Settle { shard, .. }
            | Self::LogRecord { shard, .. }
            | Self::WishState { shard }
            | Self::StatePart { shard, .. }
            | Self::Holds { shard }
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
            | Self::Settle { .. }
            | Self::Holds { .. }
            | Self::Leaving { .. }
            | Self::LogRecord { .. }
            | Self::WishState { .. }
            | Self::StatePart { .. }
            | Self::Reach => 64,
        }
    }
}
