//! Leaving in good order: what this node leads is handed over before it stops or rests, so that nobody waits out its lease.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chat::ids::{NodeId, ShardId};
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::balance::LAG;
use crate::cluster::Inner;
use crate::peer::message::Request;
use crate::replica::Replica;

/// Between two looks at what is still led here.
const LOOK: Duration = Duration::from_millis(20);
/// A hand-over that led to nothing by then is tried again, with another successor if there is one.
const ATTEMPT: Duration = Duration::from_secs(1);
/// How long peers may take to hear that this node leaves.
const TELL: Duration = Duration::from_millis(500);

/// Why this node leads nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Why {
    /// It stops, or an operator drains it.
    Duty = 1,
    /// Its disk is nearly full.
    NoRoom = 2,
}

/// Nodes that lead nothing because they leave or rest, as far as this node was told.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    nodes: Mutex<BTreeSet<NodeId>>,
    /// This node's own reasons, a bit each.
    why: Mutex<u8>,
}

impl Leaving {
    /// Adds a reason of this node's own, or takes it away. Whether that changes anything for others.
    fn because(&self, own: NodeId, why: Why, holds: bool) -> bool {
        let mut all = self.why.lock();
        let before = *all;
        *all = if holds { before | why as u8 } else { before & !(why as u8) };
        self.set(own, *all != 0);
        (before == 0) != (*all == 0)
    }

    pub(crate) fn set(&self, node: NodeId, leaving: bool) {
        let mut nodes = self.nodes.lock();
        if leaving {
            nodes.insert(node);
        } else {
            nodes.remove(&node);
        }
    }

    pub(crate) fn contains(&self, node: NodeId) -> bool {
        self.nodes.lock().contains(&node)
    }
}

/// Hands over every shard that this node leads, and leads none from then on. How many it still leads after `within`: none
/// unless no other node is there to lead them.
pub(crate) async fn resign(inner: &Arc<Inner>, within: Duration) -> usize {
    rest(inner, Why::Duty, true).await;
    hand_over(inner, within).await
}

/// Notes whether this node has a reason to lead nothing, and tells its peers what follows. Whether that is new to them.
pub(crate) async fn rest(inner: &Inner, why: Why, holds: bool) -> bool {
    let changed = inner.leaving.because(inner.node, why, holds);
    if changed {
        announce(inner, inner.leaving.contains(inner.node)).await;
    }
    changed
}

pub(crate) async fn hand_over(inner: &Arc<Inner>, within: Duration) -> usize {
    let begun = Instant::now();
    let mut tried: BTreeMap<ShardId, (Instant, usize)> = BTreeMap::new();
    loop {
        let led: Vec<&Replica> = inner.replicas.iter().filter(|r| r.leader() == Some(inner.node)).collect();
        if led.is_empty() || begun.elapsed() >= within {
            return led.len();
        }
        let mut somebody = false;
        for replica in &led {
            let candidates = candidates(inner, replica);
            somebody |= !candidates.is_empty();
            let (last, attempts) = tried.get(&replica.shard).copied().unwrap_or((begun, 0));
            if attempts > 0 && last.elapsed() < ATTEMPT {
                continue;
            }
            let Some(to) = successor(&candidates, replica.shard, attempts) else { continue };
            tried.insert(replica.shard, (Instant::now(), attempts + 1));
            if !replica.hand_over(to).await {
                return led.len();
            }
        }
        if !somebody {
            return led.len();
        }
        sleep(LOOK).await;
    }
}

/// Leads again what balance gives it.
pub(crate) async fn return_to_duty(inner: &Arc<Inner>) {
    rest(inner, Why::Duty, false).await;
}

async fn announce(inner: &Inner, leaving: bool) {
    let told = inner.lanes.all().into_iter().map(|lane| async move {
        // Whoever does not hear of it may hand leadership back, and it is handed over again.
        let _ = lane.call(Request::Leaving { leaving }, TELL).await;
    });
    join_all(told).await;
}

/// Connected members that do not leave, those whose logs are furthest first.
pub(crate) fn candidates(inner: &Inner, replica: &Replica) -> Vec<(NodeId, u64)> {
    let voters = replica.members().voters;
    let may_lead =
        |node| node != inner.node && voters.contains(&node) && inner.connected(node) && !inner.leaving.contains(node);
    let mut candidates: Vec<(NodeId, u64)> =
        replica.progress().0.into_iter().filter(|(node, _)| may_lead(*node)).collect();
    candidates.sort_by_key(|(node, matched)| (std::cmp::Reverse(*matched), *node));
    candidates
}

/// Shards spread over the members whose logs are about as far; after a failed attempt it is another one's turn.
pub(crate) fn successor(candidates: &[(NodeId, u64)], shard: ShardId, attempts: usize) -> Option<NodeId> {
    let furthest = candidates.first()?.1;
    let good = candidates.iter().take_while(|(_, matched)| *matched + LAG >= furthest).count();
    let among = if attempts == 0 { good } else { candidates.len() };
    candidates.get((usize::from(shard.0) + attempts) % among).map(|(node, _)| *node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_rests_as_long_as_it_has_any_reason() {
        let leaving = Leaving::default();
        assert!(leaving.because(1, Why::NoRoom, true) && leaving.contains(1));
        assert!(!leaving.because(1, Why::Duty, true), "nothing new to others");
        assert!(!leaving.because(1, Why::NoRoom, false) && leaving.contains(1));
        assert!(leaving.because(1, Why::Duty, false) && !leaving.contains(1));
        assert!(!leaving.because(1, Why::Duty, false));
    }

    #[test]
    fn shards_are_handed_to_those_that_are_up_to_date_and_spread_over_them() {
        let candidates = [(2, 100), (3, 90), (4, 10)];
        let first: Vec<_> = (0..4).map(|shard| successor(&candidates, ShardId(shard), 0).unwrap()).collect();
        assert_eq!(first, [2, 3, 2, 3]);
        let again: BTreeSet<_> = (1..4).map(|attempt| successor(&candidates, ShardId(0), attempt).unwrap()).collect();
        assert_eq!(again.len(), 3, "after failures everybody has a turn");
        assert_eq!(successor(&[], ShardId(0), 0), None);
    }
}
