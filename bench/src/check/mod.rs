//! What one member may see of one group: each message once, in order, nothing else. Pure, constant memory per member.

pub mod marks;
pub mod replicas;

use crate::protocol::Order;

pub use marks::{Arrival, Marks};

/// Broken promises, counted. All zero in a run that passes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Broken {
    /// Acked, and not delivered to a member, or not in a history.
    pub lost: u64,
    /// Delivered to a member again.
    pub duplicated: u64,
    /// Delivered to a member before what its order puts before it.
    pub reordered: u64,
    /// Delivered and never sent, or not as it was sent, or to somebody who is no member.
    pub phantom: u64,
    /// Order numbers that a member never saw.
    pub gaps: u64,
    /// Messages whose order number differs between two members, or from their ack.
    pub disagreed: u64,
    /// Answers that make no sense, replicas that differ, and the like: each has a line of its own.
    pub other: u64,
}

impl Broken {
    pub fn total(&self) -> u64 {
        let Self { lost, duplicated, reordered, phantom, gaps, disagreed, other } = self;
        lost + duplicated + reordered + phantom + gaps + disagreed + other
    }

    pub fn add(&mut self, more: &Self) {
        self.lost += more.lost;
        self.duplicated += more.duplicated;
        self.reordered += more.reordered;
        self.phantom += more.phantom;
        self.gaps += more.gaps;
        self.disagreed += more.disagreed;
        self.other += more.other;
    }
}

/// Where a member is in the order of a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// The last order number seen; none before deliveries began.
    last: Option<u64>,
}

impl Position {
    pub fn last(self) -> Option<u64> {
        self.last
    }

    /// Deliveries begin, or go on after a lost connection.
    pub fn joined(&mut self, after: Option<u64>, broken: &mut Broken) {
        match (self.last, after) {
            (Some(last), Some(after)) if after > last => {
                broken.gaps += after - last;
                self.last = Some(after);
            }
            (Some(_), _) => {}
            (None, after) => self.last = after.or(Some(0)),
        }
    }

    /// An event with an order number. Says whether it is to be looked at further.
    pub fn pass(&mut self, order: Order, seq: Option<u64>, broken: &mut Broken) -> bool {
        let (Some(seq), false) = (seq, order == Order::Unnumbered) else { return true };
        // Deliveries may begin with a group's first event, before anything says so.
        let last = self.last.unwrap_or(seq.saturating_sub(1));
        if seq <= last {
            broken.duplicated += 1;
            return false;
        }
        if order == Order::Dense {
            broken.gaps += seq - last - 1;
        }
        self.last = Some(seq);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(order: Order, seqs: &[u64]) -> Broken {
        let mut broken = Broken::default();
        let mut position = Position::default();
        position.joined(Some(10), &mut broken);
        for seq in seqs {
            position.pass(order, Some(*seq), &mut broken);
        }
        broken
    }

    #[test]
    fn a_dense_order_has_no_gaps_and_no_repetitions() {
        assert_eq!(walk(Order::Dense, &[11, 12, 13]), Broken::default());
        assert_eq!(walk(Order::Dense, &[11, 14]), Broken { gaps: 2, ..Broken::default() });
        assert_eq!(walk(Order::Dense, &[11, 11, 10]), Broken { duplicated: 2, ..Broken::default() });
        assert_eq!(walk(Order::Dense, &[12, 11]), Broken { gaps: 1, duplicated: 1, ..Broken::default() });
        assert_eq!(walk(Order::Increasing, &[12, 20]), Broken::default());
        assert_eq!(walk(Order::Increasing, &[12, 12]), Broken { duplicated: 1, ..Broken::default() });
    }

    #[test]
    fn going_on_after_a_lost_connection_leaves_no_gap() {
        let mut broken = Broken::default();
        let mut position = Position::default();
        position.joined(Some(3), &mut broken);
        position.joined(Some(3), &mut broken);
        assert_eq!((position.last(), broken.total()), (Some(3), 0));
        position.joined(Some(5), &mut broken);
        assert_eq!((position.last(), broken.gaps), (Some(5), 2));
    }
}
