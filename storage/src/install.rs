//! Taking over another node's snapshot: staged beside what is there, then made valid in one atomic write.
//!
//! **Invariant:** until that write the old state and log are whole. What was staged is listed in the `installing`
//! record, which is written first; whoever opens the database next removes it.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Disk, Write};
use crate::error::StorageError;
use crate::key::{self, Space, meta};
use crate::limits::{STATE_KEY_BYTES, STATE_VALUE_BYTES};
use crate::log::LogBounds;
use crate::queue::Work;
use crate::record::{self, Installing, LogPosition, LogRecord, SnapshotChunk, SnapshotMeta, StateMarker};
use crate::snapshot::SnapshotSource;
use crate::state::{Flip, StateShared, StateStore};

/// Keys removed in one request.
const REMOVE_KEYS: usize = 256;

impl StateStore {
    /// Replaces the state with the source's, takes over the log records that come with it and moves the log behind
    /// them. Durable on return; after an error of the source, or a crash on the way, everything is as before.
    pub fn install(&self, source: &mut dyn SnapshotSource) -> Result<(), StorageError> {
        let state = &self.0;
        let _installing = state.installing.lock();
        let held = state.log.hold();
        let meta = source.meta().clone();
        let old = state.generation();
        let mut stage = Stage {
            state,
            generation: old.wrapping_add(1),
            through: meta.applied.position,
            last: state.log.bounds().last,
            next: 0,
        };
        stage.begin()?;
        if let Err(error) = stage.take_all(source) {
            stage.undo()?;
            return Err(error);
        }
        stage.flip(&meta)?;
        let range = key::generation_range(state.shard, Space::State, old);
        remove_range(&state.shared.disk, range, |writes| state.shared.durably(Work::Writes(writes)))?;
        drop(held);
        Ok(())
    }
}

struct Stage<'a> {
    state: &'a Arc<StateShared>,
    generation: u32,
    /// The position the snapshot was taken at.
    through: Option<LogPosition>,
    /// The last record of our own log: later ones are staged.
    last: Option<LogPosition>,
    /// Records come in order from here on.
    next: u64,
}

impl Stage<'_> {
    fn begin(&self) -> Result<(), StorageError> {
        self.write(vec![self.note()])
    }

    fn note(&self) -> Write {
        let plain = record::encode(&Installing { last: self.last });
        self.state.shared.disk.seal(key::named(self.state.shard, meta::INSTALLING), &plain)
    }

    /// Waits for each piece: a whole snapshot in the queue would keep every other shard waiting.
    fn write(&self, writes: Vec<Write>) -> Result<(), StorageError> {
        self.state.shared.durably(Work::Writes(writes))
    }

    fn take_all(&mut self, source: &mut dyn SnapshotSource) -> Result<(), StorageError> {
        while let Some(chunk) = source.next()? {
            match chunk {
                SnapshotChunk::State(pairs) => self.take_state(pairs)?,
                SnapshotChunk::Records(records) => self.take_records(records)?,
            }
        }
        self.drop_conflict_at_end()
    }

    fn take_state(&self, pairs: Vec<(Bytes, Bytes)>) -> Result<(), StorageError> {
        let mut writes = Vec::with_capacity(pairs.len());
        for (rest, value) in pairs {
            if rest.len() > STATE_KEY_BYTES || value.len() > STATE_VALUE_BYTES {
                return Err(StorageError::Source { reason: "a state record is over its limit".to_owned() });
            }
            let key = key::state(self.state.shard, self.generation, &rest);
            writes.push(self.state.shared.disk.seal(key, &value));
        }
        self.write(writes)
    }

    fn take_records(&mut self, records: Vec<LogRecord>) -> Result<(), StorageError> {
        let mut writes = Vec::with_capacity(records.len());
        for record in records {
            let index = record.position.index;
            if index < self.next || self.through.is_none_or(|through| index > through.index) {
                return Err(StorageError::Source { reason: format!("log record {index} is out of place") });
            }
            self.next = index + 1;
            match self.state.log.get(index)? {
                Some(ours) if ours.position == record.position => continue,
                // Ours was never committed: what is committed is the same everywhere.
                Some(_) => self.truncate_before(index)?,
                None => {}
            }
            let key = key::log(self.state.shard, index);
            writes.push(self.state.shared.disk.seal(key, &record::encode(&record)));
        }
        self.write(writes)
    }

    /// Our own log ends before `index`, where it differs from the snapshot's.
    fn truncate_before(&mut self, index: u64) -> Result<(), StorageError> {
        let LogBounds { purged, .. } = self.state.log.bounds();
        let before = match index.checked_sub(1) {
            Some(before) => self.state.log.get(before)?.map(|record| record.position),
            None => None,
        };
        self.last = before.or(purged);
        self.state.log.truncate_held(self.last)?;
        self.write(vec![self.note()])
    }

    /// A log that goes on past the snapshot from another record than the snapshot's last is not the same log.
    fn drop_conflict_at_end(&mut self) -> Result<(), StorageError> {
        let Some(through) = self.through else { return Ok(()) };
        match self.state.log.get(through.index)? {
            Some(ours) if ours.position != through => self.truncate_before(through.index),
            _ => Ok(()),
        }
    }

    fn flip(&self, meta: &SnapshotMeta) -> Result<(), StorageError> {
        let marker = StateMarker { generation: self.generation, applied: meta.applied.clone() };
        self.state.shared.durably(Work::Flip(Box::new(Flip { state: self.state.clone(), marker, moves_log: true })))
    }

    fn undo(&self) -> Result<(), StorageError> {
        let disk = &self.state.shared.disk;
        let shard = self.state.shard;
        remove_range(disk, key::generation_range(shard, Space::State, self.generation), |writes| self.write(writes))?;
        remove_range(disk, staged_records(shard, self.last), |writes| self.write(writes))?;
        self.write(vec![Write::remove(key::named(shard, meta::INSTALLING))])
    }
}

/// Keys of the log records that an unfinished installation may have left.
pub(crate) fn staged_records(shard: chat::ids::ShardId, last: Option<LogPosition>) -> Range<Vec<u8>> {
    key::log_range(shard, last.map_or(0, |last| last.index + 1)..u64::MAX)
}

/// Removes every record in `range`, some at a time.
pub(crate) fn remove_range<E: From<StorageError>>(
    disk: &Disk,
    mut range: Range<Vec<u8>>,
    mut write: impl FnMut(Vec<Write>) -> Result<(), E>,
) -> Result<(), E> {
    loop {
        let keys = disk.keys(range.clone(), REMOVE_KEYS)?;
        let Some(last) = keys.last() else { return Ok(()) };
        range.start = [&last[..], &[0]].concat();
        write(keys.into_iter().map(Write::remove).collect())?;
    }
}
