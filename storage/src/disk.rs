//! The one place that touches sled: reads from any thread, writes from the storage thread alone.
//!
//! **Invariant:** every value in sled is sealed, with its key space and full key as associated data.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};

use serde::de::DeserializeOwned;

use crate::compact::Space;
use crate::error::StorageError;
use crate::fault::{Faults, Point, WriteError};
use crate::key;
use crate::limits::{COMPACT_MIN_BYTES, SEGMENT_BYTES, SLED_FLUSH_MS};
use crate::record;
use crate::seal::{Place, Sealer};

/// One change of one record, its value sealed.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Vec<u8>>,
}

impl Write {
    pub(crate) fn remove(key: Vec<u8>) -> Self {
        Self { key, value: None }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Vec::len)
    }
}

/// A record's key and its opened value.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);

/// A record that was looked at.
pub(crate) struct Checked {
    pub(crate) key: Vec<u8>,
    pub(crate) bytes: u64,
    pub(crate) opened: Result<(), StorageError>,
}
/// A record as it is stored: key and sealed value.
pub(crate) type RawRecord = (sled::IVec, sled::IVec);

pub(crate) struct Disk {
    db: sled::Db,
    /// sled's data file under a handle of our own: `fdatasync` on it is what makes sled's `flush` durable,
    /// and the kernel reports a write-back error to each handle, whatever sled's own thread does with its one.
    file: File,
    path: PathBuf,
    sealer: Sealer,
    /// Bytes of all keys and values: what the last record of it said, and every change since.
    live: AtomicI64,
    /// Dead right after the last compaction, in percent.
    fresh: AtomicU8,
    pub(crate) faults: Faults,
}

impl Disk {
    /// Opens or creates the database in `dir`.
    pub(crate) fn open(dir: &Path, cache_bytes: u64, sealer: Sealer) -> Result<Self, WriteError> {
        let db = sled::Config::new()
            .path(dir)
            .cache_capacity(cache_bytes)
            .segment_size(SEGMENT_BYTES)
            .flush_every_ms(Some(SLED_FLUSH_MS))
            .open()
            .map_err(WriteError::sled("opening", dir))?;
        let path = dir.join("db");
        let file = File::open(&path).map_err(WriteError::file("opening", &path))?;
        // A data file just created must be found again after a power cut.
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(WriteError::file("syncing", dir))?;
        let disk = Self {
            db,
            file,
            path,
            sealer,
            live: AtomicI64::new(0),
            fresh: AtomicU8::new(0),
            faults: Faults::default(),
        };
        disk.live.store(disk.load_live()?, Ordering::Relaxed);
        // One that does not open is found with the other records; it costs a compaction at most.
        if let Ok(Some(fresh)) = disk.load(&key::named(key::ENGINE, key::meta::FRESH)) {
            disk.fresh.store(fresh, Ordering::Relaxed);
        }
        Ok(disk)
    }

    /// What is on record, or counted if nothing is. A record that does not open says nothing either.
    fn load_live(&self) -> Result<i64, WriteError> {
        if let Ok(Some(live)) = self.load::<i64>(&live_key()) {
            return Ok(live);
        }
        let length = |record: sled::Result<RawRecord>| record.map(|record| len(&record));
        self.db.iter().map(length).sum::<sled::Result<i64>>().map_err(WriteError::sled("reading", &self.path))
    }

    pub(crate) fn seal(&self, key: Vec<u8>, plain: &[u8]) -> Write {
        let value = self.sealer.seal(&place(&key), plain);
        Write { key, value: Some(value) }
    }

    /// The opened value at `key`.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let sealed = self.db.get(key).map_err(|error| read_error(key, error))?;
        sealed.map(|sealed| self.open_value(key, &sealed)).transpose()
    }

    /// An engine record at `key`.
    pub(crate) fn load<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StorageError> {
        self.get(key)?.map(|plain| decode(key, &plain)).transpose()
    }

    /// Opened records with keys in `range`, in order.
    pub(crate) fn range(
        &self,
        range: Range<Vec<u8>>,
    ) -> impl DoubleEndedIterator<Item = Result<Pair, StorageError>> + use<'_> {
        let first = range.start.clone();
        self.db.range(range).map(move |item| {
            let (key, sealed) = item.map_err(|error| read_error(&first, error))?;
            let plain = self.open_value(&key, &sealed)?;
            Ok((key.to_vec(), plain))
        })
    }

    /// Keys in `range` in order, and whether each value opens; how many bytes it has sealed.
    pub(crate) fn check(
        &self,
        range: Range<Vec<u8>>,
    ) -> impl DoubleEndedIterator<Item = Result<Checked, StorageError>> + use<'_> {
        let first = range.start.clone();
        self.db.range(range).map(move |item| {
            let (key, sealed) = item.map_err(|error| read_error(&first, error))?;
            let opened = self.open_value(&key, &sealed).map(drop);
            Ok(Checked { key: key.to_vec(), bytes: sealed.len() as u64, opened })
        })
    }

    /// The first key in `range`, its value unread.
    pub(crate) fn first_key(&self, range: Range<Vec<u8>>) -> Result<Option<Vec<u8>>, StorageError> {
        let first = range.start.clone();
        match self.db.range(range).next() {
            None => Ok(None),
            Some(Ok((key, _))) => Ok(Some(key.to_vec())),
            Some(Err(error)) => Err(read_error(&first, error)),
        }
    }

    /// Up to `limit` keys in `range`, their values unread.
    pub(crate) fn keys(&self, range: Range<Vec<u8>>, limit: usize) -> Result<Vec<Vec<u8>>, StorageError> {
        let first = range.start.clone();
        self.db
            .range(range)
            .take(limit)
            .map(|item| item.map(|(key, _)| key.to_vec()).map_err(|error| read_error(&first, error)))
            .collect()
    }

    /// Plain inserts and removes in order: sled's log keeps the order, so a crash leaves a prefix of it.
    pub(crate) fn write(&self, writes: Vec<Write>) -> Result<(), WriteError> {
        self.may_fail(Point::Insert, "writing to")?;
        let mut grown = 0;
        for Write { key, value } in writes {
            let (key_len, len) = (key.len(), value.as_ref().map(Vec::len));
            let before = match value {
                Some(value) => self.db.insert(key, value),
                None => self.db.remove(key),
            };
            let before = before.map_err(WriteError::sled("writing to", &self.path))?;
            grown += growth(key_len, before.map(|before| before.len()), len);
        }
        self.live.fetch_add(grown, Ordering::Relaxed);
        Ok(())
    }

    /// All of `writes` or none of them, whatever happens.
    pub(crate) fn write_atomically(&self, writes: Vec<Write>) -> Result<(), WriteError> {
        self.may_fail(Point::Insert, "writing to")?;
        let mut batch = sled::Batch::default();
        let mut grown = 0;
        for Write { key, value } in writes {
            // The batch needs its page next anyhow.
            let before = self.db.get(&key).map_err(WriteError::sled("reading", &self.path))?;
            let before = before.map(|before| before.len());
            grown += growth(key.len(), before, value.as_ref().map(Vec::len));
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        self.db.apply_batch(batch).map_err(WriteError::sled("writing to", &self.path))?;
        self.live.fetch_add(grown, Ordering::Relaxed);
        Ok(())
    }

    /// Everything written so far survives a power cut once this returns. Never repeated after an error:
    /// the kernel forgets what it could not write.
    pub(crate) fn commit(&self) -> Result<(), WriteError> {
        let live = self.live.load(Ordering::Relaxed);
        self.write(vec![self.seal(live_key(), &record::encode(&live))])?;
        self.may_fail(Point::Flush, "flushing")?;
        self.db.flush().map_err(WriteError::sled("flushing", &self.path))?;
        self.may_fail(Point::Sync, "fdatasync of")?;
        self.file.sync_data().map_err(WriteError::file("fdatasync of", &self.path))
    }

    fn may_fail(&self, point: Point, what: &'static str) -> Result<(), WriteError> {
        self.faults.check(point).map_err(WriteError::file(what, &self.path))
    }

    /// The turn of the write-ahead log that had begun when this database was opened last.
    pub(crate) fn turn(&self) -> Result<Option<u64>, StorageError> {
        self.load(&key::named(key::ENGINE, key::meta::WAL))
    }

    /// Durable on return.
    pub(crate) fn save_turn(&self, turn: u64) -> Result<(), WriteError> {
        self.write(vec![self.seal(key::named(key::ENGINE, key::meta::WAL), &record::encode(&turn))])?;
        self.commit()
    }

    /// Bytes of the files, and of what is in them.
    pub(crate) fn space(&self) -> Space {
        let live = u64::try_from(self.live.load(Ordering::Relaxed)).unwrap_or(0);
        let fresh_dead_percent = self.fresh.load(Ordering::Relaxed);
        Space { disk_bytes: self.db.size_on_disk().unwrap_or(0), live_bytes: live, fresh_dead_percent }
    }

    /// Puts down how dead this database is that was compacted just now. Durable on return.
    pub(crate) fn set_fresh(&self) -> Result<(), WriteError> {
        let space = self.space();
        // A small one has room in its segments, which says nothing of what it becomes.
        let dead = if space.disk_bytes < COMPACT_MIN_BYTES { 0 } else { space.dead_percent() };
        self.fresh.store(dead, Ordering::Relaxed);
        self.write(vec![self.seal(key::named(key::ENGINE, key::meta::FRESH), &record::encode(&dead))])?;
        self.commit()
    }

    /// Every record as it is stored, in order.
    pub(crate) fn raw_records(&self) -> impl Iterator<Item = Result<RawRecord, StorageError>> {
        self.db.iter().map(|record| record.map_err(|error| read_error(&[], error)))
    }

    /// Inserts a record of another database that has the same key.
    pub(crate) fn write_raw(&self, record: &RawRecord) -> Result<(), WriteError> {
        self.db.insert(&record.0, &record.1).map(drop).map_err(WriteError::sled("writing to", &self.path))
    }

    /// Whether a record opens.
    pub(crate) fn check_raw(&self, record: &RawRecord) -> Result<(), StorageError> {
        self.open_value(&record.0, &record.1).map(drop)
    }

    /// It was counted.
    pub(crate) fn set_live(&self, bytes: u64) {
        self.live.store(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    fn open_value(&self, key: &[u8], sealed: &[u8]) -> Result<Vec<u8>, StorageError> {
        self.sealer.open(&place(key), sealed).map_err(|error| corrupt(key, error.to_string()))
    }

    /// Raw bytes for tests that damage them.
    #[cfg(test)]
    pub(crate) fn raw(&self) -> &sled::Db {
        &self.db
    }
}

fn live_key() -> Vec<u8> {
    key::named(key::ENGINE, key::meta::LIVE)
}

pub(crate) fn is_live_record(key: &[u8]) -> bool {
    key == live_key()
}

pub(crate) fn raw_bytes(record: &RawRecord) -> u64 {
    len(record) as u64
}

fn len(record: &RawRecord) -> i64 {
    (record.0.len() + record.1.len()) as i64
}

/// By how many bytes a key and its value grow when a value of `before` bytes becomes one of `after`.
fn growth(key: usize, before: Option<usize>, after: Option<usize>) -> i64 {
    let bytes = |value: Option<usize>| value.map_or(0, |value| (key + value) as i64);
    bytes(after) - bytes(before)
}

fn place(key: &[u8]) -> Place<'_> {
    // A key without a known space cannot be made by `key`; 0 is the number of no space.
    key::space_of(key).map_or_else(|| Place::bytes(key), |space| Place::record(space, key))
}

pub(crate) fn decode<T: DeserializeOwned>(key: &[u8], plain: &[u8]) -> Result<T, StorageError> {
    record::decode(plain).map_err(|error| corrupt(key, error.to_string()))
}

pub(crate) fn corrupt(key: &[u8], what: String) -> StorageError {
    StorageError::Corrupt {
        shard: key::shard_of(key).unwrap_or(key::ENGINE),
        space: key::space_of(key).map_or("unknown", key::Space::name),
        key: key::display(key),
        what,
    }
}

fn read_error(key: &[u8], error: sled::Error) -> StorageError {
    StorageError::Read {
        shard: key::shard_of(key).unwrap_or(key::ENGINE),
        space: key::space_of(key).map_or("unknown", key::Space::name),
        source: Arc::new(error),
    }
}
