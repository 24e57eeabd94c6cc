//! The sessions of a worker thread by number, and the one clock of them all: what thousands of idle connections cost
//! is one timer.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::seat::Seat;
use crate::fanout::message::SessionNumber;

/// Between two looks at the clock. Timeouts are seconds.
const TICK: Duration = Duration::from_secs(1);

#[derive(Clone, Default)]
pub(super) struct Roster(Rc<RefCell<HashMap<SessionNumber, Weak<Seat>>>>);

impl Roster {
    /// Ticks until the thread ends.
    pub(super) fn start() -> Self {
        let roster = Self::default();
        let ticking = roster.clone();
        actix::spawn(async move {
            let mut clock = tokio::time::interval(TICK);
            clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                clock.tick().await;
                ticking.tick();
            }
        });
        roster
    }

    pub(super) fn add(&self, session: SessionNumber, seat: &Rc<Seat>) {
        self.0.borrow_mut().insert(session, Rc::downgrade(seat));
    }

    pub(super) fn seat(&self, session: SessionNumber) -> Option<Rc<Seat>> {
        self.0.borrow().get(&session).and_then(Weak::upgrade)
    }

    fn tick(&self) {
        let mut seats = self.0.borrow_mut();
        seats.retain(|_, seat| seat.upgrade().is_some_and(|seat| seat.tick()));
        if seats.capacity() > 4 * seats.len() + 64 {
            seats.shrink_to_fit();
        }
    }
}
