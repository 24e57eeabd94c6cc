//! What a client of NATS remembers of a connection, and what it makes of losses and repetitions. Pure.
//!
//! A publish is never answered if the stream's leader dies before it stored it. What was stored and not republished yet
//! is not republished by the next leader; what was republished may be republished again. NATS' own clients live with
//! it by timeouts and by sequences. Here, answers of a stream come in the order of the publishes, so that an answer
//! tells that earlier publishes have none; and a message names the sequence before it, so that a gap shows.

use std::collections::VecDeque;

use crate::protocol::Number;

/// A question for what is missing is put again after so many messages that showed that there is a leader.
const ASK_AGAIN_AFTER: u32 = 16;

#[derive(Debug)]
pub struct NatsSession {
    pub(super) user: u32,
    pub(super) greeted: bool,
    pub(super) seats: Vec<Seat>,
    pub(super) publishes: Publishes,
    /// Pings on their way, in order: `None` for the one that ends the login.
    pub(super) pings: VecDeque<Option<u32>>,
    /// The beginning of an operation whose end is in the next frame.
    pub(super) partial: Vec<u8>,
}

impl NatsSession {
    pub(super) fn new(user: u32) -> Self {
        Self {
            user,
            greeted: false,
            seats: Vec::new(),
            publishes: Publishes::default(),
            pings: VecDeque::new(),
            partial: Vec::new(),
        }
    }
}

/// Publishes without an answer, with their streams, in order.
#[derive(Debug, Default)]
pub(super) struct Publishes(VecDeque<(Number, u32)>);

impl Publishes {
    pub(super) fn sent(&mut self, number: Number, stream: u32) {
        self.0.push_back((number, stream));
    }

    /// Whether an answer was waited for; those that were sent to the same stream before are lost.
    pub(super) fn answered(&mut self, number: Number, mut lost: impl FnMut(Number)) -> bool {
        let Some(at) = self.0.iter().position(|(sent, _)| *sent == number) else { return false };
        let (_, stream) = self.0[at];
        let mut place = 0;
        self.0.retain(|(sent, of)| {
            let gone = *of == stream && place <= at;
            if gone && place < at {
                lost(*sent);
            }
            place += 1;
            !gone
        });
        true
    }
}

/// A group whose messages come over this connection.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) group: u32,
    /// The last sequence that was seen; up to here, everything is a repetition.
    pub(super) last: u64,
    missing: Option<Missing>,
}

/// While something is missing, what is republished is dropped: it will be asked for in its turn.
#[derive(Debug, Default)]
struct Missing {
    newest: u64,
    dropped: u32,
}

/// What is to be done with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Take,
    Drop,
    /// Dropped, and what is missing is to be asked for.
    Ask,
}

impl Seat {
    pub(super) fn new(group: u32) -> Self {
        Self { group, last: 0, missing: None }
    }

    /// Of a connection made again: whatever came meanwhile is missing.
    pub(super) fn after_a_loss(group: u32, last: u64) -> Self {
        Self { group, last, missing: Some(Missing::default()) }
    }

    /// A message was republished, and the group's one before it has the sequence `before`.
    pub(super) fn look(&mut self, seq: u64, before: u64) -> Look {
        if seq <= self.last {
            return Look::Drop;
        }
        if let Some(missing) = &mut self.missing {
            missing.newest = missing.newest.max(seq);
            missing.dropped += 1;
            return if missing.dropped.is_multiple_of(ASK_AGAIN_AFTER) { Look::Ask } else { Look::Drop };
        }
        if before > self.last {
            self.missing = Some(Missing { newest: seq, dropped: 1 });
            return Look::Ask;
        }
        self.last = seq;
        Look::Take
    }

    /// The answer to a question: a message's sequence, or none if there are no more. Says whether to ask again.
    pub(super) fn found(&mut self, seq: Option<u64>) -> bool {
        match seq {
            Some(seq) => {
                self.last = self.last.max(seq);
                self.missing.is_some()
            }
            None => {
                let last = self.last;
                let more = self.missing.as_ref().is_some_and(|missing| missing.newest > last);
                if !more {
                    self.missing = None;
                }
                more
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(place: u32) -> Number {
        Number { lane: 1, place }
    }

    #[test]
    fn an_answer_tells_which_publishes_have_none() {
        let mut publishes = Publishes::default();
        for (place, stream) in [(1, 0), (2, 9), (3, 0), (4, 0)] {
            publishes.sent(number(place), stream);
        }
        let mut lost = Vec::new();
        assert!(publishes.answered(number(3), |number| lost.push(number.place)));
        assert_eq!(lost, [1], "another stream's answers have their own order");
        assert!(!publishes.answered(number(3), |_| unreachable!()), "answered again");
        assert!(publishes.answered(number(2), |_| unreachable!()));
        assert!(publishes.answered(number(4), |_| unreachable!()));
    }

    #[test]
    fn repetitions_are_dropped_and_gaps_are_asked_for() {
        let mut seat = Seat::new(7);
        assert_eq!(seat.look(5, 0), Look::Take);
        assert_eq!((seat.look(5, 0), seat.look(9, 5)), (Look::Drop, Look::Take));
        // 12 never came.
        assert_eq!((seat.look(15, 12), seat.look(17, 15)), (Look::Ask, Look::Drop));
        assert!(seat.found(Some(12)) && seat.found(Some(15)) && seat.found(Some(17)));
        assert!(!seat.found(None), "nothing newer was seen");
        assert_eq!(seat.look(18, 17), Look::Take);
    }

    #[test]
    fn what_came_while_asking_is_asked_for() {
        let mut seat = Seat::after_a_loss(7, 3);
        assert_eq!(seat.look(8, 6), Look::Drop);
        assert!(seat.found(None), "8 was seen, so there is more");
        assert!(seat.found(Some(6)) && seat.found(Some(8)));
        assert!(!seat.found(None));
        assert_eq!(seat.look(9, 8), Look::Take);
    }

    #[test]
    fn a_lost_question_is_put_again() {
        let mut seat = Seat::after_a_loss(7, 0);
        let looks: Vec<_> = (1..=u64::from(ASK_AGAIN_AFTER)).map(|seq| seat.look(seq, seq - 1)).collect();
        assert_eq!(looks.iter().filter(|look| **look == Look::Ask).count(), 1);
        assert_eq!(looks.last(), Some(&Look::Ask));
    }
}
