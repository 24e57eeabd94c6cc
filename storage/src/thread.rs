//! The storage thread: the one writer of a node. It drains the queue, writes everything in order, commits once for all
//! shards, and then tells everybody.
//!
//! **Invariant:** a state checkpoint at applied index `i` never becomes durable before the log records `≤ i` are. A
//! state's overlay is frozen *before* the queue is drained; a record is appended before it is applied, so every record
//! that the frozen overlay rests on is in the drained queue or written already, and goes to sled ahead of the
//! checkpoint. sled recovers a prefix of one writer's operations.
//!
//! **Invariant:** nothing is answered `Ok` after a write, a flush or an fsync has failed. Nothing is tried again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::disk::WriteError;
use crate::error::StorageError;
use crate::limits::{CHECKPOINT_MS, GATHER_MS, GATHER_RECORDS};
use crate::log::Durable;
use crate::queue::{Job, Work};
use crate::shared::Shared;
use crate::state::StateShared;

/// A state with something to checkpoint, at the latest at `due`.
struct Dirty {
    due: Instant,
    state: Arc<StateShared>,
}

struct Writer {
    shared: Arc<Shared>,
    /// In the order of `due`.
    dirty: VecDeque<Dirty>,
    /// Checkpoints asked for by name, done in the next round, and who waits for them.
    asked: Vec<(Arc<StateShared>, Option<Durable>)>,
    /// Checkpoints asked for while their state was being copied; the copy's end announces the state.
    deferred: Vec<(Arc<StateShared>, Option<Durable>)>,
    /// Who is told after the next commit.
    waiting: Vec<Durable>,
    records: u64,
    /// Of the last commit.
    last_records: u64,
}

pub(crate) fn run(shared: Arc<Shared>) {
    let mut ending = Ending { writer: Writer::new(shared), clean: false };
    if let Err(error) = ending.writer.work() {
        ending.writer.fail(error.to_string());
    }
    ending.clean = true;
}

/// Answers everybody even if sled panics underneath.
struct Ending {
    writer: Writer,
    clean: bool,
}

impl Drop for Ending {
    fn drop(&mut self) {
        if !self.clean {
            self.writer.fail("the storage thread panicked".to_owned());
        }
    }
}

impl Writer {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            dirty: VecDeque::new(),
            asked: Vec::new(),
            deferred: Vec::new(),
            waiting: Vec::new(),
            records: 0,
            last_records: 0,
        }
    }

    /// Rounds until the queue closes.
    fn work(&mut self) -> Result<(), WriteError> {
        loop {
            let announced = self.shared.queue.wait(self.wake_at());
            self.take_note(announced);
            // Under load a commit is worth more the more it carries; a quiet node's lone record never waits.
            if self.last_records >= GATHER_RECORDS {
                self.shared.queue.linger(Duration::from_millis(GATHER_MS));
            }
            let checkpoints = self.freeze(false);
            let drained = self.shared.queue.drain();
            self.write_jobs(drained.jobs)?;
            self.write_checkpoints(checkpoints)?;
            if !self.waiting.is_empty() {
                self.commit()?;
            }
            if drained.closing {
                return self.finish();
            }
        }
    }

    /// Without anything dirty the thread sleeps until it is called.
    fn wake_at(&self) -> Option<Instant> {
        if !self.asked.is_empty() {
            return Some(Instant::now());
        }
        self.dirty.front().map(|dirty| dirty.due)
    }

    fn take_note(&mut self, announced: Vec<Arc<StateShared>>) {
        let due = Instant::now() + Duration::from_millis(CHECKPOINT_MS);
        for state in announced {
            self.asked.extend(self.deferred.extract_if(.., |(deferred, _)| Arc::ptr_eq(deferred, &state)));
            // A state over its byte bound is announced a second time.
            if state.is_urgent() {
                self.dirty.push_front(Dirty { due: Instant::now(), state });
            } else {
                self.dirty.push_back(Dirty { due, state });
            }
        }
    }

    /// Freezes the overlays whose time has come.
    fn freeze(&mut self, all: bool) -> Vec<(Arc<StateShared>, Option<Durable>)> {
        let now = Instant::now();
        let mut checkpoints = std::mem::take(&mut self.asked);
        while let Some(dirty) = self.dirty.pop_front_if(|dirty| all || dirty.due <= now) {
            checkpoints.push((dirty.state, None));
        }
        for (state, _) in &checkpoints {
            state.freeze();
        }
        checkpoints
    }

    fn write_jobs(&mut self, jobs: Vec<Job>) -> Result<(), WriteError> {
        let mut jobs = jobs.into_iter();
        while let Some(Job { work, done }) = jobs.next() {
            let written = match work {
                Work::Checkpoint(state) => {
                    self.asked.push((state, done));
                    continue;
                }
                Work::Writes(writes) => self.shared.disk.write(writes),
                Work::Append { log, mut writes, through, epoch } => {
                    self.records += writes.len() as u64;
                    writes.extend(log.take_committed_write());
                    self.shared.disk.write(writes).inspect(|()| log.written(through, epoch))
                }
                Work::Flip(flip) => flip.run(&self.shared.disk),
            };
            self.waiting.extend(done);
            if let Err(error) = written {
                // Those behind the failed one are answered with it.
                self.waiting.extend(jobs.filter_map(|job| job.done));
                return Err(error);
            }
        }
        Ok(())
    }

    fn write_checkpoints(&mut self, states: Vec<(Arc<StateShared>, Option<Durable>)>) -> Result<(), WriteError> {
        let mut states = states.into_iter();
        while let Some((state, done)) = states.next() {
            match state.checkpoint(&self.shared.disk) {
                Ok(true) => self.waiting.extend(done),
                Ok(false) if done.is_some() => self.deferred.push((state, done)),
                Ok(false) => {}
                Err(error) => {
                    self.waiting.extend(done.into_iter().chain(states.filter_map(|(_, done)| done)));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// One flush and one fdatasync for everything written, then everybody's answer, in order.
    fn commit(&mut self) -> Result<(), WriteError> {
        self.shared.disk.commit()?;
        self.last_records = std::mem::take(&mut self.records);
        self.shared.counters.committed(self.last_records);
        for done in self.waiting.drain(..) {
            done(Ok(()));
        }
        Ok(())
    }

    /// The last round: what is still in memory reaches the disk.
    fn finish(&mut self) -> Result<(), WriteError> {
        let announced = self.shared.queue.wait(Some(Instant::now()));
        self.take_note(announced);
        let checkpoints = self.freeze(true);
        self.write_checkpoints(checkpoints)?;
        self.commit()?;
        let left = self.shared.queue.end(StorageError::Closed).into_iter().filter_map(|job| job.done);
        // A state that is still being copied goes without its checkpoint: the log replays.
        let deferred = std::mem::take(&mut self.deferred).into_iter().filter_map(|(_, done)| done);
        for done in left.chain(deferred) {
            done(Err(StorageError::Closed));
        }
        Ok(())
    }

    /// Everybody who waits is told, everybody who comes later too, and the node is asked to end.
    fn fail(&mut self, reason: String) {
        tracing::error!(reason, "storage failed");
        let error = StorageError::Failed { reason: reason.into() };
        let left = self.shared.queue.end(error.clone());
        let asked = self.asked.drain(..).chain(self.deferred.drain(..)).filter_map(|(_, done)| done);
        let asked: Vec<Durable> = asked.collect();
        let waiting = std::mem::take(&mut self.waiting);
        for done in waiting.into_iter().chain(asked).chain(left.into_iter().filter_map(|job| job.done)) {
            done(Err(error.clone()));
        }
        self.dirty.clear();
        self.shared.failure.happened(error);
    }
}
