//! The session actor: one per connection, beside its WebSocket pump on the same arbiter. It has timers of its own,
//! because the pump stands still while its client does not read.
//!
//! - `core`: what it does, pure. `cursors`: where it is in each conversation. `requests`: what is asked of whom.
//! - [`message`]: what it may be told. `login`, `resume`, `reads`: what it waits for.

mod core;
mod cursors;
mod login;
pub(crate) mod message;
mod reads;
mod requests;
mod resume;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use bytestring::ByteString;
use chat::errors::{CloseCode, ErrorCode};
use chat::limits;
use chat::wire::{Credentials, Device, ServerFrame};
use cluster::Cluster;

use self::core::{Core, Effect, Identified, Service};
use self::reads::{Reader, within_deadline};
use crate::auth::{Authenticator, Identity};
use crate::directory::{Sessions, Slot, UserSlot};
use crate::fanout::FanOutHandle;
use crate::fanout::message::{Subscriber, Unfollow, Unregister};
use crate::history::History;
use crate::router::Router;
use crate::security::{EndReason, SecurityLog, Visitor};
use crate::socket::{Connection, Drain, Ended, Inbound, now_ms};
use crate::started::started;
use message::{Live, Missed, Observe, SessionState};

/// Between two looks at the clock. Timeouts are seconds.
const TICK: Duration = Duration::from_secs(1);

/// What sessions need of the rest of the node.
pub struct Services {
    pub cluster: Cluster,
    pub router: Router,
    pub history: History,
    pub authenticator: Authenticator,
    pub security: SecurityLog,
    pub fan_out: FanOutHandle,
    pub sessions: Sessions,
    /// Changes when the service was restored from a backup.
    pub epoch: u32,
}

/// Who is logged in, since when.
struct User {
    identity: Identity,
    since_ms: u64,
    _slot: UserSlot,
}

pub(crate) struct Session {
    id: String,
    core: Core,
    services: Arc<Services>,
    connection: Connection,
    slot: Slot,
    visitor: Visitor,
    user: Option<User>,
    missed: Arc<Missed>,
    end: EndReason,
}

/// A frame's JSON.
pub(crate) fn encode(frame: &ServerFrame) -> ByteString {
    serde_json::to_string(frame).expect("frames hold text, numbers and lists, all of which JSON has").into()
}

/// The client's `trace_id` leads here. What a client did wrong is its own affair; what the service could not do is not.
fn log_error(code: ErrorCode, trace_id: &str) {
    if code.retryable() && code != ErrorCode::LoginTimeout {
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

impl Session {
    pub(crate) fn new(services: Arc<Services>, connection: Connection, slot: Slot) -> Self {
        let id = uuid::Uuid::now_v7().simple().to_string();
        let service = Service {
            cluster: services.cluster.cluster().to_owned(),
            node: services.cluster.node(),
            epoch: services.epoch,
        };
        let client = &connection.client;
        let (ip, port, user_agent) = (client.ip, client.port, client.user_agent.clone());
        Self {
            core: Core::new(id.clone(), service, now_ms()),
            id,
            services,
            visitor: Visitor { ip, port, user_agent, device: None },
            connection,
            slot,
            user: None,
            missed: Arc::default(),
            end: EndReason::ClientClosed,
        }
    }

    /// One input to the core, and everything that follows from it.
    fn step(&mut self, context: &mut Context<Self>, input: impl FnOnce(&mut Core, u64)) {
        let now = now_ms();
        self.core.waiting_bytes(self.connection.pipe.bytes());
        input(&mut self.core, now);
        if let Some(news) = self.missed.take() {
            self.core.missed(now, news);
        }
        if let Some(why) = self.connection.pipe.ended() {
            self.core.ended(now, why);
        }
        for (code, trace_id) in self.core.said() {
            log_error(code, &trace_id);
        }
        for effect in self.core.effects() {
            self.act(effect, context);
        }
        if self.core.starved() {
            self.connection.pipe.starve();
        }
    }

    fn act(&mut self, effect: Effect, context: &mut Context<Self>) {
        let pipe = &self.connection.pipe;
        match effect {
            Effect::Write(frame) => self.wake_pump(pipe.push(frame, now_ms())),
            Effect::Ping => self.wake_pump(pipe.ping()),
            Effect::Close(code) => {
                self.end = end_reason(code);
                self.wake_pump(pipe.close(code));
            }
            Effect::Cut | Effect::Stop => context.stop(),
            Effect::Login { re, auth, device } => self.login(re, auth, device, context),
            Effect::LoggedOut => self.logged_out(),
            Effect::Unfollow(conversation) => {
                self.services.fan_out.tell(Unfollow { session: self.slot.number, conversation });
            }
            effect => self.ask(effect, context),
        }
    }

    /// Effects that only somebody logged in can cause.
    fn ask(&mut self, effect: Effect, context: &mut Context<Self>) {
        let Some(reader) = self.reader() else { return };
        let number = self.slot.number;
        match effect {
            Effect::Submit { re, conversation, ask } => {
                let router = self.services.router.clone();
                let Identity { app, user } = reader.who;
                let asked = conversation.clone();
                let answer = async move { router.ask(app, asked, user, ask).await };
                self.when(answer, context, move |core, _, answer| core.submitted(re, conversation, answer));
            }
            Effect::Resume { .. } => {
                let mailbox = context.address().recipient();
                let subscriber = Subscriber { mailbox, missed: self.missed.clone() };
                let resumed = within_deadline(resume::resume(reader, number, subscriber));
                self.when(resumed, context, |core, _, standings| core.resumed(standings));
            }
            Effect::Add(conversation) => {
                let added = within_deadline(resume::add(reader, number, conversation.clone()));
                self.when(added, context, move |core, _, standing| core.added(conversation, standing));
            }
            Effect::ReadPage { re, page } => {
                let read = within_deadline(reader.page(re, page));
                self.when(read, context, move |core, _, page| core.page_read(re, page));
            }
            Effect::Backfill { conversation, after } => {
                let read = within_deadline(reader.backfill(conversation.clone(), after));
                self.when(read, context, move |core, now, events| core.backfilled(now, &conversation, events));
            }
            _ => {}
        }
    }

    /// Begins `work` and gives what comes of it to the core.
    fn when<T: 'static>(
        &self,
        work: impl Future<Output = T> + 'static,
        context: &mut Context<Self>,
        input: impl FnOnce(&mut Core, u64, T) + 'static,
    ) {
        let done = started(work).into_actor(self).map(|result, this: &mut Self, context| {
            this.step(context, |core, now| input(core, now, result));
        });
        context.spawn(done);
    }

    fn login(&mut self, re: u64, auth: Credentials, device: Device, context: &mut Context<Self>) {
        self.visitor.device = Some(device.clone());
        let (services, visitor) = (self.services.clone(), self.visitor.clone());
        let work = login::login(services, visitor, self.id.clone(), auth);
        let done = started(work).into_actor(self).map(move |result, this: &mut Self, context| match result {
            Ok((identity, slot)) => this.logged_in(re, identity, slot, device, context),
            Err((code, message)) => this.step(context, |core, now| core.login_failed(now, re, code, message)),
        });
        context.spawn(done);
    }

    fn logged_in(&mut self, re: u64, identity: Identity, slot: UserSlot, device: Device, context: &mut Context<Self>) {
        let who = Identified { app: identity.app.clone(), user: identity.user.clone() };
        actix::spawn(login::see_device(self.services.clone(), identity.clone(), device));
        self.user = Some(User { identity, since_ms: now_ms(), _slot: slot });
        self.step(context, |core, _| core.logged_in(re, who, unix_ms()));
    }

    fn logged_out(&self) {
        if let Some(user) = &self.user {
            self.services.security.logout(&self.visitor, &user.identity, &self.id);
        }
    }

    fn reader(&self) -> Option<Reader> {
        let who = self.user.as_ref()?.identity.clone();
        Some(Reader { services: self.services.clone(), who })
    }

    fn wake_pump(&self, idle: bool) {
        if idle {
            // Full: a `Drain` waits in it already.
            let _ = self.connection.pump.try_send(Drain);
        }
    }

    fn tick(&mut self, context: &mut Context<Self>) {
        let pipe = self.connection.pipe.clone();
        self.step(context, |core, now| core.tick(now, pipe.heard_ms(), pipe.stalled_ms(now)));
    }
}

impl Actor for Session {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(limits::SESSION_MAILBOX);
        context.run_interval(TICK, Self::tick);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.services.fan_out.tell(Unregister { session: self.slot.number });
        if let Some(user) = &self.user {
            let duration_ms = now_ms().saturating_sub(user.since_ms);
            let counters = self.core.counters();
            let security = &self.services.security;
            security.session_ended(&self.visitor, &user.identity, &self.id, self.end, duration_ms, counters);
        }
        // A pump that is not gone by now is frozen.
        if self.connection.pipe.ended() != Some(Ended::Gone)
            && let Some(cutter) = &self.connection.cutter
        {
            cutter.cut();
        }
    }
}

impl Handler<Inbound> for Session {
    type Result = ();

    fn handle(&mut self, inbound: Inbound, context: &mut Self::Context) {
        self.step(context, |core, now| match inbound {
            Inbound::Text(text) => core.text(now, &text),
            Inbound::Binary => core.binary(now),
            Inbound::Wake => {}
        });
    }
}

impl Handler<Live> for Session {
    type Result = ();

    fn handle(&mut self, live: Live, context: &mut Self::Context) {
        self.step(context, |core, now| core.live(now, live));
    }
}

impl Handler<Observe> for Session {
    type Result = SessionState;

    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> SessionState {
        self.core.state()
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
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
        CloseCode::Internal | CloseCode::LoginTimeout | CloseCode::LoginFailed => EndReason::Internal,
    }
}
