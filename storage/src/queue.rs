//! What waits for the storage thread: bounded in requests and bytes, drained as a whole.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::disk::Write;
use crate::error::StorageError;
use crate::limits::{QUEUE_BYTES, QUEUE_JOBS};
use crate::log::{Durable, LogShared};
use crate::state::{Flip, StateShared};

/// What is to be written.
pub(crate) enum Work {
    /// Inserts and removes in order.
    Writes(Vec<Write>),
    /// Log records: the log learns that they are in sled as far as `through`.
    Append { log: Arc<LogShared>, writes: Vec<Write>, through: u64, epoch: u64 },
    /// The state's overlay, at once.
    Checkpoint(Arc<StateShared>),
    /// A staged generation becomes the state.
    Flip(Box<Flip>),
}

/// One request. With `done` it asks for a commit and is told of it; without, it goes along with the next one.
pub(crate) struct Job {
    pub(crate) work: Work,
    pub(crate) done: Option<Durable>,
}

impl Job {
    fn bytes(&self) -> usize {
        match &self.work {
            Work::Writes(writes) | Work::Append { writes, .. } => writes.iter().map(Write::bytes).sum(),
            Work::Checkpoint(_) | Work::Flip(_) => 0,
        }
    }
}

#[derive(Default)]
struct Waiting {
    jobs: Vec<Job>,
    bytes: usize,
    /// States that became dirty since the last drain.
    dirty: Vec<Arc<StateShared>>,
    /// No more requests are taken; those that wait are still done.
    closing: bool,
    /// Set when the storage thread is gone: what every later request is answered.
    ended: Option<StorageError>,
}

#[derive(Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    room: Condvar,
}

/// Everything that waited.
pub(crate) struct Drained {
    pub(crate) jobs: Vec<Job>,
    pub(crate) closing: bool,
}

impl Queue {
    /// Hands over a request, waiting while the queue is full. The job is dropped if the engine has ended.
    pub(crate) fn push(&self, job: Job) -> Result<(), StorageError> {
        let bytes = job.bytes();
        let mut waiting = self.waiting.lock();
        while waiting.open()? && (waiting.jobs.len() >= QUEUE_JOBS || waiting.bytes >= QUEUE_BYTES) {
            self.room.wait(&mut waiting);
        }
        waiting.bytes += bytes;
        waiting.jobs.push(job);
        self.arrived.notify_one();
        Ok(())
    }

    /// Hands over a request that must not wait: small, and rare.
    pub(crate) fn push_unbounded(&self, job: Job) {
        let mut waiting = self.waiting.lock();
        if waiting.open().is_ok() {
            waiting.bytes += job.bytes();
            waiting.jobs.push(job);
            self.arrived.notify_one();
        }
    }

    /// Announces a state with something to checkpoint.
    pub(crate) fn announce(&self, state: Arc<StateShared>) -> Result<(), StorageError> {
        let mut waiting = self.waiting.lock();
        waiting.open()?;
        waiting.dirty.push(state);
        self.arrived.notify_one();
        Ok(())
    }

    /// Whether requests are still taken.
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        self.waiting.lock().open().map(|_| ())
    }

    pub(crate) fn depth(&self) -> usize {
        self.waiting.lock().jobs.len()
    }

    pub(crate) fn close(&self) {
        self.waiting.lock().closing = true;
        self.arrived.notify_all();
        self.room.notify_all();
    }

    /// Sleeps until there is something to do or `until` has come, and returns the states announced.
    pub(crate) fn wait(&self, until: Option<Instant>) -> Vec<Arc<StateShared>> {
        let mut waiting = self.waiting.lock();
        while waiting.jobs.is_empty() && waiting.dirty.is_empty() && !waiting.closing {
            match until {
                None => self.arrived.wait(&mut waiting),
                Some(until) => {
                    if self.arrived.wait_until(&mut waiting, until).timed_out() {
                        break;
                    }
                }
            }
        }
        std::mem::take(&mut waiting.dirty)
    }

    /// Waits for more to come, until there are `enough` requests.
    pub(crate) fn linger(&self, time: Duration, enough: usize) {
        let until = Instant::now() + time;
        let mut waiting = self.waiting.lock();
        while !waiting.closing && waiting.jobs.len() < enough && waiting.bytes < QUEUE_BYTES / 2 {
            if self.arrived.wait_until(&mut waiting, until).timed_out() {
                break;
            }
        }
    }

    pub(crate) fn drain(&self) -> Drained {
        let mut waiting = self.waiting.lock();
        let drained = Drained { jobs: std::mem::take(&mut waiting.jobs), closing: waiting.closing };
        waiting.bytes = 0;
        self.room.notify_all();
        drained
    }

    /// Takes nothing more; gives back what waited, so that it can be answered.
    pub(crate) fn end(&self, with: StorageError) -> Vec<Job> {
        let mut waiting = self.waiting.lock();
        waiting.dirty.clear();
        waiting.bytes = 0;
        waiting.ended = Some(with);
        self.room.notify_all();
        std::mem::take(&mut waiting.jobs)
    }
}

impl Waiting {
    fn open(&self) -> Result<bool, StorageError> {
        match &self.ended {
            Some(error) => Err(error.clone()),
            None if self.closing => Err(StorageError::Closed),
            None => Ok(true),
        }
    }
}
