//! Another replica's state in place of ours: staged beside what is there, compared, then made valid in one atomic write.
//! The log and the vote stay as they are (docs/adr/0016).
//!
//! **Invariant:** until that write the old state is whole. A staged generation is in no marker: whoever opens the database
//! next removes it.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::StorageError;
use crate::install::remove_range;
use crate::key::{self, Space, meta};
use crate::limits::{STATE_KEY_BYTES, STATE_VALUE_BYTES};
use crate::log::LogStore;
use crate::queue::Work;
use crate::record::{self, Applied, StateMarker};
use crate::state::{Flip, PairHasher, StateDigest, StateShared, StateStore};

/// A whole state beside the one that is valid. Removed when it is dropped.
pub struct StagedState {
    state: Arc<StateShared>,
    generation: u32,
    applied: Applied,
    digest: StateDigest,
    valid: bool,
}

impl StateStore {
    /// Stores the pairs of another replica's state as it is at `applied`; they come in key order, and nothing is visible
    /// yet. Between this and [`StagedState::replace`] nothing may be applied or installed. Waits for the disk: for the
    /// blocking pool.
    pub fn stage(
        &self,
        applied: Applied,
        pieces: impl Iterator<Item = Result<Vec<(Bytes, Bytes)>, StorageError>>,
    ) -> Result<StagedState, StorageError> {
        let state = self.0.clone();
        let generation = state.generation().wrapping_add(1);
        let digest = StateDigest { applied: applied.position, digest: [0; 32], records: 0 };
        let mut staged = StagedState { state, generation, applied, digest, valid: false };
        // A staged one that could not be removed.
        staged.remove(generation)?;
        let mut hasher = PairHasher::default();
        let mut last = Bytes::new();
        for piece in pieces {
            staged.take(piece?, &mut last, &mut hasher)?;
        }
        staged.digest = hasher.finish(staged.applied.position);
        Ok(staged)
    }

    /// Writes the named records of this shard again, as they are in memory. Durable on return.
    pub fn rewrite_meta(&self) -> Result<(), StorageError> {
        LogStore(self.0.log.clone()).rewrite_meta()?;
        self.0.touch();
        self.0.shared.durably(Work::Checkpoint(self.0.clone()))
    }
}

impl StagedState {
    /// Of all that was staged.
    pub fn digest(&self) -> StateDigest {
        self.digest
    }

    /// It becomes the state. Durable on return.
    pub fn replace(mut self) -> Result<(), StorageError> {
        let old = self.state.generation();
        let marker = StateMarker { generation: self.generation, applied: self.applied.clone() };
        let flip = Flip { state: self.state.clone(), marker, moves_log: false };
        self.state.shared.durably(Work::Flip(Box::new(flip)))?;
        self.valid = true;
        self.remove(old)
    }

    fn take(&self, pairs: Vec<(Bytes, Bytes)>, last: &mut Bytes, hasher: &mut PairHasher) -> Result<(), StorageError> {
        let mut writes = Vec::with_capacity(pairs.len());
        for (rest, value) in pairs {
            if rest.len() > STATE_KEY_BYTES || value.len() > STATE_VALUE_BYTES {
                return Err(StorageError::Source { reason: "a state record is over its limit".to_owned() });
            }
            if rest <= *last {
                return Err(StorageError::Source { reason: "state records are not in order".to_owned() });
            }
            hasher.add(&rest, &value);
            let key = key::state(self.state.shard, self.generation, &rest);
            writes.push(self.state.shared.disk.seal(key, &value));
            *last = rest;
        }
        // Waits for each piece: a whole state in the queue would keep every other shard waiting.
        self.state.shared.durably(Work::Writes(writes))
    }

    fn remove(&self, generation: u32) -> Result<(), StorageError> {
        let shared = &self.state.shared;
        let range = key::generation_range(self.state.shard, Space::State, generation);
        remove_range(&shared.disk, range, |writes| shared.durably(Work::Writes(writes)))
    }
}

impl Drop for StagedState {
    fn drop(&mut self) {
        if !self.valid {
            // If the engine has ended, whoever opens the database next removes it.
            let _ = self.remove(self.generation);
        }
    }
}

impl LogStore {
    fn rewrite_meta(&self) -> Result<(), StorageError> {
        let (log, shared) = (&self.0, &self.0.shared);
        // Nobody changes them meanwhile.
        let _votes = log.hold_votes();
        let _held = log.hold();
        let mut writes = Vec::new();
        let mut write = |name, plain: Bytes| writes.push(shared.disk.seal(key::named(log.shard, name), &plain));
        if let Some(vote) = self.vote()? {
            write(meta::VOTE, record::encode(&vote));
        }
        if let Some(purged) = self.bounds().purged {
            write(meta::PURGED, record::encode(&purged));
        }
        write(meta::COMMITTED, record::encode(&self.committed()?));
        shared.durably(Work::Writes(writes))
    }
}
