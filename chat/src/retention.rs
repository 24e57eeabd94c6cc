//! How long messages are kept: a policy for each app, another one for a conversation that needs it.

use serde::{Deserialize, Serialize};

use crate::limits;

/// What may be deleted: events that are older than `max_age_ms`, and those that are not among the newest `max_count`.
/// Neither is set: everything is kept for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// By the time the events carry, in milliseconds.
    pub max_age_ms: Option<u64>,
    pub max_count: Option<u64>,
}

impl Retention {
    pub const FOR_EVER: Self = Self { max_age_ms: None, max_count: None };

    pub fn keeps_for_ever(&self) -> bool {
        *self == Self::FOR_EVER
    }

    /// Whether the values are ones that an operator may ask for.
    pub fn is_valid(&self) -> bool {
        self.max_age_ms.is_none_or(|age| age >= limits::RETENTION_AGE_MS_MIN)
            && self.max_count.is_none_or(|count| count >= limits::RETENTION_COUNT_MIN)
    }

    /// The first seq that may stay because of the number of events after it.
    pub fn oldest_by_count(&self, head: u64) -> u64 {
        self.max_count.map_or(1, |count| head.saturating_sub(count) + 1)
    }

    /// Events from this time on may stay, in Unix milliseconds.
    pub fn oldest_time_ms(&self, now_ms: u64) -> Option<u64> {
        self.max_age_ms.map(|age| now_ms.saturating_sub(age))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_keeps_the_newest() {
        let newest =
            |max_count, head| Retention { max_count: Some(max_count), ..Retention::FOR_EVER }.oldest_by_count(head);
        assert_eq!((newest(3, 10), newest(10, 10), newest(11, 10), newest(1, 0)), (8, 1, 1, 1));
        assert_eq!(Retention::FOR_EVER.oldest_by_count(10), 1);
    }

    #[test]
    fn an_age_is_counted_from_now() {
        let age = |max_age_ms| Retention { max_age_ms: Some(max_age_ms), ..Retention::FOR_EVER };
        assert_eq!(age(1_000).oldest_time_ms(5_000), Some(4_000));
        assert_eq!(age(9_000).oldest_time_ms(5_000), Some(0));
        assert_eq!(Retention::FOR_EVER.oldest_time_ms(5_000), None);
        assert!(!age(0).is_valid() && age(limits::RETENTION_AGE_MS_MIN).is_valid() && Retention::FOR_EVER.is_valid());
    }
}
