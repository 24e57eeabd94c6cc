use std::sync::Arc;

use bytes::Bytes;

use crate::error::StorageError;
use crate::record::{LogPosition, LogRecord};

/// Called once, on the storage thread: it must not block.
pub type Durable = Box<dyn FnOnce(Result<(), StorageError>) + Send>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogBounds {
    pub purged: Option<LogPosition>,
    pub last: Option<LogPosition>,
}

#[derive(Clone)]
pub struct LogStore {}

impl LogStore {
    pub fn bounds(&self) -> LogBounds {
        LogBounds::default()
    }
    pub fn append(&self, _records: Vec<Arc<LogRecord>>, _durable: Durable) -> Result<(), StorageError> {
        Err(StorageError::Closed)
    }
    pub fn read(&self, _from: u64, _to_exclusive: u64, _max_bytes: usize) -> Result<Vec<Arc<LogRecord>>, StorageError> {
        Err(StorageError::Closed)
    }
    pub fn get(&self, _index: u64) -> Result<Option<Arc<LogRecord>>, StorageError> {
        Err(StorageError::Closed)
    }
    pub fn truncate_after(&self, _index: Option<u64>) -> Result<(), StorageError> {
        Err(StorageError::Closed)
    }
    pub fn purge(&self, _through: LogPosition) -> Result<(), StorageError> {
        Err(StorageError::Closed)
    }
    pub fn save_vote(&self, _vote: Bytes) -> Result<(), StorageError> {
        Err(StorageError::Closed)
    }
    pub fn vote(&self) -> Result<Option<Bytes>, StorageError> {
        Err(StorageError::Closed)
    }
    pub fn save_committed(&self, _committed: Option<LogPosition>) -> Result<(), StorageError> {
        Err(StorageError::Closed)
    }
    pub fn committed(&self) -> Result<Option<LogPosition>, StorageError> {
        Err(StorageError::Closed)
    }
}
