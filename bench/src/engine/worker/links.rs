//! Connections of a worker: made, lost, made again; read and written.

use std::cmp::Reverse;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use mio::{Interest, Token};

use super::super::connection::{Connection, Step};
use super::{Asked, Worker};
use crate::protocol::{Ask, Number, Protocol};

/// Before a lost connection is made again: doubled with each failure.
const BACKOFF_US: u64 = 20_000;
const BACKOFF_MAX_US: u64 = 1_000_000;

/// A user's way to the system.
pub(super) struct Link<S> {
    connection: Option<Connection>,
    session: S,
    /// When the connection was begun.
    began_us: u64,
    /// When the last one was lost.
    lost_us: Option<u64>,
    /// Moves on after a failure.
    node: usize,
    failures: u32,
    pub(super) ready: bool,
    dirty: bool,
    /// Logged in before: what is missing then was lost on the way.
    known: bool,
}

impl<S> Link<S> {
    pub(super) fn new(session: S, user: u32) -> Self {
        let node = user as usize;
        Self {
            connection: None,
            session,
            began_us: 0,
            lost_us: None,
            node,
            failures: 0,
            ready: false,
            dirty: false,
            known: false,
        }
    }
}

impl<P: Protocol> Worker<P> {
    /// Cuts the connections of a share of the users; nobody says goodbye.
    pub(super) fn cut(&mut self, share: f64) {
        for user in self.users.clone() {
            // Spread over all users, the same ones each time.
            let place = (u64::from(user).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64 / (1u64 << 24) as f64;
            if place < share && self.links[user as usize].as_ref().is_some_and(|link| link.ready) {
                self.lose(user, "cut by the scenario");
            }
        }
    }

    /// A user closes the app and opens it again.
    pub(super) fn log_in_again(&mut self, user: u32, now_us: u64) {
        let Some(link) = self.links.get_mut(user as usize).and_then(Option::as_mut) else { return };
        let Some(mut connection) = link.connection.take_if(|_| link.ready) else { return };
        // Fails only if it was never registered.
        let _ = self.poll.registry().deregister(connection.socket());
        link.ready = false;
        // Whoever closes the app does not wait for answers.
        self.asked.retain(|_, asked| asked.user != user);
        self.ready -= 1;
        self.ends.shared.ready.fetch_sub(1, Ordering::Relaxed);
        self.reconnects.push(Reverse((now_us, user)));
    }

    /// Makes a request that is no send. False if this user cannot.
    pub(super) fn ask(&mut self, user: u32, what: Ask, due_us: u64) -> bool {
        let Some(link) = self.links.get_mut(user as usize).and_then(Option::as_mut) else { return false };
        let Some(connection) = link.connection.as_mut().filter(|_| link.ready) else { return false };
        let ask = self.next_ask;
        if !self.protocol.ask(&mut link.session, ask, what, &mut connection.outbox()) {
            return false;
        }
        self.next_ask = self.next_ask.wrapping_add(1);
        self.asked.insert(ask, Asked { user, what, due_us });
        if !std::mem::replace(&mut link.dirty, true) {
            self.dirty.push(user);
        }
        true
    }

    /// Begins as many logins as may be under way, and those whose time has come again.
    pub(super) fn log_in(&mut self, now_us: u64) {
        while let Some((user, due_us)) = self.due_logins() {
            self.connect(user, due_us);
        }
        while let Some(Reverse((_, user))) = self.reconnects.peek().copied().filter(|r| r.0.0 <= now_us) {
            self.reconnects.pop();
            self.to_log_in.push_back(user);
        }
        let at_once = (self.setup.logins / self.setup.workers).max(1);
        while self.logging_in < at_once {
            let Some(user) = self.to_log_in.pop_front() else { return };
            self.connect(user, now_us);
        }
    }

    /// `began_us` is when the login was to begin: its latency counts from there.
    fn connect(&mut self, user: u32, began_us: u64) {
        let Some(link) = self.links.get_mut(user as usize).and_then(Option::as_mut) else { return };
        link.session = self.protocol.session(user);
        link.began_us = began_us;
        self.logging_in += 1;
        let connected = self.setup.connector.connect(link.node).and_then(|mut connection| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(connection.socket(), Token(user as usize), interest)?;
            Ok(connection)
        });
        match connected {
            Ok(connection) => link.connection = Some(connection),
            Err(error) => self.lose(user, &error.to_string()),
        }
    }

    /// The socket of a user may be read or written.
    pub(super) fn look(&mut self, user: u32, writable: bool) {
        let now_us = self.clock.now_us();
        let Some(link) = self.links.get_mut(user as usize).and_then(Option::as_mut) else { return };
        let Some(connection) = &mut link.connection else { return };
        let mut result = Ok(());
        if writable {
            result = connection.connected(self.setup.connector.host(link.node), &self.protocol.handshake());
        }
        let known = link.known;
        let (session, traffic, protocol) = (&mut link.session, &mut self.traffic, &self.protocol);
        let result = result.and_then(|()| {
            connection.read(&mut self.buffers, |step, out| match step {
                Step::Opened if known => protocol.opened(session, &traffic.have(user), out),
                Step::Opened => protocol.opened(session, &[], out),
                Step::Message(message) => {
                    protocol.receive(session, message, out, &mut |event| traffic.take(user, event, now_us));
                }
            })
        });
        if !std::mem::replace(&mut link.dirty, true) {
            self.dirty.push(user);
        }
        if let Err(error) = result {
            self.lose(user, &error.to_string());
        }
    }

    /// The connection is gone, or of no use. It is made again, to the next node.
    pub(super) fn lose(&mut self, user: u32, why: &str) {
        let now_us = self.clock.now_us();
        let Some(link) = self.links.get_mut(user as usize).and_then(Option::as_mut) else { return };
        if let Some(mut connection) = link.connection.take() {
            // Fails only if it was never registered.
            let _ = self.poll.registry().deregister(connection.socket());
        }
        if std::mem::take(&mut link.ready) {
            link.lost_us = Some(now_us);
            self.ready -= 1;
            self.ends.shared.ready.fetch_sub(1, Ordering::Relaxed);
        } else {
            self.logging_in -= 1;
        }
        link.node += 1;
        link.failures += 1;
        let wait_us = (BACKOFF_US << link.failures.min(6)).min(BACKOFF_MAX_US);
        // Spread by the user's number, so that not everybody comes at once.
        let spread_us = wait_us * (u64::from(user) % 16) / 16;
        self.reconnects.push(Reverse((now_us + wait_us / 2 + spread_us, user)));
        self.traffic.counters.reconnects += u64::from(link.known);
        let kind = if link.known { "connection lost" } else { "login failed" };
        self.traffic.error(format!("{kind}: {why}"));
        self.asked.retain(|_, asked| asked.user != user);
        *self.ends.shared.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_owned());
    }

    /// What the events of this turn led to, sends excepted.
    pub(super) fn settle_effects(&mut self, now_us: u64) {
        for user in std::mem::take(&mut self.traffic.effects.ready) {
            self.readied(user, now_us);
        }
        for (user, why) in std::mem::take(&mut self.traffic.effects.failed) {
            let connected = self.links[user as usize].as_ref().is_some_and(|link| link.connection.is_some());
            if connected {
                self.lose(user, &why);
            }
        }
        for (at_us, number) in std::mem::take(&mut self.traffic.effects.retries) {
            self.retries.push(Reverse((at_us, number)));
        }
        for ask in std::mem::take(&mut self.traffic.effects.answered) {
            if let Some(asked) = self.asked.remove(&ask) {
                self.traffic.counters.answered += 1;
                self.traffic.record.answer(asked.what, asked.due_us, now_us);
            }
        }
        for ask in std::mem::take(&mut self.traffic.effects.declined) {
            self.asked.remove(&ask);
        }
        self.ends.shared.joined.store(self.traffic.joined, Ordering::Relaxed);
    }

    fn readied(&mut self, user: u32, now_us: u64) {
        let Some(link) = self.links.get_mut(user as usize).and_then(Option::as_mut) else { return };
        if link.connection.is_none() || std::mem::replace(&mut link.ready, true) {
            return;
        }
        let known = std::mem::replace(&mut link.known, true);
        link.failures = 0;
        self.logging_in -= 1;
        self.ready += 1;
        self.ends.shared.ready.fetch_add(1, Ordering::Relaxed);
        self.traffic.counters.logins += 1;
        match link.lost_us.take() {
            Some(lost_us) => self.traffic.record.reconnect(lost_us, now_us),
            None => self.traffic.record.login(link.began_us, now_us),
        }
        if let Some(connection) = &mut link.connection {
            connection.shrink();
        }
        if known {
            self.join(user);
        }
        for number in self.traffic.unacked(user) {
            self.send_again(number);
        }
    }

    /// Everybody joins their groups.
    pub(super) fn join_all(&mut self) {
        for user in self.users.clone() {
            self.join(user);
        }
    }

    fn join(&mut self, user: u32) {
        let groups = self.traffic.groups_of(user);
        let Some(link) = self.links.get_mut(user as usize).and_then(Option::as_mut) else { return };
        let Some(connection) = link.connection.as_mut().filter(|_| link.ready) else { return };
        for group in groups {
            self.protocol.join(&mut link.session, group, &mut connection.outbox());
        }
        if !std::mem::replace(&mut link.dirty, true) {
            self.dirty.push(user);
        }
    }

    // --- sending -------------------------------------------------------------------------------------------------

    /// Every lane that may send does.
    pub(super) fn send_lanes(&mut self, now_us: u64) {
        let mut lanes = std::mem::take(&mut self.traffic.effects.lanes);
        for lane in lanes.drain(..) {
            while let Some((user, group, number)) = self.traffic.next(lane, now_us) {
                self.write_message(user, group, number);
            }
        }
        self.traffic.effects.lanes = lanes;
    }

    pub(super) fn send_again(&mut self, number: Number) {
        if let Some((user, group)) = self.traffic.again(number) {
            self.write_message(user, group, number);
        }
    }

    /// Without a connection nothing is written: whatever has no ack is sent once there is one.
    fn write_message(&mut self, user: u32, group: u32, number: Number) {
        let Some(link) = self.links.get_mut(user as usize).and_then(Option::as_mut) else { return };
        let Some(connection) = link.connection.as_mut().filter(|_| link.ready) else { return };
        self.traffic.text(number, &mut self.text);
        let text = std::str::from_utf8(&self.text).unwrap_or_default();
        self.protocol.send(&mut link.session, number, group, text, &mut connection.outbox());
        if !std::mem::replace(&mut link.dirty, true) {
            self.dirty.push(user);
        }
    }

    /// One write for everything that waits on a connection.
    pub(super) fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for user in dirty.drain(..) {
            let Some(link) = self.links.get_mut(user as usize).and_then(Option::as_mut) else { continue };
            link.dirty = false;
            let Some(connection) = &mut link.connection else { continue };
            if let Err(error) = connection.write() {
                self.lose(user, &error.to_string());
            }
        }
        if self.dirty.is_empty() {
            self.dirty = dirty;
        }
    }
}
