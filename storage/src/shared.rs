//! What every store of an engine holds on to.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use parking_lot::Mutex;

use crate::disk::{Disk, Write};
use crate::error::StorageError;
use crate::log::Durable;
use crate::queue::{Job, Queue, Work};

pub(crate) struct Shared {
    pub(crate) disk: Disk,
    pub(crate) queue: Queue,
    pub(crate) counters: Counters,
    pub(crate) failure: Failure,
    /// The directory's lock against other processes and other engines, held as long as sled is open.
    _lock: File,
}

impl Shared {
    pub(crate) fn new(disk: Disk, lock: File) -> Self {
        Self { disk, queue: Queue::default(), counters: Counters::default(), failure: Failure::default(), _lock: lock }
    }

    /// Writes that go along with the next commit.
    pub(crate) fn write(&self, writes: Vec<Write>) -> Result<(), StorageError> {
        self.queue.push(Job { work: Work::Writes(writes), done: None })
    }

    /// Hands over `work` and waits until it is durable.
    pub(crate) fn durably(&self, work: Work) -> Result<(), StorageError> {
        let (done, answer) = waiter();
        self.queue.push(Job { work, done: Some(done) })?;
        answer.recv().unwrap_or(Err(StorageError::Closed))
    }
}

/// A callback, and where its answer arrives.
fn waiter() -> (Durable, mpsc::Receiver<Result<(), StorageError>>) {
    let (sender, receiver) = mpsc::sync_channel(1);
    let done: Durable = Box::new(move |result| {
        // The one who asked waits for the answer; if it is gone nobody needs it.
        let _ = sender.send(result);
    });
    (done, receiver)
}

#[derive(Default)]
pub(crate) struct Counters {
    commits: AtomicU64,
    records: AtomicU64,
    wal_bytes: AtomicU64,
}

impl Counters {
    pub(crate) fn committed(&self, records: u64, wal_bytes: u64) {
        self.wal_bytes.store(wal_bytes, Ordering::Relaxed);
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.records.fetch_add(records, Ordering::Relaxed);
    }

    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    pub(crate) fn wal_bytes(&self) -> u64 {
        self.wal_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }
}

/// What a node wants done when its storage fails.
pub type FailureHook = Box<dyn FnOnce(&StorageError) + Send>;

#[derive(Default)]
pub(crate) struct Failure(Mutex<(Option<StorageError>, Option<FailureHook>)>);

impl Failure {
    pub(crate) fn happened(&self, error: StorageError) {
        let hook = {
            let mut failure = self.0.lock();
            failure.0 = Some(error.clone());
            failure.1.take()
        };
        if let Some(hook) = hook {
            hook(&error);
        }
    }

    /// Calls `hook` at once if it is too late to wait for a failure.
    pub(crate) fn on(&self, hook: FailureHook) {
        let mut failure = self.0.lock();
        match failure.0.clone() {
            None => failure.1 = Some(hook),
            Some(error) => {
                drop(failure);
                hook(&error);
            }
        }
    }

    pub(crate) fn error(&self) -> Option<StorageError> {
        self.0.lock().0.clone()
    }
}
