//! A replica's state is rebuilt from another replica's.

use std::sync::Arc;
use std::time::Duration;

use chat::command::Command;
use chat::ids::NodeId;
use chat::limits::{DIGEST_TIMEOUT_MS, PEER_TIMEOUT_MS, REPAIR_PART_TIMEOUT_MS, REPAIR_PARTS};
use futures_util::future::join_all;
use storage::{Applied, SnapshotChunk, StagedState, StateDigest, StorageError};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::core::is_trusted;
use crate::cluster::Inner;
use crate::leave;
use crate::peer::PEER_TIMEOUT;
use crate::peer::message::{Request, Response};
use crate::proposer::ProposeError;
use crate::replica::Replica;
use crate::verify;

/// A part may take as long as the source waits for it, and its way here.
const PART_TIMEOUT: Duration = Duration::from_millis(REPAIR_PART_TIMEOUT_MS + PEER_TIMEOUT_MS);
/// How long the log may take to get the entry after which the copy was made.
const LOG_TIMEOUT: Duration = Duration::from_millis(DIGEST_TIMEOUT_MS);
/// Between two looks at the log.
const LOOK: Duration = Duration::from_millis(20);
/// Another node has this long to take over the leadership.
const RESIGN: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub(super) enum NotRebuilt {
    #[error("no other replica can be reached")]
    NoSource,
    #[error("this node leads the shard, and no other takes over")]
    Leads,
    #[error("node {node} gave no copy of its state")]
    NoCopy { node: NodeId },
    #[error("what came from node {node} is not what it sent")]
    Changed { node: NodeId },
    #[error("the replicas do not agree with node {node} after entry {index}")]
    NotTrusted { node: NodeId, index: u64 },
    #[error("the log does not have entry {index} yet")]
    LogBehind { index: u64 },
    #[error("the replicas could not be compared: {0}")]
    Propose(#[from] ProposeError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Takes the state of one of the others after one has agreed with the rest. Nothing is applied meanwhile.
pub(super) async fn rebuild(inner: &Arc<Inner>, replica: &Replica) -> Result<(), NotRebuilt> {
    let sources: Vec<NodeId> = inner.table().ids().filter(|id| *id != inner.node).collect();
    let mut last = NotRebuilt::NoSource;
    for node in sources.into_iter().filter(|node| inner.connected(*node)) {
        give_up_leadership(inner, replica).await?;
        match rebuild_from(inner, replica, node).await {
            Ok(()) => return Ok(()),
            Err(error) => {
                let shard = replica.shard;
                tracing::warn!(event = "rebuild_failed", %shard, source = node, %error, "the state was not rebuilt");
                last = error;
            }
        }
    }
    Err(last)
}

/// A leader that applies nothing answers nobody.
async fn give_up_leadership(inner: &Arc<Inner>, replica: &Replica) -> Result<(), NotRebuilt> {
    let begun = Instant::now();
    let mut attempts = 0;
    while replica.leader() == Some(inner.node) {
        let candidates = leave::candidates(inner, replica);
        let successor = leave::successor(&candidates, replica.shard, attempts).ok_or(NotRebuilt::Leads)?;
        if begun.elapsed() > RESIGN || !replica.hand_over(successor).await {
            return Err(NotRebuilt::Leads);
        }
        attempts += 1;
        let attempt = Instant::now();
        while replica.leader() == Some(inner.node) && attempt.elapsed() < RESIGN / 4 {
            sleep(LOOK).await;
        }
    }
    Ok(())
}

async fn rebuild_from(inner: &Arc<Inner>, replica: &Replica, node: NodeId) -> Result<(), NotRebuilt> {
    let shard = replica.shard;
    let _gate = replica.health.gate.lock().await;
    let begun = Instant::now();
    let lane = inner.lane(node).ok_or(NotRebuilt::NoSource)?;
    match lane.call(Request::WishState { shard }, PEER_TIMEOUT).await {
        Ok(Response::Heard) => {}
        _ => return Err(NotRebuilt::NoCopy { node }),
    }
    // Every replica makes a digest after this entry, and the source its copy.
    inner.submit(shard, Command::Compare).await?;
    let (staged, sent) = receive(inner, replica, node).await?;
    let digest = staged.digest();
    if digest != sent {
        return Err(NotRebuilt::Changed { node });
    }
    let index = digest.applied.map_or(0, |position| position.index);
    let members: Vec<NodeId> = inner.table().ids().collect();
    let others = members.iter().filter(|node| **node != inner.node);
    let others = join_all(others.map(|node| verify::digest_of(inner, *node, shard, index))).await;
    let others: Vec<[u8; 32]> = others.into_iter().flatten().map(|(digest, _)| digest).collect();
    if !is_trusted(digest.digest, &others, members.len()) {
        return Err(NotRebuilt::NotTrusted { node, index });
    }
    wait_for_log(replica, &digest, index).await?;
    tokio::task::spawn_blocking(move || staged.replace()).await.map_err(|_| StorageError::Closed)??;
    replica.health.state_replaced(index);
    replica.digests.rebuilt(index, digest);
    let (records, elapsed) = (digest.records, begun.elapsed());
    tracing::warn!(event = "replica_rebuilt", %shard, source = node, index, records, ?elapsed, "the state was rebuilt");
    Ok(())
}

/// Stages the source's copy as it comes. Also what the source says that it comes to.
async fn receive(
    inner: &Arc<Inner>,
    replica: &Replica,
    node: NodeId,
) -> Result<(StagedState, StateDigest), NotRebuilt> {
    let (applied, first) = part(inner, replica, node, 0).await?;
    let (pieces, mut waiting) = mpsc::channel(REPAIR_PARTS);
    let state = replica.state.clone();
    let staging =
        tokio::task::spawn_blocking(move || state.stage(applied, std::iter::from_fn(move || waiting.blocking_recv())));
    let mut next = Ok(first);
    let mut number = 0;
    let sent = loop {
        match next {
            Ok(Received::Pairs(pairs)) => {
                // The writer has failed: it says why.
                if pieces.send(Ok(pairs)).await.is_err() {
                    break Err(NotRebuilt::NoCopy { node });
                }
                number += 1;
                next = part(inner, replica, node, number).await.map(|(_, part)| part);
            }
            Ok(Received::End(digest)) => break Ok(digest),
            Err(error) => {
                let reason = error.to_string();
                // The same.
                let _ = pieces.send(Err(StorageError::Source { reason })).await;
                break Err(error);
            }
        }
    };
    drop(pieces);
    let staged = staging.await.map_err(|_| StorageError::Closed)??;
    Ok((staged, sent?))
}

enum Received {
    Pairs(Vec<(bytes::Bytes, bytes::Bytes)>),
    End(StateDigest),
}

async fn part(
    inner: &Arc<Inner>,
    replica: &Replica,
    node: NodeId,
    number: u64,
) -> Result<(Applied, Received), NotRebuilt> {
    let lane = inner.lane(node).ok_or(NotRebuilt::NoSource)?;
    match lane.call(Request::StatePart { shard: replica.shard, number }, PART_TIMEOUT).await {
        Ok(Response::StatePart { applied, chunk: Some(SnapshotChunk::State(pairs)), .. }) => {
            Ok((applied, Received::Pairs(pairs)))
        }
        Ok(Response::StatePart { applied, digest: Some(digest), .. }) => Ok((applied, Received::End(digest))),
        _ => Err(NotRebuilt::NoCopy { node }),
    }
}

/// A state ahead of its log would count as applied what this log may not have.
async fn wait_for_log(replica: &Replica, digest: &StateDigest, index: u64) -> Result<(), NotRebuilt> {
    let begun = Instant::now();
    loop {
        let last = replica.log.bounds().last;
        if last.is_some_and(|last| last.index >= index) {
            let log = replica.log.clone();
            let found = tokio::task::spawn_blocking(move || log.get(index)).await.map_err(|_| StorageError::Closed)?;
            match replica.health.seen(found)? {
                Some(record) if Some(record.position) == digest.applied => return Ok(()),
                // The leader replaces it.
                Some(_) | None => {}
            }
        }
        if begun.elapsed() > LOG_TIMEOUT {
            return Err(NotRebuilt::LogBehind { index });
        }
        sleep(LOOK).await;
    }
}
