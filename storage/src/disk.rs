//! The one place that touches sled: reads from any thread, writes from the storage thread alone.
//!
//! **Invariant:** every value in sled is sealed, with its key space and full key as associated data.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::error::StorageError;
use crate::fault::{Faults, Point, WriteError};
use crate::key;
use crate::limits::{SEGMENT_BYTES, SLED_FLUSH_MS};
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

pub(crate) struct Disk {
    db: sled::Db,
    /// sled's data file under a handle of our own: `fdatasync` on it is what makes sled's `flush` durable,
    /// and the kernel reports a write-back error to each handle, whatever sled's own thread does with its one.
    file: File,
    path: PathBuf,
    sealer: Sealer,
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
        Ok(Self { db, file, path, sealer, faults: Faults::default() })
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
        self.check(Point::Insert, "writing to")?;
        for Write { key, value } in writes {
            match value {
                Some(value) => self.db.insert(key, value),
                None => self.db.remove(key),
            }
            .map_err(WriteError::sled("writing to", &self.path))?;
        }
        Ok(())
    }

    /// All of `writes` or none of them, whatever happens.
    pub(crate) fn write_atomically(&self, writes: Vec<Write>) -> Result<(), WriteError> {
        self.check(Point::Insert, "writing to")?;
        let mut batch = sled::Batch::default();
        for Write { key, value } in writes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        self.db.apply_batch(batch).map_err(WriteError::sled("writing to", &self.path))
    }

    /// Everything written so far survives a power cut once this returns. Never repeated after an error:
    /// the kernel forgets what it could not write.
    pub(crate) fn commit(&self) -> Result<(), WriteError> {
        self.check(Point::Flush, "flushing")?;
        self.db.flush().map_err(WriteError::sled("flushing", &self.path))?;
        self.check(Point::Sync, "fdatasync of")?;
        self.file.sync_data().map_err(WriteError::file("fdatasync of", &self.path))
    }

    fn check(&self, point: Point, what: &'static str) -> Result<(), WriteError> {
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

    pub(crate) fn bytes_on_disk(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0)
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
