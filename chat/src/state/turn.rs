//! Whose turn it is to be away. A node that compacts its database stops for a while; only one of the cluster does so at a
//! time. A turn ends with its node's word or with its time, so that a node that dies in it holds nobody up for ever.

use super::overlay::{Overlay, Step, require};
use super::record::{NodeState, Turn};
use super::{View, done, key, nodes};
use crate::command::Outcome;
use crate::errors::ErrorCode;
use crate::ids::NodeId;
use crate::limits;

/// The same node again extends it.
pub(super) fn take<V: View>(work: &mut Overlay<'_, V>, node: NodeId, for_ms: u64) -> Step<Outcome, V> {
    require((1..=limits::TURN_MS_MAX).contains(&for_ms), ErrorCode::InvalidField)?;
    nodes::node_in(work, node, &[NodeState::Active])?;
    let now_ms = work.time_ms;
    let held = work.load::<Turn>(&key::turn())?.filter(|turn| turn.until_ms > now_ms);
    require(held.is_none_or(|turn| turn.node == node), ErrorCode::LimitReached)?;
    let since_ms = held.map_or(now_ms, |turn| turn.since_ms);
    work.store(key::turn(), &Turn { node, since_ms, until_ms: now_ms.saturating_add(for_ms) });
    Ok(done(held.is_some()))
}

/// Only the node that has it can end it.
pub(super) fn end<V: View>(work: &mut Overlay<'_, V>, node: NodeId) -> Step<Outcome, V> {
    let has = work.load::<Turn>(&key::turn())?.is_some_and(|turn| turn.node == node);
    if has {
        work.remove(key::turn());
    }
    Ok(done(!has))
}

#[cfg(test)]
mod tests {
    use super::super::query;
    use super::super::testing::{Shard, again, no, ok};
    use super::*;
    use crate::command::{ClusterCommand, Command};

    /// Two nodes, at the newest level.
    fn founded() -> Shard {
        let mut meta = Shard::default();
        let (cluster, nodes) = ("c".to_owned(), vec![(1, "one:1".to_owned()), (2, "two:1".to_owned())]);
        let level = crate::level::NEWEST;
        let found = ClusterCommand::FoundAt { cluster, shards: 4, stream_epoch: 1, nodes, level };
        assert_eq!(meta.one(Command::Cluster(found)), ok(0));
        meta
    }

    fn act(meta: &mut Shard, command: ClusterCommand) -> Outcome {
        meta.one(Command::Cluster(command))
    }

    fn take(meta: &mut Shard, node: NodeId, for_ms: u64) -> Outcome {
        act(meta, ClusterCommand::TakeTurn { node, for_ms })
    }

    #[test]
    fn one_node_at_a_time_has_the_turn_until_it_gives_it_back() {
        let mut meta = founded();
        assert_eq!(take(&mut meta, 1, 60_000), ok(0));
        assert_eq!(take(&mut meta, 2, 60_000), no(ErrorCode::LimitReached));
        assert_eq!(take(&mut meta, 1, 60_000), again(0), "it did not hear the answer");
        assert_eq!(act(&mut meta, ClusterCommand::EndTurn { node: 2 }), again(0), "it has none");
        assert_eq!(query::turn(&meta.state).unwrap().map(|turn| turn.node), Some(1));
        assert_eq!(act(&mut meta, ClusterCommand::EndTurn { node: 1 }), ok(0));
        assert_eq!(query::turn(&meta.state).unwrap(), None);
        assert_eq!(take(&mut meta, 2, 60_000), ok(0));
    }

    #[test]
    fn a_node_that_dies_in_its_turn_holds_nobody_up_for_ever() {
        let mut meta = founded();
        // An entry is a second after the one before.
        assert_eq!(take(&mut meta, 1, 2_000), ok(0));
        assert_eq!(take(&mut meta, 2, 2_000), no(ErrorCode::LimitReached));
        assert_eq!(take(&mut meta, 2, 2_000), ok(0), "its time is over");
        assert_eq!(act(&mut meta, ClusterCommand::EndTurn { node: 1 }), again(0), "it comes back too late");
        assert_eq!(query::turn(&meta.state).unwrap().map(|turn| turn.node), Some(2));
    }

    #[test]
    fn a_turn_has_an_end_and_is_for_nodes_that_are_there() {
        let mut meta = founded();
        for for_ms in [0, limits::TURN_MS_MAX + 1] {
            assert_eq!(take(&mut meta, 1, for_ms), no(ErrorCode::InvalidField));
        }
        assert_eq!(take(&mut meta, 7, 60_000), no(ErrorCode::InvalidField));
        assert_eq!(act(&mut meta, ClusterCommand::RemoveNode { node: 2 }), ok(0));
        assert_eq!(take(&mut meta, 2, 60_000), no(ErrorCode::Forbidden), "it leaves");
    }
}
