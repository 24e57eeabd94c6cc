//! Changes bytes below the seals, and states past the state machine: for tests of whole nodes, in a data directory that no
//! node has open. Behind the feature `damage`, which no node is built with.

use std::path::Path;

use bytes::Bytes;
use chat::ids::ShardId;

use crate::error::StorageError;
use crate::key;
use crate::limits::{SEGMENT_BYTES, SLED_FLUSH_MS};
use crate::state::StateStore;

/// A stored record, by what an error would call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    pub shard: ShardId,
    pub space: &'static str,
    pub key: String,
    raw: Vec<u8>,
}

/// The database of a data directory, without its keys.
pub struct Database(sled::Db);

impl Database {
    /// Opens the database below `dir`, the directory that `[node] data_dir` names.
    ///
    /// # Errors
    ///
    /// Whatever sled says, as text.
    pub fn open(dir: &Path) -> Result<Self, String> {
        let config =
            sled::Config::new().path(dir.join("db")).segment_size(SEGMENT_BYTES).flush_every_ms(Some(SLED_FLUSH_MS));
        config.open().map(Self).map_err(|error| error.to_string())
    }

    /// Every record, in the order of keys.
    pub fn records(&self) -> Result<Vec<StoredRecord>, String> {
        let record = |raw: sled::IVec| StoredRecord {
            shard: key::shard_of(&raw).unwrap_or(key::ENGINE),
            space: key::space_of(&raw).map_or("unknown", key::Space::name),
            key: key::display(&raw),
            raw: raw.to_vec(),
        };
        self.0.iter().keys().map(|key| key.map(record).map_err(|error| error.to_string())).collect()
    }

    /// Flips one bit in the middle of the sealed value.
    pub fn flip(&self, record: &StoredRecord) -> Result<(), String> {
        let text = |error: sled::Error| error.to_string();
        let value = self.0.get(&record.raw).map_err(text)?.ok_or("no such record")?;
        let mut value = value.to_vec();
        let middle = value.len() / 2;
        value[middle] ^= 1;
        self.0.insert(&record.raw, value).map_err(text)?;
        self.0.flush().map_err(text).map(drop)
    }
}

impl StateStore {
    /// Changes records as no entry did: the state differs from the other replicas' from then on.
    pub fn diverge(&self, writes: Vec<(Bytes, Option<Bytes>)>) -> Result<(), StorageError> {
        self.apply(writes, self.applied())
    }
}
