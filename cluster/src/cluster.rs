//! The handle on the cluster that the node above works with.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chat::codec::{self, Kind};
use chat::command::{Command, EntryBatch};
use chat::ids::{AppId, ConversationId, NodeId, ShardId, UserId};
use chat::limits;
use chat::state::record::NodeState;
use parking_lot::{Mutex, RwLock};
use storage::{LogPayload, StorageError};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, watch};

use crate::consensus::state_machine::ShardView;
use crate::leave::Leaving;
use crate::level::{self, Level};
use crate::peer::PEER_TIMEOUT;
use crate::peer::lane::{CallError, Lane};
use crate::peer::message::{Failure, Request, Response};
use crate::peer::server::{self, ServerOptions};
use crate::proposer::{Fence, ProposeError, ProposeReply, Proposed};
use crate::reach::Reach;
use crate::replica::{Replica, ReplicaOptions};
use crate::room::Gauge;
use crate::roster::{Lanes, Table};
use crate::scrub::Scrub;
use crate::{
    ClusterOptions, ClusterStatus, Comparison, Feed, Peer, PeerService, PlannedMove, ShardDigest, StartError, Timing,
    background, leave, placement, roster, status, verify,
};

const REQUEST_TIMEOUT: Duration = Duration::from_millis(limits::REQUEST_TIMEOUT_MS);
/// Pause before a leader is looked for again.
const RETRY: Duration = Duration::from_millis(20);
/// Worker threads of the cluster's runtime at most; half the machine's cores otherwise. Fewer threads wake each other less.
const WORKERS_MAX: usize = 4;

/// Why an entry or a digest could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("no shard {0} on this node")]
    NoShard(ShardId),
    #[error("storage")]
    Storage(#[from] StorageError),
    #[error("the entry does not decode")]
    Decode(#[from] codec::CodecError),
}

pub(crate) struct Inner {
    pub(crate) node: NodeId,
    pub(crate) cluster: String,
    /// The members that the node was configured with.
    pub(crate) configured: Vec<Peer>,
    /// The members as they are on record.
    pub(crate) table: Arc<RwLock<Arc<Table>>>,
    /// The connections were made to follow another record.
    pub(crate) followed: Notify,
    /// This node was removed from the cluster.
    pub(crate) expelled: Arc<watch::Sender<bool>>,
    pub(crate) shards: u16,
    /// By shard id: 0 is the metadata group.
    pub(crate) replicas: Vec<Replica>,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) timing: Timing,
    pub(crate) feed: Arc<dyn Feed>,
    pub(crate) service: Arc<dyn PeerService>,
    pub(crate) leaving: Leaving,
    pub(crate) reach: Reach,
    pub(crate) scrub: Scrub,
    pub(crate) room: Gauge,
    pub(crate) level: Arc<Level>,
}

/// A handle on this node's part of the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    pub(crate) inner: Arc<Inner>,
    runtime: Arc<Mutex<Option<Runtime>>>,
}

impl Cluster {
    /// Starts all replicas and the connections to the peers, on a runtime of their own.
    pub async fn start(
        options: ClusterOptions,
        feed: Arc<dyn Feed>,
        service: Arc<dyn PeerService>,
    ) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers())
            .thread_name("cluster")
            .enable_all()
            .build()
            .map_err(StartError::Runtime)?;
        let started = runtime.spawn(start(options, feed, service)).await;
        let inner = match started {
            Ok(Ok(inner)) => inner,
            Ok(Err(error)) => {
                runtime.shutdown_background();
                return Err(error);
            }
            Err(error) => {
                runtime.shutdown_background();
                return Err(StartError::Runtime(std::io::Error::other(error)));
            }
        };
        Ok(Self { inner, runtime: Arc::new(Mutex::new(Some(runtime))) })
    }

    pub fn node(&self) -> NodeId {
        self.inner.node
    }

    pub fn cluster(&self) -> &str {
        &self.inner.cluster
    }

    pub fn shards(&self) -> u16 {
        self.inner.shards
    }

    pub fn conversation_shard(&self, app: &AppId, conversation: &ConversationId) -> ShardId {
        ShardId::of_conversation(app, conversation, self.inner.shards)
    }

    pub fn home_shard(&self, app: &AppId, user: &UserId) -> ShardId {
        ShardId::of_user(app, user, self.inner.shards)
    }

    /// The node this one believes to lead the shard.
    pub fn leader(&self, shard: ShardId) -> Option<NodeId> {
        self.inner.replica(shard).and_then(Replica::leader)
    }

    /// The members of the cluster, this node included, and whether it is connected to them.
    pub fn reached(&self) -> Vec<(NodeId, bool)> {
        self.inner.table().ids().map(|node| (node, self.inner.connected(node))).collect()
    }

    /// Proposes on this node, which must lead the shard.
    pub async fn propose(&self, shard: ShardId, command: Command) -> Result<Proposed, ProposeError> {
        self.inner.propose(shard, command).await
    }

    /// Proposes from any node: goes to the leader, again and again while nothing can have happened
    /// or repeating changes nothing, until [`limits::REQUEST_TIMEOUT_MS`] have passed.
    pub async fn submit(&self, shard: ShardId, command: Command) -> Result<Proposed, ProposeError> {
        self.inner.submit(shard, command).await
    }

    /// Returns once this node's replica shows everything that was committed before the call, with its applied index.
    pub async fn read_barrier(&self, shard: ShardId) -> Result<u64, ProposeError> {
        self.inner.read_barrier(shard).await
    }

    /// Waits until this node's replica has applied `index`.
    pub async fn wait_applied(&self, shard: ShardId, index: u64) -> Result<(), ProposeError> {
        let replica = self.inner.replica(shard).ok_or(ProposeError::Unavailable)?;
        replica.wait_applied(index, REQUEST_TIMEOUT).await
    }

    /// Reads of this node's replica as it is; `None` for a shard that does not exist.
    pub fn view(&self, shard: ShardId) -> Option<ShardView> {
        self.inner.replica(shard).map(Replica::view)
    }

    /// The commands of one log entry: where message bodies are.
    pub fn entry(&self, shard: ShardId, log_index: u64) -> Result<Option<EntryBatch>, ReadError> {
        let replica = self.inner.replica(shard).ok_or(ReadError::NoShard(shard))?;
        match replica.health.seen(replica.log.get(log_index))? {
            Some(record) => match &record.payload {
                LogPayload::Batch(bytes) => Ok(Some(codec::decode(Kind::Entry, bytes)?)),
                LogPayload::Blank | LogPayload::Membership(_) => Ok(None),
            },
            None => Ok(None),
        }
    }

    /// Tells the node above on another node. Notes to one node arrive in order, or the connection is lost and both
    /// sides hear of it.
    pub fn tell(&self, node: NodeId, note: Bytes) -> Result<(), CallError> {
        self.inner.lanes.get(node).ok_or(CallError::Unreachable)?.tell(note)
    }

    /// Under which a row of commands may be proposed here now, none of them without those before it.
    pub fn fence(&self, shard: ShardId) -> Option<Fence> {
        self.inner.replica(shard).map(|replica| replica.proposer.fence())
    }

    /// Proposes on this node, which must lead the shard. Unless that is refused at once, `reply` is called with what came
    /// of it, once, from the cluster's runtime. It must not block.
    pub fn propose_then(
        &self,
        shard: ShardId,
        fence: Fence,
        command: Command,
        reply: ProposeReply,
    ) -> Result<(), ProposeError> {
        let replica = self.inner.led(shard)?;
        self.inner.room.admit(&command)?;
        replica.proposer.propose_then(Some(fence), command, reply)
    }

    pub fn status(&self) -> ClusterStatus {
        status::of(&self.inner)
    }

    /// The digest of one replica's whole state. Reads all of it: not for the main path.
    pub async fn digest(&self, shard: ShardId) -> Result<ShardDigest, ReadError> {
        let replica = self.inner.replica(shard).ok_or(ReadError::NoShard(shard))?;
        let state = replica.state.clone();
        let digest = tokio::task::spawn_blocking(move || state.digest()).await;
        let digest = replica.health.seen(digest.map_err(|_| ReadError::NoShard(shard))?)?;
        let applied = digest.applied.map_or(0, |position| position.index);
        Ok(ShardDigest { shard, applied, digest: storage::hex(&digest.digest), records: digest.records })
    }

    /// Compares all replicas of a shard after one and the same entry. Reads their whole states: not for the main path.
    pub async fn verify(&self, shard: ShardId) -> Result<Comparison, ProposeError> {
        verify::verify(&self.inner, shard).await
    }

    /// Begins to open every stored record of this node, unless that is under way. [`ClusterStatus`] says how far it is.
    pub fn scrub(&self) {
        self.inner.scrub.start();
    }

    /// Makes the state of this node's replica of `shard` durable and moves its log's purge marker up to it.
    /// A replica that lacks what was purged then gets a copy of the state.
    pub async fn compact(&self, shard: ShardId) -> Result<(), ProposeError> {
        let replica = self.inner.replica(shard).ok_or(ProposeError::Unavailable)?;
        replica.let_go(replica.applied_index()).await
    }

    /// Hands over every shard that this node leads, and leads none until [`Cluster::return_to_duty`]. How many it still
    /// leads after `within`: none unless no other node is there to lead them.
    pub async fn resign(&self, within: Duration) -> usize {
        leave::resign(&self.inner, within).await
    }

    /// Takes back what this node is to lead, as it would after a restart.
    pub async fn return_to_duty(&self) {
        leave::return_to_duty(&self.inner).await;
    }

    /// Whether this node has caught up with the cluster and is not to leave it.
    pub fn is_active(&self) -> bool {
        self.inner.own_state() == Some(NodeState::Active)
    }

    /// Returns once this node is to leave the cluster for good, if ever.
    pub async fn told_to_leave(&self) {
        roster::told_to_leave(&self.inner).await;
    }

    /// Reads anew who is in the cluster, after something was decided about it.
    pub fn refresh(&self) {
        self.inner.read_table();
    }

    /// Returns once this node was removed from the cluster, if ever.
    pub async fn expelled(&self) {
        let mut expelled = self.inner.expelled.subscribe();
        // The sender lives as long as this handle.
        let _ = expelled.wait_for(|expelled| *expelled).await;
    }

    /// Which moves would spread replicas and leaders evenly, or are needed anyway.
    pub fn plan(&self) -> Vec<PlannedMove> {
        placement::moves(&self.inner)
    }

    /// Stops the replicas and their runtime. The engine is the caller's to close.
    pub async fn shutdown(self) {
        for replica in &self.inner.replicas {
            // A replica that has failed already is down.
            let _ = replica.raft.shutdown().await;
        }
        if let Some(runtime) = self.runtime.lock().take() {
            runtime.shutdown_background();
        }
    }
}

fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, WORKERS_MAX))
}

async fn start(
    options: ClusterOptions,
    feed: Arc<dyn Feed>,
    service: Arc<dyn PeerService>,
) -> Result<Arc<Inner>, StartError> {
    check(&options)?;
    level::check(&options.engine, options.node, options.level)?;
    let (client_tls, server_tls) = options.tls.configs()?;
    let listener =
        server::bind(options.listen).await.map_err(|source| StartError::Listen { address: options.listen, source })?;
    let expelled = Arc::new(watch::channel(false).0);
    let (cluster, versions) = (options.cluster.clone(), options.versions);
    let level = Arc::new(Level::new(options.level));
    let lanes = Lanes::new(cluster, options.node, versions, level.clone(), client_tls, expelled.clone());
    let lanes = Arc::new(lanes);
    let table = Table::configured(&options.members);
    lanes.follow(&table);
    let founders: BTreeSet<NodeId> = table.ids().collect();
    let mut replicas = Vec::with_capacity(usize::from(options.shards) + 1);
    for shard in 0..=options.shards {
        let replica = Replica::start(ReplicaOptions {
            node: options.node,
            shard: ShardId(shard),
            founders: (!options.joined).then_some(&founders),
            timing: options.timing,
            engine: &options.engine,
            lanes: lanes.clone(),
            level: level.clone(),
            feed: feed.clone(),
        });
        replicas.push(replica.await?);
    }
    let inner = Arc::new(Inner {
        node: options.node,
        cluster: options.cluster.clone(),
        configured: options.members,
        table: Arc::new(RwLock::new(Arc::new(table))),
        followed: Notify::new(),
        expelled,
        shards: options.shards,
        replicas,
        lanes,
        timing: options.timing,
        feed,
        service,
        leaving: Leaving::default(),
        reach: Reach::default(),
        scrub: Scrub::default(),
        room: Gauge::default(),
        level: level.clone(),
    });
    inner.read_table();
    if *inner.expelled.borrow() {
        return Err(StartError::Removed { node: options.node });
    }
    if let Some(needed) = level.outgrown() {
        return Err(StartError::Outgrown { node: options.node, supports: options.level, level: needed });
    }
    let accept = ServerOptions {
        versions,
        level,
        cluster: options.cluster,
        node: options.node,
        members: inner.table.clone(),
        tls: server_tls,
    };
    tokio::spawn(server::accept(listener, accept, inner.clone()));
    background::begin(&inner, options.housekeeping, options.engine, options.scrub);
    Ok(inner)
}

fn check(options: &ClusterOptions) -> Result<(), StartError> {
    if options.shards == 0 || options.shards > limits::SHARDS_MAX {
        return Err(StartError::Shards { shards: options.shards });
    }
    if options.members.is_empty() || options.members.len() > limits::NODES_MAX {
        return Err(StartError::Nodes { nodes: options.members.len() });
    }
    if !options.members.iter().any(|peer| peer.id == options.node) {
        return Err(StartError::NotAMember { node: options.node });
    }
    Ok(())
}

impl Inner {
    pub(crate) fn replica(&self, shard: ShardId) -> Option<&Replica> {
        self.replicas.get(usize::from(shard.0))
    }

    pub(crate) fn connected(&self, node: NodeId) -> bool {
        node == self.node || self.lanes.connected(node)
    }

    pub(crate) fn lane(&self, node: NodeId) -> Option<Lane> {
        self.lanes.get(node)
    }

    /// The replica of a shard that this node leads.
    fn led(&self, shard: ShardId) -> Result<&Replica, ProposeError> {
        let replica = self.replica(shard).ok_or(ProposeError::Unavailable)?;
        match replica.leader() {
            Some(node) if node == self.node => Ok(replica),
            leader => Err(ProposeError::NotLeader { leader }),
        }
    }

    pub(crate) async fn propose(&self, shard: ShardId, command: Command) -> Result<Proposed, ProposeError> {
        let replica = self.led(shard)?;
        self.room.admit(&command)?;
        replica.proposer.propose(command).await
    }

    pub(crate) async fn submit(&self, shard: ShardId, command: Command) -> Result<Proposed, ProposeError> {
        // Before a leader is asked that may not even be able to read it.
        self.level.gate(&command)?;
        let started = Instant::now();
        let repeatable = command.repeatable();
        let mut last = ProposeError::Unavailable;
        while let Some(left) = REQUEST_TIMEOUT.checked_sub(started.elapsed()) {
            let attempt = tokio::time::timeout(left, self.submit_once(shard, command.clone()));
            match attempt.await.unwrap_or(Err(ProposeError::Unknown)) {
                Err(ProposeError::NotLeader { .. } | ProposeError::Unavailable) => {}
                Err(ProposeError::Unknown) if repeatable => last = ProposeError::Unknown,
                done => return done,
            }
            tokio::time::sleep(RETRY).await;
        }
        Err(last)
    }

    async fn submit_once(&self, shard: ShardId, command: Command) -> Result<Proposed, ProposeError> {
        let leader = self.replica(shard).and_then(Replica::leader);
        match leader {
            Some(node) if node == self.node => self.propose(shard, command).await,
            Some(node) => match self.ask(node, Request::Submit { shard, command }).await? {
                Response::Submitted { outcome, index } => Ok(Proposed { outcome, index }),
                _ => Err(ProposeError::Unknown),
            },
            None => Err(ProposeError::NotLeader { leader: None }),
        }
    }

    async fn read_barrier(&self, shard: ShardId) -> Result<u64, ProposeError> {
        let replica = self.replica(shard).ok_or(ProposeError::Unavailable)?;
        let started = Instant::now();
        while let Some(left) = REQUEST_TIMEOUT.checked_sub(started.elapsed()) {
            let index = match replica.leader() {
                Some(node) if node == self.node => {
                    tokio::time::timeout(left, replica.read_index()).await.unwrap_or(Err(ProposeError::Unavailable))
                }
                Some(node) => match self.ask(node, Request::ReadIndex { shard }).await {
                    Ok(Response::ReadIndex(index)) => Ok(index),
                    Ok(_) => Err(ProposeError::Unavailable),
                    Err(error) => Err(error),
                },
                None => Err(ProposeError::Unavailable),
            };
            match index {
                Ok(index) => {
                    replica.wait_applied(index, left).await?;
                    return Ok(replica.applied_index());
                }
                Err(ProposeError::Storage) => return Err(ProposeError::Storage),
                // A read can always be tried again.
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
        Err(ProposeError::Unavailable)
    }

    async fn ask(&self, node: NodeId, request: Request) -> Result<Response, ProposeError> {
        let lane = self.lanes.get(node).ok_or(ProposeError::Unavailable)?;
        let response = lane.call(request, PEER_TIMEOUT).await.map_err(|error| match error {
            CallError::Unreachable => ProposeError::Unavailable,
            CallError::Overloaded => ProposeError::Overloaded,
            CallError::NoAnswer => ProposeError::Unknown,
        })?;
        match response {
            Response::Failed(Failure::NotLeader { leader }) => Err(ProposeError::NotLeader { leader }),
            Response::Failed(Failure::Overloaded) => Err(ProposeError::Overloaded),
            Response::Failed(Failure::Unavailable | Failure::NoShard | Failure::NoRoom) => {
                Err(ProposeError::Unavailable)
            }
            Response::Failed(Failure::Unknown | Failure::Fault(_)) => Err(ProposeError::Unknown),
            response => Ok(response),
        }
    }
}
