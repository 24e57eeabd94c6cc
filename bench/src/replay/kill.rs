//! Kills the node that leads the busiest shard while everybody sends, and brings it back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use chat::ids::{NodeId, ShardId};
use node::admin::NodeStatus;

use super::run::Run;
use super::{ReplayError, ReplayOptions};
use crate::report::KillReport;
use crate::spawn::Spawned;
use crate::target::Target;

/// How often the number of acks is looked at.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(5);

/// What was killed.
#[derive(Debug, Clone)]
pub(super) struct Killed {
    node: NodeId,
    busiest: ShardId,
    /// The shards that the node led.
    led: Vec<ShardId>,
    /// The shards that the run sends to.
    busy: BTreeSet<ShardId>,
    acked: u64,
}

impl Killed {
    pub(super) fn report(self, pause_ms: u64, shard_pauses: &[(ShardId, u64)]) -> KillReport {
        // A shard that nobody sent to cannot show a pause.
        let measured = |shard: &ShardId| self.led.contains(shard) && self.busy.contains(shard);
        let pauses_ms: BTreeMap<u16, u64> =
            shard_pauses.iter().filter(|(shard, _)| measured(shard)).map(|(shard, ms)| (shard.0, *ms)).collect();
        KillReport {
            node: self.node,
            busiest_shard: self.busiest.0,
            after_acks: self.acked,
            moved_shards: self.led.len(),
            longest_pause_ms: pauses_ms.values().copied().max().unwrap_or(0).max(pause_ms),
            pause_ms,
            moved_shard_pauses_ms: pauses_ms,
        }
    }
}

pub(super) async fn kill_leader(
    options: &ReplayOptions,
    target: &Target,
    run: &Run,
    cluster: &mut Option<Spawned>,
) -> Result<Option<Killed>, ReplayError> {
    let (Some(percent), Some(cluster)) = (options.kill_leader_at, cluster) else { return Ok(None) };
    let threshold = run.plan.messages.len() as u64 * u64::from(percent) / 100;
    let acked = || run.tallies.acked.load(Ordering::Relaxed);
    while acked() < threshold {
        if acked() + run.failed().len() as u64 >= run.plan.messages.len() as u64 {
            return Err(ReplayError::Unhealthy("too few acks: the moment of the kill never came".to_owned()));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let busiest = busiest_shard(run);
    let Some(admin) = target.admins.first() else { return Ok(None) };
    let status = admin.status().await.map_err(|e| ReplayError::Unhealthy(format!("no status: {e}")))?;
    let node = leader(&status, busiest)
        .ok_or_else(|| ReplayError::Unhealthy(format!("shard {busiest} has no leader to be killed")))?;
    let killed = Killed {
        node,
        busiest,
        led: led_by(&status, node),
        busy: run.groups.iter().map(|g| g.shard).collect(),
        acked: acked(),
    };
    run.meters.watch_pauses(run.now_us());
    cluster.kill(node)?;
    let led = killed.led.len();
    options
        .progress
        .say(&format!("killed node {node}, which led shard {busiest} and {} others", led.saturating_sub(1)));
    tokio::time::sleep(options.restart_after).await;
    cluster.restart(node).await?;
    options.progress.say(&format!("node {node} is back"));
    Ok(Some(killed))
}

/// The shard with most of the plan's messages.
fn busiest_shard(run: &Run) -> ShardId {
    let mut messages: BTreeMap<ShardId, u64> = BTreeMap::new();
    for message in &run.plan.messages {
        *messages.entry(run.groups[message.group as usize].shard).or_default() += 1;
    }
    messages.into_iter().max_by_key(|(_, count)| *count).map_or(ShardId(1), |(shard, _)| shard)
}

fn leader(status: &NodeStatus, shard: ShardId) -> Option<NodeId> {
    status.cluster.shards.iter().find(|s| s.shard == shard).and_then(|s| s.leader)
}

fn led_by(status: &NodeStatus, node: NodeId) -> Vec<ShardId> {
    status.cluster.shards.iter().filter(|s| s.leader == Some(node)).map(|s| s.shard).collect()
}
