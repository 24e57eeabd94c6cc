//! One shard's Raft log. Records are readable as soon as they are appended, durable when their callback says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use chat::ids::ShardId;
use parking_lot::Mutex;

use crate::disk::{self, Write};
use crate::error::StorageError;
use crate::key::{self, meta};
use crate::limits::{LOG_TAIL_BYTES, PAYLOAD_BYTES, UNSURE_RECORDS};
use crate::queue::{Job, Work};
use crate::record::{self, LogPosition, LogRecord, StateMarker};
use crate::shared::Shared;

/// Called once, on the storage thread: it must not block.
pub type Durable = Box<dyn FnOnce(Result<(), StorageError>) + Send>;

/// What a log holds. Records at or below `purged` no longer belong to Raft, but stay readable with [`LogStore::get`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogBounds {
    pub purged: Option<LogPosition>,
    /// The last record, or `purged` if there is none after it.
    pub last: Option<LogPosition>,
}

/// The Raft log of one shard, which is also where its messages are stored.
#[derive(Clone)]
pub struct LogStore(pub(crate) Arc<LogShared>);

pub(crate) struct LogShared {
    pub(crate) shard: ShardId,
    pub(crate) shared: Arc<Shared>,
    memory: Mutex<Memory>,
    /// Held by whoever changes the log while the change is made and handed over, so that memory and queue agree on
    /// the order. Readers never take it: handing over may wait.
    order: Mutex<()>,
    /// The same for votes: an installation holds `order` for long, and an election must not wait for it.
    vote_order: Mutex<()>,
}

#[derive(Default)]
struct Memory {
    bounds: LogBounds,
    /// Where the log began: an empty one starts anywhere.
    first: u64,
    /// The newest records, those not yet in sled among them.
    tail: BTreeMap<u64, Arc<LogRecord>>,
    tail_bytes: usize,
    /// Records below this index are in sled.
    written: u64,
    /// Counts truncations: what was appended before one says nothing about `written` after it.
    epoch: u64,
    vote: Option<Bytes>,
    committed: Option<LogPosition>,
    committed_changed: bool,
    /// Damaged records behind the last one whose position is known, in order.
    unsure: Vec<u64>,
}

impl LogShared {
    pub(crate) fn open(shared: Arc<Shared>, shard: ShardId) -> Result<Self, StorageError> {
        let disk = &shared.disk;
        let purged: Option<LogPosition> = disk.load(&key::named(shard, meta::PURGED))?;
        let committed = disk.load::<Option<LogPosition>>(&key::named(shard, meta::COMMITTED))?.flatten();
        let marker: StateMarker = disk.load(&key::named(shard, meta::APPLIED))?.unwrap_or_default();
        let Ending { stored, unsure } = ending(&shared, shard, &[marker.applied.position, committed])?;
        let last = [purged, stored].into_iter().flatten().max_by_key(|position| position.index);
        let first = disk.first_key(key::log_range(shard, 0..u64::MAX))?.and_then(|key| key::log_index(&key));
        let memory = Memory {
            bounds: LogBounds { purged, last },
            first: first.unwrap_or_default(),
            written: last.map_or(0, |last| last.index + 1),
            vote: disk.load(&key::named(shard, meta::VOTE))?,
            committed,
            unsure,
            ..Memory::default()
        };
        Ok(Self { shard, shared, memory: Mutex::new(memory), order: Mutex::new(()), vote_order: Mutex::new(()) })
    }

    /// The storage thread has inserted the records below `through`.
    pub(crate) fn written(&self, through: u64, epoch: u64) {
        let mut memory = self.memory.lock();
        if memory.epoch == epoch {
            memory.written = memory.written.max(through);
            memory.evict();
        }
    }

    /// Whether the record at `index`, if there is one, is in sled.
    pub(crate) fn is_written(&self, index: u64) -> bool {
        let memory = self.memory.lock();
        index < memory.written || !memory.tail.contains_key(&index)
    }

    /// The committed position goes along with the next records.
    pub(crate) fn take_committed_write(&self) -> Option<Write> {
        let mut memory = self.memory.lock();
        let changed = std::mem::take(&mut memory.committed_changed);
        changed.then(|| self.seal(meta::COMMITTED, &memory.committed))
    }

    fn seal<T: serde::Serialize>(&self, name: &str, value: &T) -> Write {
        self.shared.disk.seal(key::named(self.shard, name), &record::encode(value))
    }

    pub(crate) fn purged_write(&self, position: LogPosition) -> Write {
        self.seal(meta::PURGED, &position)
    }

    /// Keeps appends, truncations and purges out while it lives.
    pub(crate) fn hold(&self) -> parking_lot::MutexGuard<'_, ()> {
        self.order.lock()
    }

    /// Keeps changes of the vote out while it lives.
    pub(crate) fn hold_votes(&self) -> parking_lot::MutexGuard<'_, ()> {
        self.vote_order.lock()
    }

    pub(crate) fn bounds(&self) -> LogBounds {
        self.memory.lock().bounds
    }

    pub(crate) fn get(&self, index: u64) -> Result<Option<Arc<LogRecord>>, StorageError> {
        {
            let memory = self.memory.lock();
            if memory.bounds.last.is_none_or(|last| index > last.index) {
                return Ok(None);
            }
            if let Some(record) = memory.tail.get(&index) {
                return Ok(Some(record.clone()));
            }
        }
        let key = key::log(self.shard, index);
        let plain = self.shared.disk.get(&key)?;
        plain.map(|plain| decode(&key, index, &plain).map(Arc::new)).transpose()
    }

    /// Forgets everything after `last` in memory; the removals that make it so in sled, from the end backwards so
    /// that a crash between them leaves no hole.
    fn truncate_memory(&self, last: Option<LogPosition>) -> Vec<Write> {
        let mut memory = self.memory.lock();
        let first_removed = last.map_or(0, |last| last.index + 1);
        let end = memory.bounds.last.map_or(0, |last| last.index + 1);
        let removed = memory.tail.split_off(&first_removed);
        memory.tail_bytes -= removed.values().map(|record| record.payload.len()).sum::<usize>();
        memory.bounds.last = last;
        memory.written = memory.written.min(first_removed);
        memory.epoch += 1;
        (first_removed..end).rev().map(|index| Write::remove(key::log(self.shard, index))).collect()
    }

    /// Removes every record after `last`, which the caller knows. The caller holds [`LogShared::hold`].
    pub(crate) fn truncate_held(&self, last: Option<LogPosition>) -> Result<(), StorageError> {
        let writes = self.truncate_memory(last);
        self.shared.durably(Work::Writes(writes))
    }

    /// A snapshot through `position` is installed: the log goes on after it.
    pub(crate) fn installed(&self, position: LogPosition) {
        self.memory.lock().purge(position);
    }

    /// Records that exist in sled with index `from..=through`, up to about `max_bytes`; at least one if there is any.
    pub(crate) fn stored(&self, from: u64, through: u64, max_bytes: usize) -> Result<Vec<LogRecord>, StorageError> {
        let mut records = Vec::new();
        let mut bytes = 0;
        for item in self.shared.disk.range(key::log_range(self.shard, from..through.saturating_add(1))) {
            let (key, plain) = item?;
            let index = key::log_index(&key).unwrap_or_default();
            bytes += plain.len();
            if bytes > max_bytes && !records.is_empty() {
                break;
            }
            records.push(decode(&key, index, &plain)?);
        }
        Ok(records)
    }
}

impl Memory {
    fn evict(&mut self) {
        while self.tail_bytes > LOG_TAIL_BYTES
            && let Some(oldest) = self.tail.first_entry()
            && *oldest.key() < self.written
        {
            self.tail_bytes -= oldest.remove().payload.len();
        }
    }

    fn purge(&mut self, through: LogPosition) {
        if self.bounds.purged.is_none_or(|purged| purged.index < through.index) {
            self.bounds.purged = Some(through);
        }
        if self.bounds.last.is_none_or(|last| last.index < through.index) {
            self.bounds.last = Some(through);
        }
    }

    fn append(&mut self, records: &[Arc<LogRecord>]) {
        if let (None, Some(first)) = (self.bounds.last, records.first()) {
            self.first = first.position.index;
        }
        for record in records {
            self.tail_bytes += record.payload.len();
            self.tail.insert(record.position.index, record.clone());
            self.bounds.last = Some(record.position);
        }
    }
}

impl LogStore {
    pub fn bounds(&self) -> LogBounds {
        self.0.bounds()
    }

    /// Adds records directly after the last one (an empty log starts anywhere). They are readable on return;
    /// `durable` is called once they survive a power cut, in the order of the appends. Waits while the queue is full.
    pub fn append(&self, records: Vec<Arc<LogRecord>>, durable: Durable) -> Result<(), StorageError> {
        let log = &self.0;
        let writes = self.seal_records(&records)?;
        let _held = log.hold();
        log.shared.queue.check()?;
        let (through, epoch) = {
            let mut memory = log.memory.lock();
            check_order(log.shard, memory.bounds.last, &records)?;
            memory.append(&records);
            (memory.bounds.last.map_or(0, |last| last.index + 1), memory.epoch)
        };
        let work = Work::Append { log: log.clone(), writes, through, epoch };
        log.shared.queue.push(Job { work, done: Some(durable) })
    }

    /// Sealed by the caller: the storage thread's time is every shard's.
    fn seal_records(&self, records: &[Arc<LogRecord>]) -> Result<Vec<Write>, StorageError> {
        let log = &self.0;
        let seal = |record: &Arc<LogRecord>| {
            let len = record.payload.len();
            if len > PAYLOAD_BYTES {
                return Err(StorageError::TooLarge { what: "a log record's payload", len, max: PAYLOAD_BYTES });
            }
            let key = key::log(log.shard, record.position.index);
            Ok(log.shared.disk.seal(key, &record::encode(record.as_ref())))
        };
        records.iter().map(seal).collect()
    }

    /// Records with index `from..to_exclusive` that are not purged, as many as fit `max_bytes` of payload; at least
    /// one if there is any.
    pub fn read(&self, from: u64, to_exclusive: u64, max_bytes: usize) -> Result<Vec<Arc<LogRecord>>, StorageError> {
        let (range, tail) = {
            let memory = self.0.memory.lock();
            let from = from.max(memory.bounds.purged.map_or(memory.first, |purged| purged.index + 1));
            let to = to_exclusive.min(memory.bounds.last.map_or(0, |last| last.index + 1));
            if from >= to {
                return Ok(Vec::new());
            }
            let mut tail = Fit::new(max_bytes);
            let _ = memory.tail.range(from..to).try_for_each(|(_, record)| tail.take(record.clone()).then_some(()));
            (from..tail.records.first().map_or(to, |record| record.position.index), tail.records)
        };
        if range.is_empty() {
            // The usual case: what is read was appended just now.
            return Ok(tail);
        }
        let mut fit = Fit::new(max_bytes);
        for item in self.0.shared.disk.range(key::log_range(self.0.shard, range.clone())) {
            let (key, plain) = item?;
            let expected = range.start + fit.records.len() as u64;
            if key::log_index(&key) != Some(expected) {
                return Err(missing(self.0.shard, expected));
            }
            if !fit.take(Arc::new(decode(&key, expected, &plain)?)) {
                return Ok(fit.records);
            }
        }
        let next = range.start + fit.records.len() as u64;
        if next < range.end {
            return Err(missing(self.0.shard, next));
        }
        for record in tail {
            if !fit.take(record) {
                break;
            }
        }
        Ok(fit.records)
    }

    /// The record at `index`, purged or not, while it exists.
    pub fn get(&self, index: u64) -> Result<Option<Arc<LogRecord>>, StorageError> {
        self.0.get(index)
    }

    /// Indexes of damaged records behind the last one, in order: which they were is not known here. They have to be
    /// decided with [`LogStore::rewrite`] before anything is appended.
    pub fn unsure(&self) -> Vec<u64> {
        self.0.memory.lock().unsure.clone()
    }

    /// Puts `record` where a damaged or missing one of the same index is, or, of those behind the last one, the first.
    /// The caller knows that it is the same. Durable on return.
    pub fn rewrite(&self, record: &LogRecord) -> Result<(), StorageError> {
        let (log, position) = (&self.0, record.position);
        let _held = log.hold();
        let ends_log = {
            let memory = log.memory.lock();
            let ends_log = memory.unsure.first() == Some(&position.index);
            if !ends_log && memory.bounds.last.is_none_or(|last| position.index > last.index) {
                let what = format!("record {} was to be rewritten behind the end", position.index);
                return Err(StorageError::Order { shard: log.shard, what });
            }
            ends_log
        };
        let write = log.shared.disk.seal(key::log(log.shard, position.index), &record::encode(record));
        log.shared.durably(Work::Writes(vec![write]))?;
        if ends_log {
            let mut memory = log.memory.lock();
            memory.unsure.remove(0);
            memory.bounds.last = Some(position);
            memory.written = position.index + 1;
        }
        Ok(())
    }

    /// The record at `index` as it is in memory, if it is among the newest.
    pub fn remembered(&self, index: u64) -> Option<Arc<LogRecord>> {
        self.0.memory.lock().tail.get(&index).cloned()
    }

    /// Removes every record after `index`, all of them for none. Durable on return.
    pub fn truncate_after(&self, index: Option<u64>) -> Result<(), StorageError> {
        let _held = self.0.hold();
        let LogBounds { purged, last } = self.0.bounds();
        let Some(old_last) = last else { return Ok(()) };
        let keep = match (index, purged) {
            (Some(index), _) if index >= old_last.index => return Ok(()),
            (Some(index), purged) if purged.is_none_or(|purged| purged.index < index) => {
                self.0.get(index)?.map(|record| record.position)
            }
            (_, purged) => purged,
        };
        self.0.truncate_held(keep)
    }

    /// Records through `through` no longer belong to Raft. They stay in the message store.
    pub fn purge(&self, through: LogPosition) -> Result<(), StorageError> {
        let _held = self.0.hold();
        if self.bounds().purged.is_some_and(|purged| purged.index >= through.index) {
            return Ok(());
        }
        self.0.shared.write(vec![self.0.purged_write(through)])?;
        self.0.memory.lock().purge(through);
        Ok(())
    }

    /// Durable on return.
    pub fn save_vote(&self, vote: Bytes) -> Result<(), StorageError> {
        let _held = self.0.vote_order.lock();
        self.0.shared.durably(Work::Writes(vec![self.0.seal(meta::VOTE, &vote)]))?;
        self.0.memory.lock().vote = Some(vote);
        Ok(())
    }

    pub fn vote(&self) -> Result<Option<Bytes>, StorageError> {
        Ok(self.0.memory.lock().vote.clone())
    }

    /// Reaches the disk with the next records, or when the engine closes: Raft learns it again after a crash.
    pub fn save_committed(&self, committed: Option<LogPosition>) -> Result<(), StorageError> {
        self.0.shared.queue.check()?;
        let mut memory = self.0.memory.lock();
        memory.committed_changed |= memory.committed != committed;
        memory.committed = committed;
        Ok(())
    }

    pub fn committed(&self) -> Result<Option<LogPosition>, StorageError> {
        Ok(self.0.memory.lock().committed)
    }
}

/// Takes records until their bytes are enough.
struct Fit {
    records: Vec<Arc<LogRecord>>,
    bytes: usize,
    max_bytes: usize,
}

impl Fit {
    fn new(max_bytes: usize) -> Self {
        Self { records: Vec::new(), bytes: 0, max_bytes }
    }

    fn take(&mut self, record: Arc<LogRecord>) -> bool {
        self.bytes += record.payload.len();
        let fits = self.bytes <= self.max_bytes || self.records.is_empty();
        if fits {
            self.records.push(record);
        }
        fits
    }
}

fn check_order(shard: ShardId, last: Option<LogPosition>, records: &[Arc<LogRecord>]) -> Result<(), StorageError> {
    let mut expected = last.map(|last| last.index + 1);
    for record in records {
        let index = record.position.index;
        if let Some(expected) = expected.filter(|expected| *expected != index) {
            return Err(StorageError::Order {
                shard,
                what: format!("record {index} appended where {expected} follows"),
            });
        }
        expected = Some(index + 1);
    }
    Ok(())
}

fn missing(shard: ShardId, index: u64) -> StorageError {
    disk::corrupt(&key::log(shard, index), "the record is missing".to_owned())
}

fn decode(key: &[u8], index: u64, plain: &[u8]) -> Result<LogRecord, StorageError> {
    let record: LogRecord = disk::decode(key, plain)?;
    if record.position.index != index || key::log_index(key) != Some(index) {
        return Err(disk::corrupt(key, format!("it holds record {} where {index} follows", record.position.index)));
    }
    Ok(record)
}

/// Where the records in sled end.
struct Ending {
    stored: Option<LogPosition>,
    unsure: Vec<u64>,
}

/// Looks from the end for the last record whose position is known: because it opens, or because it is one of `known`.
fn ending(shared: &Shared, shard: ShardId, known: &[Option<LogPosition>]) -> Result<Ending, StorageError> {
    let mut unsure = Vec::new();
    for checked in shared.disk.check(key::log_range(shard, 0..u64::MAX)).rev() {
        let checked = checked?;
        let index = key::log_index(&checked.key).unwrap_or_default();
        let stored = match checked.opened {
            Ok(()) => match shared.disk.get(&checked.key)? {
                Some(plain) => Some(decode(&checked.key, index, &plain)?.position),
                None => None,
            },
            Err(_) => known.iter().flatten().find(|position| position.index == index).copied(),
        };
        if stored.is_some() {
            unsure.reverse();
            return Ok(Ending { stored, unsure });
        }
        unsure.push(index);
        if unsure.len() > UNSURE_RECORDS {
            return Err(disk::corrupt(&checked.key, format!("more than {UNSURE_RECORDS} records before it are too")));
        }
    }
    unsure.reverse();
    Ok(Ending { stored: None, unsure })
}
