//! What users keep, how they stand to each other, and messages that are for some or for a while.

use serde::{Deserialize, Serialize};

use crate::command::Original;
use crate::ids::UserId;
use crate::user::{ItemKey, ItemValue};

/// A message that ends by itself; when, where and which it is, is in the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiring {
    pub original: Original,
}

/// Messages that end when the other side has read them. At most [`crate::limits::BURNING`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Burning {
    pub originals: Vec<Original>,
}

/// What a member does not want to see: first and last seq of each range, in order. At most [`crate::limits::DELETED_RANGES`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    pub ranges: Vec<(u64, u64)>,
}

impl Deleted {
    pub fn has(&self, seq: u64) -> bool {
        let next = self.ranges.partition_point(|(_, last)| *last < seq);
        self.ranges.get(next).is_some_and(|(first, _)| *first <= seq)
    }

    /// False if it has all of them already.
    pub(crate) fn add(&mut self, first: u64, last: u64) -> bool {
        if self.ranges.iter().any(|(from, to)| *from <= first && last <= *to) {
            return false;
        }
        let touches = |(from, to): &(u64, u64)| *from <= last.saturating_add(1) && first <= to.saturating_add(1);
        let (mut first, mut last) = (first, last);
        for (from, to) in self.ranges.iter().filter(|range| touches(range)) {
            (first, last) = (first.min(*from), last.max(*to));
        }
        self.ranges.retain(|range| !touches(range));
        let place = self.ranges.partition_point(|(from, _)| *from < first);
        self.ranges.insert(place, (first, last));
        true
    }
}

/// The counters of what a user keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemsHead {
    /// Of the last change.
    pub version: u64,
    /// Items, those included that were removed and are not forgotten.
    pub items: u64,
    /// What was removed up to this version may be forgotten.
    pub forgotten: u64,
}

/// Something that a user keeps; which it is, is in the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredItem {
    pub version: u64,
    /// Of the news that it is from.
    pub stamp: u64,
    /// None: it was removed.
    pub value: Option<ItemValue>,
}

/// The item that a version is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemPlace {
    pub key: ItemKey,
}

/// How two users stand to each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// Grows with every change.
    pub stamp: u64,
    /// Who wants to be a contact of the other, since when, and with what words.
    pub asked_by: Option<UserId>,
    pub asked_ms: u64,
    pub text: String,
    /// Since when they are contacts.
    pub since_ms: Option<u64>,
    /// Who does not take anything from the other, since when.
    pub blocked_by: Vec<(UserId, u64)>,
}

/// Messages that name a member, or everybody: at most [`crate::limits::MENTIONS_KEPT`], oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mentioned {
    pub seqs: Vec<u64>,
}
