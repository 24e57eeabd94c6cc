//! Data directories of a new cluster whose shards begin where those of another one were cut.
//!
//! Every node gets the same: state and messages up to the cut, the new membership, a log purged at the cut, and behind
//! it, committed already, what the restore itself has to say ([`RestoredShard::follow`]). So the shards' digests at their
//! cuts are those of the cluster that was backed up, and every node goes on from the same entry.

use std::collections::BTreeSet;

use bytes::Bytes;
use chat::codec::{self, CodecError, Kind};
use chat::command::EntryBatch;
use chat::ids::{NodeId, ShardId};
use chat::state::View;
use storage::{
    Applied, Engine, LogPayload, LogPosition, LogRecord, SnapshotChunk, SnapshotMeta, SnapshotSource, StateDigest,
    StateStore, StorageError,
};

use crate::consensus::types::{Members, MembershipRecord, VoteRecord};

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("shard {shard} cannot be stored")]
    Storage { shard: ShardId, source: StorageError },
    #[error("shard {shard} has a command that does not encode")]
    Encode { shard: ShardId, source: CodecError },
}

/// One shard in the data directory of a node that is not running.
pub struct RestoredShard {
    engine: Engine,
    shard: ShardId,
    position: LogPosition,
}

impl RestoredShard {
    /// Stores what `next` gives: the state at `position` and the log records up to there. It reads and writes all of it.
    pub fn install(
        engine: &Engine,
        shard: ShardId,
        position: LogPosition,
        members: &BTreeSet<NodeId>,
        next: impl FnMut() -> Result<Option<SnapshotChunk>, StorageError>,
    ) -> Result<Self, RestoreError> {
        let stored = |source| RestoreError::Storage { shard, source };
        let encoded = |source| RestoreError::Encode { shard, source };
        let membership = Members::new_with_defaults(vec![members.clone()], members.clone());
        let membership = MembershipRecord::new(Some(position), &membership).encode().map_err(encoded)?;
        let applied = Applied { position: Some(position), membership };
        let id = format!("restored-{}-{}", position.term, position.index);
        let mut source = Source { meta: SnapshotMeta { applied, id }, next };
        engine.state(shard).and_then(|state| state.install(&mut source)).map_err(stored)?;
        // Whoever leads next does so in a later term than any entry is of.
        let vote = VoteRecord { term: position.term, node: position.node, committed: false };
        let vote = codec::encode(Kind::Engine, &vote).map_err(encoded)?;
        engine.log(shard).and_then(|log| log.save_vote(vote)).map_err(stored)?;
        Ok(Self { engine: engine.clone(), shard, position })
    }

    /// Of the state as it is stored now.
    pub fn digest(&self) -> Result<StateDigest, RestoreError> {
        let digest = self.engine.state(self.shard).and_then(|state| state.digest());
        digest.map_err(|source| RestoreError::Storage { shard: self.shard, source })
    }

    /// Reads of the state at the cut.
    pub fn view(&self) -> Result<RestoredView, RestoreError> {
        let state = self.engine.state(self.shard);
        state.map(RestoredView).map_err(|source| RestoreError::Storage { shard: self.shard, source })
    }

    /// Puts entries behind the cut, one for each of `batches`, the same on every node. They are applied when the node
    /// starts.
    pub fn follow(&self, batches: &[EntryBatch]) -> Result<(), RestoreError> {
        let stored = |source| RestoreError::Storage { shard: self.shard, source };
        let mut records = Vec::with_capacity(batches.len());
        for (index, batch) in (self.position.index + 1..).zip(batches) {
            let payload = codec::encode(Kind::Entry, batch);
            let payload = payload.map_err(|source| RestoreError::Encode { shard: self.shard, source })?;
            let position = LogPosition { index, ..self.position };
            records.push(LogRecord { position, payload: LogPayload::Batch(payload) }.into());
        }
        let Some(last) = records.last().map(|record: &std::sync::Arc<LogRecord>| record.position) else {
            return Ok(());
        };
        let log = self.engine.log(self.shard).map_err(stored)?;
        let (sender, durable) = std::sync::mpsc::sync_channel(1);
        // The one who asked waits for the answer below.
        let answer = Box::new(move |result| drop(sender.send(result)));
        log.append(records, answer).map_err(stored)?;
        durable.recv().unwrap_or(Err(StorageError::Closed)).map_err(stored)?;
        log.save_committed(Some(last)).map_err(stored)
    }
}

/// Reads of a state that no replica runs on.
pub struct RestoredView(StateStore);

impl RestoredView {
    pub(crate) fn of(state: StateStore) -> Self {
        Self(state)
    }
}

impl View for RestoredView {
    type Error = StorageError;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.0.get(key)
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>, StorageError> {
        self.0.scan(prefix, after, limit)
    }
}

struct Source<N> {
    meta: SnapshotMeta,
    next: N,
}

impl<N: FnMut() -> Result<Option<SnapshotChunk>, StorageError>> SnapshotSource for Source<N> {
    fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    fn next(&mut self) -> Result<Option<SnapshotChunk>, StorageError> {
        (self.next)()
    }
}
