//! `campanile shard list`, `move` and `rebalance`.

use std::time::{Duration, Instant};

use chat::ids::{NodeId, ShardId};
use cluster::{PlannedMove, ShardStatus};
use serde_json::json;

use super::args::NodesArgs;
use super::args_nodes::ShardCommand;
use super::cluster_status::{admin_failure, somebody};
use super::output::{json, say, table};
use super::{Code, Exit, Failure};
use crate::nodes::api::{Place, Plan, Rebalance};

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(300);
/// Past this a change of voters counts as stuck.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn run(command: ShardCommand) -> Result<(), Failure> {
    match command {
        ShardCommand::List { node, json } => list(&node, json).await,
        ShardCommand::Move { shard, from, to, node, json } => move_shard(ShardId(shard), from, to, &node, json).await,
        ShardCommand::Rebalance { dry_run: true, node, json, .. } => plan(&node, json).await,
        ShardCommand::Rebalance { replicas, node, json, .. } => rebalance(replicas.unwrap_or(0), &node, json).await,
    }
}

async fn list(node: &NodesArgs, as_json: bool) -> Result<(), Failure> {
    let (_, status) = somebody(node).await?;
    if as_json {
        json(&status.cluster.shards);
        return Ok(());
    }
    let mut rows =
        vec![["shard", "leader", "should lead", "voters", "others with a replica"].map(str::to_owned).to_vec()];
    rows.extend(status.cluster.shards.iter().map(row));
    say(table(&rows));
    say("\nnext: campanile shard rebalance --dry-run shows what would be spread better");
    Ok(())
}

fn row(shard: &ShardStatus) -> Vec<String> {
    let node = |node: Option<NodeId>| node.map_or_else(|| "none".to_owned(), |node| node.to_string());
    vec![
        shard.shard.to_string(),
        node(shard.leader),
        node(shard.preferred),
        nodes(&shard.voters),
        nodes(&shard.learners),
    ]
}

fn nodes(nodes: &[NodeId]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

async fn move_shard(shard: ShardId, from: NodeId, to: NodeId, node: &NodesArgs, as_json: bool) -> Result<(), Failure> {
    let (admin, status) = somebody(node).await?;
    let refused = |why: String| {
        Failure::new(Code::Argument, Exit::Refused, why).next("campanile shard list shows who votes where")
    };
    let present = status.cluster.shards.iter().find(|present| present.shard == shard);
    let present = present.ok_or_else(|| refused(format!("there is no shard {shard}")))?;
    if !present.voters.contains(&from) || present.voters.contains(&to) {
        return Err(refused(format!(
            "in shard {shard} vote {}: {to} cannot take {from}'s place",
            nodes(&present.voters)
        )));
    }
    // Whoever should lead keeps that place, the newcomer takes it over from the one who goes.
    let mut voters: Vec<NodeId> = present.preferred.into_iter().filter(|node| present.voters.contains(node)).collect();
    voters.extend(present.voters.iter().copied().filter(|node| Some(*node) != present.preferred));
    voters.iter_mut().filter(|node| **node == from).for_each(|node| *node = to);
    admin.place(&Place { shard, voters: voters.clone() }).await.map_err(|error| admin_failure(&error))?;
    voters.sort_unstable();
    let begun = Instant::now();
    loop {
        let (_, status) = somebody(node).await?;
        let now = status.cluster.shards.into_iter().find(|present| present.shard == shard);
        if now.is_some_and(|now| now.voters == voters) {
            break;
        }
        if begun.elapsed() >= PATIENCE {
            let what = format!("shard {shard} is not there yet; it goes on moving");
            return Err(Failure::new(Code::Node, Exit::Unreachable, what)
                .next("campanile cluster status shows whether the shard has a leader and the node is reachable"));
        }
        tokio::time::sleep(LOOK).await;
    }
    if as_json {
        json(&json!({ "shard": shard, "voters": voters }));
    } else {
        say(format_args!("in shard {shard} vote {}", nodes(&voters)));
    }
    Ok(())
}

async fn plan(node: &NodesArgs, as_json: bool) -> Result<(), Failure> {
    let (admin, _) = somebody(node).await?;
    let plan = admin.plan().await.map_err(|error| admin_failure(&error))?;
    if as_json {
        json(&plan);
    } else if plan.moves.is_empty() {
        say("nothing would move: voters and leaders are spread evenly");
    } else {
        say(planned(&plan));
        say("\nnothing was changed; next: campanile shard rebalance");
    }
    Ok(())
}

fn planned(plan: &Plan) -> String {
    let mut rows = vec![["shard", "voters", "would be"].map(str::to_owned).to_vec()];
    let row = |planned: &PlannedMove| vec![planned.shard.to_string(), nodes(&planned.from), nodes(&planned.to)];
    rows.extend(plan.moves.iter().map(row));
    table(&rows)
}

async fn rebalance(replicas: u8, node: &NodesArgs, as_json: bool) -> Result<(), Failure> {
    let (admin, _) = somebody(node).await?;
    admin.rebalance(&Rebalance { replicas }).await.map_err(|error| admin_failure(&error))?;
    if as_json {
        json(&json!({ "rebalancing": true }));
    } else {
        say("voters and leaders are being spread evenly, a few shards at a time");
        say("next: campanile shard list shows how far it is");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_shows_each_move() {
        let moves = vec![PlannedMove { shard: ShardId(3), from: vec![1, 2, 3], to: vec![4, 2, 3] }];
        let told = planned(&Plan { moves });
        assert!(told.contains("1 2 3") && told.contains("4 2 3"), "{told}");
    }
}
