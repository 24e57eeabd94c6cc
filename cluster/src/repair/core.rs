//! What is decided about damage: which of it is looked after next, and which record or state of the peers may take its
//! place.

use std::collections::BTreeSet;

use chat::limits::REPAIR_DAMAGES;
use storage::{Damage, LogPosition, LogRecord};

/// The damage of one replica and what became of it.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// Not yet repaired, in the order in which it is looked after: what a later kind needs comes first.
    pending: BTreeSet<Damage>,
    pub(super) found: u64,
    pub(super) repaired: u64,
    /// Nobody needed them.
    pub(super) dropped: u64,
    /// What was found last, and where.
    pub(super) last: Option<String>,
    /// Why the last attempt came to nothing, until one succeeds.
    pub(super) stuck: Option<String>,
}

impl Book {
    /// Whether it is news. What does not fit is found again by whoever reads it next.
    pub(super) fn report(&mut self, damage: Damage, what: String) -> bool {
        if self.pending.len() >= REPAIR_DAMAGES || !self.pending.insert(damage) {
            return false;
        }
        self.found += 1;
        self.last = Some(what);
        true
    }

    pub(super) fn next(&self) -> Option<Damage> {
        self.pending.first().copied()
    }

    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Whether it was pending.
    pub(super) fn repaired(&mut self, damage: Damage) -> bool {
        let was_pending = self.pending.remove(&damage);
        if was_pending {
            self.repaired += 1;
            self.stuck = None;
        }
        was_pending
    }

    /// Log records up to `through` that wait.
    pub(super) fn records(&self, through: u64) -> BTreeSet<u64> {
        let index = |damage: &Damage| if let Damage::Log { index } = damage { Some(*index) } else { None };
        self.pending.iter().filter_map(index).filter(|index| *index <= through).collect()
    }

    /// Nobody needs it any more. Whether it was pending.
    pub(super) fn dropped(&mut self, damage: Damage) -> bool {
        let was_pending = self.pending.remove(&damage);
        if was_pending {
            self.dropped += 1;
            self.stuck = None;
        }
        was_pending
    }

    /// Whether the reason is another one than before.
    pub(super) fn failed(&mut self, why: &str) -> bool {
        let is_news = self.stuck.as_deref() != Some(why);
        self.stuck = Some(why.to_owned());
        is_news
    }
}

/// What a node knows of a log record of its own that does not open.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) index: u64,
    /// The positions of its neighbours, as far as they are known.
    pub(super) before: Option<LogPosition>,
    pub(super) after: Option<LogPosition>,
    /// Its own, if something else that is stored says so.
    pub(super) exact: Option<LogPosition>,
}

/// What another member has at that index.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) record: Option<LogRecord>,
    /// The position of the record before it.
    pub(super) before: Option<LogPosition>,
    /// As far as that member knows entries to be committed.
    pub(super) committed: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This is the record.
    Take(LogRecord),
    /// More members have to answer.
    Wait,
    /// It cannot be decided.
    Refuse(String),
}

/// Which record stood at `known.index`, by what the members that answered have there.
///
/// A committed entry is the same on all who have it, so one of them is enough. Below that the rule is that of an election:
/// if ours was ever counted towards a majority, then among so many answers that every majority with us has one of them there
/// is one with that record, and none with a later term. If it was not, then any record that follows on the one before may
/// stand there, as it would after the leader had sent it.
pub(super) fn decide(known: &Known, answers: &[Held], members: usize) -> Verdict {
    let committed = answers.iter().filter(|held| held.committed >= known.index && held.record.is_some());
    let committed: Vec<&Held> = committed.collect();
    if let Some(first) = committed.first() {
        if committed.iter().any(|held| position(held) != position(first)) {
            return Verdict::Refuse(format!("members have different committed entries at {}", known.index));
        }
        return check(known, first);
    }
    if let Some(exact) = known.exact {
        let same = answers.iter().find(|held| position(held) == Some(exact));
        return same.map_or(Verdict::Wait, |held| check(known, held));
    }
    let majority = members / 2 + 1;
    if answers.len() < members + 1 - majority || members < 2 {
        return Verdict::Wait;
    }
    let newest = answers.iter().filter(|held| held.record.is_some()).max_by_key(|held| position(held));
    match newest {
        Some(held) => check(known, held),
        None => Verdict::Refuse(format!("no other member has a record at {}", known.index)),
    }
}

fn position(held: &Held) -> Option<LogPosition> {
    held.record.as_ref().map(|record| record.position)
}

/// Whether the record fits in where ours was.
fn check(known: &Known, held: &Held) -> Verdict {
    let Some(record) = &held.record else { return Verdict::Wait };
    let found = record.position;
    let refuse = |what: &str| Verdict::Refuse(format!("the record of term {} at {} {what}", found.term, found.index));
    if found.index != known.index {
        return refuse("has another index than the damaged one");
    }
    if known.exact.is_some_and(|exact| exact != found) {
        return refuse("is not the one that was applied");
    }
    if known.before.zip(held.before).is_some_and(|(ours, theirs)| ours != theirs) {
        return refuse("follows another record than ours");
    }
    if known.before.is_some_and(|before| before.term > found.term) {
        return refuse("is older than the one before it");
    }
    if known.after.is_some_and(|after| after.term < found.term) {
        return refuse("is newer than the one after it");
    }
    Verdict::Take(record.clone())
}

/// Whether a state may take the place of ours, by the digests that the other replicas made after the same entry: more
/// than half of all members have it, or nobody who answered has another.
pub(super) fn is_trusted(offered: [u8; 32], others: &[[u8; 32]], members: usize) -> bool {
    let same = others.iter().filter(|digest| **digest == offered).count();
    same * 2 > members || (same > 0 && same == others.len())
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
