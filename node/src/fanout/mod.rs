//! The fan-out: one actor on every worker thread that serves clients. Every replica of this node tells it what it
//! applied, in log order, and it hands each event to the sessions of its thread that follow the conversation, by a
//! direct call. Nothing is asked of other nodes: they apply the same entries and serve their own sessions.
//!
//! - [`message`]: what it may be told. `core`: who hears of what. `batch`: an entry's events, encoded once.
//! - `aside`: what is said beside the log.
//! - `interest`: which workers are told at all. `overflow`: what a queue had no room for. `feed`: the replicas' side.

mod aside;
mod batch;
mod core;
mod feed;
mod interest;
pub(crate) mod message;
mod overflow;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use actix::{Actor, Addr, Context, Handler};
use bytestring::ByteString;
use chat::event::SequencedEvent;
use chat::ids::{AppId, ConversationId, UserId};
use chat::limits;
use futures_util::future::join_all;
use parking_lot::RwLock;

pub(crate) use self::aside::{Aside, PresenceNews};
use self::batch::Encode;
use self::core::Core;
pub(crate) use self::core::Listener;
pub use feed::NodeFeed;
use interest::{Interest, Workers};
pub use message::FanOutState;
use message::{Applied, LookAtOverflow, Observe, Reconnect, SessionNumber};
use overflow::Overflow;

use crate::history::{History, HistoryError};
use crate::socket::now_ms;

/// Parts in which a node says goodbye to its sessions.
const GOODBYES: u64 = 20;

/// What the feed and a worker's actor share.
#[derive(Default)]
struct Shared {
    overflow: Overflow,
    /// Of the events in the mailbox.
    queued_bytes: AtomicUsize,
}

/// How many messages were recalled since the node started. An event in a queue that finds another number than when it was
/// applied looks whether it is about one of them.
type Recalls = Arc<AtomicU64>;

/// How the feed reaches one worker.
struct Worker {
    bit: Workers,
    actor: Addr<FanOut>,
    shared: Arc<Shared>,
}

/// What the rest of the node holds of the fan-out.
#[derive(Clone, Default)]
pub struct FanOutHandle {
    workers: Arc<RwLock<Vec<Worker>>>,
    interest: Arc<Interest>,
    recalls: Recalls,
}

/// The fan-out of one worker thread, for the sessions on it.
#[derive(Clone)]
pub(crate) struct LocalFanOut(Rc<RefCell<Core>>);

/// Writes events as they are told: a message that was recalled on its way here has no body.
struct LiveEncoder {
    history: History,
    recalls: Recalls,
}

pub(crate) struct FanOut {
    core: Rc<RefCell<Core>>,
    encoder: LiveEncoder,
    shared: Arc<Shared>,
    overflowed: u64,
}

impl FanOutHandle {
    /// Starts the fan-out of the calling thread, which must be an arbiter's. Once per thread.
    pub(crate) fn open_worker(&self, history: History) -> LocalFanOut {
        let mut workers = self.workers.write();
        let bit = interest::bit(workers.len());
        let core: Rc<RefCell<Core>> = Rc::new(RefCell::new(Core::new(bit, self.interest.clone())));
        let shared = Arc::new(Shared::default());
        let encoder = LiveEncoder { history, recalls: self.recalls.clone() };
        let fan_out = FanOut { core: core.clone(), encoder, shared: shared.clone(), overflowed: 0 };
        workers.push(Worker { bit, actor: fan_out.start(), shared });
        LocalFanOut(core)
    }

    /// Before a planned stop: every session asks its client to connect elsewhere, one part after the other within `spread`,
    /// so that nobody is gone for longer than a connection takes.
    pub async fn say_goodbye(&self, spread: Duration) {
        for part in 0..GOODBYES {
            let all: Vec<_> =
                self.workers.read().iter().map(|worker| worker.actor.send(Reconnect { part, of: GOODBYES })).collect();
            if join_all(all).await.iter().any(Result::is_err) {
                tracing::warn!("a worker is gone: its sessions end without a goodbye");
            }
            tokio::time::sleep(spread / GOODBYES as u32).await;
        }
    }

    pub async fn observable_state(&self) -> FanOutState {
        let asked: Vec<_> = self.workers.read().iter().map(|worker| worker.actor.send(Observe)).collect();
        let states = join_all(asked).await;
        states.into_iter().flatten().fold(FanOutState::default(), |all, one| FanOutState {
            sessions: all.sessions + one.sessions,
            users: all.users + one.users,
            conversations: all.conversations + one.conversations,
            delivered: all.delivered + one.delivered,
            overflowed: all.overflowed + one.overflowed,
        })
    }
}

impl LocalFanOut {
    /// From now on the session hears what enters its user's list.
    pub(crate) fn register(&self, session: SessionNumber, app: AppId, user: UserId, listener: Rc<dyn Listener>) {
        self.0.borrow_mut().register(session, app, user, listener);
    }

    /// From now on the session hears every event of these conversations, or that there are some.
    pub(crate) fn follow(&self, session: SessionNumber, conversations: &[ConversationId]) {
        self.0.borrow_mut().follow(session, conversations);
    }

    pub(crate) fn unfollow(&self, session: SessionNumber, conversation: &ConversationId) {
        self.0.borrow_mut().unfollow(session, conversation);
    }

    pub(crate) fn unregister(&self, session: SessionNumber) {
        self.0.borrow_mut().unregister(session);
    }
}

impl LiveEncoder {
    fn frame(&self, event: &SequencedEvent, recalls: u64) -> Result<ByteString, HistoryError> {
        let encoder = self.history.encoder();
        if recalls == self.recalls.load(Ordering::Acquire) {
            return encoder.frame(event);
        }
        encoder.frame(&self.history.still(event)?)
    }
}

impl Encode for LiveEncoder {
    fn encode(&self, event: &SequencedEvent, recalls: u64) -> Option<ByteString> {
        let frame = self.frame(event, recalls);
        frame
            .inspect_err(|error| tracing::error!(shown = false, %error, seq = event.seq, "an event does not open"))
            .ok()
    }
}

impl FanOut {
    fn look_at_overflow(&mut self) {
        let Some(noted) = self.shared.overflow.take() else { return };
        self.overflowed += 1;
        tracing::warn!(conversations = noted.heads.len(), "the fan-out fell behind: sessions read from history");
        self.core.borrow().overflowed(now_ms(), noted);
    }
}

impl Actor for FanOut {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(limits::FANOUT_MAILBOX);
    }
}

impl Handler<Applied> for FanOut {
    type Result = ();

    fn handle(&mut self, Applied(batch): Applied, _: &mut Self::Context) {
        self.shared.queued_bytes.fetch_sub(batch.bytes, Ordering::Relaxed);
        self.core.borrow_mut().applied(now_ms(), &batch, &self.encoder);
        self.look_at_overflow();
    }
}

impl Handler<LookAtOverflow> for FanOut {
    type Result = ();

    fn handle(&mut self, _: LookAtOverflow, _: &mut Self::Context) {
        self.look_at_overflow();
    }
}

impl Handler<Reconnect> for FanOut {
    type Result = ();

    fn handle(&mut self, goodbye: Reconnect, _: &mut Self::Context) {
        self.core.borrow().reconnect(now_ms(), |session| session % goodbye.of == goodbye.part);
    }
}

impl Handler<Observe> for FanOut {
    type Result = FanOutState;

    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> FanOutState {
        let core = self.core.borrow();
        let (sessions, users, conversations) = core.sizes();
        FanOutState { sessions, users, conversations, delivered: core.delivered, overflowed: self.overflowed }
    }
}
