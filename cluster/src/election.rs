//! One clock for the elections of every shard. openraft's own would wake each replica for itself; and in a quiet shard the
//! signs of life that it counts are not there (`crate::signs`).
//!
//! Safe whatever this clock says: every attempt starts with a pre-vote, which those that hear of the leader refuse.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::Timing;
use crate::cluster::Inner;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(100);

pub(crate) async fn run(inner: Arc<Inner>, timing: Timing) {
    let begun = Instant::now();
    let mut patience: Vec<Patience> =
        inner.replicas.iter().map(|_| Patience::new(begun, timing.election_min.mul_f64(chance()))).collect();
    let mut clock = interval(EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = clock.tick().await;
        for (replica, patience) in inner.replicas.iter().zip(&mut patience) {
            let (leads, alone) = {
                let metrics = replica.raft.server_metrics();
                let metrics = metrics.borrow_watched();
                let mut voters = metrics.membership_config.membership().voter_ids();
                let alone = voters.next() == Some(inner.node) && voters.next().is_none();
                (metrics.current_leader == Some(inner.node), alone)
            };
            if leads || !patience.is_over(now, replica.signs.excused_until(), timing, chance) {
                continue;
            }
            // openraft leaves it at nothing where this node does not vote.
            if replica.raft.trigger().elect(!alone).await.is_err() {
                // This replica has ended; the process is about to.
                return;
            }
        }
    }
}

/// A number from 0 to 1. What it is for is to keep candidates apart: where there is no randomness they meet.
fn chance() -> f64 {
    getrandom::u32().map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX))
}

/// How long one replica waits before it stands for election.
#[derive(Debug)]
struct Patience {
    excused_until: Instant,
    stands_at: Instant,
}

impl Patience {
    fn new(begun: Instant, wait: Duration) -> Self {
        Self { excused_until: begun, stands_at: begun + wait }
    }

    /// Whether it is time to stand; if so, the next attempt is a while from now.
    fn is_over(&mut self, now: Instant, excused_until: Instant, timing: Timing, chance: impl Fn() -> f64) -> bool {
        let wait = || timing.election_min + (timing.election_max - timing.election_min).mul_f64(chance());
        if excused_until > self.excused_until {
            self.excused_until = excused_until;
            self.stands_at = self.stands_at.max(excused_until + wait());
        }
        if now < self.stands_at {
            return false;
        }
        self.stands_at = now + wait();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_waited_out_and_each_attempt_gets_its_time() {
        let (begun, ms) = (Instant::now(), Duration::from_millis);
        let timing = Timing { heartbeat: ms(200), election_min: ms(600), election_max: ms(750) };
        let mut patience = Patience::new(begun, ms(100));
        let mut over = |at, excused| patience.is_over(begun + ms(at), begun + ms(excused), timing, || 1.0);
        assert!(!over(50, 0) && over(100, 0), "the first attempt comes soon");
        assert!(!over(849, 0) && over(850, 0));
        // A leader was heard at 900 and has its lease of 750.
        assert!(!over(1_600, 1_650) && !over(2_399, 1_650) && over(2_400, 1_650));
        assert!(!over(3_149, 1_650) && over(3_150, 1_650));
    }
}
