//! Which messages of one sender a member has, though some may come late: everything up to a place, and a few beyond.

/// Places a message may be ahead of the first missing one and still be told apart.
pub const AHEAD: u32 = 64;

/// How a message arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The next of its sender.
    Next,
    /// Before an earlier one of its sender, or after a later one.
    OutOfOrder,
    Again,
    /// So far ahead that what is missing before it cannot be remembered.
    TooFar,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// All places up to here have arrived.
    upto: u32,
    /// Bit n: the place `upto + 2 + n` has arrived; the one after `upto` has not.
    beyond: u64,
}

impl Marks {
    pub fn arrive(&mut self, place: u32) -> Arrival {
        let Some(distance) = place.checked_sub(self.upto + 1) else { return Arrival::Again };
        if distance == 0 {
            let in_order = self.beyond == 0;
            self.upto += 1;
            while self.beyond & 1 == 1 {
                self.upto += 1;
                self.beyond >>= 1;
            }
            self.beyond >>= 1;
            return if in_order { Arrival::Next } else { Arrival::OutOfOrder };
        }
        if distance > AHEAD {
            return Arrival::TooFar;
        }
        let bit = 1 << (distance - 1);
        if self.beyond & bit != 0 {
            return Arrival::Again;
        }
        self.beyond |= bit;
        Arrival::OutOfOrder
    }

    /// Places up to `sent` that have not arrived.
    pub fn missing(&self, sent: u32) -> u32 {
        sent.saturating_sub(self.upto).saturating_sub(self.beyond.count_ones())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(places: &[u32]) -> (Vec<Arrival>, Marks) {
        let mut marks = Marks::default();
        let seen = places.iter().map(|place| marks.arrive(*place)).collect();
        (seen, marks)
    }

    #[test]
    fn in_order_each_is_the_next() {
        let (seen, marks) = arrivals(&[1, 2, 3]);
        assert_eq!(seen, [Arrival::Next; 3]);
        assert_eq!((marks.missing(3), marks.missing(5)), (0, 2));
    }

    #[test]
    fn late_ones_are_told_from_repeated_ones() {
        let (seen, marks) = arrivals(&[1, 3, 5, 2, 3, 4, 5, 1, 6]);
        use Arrival::{Again, Next, OutOfOrder};
        assert_eq!(seen, [Next, OutOfOrder, OutOfOrder, OutOfOrder, Again, OutOfOrder, Again, Again, Next]);
        assert_eq!(marks, Marks { upto: 6, beyond: 0 });
    }

    #[test]
    fn too_far_ahead_is_not_forgotten_silently() {
        let (seen, marks) = arrivals(&[AHEAD + 1, AHEAD + 2]);
        assert_eq!(seen, [Arrival::OutOfOrder, Arrival::TooFar]);
        assert_eq!(marks.missing(AHEAD + 2), AHEAD + 1);
    }

    #[test]
    fn every_order_of_arrival_ends_with_nothing_missing() {
        for orders in [[1, 2, 3, 4], [4, 3, 2, 1], [2, 4, 1, 3], [3, 1, 4, 2], [2, 1, 4, 3]] {
            let (_, marks) = arrivals(&orders);
            assert_eq!(marks, Marks { upto: 4, beyond: 0 }, "{orders:?}");
        }
    }
}
