//! Which nodes should vote in which shard: a pure decision over what is there.
//!
//! Voters stay where they are unless there is a reason to move them: a node that is not fit to vote, a wrong number of
//! voters, failure domains that could be spread better, and, if asked for, a load that is uneven by two or more.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use chat::ids::{NodeId, ShardId};
use chat::limits::META_REPLICAS;

/// A node that may vote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) id: NodeId,
    /// What fails together; empty is a zone like any other.
    pub(crate) zone: String,
}

/// The voters of each shard, in the order in which they should lead.
pub(crate) type Voters = BTreeMap<ShardId, Vec<NodeId>>;

/// How many of `nodes` vote in a shard that is to have `replicas`: three of four, since a fourth voter survives no more
/// failures and is one more to wait for. Two of two, since what is acknowledged is then on both.
pub(crate) fn quorum_size(replicas: usize, nodes: usize) -> usize {
    let voters = replicas.min(nodes);
    if voters > 2 && voters.is_multiple_of(2) { voters - 1 } else { voters }
}

/// How many vote in the shard, of `nodes`.
pub(crate) fn voters_of(shard: ShardId, replicas: usize, nodes: usize) -> usize {
    quorum_size(if shard == ShardId::META { usize::from(META_REPLICAS) } else { replicas }, nodes)
}

/// Whether the shard must change: somebody votes who is not fit to, or the number is wrong.
pub(crate) fn is_violated(shard: ShardId, voters: &[NodeId], nodes: &[Candidate], replicas: usize) -> bool {
    voters.len() != voters_of(shard, replicas, nodes.len())
        || !voters.iter().all(|voter| nodes.iter().any(|node| node.id == *voter))
}

/// What `current` should become in the end.
#[cfg(test)]
fn plan(nodes: &[Candidate], replicas: usize, current: &Voters, even: bool) -> Voters {
    towards(nodes, replicas, current, even, usize::MAX)
}

/// What `current` should become next, within `steps` steps; with `even`, voters and leaders are also spread evenly. Each of them makes something better and nothing that
/// counts more worse, so that planning anew after each of them comes to an end, which carrying out parts of a whole plan
/// does not.
pub(crate) fn towards(nodes: &[Candidate], replicas: usize, current: &Voters, even: bool, steps: usize) -> Voters {
    let mut work = Work::new(nodes, current, steps);
    if nodes.is_empty() {
        return current.clone();
    }
    let shards: Vec<ShardId> = current.keys().copied().collect();
    for shard in &shards {
        work.resize(*shard, voters_of(*shard, replicas, nodes.len()));
    }
    if even {
        shards.iter().for_each(|shard| work.spread_over_zones(*shard));
        work.even_voters();
        work.even_leaders();
    }
    work.voters
}

struct Work<'a> {
    nodes: &'a [Candidate],
    zones: BTreeMap<NodeId, &'a str>,
    voters: Voters,
    /// Steps that may still be taken.
    left: usize,
}

impl<'a> Work<'a> {
    fn new(nodes: &'a [Candidate], current: &Voters, left: usize) -> Self {
        let zones = nodes.iter().map(|node| (node.id, node.zone.as_str())).collect();
        Self { nodes, zones, voters: current.clone(), left }
    }

    /// Takes a step, if there may be another.
    fn step(&mut self, shard: ShardId, change: impl FnOnce(&mut Vec<NodeId>)) -> bool {
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        change(self.voters.entry(shard).or_default());
        true
    }

    fn zone(&self, node: NodeId) -> &'a str {
        self.zones.get(&node).copied().unwrap_or_default()
    }

    /// Shards in which each node votes.
    fn loads(&self) -> BTreeMap<NodeId, usize> {
        let count = |node: &Candidate| self.voters.values().filter(|voters| voters.contains(&node.id)).count();
        self.nodes.iter().map(|node| (node.id, count(node))).collect()
    }

    /// Shards that each node should lead.
    fn leads(&self) -> BTreeMap<NodeId, usize> {
        let count = |node: &Candidate| self.voters.values().filter(|voters| voters.first() == Some(&node.id)).count();
        self.nodes.iter().map(|node| (node.id, count(node))).collect()
    }

    fn of(&self, shard: ShardId) -> &[NodeId] {
        self.voters.get(&shard).map(Vec::as_slice).unwrap_or_default()
    }

    /// How many voters of the shard, `except` not counted, are in the node's zone.
    fn company(&self, shard: ShardId, node: NodeId, except: Option<NodeId>) -> usize {
        let zone = self.zone(node);
        self.of(shard)
            .iter()
            .filter(|other| **other != node && Some(**other) != except && self.zone(**other) == zone)
            .count()
    }

    /// Takes away voters or adds some until there are `wanted`, all of them fit to vote: one step.
    fn resize(&mut self, shard: ShardId, wanted: usize) {
        let unfit = |work: &Self| work.of(shard).iter().any(|voter| !work.zones.contains_key(voter));
        if self.of(shard).len() == wanted && !unfit(self) || self.left == 0 {
            return;
        }
        self.left -= 1;
        let zones = &self.zones;
        self.voters.entry(shard).or_default().retain(|voter| zones.contains_key(voter));
        while self.of(shard).len() > wanted {
            let loads = self.loads();
            // Not the one that leads, if another will do.
            let worst = self.of(shard).iter().enumerate().max_by_key(|(at, node)| {
                (self.company(shard, **node, None), *at > 0, loads.get(*node).copied(), **node)
            });
            let Some(worst) = worst.map(|(at, _)| at) else { return };
            self.voters.entry(shard).or_default().remove(worst);
        }
        while self.of(shard).len() < wanted {
            let (loads, leads) = (self.loads(), self.leads());
            let absent = self.nodes.iter().map(|node| node.id).filter(|node| !self.of(shard).contains(node));
            let best = absent.min_by_key(|node| {
                (self.company(shard, *node, None), loads.get(node).copied(), leads.get(node).copied(), *node)
            });
            let Some(best) = best else { return };
            self.voters.entry(shard).or_default().push(best);
        }
    }

    /// As long as two voters share a zone while another zone has none, one of them moves there.
    fn spread_over_zones(&mut self, shard: ShardId) {
        loop {
            let used: BTreeSet<&str> = self.of(shard).iter().map(|node| self.zone(*node)).collect();
            let loads = self.loads();
            let unused = self.nodes.iter().filter(|node| !used.contains(node.zone.as_str()));
            let Some(to) = unused.min_by_key(|node| (loads.get(&node.id).copied(), node.id)) else { return };
            let crowded = self.of(shard).iter().copied().enumerate();
            let crowded = crowded.filter(|(_, node)| self.company(shard, *node, None) > 0);
            let from = crowded.max_by_key(|(at, node)| (*at > 0, loads.get(node).copied(), *node));
            let Some((from, _)) = from else { return };
            if !self.step(shard, |voters| voters[from] = to.id) {
                return;
            }
        }
    }

    /// Voters move from the busiest nodes to the idlest ones, as long as that evens out and crowds no zone.
    fn even_voters(&mut self) {
        while let Some((shard, at, to)) = self.next_move() {
            if !self.step(shard, |voters| voters[at] = to) {
                return;
            }
        }
    }

    /// The shard, the place among its voters, and who takes it.
    fn next_move(&self) -> Option<(ShardId, usize, NodeId)> {
        let loads = self.loads();
        let mut busiest: Vec<(NodeId, usize)> = loads.iter().map(|(node, load)| (*node, *load)).collect();
        busiest.sort_by_key(|(node, load)| (Reverse(*load), *node));
        for (from, most) in &busiest {
            for (to, least) in busiest.iter().rev() {
                if most.saturating_sub(*least) < 2 {
                    break;
                }
                let movable = self.voters.iter().filter_map(|(shard, voters)| {
                    let at = voters.iter().position(|node| node == from)?;
                    let crowds = self.company(*shard, *to, Some(*from)) > self.company(*shard, *from, None);
                    (!voters.contains(to) && !crowds).then_some((*shard, at))
                });
                // A place that does not lead moves without anybody waiting.
                if let Some((shard, at)) = movable.max_by_key(|(shard, at)| (*at > 0, *shard)) {
                    return Some((shard, at, *to));
                }
            }
        }
        None
    }

    /// Who leads changes among a shard's own voters.
    fn even_leaders(&mut self) {
        // Each step lowers the sum of squares; the bound is for a mistake in that.
        for _ in 0..self.voters.len() * self.nodes.len() {
            let leads = self.leads();
            let gain = |voters: &Vec<NodeId>| {
                let first = leads.get(voters.first()?)?;
                let (at, least) = voters
                    .iter()
                    .enumerate()
                    .filter_map(|(at, node)| Some((at, leads.get(node)?)))
                    .min_by_key(|(at, lead)| (**lead, *at))?;
                (first.saturating_sub(*least) >= 2).then_some((first - least, at))
            };
            let best = self.voters.iter().filter_map(|(shard, voters)| Some((gain(voters)?, *shard))).max();
            let Some(((_, at), shard)) = best else { return };
            if !self.step(shard, |voters| voters.swap(0, at)) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nodes(zones: &[(NodeId, &str)]) -> Vec<Candidate> {
        zones.iter().map(|(id, zone)| Candidate { id: *id, zone: (*zone).to_owned() }).collect()
    }

    fn shards(count: u16, voters: &[NodeId]) -> Voters {
        (0..=count).map(|shard| (ShardId(shard), voters.to_vec())).collect()
    }

    fn spread(counts: &BTreeMap<NodeId, usize>) -> usize {
        counts.values().max().unwrap() - counts.values().min().unwrap()
    }

    #[test]
    fn a_cluster_of_one_grows_to_three_and_five_and_shrinks_again() {
        let one = shards(16, &[1]);
        let three = plan(&nodes(&[(1, ""), (2, ""), (3, "")]), 3, &one, true);
        assert!(three.values().all(|voters| voters.len() == 3));
        let all = nodes(&[(1, ""), (2, ""), (3, ""), (4, ""), (5, "")]);
        let five = plan(&all, 3, &three, true);
        assert_eq!(five[&ShardId::META].len(), 5);
        assert!(five.iter().all(|(shard, voters)| *shard == ShardId::META || voters.len() == 3));
        let work = Work::new(&all, &five, 0);
        assert!(spread(&work.loads()) <= 1 && spread(&work.leads()) <= 1, "{:?} {:?}", work.loads(), work.leads());
        let back = plan(&all[..3], 3, &five, true);
        assert!(back.values().all(|voters| BTreeSet::from_iter(voters) == BTreeSet::from([&1, &2, &3])));
    }

    #[test]
    fn nothing_moves_without_a_reason() {
        let three = shards(16, &[3, 1, 2]);
        assert_eq!(plan(&nodes(&[(1, ""), (2, ""), (3, "")]), 3, &three, false), three);
        let four = nodes(&[(1, ""), (2, ""), (3, ""), (4, "")]);
        assert_eq!(plan(&four, 3, &three, false), three, "a new node alone is no reason");
        let without = plan(&nodes(&[(1, ""), (3, ""), (4, "")]), 3, &three, false);
        assert!(without.values().all(|voters| voters == &[3, 1, 4]));
    }

    #[test]
    fn replicas_are_spread_over_zones_before_they_are_spread_over_nodes() {
        let all = nodes(&[(1, "a"), (2, "a"), (3, "b"), (4, "c")]);
        let planned = plan(&all, 3, &shards(8, &[1, 2, 3]), true);
        for voters in planned.iter().filter(|(shard, _)| **shard != ShardId::META).map(|(_, voters)| voters) {
            let zones: BTreeSet<_> = voters.iter().map(|id| &all[*id as usize - 1].zone).collect();
            assert_eq!(zones.len(), 3, "{voters:?}");
        }
    }

    #[test]
    fn even_numbers_of_voters_are_not_made_except_two() {
        let sizes: Vec<_> = (1..=7).map(|nodes| quorum_size(5, nodes)).collect();
        assert_eq!(sizes, [1, 2, 3, 3, 5, 5, 5]);
    }

    fn cluster() -> impl Strategy<Value = (Vec<Candidate>, usize, Voters)> {
        let ids = prop::collection::btree_map(1..9u64, 0..4u8, 1..7);
        let voters = prop::collection::btree_set(1..9u64, 1..6);
        (ids, prop::sample::select(vec![1usize, 3, 5]), prop::collection::vec(voters, 1..20)).prop_map(
            |(ids, replicas, voters)| {
                let nodes = ids.into_iter().map(|(id, zone)| Candidate { id, zone: zone.to_string() }).collect();
                let current =
                    (0..).zip(voters).map(|(shard, set)| (ShardId(shard), set.into_iter().collect())).collect();
                (nodes, replicas, current)
            },
        )
    }

    proptest! {
        #[test]
        fn every_plan_is_valid_and_final((nodes, replicas, current) in cluster(), even: bool) {
            let planned = plan(&nodes, replicas, &current, even);
            for (shard, voters) in &planned {
                prop_assert!(!is_violated(*shard, voters, &nodes, replicas), "{shard}: {voters:?}");
                prop_assert_eq!(BTreeSet::from_iter(voters).len(), voters.len());
            }
            prop_assert_eq!(&plan(&nodes, replicas, &planned, even), &planned, "planned again, it stays");
        }

        #[test]
        fn carried_out_a_few_steps_at_a_time_it_ends((nodes, replicas, mut current) in cluster(), steps in 1..5usize) {
            let most = current.len() * nodes.len() * 2 + 8;
            for _ in 0..most {
                let next = towards(&nodes, replicas, &current, true, steps);
                if next == current {
                    prop_assert_eq!(&plan(&nodes, replicas, &current, true), &current);
                    return Ok(());
                }
                current = next;
            }
            prop_assert!(false, "still moving after {most} times {steps} steps");
        }

        #[test]
        fn in_one_zone_nobody_votes_two_more_times_than_another((mut nodes, replicas, current) in cluster()) {
            nodes.iter_mut().for_each(|node| node.zone.clear());
            let planned = plan(&nodes, replicas, &current, true);
            let work = Work::new(&nodes, &planned, 0);
            prop_assert!(spread(&work.loads()) <= 1, "{:?}", work.loads());
        }
    }
}
