//! openraft's state machine over [`chat::state`] and [`storage::StateStore`]: decode, decide, write, tell.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use chat::codec::{self, Kind};
use chat::command::{Command, EntryBatch, RetentionCommand};
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
use crate::verify::Digests;

/// A snapshot on its way: read from the local store, or received from a peer.
pub(crate) type SnapshotData = Box<dyn SnapshotSource + Send>;
pub(crate) type RaftSnapshot =
    openraft::Snapshot<openraft::impls::leader_id_adv::LeaderId<u64, u64>, u64, openraft::EmptyNode, SnapshotData>;

/// Reads of a shard's state for the state machine and for queries.
#[derive(Clone)]
pub struct ShardView {
    state: StateStore,
}

impl ShardView {
    pub(crate) fn new(state: StateStore) -> Self {
        Self { state }
    }
}

impl View for ShardView {
    type Error = StorageError;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.state.get(key)
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>, StorageError> {
        self.state.scan(prefix, after, limit)
    }
}

/// One replica's state machine.
pub(crate) struct ShardState {
    shard: ShardId,
    state: StateStore,
    feed: Arc<dyn Feed>,
    told: Told,
    membership: Bytes,
}

/// Who is told of what is applied, besides the feed.
pub(crate) struct Told {
    /// Index of the last applied entry, for those who wait for it.
    pub(crate) applied: watch::Sender<u64>,
    pub(crate) chores: watch::Sender<Chores>,
    pub(crate) outbox_filled: Arc<Notify>,
    pub(crate) digests: Arc<Digests>,
}

impl ShardState {
    pub(crate) fn new(shard: ShardId, state: StateStore, feed: Arc<dyn Feed>, told: Told) -> Self {
        let now = state.applied();
        told.applied.send_replace(now.position.map_or(0, |position| position.index));
        Self { shard, state, feed, told, membership: now.membership }
    }

    /// Applies one entry: pure decision, one write, then the events.
    fn apply_entry(&mut self, entry: &Entry) -> Result<EntryOutcome, io::Error> {
        let index = entry.log_id.index;
        let mut delta = chat::state::Delta::default();
        let mut to_compare = false;
        match &entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Normal(Proposal(bytes)) => {
                let batch: EntryBatch = codec::decode(Kind::Entry, bytes).map_err(io_error)?;
                to_compare = batch.commands.contains(&Command::Compare);
                self.told.look_for_chores(index, &batch);
                let view = ShardView { state: self.state.clone() };
                delta = chat::state::apply(&view, index, &batch).map_err(io_error)?;
            }
            EntryPayload::Membership(members) => {
                let stored = StoredMembers::new(Some(entry.log_id), members.clone());
                self.membership = stored_members_to_bytes(&stored).map_err(io_error)?;
            }
        }
        let fills_outbox = chat::state::query::touches_outbox(&delta);
        let applied = Applied { position: Some(position_of(&entry.log_id)), membership: self.membership.clone() };
        self.state.apply(delta.writes, applied).map_err(io_error)?;
        if to_compare {
            self.told.digests.make(index, self.state.freeze());
        }
        if fills_outbox {
            self.told.outbox_filled.notify_one();
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
    /// The last entry that deleted events.
    pub(crate) trimmed: u64,
}

impl Told {
    fn look_for_chores(&self, index: u64, batch: &EntryBatch) {
        for command in &batch.commands {
            match command {
                Command::Retention(RetentionCommand::Purge { through }) => {
                    self.chores.send_modify(|chores| chores.purge = *through);
                }
                Command::Retention(RetentionCommand::Trim { .. }) => {
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
            let outcome = self.apply_entry(&entry)?;
            if let Some(responder) = responder {
                responder.send(outcome);
            }
            self.told.applied.send_replace(entry.log_id.index);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { state: self.state.clone() }
    }

    async fn install_snapshot(&mut self, _meta: &SnapshotMeta, mut snapshot: SnapshotData) -> Result<(), io::Error> {
        let state = self.state.clone();
        blocking(move || state.install(snapshot.as_mut())).await?;
        let applied = self.state.applied();
        self.membership = applied.membership;
        let index = applied.position.map_or(0, |position| position.index);
        self.told.applied.send_replace(index);
        // Sessions may hold positions from before the jump: they read the rest from the log.
        self.feed.jumped(self.shard, index);
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
