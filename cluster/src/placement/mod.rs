//! Where replicas are. Every node holds a replica of every shard, since it fans out from its own (docs/adr/0001); which
//! of them vote, and so decide and may lead, is the metadata group's record, kept by whoever leads that group:
//!
//! - [`plan`] says what the record should be,
//! - [`settle`] takes a shard there, on the shard's leader,
//! - [`run`] asks both, again and again, so that nothing of it is lost with a node.

pub(crate) mod plan;
pub(crate) mod settle;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chat::command::{ClusterCommand, Command};
use chat::ids::{NodeId, ShardId};
use chat::state::record::NodeState;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};

use crate::cluster::Inner;
use crate::peer::PEER_TIMEOUT;
use crate::peer::message::{Request, Response};
use crate::proposer::ProposeError;
use crate::roster::Table;
use plan::{Candidate, Voters};
use settle::Wanted;

/// Between two looks. Only a look at what is here, while everything is as it should be.
const EVERY: Duration = Duration::from_millis(500);
/// Shards whose voters change at a time. Their replicas are there already: only who votes changes.
const MOVES_MAX: usize = 4;

/// Keeps placement while this node leads the metadata group.
pub(crate) async fn run(inner: Arc<Inner>) {
    let mut clock = interval(EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        let leads = inner.replica(ShardId::META).is_some_and(|meta| meta.leader() == Some(inner.node));
        if leads && let Err(error) = look(&inner).await {
            tracing::debug!(%error, "placement goes on at the next look");
        }
    }
}

/// One look: shards go a step further, nodes that are where they should be are written down so, and then more shards may
/// be given something to do.
async fn look(inner: &Arc<Inner>) -> Result<(), ProposeError> {
    let table = inner.table();
    // Before the founding there is nothing to place.
    let Some(roster) = table.roster else { return Ok(()) };
    let joining: BTreeSet<NodeId> = table.in_state(NodeState::Joining);
    let unsettled: Vec<(ShardId, Wanted)> = inner
        .replicas
        .iter()
        .filter_map(|replica| {
            let wanted = wanted(inner, &table, replica.shard);
            let there = replica.members();
            let placed =
                wanted.voters.is_empty() || wanted.voters.iter().copied().collect::<BTreeSet<_>>() == there.voters;
            let settled = placed && there.members == wanted.members && !there.joint;
            (!settled || !joining.is_empty()).then_some((replica.shard, wanted))
        })
        .collect();
    let answers = join_all(unsettled.iter().map(|(shard, wanted)| ask(inner, *shard, wanted.clone()))).await;
    let moving = answers.iter().filter(|answer| answer.as_ref().is_none_or(|(settled, _)| !settled)).count();
    for node in joining {
        let caught_up = answers.iter().all(|answer| answer.as_ref().is_some_and(|(_, behind)| !behind.contains(&node)));
        if caught_up && answers.len() == inner.replicas.len() && inner.connected(node) {
            tracing::info!(event = "node_active", node, "a node that joined has caught up");
            return propose(inner, ClusterCommand::PromoteNode { node }).await;
        }
    }
    for node in table.in_state(NodeState::Leaving) {
        if moving == 0 && !holds_data(inner, node) {
            tracing::info!(event = "node_removed", node, "a node holds nothing any more");
            return propose(inner, ClusterCommand::ForgetNode { node }).await;
        }
    }
    let room = MOVES_MAX.saturating_sub(moving);
    let (placed, planned) = planned(inner, &table, roster.rebalance, room.max(1));
    let moves: Vec<(ShardId, Vec<NodeId>)> =
        planned.into_iter().filter(|(shard, voters)| placed.get(shard) != Some(voters)).collect();
    if moves.is_empty() && moving == 0 && roster.rebalance {
        return propose(inner, ClusterCommand::Rebalance { wanted: false, replicas: 0 }).await;
    }
    for (shard, voters) in moves.into_iter().take(room) {
        propose(inner, ClusterCommand::Place { shard, voters }).await?;
    }
    Ok(())
}

/// What is, and what it should become within that many steps.
fn planned(inner: &Inner, table: &Table, even: bool, steps: usize) -> (Voters, Voters) {
    let nodes = candidates(table);
    let replicas = table.roster.map_or(1, |roster| usize::from(roster.replicas));
    let placed: Voters = inner.replicas.iter().map(|replica| (replica.shard, inner.voters(replica.shard))).collect();
    let violated = placed.iter().any(|(shard, voters)| plan::is_violated(*shard, voters, &nodes, replicas));
    let planned = if violated || even { plan::towards(&nodes, replicas, &placed, even, steps) } else { placed.clone() };
    (placed, planned)
}

fn candidates(table: &Table) -> Vec<Candidate> {
    let active = table.members.iter().filter(|member| member.state == NodeState::Active);
    active.map(|member| Candidate { id: member.id, zone: member.facts.zone.clone() }).collect()
}

fn wanted(inner: &Inner, table: &Table, shard: ShardId) -> Wanted {
    // A node that leaves stays in the metadata group until it holds nothing else: so it hears how far it is.
    let holds = |node: NodeId, state: NodeState| match state {
        NodeState::Joining | NodeState::Active => true,
        NodeState::Leaving => shard == ShardId::META || inner.voters(shard).contains(&node),
        NodeState::Removed => false,
    };
    let members =
        table.members.iter().filter(|member| holds(member.id, member.state)).map(|member| member.id).collect();
    Wanted { voters: table.placements.get(&shard).cloned().unwrap_or_default(), members }
}

/// Whether the node is a member of any shard besides the metadata group, or votes there.
fn holds_data(inner: &Inner, node: NodeId) -> bool {
    inner.replicas.iter().any(|replica| {
        let there = replica.members();
        if replica.shard == ShardId::META { there.voters.contains(&node) } else { there.members.contains(&node) }
    })
}

/// Which members of the shard lack entries, as its leader sees it; none if it cannot say, or if who holds the shard is
/// being changed.
pub(crate) async fn behind(inner: &Arc<Inner>, shard: ShardId) -> Option<BTreeSet<NodeId>> {
    let wanted = Wanted { voters: Vec::new(), ..wanted(inner, &inner.table(), shard) };
    let (settled, behind) = ask(inner, shard, wanted).await?;
    settled.then_some(behind)
}

/// Has the shard's leader take a step: whether it is settled, and who is behind.
async fn ask(inner: &Arc<Inner>, shard: ShardId, wanted: Wanted) -> Option<(bool, BTreeSet<NodeId>)> {
    let replica = inner.replica(shard)?;
    let leader = replica.leader()?;
    let response = if leader == inner.node {
        settle::serve(inner, replica, wanted).await
    } else {
        let Wanted { voters, members } = wanted;
        inner.lane(leader)?.call(Request::Settle { shard, voters, members }, PEER_TIMEOUT).await.ok()?
    };
    match response {
        Response::Settled { settled, behind } => Some((settled, behind)),
        Response::Failed(why) => {
            tracing::debug!(%shard, %why, "a shard did not take its step");
            None
        }
        _ => None,
    }
}

async fn propose(inner: &Arc<Inner>, command: ClusterCommand) -> Result<(), ProposeError> {
    let proposed = inner.submit(ShardId::META, Command::Cluster(command)).await?;
    // What is decided next must see it.
    if let Some(replica) = inner.replica(ShardId::META) {
        replica.wait_applied(proposed.index, PEER_TIMEOUT).await?;
    }
    inner.read_table();
    Ok(())
}

/// A change of a shard's voters, in the order in which they should lead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedMove {
    pub shard: ShardId,
    pub from: Vec<NodeId>,
    pub to: Vec<NodeId>,
}

/// The moves that are to come, were everything to be spread evenly.
pub(crate) fn moves(inner: &Inner) -> Vec<PlannedMove> {
    let (placed, planned) = planned(inner, &inner.table(), true, usize::MAX);
    let moved = planned.into_iter().filter_map(|(shard, to)| {
        let from = placed.get(&shard)?.clone();
        (from != to).then_some(PlannedMove { shard, from, to })
    });
    moved.collect()
}
