//! The storage thread: the one writer of a node. It drains the queue, makes everything durable in the write-ahead log
//! with one commit for all shards, writes it to sled, which is made durable later, and tells everybody.
//!
//! **Invariant:** a state checkpoint at applied index `i` never becomes durable before the log records `≤ i` are. A
//! state's overlay is frozen *before* the queue is drained; a record is appended before it is applied, so every record
//! that the frozen overlay rests on is in the drained queue or written already, and is committed and goes to sled ahead
//! of the checkpoint. sled recovers a prefix of one writer's operations.
//!
//! **Invariant:** nothing is answered `Ok` after a write, a flush or an fsync has failed. Nothing is tried again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::disk::Write;
use crate::error::StorageError;
use crate::fault::{DiskFault, WriteError};
use crate::limits::{CHECKPOINT_MS, GATHER_COMMITS, GATHER_ENOUGH, GATHER_MAX, GATHER_RECORDS, WAL_WAITING_BYTES};
use crate::log::{Durable, LogShared};
use crate::queue::{Job, Work};
use crate::shared::Shared;
use crate::state::{Flip, StateShared};
use crate::wal::Wal;

/// A state with something to checkpoint, at the latest at `due`.
struct Dirty {
    due: Instant,
    state: Arc<StateShared>,
}

/// In the write-ahead log's frame, and not in sled before that is durable.
struct Pending {
    writes: Vec<Write>,
    /// Of log records: the log learns that they are in sled as far as `through`.
    records: Option<Appended>,
}

struct Appended {
    log: Arc<LogShared>,
    through: u64,
    epoch: u64,
}

struct Writer {
    shared: Arc<Shared>,
    wal: Wal,
    pending: Vec<Pending>,
    /// In the order of `due`.
    dirty: VecDeque<Dirty>,
    /// Checkpoints asked for by name, done in the next round, and who waits for them.
    asked: Vec<(Arc<StateShared>, Option<Durable>)>,
    /// Checkpoints asked for while their state was being copied; the copy's end announces the state.
    deferred: Vec<(Arc<StateShared>, Option<Durable>)>,
    /// Who is told after the next commit.
    waiting: Vec<Durable>,
    /// Who is told once sled is durable by itself.
    settling: Vec<Durable>,
    records: u64,
    /// Of the last commit, and how long it took.
    last_records: u64,
    last_commit: Duration,
}

pub(crate) fn run(shared: Arc<Shared>, wal: Wal) {
    let mut ending = Ending { writer: Writer::new(shared, wal), clean: false };
    if let Err(error) = ending.writer.work() {
        ending.writer.fail(error.fault(), error.to_string());
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
            self.writer.fail(DiskFault::Broken, "the storage thread panicked".to_owned());
        }
    }
}

impl Writer {
    fn new(shared: Arc<Shared>, wal: Wal) -> Self {
        Self {
            shared,
            wal,
            pending: Vec::new(),
            dirty: VecDeque::new(),
            asked: Vec::new(),
            deferred: Vec::new(),
            waiting: Vec::new(),
            settling: Vec::new(),
            records: 0,
            last_records: 0,
            last_commit: Duration::ZERO,
        }
    }

    /// Rounds until the queue closes.
    fn work(&mut self) -> Result<(), WriteError> {
        loop {
            let announced = self.shared.queue.wait(self.wake_at());
            self.take_note(announced);
            // Under load a commit is worth more the more it carries; a quiet node's lone record never waits.
            if self.last_records >= GATHER_RECORDS {
                let time = (self.last_commit * GATHER_COMMITS).min(GATHER_MAX);
                self.shared.queue.linger(time, GATHER_ENOUGH);
            }
            let checkpoints = self.freeze(false);
            let drained = self.shared.queue.drain();
            self.take_jobs(drained.jobs)?;
            if !self.waiting.is_empty() || !checkpoints.is_empty() || self.wal.waiting() > WAL_WAITING_BYTES {
                self.commit()?;
            }
            self.write_checkpoints(checkpoints)?;
            if drained.closing {
                return self.finish();
            }
            self.wal.turn(&self.shared)?;
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

    fn take_jobs(&mut self, jobs: Vec<Job>) -> Result<(), WriteError> {
        let mut jobs = jobs.into_iter();
        while let Some(Job { work, done }) = jobs.next() {
            match work {
                Work::Checkpoint(state) => self.asked.push((state, done)),
                Work::Writes(writes) => {
                    self.add(writes, None);
                    self.waiting.extend(done);
                }
                Work::Append { log, mut writes, through, epoch } => {
                    self.records += writes.len() as u64;
                    writes.extend(log.take_committed_write());
                    self.add(writes, Some(Appended { log, through, epoch }));
                    self.waiting.extend(done);
                }
                Work::Flip(flip) => {
                    let flipped = self.flip(&flip);
                    self.waiting.extend(done);
                    if let Err(error) = flipped {
                        // Those behind it are answered with it.
                        self.waiting.extend(jobs.filter_map(|job| job.done));
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, writes: Vec<Write>, records: Option<Appended>) {
        for write in &writes {
            self.wal.add(write);
        }
        self.pending.push(Pending { writes, records });
    }

    /// The state's marker is in a frame only here, and checkpoints write it too: so sled must be durable before the
    /// next of them, and the frame not be replayed after it.
    fn flip(&mut self, flip: &Flip) -> Result<(), WriteError> {
        let writes = flip.writes(&self.shared.disk);
        for write in &writes {
            self.wal.add(write);
        }
        self.commit()?;
        flip.run(&self.shared.disk, writes)?;
        self.wal.settle(&self.shared.disk)
    }

    fn write_checkpoints(&mut self, states: Vec<(Arc<StateShared>, Option<Durable>)>) -> Result<(), WriteError> {
        let mut states = states.into_iter();
        while let Some((state, done)) = states.next() {
            match state.checkpoint(&self.shared.disk) {
                Ok(true) => self.settling.extend(done),
                Ok(false) if done.is_some() => self.deferred.push((state, done)),
                Ok(false) => {}
                Err(error) => {
                    self.waiting.extend(done.into_iter().chain(states.filter_map(|(_, done)| done)));
                    return Err(error);
                }
            }
        }
        if !self.settling.is_empty() {
            self.shared.disk.commit()?;
            answer(&mut self.settling);
        }
        Ok(())
    }

    /// One write and one fdatasync for everything that was added, then everybody's answer, in order.
    fn commit(&mut self) -> Result<(), WriteError> {
        if self.wal.waiting() > 0 {
            self.commit_frame()?;
        }
        answer(&mut self.waiting);
        Ok(())
    }

    fn commit_frame(&mut self) -> Result<(), WriteError> {
        let begun = Instant::now();
        self.wal.commit()?;
        self.last_records = std::mem::take(&mut self.records);
        self.shared.counters.committed(self.last_records, self.wal.bytes_on_disk());
        for Pending { writes, records } in self.pending.drain(..) {
            self.shared.disk.write(writes)?;
            if let Some(Appended { log, through, epoch }) = records {
                log.written(through, epoch);
            }
        }
        self.last_commit = begun.elapsed();
        Ok(())
    }

    /// The last round: what is still in memory reaches the disk.
    fn finish(&mut self) -> Result<(), WriteError> {
        let announced = self.shared.queue.wait(Some(Instant::now()));
        self.take_note(announced);
        let checkpoints = self.freeze(true);
        self.commit()?;
        self.write_checkpoints(checkpoints)?;
        self.wal.settle(&self.shared.disk)?;
        let left = self.shared.queue.end(StorageError::Closed).into_iter().filter_map(|job| job.done);
        // A state that is still being copied goes without its checkpoint: the log replays.
        let deferred = std::mem::take(&mut self.deferred).into_iter().filter_map(|(_, done)| done);
        for done in left.chain(deferred) {
            done(Err(StorageError::Closed));
        }
        Ok(())
    }

    /// The node is asked to end, before what follows from the failure hides it in its log; whoever waits is told, and
    /// everybody who comes later.
    fn fail(&mut self, fault: DiskFault, reason: String) {
        tracing::error!(reason, "storage failed");
        let error = StorageError::Failed { reason: reason.into(), fault };
        let left = self.shared.queue.end(error.clone());
        self.shared.failure.happened(error.clone());
        let asked = self.asked.drain(..).chain(self.deferred.drain(..)).filter_map(|(_, done)| done);
        let asked: Vec<Durable> = asked.collect();
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.append(&mut self.settling);
        for done in waiting.into_iter().chain(asked).chain(left.into_iter().filter_map(|job| job.done)) {
            done(Err(error.clone()));
        }
        self.dirty.clear();
    }
}

fn answer(waiting: &mut Vec<Durable>) {
    for done in waiting.drain(..) {
        done(Ok(()));
    }
}
