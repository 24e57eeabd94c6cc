//! The fan-out actor: one per node. Every replica of this node tells it what it applied, in log order, and it hands
//! each event to the sessions of this node that follow the conversation. Nothing is asked of other nodes: they apply
//! the same entries and serve their own sessions.
//!
//! - [`message`]: what it may be told. `core`: who hears of what. `overflow`: what its queue had no room for.
//! - [`feed`]: the replicas' side.

mod core;
mod feed;
pub(crate) mod message;
mod overflow;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::dev::ToEnvelope;
use actix::prelude::SendError;
use actix::{Actor, Addr, ArbiterHandle, AsyncContext, Context, Handler, MailboxError, Message};
use bytestring::ByteString;
use chat::event::SequencedEvent;
use chat::limits;

pub(crate) use self::core::removed;
use self::core::{Core, Delivery, Encode};
pub use feed::NodeFeed;
pub use message::FanOutState;
use message::{Applied, Follow, LookAtOverflow, Observe, Reconnect, Register, SessionNumber, Subscriber};
use message::{Unfollow, Unregister};
use overflow::Overflow;

use crate::history::EventEncoder;
use crate::session::message::Live;

/// Between two looks for sessions that ended without a word.
const SWEEP: Duration = Duration::from_secs(30);

/// What the feed and the actor share.
#[derive(Default)]
struct Shared {
    overflow: Overflow,
    /// Of the events in the mailbox.
    queued_bytes: AtomicUsize,
}

pub(crate) struct FanOut {
    core: Core,
    subscribers: HashMap<SessionNumber, Subscriber>,
    encoder: EventEncoder,
    shared: Arc<Shared>,
    delivered: u64,
    lagged: u64,
    overflowed: u64,
}

/// What the rest of the node holds of the fan-out actor.
#[derive(Clone)]
pub struct FanOutHandle {
    actor: Arc<Addr<FanOut>>,
    shared: Arc<Shared>,
}

impl FanOutHandle {
    /// Starts the actor on `arbiter`.
    pub fn start(arbiter: &ArbiterHandle, encoder: EventEncoder) -> Self {
        let shared = Arc::new(Shared::default());
        let actor_shared = shared.clone();
        let actor = FanOut::start_in_arbiter(arbiter, move |context| {
            context.set_mailbox_capacity(limits::FANOUT_MAILBOX);
            FanOut {
                core: Core::default(),
                subscribers: HashMap::new(),
                encoder,
                shared: actor_shared,
                delivered: 0,
                lagged: 0,
                overflowed: 0,
            }
        });
        Self { actor: Arc::new(actor), shared }
    }

    /// Waits for room in the mailbox, and for the answer.
    pub(crate) async fn ask<M>(&self, message: M) -> Result<M::Result, MailboxError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        FanOut: Handler<M>,
        Context<FanOut>: ToEnvelope<FanOut, M>,
    {
        self.actor.send(message).await
    }

    /// Does not wait; a full mailbox loses the message.
    pub(crate) fn tell<M>(&self, message: M)
    where
        M: Message + Send + 'static,
        M::Result: Send,
        FanOut: Handler<M>,
        Context<FanOut>: ToEnvelope<FanOut, M>,
    {
        if self.actor.try_send(message).is_err() {
            tracing::debug!("the fan-out's mailbox is full");
        }
    }

    /// Before a planned stop: every session asks its client to connect elsewhere, spread over `spread`.
    pub async fn say_goodbye(&self, spread: Duration) {
        let spread_ms = spread.as_millis() as u64;
        if self.ask(Reconnect { spread_ms }).await.is_err() {
            tracing::warn!("the fan-out is gone: sessions end without a goodbye");
        }
    }

    pub async fn observable_state(&self) -> Option<FanOutState> {
        self.ask(Observe).await.ok()
    }
}

impl Encode for EventEncoder {
    fn encode(&self, event: &SequencedEvent) -> Option<ByteString> {
        let frame = self.frame(event);
        frame
            .inspect_err(|error| tracing::error!(shown = false, %error, seq = event.seq, "an event does not open"))
            .ok()
    }
}

impl FanOut {
    fn deliver(&mut self, deliveries: Vec<Delivery>) {
        let mut ended = Vec::new();
        for Delivery { sessions, live } in deliveries {
            for number in sessions {
                if !self.hand(number, live.clone()) {
                    ended.push(number);
                }
            }
        }
        for number in ended {
            self.forget(number);
        }
    }

    /// False if the session is gone.
    fn hand(&mut self, number: SessionNumber, live: Live) -> bool {
        let Some(subscriber) = self.subscribers.get(&number) else { return false };
        match subscriber.mailbox.try_send(live) {
            Ok(()) => self.delivered += 1,
            Err(SendError::Closed(_)) => return false,
            Err(SendError::Full(live)) => {
                self.lagged += 1;
                subscriber.missed.note(&live);
                // Full again: then something in the mailbox is handled after this note was made.
                let _ = subscriber.mailbox.try_send(Live::LookAtMissed);
            }
        }
        true
    }

    fn forget(&mut self, number: SessionNumber) {
        self.core.unregister(number);
        self.subscribers.remove(&number);
    }

    fn look_at_overflow(&mut self) {
        let Some(noted) = self.shared.overflow.take() else { return };
        self.overflowed += 1;
        tracing::warn!(conversations = noted.heads.len(), "the fan-out fell behind: sessions read from history");
        let deliveries = self.core.overflowed(noted);
        self.deliver(deliveries);
    }

    fn sweep(&mut self, _: &mut Context<Self>) {
        let gone = |(number, at): (&SessionNumber, &Subscriber)| (!at.mailbox.connected()).then_some(*number);
        let ended: Vec<_> = self.subscribers.iter().filter_map(gone).collect();
        for number in ended {
            self.forget(number);
        }
    }
}

impl Actor for FanOut {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.run_interval(SWEEP, Self::sweep);
    }
}

impl Handler<Applied> for FanOut {
    type Result = ();

    fn handle(&mut self, applied: Applied, _: &mut Self::Context) {
        self.shared.queued_bytes.fetch_sub(applied.bytes, Ordering::Relaxed);
        let deliveries = self.core.applied(&applied.events, &self.encoder);
        self.deliver(deliveries);
        self.look_at_overflow();
    }
}

impl Handler<LookAtOverflow> for FanOut {
    type Result = ();

    fn handle(&mut self, _: LookAtOverflow, _: &mut Self::Context) {
        self.look_at_overflow();
    }
}

impl Handler<Register> for FanOut {
    type Result = ();

    fn handle(&mut self, new: Register, _: &mut Self::Context) {
        self.subscribers.insert(new.session, new.subscriber);
        self.core.register(new.session, new.app, new.user);
    }
}

impl Handler<Follow> for FanOut {
    type Result = ();

    fn handle(&mut self, follow: Follow, _: &mut Self::Context) {
        self.core.follow(follow.session, follow.conversations);
    }
}

impl Handler<Unfollow> for FanOut {
    type Result = ();

    fn handle(&mut self, unfollow: Unfollow, _: &mut Self::Context) {
        self.core.unfollow(unfollow.session, &unfollow.conversation);
    }
}

impl Handler<Unregister> for FanOut {
    type Result = ();

    fn handle(&mut self, gone: Unregister, _: &mut Self::Context) {
        self.forget(gone.session);
    }
}

impl Handler<Reconnect> for FanOut {
    type Result = ();

    fn handle(&mut self, goodbye: Reconnect, _: &mut Self::Context) {
        let deliveries = self.core.reconnect(goodbye.spread_ms);
        self.deliver(deliveries);
    }
}

impl Handler<Observe> for FanOut {
    type Result = FanOutState;

    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> FanOutState {
        let (sessions, users, conversations) = self.core.sizes();
        FanOutState {
            sessions,
            users,
            conversations,
            encoded: self.core.encoded(),
            delivered: self.delivered,
            lagged: self.lagged,
            overflowed: self.overflowed,
        }
    }
}
