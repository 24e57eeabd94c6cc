//! Copies of a shard for another node: the state at one instant, and the log records that its messages are read from.
//!
//! Nothing is copied before somebody needs it. Then the state is written to sealed chunks beside it first: reading them
//! out to another node takes as long as that node and the network do, and until the copy is made what is applied meanwhile
//! stays in memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::disk::Write;
use crate::error::StorageError;
use crate::key;
use crate::limits::{CHUNK_BYTES, CHUNKS_IN_QUEUE, RECORDS_CHUNK_BYTES};
use crate::queue::{Job, Work};
use crate::record::{self, Applied, SnapshotChunk, SnapshotMeta};
use crate::state::{Pinned, StateShared, StateStore};

/// Where a snapshot comes from: state chunks in key order, then log records in index order.
pub trait SnapshotSource {
    fn meta(&self) -> &SnapshotMeta;

    /// Whoever takes it has the log records up to `index`: they are left out.
    fn has_records(&mut self, _index: u64) {}

    /// The next chunk, none at the end. An error ends the stream.
    fn next(&mut self) -> Result<Option<SnapshotChunk>, StorageError>;
}

/// A copy of a shard, to be read once. As long as there is one, no log record of its shard is collected.
pub struct Snapshot {
    meta: SnapshotMeta,
    state: Arc<StateShared>,
    generation: u32,
    from: From,
    next_record: u64,
}

/// Where the state's part comes from.
enum From {
    /// Held still in memory, not copied yet.
    Memory(Pinned),
    Chunks {
        next: u32,
        count: u32,
    },
}

fn name(applied: &Applied, generation: u32) -> String {
    match applied.position {
        Some(position) => format!("{}-{}-{}-{generation}", position.term, position.node, position.index),
        None => format!("empty-{generation}"),
    }
}

/// Packs pairs into stored chunks.
struct ChunkWriter<'a> {
    state: &'a Arc<StateShared>,
    generation: u32,
    chunks: u32,
    pairs: Vec<(Bytes, Bytes)>,
    bytes: usize,
}

impl<'a> ChunkWriter<'a> {
    fn new(state: &'a Arc<StateShared>, generation: u32) -> Self {
        Self { state, generation, chunks: 0, pairs: Vec::new(), bytes: 0 }
    }

    fn add(&mut self, pair: (Bytes, Bytes)) -> Result<(), StorageError> {
        // Lengths in front of key and value take up to ten bytes.
        let bytes = pair.0.len() + pair.1.len() + 10;
        if self.bytes + bytes > CHUNK_BYTES {
            self.finish()?;
        }
        self.bytes += bytes;
        self.pairs.push(pair);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), StorageError> {
        if self.pairs.is_empty() {
            return Ok(());
        }
        let key = key::chunk(self.state.shard, self.generation, self.chunks);
        let plain = record::encode(&std::mem::take(&mut self.pairs));
        self.bytes = 0;
        self.chunks += 1;
        let write = vec![self.state.shared.disk.seal(key, &plain)];
        // Some chunks at a time: a whole snapshot in the queue would keep every other shard waiting.
        if self.chunks.is_multiple_of(CHUNKS_IN_QUEUE) {
            self.state.shared.durably(Work::Writes(write))
        } else {
            self.state.shared.write(write)
        }
    }
}

impl Snapshot {
    fn new(state: &Arc<StateShared>) -> Self {
        // First of all: the collector looks at it before it removes anything.
        state.copies.fetch_add(1, Ordering::SeqCst);
        let generation = state.next_copy.fetch_add(1, Ordering::Relaxed);
        let pinned = state.pin();
        let applied = pinned.applied.clone();
        let meta = SnapshotMeta { id: name(&applied, generation), applied };
        Self { meta, state: state.clone(), generation, from: From::Memory(pinned), next_record: 0 }
    }

    /// Copies the state into chunks, unless that is done.
    fn copy(&mut self) -> Result<(), StorageError> {
        let From::Memory(pinned) = &mut self.from else { return Ok(()) };
        let mut writer = ChunkWriter::new(&self.state, self.generation);
        let copied = pinned.pairs().try_for_each(|pair| writer.add(pair?)).and_then(|()| writer.finish());
        let (count, replaced) = (writer.chunks, pinned.is_replaced());
        // What was written is removed at the end, also after an error.
        self.from = From::Chunks { next: 0, count };
        copied?;
        if replaced { Err(StorageError::Replaced { shard: self.state.shard }) } else { self.settle() }
    }

    /// What is in the queue can be read only once it is in sled.
    fn settle(&self) -> Result<(), StorageError> {
        self.state.shared.durably(Work::Writes(Vec::new()))
    }

    fn records(&mut self) -> Result<Option<SnapshotChunk>, StorageError> {
        let Some(last) = self.meta.applied.position else { return Ok(None) };
        let records = self.state.log.stored(self.next_record, last.index, RECORDS_CHUNK_BYTES)?;
        let Some(newest) = records.last() else { return Ok(None) };
        self.next_record = newest.position.index + 1;
        Ok(Some(SnapshotChunk::Records(records)))
    }
}

impl SnapshotSource for Snapshot {
    fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    fn has_records(&mut self, index: u64) {
        self.next_record = self.next_record.max(index.saturating_add(1));
    }

    /// The first call copies the state: for the blocking pool.
    fn next(&mut self) -> Result<Option<SnapshotChunk>, StorageError> {
        self.copy()?;
        let (shard, generation) = (self.state.shard, self.generation);
        match &mut self.from {
            From::Chunks { next, count } if *next < *count => {
                let key = key::chunk(shard, generation, *next);
                *next += 1;
                let pairs = self.state.shared.disk.load(&key)?;
                pairs.map(SnapshotChunk::State).map(Some).ok_or(StorageError::Replaced { shard })
            }
            _ => self.records(),
        }
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if let From::Chunks { count, .. } = self.from {
            let chunks = (0..count).map(|number| key::chunk(self.state.shard, self.generation, number));
            let work = Work::Writes(chunks.map(Write::remove).collect());
            self.state.shared.queue.push_unbounded(Job { work, done: None });
        }
        self.state.copies.fetch_sub(1, Ordering::SeqCst);
    }
}

impl StateStore {
    /// What is applied now, for another node. Costs next to nothing until it is read.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(&self.0)
    }

    /// Whether another node is getting a copy.
    pub fn is_copied(&self) -> bool {
        self.0.copies.load(Ordering::SeqCst) > 0
    }
}
