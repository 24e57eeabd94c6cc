//! Letting go of the log. What is applied, durable in the state, and held by every member is not asked for by Raft again:
//! the log's purge marker moves behind it. Messages are read from the records all the same ([`crate::collect`] removes
//! those that no message is read from).
//!
//! The leader knows how far the members are, and tells all replicas by an entry of the log ([`RetentionCommand::Purge`]);
//! each replica does it when its own state is safe on its own disk. A member that is away holds the log back, but not by
//! more than [`Housekeeping::log_keep_entries`](crate::Housekeeping): then it gets a copy of the state when it is back.

use std::sync::Arc;

use chat::command::{Command, RetentionCommand};
use tokio::time::{MissedTickBehavior, interval};

use crate::Housekeeping;
use crate::cluster::Inner;
use crate::replica::Replica;

/// Entries that are let go of at once, at least: each time costs an entry and a checkpoint.
const STEP: u64 = 64;

pub(crate) async fn run(inner: Arc<Inner>, housekeeping: Housekeeping) {
    let mut clock = interval(housekeeping.purge_every);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        for replica in &inner.replicas {
            if replica.leader() == Some(inner.node) {
                announce(replica, housekeeping.log_keep_entries).await;
            }
            purge(replica).await;
        }
    }
}

/// On the leader: tells every replica what it may let go of, if that is worth it.
async fn announce(replica: &Replica, keep: u64) {
    let (matched, _) = replica.progress();
    let purged = replica.log.bounds().purged.map_or(0, |position| position.index);
    let slowest = matched.values().copied().min();
    let Some(through) = purgeable(slowest, replica.applied_index(), purged.max(replica.chores().purge), keep) else {
        return;
    };
    let command = Command::Retention(RetentionCommand::Purge { through });
    if let Err(error) = replica.proposer.propose(command).await {
        tracing::debug!(shard = %replica.shard, %error, "the log is let go of later");
    }
}

/// Up to which entry the log may be let go of: what every member has, or all but `keep` entries.
fn purgeable(slowest: Option<u64>, applied: u64, purged: u64, keep: u64) -> Option<u64> {
    let through = slowest.unwrap_or(applied).min(applied).max(applied.saturating_sub(keep));
    (through >= purged + STEP).then_some(through)
}

/// On every replica: makes the state durable, then moves the marker.
async fn purge(replica: &Replica) {
    let through = replica.chores().purge.min(replica.applied_index());
    let purged = replica.log.bounds().purged.map_or(0, |position| position.index);
    // Who gets a copy goes on from where it was made: what follows that must still be there.
    if through <= purged || replica.state.is_copied() {
        return;
    }
    match replica.let_go(through).await {
        Ok(()) => tracing::debug!(shard = %replica.shard, through, "log let go of"),
        Err(error) => tracing::warn!(shard = %replica.shard, %error, "the log is let go of later"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_member_has_is_let_go_of() {
        assert_eq!(purgeable(Some(900), 1_000, 0, 500), Some(900));
        assert_eq!(purgeable(Some(1_000), 990, 0, 500), Some(990), "but nothing that is not applied");
        assert_eq!(purgeable(None, 1_000, 0, 500), Some(1_000), "a member alone");
        assert_eq!(purgeable(Some(900), 1_000, 900 - STEP + 1, 500), None, "too little");
    }

    #[test]
    fn a_member_that_is_away_holds_the_log_back_so_far() {
        assert_eq!(purgeable(Some(300), 400, 0, 500), Some(300));
        assert_eq!(purgeable(Some(300), 1_000, 300, 500), Some(500));
        assert_eq!(purgeable(Some(0), 400, 0, 500), None);
    }
}
