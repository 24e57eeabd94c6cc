use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::StorageError;
use crate::record::{Applied, LogPosition};
use crate::snapshot::{Snapshot, SnapshotSource};

/// A digest of a shard's whole plain state at one applied position: equal on replicas that are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateDigest {
    pub applied: Option<LogPosition>,
    pub digest: [u8; 32],
    pub records: u64,
}

#[derive(Clone)]
pub struct StateStore {}

impl StateStore {
    pub fn get(&self, _key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Err(StorageError::Closed)
    }
    pub fn scan(
        &self,
        _prefix: &[u8],
        _after: Option<&[u8]>,
        _limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StorageError> {
        Err(StorageError::Closed)
    }
    pub fn apply(
        &self,
        _writes: impl IntoIterator<Item = (Bytes, Option<Bytes>)>,
        _applied: Applied,
    ) -> Result<(), StorageError> {
        Err(StorageError::Closed)
    }
    pub fn applied(&self) -> Applied {
        Applied::default()
    }
    pub fn digest(&self) -> Result<StateDigest, StorageError> {
        Err(StorageError::Closed)
    }
    pub fn snapshot(&self) -> Result<Snapshot, StorageError> {
        Err(StorageError::Closed)
    }
    pub fn current_snapshot(&self) -> Result<Option<Snapshot>, StorageError> {
        Err(StorageError::Closed)
    }
    pub fn install(&self, _source: &mut dyn SnapshotSource) -> Result<(), StorageError> {
        Err(StorageError::Closed)
    }
}
