//! What an operator can see of the cluster from one node.

use chat::ids::{NodeId, ShardId};
use openraft::async_runtime::watch::WatchReceiver;
use serde::{Deserialize, Serialize};

use crate::Peer;
use crate::cluster::Inner;
use crate::peer::lane::Lane;
use crate::replica::Replica;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    pub cluster: String,
    pub node: NodeId,
    pub peers: Vec<PeerStatus>,
    pub shards: Vec<ShardStatus>,
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
    /// The version of the peer protocol spoken with it last, and the release that it runs.
    #[serde(default)]
    pub version: Option<u16>,
    #[serde(default)]
    pub release: Option<String>,
    /// Why the two did not understand each other, if so.
    #[serde(default)]
    pub refused: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardStatus {
    pub shard: ShardId,
    pub leader: Option<NodeId>,
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
    let members: Vec<NodeId> = inner.members.iter().map(|peer| peer.id).collect();
    ClusterStatus {
        cluster: inner.cluster.clone(),
        node: inner.node,
        peers: inner.members.iter().map(|member| peer(inner, member)).collect(),
        shards: inner.replicas.iter().map(|replica| shard(replica, &members)).collect(),
    }
}

fn peer(inner: &Inner, peer: &Peer) -> PeerStatus {
    let heard = inner.lane(peer.id).map(Lane::heard).unwrap_or_default();
    PeerStatus {
        node: peer.id,
        address: peer.address.to_string(),
        connected: inner.connected(peer.id),
        leaving: inner.leaving.contains(peer.id),
        version: heard.version,
        release: heard.release,
        refused: heard.refused,
    }
}

fn shard(replica: &Replica, members: &[NodeId]) -> ShardStatus {
    let metrics = replica.raft.metrics().borrow_watched().clone();
    ShardStatus {
        shard: replica.shard,
        leader: metrics.current_leader,
        preferred: crate::balance::preferred(replica.shard, members),
        term: metrics.current_term,
        last: metrics.last_log_index.unwrap_or(0),
        applied: replica.applied_index(),
        failed: metrics.running_state.err().map(|error| error.to_string()),
        diverged: replica.digests.diverged(),
    }
}
