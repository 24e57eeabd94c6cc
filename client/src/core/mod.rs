//! The client's decisions, without socket, clock or randomness: what comes in is an input with the time
//! of the client's clock in milliseconds, what is to be done comes out as [`Effect`]s.

pub(crate) mod backoff;
pub(crate) mod delivery;
pub(crate) mod requests;
pub(crate) mod standing;

use std::collections::VecDeque;

use chat::limits;
use chat::wire::{ClientFrame, Credentials, Device, Position, ReadMode, Request, ResyncReason, ServerFrame, WireError};

use self::delivery::{Delivery, Page};
use self::requests::{Failure, Pending, Requests, Settled};
use self::standing::{Lasting, Standing};
use crate::event::ClientEvent;
use crate::session::{Session, Stats};

/// Requests that may wait for the connection or the window; past it callers wait.
const WAITING_REQUESTS: usize = 128;
/// An answer later than this means that the connection is dead, whatever TCP thinks.
const ANSWER_TIMEOUT_MS: u64 = limits::REQUEST_TIMEOUT_MS + 5_000;
/// Bytes of positions in one `resume`; conversations left out are read from history instead.
const RESUME_BYTES: usize = limits::FRAME_BYTES - 1_024;

/// Whom an answer is for: a caller with its ticket, or the core itself.
#[derive(Debug)]
pub(crate) enum Purpose<T> {
    /// With what holds from then on, if the answer is no error.
    Caller(T, Option<Lasting>),
    Backfill(Page),
    /// What held on the last connection is to hold on this one.
    Again,
}

/// What the shell has to do.
#[derive(Debug)]
pub(crate) enum Effect<T> {
    Transmit(String),
    Answer(T, Result<Box<ServerFrame>, Failure>),
    /// Login and resume are done.
    Online(Box<Session>),
    /// The service refused the login.
    LoginRefused(WireError),
    /// Close this connection and try the next node.
    Abandon(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Offline,
    LoggingIn { id: u64 },
    Resuming { id: u64 },
    Online,
}

pub(crate) struct Core<T> {
    phase: Phase,
    next_id: u64,
    requests: Requests<Purpose<T>>,
    delivery: Delivery,
    standing: Standing,
    effects: VecDeque<Effect<T>>,
    session: Option<Session>,
    /// When something last came from the node.
    heard_ms: u64,
    /// When the node wants us gone.
    leave_ms: Option<u64>,
    connections: u64,
}

impl<T> Core<T> {
    pub(crate) fn new(have: Vec<Position>) -> Self {
        Self {
            phase: Phase::Offline,
            next_id: 1,
            requests: Requests::new(limits::SESSION_IN_FLIGHT),
            delivery: Delivery::new(have),
            standing: Standing::default(),
            effects: VecDeque::new(),
            session: None,
            heard_ms: 0,
            leave_ms: None,
            connections: 0,
        }
    }

    pub(crate) fn poll_effect(&mut self) -> Option<Effect<T>> {
        self.effects.pop_front()
    }

    pub(crate) fn poll_event(&mut self, now_ms: u64) -> Option<ClientEvent> {
        let event = self.delivery.pop();
        if event.is_some() {
            self.pump(now_ms);
        }
        event
    }

    pub(crate) fn has_event(&self) -> bool {
        self.delivery.has_ready()
    }

    /// Whether another request may be given to [`Self::request`].
    pub(crate) fn accepts(&self) -> bool {
        self.requests.waiting() < WAITING_REQUESTS
    }

    /// Whether the connection must not be read for now.
    pub(crate) fn congested(&self) -> bool {
        self.delivery.congested()
    }

    pub(crate) fn request(
        &mut self,
        json: String,
        purpose: Purpose<T>,
        deadline_ms: u64,
        repeatable: bool,
        now_ms: u64,
    ) {
        self.requests.push(Pending::new(json, purpose, deadline_ms, repeatable));
        self.pump(now_ms);
    }

    /// A connection is there: logs in.
    pub(crate) fn connected(&mut self, auth: Credentials, device: Device, now_ms: u64) {
        let id = self.take_id();
        self.heard_ms = now_ms;
        self.leave_ms = None;
        self.phase = Phase::LoggingIn { id };
        self.transmit(&ClientFrame { id, request: Request::Login { auth, device } });
    }

    /// The connection is gone.
    pub(crate) fn disconnected(&mut self, why: &str) {
        if self.phase == Phase::Online {
            self.delivery.notice(ClientEvent::Disconnected { why: why.to_owned() });
        }
        self.phase = Phase::Offline;
        self.delivery.disconnected();
        self.requests.retain(|purpose| matches!(purpose, Purpose::Caller(..)));
        for (purpose, failure) in self.requests.disconnected() {
            self.answer(purpose, Err(failure));
        }
    }

    /// No connection will follow.
    pub(crate) fn closed(&mut self, code: u16, why: &str) {
        self.disconnected(why);
        for (purpose, failure) in self.requests.abandon() {
            self.answer(purpose, Err(failure));
        }
        self.delivery.notice(ClientEvent::Closed { code, why: why.to_owned() });
    }

    /// Something came from the node, if only a ping.
    pub(crate) fn heard(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
    }

    /// Something was said by the node. Long because it has an arm for each type of frame.
    pub(crate) fn frame(&mut self, frame: ServerFrame, now_ms: u64, random: u64) {
        match frame {
            ServerFrame::Event { event } => self.delivery.event(event),
            ServerFrame::ReadMoved { conversation, user, seq } => {
                self.delivery.notice(ClientEvent::ReadMoved { conversation, user, seq });
            }
            ServerFrame::DeliveredMoved { conversation, user, seq } => {
                self.delivery.notice(ClientEvent::DeliveredMoved { conversation, user, seq });
            }
            ServerFrame::Stream { conversation, from, client_msg_id, offset, text } => {
                self.delivery.notice(ClientEvent::Stream { conversation, from, client_msg_id, offset, text });
            }
            ServerFrame::DeletedForMe { conversation, first, last } => {
                self.delivery.notice(ClientEvent::DeletedForMe { conversation, first, last });
            }
            ServerFrame::ItemsChanged { items, version } => {
                self.delivery.notice(ClientEvent::ItemsChanged { items, version });
            }
            ServerFrame::JoinAsked { group, user, text } => {
                self.delivery.notice(ClientEvent::JoinAsked { group, user, text });
            }
            ServerFrame::ConversationAdded { conversation, live_after } => {
                self.delivery.added(conversation, live_after);
            }
            ServerFrame::ConversationRemoved { conversation } => self.delivery.removed(&conversation),
            ServerFrame::MustResync { conversation, reason: ResyncReason::Retention, oldest_seq } => {
                self.delivery.trimmed(conversation, oldest_seq);
            }
            ServerFrame::MustResync { conversation, reason: reason @ ResyncReason::Epoch, oldest_seq } => {
                self.delivery.must_resync(conversation, reason, oldest_seq);
            }
            ServerFrame::Goaway { reconnect_after_ms } => {
                self.leave_ms = Some(now_ms + reconnect_after_ms);
                self.delivery.notice(ClientEvent::Goaway { reconnect_after_ms });
            }
            ServerFrame::Presence { re: None, users } => self.delivery.notice(ClientEvent::Presence { users }),
            ServerFrame::Typing { conversation, user } => {
                self.delivery.notice(ClientEvent::Typing { conversation, user });
            }
            ServerFrame::Signal { conversation, from, body } => {
                self.delivery.notice(ClientEvent::Signal { conversation, from, body });
            }
            ServerFrame::Hello { re, .. } if self.phase == (Phase::LoggingIn { id: re }) => self.hello(frame),
            ServerFrame::Resumed { re, conversations } if self.phase == (Phase::Resuming { id: re }) => {
                conversations.into_iter().for_each(|resumption| self.delivery.resumed(resumption));
                self.online();
            }
            ServerFrame::Error { re: Some(re), error } => self.refused(re, error, now_ms, random),
            ServerFrame::Error { re: None, error } => self.effects.push_back(Effect::Abandon(describe(&error))),
            ServerFrame::Ack { re, .. }
            | ServerFrame::History { re, .. }
            | ServerFrame::Conversations { re, .. }
            | ServerFrame::Members { re, .. }
            | ServerFrame::Group { re, .. }
            | ServerFrame::Refreshed { re, .. }
            | ServerFrame::Devices { re, .. }
            | ServerFrame::Done { re }
            | ServerFrame::JoinRequests { re, .. }
            | ServerFrame::Bans { re, .. }
            | ServerFrame::Pins { re, .. }
            | ServerFrame::Synced { re, .. }
            | ServerFrame::Profiles { re, .. }
            | ServerFrame::Readers { re, .. }
            | ServerFrame::UnreadTotal { re, .. }
            | ServerFrame::Pong { re }
            | ServerFrame::Presence { re: Some(re), .. }
            | ServerFrame::Privacy { re, .. }
            | ServerFrame::Hello { re, .. }
            | ServerFrame::Resumed { re, .. } => {
                let settled = self.requests.answered(re, frame);
                self.settle(settled);
            }
        }
        self.pump(now_ms);
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now_ms: u64) {
        for (purpose, failure) in self.requests.expire(now_ms) {
            self.answer(purpose, Err(failure));
        }
        if self.phase != Phase::Offline
            && let Some((_, why)) = self.connection_deadline().filter(|(at_ms, _)| *at_ms <= now_ms)
        {
            self.leave_ms = None;
            self.effects.push_back(Effect::Abandon(why.to_owned()));
        }
        self.pump(now_ms);
    }

    /// When [`Self::tick`] has something to do next.
    pub(crate) fn next_wakeup_ms(&self) -> Option<u64> {
        let connection = (self.phase != Phase::Offline).then(|| self.connection_deadline()).flatten();
        let requests = self.requests.next_wakeup_ms(self.phase == Phase::Online);
        connection.map(|(at_ms, _)| at_ms).into_iter().chain(requests).min()
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            connections: self.connections,
            retries: self.requests.retries,
            duplicates: self.delivery.duplicates,
            gaps: self.delivery.gaps,
            backfills: self.delivery.backfills,
        }
    }

    /// When this connection is to be given up unless something happens, and why.
    fn connection_deadline(&self) -> Option<(u64, &'static str)> {
        let silent = (self.heard_ms + limits::HEARTBEAT_TIMEOUT_MS, "the node is silent");
        let login = (self.phase != Phase::Online)
            .then_some((self.heard_ms + ANSWER_TIMEOUT_MS, "no answer to login or resume"));
        let answer = self.requests.oldest_flight_ms().map(|at| (at + ANSWER_TIMEOUT_MS, "a request got no answer"));
        let leave = self.leave_ms.map(|at| (at, "the node asked us to go"));
        [Some(silent), login, answer, leave].into_iter().flatten().min()
    }

    fn hello(&mut self, frame: ServerFrame) {
        let ServerFrame::Hello { user, app, session, cluster, node, epoch, limits, .. } = frame else { return };
        self.requests.set_window(limits.in_flight);
        if self.session.as_ref().is_some_and(|old| old.epoch != epoch) {
            self.delivery.epoch_changed();
        }
        self.session = Some(Session { user, app, session, cluster, node, epoch, limits });
        let id = self.take_id();
        self.phase = Phase::Resuming { id };
        let have = bounded_positions(self.delivery.positions());
        self.transmit(&ClientFrame { id, request: Request::Resume { have } });
    }

    fn online(&mut self) {
        self.phase = Phase::Online;
        self.connections += 1;
        if self.connections > 1 {
            self.delivery.notice(ClientEvent::Reconnected);
        }
        // Before whatever waits, in their order.
        for request in self.standing.requests().iter().rev() {
            self.requests.push_front(Pending::new(encode(request), Purpose::Again, u64::MAX, true));
        }
        if let Some(session) = &self.session {
            self.effects.push_back(Effect::Online(Box::new(session.clone())));
        }
    }

    fn refused(&mut self, re: u64, error: WireError, now_ms: u64, random: u64) {
        match self.phase {
            Phase::LoggingIn { id } if id == re => self.effects.push_back(Effect::LoginRefused(error)),
            Phase::Resuming { id } if id == re => self.effects.push_back(Effect::Abandon(describe(&error))),
            _ => {
                let settled = self.requests.refused(re, error, now_ms, random);
                self.settle(settled);
            }
        }
    }

    fn settle(&mut self, settled: Settled<Purpose<T>>) {
        match settled {
            Settled::Done(purpose, frame) => self.answer(purpose, Ok(frame)),
            Settled::Failed(purpose, failure) => self.answer(purpose, Err(failure)),
            Settled::Retrying | Settled::Stray => {}
        }
    }

    fn answer(&mut self, purpose: Purpose<T>, answer: Result<Box<ServerFrame>, Failure>) {
        match (purpose, answer) {
            (Purpose::Caller(ticket, lasting), answer) => {
                if let Some(lasting) = lasting.filter(|_| answer.is_ok()) {
                    self.standing.keep(lasting);
                }
                self.effects.push_back(Effect::Answer(ticket, answer));
            }
            (Purpose::Again, Ok(frame)) => {
                if let ServerFrame::Presence { users, .. } = *frame {
                    self.delivery.notice(ClientEvent::Presence { users });
                }
            }
            // It was accepted once; the next connection asks again.
            (Purpose::Again, Err(_)) => {}
            (Purpose::Backfill(page), Ok(frame)) => {
                if let ServerFrame::History { events, head, .. } = *frame {
                    self.delivery.backfilled(&page, events, head);
                }
            }
            (Purpose::Backfill(page), Err(_)) => self.delivery.backfill_refused(&page),
        }
    }

    /// Sends what may be sent now.
    fn pump(&mut self, now_ms: u64) {
        if self.phase != Phase::Online {
            return;
        }
        while let Some(page) = self.delivery.next_backfill() {
            let request = Request::History {
                conversation: page.conversation.clone(),
                after: page.after,
                before: None,
                limit: None,
                read: ReadMode::default(),
            };
            self.requests.push_front(Pending::new(encode(&request), Purpose::Backfill(page), u64::MAX, true));
        }
        while let Some(text) = self.requests.transmit(self.next_id, now_ms) {
            self.next_id += 1;
            self.effects.push_back(Effect::Transmit(text));
        }
    }

    fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    fn transmit<F: serde::Serialize>(&mut self, frame: &F) {
        self.effects.push_back(Effect::Transmit(encode(frame)));
    }
}

/// A frame or request as JSON.
pub(crate) fn encode<F: serde::Serialize>(frame: &F) -> String {
    serde_json::to_string(frame).expect("frames have text keys and no fallible fields")
}

fn describe(error: &WireError) -> String {
    format!("C{} {}: {}", error.code, error.name, error.message)
}

/// As many positions as one frame takes.
fn bounded_positions(positions: impl Iterator<Item = Position>) -> Vec<Position> {
    let mut bytes = 0;
    positions
        .take_while(|position| {
            bytes += encode(position).len() + 1;
            bytes < RESUME_BYTES
        })
        .collect()
}

#[cfg(test)]
mod tests;
