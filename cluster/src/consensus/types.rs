//! openraft's types as this crate uses them, and their translation to the types that are stored and sent.
//!
//! Nothing of openraft's own types reaches a disk or a wire: its layouts may change with its version, ours may not.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use chat::codec::{self, CodecError, Kind};
use chat::command::Outcome;
use chat::ids::NodeId;
use openraft::impls::leader_id_adv::LeaderId;
use openraft::{EntryPayload, Membership, StoredMembership};
use serde::{Deserialize, Serialize};
use storage::{LogPayload, LogPosition, LogRecord};

/// An encoded `EntryBatch` envelope: what one log entry proposes. Encoded once, by the proposer.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proposal(pub(crate) Bytes);

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proposal({} bytes)", self.0.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What applying an entry came to, for the proposer that waits for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct EntryOutcome {
    pub(crate) outcomes: Arc<[Outcome]>,
}

openraft::declare_raft_types!(
    /// The cluster's Raft.
    pub(crate) Types:
        D = Proposal,
        R = EntryOutcome,
        NodeId = NodeId,
        Node = openraft::EmptyNode,
        Term = u64,
        LeaderId = LeaderId<u64, NodeId>,
);

pub(crate) type LogId = openraft::LogId<LeaderId<u64, NodeId>>;
pub(crate) type Vote = openraft::Vote<LeaderId<u64, NodeId>>;
pub(crate) type Entry = openraft::Entry<LeaderId<u64, NodeId>, EntryPayload<Proposal, NodeId, openraft::EmptyNode>>;
pub(crate) type Members = Membership<NodeId, openraft::EmptyNode>;
pub(crate) type StoredMembers = StoredMembership<LeaderId<u64, NodeId>, NodeId, openraft::EmptyNode>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<LeaderId<u64, NodeId>, NodeId, openraft::EmptyNode>;

pub(crate) fn position_of(id: &LogId) -> LogPosition {
    LogPosition { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
}

pub(crate) fn log_id_of(position: LogPosition) -> LogId {
    LogId::new(LeaderId { term: position.term, node_id: position.node }, position.index)
}

/// A vote as it is stored and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VoteRecord {
    pub(crate) term: u64,
    pub(crate) node: NodeId,
    pub(crate) committed: bool,
}

impl From<&Vote> for VoteRecord {
    fn from(vote: &Vote) -> Self {
        Self { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
    }
}

impl From<VoteRecord> for Vote {
    fn from(record: VoteRecord) -> Self {
        Self { leader_id: LeaderId { term: record.term, node_id: record.node }, committed: record.committed }
    }
}

/// A membership as it is stored and sent: voter sets (two while it changes) and everyone known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MembershipRecord {
    position: Option<LogPosition>,
    configs: Vec<BTreeSet<NodeId>>,
    nodes: BTreeSet<NodeId>,
}

impl MembershipRecord {
    pub(crate) fn new(position: Option<LogPosition>, members: &Members) -> Self {
        Self {
            position,
            configs: members.get_joint_config().clone(),
            nodes: members.nodes().map(|(id, _)| *id).collect(),
        }
    }

    fn members(&self) -> Members {
        Members::new_with_defaults(self.configs.clone(), self.nodes.clone())
    }

    pub(crate) fn encode(&self) -> Result<Bytes, CodecError> {
        codec::encode(Kind::Membership, self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(Kind::Membership, bytes)
    }
}

pub(crate) fn stored_members_to_bytes(stored: &StoredMembers) -> Result<Bytes, CodecError> {
    MembershipRecord::new(stored.log_id().as_ref().map(position_of), stored.membership()).encode()
}

/// The empty bytes of a fresh replica mean: no membership yet.
pub(crate) fn stored_members_from_bytes(bytes: &[u8]) -> Result<StoredMembers, CodecError> {
    if bytes.is_empty() {
        return Ok(StoredMembers::default());
    }
    let record = MembershipRecord::decode(bytes)?;
    Ok(StoredMembers::new(record.position.map(log_id_of), record.members()))
}

pub(crate) fn record_of(entry: Entry) -> Result<LogRecord, CodecError> {
    let position = position_of(&entry.log_id);
    let payload = match entry.payload {
        EntryPayload::Blank => LogPayload::Blank,
        EntryPayload::Normal(Proposal(bytes)) => LogPayload::Batch(bytes),
        EntryPayload::Membership(members) => LogPayload::Membership(MembershipRecord::new(None, &members).encode()?),
    };
    Ok(LogRecord { position, payload })
}

pub(crate) fn entry_of(record: &LogRecord) -> Result<Entry, CodecError> {
    let payload = match &record.payload {
        LogPayload::Blank => EntryPayload::Blank,
        LogPayload::Batch(bytes) => EntryPayload::Normal(Proposal(bytes.clone())),
        LogPayload::Membership(bytes) => EntryPayload::Membership(MembershipRecord::decode(bytes)?.members()),
    };
    Ok(Entry { log_id: log_id_of(record.position), payload })
}

/// Storage and codec errors as openraft takes them.
pub(crate) fn io_error(error: impl std::error::Error + Send + Sync + 'static) -> std::io::Error {
    std::io::Error::other(error)
}
