//! Spreading leaders: shard `s` prefers member `s mod n`. A leader that is not the preferred one hands over
//! once the preferred node has been connected and caught up for a while. So does one that reaches fewer members than
//! another does: those it does not reach would lack what it leads.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chat::ids::{NodeId, ShardId};
use openraft::async_runtime::watch::WatchReceiver;

use crate::cluster::Inner;
use crate::leave;
use crate::replica::Replica;

/// Between two looks. Also how long a returning node gets to settle before it leads again.
const INTERVAL: Duration = Duration::from_secs(2);
/// Entries the preferred leader may lack.
const LAG: u64 = 16;

/// The member that should lead `shard`.
pub(crate) fn preferred(shard: ShardId, members: &[NodeId]) -> Option<NodeId> {
    members.get(usize::from(shard.0) % members.len().max(1)).copied()
}

pub(crate) async fn run(inner: Arc<Inner>) {
    let members: Vec<NodeId> = inner.members.iter().map(|peer| peer.id).collect();
    let mut waiting: Vec<ShardId> = Vec::new();
    loop {
        tokio::time::sleep(INTERVAL).await;
        if inner.leaving.contains(inner.node) {
            // It may have been elected for want of another.
            leave::hand_over(&inner, INTERVAL).await;
            continue;
        }
        let mut seen = Vec::new();
        for replica in inner.replicas.iter() {
            if let Some(to) = should_hand_over(&inner, replica, &members) {
                // Only what was so at the last look too: a node that comes and goes must not pull leaders about.
                if waiting.contains(&replica.shard) {
                    tracing::info!(shard = %replica.shard, to, "handing leadership over");
                    if replica.raft.trigger().transfer_leader(to).await.is_err() {
                        return;
                    }
                } else {
                    seen.push(replica.shard);
                }
            }
        }
        waiting = seen;
    }
}

fn should_hand_over(inner: &Inner, replica: &Replica, members: &[NodeId]) -> Option<NodeId> {
    if replica.leader() != Some(inner.node) || inner.leaving.contains(inner.node) {
        return None;
    }
    let to = fitter(replica.shard, inner.node, members, &inner.reach.counts(inner))?;
    let metrics = replica.raft.metrics().borrow_watched().clone();
    let matched = metrics.replication?.get(&to)?.as_ref().map_or(0, |id| id.index);
    (metrics.last_log_index.unwrap_or(0).saturating_sub(matched) <= LAG).then_some(to)
}

/// Who should lead the shard instead of `leader`, if anybody: of those who reach the most members the preferred one, else
/// the present one. `reach` has the nodes that may lead, and how many members each reaches.
fn fitter(shard: ShardId, leader: NodeId, members: &[NodeId], reach: &BTreeMap<NodeId, usize>) -> Option<NodeId> {
    let preferred = preferred(shard, members)?;
    let fitness =
        |(node, reached): &(&NodeId, &usize)| (**reached, **node == preferred, **node == leader, Reverse(**node));
    let (fittest, _) = reach.iter().max_by_key(fitness)?;
    (*fittest != leader).then_some(*fittest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reaches_most_leads_and_among_those_the_preferred_one() {
        let members = [1, 2, 3];
        let reach = |counts: [usize; 3]| (1..).zip(counts).filter(|(_, count)| *count > 0).collect();
        let (shard, all) = (ShardId(0), reach([3, 3, 3]));
        assert_eq!(fitter(shard, 1, &members, &all), None);
        assert_eq!(fitter(shard, 2, &members, &all), Some(1), "node 1 is preferred");
        // Nodes 1 and 2 do not reach each other.
        assert_eq!(fitter(shard, 1, &members, &reach([2, 0, 3])), Some(3));
        assert_eq!(fitter(shard, 3, &members, &reach([2, 2, 3])), None);
        // Node 1 is down.
        assert_eq!(fitter(shard, 2, &members, &reach([0, 2, 2])), None);
        assert_eq!(fitter(shard, 3, &members, &BTreeMap::from([(3, 1)])), None);
    }

    #[test]
    fn leaders_are_spread_evenly() {
        let members = [1, 2, 5];
        let mut counts = [0; 3];
        for shard in 0..17 {
            let node = preferred(ShardId(shard), &members).unwrap();
            counts[members.iter().position(|m| *m == node).unwrap()] += 1;
        }
        assert_eq!(counts, [6, 6, 5]);
        assert_eq!(preferred(ShardId(3), &[]), None);
    }
}
