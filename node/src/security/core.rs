//! When records become durable, and what is remembered of them. Pure: time comes in, effects come out.

use std::collections::VecDeque;

use chat::limits;

use super::message::SecurityState;
use super::record::Entry;

/// What the shell does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// A timer runs already.
    Nothing,
    /// Set the one timer: the log was clean until now.
    ArmTimer,
    /// Make everything durable before anything else.
    SyncNow,
}

#[derive(Debug, Default)]
pub(super) struct Core {
    /// When the oldest record or flush that waits came in, monotonic milliseconds. None: all is durable.
    dirty_since_ms: Option<u64>,
    timer_armed: bool,
    waiting: usize,
    records: u64,
    syncs: u64,
    missed: u64,
    failed: Option<String>,
    /// The newest entries, oldest first.
    tail: VecDeque<Entry>,
}

impl Core {
    /// An entry was read or appended.
    pub(super) fn remember(&mut self, entry: Entry) {
        if self.tail.len() == limits::SECURITY_TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(entry);
    }

    pub(super) fn appended(&mut self, entry: Entry) {
        self.remember(entry);
        self.records += 1;
    }

    /// Something waits for the disk: an appended record, or somebody who wants to know that all is durable.
    ///
    /// The mailbox is emptied before timers are looked at, so under load the timer alone would be late:
    /// age and number are checked with every message.
    pub(super) fn wait(&mut self, now_ms: u64) -> Effect {
        let since_ms = *self.dirty_since_ms.get_or_insert(now_ms);
        self.waiting += 1;
        if self.waiting >= limits::SECURITY_BATCH || now_ms.saturating_sub(since_ms) >= limits::SECURITY_SYNC_MS {
            return Effect::SyncNow;
        }
        if std::mem::replace(&mut self.timer_armed, true) { Effect::Nothing } else { Effect::ArmTimer }
    }

    /// Whether the timer finds anything to do.
    pub(super) fn timer_fired(&mut self) -> bool {
        self.timer_armed = false;
        self.dirty_since_ms.is_some()
    }

    pub(super) fn synced(&mut self) {
        self.dirty_since_ms = None;
        self.waiting = 0;
        self.syncs += 1;
    }

    /// Final: what a failed write or sync left on disk is unknown, and is never written over.
    pub(super) fn fail(&mut self, why: String) {
        self.failed.get_or_insert(why);
        self.dirty_since_ms = None;
        self.waiting = 0;
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    pub(super) fn missed(&mut self, count: u64) {
        self.missed += count;
    }

    pub(super) fn tail(&self, limit: usize) -> Vec<Entry> {
        let skip = self.tail.len().saturating_sub(limit);
        self.tail.iter().skip(skip).cloned().collect()
    }

    pub(super) fn observable_state(&self) -> SecurityState {
        SecurityState {
            last_sequence: self.tail.back().map(|entry| entry.sequence),
            waiting: self.waiting,
            records: self.records,
            syncs: self.syncs,
            missed: self.missed,
            failed: self.failed.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Event, Record};
    use super::*;

    fn entry(sequence: u64) -> Entry {
        let event = Event::Gap { first_ms: 0, last_ms: 0, count: sequence };
        Entry { sequence, record: Record { time_ms: 0, node: 1, event } }
    }

    #[test]
    fn one_timer_while_dirty_and_none_while_idle() {
        let mut core = Core::default();
        assert_eq!(core.wait(1_000), Effect::ArmTimer);
        assert_eq!(core.wait(1_001), Effect::Nothing);
        assert!(core.timer_fired());
        core.synced();
        // Idle: nothing is armed until the next record.
        assert!(!core.timer_armed);
        assert_eq!(core.wait(2_000), Effect::ArmTimer);
        // A timer that finds everything durable already does nothing.
        core.synced();
        assert!(!core.timer_fired());
    }

    #[test]
    fn a_busy_mailbox_does_not_put_the_disk_off() {
        let mut core = Core::default();
        core.wait(1_000);
        assert_eq!(core.wait(1_000 + limits::SECURITY_SYNC_MS), Effect::SyncNow);
        core.synced();
        for _ in 1..limits::SECURITY_BATCH {
            assert_ne!(core.wait(2_000), Effect::SyncNow);
        }
        assert_eq!(core.wait(2_000), Effect::SyncNow);
    }

    #[test]
    fn the_tail_is_bounded_and_in_order() {
        let mut core = Core::default();
        for sequence in 0..limits::SECURITY_TAIL as u64 + 5 {
            core.appended(entry(sequence));
        }
        let last: Vec<_> = core.tail(2).into_iter().map(|entry| entry.sequence).collect();
        assert_eq!(last, [limits::SECURITY_TAIL as u64 + 3, limits::SECURITY_TAIL as u64 + 4]);
        assert_eq!(core.tail(usize::MAX).len(), limits::SECURITY_TAIL);
    }

    #[test]
    fn the_first_failure_stays() {
        let mut core = Core::default();
        core.wait(1);
        core.fail("no space".to_owned());
        core.fail("later".to_owned());
        assert_eq!(core.observable_state().failed.as_deref(), Some("no space"));
        assert!(core.has_failed());
    }
}
