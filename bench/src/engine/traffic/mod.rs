//! Who may send what and when, what became of it, and whether everybody got it: the state of a worker's groups,
//! without sockets or clocks.
//!
//! A lane is one sender's stream into one group. A message's slot is freed when its sender has the ack **and** every
//! member has the message; a closed loop then sends the lane's next one.

mod lanes;

use std::collections::BTreeMap;

use super::interval::Counters;
use super::record::Record;
use crate::check::{Arrival, Broken, Marks, Position};
use crate::protocol::{Event, NUMBER_DIGITS, Number, Order};
use crate::workload::{GroupShape, Shape};
use lanes::Lane;
pub(crate) use lanes::Pace;

/// Acks that are logged at most.
const ACK_LOG: usize = 20_000_000;
/// Broken promises told in words; more are only counted.
const TOLD: usize = 20;

/// One member in one group.
struct Seat {
    group: u32,
    joined: bool,
    position: Position,
    /// Where the seat's marks begin, one per lane of the group.
    marks: usize,
}

struct Group {
    members: u32,
    private: bool,
    lanes: Vec<u32>,
    seats: Vec<u32>,
}

/// What the worker has to do after events were taken.
#[derive(Default)]
pub(crate) struct Effects {
    /// Lanes that may send.
    pub(crate) lanes: Vec<u32>,
    /// Messages to send again, and when.
    pub(crate) retries: Vec<(u64, Number)>,
    /// Users who became ready.
    pub(crate) ready: Vec<u32>,
    /// Users whose connection cannot go on.
    pub(crate) failed: Vec<(u32, String)>,
    /// Requests that are no sends.
    pub(crate) answered: Vec<u32>,
    pub(crate) declined: Vec<u32>,
}

pub(crate) struct Traffic {
    order: Order,
    lanes: Vec<Lane>,
    groups: Vec<Group>,
    seats: Vec<Seat>,
    marks: Vec<Marks>,
    /// Of each user, its seats.
    seats_of: Vec<Vec<u32>>,
    lanes_of: Vec<Vec<u32>>,
    /// What every text is after its number.
    filler: Vec<u8>,
    pub(crate) record: Record,
    pub(crate) counters: Counters,
    pub(crate) broken: Broken,
    pub(crate) told: Vec<String>,
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) effects: Effects,
    pub(crate) joined: u64,
    /// Messages that are acked and everywhere.
    pub(crate) finished: u64,
    /// If asked for, when which group had an ack.
    pub(crate) ack_log: Option<Vec<(u64, u32)>>,
}

impl Traffic {
    /// `mine` says which groups belong to this worker.
    pub(crate) fn new(shape: &Shape, order: Order, payload: usize, mine: impl Fn(u32) -> bool) -> Self {
        let mut traffic = Self {
            order,
            lanes: Vec::new(),
            groups: Vec::new(),
            seats: Vec::new(),
            marks: Vec::new(),
            seats_of: vec![Vec::new(); shape.users as usize],
            lanes_of: vec![Vec::new(); shape.users as usize],
            filler: filler(payload),
            record: Record::default(),
            counters: Counters::default(),
            broken: Broken::default(),
            told: Vec::new(),
            errors: BTreeMap::new(),
            effects: Effects::default(),
            joined: 0,
            finished: 0,
            ack_log: None,
        };
        for (number, group) in shape.groups.iter().enumerate() {
            traffic.add(number as u32, group, mine(number as u32));
        }
        traffic
    }

    fn add(&mut self, number: u32, shape: &GroupShape, mine: bool) {
        let GroupShape { members, senders, private } = shape;
        let mut group =
            Group { members: members.len() as u32, private: *private, lanes: Vec::new(), seats: Vec::new() };
        for (position, sender) in senders.iter().enumerate() {
            let lane = self.lanes.len() as u32;
            group.lanes.push(lane);
            self.lanes.push(Lane::new(*sender, number, position));
            if mine {
                self.lanes_of[*sender as usize].push(lane);
            }
        }
        for member in members.iter().filter(|_| mine) {
            let seat = self.seats.len() as u32;
            group.seats.push(seat);
            self.seats_of[*member as usize].push(seat);
            let marks = self.marks.len();
            self.marks.resize(marks + senders.len(), Marks::default());
            self.seats.push(Seat { group: number, joined: false, position: Position::default(), marks });
        }
        self.groups.push(group);
    }

    /// The lanes whose groups are this worker's.
    pub(crate) fn own_lanes(&self) -> Vec<u32> {
        let own = self.groups.iter().filter(|group| !group.seats.is_empty());
        own.flat_map(|group| group.lanes.iter().copied()).collect()
    }

    pub(crate) fn groups_of(&self, user: u32) -> Vec<u32> {
        self.seats_of[user as usize].iter().map(|seat| self.seats[*seat as usize].group).collect()
    }

    /// A group of the user with the last order number seen there, if the user has one: the one at this place.
    pub(crate) fn seen(&self, user: u32, place: u64) -> Option<(u32, u64)> {
        let seats = self.seats_of.get(user as usize).filter(|seats| !seats.is_empty())?;
        let seat = &self.seats[seats[(place % seats.len() as u64) as usize] as usize];
        Some((seat.group, seat.position.last().filter(|seq| *seq > 0)?))
    }

    /// Positions from which a user's new connection goes on. A private conversation that the user has heard nothing of
    /// may have begun meanwhile, and is asked for from its beginning.
    pub(crate) fn have(&self, user: u32) -> Vec<(u32, u64)> {
        let seats = self.seats_of[user as usize].iter().map(|seat| &self.seats[*seat as usize]);
        let position = |seat: &Seat| {
            let begun = if self.groups[seat.group as usize].private { Some(0) } else { None };
            Some((seat.group, seat.position.last().or(begun)?))
        };
        seats.filter_map(position).collect()
    }

    /// Something a user's connection said.
    pub(crate) fn take(&mut self, user: u32, event: Event<'_>, now_us: u64) {
        match event {
            Event::Delivered { group, seq, number, text } => self.delivered(user, group, seq, number, text, now_us),
            Event::Acked { number, seq, duplicate } => self.acked(number, seq, duplicate, now_us),
            Event::Refused { number, retry_after_ms, unknown, why } => {
                self.refused(number, retry_after_ms, unknown, why, now_us);
            }
            Event::Passed { group, seq } => {
                if let Some(seat) = self.seat(user, group) {
                    self.seats[seat].position.pass(self.order, Some(seq), &mut self.broken);
                }
            }
            Event::Joined { group, after } => self.join(user, group, after),
            Event::Ready => self.effects.ready.push(user),
            Event::Answered { ask } => self.effects.answered.push(ask),
            Event::Declined { ask, why } => {
                self.effects.declined.push(ask);
                self.error(why.to_owned());
            }
            Event::Failed(why) => self.effects.failed.push((user, why)),
            Event::Broken(what) => {
                self.broken.other += 1;
                self.tell(what);
            }
        }
    }

    fn join(&mut self, user: u32, group: u32, after: Option<u64>) {
        let Some(seat) = self.seat(user, group) else { return };
        let seat = &mut self.seats[seat];
        seat.position.joined(after, &mut self.broken);
        self.joined += u64::from(!std::mem::replace(&mut seat.joined, true));
    }

    fn delivered(&mut self, user: u32, group: u32, seq: Option<u64>, number: Number, text: &[u8], now_us: u64) {
        self.counters.delivered += 1;
        let Some(seat) = self.seat(user, group) else {
            return self.phantom(number, "came to somebody who is no member");
        };
        let lane = self.lanes.get_mut(number.lane as usize).filter(|lane| lane.group == group);
        let Some(lane) = lane.filter(|lane| number.place > 0 && number.place <= lane.sent) else {
            return self.phantom(number, "was never sent to this group");
        };
        let seat = &mut self.seats[seat];
        let in_order = seat.position.pass(self.order, seq, &mut self.broken);
        let duplicates = u64::from(!in_order);
        match self.marks[seat.marks + lane.position].arrive(number.place) {
            Arrival::Next => {}
            Arrival::OutOfOrder => self.broken.reordered += u64::from(lane.out_of_order(number.place)),
            // Counted once, whichever check saw it.
            Arrival::Again => return self.broken.duplicated += 1 - duplicates,
            Arrival::TooFar => self.broken.gaps += 1,
        }
        if text.len() != self.filler.len() || text[NUMBER_DIGITS..] != self.filler[NUMBER_DIGITS..] {
            return self.phantom(number, "is not as it was sent");
        }
        let members = self.groups[group as usize].members;
        let Some(slot) = lane.slot(number.place) else { return self.phantom(number, "came too late or too often") };
        if !slot.agrees(seq) {
            self.broken.disagreed += 1;
        }
        slot.arrived += 1;
        self.record.delivery(slot.due_us, now_us);
        if slot.arrived == members {
            self.record.completion(slot.due_us, now_us);
            if slot.acked {
                self.free(number);
            }
        }
    }

    fn acked(&mut self, number: Number, seq: Option<u64>, duplicate: bool, now_us: u64) {
        let lane = self.lanes.get_mut(number.lane as usize);
        let Some((lane, members)) = lane.map(|lane| {
            let members = self.groups[lane.group as usize].members;
            (lane, members)
        }) else {
            return self.phantom(number, "was acked and never sent");
        };
        let Some(slot) = lane.slot(number.place).filter(|slot| !slot.acked) else {
            // After a retry both attempts may be answered.
            if !lane.retried {
                self.phantom(number, "was acked twice");
            }
            return;
        };
        slot.acked = true;
        let agrees = slot.agrees(seq);
        let (due_us, complete) = (slot.due_us, slot.arrived == members);
        let group = lane.group;
        lane.acked();
        if let Some(log) = self.ack_log.as_mut().filter(|log| log.len() < ACK_LOG) {
            log.push((now_us, group));
        }
        self.broken.disagreed += u64::from(!agrees);
        self.counters.acked += 1;
        self.counters.duplicate_acks += u64::from(duplicate);
        self.record.ack(due_us, now_us);
        if complete {
            self.free(number);
        } else {
            self.effects.lanes.push(number.lane);
        }
    }

    fn refused(&mut self, number: Number, retry_after_ms: Option<u64>, unknown: bool, why: &str, now_us: u64) {
        let name = if unknown { format!("{why}, unknown") } else { why.to_owned() };
        self.error(name);
        self.excuse(number);
        match retry_after_ms {
            Some(after_ms) => self.effects.retries.push((now_us + after_ms * 1_000, number)),
            None => self.tell(format!("message {number} was refused for good: {why}")),
        }
    }

    /// The message has arrived everywhere and is acked.
    fn free(&mut self, number: Number) {
        self.finished += 1;
        self.lanes[number.lane as usize].free(number.place);
        self.effects.lanes.push(number.lane);
    }

    fn phantom(&mut self, number: Number, what: &str) {
        self.broken.phantom += 1;
        self.tell(format!("message {number} {what}"));
    }

    pub(crate) fn error(&mut self, what: String) {
        *self.errors.entry(what).or_default() += 1;
        self.counters.errors += 1;
    }

    pub(crate) fn tell(&mut self, what: String) {
        if self.told.len() < TOLD {
            self.told.push(what);
        }
    }

    fn seat(&self, user: u32, group: u32) -> Option<usize> {
        let seats = self.seats_of.get(user as usize)?;
        seats.iter().map(|seat| *seat as usize).find(|seat| self.seats[*seat].group == group)
    }

    // --- sending -------------------------------------------------------------------------------------------------

    pub(crate) fn open_lanes(&mut self, lanes: &[u32], pace: Pace) {
        for lane in lanes {
            self.lanes[*lane as usize].open(pace);
        }
    }

    /// Nothing more but what waits in open loops.
    pub(crate) fn close_windows(&mut self, lanes: &[u32]) {
        for lane in lanes {
            self.lanes[*lane as usize].close();
        }
    }

    /// A message is due in a lane of an open loop.
    pub(crate) fn due(&mut self, lane: u32, due_us: u64) {
        if self.lanes[lane as usize].queue(due_us) {
            self.effects.lanes.push(lane);
        } else {
            self.error("backlog full".to_owned());
        }
    }

    pub(crate) fn backlog(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.backlog() as u64).sum()
    }

    /// The lane's next message, if it may send one: whose it is, which group, which number.
    pub(crate) fn next(&mut self, lane: u32, now_us: u64) -> Option<(u32, u32, Number)> {
        let number = lane;
        let lane = &mut self.lanes[lane as usize];
        let place = lane.next(now_us)?;
        self.counters.sent += 1;
        Some((lane.sender, lane.group, Number { lane: number, place }))
    }

    /// To send again: nothing if it has been answered meanwhile.
    pub(crate) fn again(&mut self, number: Number) -> Option<(u32, u32)> {
        let lane = self.lanes.get_mut(number.lane as usize)?;
        lane.slot(number.place).filter(|slot| !slot.acked)?;
        lane.retried = true;
        let (sender, group) = (lane.sender, lane.group);
        self.excuse(number);
        Some((sender, group))
    }

    fn excuse(&mut self, number: Number) {
        if let Some(lane) = self.lanes.get_mut(number.lane as usize) {
            self.broken.reordered -= lane.excuse(number.place);
        }
    }

    /// A user's messages without an ack, to be sent again over a new connection.
    pub(crate) fn unacked(&mut self, user: u32) -> Vec<Number> {
        let lanes = self.lanes_of[user as usize].clone();
        let unacked = lanes
            .iter()
            .flat_map(|lane| self.lanes[*lane as usize].unacked_places().map(|place| Number { lane: *lane, place }));
        unacked.collect()
    }

    pub(crate) fn text(&self, number: Number, text: &mut Vec<u8>) {
        text.clear();
        text.extend_from_slice(&self.filler);
        if let Some(digits) = text.first_chunk_mut() {
            number.write(digits);
        }
    }

    // --- the end -------------------------------------------------------------------------------------------------

    /// Messages sent and not yet everywhere.
    pub(crate) fn outstanding(&self) -> u64 {
        self.counters.sent - self.finished
    }

    pub(crate) fn sent(&self, lane: u32) -> u32 {
        self.lanes[lane as usize].sent
    }

    /// Counts what never came.
    pub(crate) fn settle(&mut self) {
        let mut lost = 0;
        for group in self.groups.iter().filter(|group| !group.seats.is_empty()) {
            for lane in &group.lanes {
                let lane = &mut self.lanes[*lane as usize];
                for slot in lane.slots().filter(|slot| slot.acked) {
                    lost += u64::from(group.members - slot.arrived);
                }
            }
        }
        self.broken.lost += lost;
        if lost > 0 {
            self.tell(format!("{lost} deliveries of acked messages never came"));
        }
    }
}

/// The rest of a text: varied enough not to be compressed into nothing, plain in every protocol.
fn filler(payload: usize) -> Vec<u8> {
    let text = b"the quick brown fox jumps over the lazy dog. ";
    (0..payload.max(NUMBER_DIGITS)).map(|at| text[at % text.len()]).collect()
}

#[cfg(test)]
mod tests;
