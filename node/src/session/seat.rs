//! What a session's actor, its tasks and the fan-out of its thread share: the core and its surroundings. Everything
//! here happens on one thread.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::WeakAddr;
use chat::errors::{CloseCode, ErrorCode};
use chat::ids::DeviceId;
use chat::wire::{Credentials, Device, Limits};
use uuid::Uuid;

use super::answers::Answers;
use super::core::aside::AsideAsk;
use super::core::{Core, Effect, Identified, Service};
use super::login::Entered;
use super::message::{Live, SessionState};
use super::reads::{Reader, within_deadline};
use super::{Floor, Services, Session, aside, login, resume};
use crate::auth::{Identity, Login};
use crate::directory::{Arrival, Slot, UserSlot};
use crate::fanout::{Listener, LocalFanOut};
use crate::group::Turn;
use crate::presence::message::{Input, UserKey};
use crate::rates::{DeviceRate, TooOften};
use crate::router::Letter;
use crate::security::{EndReason, Visitor};
use crate::socket::{Connection, Ended, Inbound, now_ms, unix_ms};
use crate::started::started;

/// Who is logged in, since when.
struct User {
    identity: Identity,
    since_ms: u64,
    device: DeviceId,
    slot: UserSlot,
}

pub(super) struct Seat {
    id: Uuid,
    core: RefCell<Core>,
    services: Arc<Services>,
    fan_out: LocalFanOut,
    answers: Answers,
    connection: Connection,
    slot: Slot,
    visitor: RefCell<Visitor>,
    rate: DeviceRate,
    user: RefCell<Option<User>>,
    end: Cell<EndReason>,
    actor: OnceCell<WeakAddr<Session>>,
    /// A `Wake` is in the actor's mailbox.
    nudged: Cell<bool>,
    /// The actor is to stop.
    over: Cell<bool>,
}

impl Seat {
    pub(super) fn new(services: Arc<Services>, floor: &Floor, connection: Connection, slot: Slot) -> Self {
        let id = Uuid::now_v7();
        let service = Service {
            cluster: services.cluster.cluster().to_owned(),
            node: services.cluster.node(),
            epoch: services.epoch,
        };
        let client = &connection.client;
        let (ip, port, user_agent) = (client.ip, client.port, client.user_agent.clone());
        Self {
            core: RefCell::new(Core::new(id.simple().to_string(), service, now_ms())),
            id,
            rate: services.rates.device(),
            services,
            fan_out: floor.fan_out.clone(),
            answers: floor.answers.clone(),
            visitor: RefCell::new(Visitor { ip, port, user_agent, device: None }),
            connection,
            slot,
            user: RefCell::new(None),
            end: Cell::new(EndReason::ClientClosed),
            actor: OnceCell::new(),
            nudged: Cell::new(false),
            over: Cell::new(false),
        }
    }

    /// As clients and the security log know it.
    fn name(&self) -> String {
        self.id.simple().to_string()
    }

    pub(super) fn open(&self, actor: WeakAddr<Session>) {
        // An actor starts once.
        let _ = self.actor.set(actor);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.get()
    }

    pub(super) fn state(&self) -> SessionState {
        self.core.borrow().state()
    }

    /// Whether it is time for another request.
    pub(super) fn may_ask(&self) -> Result<(), TooOften> {
        self.rate.check()?;
        match &*self.user.borrow() {
            Some(User { identity: Identity { app, user }, .. }) => self.services.rates.request(app, user),
            None => Ok(()),
        }
    }

    /// One input to the core, and everything that follows from it.
    pub(super) fn step(self: &Rc<Self>, input: impl FnOnce(&mut Core, u64)) {
        self.nudged.set(false);
        let now = now_ms();
        let pipe = &self.connection.pipe;
        let (said, effects) = {
            let mut core = self.core.borrow_mut();
            core.waiting_bytes(pipe.bytes());
            if let Some(code) = self.user.borrow().as_ref().and_then(|user| user.slot.end()) {
                core.close(now, code);
            }
            input(&mut core, now);
            if let Some(why) = pipe.ended() {
                core.ended(now, why);
            }
            (core.said(), core.effects())
        };
        for (code, trace_id) in said {
            log_error(code, &trace_id);
        }
        for effect in effects {
            self.act(effect);
        }
        if self.core.borrow().starved() {
            pipe.starve();
        }
    }

    /// False once the session has ended.
    pub(super) fn tick(self: &Rc<Self>) -> bool {
        let pipe = self.connection.pipe.clone();
        self.step(|core, now| core.tick(now, pipe.heard_ms(), pipe.stalled_ms(now)));
        if self.over.get() {
            self.nudge();
        }
        !self.over.get()
    }

    /// Has the actor take a step, or stop.
    fn nudge(&self) {
        if !self.nudged.replace(true)
            && let Some(actor) = self.actor.get().and_then(WeakAddr::upgrade)
        {
            // Full: whatever is in the mailbox takes the step.
            let _ = actor.try_send(Inbound::Wake);
        }
    }

    fn act(self: &Rc<Self>, effect: Effect) {
        let pipe = &self.connection.pipe;
        match effect {
            Effect::Write(frame) => pipe.push(frame, now_ms()),
            Effect::Ping => pipe.ping(),
            Effect::Close(code) => {
                self.end.set(end_reason(code));
                pipe.close(code);
            }
            Effect::Cut | Effect::Stop => {
                self.over.set(true);
                self.nudged.set(false);
                self.nudge();
            }
            Effect::Login { re, auth, device } => self.login(re, auth, device),
            Effect::LoggedOut => self.logged_out(),
            Effect::Unfollow(conversation) => self.fan_out.unfollow(self.slot.number, &conversation),
            effect => self.ask(effect),
        }
    }

    /// Effects that only somebody logged in can cause.
    fn ask(self: &Rc<Self>, effect: Effect) {
        let Some(reader) = self.reader() else { return };
        let (number, fan_out) = (self.slot.number, self.fan_out.clone());
        match effect {
            Effect::Submit { ticket, after, conversation, ask } => {
                let Identity { app, user: actor } = reader.who;
                let turn = Turn { session: self.id, ticket, after };
                let letter = Letter { app, conversation, actor, ask, turn };
                self.services.router.post_to_leader(letter, self.answers.reply(number, ticket));
            }
            Effect::Insist { ticket, conversation, ask, within_ms, maybe_happened } => {
                let router = self.services.router.clone();
                let Identity { app, user: actor } = reader.who;
                let turn = Turn { session: self.id, ticket, after: None };
                let letter = Letter { app, conversation, actor, ask, turn };
                let deadline = tokio::time::Instant::now() + Duration::from_millis(within_ms);
                let answer = async move { router.insist(letter, deadline, maybe_happened).await };
                self.when(answer, move |core, now, answer| core.insisted(now, ticket, answer));
            }
            Effect::Resume { .. } => {
                let Identity { app, user } = reader.who.clone();
                fan_out.register(number, app, user, self.clone());
                let resumed = within_deadline(resume::resume(reader, fan_out, number));
                self.when(resumed, |core, _, standings| core.resumed(standings));
            }
            Effect::Add(conversation) => {
                let added = within_deadline(resume::add(reader, fan_out, number, conversation.clone()));
                self.when(added, move |core, _, standing| core.added(conversation, standing));
            }
            Effect::Refresh { re, token } => {
                let Some(device) = self.user.borrow().as_ref().map(|user| user.device.clone()) else { return };
                let refreshed = login::refresh(self.services.clone(), reader.who, device, token);
                self.when(refreshed, move |core, now, done| core.refreshed(now, re, done, unix_ms()));
            }
            Effect::Account { re, command } => {
                let changed = login::change(self.services.clone(), reader.who, command);
                self.when(changed, move |core, _, done| core.account_changed(re, done));
            }
            Effect::ReadPage { re, page } => {
                let read = within_deadline(reader.page(re, page));
                self.when(read, move |core, _, page| core.page_read(re, page));
            }
            Effect::Backfill { conversation, after } => {
                let read = within_deadline(reader.backfill(conversation.clone(), after));
                self.when(read, move |core, now, events| core.backfilled(now, &conversation, events));
            }
            Effect::Aside(re, ask) => self.aside(reader, re, ask),
            _ => {}
        }
    }

    fn aside(self: &Rc<Self>, reader: Reader, re: u64, ask: AsideAsk) {
        let (session, presence) = (self.slot.number, &self.services.presence);
        match ask {
            AsideAsk::Subscribe(users) => presence.say(Input::Subscribe { session, re, users }),
            AsideAsk::Unsubscribe(users) => presence.say(Input::Unsubscribe { session, users }),
            AsideAsk::Appear(appearance) => presence.say(Input::Appears { session, appearance }),
            ask => {
                let done = within_deadline(aside::done(reader, ask));
                self.when(done, |core, _, done| core.aside_done(done));
            }
        }
    }

    /// Begins `work` and gives what comes of it to the core, if the session is still there.
    fn when<T: 'static>(
        self: &Rc<Self>,
        work: impl Future<Output = T> + 'static,
        input: impl FnOnce(&mut Core, u64, T) + 'static,
    ) {
        let (seat, work) = (Rc::downgrade(self), started(work));
        actix::spawn(async move {
            let result = work.await;
            if let Some(seat) = seat.upgrade() {
                seat.step(|core, now| input(core, now, result));
            }
        });
    }

    fn login(self: &Rc<Self>, re: u64, auth: Credentials, device: Device) {
        if let Err(early) = self.services.rates.login(self.connection.client.ip) {
            let (code, message) = (ErrorCode::RateLimited, "too many logins from your address");
            tracing::info!(event = "logins_limited", retry_after_ms = early.retry_after_ms, "logins come too often");
            let refused = std::future::ready(());
            return self.when(refused, move |core, now, ()| core.login_failed(now, re, code, message));
        }
        self.visitor.borrow_mut().device = Some(device.clone());
        let (services, visitor) = (self.services.clone(), self.visitor.borrow().clone());
        let actor = self.actor.get().cloned();
        let wake = Box::new(move || {
            // Full: whatever is in the mailbox takes the step.
            let _ = actor.as_ref().and_then(WeakAddr::upgrade).map(|actor| actor.try_send(Inbound::Wake));
        });
        let (number, platform) = (self.slot.number, device.platform.clone());
        let place = Arrival { number, session: self.id, device: device.id.clone(), platform, wake };
        let work = started(login::login(services, visitor, auth, place));
        let seat = Rc::downgrade(self);
        actix::spawn(async move {
            let result = work.await;
            let Some(seat) = seat.upgrade() else { return };
            match result {
                Ok(entered) => seat.logged_in(re, entered, device),
                Err((code, message)) => seat.step(|core, now| core.login_failed(now, re, code, message)),
            }
        });
    }

    fn logged_in(self: &Rc<Self>, re: u64, entered: Entered, device: Device) {
        let Entered { login: Login { identity, token }, slot, limits } = entered;
        let expires_ms = token.map(|token| token.ends_ms);
        let limits = Limits { dedupe_window_ms: login::id_window_ms(&self.services, &identity), ..limits };
        let who = Identified { app: identity.app.clone(), user: identity.user.clone(), expires_ms, limits };
        let id = device.id.clone();
        let key = UserKey { app: identity.app.clone(), user: identity.user.clone() };
        let (session, platform) = (self.slot.number, device.platform.clone());
        self.services.presence.say(Input::Came { session, key, platform });
        actix::spawn(login::see_device(self.services.clone(), identity.clone(), device, unix_ms()));
        *self.user.borrow_mut() = Some(User { identity, since_ms: now_ms(), device: id, slot });
        self.step(|core, now| core.logged_in(now, re, who, unix_ms()));
    }

    fn logged_out(&self) {
        if let Some(user) = &*self.user.borrow() {
            self.services.security.logout(&self.visitor.borrow(), &user.identity, &self.name());
        }
    }

    fn reader(&self) -> Option<Reader> {
        let who = self.user.borrow().as_ref()?.identity.clone();
        Some(Reader { services: self.services.clone(), who })
    }

    /// The actor has stopped.
    pub(super) fn close(&self) {
        self.over.set(true);
        self.fan_out.unregister(self.slot.number);
        self.services.presence.say(Input::Gone { session: self.slot.number });
        if let Some(user) = self.user.borrow_mut().take() {
            let duration_ms = now_ms().saturating_sub(user.since_ms);
            let counters = self.core.borrow().counters();
            let (security, visitor) = (&self.services.security, self.visitor.borrow());
            security.session_ended(&visitor, &user.identity, &self.name(), self.end.get(), duration_ms, counters);
        }
        // A pump that is not gone by now is frozen.
        if self.connection.pipe.ended() != Some(Ended::Gone) {
            self.connection.pipe.cut();
        }
    }
}

impl Listener for Seat {
    /// What can be written is written at once; anything else is left to the actor's next step.
    fn hear(&self, now_ms: u64, live: Live<'_>) {
        let pipe = &self.connection.pipe;
        let mut core = self.core.borrow_mut();
        core.waiting_bytes(pipe.bytes());
        core.live(now_ms, live);
        let more = core.written(|frame| pipe.push(frame, now_ms));
        drop(core);
        if more {
            self.nudge();
        }
    }
}

/// The client's `trace_id` leads here. What a client did wrong is its own affair; what the service could not do is not.
fn log_error(code: ErrorCode, trace_id: &str) {
    // Of overload there are as many as there is too much; the shard that sheds says it once.
    if code.retryable() && !matches!(code, ErrorCode::LoginTimeout | ErrorCode::Overloaded | ErrorCode::TooManyInFlight)
    {
        tracing::warn!(
            event = "request_failed",
            code = code.number(),
            name = code.name(),
            trace_id,
            "a request failed"
        );
    } else {
        tracing::debug!(
            event = "request_refused",
            code = code.number(),
            name = code.name(),
            trace_id,
            "a request was refused"
        );
    }
}

fn end_reason(code: CloseCode) -> EndReason {
    match code {
        CloseCode::GoingAway => EndReason::GoingAway,
        CloseCode::HeartbeatTimeout => EndReason::HeartbeatTimeout,
        CloseCode::Overloaded => EndReason::Overloaded,
        CloseCode::SlowConsumer => EndReason::SlowConsumer,
        CloseCode::BadFrames => EndReason::BadFrames,
        CloseCode::FrameTooLarge => EndReason::FrameTooLarge,
        CloseCode::LoggedOut => EndReason::Logout,
        CloseCode::TokenExpired => EndReason::TokenExpired,
        CloseCode::Revoked => EndReason::Revoked,
        CloseCode::Replaced => EndReason::Replaced,
        CloseCode::Internal | CloseCode::LoginTimeout | CloseCode::LoginFailed => EndReason::Internal,
    }
}
