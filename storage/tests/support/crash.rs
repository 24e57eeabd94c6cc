//! A child process that appends and applies as fast as it can and prints every acknowledgement, the parent that
//! listens and ends it at a random moment, and the check of what is found afterwards.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Instant;

use bytes::Bytes;
use chat::ids::ShardId;
use storage::{Compaction, Engine, LogPayload, LogRecord, LogStore, SnapshotSource, StateStore};

use super::{DEADLINE, applied, open, options, position};

const SHARDS: u16 = 4;
const DIR: &str = "CAMPANILE_STORAGE_TEST_CHILD_DIR";
/// Set for a child that compacts its database first.
pub(crate) const COMPACT: &str = "CAMPANILE_STORAGE_TEST_COMPACT";
/// Appends of one shard that are not acknowledged yet.
const IN_FLIGHT: usize = 8;

fn record(shard: u16, index: u64) -> Arc<LogRecord> {
    let payload = Bytes::from(format!("{shard}/{index}/").repeat(40));
    Arc::new(LogRecord { position: position(1, index), payload: LogPayload::Batch(payload) })
}

fn state_key(index: u64) -> Bytes {
    Bytes::copy_from_slice(&index.to_be_bytes())
}

fn apply(state: &StateStore, index: u64) {
    state.apply([(state_key(index), Some(Bytes::from(vec![b'x'; 100])))], applied(1, index)).unwrap();
}

/// The child's life, in a test function of its own that does nothing when the parent runs it.
pub(crate) fn child_role() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let engine = match std::env::var_os(COMPACT) {
        Some(_) => Engine::open_compacted(options(Path::new(&dir)), Compaction::Now).unwrap().0,
        None => open(Path::new(&dir)),
    };
    let threads: Vec<_> = (0..SHARDS)
        .map(|shard| {
            let (log, state) = (engine.log(ShardId(shard)).unwrap(), engine.state(ShardId(shard)).unwrap());
            std::thread::spawn(move || write_forever(shard, &log, &state))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

fn write_forever(shard: u16, log: &LogStore, state: &StateStore) {
    let mut next = log.bounds().last.map_or(0, |last| last.index + 1);
    // As Raft does after a restart: what is in the log and not in the state is applied again.
    let first = state.applied().position.map_or(0, |position| position.index + 1);
    (first..next).for_each(|index| apply(state, index));
    let (free, slots) = mpsc::channel();
    (0..IN_FLIGHT).for_each(|_| free.send(()).unwrap());
    for round in 0u64.. {
        slots.recv().unwrap();
        let end = next + 1 + round % 7;
        let free = free.clone();
        let durable = Box::new(move |result: Result<(), storage::StorageError>| {
            result.unwrap();
            acknowledge(shard, end - 1);
            let _ = free.send(());
        });
        log.append((next..end).map(|index| record(shard, index)).collect(), durable).unwrap();
        // Before our own disk has it, as a follower may when the others are quicker: the marker must wait.
        (next..end).for_each(|index| apply(state, index));
        if round % 400 == 399 {
            log.save_vote(Bytes::from(round.to_be_bytes().to_vec())).unwrap();
            let mut snapshot = state.snapshot();
            while snapshot.next().unwrap().is_some() {}
        }
        next = end;
    }
}

#[expect(clippy::print_stdout, reason = "the pipe to the parent")]
fn acknowledge(shard: u16, index: u64) {
    println!("ack {shard} {index}");
}

/// The last acknowledged index of each shard, and how many acknowledgements there were.
#[derive(Debug, Clone, Default)]
pub(crate) struct Acks {
    pub(crate) last: BTreeMap<u16, u64>,
    pub(crate) count: usize,
}

pub(crate) struct Writer {
    child: Child,
    acks: Arc<Mutex<Acks>>,
    listener: Option<std::thread::JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_with(dir, &[])
    }

    pub(crate) fn start_with(dir: &Path, environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child_role", "--exact", "--nocapture"])
            .env(DIR, dir)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let acks = Arc::new(Mutex::new(Acks::default()));
        let heard = acks.clone();
        let listener = std::thread::spawn(move || {
            for line in lines {
                let line = line.unwrap();
                // A kill may cut the last line short: it has no newline and may lack digits.
                let Some(rest) = line.strip_prefix("ack ") else { continue };
                let Some((shard, index)) = rest.split_once(' ') else { continue };
                let (Ok(shard), Ok(index)) = (shard.parse(), index.parse()) else { continue };
                let mut acks = heard.lock().unwrap();
                let last: &mut u64 = acks.last.entry(shard).or_default();
                *last = (*last).max(index);
                acks.count += 1;
            }
        });
        Self { child, acks, listener: Some(listener) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn acks(&self) -> Acks {
        self.acks.lock().unwrap().clone()
    }

    /// Waits until so many acknowledgements have come.
    pub(crate) fn wait_for(&mut self, count: usize) {
        let deadline = Instant::now() + DEADLINE;
        while self.acks().count < count {
            assert!(self.child.try_wait().unwrap().is_none(), "the child ended by itself");
            assert!(Instant::now() < deadline, "too few acknowledgements: {:?}", self.acks());
            std::thread::yield_now();
        }
    }

    /// `kill -9`, and everything it had said.
    pub(crate) fn kill(mut self) -> Acks {
        self.end();
        self.acks()
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(listener) = self.listener.take() {
            listener.join().unwrap();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

/// A number in `0..end`.
pub(crate) fn random(end: usize) -> usize {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).unwrap();
    (u64::from_le_bytes(bytes) % end as u64) as usize
}

/// Everything acknowledged is there, the state is that of its marker, and the marker is not ahead of the log.
pub(crate) fn check(engine: &Engine, acks: &Acks) {
    for shard in 0..SHARDS {
        let (log, state) = (engine.log(ShardId(shard)).unwrap(), engine.state(ShardId(shard)).unwrap());
        let records = log.read(0, u64::MAX, usize::MAX).unwrap();
        for (index, found) in records.iter().enumerate() {
            assert_eq!(*found, record(shard, index as u64));
        }
        let acked = acks.last.get(&shard).map_or(0, |last| last + 1);
        assert!(records.len() as u64 >= acked, "shard {shard}: {} of {acked} acknowledged records", records.len());

        let applied = state.applied().position.map_or(0, |position| position.index + 1);
        assert!(applied <= records.len() as u64, "shard {shard}: applied {applied} of {}", records.len());
        let keys: Vec<_> = state.scan(b"", None, usize::MAX).unwrap().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, (0..applied).map(state_key).collect::<Vec<_>>(), "shard {shard}");
        assert!(state.snapshot().next().is_ok(), "shard {shard}: it can be copied");
    }
}
