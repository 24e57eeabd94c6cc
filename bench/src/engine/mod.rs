//! Thousands of WebSocket connections on a few threads: each worker is an event loop (epoll) that owns its connections
//! and its groups. There is no task and no timer per connection, and nothing is shared between workers while they run
//! but a few counters.

mod connection;
mod connector;
pub mod interval;
mod pacing;
pub mod record;
mod timer;
mod traffic;
mod websocket;
mod worker;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::Waker;
use serde::{Deserialize, Serialize};

pub use connector::{Connector, ConnectorError};
use interval::Counters;
use record::Latencies;
use worker::Worker;

use crate::check::Broken;
use crate::protocol::{Number, Protocol};
use crate::workload::Shape;

/// Commands and seconds that wait for whoever takes them.
const QUEUE: usize = 1_024;

/// How messages are paced.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Loop {
    /// A lane sends its next message when fewer than so many of its own are on the way.
    Closed { window: u32 },
    /// So many messages a second over all lanes, whatever becomes of them.
    Open { per_second: f64 },
}

/// A part of a load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// From the beginning of the measured window; the first phase begins with the warm-up.
    pub begin: Duration,
    /// None: nobody sends.
    pub pace: Option<Loop>,
    /// Over all users, a second: positions and lists, and pages of history.
    pub reads_per_s: f64,
    pub history_per_s: f64,
    /// Users who close the app and open it again.
    pub relogins_per_s: f64,
    /// Users with a smaller number stay connected.
    pub relogins_from: u32,
    /// The share of all connections that is cut when the phase begins.
    pub cut: f64,
}

impl Phase {
    /// Sends and nothing else.
    pub fn of(pace: Option<Loop>) -> Self {
        Self {
            begin: Duration::ZERO,
            pace,
            reads_per_s: 0.0,
            history_per_s: 0.0,
            relogins_per_s: 0.0,
            relogins_from: 0,
            cut: 0.0,
        }
    }
}

/// A load, from its beginning to the last delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Load {
    pub phases: Vec<Phase>,
    /// Not measured.
    pub warmup: Duration,
    pub measured: Duration,
    /// How long what is on its way may take after the last send.
    pub drain: Duration,
    /// Those who were not among the first log in at this rate, from the beginning of the measured window.
    pub logins_per_s: Option<f64>,
    /// Every ack's moment and group is kept.
    pub log_acks: bool,
}

impl Load {
    /// One phase of sends.
    pub fn steady(pace: Option<Loop>, warmup: Duration, measured: Duration, drain: Duration) -> Self {
        Self { phases: vec![Phase::of(pace)], warmup, measured, drain, logins_per_s: None, log_acks: false }
    }

    /// The rate that is asked for in every phase, if all are open loops of the same one.
    pub fn rate(&self) -> Option<f64> {
        let rate = |phase: &Phase| match phase.pace {
            Some(Loop::Open { per_second }) => Some(per_second),
            _ => None,
        };
        let first = rate(self.phases.first()?)?;
        self.phases.iter().all(|phase| rate(phase) == Some(first)).then_some(first)
    }
}

/// What all workers need to know.
pub struct Setup {
    pub shape: Shape,
    pub connector: Connector,
    /// Bytes of a message's text.
    pub payload: usize,
    pub workers: usize,
    /// Logins under way at once, over all workers.
    pub logins: usize,
    /// Users below this number log in before the load begins.
    pub first: u32,
}

/// What workers tell while they run.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) ready: AtomicU64,
    pub(crate) joined: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) acked: AtomicU64,
    pub(crate) ended: AtomicU64,
    pub(crate) last_error: Mutex<Option<String>>,
}

#[derive(Debug, Clone)]
pub(crate) enum Command {
    Login,
    Join,
    /// Begin at this moment of the engine's clock.
    Begin(Load, u64),
    Quit,
}

/// A second of a worker, or of all.
#[derive(Debug, Clone, Default)]
pub struct Second {
    /// 0 is the first of the measured window.
    pub second: i64,
    pub counters: Counters,
    pub ack: Option<Histogram<u64>>,
    pub delivery: Option<Histogram<u64>>,
    pub connections: u64,
    pub backlog: u64,
    /// The worker thread's.
    pub cpu_us: u64,
}

/// What a worker, or all of them, came to.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Of the measured window.
    pub counters: Counters,
    /// Of the whole run.
    pub total: Counters,
    pub measured_us: u64,
    pub drain_us: u64,
    pub latencies: Latencies,
    pub broken: Broken,
    pub told: Vec<String>,
    pub errors: BTreeMap<String, u64>,
    /// Sends that were never answered.
    pub unanswered: Vec<Number>,
    /// Of each lane, the messages sent.
    pub lanes: Vec<u32>,
    pub backlog_peak: u64,
    pub generator: Vec<WorkerLoad>,
    /// If asked for, of every ack the moment on the engine's clock, and its group.
    pub acks: Vec<(u64, u32)>,
}

/// How hard a worker worked in the measured window.
#[derive(Debug, Clone)]
pub struct WorkerLoad {
    pub cpu_us: u64,
    pub measured_us: u64,
    /// How late its timers fired.
    pub lag: Histogram<u64>,
}

impl Outcome {
    fn add(&mut self, more: Self) {
        self.counters.add(&more.counters);
        self.total.add(&more.total);
        self.measured_us = self.measured_us.max(more.measured_us);
        self.drain_us = self.drain_us.max(more.drain_us);
        self.latencies.add(&more.latencies);
        self.broken.add(&more.broken);
        self.told.extend(more.told);
        for (error, count) in more.errors {
            *self.errors.entry(error).or_default() += count;
        }
        self.unanswered.extend(more.unanswered);
        if self.lanes.len() < more.lanes.len() {
            self.lanes.resize(more.lanes.len(), 0);
        }
        // A lane belongs to one worker; the others sent nothing in it.
        self.lanes.iter_mut().zip(more.lanes).for_each(|(lane, sent)| *lane += sent);
        self.backlog_peak += more.backlog_peak;
        self.generator.extend(more.generator);
        self.acks.extend(more.acks);
    }
}

/// The workers of a run.
pub struct Engine {
    clock: Clock,
    workers: Vec<JoinHandle<io::Result<Outcome>>>,
    commands: Vec<(SyncSender<Command>, Arc<Waker>)>,
    shared: Arc<Shared>,
    seconds: Receiver<Second>,
}

/// Microseconds since the engine began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn now_us(self) -> u64 {
        self.0.elapsed().as_micros() as u64
    }
}

impl Engine {
    pub fn start<P: Protocol>(protocol: &Arc<P>, setup: Setup) -> io::Result<Self> {
        let clock = Clock(Instant::now());
        let shared = Arc::new(Shared::default());
        let (second_sender, seconds) = sync_channel(QUEUE);
        let workers_of = setup.shape.split(setup.workers);
        let setup = Arc::new(setup);
        let (mut workers, mut commands) = (Vec::new(), Vec::new());
        for number in 0..setup.workers {
            let users = (0..setup.shape.users).filter(|user| workers_of[*user as usize] == number).collect();
            let (sender, receiver) = sync_channel(QUEUE);
            let ends = worker::Ends { commands: receiver, seconds: second_sender.clone(), shared: shared.clone() };
            let worker = Worker::new(protocol.clone(), setup.clone(), users, clock, ends)?;
            commands.push((sender, worker.waker()));
            let thread = std::thread::Builder::new().name(format!("load-{number}"));
            workers.push(thread.spawn(move || worker.run())?);
        }
        Ok(Self { clock, workers, commands, shared, seconds })
    }

    fn tell(&self, command: &Command) {
        for (sender, waker) in &self.commands {
            // A worker that ended takes no commands; its outcome says why.
            let sent = sender.send(command.clone()).is_ok();
            if sent {
                let _ = waker.wake();
            }
        }
    }

    /// Everybody connects and logs in.
    pub fn login(&self) {
        self.tell(&Command::Login);
    }

    /// Users who are logged in now.
    pub fn ready(&self) -> u64 {
        self.shared.ready.load(Ordering::Relaxed)
    }

    pub fn join(&self) {
        self.tell(&Command::Join);
    }

    /// Memberships whose deliveries have begun.
    pub fn joined(&self) -> u64 {
        self.shared.joined.load(Ordering::Relaxed)
    }

    /// Why the last connection or login failed.
    pub fn last_error(&self) -> Option<String> {
        self.shared.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins a load after a moment; returns when its measured window begins.
    pub fn begin(&self, load: &Load) -> Instant {
        let begin_us = self.clock.now_us() + 20_000;
        self.tell(&Command::Begin(load.clone(), begin_us));
        self.clock.0 + Duration::from_micros(begin_us) + load.warmup
    }

    /// Whether all workers are through with their load.
    pub fn ended(&self) -> bool {
        self.shared.ended.load(Ordering::Relaxed) >= self.workers.len() as u64
    }

    /// The engine's clock.
    pub fn now_us(&self) -> u64 {
        self.clock.now_us()
    }

    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// The next second that a worker tells of; none at `deadline`.
    pub fn next_second(&self, deadline: Instant) -> Option<Second> {
        self.seconds.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
    }

    /// Closes every connection; what everything came to.
    pub fn finish(self) -> io::Result<Outcome> {
        self.tell(&Command::Quit);
        let mut all = Outcome::default();
        for worker in self.workers {
            let ended = worker.join().map_err(|_| io::Error::other("a worker of the load generator panicked"))?;
            all.add(ended?);
        }
        Ok(all)
    }
}
