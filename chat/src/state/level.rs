//! The cluster's feature level, and what the nodes' builds support ([`crate::level`]).

use super::overlay::{Overlay, Step, require};
use super::record::{Build, ClusterLevel, NodeState};
use super::{View, done, key, nodes};
use crate::command::{Command, Outcome, RetentionCommand};
use crate::errors::ErrorCode;
use crate::ids::NodeId;
use crate::{level, limits};

/// The level on record.
pub(super) fn present<V: View>(work: &Overlay<'_, V>) -> Step<u16, V> {
    Ok(work.load::<ClusterLevel>(&key::level())?.map_or(level::OLDEST, |record| record.level))
}

/// Refuses what is not switched on. Whoever proposes refuses it first: this is for the day on which one does not. Only the
/// metadata group knows the level; in the other shards whoever proposes is alone with it.
pub(super) fn gate<V: View>(work: &Overlay<'_, V>, command: &Command) -> Step<(), V> {
    let here = matches!(command, Command::Cluster(_) | Command::Retention(RetentionCommand::SetIdWindow { .. }));
    if !here || level::allowed(command, level::OLDEST) {
        return Ok(());
    }
    require(level::allowed(command, present(work)?), ErrorCode::NotSwitchedOn)
}

/// The cluster begins at this level.
pub(super) fn found<V: View>(work: &mut Overlay<'_, V>, level: u16) {
    let since_ms = work.time_ms;
    work.store(key::level(), &ClusterLevel { level, since_ms });
}

/// A node says what it runs. One that supports less than the cluster needs is not to run at all.
pub(super) fn describe<V: View>(
    work: &mut Overlay<'_, V>,
    node: NodeId,
    level: u16,
    version: &str,
) -> Step<Outcome, V> {
    require(level >= level::OLDEST && version.len() <= limits::VERSION_BYTES, ErrorCode::InvalidField)?;
    nodes::node_in(work, node, &[NodeState::Joining, NodeState::Active, NodeState::Leaving])?;
    require(level >= present(work)?, ErrorCode::NotSwitchedOn)?;
    let (key, wanted) = (key::build(node), Build { level, version: version.to_owned() });
    let same = work.load::<Build>(&key)?.as_ref() == Some(&wanted);
    if !same {
        work.store(key, &wanted);
    }
    Ok(done(same))
}

/// From now on the log holds what `wanted` brings: every member must have said that it knows it, and there is no way back.
/// What this build supports decides nothing here: replicas of other builds must come to the same.
pub(super) fn set<V: View>(work: &mut Overlay<'_, V>, wanted: u16) -> Step<Outcome, V> {
    let before = present(work)?;
    if wanted == before {
        return Ok(done(true));
    }
    require(wanted > before, ErrorCode::Forbidden)?;
    for (node, _) in nodes::present(work)? {
        let build = work.load::<Build>(&key::build(node))?;
        require(build.is_some_and(|build| build.level >= wanted), ErrorCode::Forbidden)?;
    }
    let since_ms = work.time_ms;
    work.store(key::level(), &ClusterLevel { level: wanted, since_ms });
    Ok(done(false))
}

#[cfg(test)]
mod tests {
    use super::super::query;
    use super::super::testing::{Shard, again, no, ok};
    use crate::command::{ClusterCommand, Command, NodeFacts, Outcome};
    use crate::errors::ErrorCode;
    use crate::ids::NodeId;
    use crate::level;

    fn act(meta: &mut Shard, command: ClusterCommand) -> Outcome {
        meta.one(Command::Cluster(command))
    }

    /// Two nodes, at the first level.
    fn old() -> Shard {
        let mut meta = Shard::default();
        let nodes = vec![(1, "one:1".to_owned()), (2, "two:1".to_owned())];
        let found = ClusterCommand::Found { cluster: "c".to_owned(), shards: 4, stream_epoch: 1, nodes };
        assert_eq!(act(&mut meta, found), ok(0));
        meta
    }

    fn describe(meta: &mut Shard, node: NodeId, level: u16) -> Outcome {
        act(meta, ClusterCommand::DescribeBuild { node, level, version: format!("0.{level}.0") })
    }

    fn level_of(meta: &Shard) -> u16 {
        query::level(&meta.state).unwrap()
    }

    #[test]
    fn a_level_is_switched_on_once_everybody_supports_it_and_never_off() {
        let mut meta = old();
        assert_eq!(level_of(&meta), level::OLDEST, "nothing is on record");
        let set = |meta: &mut Shard, level| act(meta, ClusterCommand::SetLevel { level });
        assert_eq!(set(&mut meta, 1), again(0));
        assert_eq!(set(&mut meta, 2), no(ErrorCode::Forbidden), "nobody has said anything");
        assert_eq!(describe(&mut meta, 1, 3), ok(0));
        assert_eq!(describe(&mut meta, 1, 3), again(0));
        assert_eq!(describe(&mut meta, 9, 3), no(ErrorCode::InvalidField));
        assert_eq!(describe(&mut meta, 1, 0), no(ErrorCode::InvalidField));
        assert_eq!(describe(&mut meta, 2, 1), ok(0));
        assert_eq!(set(&mut meta, 2), no(ErrorCode::Forbidden), "node 2 does not know it");
        assert_eq!(describe(&mut meta, 2, 2), ok(0));
        assert_eq!(set(&mut meta, 3), no(ErrorCode::Forbidden));
        assert_eq!((set(&mut meta, 2), set(&mut meta, 2)), (ok(0), again(0)));
        assert_eq!(set(&mut meta, 1), no(ErrorCode::Forbidden), "there is no way back");
        assert_eq!(describe(&mut meta, 2, 1), no(ErrorCode::NotSwitchedOn), "nor for one node");
        assert_eq!(level_of(&meta), 2);
        let builds = query::builds(&meta.state).unwrap();
        let builds: Vec<_> = builds.iter().map(|(node, build)| (*node, build.level, build.version.as_str())).collect();
        assert_eq!(builds, [(1, 3, "0.3.0"), (2, 2, "0.2.0")]);
    }

    #[test]
    fn who_is_gone_is_not_asked_and_who_has_just_come_is() {
        let mut meta = old();
        describe(&mut meta, 1, 2);
        assert_eq!(act(&mut meta, ClusterCommand::RemoveNode { node: 2 }), ok(0));
        let raise = || ClusterCommand::SetLevel { level: 2 };
        assert_eq!(act(&mut meta, raise()), no(ErrorCode::Forbidden), "it is still leaving");
        assert_eq!(act(&mut meta, ClusterCommand::ForgetNode { node: 2 }), ok(0));
        let token = ClusterCommand::AddJoinToken { secret: [1; 32], expires_ms: 60_000, uses: 1 };
        assert_eq!(act(&mut meta, token), ok(0));
        let facts = NodeFacts { peer: "three:1".to_owned(), ..NodeFacts::default() };
        assert_eq!(act(&mut meta, ClusterCommand::JoinNode { secret: [1; 32], key: [3; 32], facts }), ok(3));
        assert_eq!(act(&mut meta, raise()), no(ErrorCode::Forbidden), "it has said nothing yet");
        describe(&mut meta, 3, 2);
        assert_eq!(act(&mut meta, raise()), ok(0));
    }

    #[test]
    fn a_command_of_a_later_level_waits_for_it() {
        let mut meta = old();
        let token = ClusterCommand::AddJoinToken { secret: [1; 32], expires_ms: 60_000, uses: 1 };
        act(&mut meta, token);
        assert_eq!(act(&mut meta, ClusterCommand::WithdrawJoinTokens), no(ErrorCode::NotSwitchedOn));
        for node in [1, 2] {
            describe(&mut meta, node, 2);
        }
        act(&mut meta, ClusterCommand::SetLevel { level: 2 });
        assert_eq!(act(&mut meta, ClusterCommand::WithdrawJoinTokens), ok(0));
        assert_eq!(act(&mut meta, ClusterCommand::WithdrawJoinTokens), again(0));
        let facts = NodeFacts { peer: "three:1".to_owned(), ..NodeFacts::default() };
        let join = ClusterCommand::JoinNode { secret: [1; 32], key: [3; 32], facts };
        assert_eq!(act(&mut meta, join), no(ErrorCode::BadCredentials));
    }

    #[test]
    fn a_cluster_begins_at_the_level_of_whoever_founds_it_and_keeps_it_when_it_is_restored() {
        let mut meta = Shard::default();
        let nodes = || vec![(1, "one:1".to_owned())];
        let at = |level| ClusterCommand::FoundAt {
            cluster: "c".to_owned(),
            shards: 4,
            stream_epoch: 1,
            nodes: nodes(),
            level,
        };
        assert_eq!(act(&mut meta, at(0)), no(ErrorCode::InvalidField));
        assert_eq!(act(&mut meta, at(2)), ok(0));
        // A founder that was to begin at another level comes second.
        let found = ClusterCommand::Found { cluster: "c".to_owned(), shards: 4, stream_epoch: 1, nodes: nodes() };
        assert_eq!(act(&mut meta, found), again(0));
        assert_eq!((act(&mut meta, at(5)), level_of(&meta)), (again(0), 2));
        describe(&mut meta, 1, 2);
        let restored = ClusterCommand::Restored { cluster: "d".to_owned(), stream_epoch: 7, nodes: nodes() };
        assert_eq!(act(&mut meta, restored), ok(0));
        assert_eq!(level_of(&meta), 2, "its log and state may need it");
        assert_eq!(query::builds(&meta.state).unwrap(), [], "what those nodes run is not known");
    }
}
