//! A worker: one thread, one event loop, some of the connections.

mod links;
mod load;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use hdrhistogram::Histogram;
use mio::{Events, Poll, Token, Waker};

use super::connection::Buffers;
use super::record::histogram;
use super::timer::Alarm;
use super::traffic::Traffic;
use super::{Clock, Command, Outcome, Second, Setup, Shared};
use crate::protocol::{Ask, Number, Protocol};
use links::Link;
use load::Running;

const WAKER: Token = Token(usize::MAX - 1);
const ALARM: Token = Token(usize::MAX - 2);
const EVENTS: usize = 1_024;
/// How often the loop looks at itself, and at the second.
const TICK_US: u64 = 10_000;

/// A worker's ends of what leads out of it.
pub(super) struct Ends {
    pub(super) commands: Receiver<Command>,
    pub(super) seconds: SyncSender<Second>,
    pub(super) shared: Arc<Shared>,
}

/// A request that is no send.
#[derive(Debug, Clone, Copy)]
struct Asked {
    user: u32,
    what: Ask,
    due_us: u64,
}

pub(super) struct Worker<P: Protocol> {
    protocol: Arc<P>,
    setup: Arc<Setup>,
    ends: Ends,
    clock: Clock,
    poll: Poll,
    waker: Arc<Waker>,
    alarm: Alarm,
    buffers: Buffers,
    /// This worker's users.
    users: Vec<u32>,
    /// By user; none for those of other workers.
    links: Vec<Option<Link<P::Session>>>,
    to_log_in: VecDeque<u32>,
    logging_in: usize,
    ready: u64,
    reconnects: BinaryHeap<Reverse<(u64, u32)>>,
    retries: BinaryHeap<Reverse<(u64, Number)>>,
    /// Users whose connection has something to write.
    dirty: Vec<u32>,
    text: Vec<u8>,
    traffic: Traffic,
    running: Option<Running>,
    next_tick_us: u64,
    lag: Histogram<u64>,
    /// Requests that are no sends, on their way.
    asked: HashMap<u32, Asked>,
    next_ask: u32,
    quit: bool,
}

impl<P: Protocol> Worker<P> {
    pub(super) fn new(
        protocol: Arc<P>,
        setup: Arc<Setup>,
        users: Vec<u32>,
        clock: Clock,
        ends: Ends,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let alarm = Alarm::new(poll.registry(), ALARM)?;
        let mut links: Vec<Option<Link<P::Session>>> = (0..setup.shape.users).map(|_| None).collect();
        for user in &users {
            links[*user as usize] = Some(Link::new(protocol.session(*user), *user));
        }
        let mine = |group: u32| {
            let first = setup.shape.groups[group as usize].members.first();
            first.is_some_and(|user| links[*user as usize].is_some())
        };
        let traffic = Traffic::new(&setup.shape, protocol.order(), setup.payload, mine);
        Ok(Self {
            protocol,
            ends,
            clock,
            poll,
            waker,
            alarm,
            buffers: Buffers::new(),
            users,
            links,
            to_log_in: VecDeque::new(),
            logging_in: 0,
            ready: 0,
            reconnects: BinaryHeap::new(),
            retries: BinaryHeap::new(),
            dirty: Vec::new(),
            text: Vec::new(),
            traffic,
            running: None,
            next_tick_us: 0,
            lag: histogram(),
            asked: HashMap::new(),
            next_ask: 0,
            quit: false,
            setup,
        })
    }

    pub(super) fn waker(&self) -> Arc<Waker> {
        self.waker.clone()
    }

    pub(super) fn run(mut self) -> io::Result<Outcome> {
        let mut events = Events::with_capacity(EVENTS);
        while !self.quit {
            let wake_us = self.wake_us();
            self.alarm.set(wake_us, self.clock.now_us())?;
            match self.poll.poll(&mut events, Some(Duration::from_secs(1))) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                match event.token() {
                    WAKER => self.obey(),
                    ALARM => {}
                    Token(user) => self.look(user as u32, event.is_writable()),
                }
            }
            self.act();
            self.flush();
            self.tick();
        }
        Ok(self.outcome())
    }

    /// When something is to be done that no socket tells of.
    fn wake_us(&self) -> u64 {
        let retry = self.retries.peek().map(|Reverse((at_us, _))| *at_us);
        let reconnect = self.reconnects.peek().map(|Reverse((at_us, _))| *at_us);
        let pace = self.running.as_ref().and_then(Running::next_us);
        [retry, reconnect, pace].into_iter().flatten().fold(self.next_tick_us, u64::min)
    }

    fn obey(&mut self) {
        while let Ok(command) = self.ends.commands.try_recv() {
            match command {
                Command::Login => {
                    let first = self.setup.first;
                    self.to_log_in.extend(self.users.iter().filter(|user| **user < first));
                }
                Command::Join => self.join_all(),
                Command::Begin(load, begin_us) => self.begin(load, begin_us),
                Command::Quit => self.quit = true,
            }
        }
    }

    /// What is due, and what the events led to.
    fn act(&mut self) {
        let now_us = self.clock.now_us();
        self.settle_effects(now_us);
        self.pace(now_us);
        self.log_in(now_us);
        while let Some(Reverse((at_us, number))) = self.retries.peek().copied().filter(|r| r.0.0 <= now_us) {
            let _ = at_us;
            self.retries.pop();
            self.send_again(number);
        }
        self.send_lanes(now_us);
    }

    fn tick(&mut self) {
        let now_us = self.clock.now_us();
        if now_us < self.next_tick_us {
            return;
        }
        if self.next_tick_us > 0 {
            self.lag.saturating_record(now_us - self.next_tick_us);
        }
        self.next_tick_us = now_us - now_us % TICK_US + TICK_US;
        let shared = &self.ends.shared;
        shared.sent.store(self.traffic.counters.sent, Ordering::Relaxed);
        shared.acked.store(self.traffic.counters.acked, Ordering::Relaxed);
        self.progress(now_us);
    }
}
