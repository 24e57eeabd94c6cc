//! Nodes that come and go, as operators ask for it: what stands behind the admin listener's resources for them. What is
//! decided is decided in the metadata group; here are the secrets that a new node needs.

pub mod api;
mod level;
mod routes;
mod token;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chat::command::{ClusterCommand, Command, NodeFacts, Outcome};
use chat::errors::ErrorCode;
use chat::ids::{NodeId, ShardId};
use chat::limits::{self, APPS};
use chat::state::query;
use cluster::{Cluster, ProposeError, Proposed};
use storage::{ClusterKey, NodeKey};
use zeroize::Zeroizing;

use crate::admin::{Refused, not_proposed};
use crate::config::NodeConfig;
use crate::init::CA_SECRET;
use crate::init::certificates::{self, Authority};
use crate::socket::unix_ms;
use api::{Join, Joined, JoinedApp, JoinedMember, MadeJoinToken, NewJoinToken, Place, Plan, Rebalance};

pub(crate) use level::describe_build;
pub(crate) use routes::{join_route, routes};
pub use token::{JoinToken, TokenError};

/// Admin listeners named in a join token: if one is down, another answers.
const TOKEN_NODES: usize = 3;

/// What a node says of itself to the others.
pub(crate) fn facts_of(config: &NodeConfig) -> NodeFacts {
    let own = config.members().into_iter().find(|member| member.id == config.node.id);
    let client = own.as_ref().and_then(|member| member.client.clone());
    NodeFacts {
        peer: own.map_or_else(|| config.peer.listen, |member| member.peer).to_string(),
        client: client.unwrap_or_else(|| config.client.listen.to_string()),
        admin: config.admin.listen.to_string(),
        zone: config.node.zone.clone(),
    }
}

/// Lets nodes in and sends them away.
pub struct NodesDesk {
    cluster: Cluster,
    ca: PathBuf,
    ca_key: PathBuf,
    node_key: NodeKey,
    cluster_key: ClusterKey,
    admin_token: Zeroizing<String>,
    client_tls: bool,
    /// This node's own admin listener.
    admin: String,
}

impl NodesDesk {
    pub(crate) fn new(cluster: Cluster, config: &NodeConfig, keys: crate::config::Keys, admin_token: &str) -> Self {
        Self {
            cluster,
            ca: config.peer.ca.clone(),
            ca_key: config.keys.ca_key.clone(),
            node_key: keys.node,
            cluster_key: keys.cluster,
            admin_token: Zeroizing::new(admin_token.to_owned()),
            client_tls: config.client.tls,
            admin: config.admin.listen.to_string(),
        }
    }

    fn authority(&self) -> Result<Authority, Refused> {
        let refuse = |why: String| Refused::new(ErrorCode::Forbidden, why);
        let key = self.node_key.load_secret(&self.ca_key, CA_SECRET).map_err(|error| {
            refuse(format!(
                "this node cannot let others join: the authority's key is not here ({error}); see [keys] ca_key"
            ))
        })?;
        let key = str::from_utf8(&key).map_err(|_| refuse("the authority's key is not text".to_owned()))?;
        let pem =
            std::fs::read_to_string(&self.ca).map_err(|error| refuse(format!("{}: {error}", self.ca.display())))?;
        Authority::load(&pem, key).map_err(|error| refuse(format!("the authority's key is not usable: {error}")))
    }

    pub(crate) async fn join_token(&self, wanted: &NewJoinToken) -> Result<MadeJoinToken, Refused> {
        // Said now, and not to the node that comes with it.
        let authority = self.authority()?;
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(secret.as_mut_slice()).map_err(|error| Refused::new(ErrorCode::Internal, error.to_string()))?;
        let expires_ms = unix_ms().saturating_add(wanted.lifetime_ms);
        let command =
            ClusterCommand::AddJoinToken { secret: *blake3::hash(&*secret).as_bytes(), expires_ms, uses: wanted.uses };
        self.decide(command, |code| match code {
            ErrorCode::InvalidField => format!(
                "a join token is for at least one node and valid for at most {} hours",
                limits::JOIN_TOKEN_LIFETIME_MS / 3_600_000
            ),
            ErrorCode::LimitReached => format!("{} join tokens wait to be used already", limits::JOIN_TOKENS),
            other => other.name().to_owned(),
        })
        .await?;
        let others = self.cluster.status().peers.into_iter().map(|peer| peer.admin).filter(|admin| !admin.is_empty());
        let mut admin = vec![self.admin.clone()];
        admin.extend(others.filter(|other| *other != self.admin));
        admin.truncate(TOKEN_NODES);
        let secret = Zeroizing::new(storage::hex(&*secret));
        let token = JoinToken::new(admin, authority.pem.as_bytes(), secret)
            .map_err(|error| Refused::new(ErrorCode::Internal, error.to_string()))?;
        tracing::info!(event = "join_token", uses = wanted.uses, expires_ms, "a join token was made");
        Ok(MadeJoinToken { token: token.encode(), expires_ms })
    }

    pub(crate) async fn join(&self, join: Join) -> Result<Joined, Refused> {
        let invalid = |why: &str| Refused::new(ErrorCode::InvalidField, why);
        self.fits(&join)?;
        let authority = self.authority()?;
        let secret =
            blake3::Hash::from_hex(join.secret.as_bytes()).map_err(|_| invalid("secret: no 32 bytes in hex"))?;
        let key =
            certificates::key_of(&join.request).map_err(|_| invalid("request: no certificate signing request"))?;
        let peer: SocketAddr = join.facts.peer.parse().map_err(|_| invalid("facts.peer: no address"))?;
        if peer.ip().is_unspecified() || peer.port() == 0 {
            return Err(invalid("facts.peer: other nodes cannot reach this address"));
        }
        let command =
            ClusterCommand::JoinNode { secret: *blake3::hash(secret.as_bytes()).as_bytes(), key, facts: join.facts };
        let node = self.decide(command, |code| refusal_to_join(code, peer)).await?;
        let certificate = authority
            .sign(self.cluster.cluster(), node, peer.ip(), &join.request)
            .map_err(|error| Refused::new(ErrorCode::Internal, error.to_string()))?;
        self.note_build(node, join.level, join.version).await;
        tracing::info!(event = "node_joins", node, %peer, "a node was let in");
        let members = self.cluster.status().peers.into_iter();
        let members = members.map(|peer| JoinedMember { id: peer.node, peer: peer.address, client: peer.client });
        Ok(Joined {
            node,
            cluster: self.cluster.cluster().to_owned(),
            shards: self.cluster.shards(),
            certificate,
            members: members.collect(),
            client_tls: self.client_tls,
            cluster_key: self.cluster_key.reveal(),
            ca_key: Zeroizing::new(authority.private_key()),
            admin_token: self.admin_token.clone(),
            apps: self.apps()?,
        })
    }

    fn apps(&self) -> Result<Vec<JoinedApp>, Refused> {
        let internal = |why: String| Refused::new(ErrorCode::Internal, why);
        let view = self.cluster.view(ShardId::META).ok_or_else(|| internal("no metadata group".to_owned()))?;
        let apps = query::apps(&view, APPS).map_err(|error| internal(error.to_string()))?;
        // An app without a key has nothing to configure: it is on record.
        let app = |(id, app): (chat::ids::AppId, chat::state::record::App)| {
            Some(JoinedApp { id: id.to_string(), token_public_key: app.token_keys.into_iter().next()?.pem })
        };
        Ok(apps.into_iter().filter_map(app).collect())
    }

    pub(crate) async fn remove(&self, node: NodeId) -> Result<(), Refused> {
        self.decide(ClusterCommand::RemoveNode { node }, |code| match code {
            ErrorCode::InvalidField => format!("there is no node {node}"),
            ErrorCode::Forbidden => {
                format!("node {node} cannot leave: it has left already, or no other active node would hold its shards")
            }
            other => other.name().to_owned(),
        })
        .await?;
        tracing::info!(event = "node_leaves", node, "a node is to leave for good");
        Ok(())
    }

    pub(crate) fn plan(&self) -> Plan {
        Plan { moves: self.cluster.plan() }
    }

    pub(crate) async fn rebalance(&self, wanted: &Rebalance) -> Result<(), Refused> {
        let command = ClusterCommand::Rebalance { wanted: true, replicas: wanted.replicas };
        let odd = format!("replicas: an odd number up to {}", limits::NODES_MAX);
        self.decide(command, |code| if code == ErrorCode::InvalidField { odd } else { code.name().to_owned() }).await?;
        Ok(())
    }

    pub(crate) async fn place(&self, place: Place) -> Result<(), Refused> {
        let shard = place.shard;
        self.decide(ClusterCommand::Place { shard, voters: place.voters }, |code| match code {
            ErrorCode::InvalidField => {
                format!("shard {shard}, or one of the nodes, is not there, or a node is named twice")
            }
            ErrorCode::Forbidden => "a node that has not caught up, or leaves, cannot vote".to_owned(),
            other => other.name().to_owned(),
        })
        .await?;
        Ok(())
    }

    /// Has the metadata group decide, and waits until this node sees what came of it.
    async fn decide(&self, command: ClusterCommand, why: impl FnOnce(ErrorCode) -> String) -> Result<u64, Refused> {
        let decided = self.cluster.submit(ShardId::META, Command::Cluster(command)).await;
        let Proposed { outcome, index } = decided.map_err(not_proposed)?;
        match outcome {
            Outcome::Applied { seq, .. } => {
                self.cluster.wait_applied(ShardId::META, index).await.map_err(not_proposed)?;
                self.cluster.refresh();
                Ok(seq)
            }
            Outcome::Rejected(code) => Err(Refused::new(code, why(code))),
        }
    }
}

fn refusal_to_join(code: ErrorCode, peer: SocketAddr) -> String {
    match code {
        ErrorCode::BadCredentials => "the join token is not known, or was used as often as it may be".to_owned(),
        ErrorCode::TokenExpired => "the join token has expired".to_owned(),
        ErrorCode::LimitReached => format!("the cluster has {} nodes, more are not possible", limits::NODES_MAX),
        ErrorCode::IdConflict => format!("another node of the cluster has the peer address {peer}"),
        other => other.name().to_owned(),
    }
}

/// Says who this node is, where the record has something else; again until it is taken.
pub(crate) async fn describe(cluster: Cluster, node: NodeId, facts: NodeFacts) {
    const RETRY: Duration = Duration::from_secs(1);
    loop {
        let command = ClusterCommand::DescribeNode { node, facts: facts.clone() };
        match cluster.submit(ShardId::META, Command::Cluster(command)).await {
            Ok(Proposed { outcome: Outcome::Applied { .. }, .. }) => return,
            Ok(Proposed { outcome: Outcome::Rejected(code), .. }) => {
                tracing::warn!(node, code = code.name(), "what this node says of itself was not written down");
                return;
            }
            Err(ProposeError::Storage) => return,
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}
