//! Each session's requests enter the log in the order they were made: a request that says which one it comes after is let
//! in only behind that one.

use std::collections::HashMap;

use chat::limits;
use cluster::Fence;
use uuid::Uuid;

use super::message::Turn;

#[derive(Debug, Clone, Copy)]
struct Last {
    ticket: u64,
    /// Of the row that it ends.
    fence: Fence,
}

/// The newest request of each session that was let in. Kept long past the moment when the session has its answer and
/// needs it no more, and forgotten by generations; a request whose predecessor is forgotten is only asked again.
#[derive(Debug, Default)]
pub(super) struct Turns {
    recent: HashMap<Uuid, Last>,
    older: HashMap<Uuid, Last>,
}

impl Turns {
    /// Lets a request in, or does not. What it is let in under: the fence of those before it, or `fence` if it begins a row.
    pub(super) fn admit(&mut self, turn: Turn, fence: Fence) -> Option<Fence> {
        let fence = match turn.after {
            None => fence,
            Some(after) => self.last(turn.session).filter(|last| last.ticket == after)?.fence,
        };
        self.remember(turn, fence);
        Some(fence)
    }

    /// A repetition waits for a request that was let in under `fence`: what comes after it may follow.
    pub(super) fn joined(&mut self, turn: Turn, fence: Fence) {
        if self.last(turn.session).is_none() {
            self.remember(turn, fence);
        }
    }

    /// A request that was let in under `fence` has not entered the log: nothing follows it.
    pub(super) fn broken(&mut self, session: Uuid, fence: Fence) {
        if self.last(session).is_some_and(|last| last.fence == fence) {
            self.recent.remove(&session);
            self.older.remove(&session);
        }
    }

    /// Forgets those that were not heard of since the last time.
    pub(super) fn age(&mut self) {
        self.older = std::mem::take(&mut self.recent);
    }

    fn last(&self, session: Uuid) -> Option<Last> {
        self.recent.get(&session).or_else(|| self.older.get(&session)).copied()
    }

    fn remember(&mut self, turn: Turn, fence: Fence) {
        if self.recent.len() >= limits::GROUP_TURNS {
            self.age();
        }
        self.recent.insert(turn.session, Last { ticket: turn.ticket, fence });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(ticket: u64, after: Option<u64>) -> Turn {
        Turn { session: Uuid::from_u128(1), ticket, after }
    }

    #[test]
    fn nothing_passes_what_is_missing() {
        let mut turns = Turns::default();
        assert_eq!(turns.admit(turn(1, None), Fence(7)), Some(Fence(7)));
        assert_eq!(
            turns.admit(turn(2, Some(1)), Fence(8)),
            Some(Fence(7)),
            "a row stays under the fence it began with"
        );
        assert_eq!(turns.admit(turn(4, Some(3)), Fence(8)), None);
        assert_eq!(turns.admit(turn(5, Some(4)), Fence(8)), None);
        assert_eq!(turns.admit(turn(3, None), Fence(8)), Some(Fence(8)));
        assert_eq!(turns.admit(turn(4, Some(3)), Fence(9)), Some(Fence(8)));
    }

    #[test]
    fn nothing_follows_what_failed_unless_it_was_begun_anew() {
        let mut turns = Turns::default();
        turns.admit(turn(1, None), Fence(7));
        turns.admit(turn(2, Some(1)), Fence(7));
        turns.broken(turn(1, None).session, Fence(7));
        assert_eq!(turns.admit(turn(3, Some(2)), Fence(8)), None);
        turns.admit(turn(1, None), Fence(8));
        turns.broken(turn(1, None).session, Fence(7));
        assert_eq!(turns.admit(turn(2, Some(1)), Fence(9)), Some(Fence(8)));
    }

    #[test]
    fn what_is_forgotten_is_refused_and_memory_is_bounded() {
        let mut turns = Turns::default();
        turns.admit(turn(1, None), Fence(0));
        turns.age();
        assert!(turns.admit(turn(2, Some(1)), Fence(0)).is_some());
        turns.age();
        turns.age();
        assert!(turns.admit(turn(3, Some(2)), Fence(0)).is_none());
        for session in 0..3 * limits::GROUP_TURNS as u128 {
            turns.admit(Turn { session: Uuid::from_u128(session), ticket: 1, after: None }, Fence(0));
        }
        assert!(turns.recent.len() + turns.older.len() <= 2 * limits::GROUP_TURNS);
    }
}
