//! openraft's state machine over [`chat::state`] and [`storage::StateStore`]: decode, decide, write, tell.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use chat::codec::{self, Kind};
use chat::command::{Command, ConversationCommand, EntryBatch, RetentionCommand};
use chat::ids::ShardId;
use chat::state::View;
use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use storage::{Applied, SnapshotChunk, SnapshotSource, StateStore, StorageError};
use tokio::sync::{Notify, watch};

use super::log_store::blocking;
use super::types::{
    Entry, EntryOutcome, LogId, Proposal, SnapshotMeta, StoredMembers, Types, io_error, log_id_of, position_of,
    stored_members_from_bytes, stored_members_to_bytes,
};
use crate::Feed;
use crate::repair::{Health, Source};
use crate::verify::Digests;

/// A snapshot on its way: read from the local store, or received from a peer.
pub(crate) type SnapshotData = Box<dyn SnapshotSource + Send>;
pub(crate) type RaftSnapshot =
    openraft::Snapshot<openraft::impls::leader_id_adv::LeaderId<u64, u64>, u64, openraft::EmptyNode, SnapshotData>;

/// Reads of a shard's state for the state machine and for queries.
#[derive(Clone)]
pub struct ShardView {
    state: StateStore,
    health: Arc<Health>,
}

impl ShardView {
    pub(crate) fn new(state: StateStore, health: Arc<Health>) -> Self {
        Self { state, health }
    }
}

impl View for ShardView {
    type Error = StorageError;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.health.check()?;
        self.health.seen(self.state.get(key))
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>, StorageError> {
        self.health.check()?;
        self.health.seen(self.state.scan(prefix, after, limit))
    }
}

/// What entries are applied to: goes on while the state is not shown.
struct Applying<'a>(&'a StateStore);

impl View for Applying<'_> {
    type Error = StorageError;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.0.get(key)
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>, StorageError> {
        self.0.scan(prefix, after, limit)
    }
}

/// Why an entry was not applied.
enum NotApplied {
    Storage(StorageError),
    Entry(codec::CodecError),
}

impl From<StorageError> for NotApplied {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<codec::CodecError> for NotApplied {
    fn from(error: codec::CodecError) -> Self {
        Self::Entry(error)
    }
}

/// One replica's state machine.
pub(crate) struct ShardState {
    shard: ShardId,
    state: StateStore,
    feed: Arc<dyn Feed>,
    /// Index of the last applied entry, for those who wait for it.
    applied: watch::Sender<u64>,
    chores: watch::Sender<Chores>,
    membership: Bytes,
    outbox_filled: Arc<Notify>,
    digests: Arc<Digests>,
    source: Arc<Source>,
    health: Arc<Health>,
    /// The last entry that the state has.
    through: Option<u64>,
    /// How often the state had been rebuilt when that was looked at.
    rebuilt: u64,
    /// Told when the record of nodes may have changed.
    roster_changed: Arc<Notify>,
}

/// What the state machine shares with the rest of its replica.
pub(crate) struct Shared {
    pub(crate) feed: Arc<dyn Feed>,
    pub(crate) applied: watch::Sender<u64>,
    pub(crate) chores: watch::Sender<Chores>,
    pub(crate) outbox_filled: Arc<Notify>,
    pub(crate) digests: Arc<Digests>,
    pub(crate) source: Arc<Source>,
    pub(crate) health: Arc<Health>,
    pub(crate) roster_changed: Arc<Notify>,
}

impl ShardState {
    pub(crate) fn new(shard: ShardId, state: StateStore, shared: Shared) -> Self {
        let Shared { feed, applied, chores, outbox_filled, digests, source, health, roster_changed } = shared;
        let now = state.applied();
        let through = now.position.map(|position| position.index);
        applied.send_replace(through.unwrap_or(0));
        let (membership, rebuilt) = (now.membership, health.times_rebuilt());
        Self {
            shard,
            state,
            feed,
            applied,
            chores,
            membership,
            outbox_filled,
            digests,
            source,
            health,
            through,
            rebuilt,
            roster_changed,
        }
    }

    /// Applies one entry, after the state was repaired if that takes it. None if the state has it already.
    async fn apply_whole(&mut self, entry: &Entry) -> Result<Option<EntryOutcome>, io::Error> {
        let health = self.health.clone();
        loop {
            let gate = health.gate.lock().await;
            self.see_rebuilt();
            if self.through.is_some_and(|through| entry.log_id.index <= through) {
                return Ok(None);
            }
            match self.apply_entry(entry) {
                Ok(outcome) => {
                    self.through = Some(entry.log_id.index);
                    self.applied.send_replace(entry.log_id.index);
                    return Ok(Some(outcome));
                }
                Err(NotApplied::Entry(error)) => return Err(io_error(error)),
                Err(NotApplied::Storage(error)) => {
                    drop(gate);
                    health.rebuilt_after(error).await.map_err(io_error)?;
                }
            }
        }
    }

    /// The state may have been rebuilt since the last entry.
    fn see_rebuilt(&mut self) {
        let rebuilt = self.health.times_rebuilt();
        if rebuilt != self.rebuilt {
            self.rebuilt = rebuilt;
            self.see_state();
            // What the state holds undelivered was not noticed entry by entry.
            self.outbox_filled.notify_one();
            self.roster_changed.notify_one();
        }
    }

    fn see_state(&mut self) {
        let now = self.state.applied();
        self.membership = now.membership;
        self.through = now.position.map(|position| position.index);
    }

    /// Pure decision, one write, then the events.
    fn apply_entry(&mut self, entry: &Entry) -> Result<EntryOutcome, NotApplied> {
        let index = entry.log_id.index;
        let mut delta = chat::state::Delta::default();
        let (mut to_compare, mut of_cluster) = (false, false);
        match &entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Normal(Proposal(bytes)) => {
                let batch: EntryBatch = codec::decode(Kind::Entry, bytes)?;
                to_compare = batch.commands.contains(&Command::Compare);
                self.look_for_chores(index, &batch);
                of_cluster = self.shard == ShardId::META
                    && batch.commands.iter().any(|command| matches!(command, Command::Cluster(_)));
                delta = chat::state::apply(&Applying(&self.state), index, &batch)?;
            }
            EntryPayload::Membership(members) => {
                let stored = StoredMembers::new(Some(entry.log_id), members.clone());
                self.membership = stored_members_to_bytes(&stored)?;
            }
        }
        let fills_outbox = chat::state::query::touches_outbox(&delta);
        let applied = Applied { position: Some(position_of(&entry.log_id)), membership: self.membership.clone() };
        self.state.apply(delta.writes, applied)?;
        if to_compare {
            self.digests.make(index, self.state.freeze(), &self.health);
            self.source.begin(|| self.state.freeze(), &self.health);
        }
        if of_cluster {
            self.roster_changed.notify_one();
        }
        if fills_outbox {
            self.outbox_filled.notify_one();
        }
        if !delta.events.is_empty() {
            self.feed.committed(self.shard, index, delta.events.into());
        }
        Ok(EntryOutcome { outcomes: delta.outcomes.into() })
    }
}

/// What entries left to be done in the background.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Chores {
    /// Up to which entry the log may be let go of.
    pub(crate) purge: u64,
    /// The last entry that deleted events, or the bodies of some.
    pub(crate) trimmed: u64,
}

impl ShardState {
    fn look_for_chores(&self, index: u64, batch: &EntryBatch) {
        for command in &batch.commands {
            match command {
                Command::Retention(RetentionCommand::Purge { through }) => {
                    self.chores.send_modify(|chores| chores.purge = *through);
                }
                Command::Retention(RetentionCommand::Trim { .. })
                | Command::Conversation { command: ConversationCommand::Recall { .. }, .. } => {
                    self.chores.send_modify(|chores| chores.trimmed = index);
                }
                _ => {}
            }
        }
    }
}

impl RaftStateMachine<Types> for ShardState {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembers), io::Error> {
        let applied = self.state.applied();
        let members = stored_members_from_bytes(&applied.membership).map_err(io_error)?;
        Ok((applied.position.map(log_id_of), members))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            // Without an outcome whoever proposed it hears that it is not known.
            if let (Some(outcome), Some(responder)) = (self.apply_whole(&entry).await?, responder) {
                responder.send(outcome);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { state: self.state.clone() }
    }

    async fn install_snapshot(&mut self, _meta: &SnapshotMeta, mut snapshot: SnapshotData) -> Result<(), io::Error> {
        let state = self.state.clone();
        let health = self.health.clone();
        let _gate = health.gate.lock().await;
        blocking(move || state.install(snapshot.as_mut())).await?;
        self.see_state();
        let index = self.through.unwrap_or(0);
        self.applied.send_replace(index);
        // Sessions may hold positions from before the jump: they read the rest from the log.
        self.feed.jumped(self.shard, index);
        self.roster_changed.notify_one();
        Ok(())
    }

    /// Made when it is asked for: entries are applied while it is copied and sent.
    async fn get_current_snapshot(&mut self) -> Result<Option<RaftSnapshot>, io::Error> {
        let applied = self.state.applied();
        applied.position.map(|_| raft_snapshot(self.state.snapshot())).transpose()
    }
}

pub(crate) struct Builder {
    state: StateStore,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotData;

    /// The state is its own snapshot. That it is on the disk before the log is purged is the purger's business
    /// (`Replica::let_go`): openraft purges nothing by itself.
    async fn build_snapshot(&mut self) -> Result<RaftSnapshot, io::Error> {
        let applied = self.state.applied();
        raft_snapshot(Noted(storage::SnapshotMeta { applied, id: String::new() }))
    }
}

/// What [`RaftSnapshotBuilder`] makes: openraft takes note of the position, and asks for a snapshot anew to send one.
struct Noted(storage::SnapshotMeta);

impl SnapshotSource for Noted {
    fn meta(&self) -> &storage::SnapshotMeta {
        &self.0
    }

    fn next(&mut self) -> Result<Option<SnapshotChunk>, StorageError> {
        Err(StorageError::Source { reason: "it is not made to be sent".to_owned() })
    }
}

fn raft_snapshot(snapshot: impl SnapshotSource + Send + 'static) -> Result<RaftSnapshot, io::Error> {
    let meta = snapshot_meta(&snapshot.meta().applied).map_err(io_error)?;
    Ok(RaftSnapshot { meta, snapshot: Box::new(snapshot) })
}

pub(crate) fn snapshot_meta(applied: &Applied) -> Result<SnapshotMeta, codec::CodecError> {
    Ok(SnapshotMeta {
        last_log_id: applied.position.map(log_id_of),
        last_membership: stored_members_from_bytes(&applied.membership)?,
    })
}
