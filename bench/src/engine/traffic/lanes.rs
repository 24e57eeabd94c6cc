//! One sender's stream into one group: what is on its way, what waits.

use std::collections::VecDeque;

use crate::check::marks::AHEAD;

/// Messages that wait in a lane of an open loop; more are dropped, and counted as errors.
const BACKLOG: usize = 100_000;
/// How far a lane may be ahead of its first message without an answer: as far as members can tell late ones from
/// repeated ones, which is also what a session of ours may have on its way.
const UNANSWERED: u32 = AHEAD;
/// Messages of an open loop's lane that are not acked or not yet everywhere.
const ON_THE_WAY: u32 = 512;

/// Arrivals out of order that are remembered; any more are broken promises, come what may.
const SUSPECTS: usize = 4_096;

/// How a lane goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As soon as one of so many is everywhere.
    Window(u32),
    /// What is due; nothing, if nothing is.
    Open,
}

/// A message on its way. Free while `place` is 0.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Slot {
    place: u32,
    pub(crate) arrived: u32,
    /// When it was meant to be sent.
    pub(crate) due_us: u64,
    seq: u64,
    pub(crate) acked: bool,
}

impl Slot {
    /// Whether this order number is the one that everybody else was told.
    pub(crate) fn agrees(&mut self, seq: Option<u64>) -> bool {
        match seq {
            Some(seq) if self.seq == 0 => self.seq = seq,
            Some(seq) => return self.seq == seq,
            None => {}
        }
        true
    }
}

pub(crate) struct Lane {
    pub(crate) sender: u32,
    pub(crate) group: u32,
    /// Among the lanes of its group.
    pub(crate) position: usize,
    /// Places given out; the last one's place.
    pub(crate) sent: u32,
    pub(crate) unacked: u32,
    /// All places up to here are acked.
    settled: u32,
    on_the_way: u32,
    /// A message was sent again: acks may come twice.
    pub(crate) retried: bool,
    /// Places up to here may have overtaken one that was refused or sent again.
    excused: u32,
    /// Arrivals out of order, by place, that a refusal on its way may yet excuse.
    suspects: Vec<u32>,
    pace: Pace,
    waiting: VecDeque<u64>,
    /// A ring: place p is at p modulo its length, which is a power of two.
    slots: Vec<Slot>,
}

impl Lane {
    pub(crate) fn new(sender: u32, group: u32, position: usize) -> Self {
        let (waiting, slots) = (VecDeque::new(), Vec::new());
        Self {
            sender,
            group,
            position,
            sent: 0,
            unacked: 0,
            settled: 0,
            on_the_way: 0,
            retried: false,
            excused: 0,
            suspects: Vec::new(),
            pace: Pace::Open,
            waiting,
            slots,
        }
    }

    /// One arrived before an earlier one of the sender, or after a later one. Whether that breaks a promise, as far as is
    /// known.
    pub(crate) fn out_of_order(&mut self, place: u32) -> bool {
        let breaks = place > self.excused;
        if breaks && self.suspects.len() < SUSPECTS {
            self.suspects.push(place);
        }
        breaks
    }

    /// A message was refused, or is sent again: what was sent behind it so far may arrive before it. How many arrivals
    /// that excuses.
    pub(crate) fn excuse(&mut self, place: u32) -> u64 {
        self.excused = self.sent;
        let before = self.suspects.len();
        self.suspects.retain(|suspect| *suspect < place);
        (before - self.suspects.len()) as u64
    }

    pub(crate) fn open(&mut self, pace: Pace) {
        self.pace = pace;
        let slots = match pace {
            // A place may be everywhere long before the one in front of it.
            Pace::Window(window) => (window * 4).next_power_of_two(),
            Pace::Open => ON_THE_WAY.next_power_of_two(),
        };
        self.grow(slots as usize);
    }

    /// Lets out what waits, and nothing more.
    pub(crate) fn close(&mut self) {
        self.pace = Pace::Open;
    }

    /// More slots than before; what is on its way keeps its place.
    fn grow(&mut self, slots: usize) {
        if slots <= self.slots.len() {
            return;
        }
        let mut grown = vec![Slot::default(); slots];
        for slot in self.slots.iter().filter(|slot| slot.place > 0) {
            grown[slot.place as usize & (slots - 1)] = *slot;
        }
        self.slots = grown;
    }

    pub(crate) fn slot(&mut self, place: u32) -> Option<&mut Slot> {
        let mask = self.slots.len().wrapping_sub(1);
        self.slots.get_mut(place as usize & mask).filter(|slot| slot.place == place && place > 0)
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(|slot| slot.place > 0)
    }

    pub(crate) fn unacked_places(&self) -> impl Iterator<Item = u32> {
        let mut places: Vec<u32> = self.slots().filter(|slot| !slot.acked).map(|slot| slot.place).collect();
        places.sort_unstable();
        places.into_iter()
    }

    /// A message is due. False if too many wait.
    pub(crate) fn queue(&mut self, due_us: u64) -> bool {
        let room = self.waiting.len() < BACKLOG;
        if room {
            self.waiting.push_back(due_us);
        }
        room
    }

    pub(crate) fn backlog(&self) -> usize {
        self.waiting.len()
    }

    /// Takes the next place, if the lane may send now.
    pub(crate) fn next(&mut self, now_us: u64) -> Option<u32> {
        let place = self.sent + 1;
        let taken = self.slots.get(place as usize & self.slots.len().wrapping_sub(1)).is_none_or(|slot| slot.place > 0);
        if taken || place - self.settled > UNANSWERED {
            return None;
        }
        let due_us = match self.pace {
            Pace::Window(window) => (self.on_the_way < window).then_some(now_us)?,
            Pace::Open => self.waiting.pop_front()?,
        };
        self.sent = place;
        self.unacked += 1;
        self.on_the_way += 1;
        let at = place as usize & (self.slots.len() - 1);
        self.slots[at] = Slot { place, arrived: 0, due_us, seq: 0, acked: false };
        Some(place)
    }

    /// A message without an ack so far has one.
    pub(crate) fn acked(&mut self) {
        self.unacked -= 1;
        while self.settled < self.sent && self.slot(self.settled + 1).is_none_or(|slot| slot.acked) {
            self.settled += 1;
        }
    }

    pub(crate) fn free(&mut self, place: u32) {
        if let Some(slot) = self.slot(place) {
            *slot = Slot::default();
            self.on_the_way -= 1;
        }
    }
}
