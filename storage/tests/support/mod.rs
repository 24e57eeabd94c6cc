//! What several tests of the engine need. Each test binary uses a part of it.
#![allow(dead_code, reason = "every test binary compiles this file and uses a part of it")]
#![allow(clippy::unwrap_used, reason = "this is test code outside a test function")]

pub(crate) mod crash;

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use storage::{
    Applied, Engine, EngineOptions, Identity, LogPayload, LogPosition, LogRecord, LogStore, NodeKey, StorageError,
};

pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) fn options(dir: &Path) -> EngineOptions {
    EngineOptions {
        dir: dir.to_owned(),
        node_key: NodeKey::from_bytes([3; 32]),
        identity: Identity {
            cluster: "0190d6a0-0000-7000-8000-000000000001".to_owned(),
            node: 1,
            name: "node-1".to_owned(),
        },
        cache_bytes: 16 * 1024 * 1024,
    }
}

pub(crate) fn create(dir: &Path) -> Engine {
    Engine::create(&options(dir)).unwrap();
    open(dir)
}

pub(crate) fn open(dir: &Path) -> Engine {
    Engine::open(options(dir)).unwrap()
}

pub(crate) fn position(term: u64, index: u64) -> LogPosition {
    LogPosition { term, node: 1, index }
}

pub(crate) fn record(term: u64, index: u64) -> Arc<LogRecord> {
    let payload = LogPayload::Batch(Bytes::from(format!("batch {term}/{index}")));
    Arc::new(LogRecord { position: position(term, index), payload })
}

pub(crate) fn records(term: u64, indexes: std::ops::Range<u64>) -> Vec<Arc<LogRecord>> {
    indexes.map(|index| record(term, index)).collect()
}

pub(crate) fn applied(term: u64, index: u64) -> Applied {
    Applied { position: Some(position(term, index)), membership: Bytes::from_static(b"members") }
}

/// Appends and waits until it is durable.
pub(crate) fn append(log: &LogStore, records: Vec<Arc<LogRecord>>) -> Result<(), StorageError> {
    let (sender, receiver) = mpsc::channel();
    log.append(records, Box::new(move |result| sender.send(result).unwrap()))?;
    receiver.recv_timeout(DEADLINE).expect("an append is answered")
}

pub(crate) fn indexes(records: &[Arc<LogRecord>]) -> Vec<u64> {
    records.iter().map(|record| record.position.index).collect()
}

pub(crate) fn write(key: &str, value: Option<&str>) -> (Bytes, Option<Bytes>) {
    (Bytes::copy_from_slice(key.as_bytes()), value.map(|value| Bytes::copy_from_slice(value.as_bytes())))
}

/// What a power cut leaves of `dir`, if everything that was written had reached the disk.
pub(crate) fn copy(dir: &Path) -> tempfile::TempDir {
    fn copy_into(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy_into(&entry.path(), &to);
            } else {
                std::fs::copy(entry.path(), to).unwrap();
            }
        }
    }
    let to = tempfile::tempdir().unwrap();
    copy_into(dir, to.path());
    to
}
