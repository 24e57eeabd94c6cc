//! A shard as it is at one applied position, to be taken elsewhere at leisure: the state is copied into a spool at once,
//! so that it is held still for as long as that takes and not for as long as the reader does; log records do not change
//! and are read when they are asked for.

use std::sync::Arc;

use chat::ids::ShardId;
use serde::{Deserialize, Serialize};

use crate::error::StorageError;
use crate::limits::{CHUNK_BYTES, RECORDS_CHUNK_BYTES};
use crate::log::LogShared;
use crate::queue::Work;
use crate::record::{Applied, SnapshotChunk};
use crate::spool::{SpoolReader, Spools};
use crate::state::{PairHasher, StateShared, StateStore};

/// Where a shard was cut, and what its state was there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    pub shard: ShardId,
    pub applied: Applied,
    /// Of the state, as [`crate::StateDigest`] has it.
    pub digest: [u8; 32],
    /// Records of the state.
    pub records: u64,
}

/// The copy: state chunks in key order, then log records in index order, as far as they exist.
pub struct ShardCopy {
    cut: Cut,
    pairs: SpoolReader,
    log: Arc<LogShared>,
    next_record: u64,
}

impl StateStore {
    /// Copies the state. Reads all of it: for the blocking pool.
    pub fn copy(&self, spools: &Spools) -> Result<ShardCopy, StorageError> {
        loop {
            if let Some((cut, pairs)) = copy_pairs(&self.0, spools)? {
                // A follower may have applied what its own disk does not have yet.
                self.0.shared.durably(Work::Checkpoint(self.0.clone()))?;
                return Ok(ShardCopy { cut, pairs, log: self.0.log.clone(), next_record: 0 });
            }
        }
    }
}

/// None if another state was installed meanwhile.
fn copy_pairs(state: &Arc<StateShared>, spools: &Spools) -> Result<Option<(Cut, SpoolReader)>, StorageError> {
    let mut spool = spools.begin()?;
    let mut digest = PairHasher::default();
    let mut pinned = state.pin();
    let (mut pairs, mut bytes) = (Vec::new(), 0);
    for pair in pinned.pairs() {
        let (key, value) = pair?;
        digest.add(&key, &value);
        bytes += key.len() + value.len();
        pairs.push((key, value));
        if bytes > CHUNK_BYTES {
            spool.add(&SnapshotChunk::State(std::mem::take(&mut pairs)))?;
            bytes = 0;
        }
    }
    if !pairs.is_empty() {
        spool.add(&SnapshotChunk::State(pairs))?;
    }
    if pinned.is_replaced() {
        return Ok(None);
    }
    let applied = pinned.applied.clone();
    let digest = digest.finish(applied.position);
    let cut = Cut { shard: state.shard, applied, digest: digest.digest, records: digest.records };
    Ok(Some((cut, spool.finish()?)))
}

impl ShardCopy {
    pub fn cut(&self) -> &Cut {
        &self.cut
    }

    /// The next chunk, none at the end. For the blocking pool.
    pub fn next_chunk(&mut self) -> Result<Option<SnapshotChunk>, StorageError> {
        if let Some(chunk) = self.pairs.next_chunk()? {
            return Ok(Some(chunk));
        }
        let Some(last) = self.cut.applied.position else { return Ok(None) };
        let records = self.log.stored(self.next_record, last.index, RECORDS_CHUNK_BYTES)?;
        let Some(newest) = records.last() else { return Ok(None) };
        self.next_record = newest.position.index + 1;
        Ok(Some(SnapshotChunk::Records(records)))
    }
}
