//! What a kill did, in words. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use chat::ids::{NodeId, ShardId};

use super::probe::Counted;

pub(super) type Leaders = BTreeMap<ShardId, Option<NodeId>>;

/// Shards that were led by `killed`, and who leads them now.
pub(super) fn moved(before: &Leaders, after: &Leaders, killed: NodeId) -> BTreeMap<ShardId, Option<NodeId>> {
    let led = before.iter().filter(|(_, leader)| **leader == Some(killed));
    led.map(|(shard, _)| (*shard, after.get(shard).copied().flatten())).collect()
}

/// Whether every shard is led by a node that lives.
pub(super) fn settled(leaders: &Leaders, killed: NodeId) -> bool {
    leaders.values().all(|leader| leader.is_some_and(|node| node != killed))
}

/// `node 2 led 6 shards: 1, 4, 7 → node 1; 10, 13, 16 → node 3`
pub(super) fn moves(moved: &BTreeMap<ShardId, Option<NodeId>>, killed: NodeId) -> String {
    if moved.is_empty() {
        return format!("node {killed} led no shard: no leader had to move");
    }
    let mut by_leader: BTreeMap<Option<NodeId>, Vec<String>> = BTreeMap::new();
    for (shard, leader) in moved {
        by_leader.entry(*leader).or_default().push(shard.to_string());
    }
    let to = |leader: Option<NodeId>| leader.map_or_else(|| "nobody yet".to_owned(), |node| format!("node {node}"));
    let parts: Vec<_> =
        by_leader.into_iter().map(|(leader, shards)| format!("{} → {}", shards.join(", "), to(leader))).collect();
    let plural = if moved.len() == 1 { "" } else { "s" };
    format!("node {killed} led {} shard{plural}: {}", moved.len(), parts.join("; "))
}

/// How long writes paused, apart for shards whose leader moved and for the others.
pub(super) fn pauses(
    moved: &BTreeMap<ShardId, Option<NodeId>>,
    pauses: &BTreeMap<ShardId, Option<Duration>>,
) -> String {
    let (of_moved, of_others): (Vec<_>, Vec<_>) = pauses.iter().partition(|(shard, _)| moved.contains_key(shard));
    let longest = |pauses: Vec<(&ShardId, &Option<Duration>)>| -> String {
        let stuck = pauses.iter().filter(|(_, pause)| pause.is_none()).count();
        let longest = pauses.iter().filter_map(|(_, pause)| **pause).max().unwrap_or_default();
        match stuck {
            0 => format!("{:.2} s at the longest", longest.as_secs_f64()),
            stuck => format!("{stuck} of them still do"),
        }
    };
    let others = of_others.len();
    match of_moved.len() {
        0 => format!("writes to all {others} shards paused {}", longest(of_others)),
        moved => format!(
            "writes to {moved} of these shards paused {}; to the other {others}, {}",
            longest(of_moved),
            longest(of_others)
        ),
    }
}

/// What was lost, as each node that lives tells it.
pub(super) fn losses(counted: &BTreeMap<NodeId, Counted>) -> String {
    let parts: Vec<_> = counted
        .iter()
        .map(|(node, Counted { acked, lost })| format!("{lost} of {acked} read back from node {node}"))
        .collect();
    format!("acknowledged messages lost: {}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaders(pairs: &[(u16, Option<NodeId>)]) -> Leaders {
        pairs.iter().map(|(shard, leader)| (ShardId(*shard), *leader)).collect()
    }

    #[test]
    fn moves_are_told_by_new_leader() {
        let before = leaders(&[(0, Some(1)), (1, Some(2)), (2, Some(3)), (3, Some(2)), (4, Some(2))]);
        let after = leaders(&[(0, Some(1)), (1, Some(1)), (2, Some(3)), (3, Some(3)), (4, None)]);
        let moved = moved(&before, &after, 2);
        assert_eq!(moves(&moved, 2), "node 2 led 3 shards: 4 → nobody yet; 1 → node 1; 3 → node 3");
        assert!(!settled(&after, 2));
        assert!(!settled(&before, 2));
        assert!(settled(&before, 7));
        assert_eq!(moves(&BTreeMap::new(), 2), "node 2 led no shard: no leader had to move");
    }

    #[test]
    fn pauses_are_told_apart_and_a_lasting_one_is_not_hidden() {
        let moved = leaders(&[(1, Some(1)), (2, Some(3))]);
        let mut measured: BTreeMap<_, _> =
            [(1, 812), (2, 640), (3, 31)].map(|(s, ms)| (ShardId(s), Some(Duration::from_millis(ms)))).into();
        assert_eq!(
            pauses(&moved, &measured),
            "writes to 2 of these shards paused 0.81 s at the longest; to the other 1, 0.03 s at the longest"
        );
        measured.insert(ShardId(2), None);
        assert!(pauses(&moved, &measured).contains("1 of them still do"));
    }

    #[test]
    fn losses_are_counted_per_node() {
        let counted = [(1, Counted { acked: 120, lost: 0 }), (3, Counted { acked: 120, lost: 2 })].into();
        assert_eq!(
            losses(&counted),
            "acknowledged messages lost: 0 of 120 read back from node 1, 2 of 120 read back from node 3"
        );
    }
}
