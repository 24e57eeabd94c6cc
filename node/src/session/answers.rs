//! Where the answers to a worker's sessions arrive, from whatever thread: one wake-up for many.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::roster::Roster;
use crate::fanout::message::SessionNumber;
use crate::group::{GroupAnswer, Reply};

struct Answer {
    session: SessionNumber,
    ticket: u64,
    answer: GroupAnswer,
}

#[derive(Default)]
struct Shared {
    /// One for each request that sessions hold, and those are bounded.
    waiting: Mutex<Vec<Answer>>,
    arrived: Notify,
}

#[derive(Clone, Default)]
pub(super) struct Answers(Arc<Shared>);

impl Answers {
    /// Hands answers to the sessions of `roster`, on the calling thread, until it ends.
    pub(super) fn start(roster: Roster) -> Self {
        let answers = Self::default();
        let shared = answers.0.clone();
        actix::spawn(async move {
            loop {
                shared.arrived.notified().await;
                let waiting = std::mem::take(&mut *shared.waiting.lock());
                for Answer { session, ticket, answer } in waiting {
                    if let Some(seat) = roster.seat(session) {
                        seat.step(|core, now| core.submitted(now, ticket, answer));
                    }
                }
            }
        });
        answers
    }

    /// Where the answer to a session's request goes.
    pub(super) fn reply(&self, session: SessionNumber, ticket: u64) -> Reply {
        let shared = self.0.clone();
        Reply::new(move |answer| {
            shared.waiting.lock().push(Answer { session, ticket, answer });
            shared.arrived.notify_one();
        })
    }
}
