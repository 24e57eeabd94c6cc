//! The one task of a client: carries what comes in to the core and does what the core says.

use std::pin::Pin;
use std::time::Duration;

use chat::errors::{CloseCode, ErrorCode};
use chat::wire::{Credentials, ServerFrame, WireError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, Sleep};

use crate::core::backoff::{Backoff, Random};
use crate::core::requests::Failure;
use crate::core::standing::Lasting;
use crate::core::{Core, Effect, Purpose};
use crate::error::ConnectError;
use crate::event::ClientEvent;
use crate::options::{Auth, ClientOptions};
use crate::session::{Session, Stats};
use crate::socket::{Incoming, Rotation, Socket};

/// Waits between connection attempts, in milliseconds.
const RECONNECT_BASE_MS: u64 = 100;
const RECONNECT_CAP_MS: u64 = 10_000;
/// A connection that lasted this long was a good one: the next wait is short again.
const GOOD_CONNECTION_MS: u64 = 5_000;
/// Refreshed tokens that may be refused as expired in a row.
const EXPIRED_TOKENS: u32 = 3;
/// A client without deadlines looks again after this long.
const IDLE_WAKEUP_MS: u64 = 60_000;

pub(crate) type Answer = Result<Box<ServerFrame>, Failure>;
pub(crate) type Opened = oneshot::Sender<Result<(), ConnectError>>;

/// What client handles ask of the task.
pub(crate) enum Command {
    Request {
        json: String,
        lasting: Option<Lasting>,
        reply: oneshot::Sender<Answer>,
        deadline: Instant,
        repeatable: bool,
    },
    Stats(oneshot::Sender<Stats>),
}

type Dialing = Pin<Box<dyn Future<Output = Result<(Box<Socket>, Credentials), String>> + Send>>;

enum Link {
    Waiting(Pin<Box<Sleep>>),
    Dialing(Dialing),
    Open(Box<Socket>),
}

/// Why the task woke up.
enum Wake {
    Link(LinkEvent),
    Command(Option<Command>),
    Room { listening: bool },
    Alarm,
}

enum LinkEvent {
    WaitOver,
    Dialed(Result<(Box<Socket>, Credentials), String>),
    Incoming(Incoming),
}

impl Link {
    fn wait(wait_ms: u64) -> Self {
        Self::Waiting(Box::pin(tokio::time::sleep(Duration::from_millis(wait_ms))))
    }

    /// May be dropped and called again at any time.
    async fn next(&mut self, read: bool) -> LinkEvent {
        match self {
            Self::Waiting(sleep) => {
                sleep.as_mut().await;
                LinkEvent::WaitOver
            }
            Self::Dialing(dialing) => LinkEvent::Dialed(dialing.as_mut().await),
            Self::Open(socket) => LinkEvent::Incoming(socket.next(read).await),
        }
    }
}

/// What the task shares with the client's handles.
pub(crate) struct Ends {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) events: mpsc::Sender<ClientEvent>,
    pub(crate) session: watch::Sender<Option<Session>>,
    pub(crate) opened: Opened,
}

pub(crate) struct Connection {
    options: ClientOptions,
    core: Core<oneshot::Sender<Answer>>,
    link: Link,
    rotation: Rotation,
    backoff: Backoff,
    random: Random,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<ClientEvent>,
    session: watch::Sender<Option<Session>>,
    /// Until the first login: who waits for it.
    opened: Option<Opened>,
    started: Instant,
    online_since_ms: Option<u64>,
    expired_tokens: u32,
    last_failure: String,
    stopped: bool,
}

impl Connection {
    pub(crate) fn new(mut options: ClientOptions, rotation: Rotation, ends: Ends) -> Self {
        Self {
            core: Core::new(std::mem::take(&mut options.have)),
            link: Link::wait(0),
            rotation,
            backoff: Backoff::new(RECONNECT_BASE_MS, RECONNECT_CAP_MS),
            random: Random::new(getrandom::u64().unwrap_or(0)),
            commands: ends.commands,
            events: ends.events,
            session: ends.session,
            opened: Some(ends.opened),
            started: Instant::now(),
            online_since_ms: None,
            expired_tokens: 0,
            last_failure: String::new(),
            stopped: false,
            options,
        }
    }

    pub(crate) async fn run(mut self) {
        let mut alarm = Box::pin(tokio::time::sleep(Duration::ZERO));
        let mut closed_by_service = true;
        while !self.stopped {
            self.carry_out();
            self.hand_over();
            if self.stopped {
                break;
            }
            self.set(&mut alarm);
            let wake = tokio::select! {
                event = self.link.next(!self.core.congested()) => Wake::Link(event),
                command = self.commands.recv(), if self.core.accepts() => Wake::Command(command),
                room = self.events.reserve(), if self.core.has_event() => Wake::Room { listening: room.is_ok() },
                () = alarm.as_mut() => Wake::Alarm,
            };
            match wake {
                Wake::Link(event) => self.on_link(event),
                Wake::Command(Some(command)) => self.on_command(command),
                Wake::Command(None) => {
                    closed_by_service = false;
                    self.stopped = true;
                }
                Wake::Room { listening: true } => self.hand_over(),
                // The user dropped its end: events go nowhere.
                Wake::Room { listening: false } => while self.core.poll_event(millis(self.started)).is_some() {},
                Wake::Alarm => self.on_alarm(),
            }
        }
        self.finish(closed_by_service).await;
    }

    /// Does what the core says.
    fn carry_out(&mut self) {
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::Transmit(text) => {
                    if let Link::Open(socket) = &mut self.link {
                        socket.push(text);
                    }
                }
                // A caller that stopped waiting needs no answer.
                Effect::Answer(reply, answer) => drop(reply.send(answer)),
                Effect::Online(session) => self.on_online(*session),
                Effect::LoginRefused(error) => self.on_login_refused(error),
                Effect::Abandon(why) => self.lost(None, why),
            }
        }
    }

    /// Gives the user what there is room for.
    fn hand_over(&mut self) {
        while self.core.has_event() {
            let Ok(permit) = self.events.try_reserve() else { break };
            if let Some(event) = self.core.poll_event(millis(self.started)) {
                permit.send(event);
            }
        }
        self.carry_out();
    }

    /// Sets the alarm, unless it goes off early enough: an early alarm does no harm, and setting it costs.
    fn set(&self, alarm: &mut Pin<Box<Sleep>>) {
        let core_ms = self.core.next_wakeup_ms();
        let connect_ms = self.opened.is_some().then(|| millis_of(self.options.connect_timeout));
        let wakeup_ms = core_ms.into_iter().chain(connect_ms).min();
        let at = self.started + Duration::from_millis(wakeup_ms.unwrap_or(millis(self.started) + IDLE_WAKEUP_MS));
        if alarm.is_elapsed() || at < alarm.deadline() {
            alarm.as_mut().reset(at);
        }
    }

    fn on_alarm(&mut self) {
        let now_ms = millis(self.started);
        self.core.tick(now_ms);
        if self.opened.is_some() && now_ms >= millis_of(self.options.connect_timeout) {
            let last = std::mem::take(&mut self.last_failure);
            self.fail_open(ConnectError::Unreachable { last });
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Request { json, lasting, reply, deadline, repeatable } => {
                let deadline_ms = millis_of(deadline.saturating_duration_since(self.started));
                let purpose = Purpose::Caller(reply, lasting);
                self.core.request(json, purpose, deadline_ms, repeatable, millis(self.started));
            }
            Command::Stats(reply) => drop(reply.send(self.core.stats())),
        }
    }

    fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::WaitOver => self.link = Link::Dialing(self.dial()),
            LinkEvent::Dialed(Ok((socket, credentials))) => {
                self.link = Link::Open(socket);
                self.core.connected(credentials, self.options.device.clone(), millis(self.started));
            }
            LinkEvent::Dialed(Err(why)) => self.lost(None, why),
            LinkEvent::Incoming(incoming) => self.on_incoming(incoming),
        }
    }

    fn on_incoming(&mut self, incoming: Incoming) {
        let now_ms = millis(self.started);
        match incoming {
            Incoming::Text(text) => {
                self.core.heard(now_ms);
                match serde_json::from_str::<ServerFrame>(&text) {
                    Ok(frame) => self.core.frame(frame, now_ms, self.random.next()),
                    // A frame of a later version; its known parts would have been understood.
                    Err(error) => tracing::debug!(%error, "a frame of unknown form was passed over"),
                }
            }
            Incoming::Sign => self.core.heard(now_ms),
            Incoming::Closed { code, why } => self.lost(code, why),
        }
    }

    fn dial(&self) -> Dialing {
        let (endpoint, tls, auth) = (self.rotation.current(), self.options.tls.clone(), self.options.auth.clone());
        let encoding = self.options.encoding;
        Box::pin(async move {
            let credentials = match auth {
                Auth::Fixed(credentials) => credentials,
                Auth::Refreshed(provider) => provider().await?,
            };
            Ok((Box::new(Socket::open(&endpoint, &tls, encoding).await?), credentials))
        })
    }

    fn on_online(&mut self, session: Session) {
        self.online_since_ms = Some(millis(self.started));
        self.expired_tokens = 0;
        self.session.send_replace(Some(session));
        if let Some(opened) = self.opened.take() {
            // The caller of connect may have given up; then its handles are gone too and the task ends.
            let _ = opened.send(Ok(()));
        }
    }

    fn on_login_refused(&mut self, error: WireError) {
        let expired = error.code == ErrorCode::TokenExpired.number() && matches!(self.options.auth, Auth::Refreshed(_));
        if expired {
            self.expired_tokens += 1;
        }
        if error.retryable || (expired && self.expired_tokens < EXPIRED_TOKENS) {
            return self.lost(None, format!("login refused: {}", error.message));
        }
        let why = error.message.clone();
        self.fail_open(ConnectError::Refused(error));
        self.stop(CloseCode::LoginFailed as u16, &why);
    }

    /// The connection, or an attempt at one, is over.
    fn lost(&mut self, code: Option<u16>, why: String) {
        if let Some(code) = code.filter(|code| !CloseCode::reconnect(*code)) {
            self.fail_open(ConnectError::Closed { code, why: why.clone() });
            return self.stop(code, &why);
        }
        let now_ms = millis(self.started);
        if self.online_since_ms.take().is_some_and(|since_ms| now_ms - since_ms >= GOOD_CONNECTION_MS) {
            self.backoff.reset();
        }
        self.core.disconnected(&why);
        self.last_failure = why;
        self.rotation.advance();
        self.link = Link::wait(self.backoff.after_failure(self.random.next()));
    }

    fn fail_open(&mut self, error: ConnectError) {
        if let Some(opened) = self.opened.take() {
            let _ = opened.send(Err(error));
            self.stopped = true;
        }
    }

    fn stop(&mut self, code: u16, why: &str) {
        self.core.closed(code, why);
        self.stopped = true;
    }

    /// Answers everybody, says goodbye and hands over what is left.
    async fn finish(mut self, closed_by_service: bool) {
        self.carry_out();
        self.commands.close();
        if let Link::Open(socket) = self.link {
            socket.close().await;
        }
        if closed_by_service {
            while let Some(event) = self.core.poll_event(millis(self.started)) {
                if self.events.send(event).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn millis(since: Instant) -> u64 {
    millis_of(since.elapsed())
}

fn millis_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
