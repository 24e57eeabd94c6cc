//! Copies of a shard: built here in sealed chunks, streamed to another node with the log records.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use chat::ids::ShardId;

use crate::disk::Write;
use crate::error::StorageError;
use crate::key::{self, meta};
use crate::limits::{CHUNK_BYTES, CHUNKS_IN_QUEUE, RECORDS_CHUNK_BYTES};
use crate::log::LogShared;
use crate::queue::{Job, Work};
use crate::record::{self, Applied, SnapshotChunk, SnapshotMeta, SnapshotRecord};
use crate::shared::Shared;
use crate::state::{StateShared, StateStore};

/// Where a snapshot comes from: state chunks in key order, then log records in index order.
pub trait SnapshotSource {
    fn meta(&self) -> &SnapshotMeta;

    /// The next chunk, none at the end. An error ends the stream.
    fn next(&mut self) -> Result<Option<SnapshotChunk>, StorageError>;
}

/// A built snapshot. Its chunks stay on disk while it is held, even if a newer one has replaced it.
#[derive(Clone)]
pub struct Snapshot {
    pub meta: SnapshotMeta,
    chunks: Arc<Chunks>,
    log: Arc<LogShared>,
}

/// The stored chunks of one snapshot, removed when it is replaced and nobody reads it any more.
struct Chunks {
    shared: Arc<Shared>,
    shard: ShardId,
    generation: u32,
    count: u32,
    replaced: AtomicBool,
}

/// The newest snapshot of a shard, and the number of the next.
pub(crate) struct CurrentSnapshot {
    stored: Option<Snapshot>,
    next_generation: u32,
}

impl CurrentSnapshot {
    pub(crate) fn load(shared: &Arc<Shared>, log: &Arc<LogShared>) -> Result<Self, StorageError> {
        let record: Option<SnapshotRecord> = shared.disk.load(&key::named(log.shard, meta::SNAPSHOT))?;
        let Some(record) = record else { return Ok(Self { stored: None, next_generation: 1 }) };
        let next_generation = record.generation.wrapping_add(1);
        Ok(Self { stored: Some(Snapshot::new(log, record)), next_generation })
    }

    pub(crate) fn generation(&self) -> Option<u32> {
        self.stored.as_ref().map(|stored| stored.chunks.generation)
    }

    /// Copies the state at one applied position. Durable on return, and so is the state up to that position.
    pub(crate) fn build(&mut self, state: &Arc<StateShared>, id: Option<String>) -> Result<Snapshot, StorageError> {
        let generation = self.next_generation;
        self.next_generation = generation.wrapping_add(1);
        let mut pinned = state.pin();
        let mut writer = ChunkWriter::new(state, generation);
        for pair in pinned.pairs() {
            writer.add(pair?)?;
        }
        writer.finish()?;
        let applied = pinned.applied.clone();
        drop(pinned);

        state.shared.durably(Work::Checkpoint(state.clone()))?;
        let id = id.unwrap_or_else(|| name(&applied, generation));
        let meta = SnapshotMeta { applied, id };
        let record = SnapshotRecord { meta, generation, chunks: writer.chunks };
        let write = state.shared.disk.seal(key::named(state.shard, meta::SNAPSHOT), &record::encode(&record));
        state.shared.durably(Work::Writes(vec![write]))?;

        let snapshot = Snapshot::new(&state.log, record);
        if let Some(older) = self.stored.replace(snapshot.clone()) {
            older.chunks.replaced.store(true, Ordering::Release);
        }
        Ok(snapshot)
    }
}

fn name(applied: &Applied, generation: u32) -> String {
    match applied.position {
        Some(position) => format!("{}-{}-{}-{generation}", position.term, position.node, position.index),
        None => format!("empty-{generation}"),
    }
}

/// Packs pairs into stored chunks.
struct ChunkWriter<'a> {
    state: &'a StateShared,
    generation: u32,
    chunks: u32,
    pairs: Vec<(Bytes, Bytes)>,
    bytes: usize,
}

impl<'a> ChunkWriter<'a> {
    fn new(state: &'a StateShared, generation: u32) -> Self {
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
    fn new(log: &Arc<LogShared>, record: SnapshotRecord) -> Self {
        let chunks = Chunks {
            shared: log.shared.clone(),
            shard: log.shard,
            generation: record.generation,
            count: record.chunks,
            replaced: AtomicBool::new(false),
        };
        Self { meta: record.meta, chunks: Arc::new(chunks), log: log.clone() }
    }

    /// A new stream over the snapshot, from its beginning.
    pub fn source(&self) -> Box<dyn SnapshotSource + Send> {
        Box::new(StoredSource { snapshot: self.clone(), next_chunk: 0, next_record: 0 })
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        if !*self.replaced.get_mut() {
            return;
        }
        let chunks = (0..self.count).map(|number| key::chunk(self.shard, self.generation, number));
        let work = Work::Writes(chunks.map(Write::remove).collect());
        self.shared.queue.push_unbounded(Job { work, done: None });
    }
}

struct StoredSource {
    snapshot: Snapshot,
    next_chunk: u32,
    next_record: u64,
}

impl StoredSource {
    fn state_chunk(&mut self) -> Result<SnapshotChunk, StorageError> {
        let chunks = &self.snapshot.chunks;
        let key = key::chunk(chunks.shard, chunks.generation, self.next_chunk);
        self.next_chunk += 1;
        let pairs = chunks.shared.disk.load(&key)?;
        pairs.map(SnapshotChunk::State).ok_or(StorageError::Replaced { shard: chunks.shard })
    }

    fn records_chunk(&mut self) -> Result<Option<SnapshotChunk>, StorageError> {
        let Some(last) = self.snapshot.meta.applied.position else { return Ok(None) };
        let records = self.snapshot.log.stored(self.next_record, last.index, RECORDS_CHUNK_BYTES)?;
        let Some(newest) = records.last() else { return Ok(None) };
        self.next_record = newest.position.index + 1;
        Ok(Some(SnapshotChunk::Records(records)))
    }
}

impl SnapshotSource for StoredSource {
    fn meta(&self) -> &SnapshotMeta {
        &self.snapshot.meta
    }

    fn next(&mut self) -> Result<Option<SnapshotChunk>, StorageError> {
        if self.next_chunk < self.snapshot.chunks.count {
            return self.state_chunk().map(Some);
        }
        self.records_chunk()
    }
}

impl StateStore {
    /// Copies the state into a snapshot that replaces the one before. Durable on return. Reads the whole state: for
    /// the blocking pool.
    pub fn snapshot(&self) -> Result<Snapshot, StorageError> {
        self.0.current.lock().build(&self.0, None)
    }

    /// The newest snapshot. Waits while one is built or installed.
    pub fn current_snapshot(&self) -> Result<Option<Snapshot>, StorageError> {
        Ok(self.0.current.lock().stored.clone())
    }
}
