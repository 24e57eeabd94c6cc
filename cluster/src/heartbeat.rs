//! One clock for the signs of life of every shard this node leads. Heartbeats meet in the peers' queues and leave as one
//! bundle each; of the shards in which nothing happens one message says all (`crate::signs`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chat::ids::{NodeId, ShardId};
use openraft::async_runtime::watch::WatchReceiver;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::cluster::Inner;
use crate::replica::Replica;

/// How long nothing must have happened for a shard to be quiet.
const QUIET_AFTER: Duration = Duration::from_secs(3);
/// A quiet shard has a real heartbeat this often: whoever lost track of what is committed hears of it.
const EVERY_QUIET: Duration = Duration::from_secs(10);

pub(crate) async fn run(inner: Arc<Inner>, every: Duration) {
    let mut clock = interval(every);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let begun = Instant::now();
    let mut rests: Vec<Rest> = inner.replicas.iter().map(|_| Rest::new(begun)).collect();
    let (mut connected, mut changed) = (BTreeSet::new(), begun);
    loop {
        let now = clock.tick().await;
        let there: BTreeSet<NodeId> = inner.table().ids().filter(|node| inner.connected(*node)).collect();
        if there != connected {
            (connected, changed) = (there, now);
        }
        let mut quiet: Vec<(ShardId, u64)> = Vec::new();
        for (replica, rest) in inner.replicas.iter().zip(&mut rests) {
            if replica.leader() != Some(inner.node) {
                replica.signs.set_quiet(false);
                continue;
            }
            let last = (replica.term(), replica.log.bounds().last.map_or(0, |last| last.index));
            let sign = rest.next(now, last, changed, || everybody_has_it(replica, &connected));
            replica.signs.set_quiet(rest.quiet);
            if rest.quiet {
                quiet.push((replica.shard, last.0));
            }
            if sign == Sign::Heartbeat && replica.raft.trigger().heartbeat().await.is_err() {
                // This replica has ended; the process is about to.
                return;
            }
        }
        if !quiet.is_empty() {
            for lane in inner.lanes.all() {
                lane.speak_for(quiet.clone());
            }
        }
    }
}

/// Whether a majority is there and all who are have the whole log.
fn everybody_has_it(replica: &Replica, connected: &BTreeSet<NodeId>) -> bool {
    let metrics = replica.raft.metrics();
    let metrics = metrics.borrow_watched();
    let membership = metrics.membership_config.membership();
    let majorities = membership
        .get_joint_config()
        .iter()
        .all(|voters| voters.iter().filter(|node| connected.contains(node)).count() * 2 > voters.len());
    let last = metrics.last_log_index;
    let applied = metrics.last_applied.map(|id| id.index) == last;
    let matched =
        metrics.replication.iter().flatten().all(|(node, matched)| {
            *node == metrics.id || !connected.contains(node) || matched.map(|id| id.index) == last
        });
    majorities && applied && matched
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Heartbeat,
    /// The one message for all is enough.
    None,
}

/// Whether one shard that this node leads is quiet.
#[derive(Debug)]
struct Rest {
    /// Term and index of the log's end, and since when.
    last: (u64, u64),
    since: Instant,
    heartbeat: Instant,
    quiet: bool,
}

impl Rest {
    fn new(begun: Instant) -> Self {
        Self { last: (0, 0), since: begun, heartbeat: begun, quiet: false }
    }

    /// `disturbed`: when a peer last came or went.
    fn next(&mut self, now: Instant, last: (u64, u64), disturbed: Instant, settled: impl FnOnce() -> bool) -> Sign {
        if self.last != last {
            (self.last, self.since) = (last, now);
        }
        let long = now >= self.since.max(disturbed) + QUIET_AFTER;
        let due = !self.quiet || now >= self.heartbeat + EVERY_QUIET;
        self.quiet = long && (!due || settled());
        if self.quiet && !due {
            return Sign::None;
        }
        self.heartbeat = now;
        Sign::Heartbeat
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_quiet_once_nothing_happened_for_a_while_and_until_something_does() {
        let (begun, seconds) = (Instant::now(), Duration::from_secs);
        let mut rest = Rest::new(begun);
        let mut next = |at, index, disturbed, settled| {
            let sign = rest.next(begun + seconds(at), (1, index), begun + seconds(disturbed), || settled);
            (sign, rest.quiet)
        };
        assert_eq!(next(1, 7, 0, true), (Sign::Heartbeat, false));
        assert_eq!(next(3, 7, 0, true), (Sign::Heartbeat, false));
        assert_eq!(next(4, 7, 0, false), (Sign::Heartbeat, false), "somebody lacks the end of the log");
        // The heartbeat with which it falls quiet tells everybody what is committed.
        assert_eq!(next(5, 7, 0, true), (Sign::Heartbeat, true));
        assert_eq!(next(6, 7, 0, true), (Sign::None, true));
        assert_eq!(next(15, 7, 0, true), (Sign::Heartbeat, true));
        assert_eq!(next(16, 7, 16, true), (Sign::Heartbeat, false), "a peer came back");
        assert_eq!(next(19, 7, 16, true), (Sign::Heartbeat, true));
        assert_eq!(next(20, 8, 16, true), (Sign::Heartbeat, false), "something happened");
    }
}
