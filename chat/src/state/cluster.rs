//! The metadata group's own things: the cluster's founding settings. Its apps: [`super::app`].

use super::overlay::{Overlay, Step, require};
use super::record::ClusterSettings;
use super::{View, app, done, key, level, nodes};
use crate::command::{ClusterCommand, Outcome};
use crate::errors::ErrorCode;
use crate::ids::NodeId;
use crate::level::OLDEST;
use crate::limits;

pub(super) fn apply<V: View>(work: &mut Overlay<'_, V>, command: &ClusterCommand) -> Step<Outcome, V> {
    match command {
        ClusterCommand::Found { cluster, shards, stream_epoch, nodes } => {
            found(work, cluster, *shards, *stream_epoch, nodes, OLDEST)
        }
        ClusterCommand::FoundAt { cluster, shards, stream_epoch, nodes, level } => {
            found(work, cluster, *shards, *stream_epoch, nodes, *level)
        }
        ClusterCommand::RegisterApp { app, token_public_key_pem } => app::register(work, app, token_public_key_pem),
        ClusterCommand::App { app, command } => app::apply(work, app, command),
        ClusterCommand::AddJoinToken { .. }
        | ClusterCommand::JoinNode { .. }
        | ClusterCommand::DescribeNode { .. }
        | ClusterCommand::PromoteNode { .. }
        | ClusterCommand::RemoveNode { .. }
        | ClusterCommand::ForgetNode { .. }
        | ClusterCommand::TakeTurn { .. }
        | ClusterCommand::EndTurn { .. }
        | ClusterCommand::Place { .. }
        | ClusterCommand::Rebalance { .. }
        | ClusterCommand::DescribeBuild { .. }
        | ClusterCommand::SetLevel { .. }
        | ClusterCommand::WithdrawJoinTokens => nodes::apply(work, command),
        ClusterCommand::Restored { cluster, stream_epoch, nodes } => restored(work, cluster, *stream_epoch, nodes),
    }
}

/// Only `campanile backup restore` puts this into a log, behind the cut.
fn restored<V: View>(
    work: &mut Overlay<'_, V>,
    cluster: &str,
    stream_epoch: u32,
    nodes: &[(NodeId, String)],
) -> Step<Outcome, V> {
    require((1..=limits::NODES_MAX).contains(&nodes.len()), ErrorCode::InvalidField)?;
    let Some(before) = work.load::<ClusterSettings>(&key::cluster_settings())? else {
        return Err(super::Stop::Rejected(ErrorCode::Forbidden));
    };
    let (cluster, nodes) = (cluster.to_owned(), nodes.to_vec());
    let wanted = ClusterSettings { cluster, stream_epoch, nodes, ..before.clone() };
    if wanted != before {
        work.store(key::cluster_settings(), &wanted);
        nodes::begin_anew(work, &wanted)?;
    }
    Ok(done(wanted == before))
}

fn found<V: View>(
    work: &mut Overlay<'_, V>,
    cluster: &str,
    shards: u16,
    stream_epoch: u32,
    nodes: &[(NodeId, String)],
    level: u16,
) -> Step<Outcome, V> {
    require(level >= OLDEST, ErrorCode::InvalidField)?;
    require((1..=limits::SHARDS_MAX).contains(&shards), ErrorCode::InvalidField)?;
    require((1..=limits::NODES_MAX).contains(&nodes.len()), ErrorCode::InvalidField)?;
    let (cluster, nodes, founded_ms) = (cluster.to_owned(), nodes.to_vec(), work.time_ms);
    let wanted = ClusterSettings { cluster, shards, stream_epoch, nodes, founded_ms };
    if let Some(present) = work.load::<ClusterSettings>(&key::cluster_settings())? {
        let same = ClusterSettings { founded_ms: present.founded_ms, ..wanted } == present;
        require(same, ErrorCode::Forbidden)?;
        return Ok(done(true));
    }
    work.store(key::cluster_settings(), &wanted);
    if level > OLDEST {
        level::found(work, level);
    }
    Ok(done(false))
}

#[cfg(test)]
mod tests {
    use super::super::query;
    use super::super::testing::{Shard, again, no, ok};
    use crate::command::{ClusterCommand, Command};
    use crate::errors::ErrorCode;

    fn found(shards: u16) -> Command {
        let (cluster, nodes) = ("c1".to_owned(), vec![(1, "one".to_owned()), (2, "two".to_owned())]);
        Command::Cluster(ClusterCommand::Found { cluster, shards, stream_epoch: 1, nodes })
    }

    #[test]
    fn a_cluster_is_founded_once() {
        let mut meta = Shard::default();
        assert_eq!(query::cluster_settings(&meta.state).unwrap(), None);
        assert_eq!(meta.one(found(0)), no(ErrorCode::InvalidField));
        assert_eq!(meta.one(found(16)), ok(0));
        assert_eq!(meta.one(found(16)), again(0), "a later repetition, too");
        assert_eq!(meta.one(found(8)), no(ErrorCode::Forbidden));
        let settings = query::cluster_settings(&meta.state).unwrap().unwrap();
        assert_eq!((settings.shards, settings.founded_ms, settings.nodes.len()), (16, 2_000, 2));
    }

    #[test]
    fn a_restored_cluster_has_its_own_name_members_and_epoch() {
        let mut meta = Shard::default();
        let restored = || {
            let (cluster, nodes) = ("c2".to_owned(), vec![(1, "there".to_owned())]);
            Command::Cluster(ClusterCommand::Restored { cluster, stream_epoch: 77, nodes })
        };
        assert_eq!(meta.one(restored()), no(ErrorCode::Forbidden), "there is nothing to restore");
        meta.one(found(16));
        assert_eq!(meta.one(restored()), ok(0));
        assert_eq!(meta.one(restored()), again(0));
        let settings = query::cluster_settings(&meta.state).unwrap().unwrap();
        assert_eq!((settings.cluster.as_str(), settings.stream_epoch, settings.nodes.len()), ("c2", 77, 1));
        assert_eq!(settings.shards, 16);
    }
}
