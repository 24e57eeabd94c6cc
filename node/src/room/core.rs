//! From bytes that are free to what the node may still do.

use cluster::Room;

/// More than the mark by this part of it, before what was given up is taken back: a node at the edge must not come and go.
const BACK_ABOVE: u64 = 4;
/// So many looks in a row.
const BACK_AFTER: u32 = 4;
/// Below this part of `stop_below` nothing of others is taken either.
const FULL_PART: u64 = 2;

/// Bytes free below which something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    pub warn_below: u64,
    pub stop_below: u64,
}

impl Marks {
    fn room(self, free: u64) -> Room {
        match free {
            full if full < self.stop_below / FULL_PART => Room::Full,
            tight if tight < self.stop_below => Room::Tight,
            low if low < self.warn_below => Room::Low,
            _ => Room::Ample,
        }
    }
}

/// The room as of the last look.
#[derive(Debug)]
pub(super) struct Core {
    marks: Marks,
    room: Room,
    /// Looks in a row at which there was clearly more.
    better: u32,
}

impl Core {
    pub(super) fn new(marks: Marks, free: u64) -> Self {
        Self { marks, room: marks.room(free), better: 0 }
    }

    pub(super) fn room(&self) -> Room {
        self.room
    }

    /// The new room, if this look changes it: at once for the worse, in time for the better.
    pub(super) fn look(&mut self, free: u64) -> Option<Room> {
        // As if there were less: what is left of it has to be enough for the better room.
        let surely = self.marks.room(free - free.div_ceil(BACK_ABOVE + 1));
        let seen = self.marks.room(free);
        if seen > self.room {
            self.better = 0;
            self.room = seen;
            return Some(seen);
        }
        self.better = if surely < self.room { self.better + 1 } else { 0 };
        if self.better < BACK_AFTER {
            return None;
        }
        self.better = 0;
        self.room = surely;
        Some(surely)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: Marks = Marks { warn_below: 1_000, stop_below: 400 };

    #[test]
    fn less_room_is_noticed_at_once() {
        let mut core = Core::new(MARKS, 5_000);
        assert_eq!(core.look(1_000), None);
        assert_eq!(core.look(999), Some(Room::Low));
        assert_eq!(core.look(300), Some(Room::Tight));
        assert_eq!(core.look(400), None, "it is not given back at the edge");
        assert_eq!(core.look(199), Some(Room::Full));
        assert_eq!(core.look(0), None);
        assert_eq!(Core::new(MARKS, 399).room(), Room::Tight, "also from the first look on");
    }

    #[test]
    fn more_room_counts_once_it_is_clear_and_lasts() {
        let mut core = Core::new(MARKS, 0);
        let looks = |core: &mut Core, free: u64, count: u32| (0..count).filter_map(|_| core.look(free)).next_back();
        assert_eq!(looks(&mut core, 249, 10), None, "a quarter above the mark");
        assert_eq!(looks(&mut core, 260, BACK_AFTER - 1), None);
        assert_eq!(core.look(210), None, "and it begins anew");
        assert_eq!(looks(&mut core, 260, BACK_AFTER - 1), None);
        assert_eq!(core.look(260), Some(Room::Tight));
        assert_eq!(looks(&mut core, 10_000, BACK_AFTER), Some(Room::Ample));
        assert_eq!(looks(&mut core, 10_000, 10), None);
    }
}
