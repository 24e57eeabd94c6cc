//! A node's data directory.

use std::path::PathBuf;

use chat::ids::{NodeId, ShardId};

use crate::error::{OpenError, StorageError};
use crate::log::LogStore;
use crate::secret::NodeKey;
use crate::state::StateStore;

/// Who a data directory belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's UUID as text.
    pub cluster: String,
    pub node: NodeId,
    /// For people only.
    pub name: String,
}

#[derive(Debug, Clone)]
pub struct EngineOptions {
    pub dir: PathBuf,
    pub node_key: NodeKey,
    pub identity: Identity,
    /// Bytes of sled's page cache; resident memory is about 2.3 times that.
    pub cache_bytes: u64,
}

/// What the engine has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineStats {
    /// Group commits: one flush and one fdatasync each.
    pub commits: u64,
    /// Log records made durable.
    pub records: u64,
    pub bytes_on_disk: u64,
    /// Requests that wait for the storage thread.
    pub queue_depth: usize,
}

#[derive(Clone)]
pub struct Engine {}

impl Engine {
    pub fn create(_options: &EngineOptions) -> Result<(), OpenError> {
        Ok(())
    }
    pub fn open(_options: EngineOptions) -> Result<Self, OpenError> {
        Ok(Self {})
    }
    pub fn log(&self, _shard: ShardId) -> Result<LogStore, StorageError> {
        Err(StorageError::Closed)
    }
    pub fn state(&self, _shard: ShardId) -> Result<StateStore, StorageError> {
        Err(StorageError::Closed)
    }
    pub fn failed(&self) -> Option<String> {
        None
    }
    pub fn on_failure(&self, _hook: Box<dyn FnOnce(&StorageError) + Send>) {}
    pub fn stats(&self) -> EngineStats {
        EngineStats::default()
    }
    pub fn close(self) {}
}
