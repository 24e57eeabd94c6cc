//! The security actor: one per node. It writes who logged in, from where and how it ended, and what was administered, into
//! a sealed, append-only, hash-chained log, and makes it durable before the client hears of it or anything is done.
//!
//! It runs on an arbiter of its own, because it waits for the disk: the messages that arrive meanwhile become durable
//! together with the next sync. Once the log cannot be written nothing is recorded any more, and nobody can log in.
//!
//! - [`message`]: all that may be asked, and [`SecurityLog`], which sessions hold.
//! - [`record`]: what is written. `core`: when it is synced. `journal`: where it goes.

mod core;
mod journal;
pub mod message;
pub mod record;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::{Actor, Arbiter, AsyncContext, Context, Handler, MessageResult};
use chat::ids::NodeId;
use chat::limits;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use core::{Core, Effect};
use journal::Journal;
pub use journal::{SecurityOpenError, SecurityOptions, open};
use message::{Flush, NoteGap, Observe, RecordEnd, RecordLogin, SharedFlag, SharedGap, Tail};
pub use message::{LoginOutcome, NotRecorded, SecurityLog, SecurityState, Visitor};
pub(crate) use record::fingerprint;
pub use record::{Administration, Counters, EndReason, Entry, Method};
use record::{Event, Record};

type Durable = oneshot::Sender<Result<(), NotRecorded>>;

/// The shell: appends, syncs and answers as the core says.
pub struct SecurityActor {
    node: NodeId,
    core: Core,
    journal: Box<dyn Journal>,
    /// Who waits for the next sync.
    waiting: Vec<Durable>,
    gap: SharedGap,
    failed: SharedFlag,
    started: Instant,
}

/// Starts the actor over an open journal whose newest entries are in `core`.
fn start(node: NodeId, core: Core, journal: Box<dyn Journal>, mailbox: usize) -> SecurityLog {
    let gap = SharedGap::new(Mutex::new(None));
    let failed = SharedFlag::default();
    let (actor_gap, actor_failed) = (gap.clone(), failed.clone());
    let (running, started) = std::sync::mpsc::sync_channel(1);
    let actor =
        SecurityActor::start_in_arbiter(&Arbiter::new().handle(), move |context: &mut Context<SecurityActor>| {
            context.set_mailbox_capacity(mailbox);
            // The receiver waits below.
            let _ = running.send(());
            SecurityActor {
                node,
                core,
                journal,
                waiting: Vec::new(),
                gap: actor_gap,
                failed: actor_failed,
                started: Instant::now(),
            }
        });
    // Until then the mailbox has actix's own small capacity, and would refuse the first logins.
    started.recv().expect("the new arbiter runs what it is given");
    SecurityLog::new(actor, gap, failed)
}

impl Actor for SecurityActor {
    type Context = Context<Self>;

    fn stopped(&mut self, _context: &mut Self::Context) {
        self.sync();
    }
}

impl SecurityActor {
    fn append(&mut self, time_ms: u64, event: Event) {
        if self.core.has_failed() {
            return;
        }
        let record = Record { time_ms, node: self.node, event };
        let appended = record.encode().map_err(|error| error.to_string()).and_then(|bytes| self.journal.append(&bytes));
        match appended {
            Ok(sequence) => self.core.appended(Entry { sequence, record }),
            Err(why) => self.fail(why),
        }
    }

    /// What a full mailbox turned away comes before what follows it.
    fn append_gap(&mut self) {
        let Some(gap) = self.gap.lock().take() else { return };
        self.core.missed(gap.count);
        self.append(gap.last_ms, Event::Gap { first_ms: gap.first_ms, last_ms: gap.last_ms, count: gap.count });
    }

    /// Whatever was appended, and whoever waits, waits for the next sync.
    fn wait(&mut self, context: &mut Context<Self>) {
        if self.core.has_failed() {
            return self.answer(Err(NotRecorded::Failed));
        }
        match self.core.wait(self.started.elapsed().as_millis() as u64) {
            Effect::Nothing => {}
            Effect::SyncNow => self.sync(),
            Effect::ArmTimer => {
                context.run_later(Duration::from_millis(limits::SECURITY_SYNC_MS), |actor, _| {
                    if actor.core.timer_fired() {
                        actor.sync();
                    }
                });
            }
        }
    }

    fn sync(&mut self) {
        if self.core.has_failed() {
            return self.answer(Err(NotRecorded::Failed));
        }
        match self.journal.sync() {
            Ok(()) => {
                self.core.synced();
                self.answer(Ok(()));
            }
            Err(why) => self.fail(why),
        }
    }

    fn fail(&mut self, why: String) {
        tracing::error!(event = "security_log_failed", why, "the security log cannot be written; logins are refused");
        self.core.fail(why);
        self.failed.store(true, Ordering::Relaxed);
        self.answer(Err(NotRecorded::Failed));
    }

    fn answer(&mut self, result: Result<(), NotRecorded>) {
        for durable in self.waiting.drain(..) {
            // A session that went away needs no answer.
            let _ = durable.send(result);
        }
    }
}

impl Handler<RecordLogin> for SecurityActor {
    type Result = ();

    fn handle(&mut self, message: RecordLogin, context: &mut Self::Context) {
        self.append_gap();
        self.append(message.time_ms, message.event);
        self.waiting.push(message.durable);
        self.wait(context);
    }
}

impl Handler<RecordEnd> for SecurityActor {
    type Result = ();

    fn handle(&mut self, message: RecordEnd, context: &mut Self::Context) {
        self.append_gap();
        self.append(message.time_ms, message.event);
        self.wait(context);
    }
}

impl Handler<NoteGap> for SecurityActor {
    type Result = ();

    fn handle(&mut self, _message: NoteGap, context: &mut Self::Context) {
        self.append_gap();
        self.wait(context);
    }
}

impl Handler<Flush> for SecurityActor {
    type Result = ();

    fn handle(&mut self, message: Flush, _context: &mut Self::Context) {
        self.append_gap();
        self.waiting.push(message.durable);
        self.sync();
    }
}

impl Handler<Tail> for SecurityActor {
    type Result = MessageResult<Tail>;

    fn handle(&mut self, message: Tail, _context: &mut Self::Context) -> Self::Result {
        MessageResult(self.core.tail(message.limit))
    }
}

impl Handler<Observe> for SecurityActor {
    type Result = MessageResult<Observe>;

    fn handle(&mut self, _message: Observe, _context: &mut Self::Context) -> Self::Result {
        MessageResult(self.core.observable_state())
    }
}

#[cfg(test)]
#[path = "actor_tests.rs"]
mod tests;
