//! One shard's way to the voters it should have, a step at a time: learners first, then voters added, then leadership
//! handed over, then voters taken away, then members that are gone. Each step is decided from what is there, so that
//! whoever leads after a crash goes on where the one before stopped.

use std::collections::BTreeSet;

use chat::ids::NodeId;
use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::RaftError;

use crate::balance::LAG;
use crate::cluster::Inner;
use crate::peer::message::{Failure, Response};
use crate::replica::Replica;

/// What a shard should be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// In the order in which they should lead; empty to leave the voters as they are.
    pub(crate) voters: Vec<NodeId>,
    /// Everybody who holds a replica.
    pub(crate) members: BTreeSet<NodeId>,
}

/// What a shard is like, as its leader knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Present {
    pub(crate) leader: NodeId,
    pub(crate) voters: BTreeSet<NodeId>,
    pub(crate) members: BTreeSet<NodeId>,
    /// A change of voters was begun and not finished.
    pub(crate) joint: bool,
    /// Members that lack no more entries than they get within moments.
    pub(crate) up_to_date: BTreeSet<NodeId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing is left to do.
    Settled,
    /// Whoever is to vote does not yet have what the others have.
    Wait,
    AddLearner(NodeId),
    SetVoters(BTreeSet<NodeId>),
    HandOver(NodeId),
    RemoveMembers(BTreeSet<NodeId>),
}

pub(crate) fn next_step(present: &Present, wanted: &Wanted) -> Step {
    if let Some(node) = wanted.members.iter().find(|node| !present.members.contains(node)) {
        return Step::AddLearner(*node);
    }
    let voters: BTreeSet<NodeId> = wanted.voters.iter().copied().collect();
    if present.joint {
        // First of all the change that was begun: only then another may follow.
        return Step::SetVoters(present.voters.clone());
    }
    if !voters.is_empty() && voters != present.voters {
        let added: BTreeSet<NodeId> = voters.difference(&present.voters).copied().collect();
        if !added.is_subset(&present.up_to_date) {
            return Step::Wait;
        }
        if !added.is_empty() {
            return Step::SetVoters(&present.voters | &voters);
        }
        if !voters.contains(&present.leader) {
            let successor = wanted.voters.iter().find(|node| present.up_to_date.contains(node));
            return successor.map_or(Step::Wait, |node| Step::HandOver(*node));
        }
        return Step::SetVoters(voters);
    }
    let gone: BTreeSet<NodeId> =
        present.members.difference(&wanted.members).filter(|node| !present.voters.contains(node)).copied().collect();
    if gone.is_empty() { Step::Settled } else { Step::RemoveMembers(gone) }
}

fn present(inner: &Inner, replica: &Replica) -> Present {
    let metrics = replica.raft.metrics().borrow_watched().clone();
    let membership = metrics.membership_config.membership();
    let last = metrics.last_log_index.unwrap_or(0);
    let matched = metrics.replication.unwrap_or_default();
    let up_to_date = |node: &NodeId| {
        *node == inner.node || matched.get(node).is_some_and(|at| at.map_or(0, |id| id.index) + LAG >= last)
    };
    let members: BTreeSet<NodeId> = membership.nodes().map(|(node, _)| *node).collect();
    Present {
        leader: inner.node,
        voters: membership.get_joint_config().last().cloned().unwrap_or_default(),
        joint: membership.get_joint_config().len() > 1,
        up_to_date: members.iter().copied().filter(up_to_date).collect(),
        members,
    }
}

/// Takes the next step of a shard that this node leads, and says who is behind.
pub(crate) async fn serve(inner: &Inner, replica: &Replica, wanted: Wanted) -> Response {
    if replica.leader() != Some(inner.node) {
        return Response::Failed(Failure::NotLeader { leader: replica.leader() });
    }
    // One change at a time; whoever asked will ask again.
    let Ok(_changing) = replica.changing.try_lock() else { return Response::Failed(Failure::Overloaded) };
    let present = present(inner, replica);
    let step = next_step(&present, &wanted);
    let behind = wanted.members.difference(&present.up_to_date).copied().collect();
    let settled = step == Step::Settled;
    if !matches!(step, Step::Settled | Step::Wait) {
        tracing::info!(event = "placement", shard = %replica.shard, ?step, "changing who holds the shard");
    }
    match take(replica, step).await {
        Ok(()) => Response::Settled { settled, behind },
        Err(error) => Response::Failed(Failure::Fault(error)),
    }
}

async fn take(replica: &Replica, step: Step) -> Result<(), String> {
    let change = match step {
        Step::Settled | Step::Wait => return Ok(()),
        Step::HandOver(to) => {
            replica.hand_over(to).await;
            return Ok(());
        }
        Step::AddLearner(node) => ChangeMembers::AddNodes([(node, openraft::EmptyNode {})].into()),
        Step::SetVoters(voters) => ChangeMembers::ReplaceAllVoters(voters),
        Step::RemoveMembers(nodes) => ChangeMembers::RemoveNodes(nodes),
    };
    replica.renew_lease().await;
    match replica.raft.change_membership(change, true).await {
        Ok(_) => Ok(()),
        Err(RaftError::APIError(error)) => Err(error.to_string()),
        Err(RaftError::Fatal(error)) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(nodes: &[NodeId]) -> BTreeSet<NodeId> {
        nodes.iter().copied().collect()
    }

    fn wanted(voters: &[NodeId], members: &[NodeId]) -> Wanted {
        Wanted { voters: voters.to_vec(), members: set(members) }
    }

    /// Carries the steps out on paper; what was done.
    fn walk(mut present: Present, wanted: &Wanted) -> Vec<Step> {
        let mut steps = Vec::new();
        loop {
            let step = next_step(&present, wanted);
            match &step {
                Step::Settled | Step::Wait => return steps,
                Step::AddLearner(node) => {
                    present.members.insert(*node);
                    present.up_to_date.insert(*node);
                }
                Step::SetVoters(voters) => {
                    assert!(voters.is_subset(&present.members), "{voters:?}");
                    assert!(!voters.is_empty() && voters.contains(&present.leader));
                    (present.voters, present.joint) = (voters.clone(), false);
                }
                Step::HandOver(to) => {
                    assert!(present.voters.contains(to) && present.up_to_date.contains(to));
                    present.leader = *to;
                }
                Step::RemoveMembers(nodes) => {
                    assert!(nodes.is_disjoint(&present.voters));
                    present.members = &present.members - nodes;
                }
            }
            steps.push(step);
            assert!(steps.len() < 20, "{steps:?}");
        }
    }

    fn at(leader: NodeId, voters: &[NodeId], members: &[NodeId]) -> Present {
        Present { leader, voters: set(voters), members: set(members), joint: false, up_to_date: set(members) }
    }

    #[test]
    fn a_shard_moves_from_one_node_to_another_without_being_left_alone() {
        let steps = walk(at(1, &[1], &[1, 2]), &wanted(&[2], &[2]));
        assert_eq!(
            steps,
            [
                Step::SetVoters(set(&[1, 2])),
                Step::HandOver(2),
                Step::SetVoters(set(&[2])),
                Step::RemoveMembers(set(&[1])),
            ]
        );
    }

    #[test]
    fn a_new_member_learns_before_it_votes() {
        let mut present = at(1, &[1], &[1]);
        assert_eq!(next_step(&present, &wanted(&[1, 2], &[1, 2])), Step::AddLearner(2));
        present.members.insert(2);
        assert_eq!(next_step(&present, &wanted(&[1, 2], &[1, 2])), Step::Wait);
        assert_eq!(next_step(&present, &wanted(&[], &[1, 2])), Step::Settled, "its voters are not to change");
        present.up_to_date.insert(2);
        assert_eq!(next_step(&present, &wanted(&[1, 2], &[1, 2])), Step::SetVoters(set(&[1, 2])));
    }

    #[test]
    fn a_change_that_was_left_half_done_is_finished_first() {
        let present = Present { joint: true, ..at(1, &[1, 2], &[1, 2, 3]) };
        assert_eq!(next_step(&present, &wanted(&[1, 2, 3], &[1, 2, 3])), Step::SetVoters(set(&[1, 2])));
    }

    #[test]
    fn from_everywhere_to_everywhere_each_step_is_allowed_and_it_ends() {
        let subsets: Vec<Vec<NodeId>> =
            (1..16u64).map(|bits| (1..=4).filter(|node| bits >> (node - 1) & 1 == 1).collect()).collect();
        for from in &subsets {
            for to in &subsets {
                for leader in from {
                    walk(at(*leader, from, &[1, 2, 3, 4]), &wanted(to, to));
                }
            }
        }
    }
}
