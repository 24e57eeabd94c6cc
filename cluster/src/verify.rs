//! Whether the replicas of a shard are equal: an entry of the log tells each of them to make a digest of its state as it
//! is right after that entry, and the digests are compared.
//!
//! The leader does so now and then for each shard ([`run`]), an operator whenever they like ([`verify`]). What most
//! replicas agree on counts; a replica that has something else is told, and says so in its status.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chat::command::Command;
use chat::ids::{NodeId, ShardId};
use chat::limits::{DIGEST_TIMEOUT_MS, VERIFY_EVERY_MS};
use futures_util::future::join_all;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use storage::{FrozenState, StateDigest, hex};
use tokio::sync::watch;

use crate::cluster::Inner;
use crate::peer::message::{Request, Response};
use crate::proposer::{ProposeError, Proposed};
use crate::repair::Health;
use crate::replica::Replica;

/// How long the digest of a state may take to make.
const DIGEST_TIMEOUT: Duration = Duration::from_millis(DIGEST_TIMEOUT_MS);
/// Newest digests of a replica that are kept for whoever asks.
const KEPT: usize = 4;

type Digest = [u8; 32];

/// One replica's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    pub node: NodeId,
    /// Hexadecimal; none if the node did not answer in time.
    pub digest: Option<String>,
    pub records: Option<u64>,
}

/// What comparing a shard's replicas came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    pub shard: ShardId,
    /// The entry after which the digests were made.
    pub index: u64,
    pub replicas: Vec<Compared>,
    /// What most replicas have; none if no majority agrees.
    pub agreed: Option<String>,
}

impl Comparison {
    /// Replicas that have something else than what most agree on.
    pub fn divergent(&self) -> Vec<NodeId> {
        let differs = |replica: &&Compared| replica.digest.is_some() && replica.digest != self.agreed;
        self.replicas.iter().filter(differs).map(|replica| replica.node).collect()
    }

    /// Replicas that did not answer.
    pub fn silent(&self) -> Vec<NodeId> {
        self.replicas.iter().filter(|replica| replica.digest.is_none()).map(|replica| replica.node).collect()
    }
}

/// The digests that a replica has made, and the verdict on them.
#[derive(Default)]
pub(crate) struct Digests {
    made: Mutex<VecDeque<(u64, StateDigest)>>,
    newest: watch::Sender<u64>,
    /// The entry after which this replica was found to differ from the others.
    diverged: Mutex<Option<u64>>,
}

impl Digests {
    /// Makes the digest of the state after entry `index`, beside what goes on.
    pub(crate) fn make(self: &Arc<Self>, index: u64, state: FrozenState, health: &Arc<Health>) {
        let (digests, health) = (self.clone(), health.clone());
        tokio::task::spawn_blocking(move || match health.seen(state.digest()) {
            Ok(Some(digest)) => digests.keep(index, digest),
            // Another state was installed: whoever asks goes without.
            Ok(None) => {}
            Err(error) => tracing::error!(%error, index, "a digest of the state could not be made"),
        });
    }

    fn keep(&self, index: u64, digest: StateDigest) {
        let mut made = self.made.lock();
        made.push_back((index, digest));
        if made.len() > KEPT {
            made.pop_front();
        }
        drop(made);
        self.newest.send_if_modified(|newest| {
            let newer = index > *newest;
            *newest = index.max(*newest);
            newer
        });
    }

    fn at(&self, index: u64) -> Option<StateDigest> {
        self.made.lock().iter().find(|(at, _)| *at == index).map(|(_, digest)| *digest)
    }

    /// The digest after entry `index`, once it is made.
    pub(crate) async fn wait(&self, index: u64) -> Option<StateDigest> {
        let mut newest = self.newest.subscribe();
        let made = tokio::time::timeout(DIGEST_TIMEOUT, newest.wait_for(|newest| *newest >= index)).await;
        made.ok()?.ok()?;
        self.at(index)
    }

    /// The state was rebuilt as it is after entry `index`.
    pub(crate) fn rebuilt(&self, index: u64, digest: StateDigest) {
        *self.diverged.lock() = None;
        self.keep(index, digest);
    }

    /// What most replicas have after entry `index`.
    pub(crate) fn judge(&self, health: &Health, shard: ShardId, index: u64, agreed: Digest) {
        let Some(own) = self.at(index) else { return };
        let mut diverged = self.diverged.lock();
        if own.digest == agreed {
            *diverged = None;
        } else {
            tracing::error!(event = "replica_divergent", %shard, index, "this replica differs from the others");
            *diverged = Some(index);
            health.quarantine(index);
        }
    }

    pub(crate) fn diverged(&self) -> Option<u64> {
        *self.diverged.lock()
    }
}

/// Compares the replicas of a shard, from any node.
pub(crate) async fn verify(inner: &Inner, shard: ShardId) -> Result<Comparison, ProposeError> {
    let Proposed { index, .. } = inner.submit(shard, Command::Compare).await?;
    let members: Vec<NodeId> = inner.table().ids().collect();
    let asked = members.iter().map(|node| async move { (*node, digest_of(inner, *node, shard, index).await) });
    let digests: Vec<(NodeId, Option<(Digest, u64)>)> = join_all(asked).await;
    let found: Vec<Digest> = digests.iter().filter_map(|(_, digest)| Some(digest.as_ref()?.0)).collect();
    let agreed = majority(&found, members.len());
    if let Some(agreed) = agreed {
        join_all(members.iter().map(|node| tell(inner, *node, shard, index, agreed))).await;
    }
    let compared = |(node, digest): (NodeId, Option<(Digest, u64)>)| Compared {
        node,
        digest: digest.map(|(digest, _)| hex(&digest)),
        records: digest.map(|(_, records)| records),
    };
    let replicas = digests.into_iter().map(compared).collect();
    Ok(Comparison { shard, index, replicas, agreed: agreed.map(|digest| hex(&digest)) })
}

pub(crate) async fn digest_of(inner: &Inner, node: NodeId, shard: ShardId, index: u64) -> Option<(Digest, u64)> {
    if node == inner.node {
        let made = inner.replica(shard)?.digests.wait(index).await?;
        return Some((made.digest, made.records));
    }
    match inner.lane(node)?.call(Request::Digest { shard, index }, DIGEST_TIMEOUT).await {
        Ok(Response::Digest { digest, records }) => Some((digest, records)),
        _ => None,
    }
}

/// Tells a replica what most have. Whoever does not hear of it hears of the next comparison.
async fn tell(inner: &Inner, node: NodeId, shard: ShardId, index: u64, agreed: Digest) {
    if node == inner.node {
        if let Some(replica) = inner.replica(shard) {
            replica.digests.judge(&replica.health, shard, index, agreed);
        }
    } else if let Some(lane) = inner.lane(node) {
        let _ = lane.call(Request::Agreed { shard, index, digest: agreed }, DIGEST_TIMEOUT).await;
    }
}

/// The digest that more than half of `members` have.
fn majority(found: &[Digest], members: usize) -> Option<Digest> {
    let votes = |digest: &Digest| found.iter().filter(|other| *other == digest).count();
    found.iter().find(|digest| votes(digest) * 2 > members).copied()
}

/// Compares the replicas of the shards that this node leads, one after the other.
pub(crate) async fn run(inner: Arc<Inner>) {
    let shards = inner.replicas.len().max(1) as u32;
    // Each shard has its turn once in that time.
    let mut clock = tokio::time::interval(Duration::from_millis(VERIFY_EVERY_MS) / shards);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    clock.tick().await;
    loop {
        for replica in &inner.replicas {
            clock.tick().await;
            if replica.leader() == Some(inner.node) {
                compare(&inner, replica).await;
            }
        }
    }
}

async fn compare(inner: &Inner, replica: &Replica) {
    let shard = replica.shard;
    match verify(inner, shard).await {
        Ok(comparison) if comparison.divergent().is_empty() => {
            tracing::debug!(%shard, index = comparison.index, silent = ?comparison.silent(), "the replicas are equal");
        }
        Ok(comparison) => {
            let divergent = comparison.divergent();
            tracing::error!(event = "replica_divergent", %shard, index = comparison.index, ?divergent, "replicas differ");
        }
        Err(error) => tracing::warn!(%shard, %error, "the replicas were not compared"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_more_than_half_of_all_members_have_is_agreed() {
        let [a, b] = [[1; 32], [2; 32]];
        assert_eq!(majority(&[a, b, a], 3), Some(a));
        assert_eq!(majority(&[b, a, a], 3), Some(a));
        assert_eq!(majority(&[a], 1), Some(a));
        assert_eq!(majority(&[a, b], 3), None);
        assert_eq!(majority(&[a], 3), None);
        assert_eq!(majority(&[a, a], 4), None);
    }

    #[test]
    fn who_differs_and_who_is_silent_is_named() {
        let replica = |node, digest: Option<&str>| Compared { node, digest: digest.map(str::to_owned), records: None };
        let comparison = |agreed: Option<&str>| Comparison {
            shard: ShardId(1),
            index: 9,
            replicas: vec![replica(1, Some("aa")), replica(2, Some("bb")), replica(3, None)],
            agreed: agreed.map(str::to_owned),
        };
        assert_eq!((comparison(Some("aa")).divergent(), comparison(Some("aa")).silent()), (vec![2], vec![3]));
        assert_eq!(comparison(None).divergent(), [1, 2], "without a majority nobody is right");
    }
}
