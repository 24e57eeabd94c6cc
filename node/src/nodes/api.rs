//! What is said about nodes and placement on the admin listener, as JSON.

use chat::command::NodeFacts;
use chat::ids::{NodeId, ShardId};
use cluster::PlannedMove;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// `POST /v1/join-tokens`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewJoinToken {
    /// Nodes that may join with it.
    pub uses: u32,
    pub lifetime_ms: u64,
}

#[derive(Serialize, Deserialize)]
pub struct MadeJoinToken {
    pub token: Zeroizing<String>,
    /// Unix milliseconds.
    pub expires_ms: u64,
}

/// `POST /v1/join`: needs no admin token, the secret of a join token is in it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    pub secret: Zeroizing<String>,
    /// A certificate signing request, PEM.
    pub request: String,
    pub facts: NodeFacts,
    /// The highest feature level that its release supports, and which release that is.
    #[serde(default = "oldest")]
    pub level: u16,
    #[serde(default)]
    pub version: String,
}

fn oldest() -> u16 {
    chat::level::OLDEST
}

/// `PUT /v1/level`: switches feature levels on, up to this one, for good.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raise {
    pub level: u16,
}

/// Everything that a node needs to be one of this cluster.
#[derive(Serialize, Deserialize)]
pub struct Joined {
    pub node: NodeId,
    pub cluster: String,
    pub shards: u16,
    /// PEM, signed by the cluster's authority.
    pub certificate: String,
    /// Every node, the new one included.
    pub members: Vec<JoinedMember>,
    pub client_tls: bool,
    pub cluster_key: Zeroizing<String>,
    pub ca_key: Zeroizing<String>,
    pub admin_token: Zeroizing<String>,
    pub apps: Vec<JoinedApp>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JoinedMember {
    pub id: NodeId,
    pub peer: String,
    pub client: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JoinedApp {
    pub id: String,
    /// The public key of its tokens, PEM.
    pub token_public_key: String,
}

/// `GET /v1/plan`: what spreading replicas and leaders evenly would change.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    pub moves: Vec<PlannedMove>,
}

/// `POST /v1/rebalance`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rebalance {
    /// Nodes that vote in each shard from now on; 0 or absent leaves that number.
    #[serde(default)]
    pub replicas: u8,
}

/// `POST /v1/place`: who votes in a shard, in the order in which they should lead.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    pub shard: ShardId,
    pub voters: Vec<NodeId>,
}
