//! Signs of life between a shard's leader and those that follow it.
//!
//! A shard with something to do is kept by openraft's heartbeats. One in which nothing has happened for a while is **quiet**: its
//! leader's node says of all its quiet shards at once that it still leads them, in one message to each peer
//! (`crate::heartbeat`), and the peers' clock of elections rests on that (`crate::election`). So what an idle cluster costs
//! grows with its nodes and not with its shards (docs/adr/0020). openraft's leases run out in a quiet shard: whoever needs
//! one asks a majority first (`Replica::renew_lease`), and votes are refused for the leader's sake by [`Signs::refuses`].

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// What one replica has seen, and since when nothing.
#[derive(Debug)]
pub(crate) struct Signs {
    started: Instant,
    /// Until when, in milliseconds since `started`, silence means nothing.
    excused_ms: AtomicU64,
    /// When the leader's node last spoke for the quiet shard, and whether it ever did.
    spoken_ms: AtomicU64,
    /// On the leader: the shard is quiet.
    quiet: AtomicBool,
}

impl Default for Signs {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            excused_ms: AtomicU64::new(0),
            spoken_ms: AtomicU64::new(0),
            quiet: AtomicBool::new(false),
        }
    }
}

impl Signs {
    fn at(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_millis() as u64
    }

    /// The leader lives: it has `lease` before anybody may doubt it.
    pub(crate) fn heard(&self, now: Instant, lease: Duration) {
        self.excused_ms.fetch_max(self.at(now + lease), Ordering::Relaxed);
    }

    /// The leader's node says that the shard is quiet.
    pub(crate) fn spoken_for(&self, now: Instant, lease: Duration) {
        self.spoken_ms.fetch_max(self.at(now).max(1), Ordering::Relaxed);
        self.heard(now, lease);
    }

    /// Another node was given this one's vote.
    pub(crate) fn stood_aside(&self, now: Instant) {
        self.heard(now, Duration::ZERO);
    }

    /// Until when silence means nothing.
    pub(crate) fn excused_until(&self) -> Instant {
        self.started + Duration::from_millis(self.excused_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn set_quiet(&self, quiet: bool) {
        self.quiet.store(quiet, Ordering::Relaxed);
    }

    /// Whether a vote against the present leader is refused, as openraft would if the shard were not quiet.
    pub(crate) fn refuses(&self, now: Instant, lease: Duration, leader: Leader) -> bool {
        match leader {
            Leader::Own => self.quiet.load(Ordering::Relaxed),
            Leader::Lost => false,
            Leader::Reached => {
                let spoken = self.spoken_ms.load(Ordering::Relaxed);
                spoken > 0 && self.at(now).saturating_sub(spoken) <= lease.as_millis() as u64
            }
        }
    }
}

/// Who leads, to a candidate that is another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leader {
    /// This node.
    Own,
    /// A node that this one is connected to.
    Reached,
    /// Another one, nobody, or the candidate itself.
    Lost,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_millis(750);

    #[test]
    fn who_hears_of_a_leader_excuses_its_silence_for_a_lease_and_refuses_others_as_long() {
        let signs = Signs::default();
        let begun = Instant::now() + Duration::from_secs(5);
        assert!(!signs.refuses(begun, LEASE, Leader::Reached), "nobody has spoken for the leader");
        let excused = |signs: &Signs| signs.excused_until().saturating_duration_since(begun).as_millis();
        signs.spoken_for(begun, LEASE);
        assert!((749..=750).contains(&excused(&signs)), "whole milliseconds are kept");
        assert!(signs.refuses(begun, LEASE, Leader::Reached));
        assert!(!signs.refuses(begun, LEASE, Leader::Lost));
        signs.stood_aside(begun);
        assert!(excused(&signs) >= 749, "a vote takes nothing back");
        let later = begun + LEASE + Duration::from_millis(2);
        assert!(!signs.refuses(later, LEASE, Leader::Reached));
        signs.stood_aside(later);
        assert!((751..=752).contains(&excused(&signs)));
    }

    #[test]
    fn a_leader_refuses_votes_while_its_shard_is_quiet() {
        let (signs, now) = (Signs::default(), Instant::now());
        for quiet in [false, true, false] {
            signs.set_quiet(quiet);
            assert_eq!(signs.refuses(now, LEASE, Leader::Own), quiet);
        }
    }
}
