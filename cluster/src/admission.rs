//! Whether a shard takes more of what users write, by how long commands wait for its proposer (the idea of CoDel, RFC 8289):
//! a queue that empties now and then is good, one that stays long only makes everybody wait. While it stays long what is
//! new is refused at once, so that what is taken is done in time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use chat::ids::ShardId;
use chat::limits::{SHED_ABOVE_MS, SHED_AFTER_MS, SHED_AT_ONCE_MS, SHED_RETRY_MAX_MS, SHED_RETRY_MIN_MS};
use tokio::time::Instant;

use crate::cluster::Cluster;

const ABOVE: Duration = Duration::from_millis(SHED_ABOVE_MS);
const AFTER: Duration = Duration::from_millis(SHED_AFTER_MS);
/// A shard that refused something within this begins anew without waiting for [`AFTER`].
const RELAPSE: Duration = Duration::from_millis(4 * SHED_AFTER_MS);
/// Over which the rate is measured at which commands are taken.
const MEASURE: Duration = Duration::from_millis(SHED_AFTER_MS);

/// What follows from the waiting seen so far.
#[derive(Debug)]
pub(crate) struct Core {
    /// Since when every command taken had waited too long.
    above: Option<Instant>,
    /// When it was last too much.
    shed: Option<Instant>,
    measured: Instant,
    taken: u64,
    per_second: u64,
}

impl Core {
    pub(crate) fn new(now: Instant) -> Self {
        Self { above: None, shed: None, measured: now, taken: 0, per_second: 0 }
    }

    /// `taken` commands go into an entry, the first of which `waited`, and `left` wait on. Whether new ones are to be refused.
    pub(crate) fn took(&mut self, now: Instant, waited: Duration, taken: u64, left: u64) -> bool {
        self.measure(now, taken);
        if self.per_second > 0 && left * 1_000 / self.per_second >= SHED_AT_ONCE_MS {
            self.shed = Some(now);
            return true;
        }
        if waited < ABOVE {
            self.above = None;
            return false;
        }
        let since = *self.above.get_or_insert(now);
        let again = self.shed.is_some_and(|shed| now.duration_since(shed) < RELAPSE);
        let shedding = again || now.duration_since(since) >= AFTER;
        if shedding {
            self.shed = Some(now);
        }
        shedding
    }

    /// Nothing waits.
    pub(crate) fn idle(&mut self) {
        self.above = None;
    }

    /// Commands taken in a second, as of late.
    pub(crate) fn per_second(&self) -> u64 {
        self.per_second
    }

    fn measure(&mut self, now: Instant, taken: u64) {
        self.taken += taken;
        let elapsed = now.duration_since(self.measured);
        if elapsed >= MEASURE {
            self.per_second = self.taken * 1_000 / elapsed.as_millis().max(1) as u64;
            (self.measured, self.taken) = (now, 0);
        }
    }
}

/// The verdict, where everybody who has something new can read it.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    shedding: AtomicBool,
    per_second: AtomicU64,
    /// Refused ones that have not had their turn yet: as many of them as are taken do not count any more.
    outside: AtomicU64,
}

impl Gate {
    /// After `taken` more commands were taken.
    pub(crate) fn set(&self, shard: ShardId, shedding: bool, taken: u64, per_second: u64) {
        self.per_second.store(per_second, Ordering::Relaxed);
        // Refusals meanwhile may get lost in between: it is an estimate.
        self.outside.store(self.outside.load(Ordering::Relaxed).saturating_sub(taken), Ordering::Relaxed);
        if self.shedding.swap(shedding, Ordering::Relaxed) != shedding {
            tracing::debug!(event = "shedding", %shard, shedding, per_second, "new messages are refused, or no more");
        }
    }

    /// Nothing waits.
    pub(crate) fn open(&self) {
        self.outside.store(0, Ordering::Relaxed);
        self.shedding.store(false, Ordering::Relaxed);
    }

    pub(crate) fn is_shedding(&self) -> bool {
        self.shedding.load(Ordering::Relaxed)
    }

    /// After how many milliseconds to come again, if there is no room now. As if those that were refused stood in a row:
    /// if all came at once, refusing them again would soon be most of the work.
    pub(crate) fn refuse(&self) -> Option<u64> {
        if !self.is_shedding() {
            return None;
        }
        let before = self.outside.fetch_add(1, Ordering::Relaxed);
        let turn_ms = before * 1_000 / self.per_second.load(Ordering::Relaxed).max(1);
        Some((SHED_RETRY_MIN_MS + turn_ms).min(SHED_RETRY_MAX_MS))
    }
}

impl Cluster {
    /// Milliseconds after which a new message for the shard may come again, if none is taken now. For the node that leads it;
    /// asked before the message has cost anything.
    pub fn refuses(&self, shard: ShardId) -> Option<u64> {
        self.inner.replica(shard).and_then(|replica| replica.proposer.gate.refuse())
    }

    /// Whether this node has more to do for some shard than it can.
    pub fn is_pressed(&self) -> bool {
        self.inner.replicas.iter().any(|replica| replica.proposer.gate.is_shedding())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_millis(SHED_ABOVE_MS + 1);
    const SHORT: Duration = Duration::from_millis(SHED_ABOVE_MS - 1);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_burst_is_taken_and_a_queue_that_stays_is_not() {
        let now = Instant::now();
        let mut core = Core::new(now);
        assert!(!core.took(now, LONG, 1, 0));
        assert!(!core.took(now + AFTER - ms(1), LONG, 1, 0), "a burst");
        assert!(!core.took(now + AFTER, SHORT, 1, 0), "it is over");
        assert!(!core.took(now + AFTER * 2, LONG, 1, 0));
        assert!(core.took(now + AFTER * 3, LONG, 1, 0), "it stays");
        assert!(!core.took(now + AFTER * 3 + ms(10), SHORT, 1, 0));
        assert!(core.took(now + AFTER * 3 + ms(20), LONG, 1, 0), "again so soon");
        core.idle();
        let later = now + AFTER * 4 + RELAPSE;
        assert!(!core.took(later, LONG, 1, 0), "long ago, and it had emptied meanwhile");
        core.idle();
        assert!(!core.took(later + AFTER * 2, LONG, 1, 0));
    }

    #[test]
    fn the_refused_stand_in_a_row_that_moves_as_fast_as_commands_are_taken() {
        let gate = Gate::default();
        assert_eq!(gate.refuse(), None);
        gate.set(ShardId(1), true, 0, 200);
        let after: Vec<u64> = (0..101).filter_map(|_| gate.refuse()).collect();
        assert_eq!(
            (after[0], after[1], after[100]),
            (SHED_RETRY_MIN_MS, SHED_RETRY_MIN_MS + 5, SHED_RETRY_MIN_MS + 500)
        );
        gate.set(ShardId(1), true, 100, 200);
        assert_eq!(gate.refuse(), Some(SHED_RETRY_MIN_MS + 5));
        gate.set(ShardId(1), true, 0, 0);
        assert_eq!((0..100).filter_map(|_| gate.refuse()).max(), Some(SHED_RETRY_MAX_MS));
        gate.open();
        assert_eq!(gate.refuse(), None);
    }

    #[test]
    fn the_rate_is_that_of_the_last_stretch() {
        let now = Instant::now();
        let mut core = Core::new(now);
        core.took(now + MEASURE / 2, Duration::ZERO, 100, 0);
        core.took(now + MEASURE, Duration::ZERO, 100, 0);
        assert_eq!(core.per_second(), 200 * 1_000 / SHED_AFTER_MS);
        assert!(!core.took(now + MEASURE, SHORT, 0, core.per_second() * SHED_AT_ONCE_MS / 1_000 - 1));
        assert!(core.took(now + MEASURE, SHORT, 0, core.per_second() * SHED_AT_ONCE_MS / 1_000), "it is hopeless");
        core.took(now + MEASURE * 2, Duration::ZERO, 0, 0);
        assert_eq!(core.per_second(), 0);
    }
}
