//! What a session does, decided without a clock, a socket or a cluster. Every method is one input; what it wants done
//! is collected as [`Effect`]s, in order.

pub(super) mod aside;
pub(super) mod asked;
mod delivery;
mod login;
mod refused;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytestring::ByteString;
use chat::command::UserCommand;
use chat::errors::{CloseCode, ErrorCode};
use chat::event::Receipt;
use chat::ids::{AppId, ConversationId, NodeId, UserId};
use chat::limits;
use chat::render::parse_frame;
use chat::wire::{ClientFrame, Credentials, Device, Limits, Position, Request, ServerFrame, Token, WireError};

use self::aside::{AsideAsk, Asides};
use self::asked::Asked;
use super::cursors::Cursors;
use super::encode;
use super::message::SessionState;
use super::requests::{self, Page, Refused, Sorted};
use crate::group::GroupAsk;
use crate::security::Counters;
use crate::socket::Ended;

/// Between the close frame and cutting the socket.
pub(super) const CLOSE_GRACE_MS: u64 = 2_000;

/// What the shell is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Write(ByteString),
    /// A WebSocket ping.
    Ping,
    /// A WebSocket close frame, after what waits.
    Close(CloseCode),
    /// The client does not take the close frame: shut the socket down and stop.
    Cut,
    Stop,
    Login {
        re: u64,
        auth: Credentials,
        device: Device,
    },
    /// Register for the user's news, then read where the user's conversations stand.
    Resume {
        re: u64,
    },
    /// Answered by `submitted`, or never.
    Submit {
        ticket: u64,
        /// To be taken after this one, or not at all.
        after: Option<u64>,
        conversation: ConversationId,
        ask: GroupAsk,
    },
    /// To be asked again and again; answered by `insisted`.
    Insist {
        ticket: u64,
        conversation: ConversationId,
        ask: GroupAsk,
        within_ms: u64,
        /// It may have been done already.
        maybe_happened: bool,
    },
    /// Answered by `page_read`. One at a time, backfills included: that bounds what a session holds.
    ReadPage {
        re: u64,
        page: Page,
    },
    /// Answered by `backfilled`.
    Backfill {
        conversation: ConversationId,
        after: u64,
    },
    /// Follow the conversation, then read where it stands; answered by `added`.
    Add(ConversationId),
    Unfollow(ConversationId),
    /// Answered by `refreshed`.
    Refresh {
        re: u64,
        token: Token,
    },
    /// Answered by `account_changed`.
    Account {
        re: u64,
        command: UserCommand,
    },
    Aside(u64, AsideAsk),
    LoggedOut,
}

/// Where a conversation stands for a user, read after following it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) conversation: ConversationId,
    pub(super) head: u64,
    /// The seq of the event that made the user a member.
    pub(super) joined: u64,
    /// Events below it are deleted.
    pub(super) oldest: u64,
}

/// Who is logged in.
#[derive(Debug, Clone)]
pub(super) struct Identified {
    pub(super) app: AppId,
    pub(super) user: UserId,
    /// When the session's token is over, Unix milliseconds.
    pub(super) expires_ms: Option<u64>,
    /// As the app has them.
    pub(super) limits: Limits,
}

/// What every session of the node shares.
#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) cluster: String,
    pub(super) node: NodeId,
    pub(super) epoch: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Connected,
    LoggingIn,
    /// Logged in; nothing is delivered yet.
    Ready,
    Resuming {
        re: u64,
        have: Vec<Position>,
    },
    Live,
    Closing {
        since_ms: u64,
    },
}

/// A conversation that is being taken up.
#[derive(Debug, Default)]
struct Adding {
    /// The newest seq heard of meanwhile.
    head: u64,
    /// Listed again meanwhile.
    again: bool,
    /// Reading it failed; tried again at the next tick.
    failed: bool,
}

pub(super) struct Core {
    session: String,
    service: Service,
    phase: Phase,
    opened_ms: u64,
    next_ping_ms: u64,
    user: Option<UserId>,
    /// When the session ends unless it is refreshed, by the clock of all inputs.
    expires_at_ms: Option<u64>,
    /// Something about the login is being asked; one at a time.
    asking_login: bool,
    cursors: Cursors,
    adding: BTreeMap<ConversationId, Adding>,
    /// Newest seqs of conversations heard of before `resume` was answered.
    early: BTreeMap<ConversationId, u64>,
    /// Conversations listed before `resume` was answered.
    early_listed: BTreeSet<ConversationId>,
    /// Newest read positions that found no room.
    reads: BTreeMap<(ConversationId, UserId, Receipt), u64>,
    /// What the user keeps changed up to this version, and there was no room to say so.
    items_behind: Option<u64>,
    /// At most [`limits::SESSION_IN_FLIGHT`], with the pages.
    asked: Asked,
    asides: Asides,
    bad_frames: u32,
    /// Bytes in the pipe, as the shell says before every input, and what was written since.
    waiting_bytes: usize,
    pages: VecDeque<(u64, Page)>,
    reading: bool,
    /// What is being read is a page that the client asked for.
    reading_page: bool,
    counters: Counters,
    /// Taken after every step.
    said: Vec<(ErrorCode, String)>,
    effects: Vec<Effect>,
}

impl Core {
    pub(super) fn new(session: String, service: Service, now_ms: u64) -> Self {
        Self {
            session,
            service,
            phase: Phase::Connected,
            opened_ms: now_ms,
            next_ping_ms: now_ms + limits::HEARTBEAT_MS,
            user: None,
            expires_at_ms: None,
            asking_login: false,
            cursors: Cursors::default(),
            adding: BTreeMap::new(),
            early: BTreeMap::new(),
            early_listed: BTreeSet::new(),
            reads: BTreeMap::new(),
            items_behind: None,
            asked: Asked::default(),
            asides: Asides::default(),
            bad_frames: 0,
            waiting_bytes: 0,
            pages: VecDeque::new(),
            reading: false,
            reading_page: false,
            counters: Counters::default(),
            said: Vec::new(),
            effects: Vec::new(),
        }
    }

    /// What is to be done now. `waiting_bytes` of the pipe decide whether more may be read for the client.
    pub(super) fn effects(&mut self) -> Vec<Effect> {
        self.flush_reads();
        self.flush_news();
        self.read_on();
        std::mem::take(&mut self.effects)
    }

    /// Gives away the frames that come before anything else to be done. True if there is something else.
    pub(super) fn written(&mut self, mut write: impl FnMut(ByteString)) -> bool {
        let frames = self.effects.iter().take_while(|effect| matches!(effect, Effect::Write(_))).count();
        for effect in self.effects.drain(..frames) {
            if let Effect::Write(frame) = effect {
                write(frame);
            }
        }
        let unsaid = !self.reads.is_empty() || self.items_behind.is_some();
        !self.effects.is_empty() || unsaid || self.cursors.lagging() > 0
    }

    pub(super) fn waiting_bytes(&mut self, bytes: usize) {
        self.waiting_bytes = bytes;
    }

    /// Something waits for room in the pipe.
    pub(super) fn starved(&self) -> bool {
        let waiting = self.cursors.lagging() > 0 || !self.pages.is_empty() || !self.reads.is_empty();
        (waiting || self.items_behind.is_some() || self.asides.has_news())
            && !self.reading
            && !self.room()
            && !self.closing()
    }

    // --- the client's frames -------------------------------------------------------------------------------------

    pub(super) fn text(&mut self, now_ms: u64, text: &str) {
        if self.closing() {
            return;
        }
        self.counters.requests += 1;
        match parse_frame(text) {
            Ok(ClientFrame { id, request }) => self.request(now_ms, id, request),
            Err(bad) if bad.code() == ErrorCode::MalformedFrame => {
                self.bad_frame(now_ms, bad.re, bad.code(), &bad.problem.to_string());
            }
            Err(bad) => self.error(bad.re, bad.code(), &bad.problem.to_string(), None),
        }
    }

    fn bad_frame(&mut self, now_ms: u64, re: Option<u64>, code: ErrorCode, message: &str) {
        self.error(re, code, message, None);
        self.bad_frames += 1;
        if self.bad_frames >= limits::BAD_FRAMES {
            self.close(now_ms, CloseCode::BadFrames);
        }
    }

    fn request(&mut self, now_ms: u64, re: u64, request: Request) {
        match (&self.phase, request) {
            (Phase::Connected, Request::Login { auth, device }) => {
                self.phase = Phase::LoggingIn;
                self.effects.push(Effect::Login { re, auth, device });
            }
            (Phase::Connected, _) => {
                self.error(Some(re), ErrorCode::NotLoggedIn, "log in first", None);
                self.close(now_ms, CloseCode::LoginFailed);
            }
            (Phase::LoggingIn, _) => self.out_of_order(re, "the login is not answered yet"),
            (Phase::Ready, Request::Resume { have }) => self.resume(re, have),
            (_, Request::Resume { .. }) => self.out_of_order(re, "resume once per connection"),
            (_, request) => self.ask(now_ms, re, request),
        }
    }

    fn resume(&mut self, re: u64, have: Vec<Position>) {
        if have.len() > limits::USER_CONVERSATIONS {
            let message = format!("have: at most {} positions", limits::USER_CONVERSATIONS);
            return self.error(Some(re), ErrorCode::InvalidField, &message, None);
        }
        self.phase = Phase::Resuming { re, have };
        self.effects.push(Effect::Resume { re });
    }

    fn ask(&mut self, now_ms: u64, re: u64, request: Request) {
        let Some(user) = &self.user else { return };
        match requests::sort(user, request) {
            Err(refused) => self.refused(re, refused),
            Ok(Sorted::OutOfOrder) => self.out_of_order(re, "log in once per connection"),
            Ok(Sorted::Ping) => self.write(&ServerFrame::Pong { re }),
            Ok(Sorted::Logout) => {
                self.effects.push(Effect::LoggedOut);
                self.close(now_ms, CloseCode::LoggedOut);
            }
            Ok(Sorted::Refresh(token)) => self.ask_about_login(re, Effect::Refresh { re, token }),
            Ok(Sorted::Account(command)) => self.ask_about_login(re, Effect::Account { re, command }),
            Ok(_) if self.in_flight() >= limits::SESSION_IN_FLIGHT => {
                self.error(Some(re), ErrorCode::TooManyInFlight, "wait for answers first", Some(100));
            }
            Ok(Sorted::Group(conversation, ask)) => {
                if let GroupAsk::Send { client_msg_id, .. } = &ask {
                    self.counters.sends += 1;
                    self.asides.written(*client_msg_id);
                }
                self.effects.extend(self.asked.ask(now_ms, re, conversation, ask));
            }
            Ok(Sorted::Aside(ask)) => self.aside(now_ms, re, ask),
            Ok(Sorted::Page(page)) => self.pages.push_back((re, page)),
        }
    }

    /// Requests without an answer.
    fn in_flight(&self) -> usize {
        self.asked.len() + self.asides.in_flight() + self.pages.len() + usize::from(self.reading_page)
    }

    // --- answers to effects --------------------------------------------------------------------------------------

    pub(super) fn page_read(&mut self, re: u64, page: Result<Vec<ByteString>, ErrorCode>) {
        (self.reading, self.reading_page) = (false, false);
        match page {
            Ok(frames) => frames.into_iter().for_each(|frame| self.write_encoded(frame)),
            Err(code) => {
                let retry_after_ms = (code == ErrorCode::Overloaded).then_some(limits::PAGES_RETRY_MS);
                self.error(Some(re), code, "this cannot be read", retry_after_ms);
            }
        }
    }

    // --- time and the socket -------------------------------------------------------------------------------------

    pub(super) fn tick(&mut self, now_ms: u64, heard_ms: u64, stalled_ms: u64) {
        match self.phase {
            Phase::Closing { since_ms } if now_ms.saturating_sub(since_ms) >= CLOSE_GRACE_MS => {
                return self.effects.push(Effect::Cut);
            }
            Phase::Closing { .. } => return,
            Phase::Connected if now_ms.saturating_sub(self.opened_ms) >= limits::LOGIN_TIMEOUT_MS => {
                self.error(None, ErrorCode::LoginTimeout, "no login in time", None);
                return self.close(now_ms, CloseCode::LoginTimeout);
            }
            _ => {}
        }
        if self.expires_at_ms.is_some_and(|at_ms| now_ms >= at_ms) {
            return self.close(now_ms, CloseCode::TokenExpired);
        }
        if stalled_ms >= limits::SLOW_CONSUMER_MS {
            return self.close(now_ms, CloseCode::SlowConsumer);
        }
        if now_ms.saturating_sub(heard_ms) >= limits::HEARTBEAT_TIMEOUT_MS {
            return self.close(now_ms, CloseCode::HeartbeatTimeout);
        }
        if now_ms >= self.next_ping_ms {
            self.next_ping_ms = now_ms + limits::HEARTBEAT_MS;
            self.effects.push(Effect::Ping);
        }
        let overdue = self.asked.overdue(now_ms, &mut self.effects);
        self.settle(overdue);
        for (conversation, adding) in &mut self.adding {
            if std::mem::take(&mut adding.failed) {
                self.effects.push(Effect::Add(conversation.clone()));
            }
        }
    }

    pub(super) fn ended(&mut self, now_ms: u64, why: Ended) {
        match why {
            Ended::Gone => self.effects.push(Effect::Stop),
            Ended::TooLarge if !self.closing() => {
                let message = format!("at most {} bytes in {} fragments", limits::FRAME_BYTES, limits::FRAME_FRAGMENTS);
                self.error(None, ErrorCode::FrameTooLarge, &message, None);
                self.close(now_ms, CloseCode::FrameTooLarge);
            }
            Ended::Broken if !self.closing() => {
                self.error(None, ErrorCode::MalformedFrame, "this is not WebSocket text", None);
                self.close(now_ms, CloseCode::BadFrames);
            }
            _ => {}
        }
    }

    pub(super) fn close(&mut self, now_ms: u64, code: CloseCode) {
        if !self.closing() {
            self.phase = Phase::Closing { since_ms: now_ms };
            self.effects.push(Effect::Close(code));
        }
    }

    // --- small things --------------------------------------------------------------------------------------------

    fn room(&self) -> bool {
        self.waiting_bytes < limits::SESSION_CREDIT_BYTES
    }

    fn closing(&self) -> bool {
        matches!(self.phase, Phase::Closing { .. })
    }

    /// Begins the next read if none is under way: what the client asked for before what it lags behind.
    fn read_on(&mut self) {
        if self.reading || !self.room() || self.closing() {
            return;
        }
        if let Some((re, page)) = self.pages.pop_front() {
            (self.reading, self.reading_page) = (true, true);
            self.effects.push(Effect::ReadPage { re, page });
        } else if let Some((conversation, after)) = self.cursors.next_to_read() {
            self.reading = true;
            self.effects.push(Effect::Backfill { conversation, after });
        }
    }

    fn write(&mut self, frame: &ServerFrame) {
        self.write_encoded(encode(frame));
    }

    fn write_encoded(&mut self, frame: ByteString) {
        if !self.closing() {
            self.waiting_bytes += frame.len();
            self.effects.push(Effect::Write(frame));
        }
    }

    fn out_of_order(&mut self, re: u64, message: &str) {
        self.error(Some(re), ErrorCode::OutOfOrder, message, None);
    }

    fn refused(&mut self, re: u64, Refused(code, message): Refused) {
        self.error(Some(re), code, &message, None);
    }

    fn error(&mut self, re: Option<u64>, code: ErrorCode, message: &str, retry_after_ms: Option<u64>) {
        self.counters.errors += 1;
        let trace_id = re.map_or_else(|| self.session.clone(), |re| format!("{}-{re}", self.session));
        self.said.push((code, trace_id.clone()));
        let mut error = WireError::new(code, message, trace_id);
        error.retry_after_ms = retry_after_ms;
        self.write(&ServerFrame::Error { re, error });
    }

    /// Errors said since the last time, for the node's own log.
    pub(super) fn said(&mut self) -> Vec<(ErrorCode, String)> {
        std::mem::take(&mut self.said)
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    pub(super) fn state(&self) -> SessionState {
        SessionState {
            session: self.session.clone(),
            phase: self.phase.name(),
            conversations: self.cursors.len(),
            lagging: self.cursors.lagging(),
            in_flight: self.in_flight(),
            waiting_bytes: self.waiting_bytes,
        }
    }
}

impl Phase {
    fn name(&self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::LoggingIn => "logging in",
            Self::Ready => "ready",
            Self::Resuming { .. } => "resuming",
            Self::Live => "live",
            Self::Closing { .. } => "closing",
        }
    }
}

#[cfg(test)]
mod tests;
