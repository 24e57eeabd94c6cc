//! Whether this node can be away for a while, and its turn to be. A node that compacts its database stops: nobody may
//! notice, and so no other node may be away at the same time. The turn is on record in the metadata group.

use std::collections::BTreeSet;
use std::sync::Arc;

use chat::command::{ClusterCommand, Command, Outcome};
use chat::errors::ErrorCode;
use chat::ids::{NodeId, ShardId};
use chat::state::query;
use chat::state::record::Turn;
use futures_util::future::join_all;

use crate::cluster::{Cluster, Inner};
use crate::placement;
use crate::proposer::ProposeError;

/// Why this node cannot be away now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    #[error("shard {shard} has no majority without this node")]
    Needed { shard: ShardId },
    #[error("node {node} cannot be reached")]
    Unreachable { node: NodeId },
    #[error("node {node} rests or leaves")]
    Resting { node: NodeId },
    #[error("node {node} does not have all of shard {shard} yet")]
    Behind { shard: ShardId, node: NodeId },
    #[error("shard {shard} has no leader that answers, or who votes in it is being changed")]
    Unsettled { shard: ShardId },
    #[error("it is the turn of node {node}")]
    Taken { node: NodeId },
    #[error("the turn was not given: {}", code.name())]
    Refused { code: ErrorCode },
    #[error("the turn was not given: {0}")]
    Undecided(ProposeError),
}

/// What this node sees of a shard that it votes in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    shard: ShardId,
    /// All that vote, this node included.
    voters: BTreeSet<NodeId>,
    joint: bool,
}

/// What the connections to the other nodes say.
struct Around<'a> {
    own: NodeId,
    connected: &'a dyn Fn(NodeId) -> bool,
    leaving: &'a dyn Fn(NodeId) -> bool,
}

impl Around<'_> {
    /// What is in the way, as far as this node sees by itself.
    fn obstacle(&self, seen: &Seen) -> Option<NotNow> {
        let shard = seen.shard;
        if seen.joint {
            return Some(NotNow::Unsettled { shard });
        }
        let others = || seen.voters.iter().copied().filter(|node| *node != self.own);
        if others().count() < seen.voters.len() / 2 + 1 {
            return Some(NotNow::Needed { shard });
        }
        let mut others = others();
        others.find_map(|node| match ((self.connected)(node), (self.leaving)(node)) {
            (false, _) => Some(NotNow::Unreachable { node }),
            (true, true) => Some(NotNow::Resting { node }),
            (true, false) => None,
        })
    }
}

impl Cluster {
    /// Whether every shard that this node votes in goes on without it: all others that vote there are reached and have
    /// what there is.
    pub async fn can_go(&self) -> Result<(), NotNow> {
        can_go(&self.inner).await
    }

    /// Makes it this node's turn to be away, for `for_ms` at most.
    pub async fn take_turn(&self, for_ms: u64) -> Result<(), NotNow> {
        let node = self.node();
        let command = Command::Cluster(ClusterCommand::TakeTurn { node, for_ms });
        let proposed = self.submit(ShardId::META, command).await.map_err(NotNow::Undecided)?;
        match proposed.outcome {
            Outcome::Applied { .. } => Ok(()),
            Outcome::Rejected(code) => {
                self.wait_applied(ShardId::META, proposed.index).await.map_err(NotNow::Undecided)?;
                let holder = self.turn().filter(|_| code == ErrorCode::LimitReached).map(|turn| turn.node);
                Err(holder.map_or(NotNow::Refused { code }, |node| NotNow::Taken { node }))
            }
        }
    }

    /// Gives the turn back, if it is this node's.
    pub async fn end_turn(&self) -> Result<(), ProposeError> {
        let command = Command::Cluster(ClusterCommand::EndTurn { node: self.node() });
        self.submit(ShardId::META, command).await.map(drop)
    }

    /// Whose turn it is, as far as this node has heard; it may be over.
    pub fn turn(&self) -> Option<Turn> {
        // What cannot be read is repaired, and read again.
        query::turn(&self.view(ShardId::META)?).ok().flatten()
    }
}

/// The shards that this node votes in, unless it sees by itself that it cannot go.
fn votes(inner: &Inner) -> Result<Vec<Seen>, NotNow> {
    let connected = |node| inner.connected(node);
    let leaving = |node| inner.leaving.contains(node);
    let around = Around { own: inner.node, connected: &connected, leaving: &leaving };
    let seen: Vec<Seen> = inner
        .replicas
        .iter()
        .map(|replica| {
            let members = replica.members();
            Seen { shard: replica.shard, voters: members.voters, joint: members.joint }
        })
        .filter(|seen| seen.voters.contains(&inner.node))
        .collect();
    seen.iter().find_map(|seen| around.obstacle(seen)).map_or(Ok(seen), Err)
}

async fn can_go(inner: &Arc<Inner>) -> Result<(), NotNow> {
    let seen = votes(inner)?;
    let behind = join_all(seen.iter().map(|seen| placement::behind(inner, seen.shard))).await;
    for (Seen { shard, voters, .. }, behind) in seen.into_iter().zip(behind) {
        let behind = behind.ok_or(NotNow::Unsettled { shard })?;
        if let Some(node) = voters.into_iter().find(|node| behind.contains(node)) {
            return Err(NotNow::Behind { shard, node });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn obstacle(voters: &[NodeId], connected: &[NodeId], leaving: &[NodeId]) -> Option<NotNow> {
        let (connected, leaving) = (|node| connected.contains(&node), |node| leaving.contains(&node));
        let around = Around { own: 1, connected: &connected, leaving: &leaving };
        around.obstacle(&Seen { shard: ShardId(3), voters: voters.iter().copied().collect(), joint: false })
    }

    #[test]
    fn a_node_goes_only_if_a_majority_stays() {
        let needed = Some(NotNow::Needed { shard: ShardId(3) });
        assert_eq!(obstacle(&[1], &[], &[]), needed);
        assert_eq!(obstacle(&[1, 2], &[2], &[]), needed);
        assert_eq!(obstacle(&[1, 2, 3], &[2, 3], &[]), None);
        assert_eq!(obstacle(&[1, 2, 3, 4], &[2, 3, 4], &[]), None);
    }

    #[test]
    fn everybody_else_must_be_there_and_not_about_to_go() {
        assert_eq!(obstacle(&[1, 2, 3], &[2], &[]), Some(NotNow::Unreachable { node: 3 }));
        assert_eq!(obstacle(&[1, 2, 3], &[2, 3], &[3]), Some(NotNow::Resting { node: 3 }));
        let all = (1..=5).collect::<Vec<NodeId>>();
        assert_eq!(obstacle(&all, &[2, 3, 5], &[]), Some(NotNow::Unreachable { node: 4 }), "a majority is not enough");
    }

    #[test]
    fn nobody_goes_while_who_votes_is_being_changed() {
        let yes = |_| true;
        let no = |_| false;
        let around = Around { own: 1, connected: &yes, leaving: &no };
        let seen = Seen { shard: ShardId(3), voters: [1, 2, 3].into(), joint: true };
        assert_eq!(around.obstacle(&seen), Some(NotNow::Unsettled { shard: ShardId(3) }));
    }
}
