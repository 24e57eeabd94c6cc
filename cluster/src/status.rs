//! What an operator can see of the cluster from one node.

use chat::ids::{NodeId, ShardId};
use chat::level;
use chat::state::record::NodeState;
use openraft::async_runtime::watch::WatchReceiver;
use serde::{Deserialize, Serialize};

use crate::cluster::Inner;
use crate::repair::Integrity;
use crate::replica::Replica;
use crate::roster::Member;
use crate::scrub::ScrubProgress;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    pub cluster: String,
    pub node: NodeId,
    /// The feature level that is switched on, and the highest that every member has said that it supports.
    #[serde(default = "oldest")]
    pub level: u16,
    #[serde(default = "oldest")]
    pub supported: u16,
    pub peers: Vec<PeerStatus>,
    pub shards: Vec<ShardStatus>,
    #[serde(default)]
    pub scrub: ScrubProgress,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    pub node: NodeId,
    pub address: String,
    /// This node's connection to it stands; always true for the node itself.
    pub connected: bool,
    /// It was asked to lead nothing: it leaves, or rests.
    #[serde(default)]
    pub leaving: bool,
    /// `active`; `joining` while it catches up; `leaving` while its replicas move elsewhere, for good.
    #[serde(default)]
    pub state: String,
    /// What fails together with it, if that was said.
    #[serde(default)]
    pub zone: String,
    /// `host:port` of its listeners for clients and operators, as far as is known.
    #[serde(default)]
    pub client: String,
    #[serde(default)]
    pub admin: String,
    /// The version of the peer protocol spoken with it last, and the release that it runs.
    #[serde(default)]
    pub version: Option<u16>,
    #[serde(default)]
    pub release: Option<String>,
    /// The highest feature level that it supports, if it has said so.
    #[serde(default)]
    pub supports: Option<u16>,
    /// Why the two did not understand each other, if so.
    #[serde(default)]
    pub refused: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardStatus {
    pub shard: ShardId,
    pub leader: Option<NodeId>,
    /// Nodes whose replicas decide; the others follow.
    #[serde(default)]
    pub voters: Vec<NodeId>,
    /// Nodes with a replica that does not vote.
    #[serde(default)]
    pub learners: Vec<NodeId>,
    /// The node that leads when all are well.
    pub preferred: Option<NodeId>,
    pub term: u64,
    /// Index of the last entry in this node's log.
    pub last: u64,
    /// Index of the last entry applied here.
    pub applied: u64,
    /// Why this replica no longer works, if so.
    pub failed: Option<String>,
    /// The entry after which this replica was found to differ from the others, if so.
    #[serde(default)]
    pub diverged: Option<u64>,
    /// Damage of this replica's records, and its repair.
    #[serde(default)]
    pub integrity: Integrity,
    /// Index of the last entry that this replica's log has let go of: who lacks it gets a copy of the state.
    #[serde(default)]
    pub purged: u64,
}

/// A replica's state in one number, at one log index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardDigest {
    pub shard: ShardId,
    pub applied: u64,
    /// Hexadecimal.
    pub digest: String,
    pub records: u64,
}

pub(crate) fn of(inner: &Inner) -> ClusterStatus {
    let table = inner.table();
    let peer = |member: &Member| {
        let heard = inner.lane(member.id).map(|lane| lane.heard()).unwrap_or_default();
        let build = table.builds.get(&member.id);
        PeerStatus {
            node: member.id,
            address: member.addresses.first().map_or_else(|| member.facts.peer.clone(), ToString::to_string),
            connected: inner.connected(member.id),
            leaving: inner.leaving.contains(member.id),
            state: state(member.state).to_owned(),
            zone: member.facts.zone.clone(),
            client: member.facts.client.clone(),
            admin: member.facts.admin.clone(),
            version: heard.version,
            supports: build.map(|build| build.level),
            release: heard.release.or_else(|| build.map(|build| build.version.clone())),
            refused: heard.refused,
        }
    };
    ClusterStatus {
        cluster: inner.cluster.clone(),
        node: inner.node,
        level: inner.level.on(),
        supported: table.supported(),
        peers: table.members.iter().map(peer).collect(),
        shards: inner.replicas.iter().map(|replica| shard(inner, replica)).collect(),
        scrub: inner.scrub.progress(),
    }
}

fn oldest() -> u16 {
    level::OLDEST
}

fn state(state: NodeState) -> &'static str {
    match state {
        NodeState::Joining => "joining",
        NodeState::Active => "active",
        NodeState::Leaving => "leaving",
        NodeState::Removed => "removed",
    }
}

fn shard(inner: &Inner, replica: &Replica) -> ShardStatus {
    let there = replica.members();
    let metrics = replica.raft.metrics().borrow_watched().clone();
    ShardStatus {
        shard: replica.shard,
        leader: metrics.current_leader,
        learners: there.members.difference(&there.voters).copied().collect(),
        voters: there.voters.into_iter().collect(),
        preferred: inner.preferred(replica.shard),
        term: metrics.current_term,
        last: metrics.last_log_index.unwrap_or(0),
        applied: replica.applied_index(),
        failed: metrics.running_state.err().map(|error| error.to_string()),
        diverged: replica.digests.diverged(),
        integrity: replica.health.integrity(),
        purged: replica.log.bounds().purged.map_or(0, |position| position.index),
    }
}
