//! A copy of a shard on its way here: its chunks are kept sealed beside the state until all have come, so that neither
//! memory nor a connection that breaks limits how large a shard may be. What is left of one that never ended is removed
//! when the database is opened.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::disk::Write;
use crate::error::StorageError;
use crate::key;
use crate::limits::{CHUNKS_IN_QUEUE, PLAIN_BYTES};
use crate::queue::{Job, Work};
use crate::record::{self, SnapshotChunk, SnapshotMeta};
use crate::snapshot::SnapshotSource;
use crate::state::{StateShared, StateStore};

/// Takes chunks in order, then gives them back in order.
pub struct Arriving {
    meta: SnapshotMeta,
    state: Arc<StateShared>,
    generation: u32,
    count: u32,
    next: u32,
}

impl StateStore {
    /// Room for a snapshot that another node sends.
    pub fn receive(&self, meta: SnapshotMeta) -> Arriving {
        let generation = self.0.next_copy.fetch_add(1, Ordering::Relaxed);
        Arriving { meta, state: self.0.clone(), generation, count: 0, next: 0 }
    }
}

impl Arriving {
    /// Waits for the disk now and then: for the blocking pool.
    pub fn add(&mut self, chunk: &SnapshotChunk) -> Result<(), StorageError> {
        let plain = record::encode(chunk);
        if plain.len() > PLAIN_BYTES {
            return Err(StorageError::TooLarge { what: "a chunk of a snapshot", len: plain.len(), max: PLAIN_BYTES });
        }
        let shared = &self.state.shared;
        let write = vec![shared.disk.seal(key::chunk(self.state.shard, self.generation, self.count), &plain)];
        self.count += 1;
        // Some chunks at a time: a whole snapshot in the queue would keep every other shard waiting.
        if self.count.is_multiple_of(CHUNKS_IN_QUEUE) {
            shared.durably(Work::Writes(write))
        } else {
            shared.write(write)
        }
    }

    /// All have come: what is in the queue can be read once it is in sled.
    pub fn complete(&self) -> Result<(), StorageError> {
        self.state.shared.durably(Work::Writes(Vec::new()))
    }

    /// How many have come.
    pub fn chunks(&self) -> u32 {
        self.count
    }
}

impl SnapshotSource for Arriving {
    fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    fn next(&mut self) -> Result<Option<SnapshotChunk>, StorageError> {
        if self.next == self.count {
            return Ok(None);
        }
        let key = key::chunk(self.state.shard, self.generation, self.next);
        self.next += 1;
        let chunk = self.state.shared.disk.load(&key)?;
        chunk.map(Some).ok_or(StorageError::Replaced { shard: self.state.shard })
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        let chunks = (0..self.count).map(|number| key::chunk(self.state.shard, self.generation, number));
        let work = Work::Writes(chunks.map(Write::remove).collect());
        self.state.shared.queue.push_unbounded(Job { work, done: None });
    }
}
