//! Many nodes, one truth: shards, Raft, peers, routing. The only home of openraft.
//!
//! A [`Cluster`] runs one replica of the metadata group and of every shard. Commands are proposed on a shard's leader
//! ([`Cluster::propose`]) or sent there ([`Cluster::submit`]); every replica applies every entry and tells the node above
//! through [`Feed`]. Reads are local after a [`Cluster::read_barrier`].

mod admission;
mod asked;
mod background;
mod balance;
mod cluster;
mod collect;
mod consensus;
mod election;
mod failover;
mod heartbeat;
mod housekeeping;
mod leave;
mod level;
mod outbox;
mod peer;
mod placement;
mod proposer;
mod purge;
mod reach;
mod repair;
mod replica;
mod restore;
mod retention;
mod room;
mod roster;
mod scrub;
mod signs;
mod status;
mod turn;
mod verify;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat::event::Committed;
use chat::ids::{NodeId, ShardId};
use storage::Engine;

pub use cluster::{Cluster, ReadError};
pub use consensus::state_machine::ShardView;
pub use housekeeping::Housekeeping;
pub use peer::hello::Versions;
pub use peer::lane::CallError;
pub use peer::tls::{PeerTls, TlsError};
pub use placement::PlannedMove;
pub use proposer::{Fence, ProposeError, ProposeReply, Proposed};
pub use repair::Integrity;
pub use restore::{RestoreError, RestoredShard, RestoredView};
pub use room::Room;
pub use scrub::{ScrubProgress, Scrubbing};
pub use status::{ClusterStatus, PeerStatus, ShardDigest, ShardStatus};
pub use turn::NotNow;
pub use verify::{Compared, Comparison};

/// A member of the cluster and where its peers reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub id: NodeId,
    pub address: SocketAddr,
}

/// How fast a dead leader is noticed. When its process dies, writes resume after about `election_max`, its lease; when it
/// only falls silent, after that plus a random time between `election_min` and `election_max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    pub heartbeat: Duration,
    pub election_min: Duration,
    pub election_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(200),
            election_min: Duration::from_millis(600),
            election_max: Duration::from_millis(750),
        }
    }
}

pub struct ClusterOptions {
    pub node: NodeId,
    pub cluster: String,
    /// The members that the cluster was founded with, the same on each of them, or those that were there when this node
    /// joined; this node included. Who is there now is on record in the metadata group.
    pub members: Vec<Peer>,
    /// This node came later: it begins with nothing and gets everything from `members`.
    pub joined: bool,
    /// Shards besides the metadata group; fixed when the cluster is created.
    pub shards: u16,
    pub listen: SocketAddr,
    pub tls: PeerTls,
    pub timing: Timing,
    pub housekeeping: Housekeeping,
    /// The highest feature level ([`chat::level`]) that this node supports: what its build does.
    pub level: u16,
    /// Of the peer protocol; the default is what this build speaks.
    pub versions: Versions,
    pub engine: Engine,
    pub scrub: Scrubbing,
}

/// What the node above hears of its replicas. Called in log order per shard, from the cluster's runtime: must not block.
pub trait Feed: Send + Sync + 'static {
    /// An entry was applied here.
    fn committed(&self, shard: ShardId, log_index: u64, events: Arc<[Committed]>);
    /// The replica jumped to `log_index` by a snapshot: events up to there were not told one by one.
    fn jumped(&self, shard: ShardId, log_index: u64);
    /// This node began or ceased to lead the shard.
    fn leadership(&self, shard: ShardId, leading: bool);
}

/// What the nodes above say to each other. Called from the cluster's runtime: must not block.
pub trait PeerService: Send + Sync + 'static {
    /// A note from another node. Notes of one node come in the order they were sent.
    fn told(&self, from: NodeId, note: Bytes);
    /// The connection to `peer` is gone: notes that are not answered may or may not have arrived.
    fn lost(&self, peer: NodeId);
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("node {node} was removed from the cluster: its id is never used again")]
    Removed { node: NodeId },
    #[error(
        "node {node} supports feature level {supports}, the cluster is at {level}: install the release that the other \
         nodes run, and start it again"
    )]
    Outgrown { node: NodeId, supports: u16, level: u16 },
    #[error("node {node} is not in the list of members")]
    NotAMember { node: NodeId },
    #[error("{shards} shards, 1 to {max} are allowed", max = chat::limits::SHARDS_MAX)]
    Shards { shards: u16 },
    #[error("{nodes} nodes, 1 to {max} are allowed", max = chat::limits::NODES_MAX)]
    Nodes { nodes: usize },
    #[error("cannot listen for peers on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("storage")]
    Storage(#[source] storage::StorageError),
    #[error("the timing is not usable: {0}")]
    Timing(String),
    #[error("consensus of shard {shard} did not start: {what}")]
    Consensus { shard: ShardId, what: String },
    #[error("{what}")]
    Damaged { what: String },
    #[error("the cluster's runtime did not start")]
    Runtime(#[source] std::io::Error),
}
