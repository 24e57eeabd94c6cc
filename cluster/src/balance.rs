//! Spreading leaders: each shard has a node that should lead it (`crate::placement`). A leader that is not the preferred one hands over
//! once the preferred node has been connected and caught up for a while. So does one that reaches fewer members than
//! another does: those it does not reach would lack what it leads.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chat::ids::{NodeId, ShardId};

use crate::cluster::Inner;
use crate::leave;
use crate::replica::Replica;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(2);
/// Looks at which another node has to be fitter because it reaches more members.
const TO_REACH: u32 = 2;
/// Looks at which the preferred node has to be fit: how long one that comes back gets to settle before it leads again.
const TO_SETTLE: u32 = 4;
/// Entries that the next leader may lack: it gets them before it stands for election.
pub(crate) const LAG: u64 = 16;

pub(crate) async fn run(inner: Arc<Inner>) {
    // Since how many looks the same node has been fitter.
    let mut waiting: BTreeMap<ShardId, (NodeId, u32)> = BTreeMap::new();
    loop {
        tokio::time::sleep(INTERVAL).await;
        if inner.leaving.contains(inner.node) {
            // It may have been elected for want of another.
            leave::hand_over(&inner, INTERVAL).await;
            continue;
        }
        let mut seen = BTreeMap::new();
        let reach = inner.reach.counts(&inner);
        for replica in inner.replicas.iter() {
            let Some(Fitter { node: to, looks }) = should_hand_over(&inner, replica, &reach) else {
                continue;
            };
            let before = waiting.get(&replica.shard).filter(|(node, _)| *node == to).map_or(0, |(_, looks)| *looks);
            // A node that comes and goes must not pull leaders about.
            if before + 1 < looks {
                seen.insert(replica.shard, (to, before + 1));
                continue;
            }
            if !replica.hand_over(to).await {
                return;
            }
        }
        waiting = seen;
    }
}

/// A node that should lead instead, once it was so at that many looks in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fitter {
    node: NodeId,
    looks: u32,
}

fn should_hand_over(inner: &Inner, replica: &Replica, reach: &BTreeMap<NodeId, usize>) -> Option<Fitter> {
    if replica.leader() != Some(inner.node) || inner.leaving.contains(inner.node) {
        return None;
    }
    let mut reach = reach.clone();
    let voters = replica.members().voters;
    reach.retain(|node, _| voters.contains(node));
    let fitter = fitter(inner.preferred(replica.shard)?, inner.node, &reach)?;
    let (matched, last) = replica.progress();
    (last.saturating_sub(*matched.get(&fitter.node)?) <= LAG).then_some(fitter)
}

/// Who should lead the shard instead of `leader`, if anybody: of those who reach the most members the preferred one, else
/// the present one. `reach` has the nodes that may lead, and how many members each reaches.
fn fitter(preferred: NodeId, leader: NodeId, reach: &BTreeMap<NodeId, usize>) -> Option<Fitter> {
    let fitness =
        |(node, reached): &(&NodeId, &usize)| (**reached, **node == preferred, **node == leader, Reverse(**node));
    let (fittest, reached) = reach.iter().max_by_key(fitness)?;
    let looks = if reach.get(&leader) < Some(reached) { TO_REACH } else { TO_SETTLE };
    (*fittest != leader).then_some(Fitter { node: *fittest, looks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reaches_most_leads_and_among_those_the_preferred_one() {
        let reach = |counts: [usize; 3]| (1..).zip(counts).filter(|(_, count)| *count > 0).collect();
        let all = reach([3, 3, 3]);
        assert_eq!(fitter(1, 1, &all), None);
        let preferred = Fitter { node: 1, looks: TO_SETTLE };
        assert_eq!(fitter(1, 2, &all), Some(preferred));
        // Nodes 1 and 2 do not reach each other.
        let third = Fitter { node: 3, looks: TO_REACH };
        assert_eq!(fitter(1, 1, &reach([2, 0, 3])), Some(third));
        assert_eq!(fitter(1, 3, &reach([2, 2, 3])), None);
        // Node 1 is down.
        assert_eq!(fitter(1, 2, &reach([0, 2, 2])), None);
        assert_eq!(fitter(1, 3, &BTreeMap::from([(3, 1)])), None);
    }
}
