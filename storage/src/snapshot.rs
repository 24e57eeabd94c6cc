use crate::error::StorageError;
use crate::record::{SnapshotChunk, SnapshotMeta};

/// A snapshot as it is streamed: meta first, then state chunks in key order, then records.
pub trait SnapshotSource {
    fn meta(&self) -> &SnapshotMeta;
    fn next(&mut self) -> Result<Option<SnapshotChunk>, StorageError>;
}

#[derive(Clone)]
pub struct Snapshot {
    pub meta: SnapshotMeta,
}

struct NoSource(SnapshotMeta);

impl SnapshotSource for NoSource {
    fn meta(&self) -> &SnapshotMeta {
        &self.0
    }
    fn next(&mut self) -> Result<Option<SnapshotChunk>, StorageError> {
        Err(StorageError::Closed)
    }
}

impl Snapshot {
    pub fn source(&self) -> Box<dyn SnapshotSource + Send> {
        Box::new(NoSource(self.meta.clone()))
    }
}
