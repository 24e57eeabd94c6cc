//! Who is in the cluster and where: what the metadata group has on record, and the connections that follow from it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chat::command::NodeFacts;
use chat::ids::{NodeId, ShardId};
use chat::level;
use chat::limits::SHARDS_MAX;
use chat::state::query;
use chat::state::record::{Build, NodeState, Roster};
use parking_lot::RwLock;
use rustls::ClientConfig;
use storage::StorageError;
use tokio::task::AbortHandle;

use crate::Peer;
use crate::cluster::Inner;
use crate::consensus::state_machine::ShardView;
use crate::level::Level;
use crate::peer::hello::Versions;
use crate::peer::lane::{Lane, LaneOptions};

/// Between two looks whether this node is to leave.
const LOOK: Duration = Duration::from_secs(1);

/// A node that is not gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: NodeId,
    /// Where it may be reached, the likeliest first.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) state: NodeState,
    pub(crate) facts: NodeFacts,
}

/// The record as this node has applied it; before there is one, what the node was configured with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Table {
    /// By id.
    pub(crate) members: Vec<Member>,
    pub(crate) removed: BTreeSet<NodeId>,
    pub(crate) placements: BTreeMap<ShardId, Vec<NodeId>>,
    /// None before the cluster's founding.
    pub(crate) roster: Option<Roster>,
    /// The feature level on record; 0 before the cluster's founding.
    pub(crate) level: u16,
    /// What each member runs, as far as it has said so.
    pub(crate) builds: BTreeMap<NodeId, Build>,
}

impl Table {
    pub(crate) fn configured(peers: &[Peer]) -> Self {
        let member = |peer: &Peer| Member {
            id: peer.id,
            addresses: vec![peer.address],
            state: NodeState::Active,
            facts: NodeFacts { peer: peer.address.to_string(), ..NodeFacts::default() },
        };
        let mut members: Vec<Member> = peers.iter().map(member).collect();
        members.sort_by_key(|member| member.id);
        Self { members, ..Self::default() }
    }

    /// What the metadata group's state says; `configured` fills in while it says nothing.
    fn read(view: &ShardView, configured: &[Peer]) -> Result<Self, StorageError> {
        let roster = query::roster(view)?;
        let nodes = query::nodes(view)?;
        if nodes.is_empty() {
            return Ok(Self::configured(configured));
        }
        let (gone, present): (Vec<_>, Vec<_>) =
            nodes.into_iter().partition(|(_, node)| node.state == NodeState::Removed);
        let member = |(id, node): (NodeId, chat::state::record::Node)| {
            let listed = configured.iter().find(|peer| peer.id == id).map(|peer| peer.address);
            let mut addresses: Vec<SocketAddr> = node.facts.peer.parse().ok().into_iter().chain(listed).collect();
            addresses.dedup();
            Member { id, addresses, state: node.state, facts: node.facts }
        };
        Ok(Self {
            members: present.into_iter().map(member).collect(),
            removed: gone.into_iter().map(|(id, _)| id).collect(),
            placements: query::placements(view, usize::from(SHARDS_MAX) + 1)?.into_iter().collect(),
            roster,
            level: query::level(view)?,
            builds: query::builds(view)?.into_iter().collect(),
        })
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = NodeId> {
        self.members.iter().map(|member| member.id)
    }

    pub(crate) fn in_state(&self, state: NodeState) -> BTreeSet<NodeId> {
        self.members.iter().filter(|member| member.state == state).map(|member| member.id).collect()
    }

    pub(crate) fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == node)
    }

    /// The highest feature level that every member has said that it supports.
    pub(crate) fn supported(&self) -> u16 {
        let said = |node| self.builds.get(&node).map_or(level::OLDEST, |build| build.level);
        self.ids().map(said).min().unwrap_or(level::OLDEST)
    }

    /// Why the node is no peer, if it is none.
    pub(crate) fn stranger(&self, node: NodeId) -> Option<Stranger> {
        if self.removed.contains(&node) {
            return Some(Stranger::Removed);
        }
        self.member(node).is_none().then_some(Stranger::Unknown)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stranger {
    Unknown,
    /// It was a member once.
    Removed,
}

/// The connections to the other nodes, as many as there are.
pub(crate) struct Lanes {
    cluster: String,
    node: NodeId,
    versions: Versions,
    level: Arc<Level>,
    tls: Arc<ClientConfig>,
    /// Told when a peer says that this node was removed.
    expelled: Arc<tokio::sync::watch::Sender<bool>>,
    to: RwLock<BTreeMap<NodeId, Neighbour>>,
}

struct Neighbour {
    lane: Lane,
    addresses: Vec<SocketAddr>,
    /// What watches the connection; ends with it.
    watchers: Vec<AbortHandle>,
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.watchers.iter().for_each(AbortHandle::abort);
    }
}

impl Lanes {
    pub(crate) fn new(
        cluster: String,
        node: NodeId,
        versions: Versions,
        level: Arc<Level>,
        tls: Arc<ClientConfig>,
        expelled: Arc<tokio::sync::watch::Sender<bool>>,
    ) -> Self {
        Self { cluster, node, versions, level, tls, expelled, to: RwLock::default() }
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<Lane> {
        self.to.read().get(&node).map(|neighbour| neighbour.lane.clone())
    }

    pub(crate) fn all(&self) -> Vec<Lane> {
        self.to.read().values().map(|neighbour| neighbour.lane.clone()).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.to.read().is_empty()
    }

    pub(crate) fn connected(&self, node: NodeId) -> bool {
        self.to.read().get(&node).is_some_and(|neighbour| neighbour.lane.connected())
    }

    /// Connects to those that are in the table and lets go of all others.
    pub(crate) fn follow(&self, table: &Table) {
        let mut to = self.to.write();
        to.retain(|node, neighbour| table.member(*node).is_some_and(|member| member.addresses == neighbour.addresses));
        for member in table.members.iter().filter(|member| member.id != self.node && !member.addresses.is_empty()) {
            to.entry(member.id).or_insert_with(|| {
                let lane = Lane::start(LaneOptions {
                    versions: self.versions,
                    level: self.level.clone(),
                    cluster: self.cluster.clone(),
                    node: self.node,
                    peer: member.id,
                    addresses: member.addresses.clone(),
                    tls: self.tls.clone(),
                    expelled: self.expelled.clone(),
                });
                Neighbour { lane, addresses: member.addresses.clone(), watchers: Vec::new() }
            });
        }
    }

    /// Has `watch` watch each connection that nothing watches yet.
    pub(crate) fn watched_by(&self, watch: impl Fn(NodeId, Lane) -> Vec<AbortHandle>) {
        let mut to = self.to.write();
        for (node, neighbour) in to.iter_mut().filter(|(_, neighbour)| neighbour.watchers.is_empty()) {
            neighbour.watchers = watch(*node, neighbour.lane.clone());
        }
    }
}

impl Inner {
    pub(crate) fn table(&self) -> Arc<Table> {
        self.table.read().clone()
    }

    /// Where this node stands, if it is on record.
    pub(crate) fn own_state(&self) -> Option<NodeState> {
        let table = self.table();
        table.roster?;
        table.member(self.node).map(|member| member.state)
    }

    /// Reads the record anew, and connects to whom it names.
    pub(crate) fn read_table(&self) {
        let Some(meta) = self.replica(ShardId::META) else { return };
        match Table::read(&meta.view(), &self.configured) {
            Ok(table) => {
                self.level.raise(table.level);
                let mut present = self.table.write();
                if **present != table {
                    *present = Arc::new(table);
                    self.lanes.follow(&present);
                    self.followed.notify_one();
                }
                if present.removed.contains(&self.node) {
                    self.expelled.send_replace(true);
                }
            }
            // The state machine meets the same damage, and the node ends by that.
            Err(error) => tracing::error!(%error, "the record of nodes cannot be read"),
        }
    }

    /// Those that vote in the shard, in the order in which they should lead.
    pub(crate) fn voters(&self, shard: ShardId) -> Vec<NodeId> {
        if let Some(placed) = self.table.read().placements.get(&shard) {
            return placed.clone();
        }
        let mut voters: Vec<NodeId> =
            self.replica(shard).map(|r| r.members().voters.into_iter().collect()).unwrap_or_default();
        let turn = usize::from(shard.0) % voters.len().max(1);
        voters.rotate_left(turn);
        voters
    }

    /// The node that should lead the shard when all are well.
    pub(crate) fn preferred(&self, shard: ShardId) -> Option<NodeId> {
        self.voters(shard).first().copied()
    }
}

/// Returns once the record says that this node leaves.
pub(crate) async fn told_to_leave(inner: &Inner) {
    let mut clock = tokio::time::interval(LOOK);
    while inner.own_state() != Some(NodeState::Leaving) {
        clock.tick().await;
    }
}

/// Reads the record again whenever the metadata group may have changed it, and has new connections watched.
pub(crate) async fn run(inner: Arc<Inner>) {
    let Some(changed) = inner.replica(ShardId::META).map(|meta| meta.roster_changed.clone()) else { return };
    loop {
        tokio::select! {
            () = changed.notified() => inner.read_table(),
            () = inner.followed.notified() => {}
        }
        inner.watch_peers();
    }
}

#[cfg(test)]
impl Lanes {
    /// Of a node that is alone.
    pub(crate) fn none() -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        Self::new(String::new(), 1, Versions::default(), Arc::new(Level::new(1)), Arc::new(tls), Arc::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_the_founding_the_configuration_counts() {
        let peers = [(2, 20), (1, 10)].map(|(id, port)| Peer { id, address: SocketAddr::from(([127, 0, 0, 1], port)) });
        let table = Table::configured(&peers);
        assert_eq!(table.ids().collect::<Vec<_>>(), [1, 2]);
        assert_eq!((table.stranger(1), table.stranger(3)), (None, Some(Stranger::Unknown)));
        assert_eq!(table.supported(), level::OLDEST, "they have said nothing");
        let build = |level| Build { level, version: String::new() };
        let said = |first, second| Table { builds: [(1, build(first)), (2, build(second))].into(), ..table.clone() };
        assert_eq!((said(3, 2).supported(), said(2, 4).supported()), (2, 2));
        let gone = Table { removed: BTreeSet::from([4]), ..table };
        assert_eq!(gone.stranger(4), Some(Stranger::Removed));
    }
}
