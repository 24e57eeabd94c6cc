//! One shard's replicated state: an overlay in memory over a generation of records in sled.
//!
//! What is applied is visible at once and reaches sled in checkpoints, each atomic with its marker. A crash takes the
//! state back to the last checkpoint, and the log, which is durable before anybody is answered, replays.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize};
use std::time::Duration;

use bytes::Bytes;
use chat::ids::ShardId;
use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};

use crate::cache::Cache;
use crate::disk::Disk;
use crate::error::StorageError;
use crate::fault::WriteError;
use crate::key::{self, Space, meta};
use crate::limits::{
    CHECKPOINT_BYTES, CHECKPOINT_MS, OVERLAY_BYTES, STATE_CACHE_BYTES, STATE_KEY_BYTES, STATE_VALUE_BYTES,
};
use crate::log::LogShared;
use crate::merge::{Merge, StatePair, Writes};
use crate::queue::Work;
use crate::record::{self, Applied, LogPosition, StateMarker};
use crate::shared::Shared;

/// A digest of a shard's whole plain state at one applied position: equal on replicas that are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateDigest {
    pub applied: Option<LogPosition>,
    pub digest: [u8; 32],
    pub records: u64,
}

/// The replicated state of one shard.
#[derive(Clone)]
pub struct StateStore(pub(crate) Arc<StateShared>);

pub(crate) struct StateShared {
    pub(crate) shard: ShardId,
    pub(crate) shared: Arc<Shared>,
    pub(crate) log: Arc<LogShared>,
    memory: Mutex<Memory>,
    /// Signalled when a checkpoint has made room for more.
    room: Condvar,
    /// Held while a snapshot is installed: one at a time.
    pub(crate) installing: Mutex<()>,
    /// Copies that are made or read for other nodes.
    pub(crate) copies: AtomicUsize,
    /// The number of the next copy's chunks.
    pub(crate) next_copy: AtomicU32,
}

/// Writes that belong into one checkpoint, frozen.
struct Layer {
    writes: Writes,
    applied: Applied,
    bytes: usize,
}

#[derive(Default)]
struct Memory {
    generation: u32,
    applied: Applied,
    /// Applied and not yet frozen.
    active: Writes,
    active_bytes: usize,
    /// Whether anything was applied since the last freeze, be it only a position.
    changed: bool,
    /// Frozen and not yet in sled, oldest first.
    layers: Vec<Arc<Layer>>,
    /// How many of them the storage thread froze: the records that those rest on are drained before they are written.
    /// A copy freezes too, at any time.
    ready: usize,
    /// Of what is in sled; the overlay above is newer.
    cache: Cache,
    /// Counts what became of the cache's ground: a value read before the last change may be an older one.
    changes: u64,
    /// How many copies of the state are being made: while there is one, layers stay in memory, so that
    /// sled's part of what they read does not move.
    pins: usize,
    /// Whether the storage thread knows that there is something to do.
    announced: bool,
    urgent: bool,
}

/// The state at one instant, for a reader that needs all of it.
pub(crate) struct Pinned {
    state: Arc<StateShared>,
    generation: u32,
    overlay: Writes,
    pub(crate) applied: Applied,
}

/// A staged generation that becomes the state, with the log moved behind it.
pub(crate) struct Flip {
    pub(crate) state: Arc<StateShared>,
    pub(crate) marker: StateMarker,
    /// Whether the log begins after it. It does after another node's snapshot, and goes on as it is if only the state was
    /// rebuilt.
    pub(crate) moves_log: bool,
}

impl StateShared {
    pub(crate) fn open(shared: Arc<Shared>, log: Arc<LogShared>) -> Result<Self, StorageError> {
        let shard = log.shard;
        let marker: StateMarker = shared.disk.load(&key::named(shard, meta::APPLIED))?.unwrap_or_default();
        let memory = Memory {
            generation: marker.generation,
            applied: marker.applied,
            cache: Cache::new(STATE_CACHE_BYTES),
            ..Memory::default()
        };
        let (memory, room, installing, copies) =
            (Mutex::new(memory), Condvar::new(), Mutex::default(), AtomicUsize::default());
        Ok(Self { shard, shared, log, memory, room, installing, copies, next_copy: AtomicU32::new(1) })
    }

    pub(crate) fn generation(&self) -> u32 {
        self.memory.lock().generation
    }

    pub(crate) fn is_urgent(&self) -> bool {
        self.memory.lock().urgent
    }

    /// What is applied by now becomes one checkpoint's content.
    pub(crate) fn freeze(&self) {
        let mut memory = self.memory.lock();
        memory.freeze();
        memory.ready = memory.layers.len();
    }

    /// Writes what is frozen, on the storage thread. False while the state is being copied.
    pub(crate) fn checkpoint(&self, disk: &Disk) -> Result<bool, WriteError> {
        let (layers, generation) = {
            let memory = self.memory.lock();
            if memory.pins > 0 {
                return Ok(false);
            }
            (memory.layers[..memory.ready].to_vec(), memory.generation)
        };
        let Some(newest) = layers.last() else { return Ok(true) };
        let marker = StateMarker { generation, applied: newest.applied.clone() };
        debug_assert!(
            marker.applied.position.is_none_or(|position| self.log.is_written(position.index)),
            "the storage thread freezes before it drains"
        );
        let writes = overlay(&layers, &BTreeMap::new(), everything());
        let mut batch: Vec<_> =
            writes.iter().map(|(rest, value)| self.write(disk, generation, rest, value.as_ref())).collect();
        batch.push(disk.seal(key::named(self.shard, meta::APPLIED), &record::encode(&marker)));
        disk.write_atomically(batch)?;
        let mut memory = self.memory.lock();
        memory.layers.drain(..layers.len());
        memory.ready -= layers.len();
        memory.changes += 1;
        for (key, value) in writes {
            memory.cache.put(key, value);
        }
        drop(memory);
        self.room.notify_all();
        Ok(true)
    }

    fn write(&self, disk: &Disk, generation: u32, rest: &[u8], value: Option<&Bytes>) -> crate::disk::Write {
        let key = key::state(self.shard, generation, rest);
        match value {
            Some(value) => disk.seal(key, value),
            None => crate::disk::Write::remove(key),
        }
    }

    /// Pairs in sled of `generation` whose key lies in `bounds`.
    fn stored(
        &self,
        generation: u32,
        bounds: (Bound<&[u8]>, Bound<&[u8]>),
    ) -> impl Iterator<Item = Result<StatePair, StorageError>> + use<'_> {
        // The smallest key after `k` is `k` with a zero behind it.
        let after = |rest: &[u8]| [&key::state(self.shard, generation, rest)[..], &[0]].concat();
        let start = match bounds.0 {
            Bound::Included(rest) => key::state(self.shard, generation, rest),
            Bound::Excluded(rest) => after(rest),
            Bound::Unbounded => key::state(self.shard, generation, &[]),
        };
        let end = match bounds.1 {
            Bound::Included(rest) => after(rest),
            Bound::Excluded(rest) => key::state(self.shard, generation, rest),
            Bound::Unbounded => key::after_generation(self.shard, Space::State, generation),
        };
        self.shared.disk.range(start..end).map(|item| {
            let (key, plain) = item?;
            Ok((Bytes::copy_from_slice(key::state_rest(&key)), plain.into()))
        })
    }

    /// Holds the state still for a copy: what is applied meanwhile stays in memory.
    pub(crate) fn pin(self: &Arc<Self>) -> Pinned {
        let mut memory = self.memory.lock();
        memory.freeze();
        memory.pins += 1;
        Pinned {
            state: self.clone(),
            generation: memory.generation,
            overlay: overlay(&memory.layers, &BTreeMap::new(), everything()),
            applied: memory.applied.clone(),
        }
    }

    /// The next checkpoint writes the marker, whatever else there is to write.
    pub(crate) fn touch(&self) {
        self.memory.lock().changed = true;
    }

    fn unpin(self: &Arc<Self>) {
        let mut memory = self.memory.lock();
        memory.pins -= 1;
        if memory.pins == 0 {
            memory.announced = true;
            memory.urgent = true;
            drop(memory);
            // An engine that has ended checkpoints nothing more.
            let _ = self.shared.queue.announce(self.clone());
        }
    }
}

impl Pinned {
    /// Every pair of the state, in key order.
    pub(crate) fn pairs(&mut self) -> impl Iterator<Item = Result<StatePair, StorageError>> + use<'_> {
        let overlay = std::mem::take(&mut self.overlay);
        Merge::new(overlay, self.state.stored(self.generation, everything()))
    }

    /// Whether another generation has become the state meanwhile: what was read may have holes.
    pub(crate) fn is_replaced(&self) -> bool {
        self.state.generation() != self.generation
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.state.unpin();
    }
}

impl Flip {
    /// What the write-ahead log and sled are to hold, all of it or nothing.
    pub(crate) fn writes(&self, disk: &Disk) -> Vec<crate::disk::Write> {
        let shard = self.state.shard;
        let mut batch = vec![
            disk.seal(key::named(shard, meta::APPLIED), &record::encode(&self.marker)),
            crate::disk::Write::remove(key::named(shard, meta::INSTALLING)),
        ];
        let position = self.marker.applied.position.filter(|_| self.moves_log);
        batch.extend(position.map(|position| self.state.log.purged_write(position)));
        batch
    }

    /// On the storage thread, between two checkpoints: nothing of the old generation can be written after it.
    pub(crate) fn run(&self, disk: &Disk, writes: Vec<crate::disk::Write>) -> Result<(), WriteError> {
        let mut memory = self.state.memory.lock();
        disk.write_atomically(writes)?;
        memory.active.clear();
        memory.active_bytes = 0;
        memory.changed = false;
        memory.layers.clear();
        memory.ready = 0;
        memory.cache.clear();
        memory.changes += 1;
        memory.generation = self.marker.generation;
        memory.applied = self.marker.applied.clone();
        if let Some(position) = self.marker.applied.position.filter(|_| self.moves_log) {
            self.state.log.installed(position);
        }
        Ok(())
    }
}

impl Memory {
    fn bytes(&self) -> usize {
        self.active_bytes + self.layers.iter().map(|layer| layer.bytes).sum::<usize>()
    }

    fn insert(&mut self, key: Bytes, value: Option<Bytes>) {
        let key_bytes = key.len();
        self.active_bytes += key_bytes + value.as_ref().map_or(0, Bytes::len);
        if let Some(replaced) = self.active.insert(key, value) {
            self.active_bytes -= key_bytes + replaced.map_or(0, |replaced| replaced.len());
        }
    }

    fn freeze(&mut self) {
        self.announced = false;
        self.urgent = false;
        if !std::mem::take(&mut self.changed) {
            return;
        }
        self.layers.push(Arc::new(Layer {
            writes: std::mem::take(&mut self.active),
            applied: self.applied.clone(),
            bytes: std::mem::take(&mut self.active_bytes),
        }));
    }

    /// The newest word on `key`, if the overlay has one.
    fn find(&self, key: &[u8]) -> Option<Option<Bytes>> {
        let layers = self.layers.iter().rev().map(|layer| &layer.writes);
        std::iter::once(&self.active).chain(layers).find_map(|writes| writes.get(key)).cloned()
    }
}

fn everything() -> (Bound<&'static [u8]>, Bound<&'static [u8]>) {
    (Bound::Unbounded, Bound::Unbounded)
}

/// One map of what is newest within `bounds`.
fn overlay(layers: &[Arc<Layer>], active: &Writes, bounds: (Bound<&[u8]>, Bound<&[u8]>)) -> Writes {
    let mut newest = Writes::new();
    for writes in layers.iter().map(|layer| &layer.writes).chain([active]) {
        newest.extend(writes.range::<[u8], _>(bounds).map(|(key, value)| (key.clone(), value.clone())));
    }
    newest
}

impl StateStore {
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        loop {
            let (generation, changes) = {
                let mut memory = self.0.memory.lock();
                if let Some(found) = memory.find(key).or_else(|| memory.cache.get(key)) {
                    return Ok(found);
                }
                (memory.generation, memory.changes)
            };
            let found = self.0.shared.disk.get(&key::state(self.0.shard, generation, key))?.map(Bytes::from);
            let mut memory = self.0.memory.lock();
            // A generation that was replaced meanwhile may be half removed.
            if memory.generation == generation {
                if memory.changes == changes {
                    memory.cache.put(Bytes::copy_from_slice(key), found.clone());
                }
                return Ok(found);
            }
        }
    }

    /// Up to `limit` pairs whose key starts with `prefix` and is greater than `after`, in order.
    pub fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>, StorageError> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let end = key::after_prefix(prefix);
        let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        if after.is_some_and(|after| after > prefix && !after.starts_with(prefix)) {
            return Ok(Vec::new());
        }
        loop {
            let (generation, newer) = {
                let memory = self.0.memory.lock();
                (memory.generation, overlay(&memory.layers, &memory.active, (start, end)))
            };
            let stored = self.0.stored(generation, (start, end));
            let pairs = Merge::new(newer, stored).take(limit).collect::<Result<Vec<_>, _>>()?;
            if self.0.generation() == generation {
                return Ok(pairs);
            }
        }
    }

    /// Visible on return, in sled with the next checkpoint. Waits while too much waits for a checkpoint.
    pub fn apply(
        &self,
        writes: impl IntoIterator<Item = (Bytes, Option<Bytes>)>,
        applied: Applied,
    ) -> Result<(), StorageError> {
        let state = &self.0;
        state.shared.queue.check()?;
        let writes: Vec<_> = writes.into_iter().collect();
        for (key, value) in &writes {
            check_size("a state key", key.len(), STATE_KEY_BYTES)?;
            check_size("a state value", value.as_ref().map_or(0, Bytes::len), STATE_VALUE_BYTES)?;
        }
        let mut memory = state.memory.lock();
        while memory.bytes() > OVERLAY_BYTES {
            state.room.wait_for(&mut memory, Duration::from_millis(CHECKPOINT_MS));
            state.shared.queue.check()?;
        }
        for (key, value) in writes {
            memory.insert(key, value);
        }
        memory.applied = applied;
        memory.changed = true;
        let urgent = memory.active_bytes > CHECKPOINT_BYTES && !memory.urgent;
        if urgent || !memory.announced {
            memory.announced = true;
            memory.urgent |= urgent;
            drop(memory);
            state.shared.queue.announce(state.clone())?;
        }
        Ok(())
    }

    /// Of what is visible; after opening, of the last checkpoint.
    pub fn applied(&self) -> Applied {
        self.0.memory.lock().applied.clone()
    }

    /// Makes durable what is applied by now. Waits for the disk, and for copies that are being made.
    pub fn checkpoint(&self) -> Result<(), StorageError> {
        self.0.shared.durably(Work::Checkpoint(self.0.clone()))
    }

    /// The state as it is now, held still until it is read or dropped: what is applied meanwhile stays in memory.
    pub fn freeze(&self) -> FrozenState {
        FrozenState(self.0.pin())
    }

    /// Over all plain pairs at one instant. Reads the whole state: for the blocking pool.
    pub fn digest(&self) -> Result<StateDigest, StorageError> {
        loop {
            if let Some(digest) = self.freeze().digest()? {
                return Ok(digest);
            }
        }
    }
}

/// A shard's state at one instant.
pub struct FrozenState(Pinned);

impl FrozenState {
    /// Where the state is.
    pub fn applied(&self) -> &Applied {
        &self.0.applied
    }

    /// Reads the whole state: for the blocking pool. None if another state was installed meanwhile.
    pub fn digest(self) -> Result<Option<StateDigest>, StorageError> {
        self.read(|_| true)
    }

    /// Gives every pair in key order to `each`, until it wants no more, and says what they come to. Reads the whole
    /// state: for the blocking pool. None if another state was installed meanwhile, or `each` ended it.
    pub fn read(mut self, mut each: impl FnMut(StatePair) -> bool) -> Result<Option<StateDigest>, StorageError> {
        let mut hasher = PairHasher::default();
        for pair in self.0.pairs() {
            let pair = pair?;
            hasher.add(&pair.0, &pair.1);
            if !each(pair) {
                return Ok(None);
            }
        }
        let digest = hasher.finish(self.0.applied.position);
        Ok((!self.0.is_replaced()).then_some(digest))
    }
}

/// Makes a [`StateDigest`] of pairs in key order.
#[derive(Default)]
pub(crate) struct PairHasher {
    hasher: blake3::Hasher,
    records: u64,
}

impl PairHasher {
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) {
        for part in [key, value] {
            self.hasher.update(&(part.len() as u64).to_be_bytes()).update(part);
        }
        self.records += 1;
    }

    pub(crate) fn finish(&self, applied: Option<LogPosition>) -> StateDigest {
        StateDigest { applied, digest: *self.hasher.finalize().as_bytes(), records: self.records }
    }
}

fn check_size(what: &'static str, len: usize, max: usize) -> Result<(), StorageError> {
    if len > max { Err(StorageError::TooLarge { what, len, max }) } else { Ok(()) }
}
