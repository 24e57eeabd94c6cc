//! One shard's replica on this node: its Raft, its proposer, its state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat::ids::{NodeId, ShardId};
use openraft::ReadPolicy;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, Fatal, ForwardReason, RaftError};
use openraft::impls::ProgressResponder;
use openraft::{Config, SnapshotPolicy};
use storage::{Engine, LogStore, StateStore};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::consensus::log_store::{ShardLog, blocking};
use crate::consensus::network::Network;
use crate::consensus::serve::{Raft, Spool};
use crate::consensus::state_machine::{Chores, ShardState, ShardView, Shared};
use crate::consensus::types::{Proposal, Types, VoteRecord};
use crate::level::Level;
use crate::proposer::{EntryLog, ProposeError, Proposer, WriteRefused, Written};
use crate::repair::{Health, LogRepair, Source};
use crate::roster::Lanes;
use crate::signs::Signs;
use crate::verify::Digests;
use crate::{Feed, StartError, Timing};

/// Deadline of letting go of the log, once the state is durable.
const PURGE_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) struct Replica {
    pub(crate) shard: ShardId,
    pub(crate) raft: Raft,
    pub(crate) proposer: Proposer,
    pub(crate) state: StateStore,
    pub(crate) log: LogStore,
    pub(crate) spool: Arc<Spool>,
    /// Until then no vote is given: before it restarted this node may have promised a leader its lease.
    promised_until: Option<Instant>,
    /// Told when the outbox may hold something to deliver.
    pub(crate) outbox_filled: Arc<Notify>,
    applied: watch::Receiver<u64>,
    chores: watch::Receiver<Chores>,
    pub(crate) digests: Arc<Digests>,
    /// Told when the record of nodes may have changed: on the metadata group's replica.
    pub(crate) roster_changed: Arc<Notify>,
    /// Held while the shard's membership is being changed.
    pub(crate) changing: tokio::sync::Mutex<()>,
    /// What peers that rebuild their state are given.
    pub(crate) source: Arc<Source>,
    pub(crate) health: Arc<Health>,
    pub(crate) log_repair: Arc<LogRepair>,
    pub(crate) signs: Signs,
}

/// Who has a replica of the shard, as this one knows it.
pub(crate) struct ShardMembers {
    pub(crate) voters: BTreeSet<NodeId>,
    pub(crate) members: BTreeSet<NodeId>,
    /// A change of voters is under way.
    pub(crate) joint: bool,
}

pub(crate) struct ReplicaOptions<'a> {
    pub(crate) node: NodeId,
    pub(crate) shard: ShardId,
    /// The founders, unless the node came later.
    pub(crate) founders: Option<&'a BTreeSet<NodeId>>,
    pub(crate) timing: Timing,
    pub(crate) engine: &'a Engine,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) level: Arc<Level>,
    pub(crate) feed: Arc<dyn Feed>,
}

/// When the log is purged is `crate::purge`'s business, and a replica that needs a copy of the state gets one made for it:
/// openraft does neither on its own.
fn config(cluster: &str, timing: Timing) -> Result<Config, StartError> {
    let config = Config {
        cluster_name: cluster.to_owned(),
        // Its clock would wake each replica for itself: `crate::heartbeat` and `crate::election` have one for all.
        enable_tick: false,
        // Deadline of a heartbeat.
        heartbeat_interval: timing.election_min.as_millis() as u64 * 9 / 10,
        election_timeout_min: timing.election_min.as_millis() as u64,
        election_timeout_max: timing.election_max.as_millis() as u64,
        enable_pre_vote: Some(true),
        // A leader whose process was killed may lack entries that the others committed before its own disk had them: in its
        // old term it would give their places to other entries.
        enable_leader_restore: Some(false),
        max_payload_entries: 64,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        replication_lag_threshold: u64::MAX,
        backoff: "50ms 100ms 200ms ..500ms".to_owned(),
        ..Config::default()
    };
    config.validate().map_err(|error| StartError::Timing(error.to_string()))
}

impl Replica {
    pub(crate) async fn start(options: ReplicaOptions<'_>) -> Result<Self, StartError> {
        let shard = options.shard;
        let log = options.engine.log(shard).map_err(StartError::Storage)?;
        let state = options.engine.state(shard).map_err(StartError::Storage)?;
        // The first entry is the membership that every member starts with: nobody has led before it.
        let remembers = log.bounds().last.is_some_and(|last| last.index > 0);
        let (applied_sender, applied) = watch::channel(0);
        let (chores_sender, chores) = watch::channel(Chores::default());
        let (outbox_filled, roster_changed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (digests, source) = (Arc::new(Digests::default()), Arc::new(Source::default()));
        let health = Arc::new(Health::new(shard, options.feed.clone(), applied_sender.clone()));
        let log_repair =
            Arc::new(LogRepair::new(shard, log.clone(), state.clone(), options.lanes.clone(), health.clone()));
        log_repair.repair_end().await.map_err(|error| StartError::Damaged { what: error.to_string() })?;
        let config = Arc::new(config(&format!("shard {shard}"), options.timing)?);
        let raft = async |forgets_committed| {
            let shared = Shared {
                feed: options.feed.clone(),
                applied: applied_sender.clone(),
                chores: chores_sender.clone(),
                outbox_filled: outbox_filled.clone(),
                digests: digests.clone(),
                source: source.clone(),
                health: health.clone(),
                roster_changed: roster_changed.clone(),
            };
            let machine = ShardState::new(shard, state.clone(), shared);
            let network = Network::new(shard, options.lanes.clone());
            let log = ShardLog::new(log.clone(), log_repair.clone(), forgets_committed);
            Raft::new(options.node, config.clone(), network, log, machine).await
        };
        let consensus = |error: Fatal<_>| StartError::Consensus { shard, what: error.to_string() };
        let raft = match raft(false).await {
            // What is committed is applied on the way up, and the state cannot be rebuilt before Raft is.
            Err(_) if health.integrity().pending > 0 => raft(true).await,
            started => started,
        };
        let raft = raft.map_err(consensus)?;
        // Every member of a new cluster starts with the same entry; a log with entries is left as it is.
        if let Some(founders) = options.founders
            && !raft.is_initialized().await.map_err(consensus)?
        {
            match raft.initialize(founders.clone()).await {
                Ok(()) | Err(RaftError::APIError(_)) => {}
                Err(RaftError::Fatal(error)) => return Err(consensus(error)),
            }
        }
        health.peers(!options.lanes.is_empty());
        let proposer = Proposer::start(shard, RaftLog(raft.clone()), options.level);
        let promised_until = remembers.then(|| Instant::now() + options.timing.election_max);
        Ok(Self {
            shard,
            raft,
            proposer,
            state,
            log,
            spool: Arc::new(Spool::new(options.engine.spools())),
            promised_until,
            outbox_filled,
            applied,
            chores,
            digests,
            roster_changed,
            changing: tokio::sync::Mutex::default(),
            source,
            health,
            log_repair,
            signs: Signs::default(),
        })
    }

    /// On the leader: the last entry that each other member has, as far as is known, and the last one there is.
    pub(crate) fn progress(&self) -> (BTreeMap<NodeId, u64>, u64) {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let matched = metrics.replication.unwrap_or_default().into_iter();
        let matched = matched.map(|(node, last)| (node, last.map_or(0, |id| id.index)));
        (matched.collect(), metrics.last_log_index.unwrap_or(0))
    }

    pub(crate) fn members(&self) -> ShardMembers {
        let metrics = self.raft.server_metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        let configs = membership.get_joint_config();
        ShardMembers {
            voters: configs.last().cloned().unwrap_or_default(),
            members: membership.nodes().map(|(node, _)| *node).collect(),
            joint: configs.len() > 1,
        }
    }

    /// Begins to hand leadership over. False if the replica has ended; the process is about to.
    pub(crate) async fn hand_over(&self, to: NodeId) -> bool {
        tracing::info!(shard = %self.shard, to, "handing leadership over");
        self.raft.trigger().transfer_leader(to).await.is_ok()
    }

    pub(crate) fn view(&self) -> ShardView {
        ShardView::new(self.state.clone(), self.health.clone())
    }

    /// What is to be done in the background, as far as this replica has heard since it started.
    pub(crate) fn chores(&self) -> Chores {
        *self.chores.borrow()
    }

    /// Lets go of the log up to `through`, which is applied: makes the state durable, then moves the purge marker. A crash
    /// in between or after it replays nothing that is gone.
    pub(crate) async fn let_go(&self, through: u64) -> Result<(), ProposeError> {
        let state = self.state.clone();
        blocking(move || state.checkpoint()).await.map_err(|_| ProposeError::Storage)?;
        // openraft lets go of nothing that is not in a snapshot: to it the state itself is one.
        let failed = |_: Fatal<_>| ProposeError::Storage;
        self.raft.trigger().snapshot().await.map_err(failed)?;
        let wait = self.raft.wait(Some(PURGE_TIMEOUT));
        let noted = |metrics: &openraft::RaftMetrics<_>| metrics.snapshot.is_some_and(|id| id.index >= through);
        wait.metrics(noted, "snapshot noted").await.map_err(|_| ProposeError::Unavailable)?;
        self.raft.trigger().purge_log(through).await.map_err(failed)
    }

    pub(crate) fn leader(&self) -> Option<NodeId> {
        self.raft.server_metrics().borrow_watched().current_leader
    }

    /// Waits out a lease that this node may have granted and forgotten: a vote in that time could make a second leader
    /// while the first still answers reads on its lease.
    pub(crate) async fn keep_promise(&self) {
        if let Some(until) = self.promised_until {
            sleep_until(until).await;
        }
    }

    pub(crate) fn term(&self) -> u64 {
        self.raft.server_metrics().borrow_watched().vote.leader_id.term
    }

    pub(crate) fn vote(&self) -> VoteRecord {
        VoteRecord::from(&self.raft.server_metrics().borrow_watched().vote)
    }

    /// In a quiet shard the leader's lease has run out: before something that needs one, a majority is asked. Whether it
    /// agreed is seen by what follows.
    pub(crate) async fn renew_lease(&self) {
        renew_lease(&self.raft).await;
    }

    pub(crate) fn applied_index(&self) -> u64 {
        *self.applied.borrow()
    }

    /// On the leader: an index such that a state with it applied shows everything committed before this call.
    pub(crate) async fn read_index(&self) -> Result<u64, ProposeError> {
        // The lease answers without a round trip; when it is stale, a round of heartbeats decides.
        if let Ok((read, _)) = self.raft.get_read_log_id(ReadPolicy::LeaseRead).await {
            return Ok(read.index());
        }
        match self.raft.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((read, _)) => Ok(read.index()),
            Err(RaftError::APIError(_)) => Err(ProposeError::NotLeader { leader: self.leader() }),
            Err(RaftError::Fatal(_)) => Err(ProposeError::Storage),
        }
    }

    pub(crate) async fn wait_applied(&self, index: u64, deadline: Duration) -> Result<(), ProposeError> {
        let mut applied = self.applied.clone();
        match timeout(deadline, applied.wait_for(|at| *at >= index)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ProposeError::Storage),
            Err(_) => Err(ProposeError::Unavailable),
        }
    }
}

async fn renew_lease(raft: &Raft) {
    if raft.get_read_log_id(ReadPolicy::LeaseRead).await.is_err() {
        // Not led here any more, or no majority: whatever needs the lease is refused with that.
        let _ = raft.get_read_log_id(ReadPolicy::ReadIndex).await;
    }
}

/// What the proposer writes to.
struct RaftLog(Raft);

impl EntryLog for RaftLog {
    async fn write(&self, entry: Bytes) -> Result<Written, WriteRefused> {
        let (responder, outcome) = ProgressResponder::<Types, _>::complete_only();
        self.0.client_write_ff(Proposal(entry), Some(responder)).await.map_err(|_| WriteRefused::Storage)?;
        match outcome.await {
            Ok(Ok(written)) => Ok(Written { index: written.log_id.index, outcomes: written.data.outcomes }),
            // Rejected before it was appended.
            Ok(Err(ClientWriteError::ForwardToLeader(to))) if to.reason == ForwardReason::LeaseExpired => {
                renew_lease(&self.0).await;
                Err(WriteRefused::LeaseExpired)
            }
            Ok(Err(ClientWriteError::ForwardToLeader(to))) => Err(WriteRefused::NotLeader { leader: to.leader_id }),
            Ok(Err(_)) | Err(_) => Err(WriteRefused::Unknown),
        }
    }
}
