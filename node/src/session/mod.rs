//! The session actor: one per connection, beside its WebSocket pump on the same arbiter. It lives apart from the pump,
//! because the pump stands still while its client does not read.
//!
//! - `core`: what it does, pure. `cursors`: where it is in each conversation. `requests`: what is asked of whom.
//! - `seat`: what the actor, its tasks and the fan-out of its thread share. `roster`: a thread's sessions and
//!   their one clock. `answers`: where the group actors' answers arrive.
//! - [`message`]: what it may be told. `aside`: what it does beside the log. `login`, `resume`, `reads`: what it waits for.

mod answers;
mod aside;
mod core;
mod cursors;
mod group_reads;
mod login;
pub(crate) mod message;
#[cfg(test)]
mod order_tests;
mod pages;
mod reads;
mod requests;
mod resume;
mod roster;
mod seat;
mod user_reads;

use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler};
use bytestring::ByteString;
use chat::limits;
use chat::wire::ServerFrame;
use cluster::Cluster;

use crate::auth::Authenticator;
use crate::directory::{Sessions, Slot};
use crate::fanout::{FanOutHandle, LocalFanOut};
use crate::history::History;
use crate::presence::PresenceHandle;
use crate::rates::Rates;
use crate::router::Router;
use crate::security::SecurityLog;
use crate::socket::{Connection, Inbound};
use answers::Answers;
use message::{Observe, SessionState};
pub use pages::Pages;
use roster::Roster;
use seat::Seat;

/// What sessions need of the rest of the node.
pub struct Services {
    pub cluster: Cluster,
    pub router: Router,
    pub history: History,
    pub authenticator: Authenticator,
    pub security: SecurityLog,
    pub sessions: Sessions,
    pub pages: Pages,
    pub presence: PresenceHandle,
    pub rates: Arc<Rates>,
    /// Changes when the service was restored from a backup.
    pub epoch: u32,
}

/// What the sessions of one worker thread share.
#[derive(Clone)]
pub struct Floor {
    fan_out: LocalFanOut,
    roster: Roster,
    answers: Answers,
}

impl Floor {
    /// For the calling thread, which must be an arbiter's. Once per thread.
    pub fn open(fan_out: &FanOutHandle, history: History) -> Self {
        let roster = Roster::start();
        let answers = Answers::start(roster.clone());
        Self { fan_out: fan_out.open_worker(history), roster, answers }
    }
}

/// The actor's shell: its mailbox and its end. What it knows is in its [`Seat`].
pub(crate) struct Session(Rc<Seat>);

/// A frame's JSON.
pub(crate) fn encode(frame: &ServerFrame) -> ByteString {
    serde_json::to_string(frame).expect("frames hold text, numbers and lists, all of which JSON has").into()
}

impl Session {
    pub(crate) fn new(services: Arc<Services>, floor: &Floor, connection: Connection, slot: Slot) -> Self {
        let number = slot.number;
        let seat = Rc::new(Seat::new(services, floor, connection, slot));
        floor.roster.add(number, &seat);
        Self(seat)
    }
}

impl Actor for Session {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(limits::SESSION_MAILBOX);
        self.0.open(context.address().downgrade());
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.0.close();
    }
}

impl Handler<Inbound> for Session {
    type Result = ();

    fn handle(&mut self, inbound: Inbound, context: &mut Self::Context) {
        match inbound {
            Inbound::Text(text) => match self.0.may_ask() {
                Ok(()) => self.0.step(|core, now| core.text(now, &text)),
                Err(early) => self.0.step(|core, _| core.too_often(&text, early.retry_after_ms)),
            },
            Inbound::Unsupported => self.0.step(|core, now| core.unsupported(now)),
            Inbound::Malformed(why) => self.0.step(|core, now| core.malformed(now, &why)),
            Inbound::Wake => self.0.step(|_, _| {}),
        }
        if self.0.is_over() {
            context.stop();
        }
    }
}

impl Handler<Observe> for Session {
    type Result = SessionState;

    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> SessionState {
        self.0.state()
    }
}
