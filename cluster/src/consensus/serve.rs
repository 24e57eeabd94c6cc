//! A peer's Raft requests, given to the shard's openraft.

use std::time::Instant;

use chat::ids::NodeId;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest};
use storage::{Applied, LogPosition, SnapshotChunk, SnapshotMeta, StateStore};
use tokio::sync::Mutex;

use super::log_store::blocking;
use super::state_machine::{RaftSnapshot, ShardState, snapshot_meta};
use super::types::{Types, Vote, VoteRecord, entry_of, log_id_of, position_of};
use crate::peer::message::{Append, Appended, Failure, Response};

pub(crate) type Raft = openraft::Raft<Types, ShardState>;

fn fault(error: impl std::fmt::Display) -> Response {
    Response::Failed(Failure::Fault(error.to_string()))
}

pub(crate) async fn append(raft: &Raft, append: Append) -> Response {
    let entries = append.records.iter().map(entry_of).collect::<Result<Vec<_>, _>>();
    let entries = match entries {
        Ok(entries) => entries,
        Err(error) => return fault(error),
    };
    let request = AppendEntriesRequest {
        vote: append.vote.into(),
        prev_log_id: append.previous.map(log_id_of),
        entries,
        leader_commit: append.committed.map(log_id_of),
    };
    Response::Append(match raft.append_entries(request).await {
        Ok(AppendEntriesResponse::Success) => Appended::Success,
        Ok(AppendEntriesResponse::PartialSuccess(id)) => Appended::Partial(id.as_ref().map(position_of)),
        Ok(AppendEntriesResponse::Conflict) => Appended::Conflict,
        Ok(AppendEntriesResponse::HigherVote(vote)) => Appended::HigherVote(VoteRecord::from(&vote)),
        Err(error) => return fault(error),
    })
}

pub(crate) async fn vote(
    raft: &Raft,
    vote: VoteRecord,
    last: Option<LogPosition>,
    transfer: bool,
    pre: bool,
) -> Response {
    let mut request = VoteRequest::new(Vote::from(vote), last.map(log_id_of));
    request.leadership_transfer = transfer;
    let answer = if pre { raft.pre_vote(request).await } else { raft.vote(request).await };
    match answer {
        Ok(answer) => Response::Vote {
            vote: VoteRecord::from(&answer.vote),
            granted: answer.vote_granted,
            last: answer.last_log_id.as_ref().map(position_of),
        },
        Err(error) => fault(error),
    }
}

pub(crate) async fn transfer(raft: &Raft, from: VoteRecord, to: NodeId, last: Option<LogPosition>) -> Response {
    let request = TransferLeaderRequest::new(Vote::from(from), to, last.map(log_id_of));
    match raft.handle_transfer_leader(request).await {
        Ok(Ok(())) => Response::Transfer(true),
        Ok(Err(_)) => Response::Transfer(false),
        Err(error) => fault(error),
    }
}

/// A snapshot arriving chunk by chunk. It is given to openraft only when it is complete,
/// because a source that fails half way would count as a storage fault there.
#[derive(Default)]
pub(crate) struct Spool {
    /// Locked while a chunk is put away: they come one after the other.
    arriving: Mutex<Option<Arriving>>,
}

struct Arriving {
    id: String,
    vote: VoteRecord,
    chunks: storage::Arriving,
    bytes: usize,
    started: Instant,
}

pub(crate) struct SnapshotPart {
    pub(crate) vote: VoteRecord,
    pub(crate) applied: Applied,
    pub(crate) id: String,
    pub(crate) number: u64,
    pub(crate) chunk: Option<SnapshotChunk>,
}

pub(crate) async fn snapshot(raft: &Raft, spool: &Spool, state: &StateStore, part: SnapshotPart) -> Response {
    let (vote, meta) = (part.vote, snapshot_meta(&part.applied));
    let source = match spool.take(state, part).await {
        Ok(Some(source)) => source,
        Ok(None) => return Response::SnapshotChunk,
        Err(reason) => return fault(reason),
    };
    let meta = match meta {
        Ok(meta) => meta,
        Err(error) => return fault(error),
    };
    match raft.install_full_snapshot(Vote::from(vote), RaftSnapshot { meta, snapshot: Box::new(source) }).await {
        Ok(answer) => Response::Snapshot { vote: VoteRecord::from(&answer.vote) },
        Err(error) => fault(error),
    }
}

impl Spool {
    /// Takes one part; gives all of them back once the last has come.
    async fn take(&self, state: &StateStore, part: SnapshotPart) -> Result<Option<storage::Arriving>, String> {
        let SnapshotPart { vote, applied, id, number, chunk } = part;
        let mut slot = self.arriving.lock().await;
        if number == 0 {
            let chunks = state.receive(SnapshotMeta { applied, id: id.clone() });
            *slot = Some(Arriving { id: id.clone(), vote, chunks, bytes: 0, started: Instant::now() });
        }
        // Whatever goes wrong, the next one begins anew.
        let mut arriving = slot.take().ok_or("a snapshot must start with its first chunk")?;
        if arriving.id != id || arriving.vote != vote || u64::from(arriving.chunks.chunks()) != number {
            return Err("the chunk does not follow the one before".to_owned());
        }
        let last = chunk.is_none();
        let put = blocking(move || {
            match &chunk {
                Some(chunk) => {
                    arriving.bytes += chunk.size_hint();
                    arriving.chunks.add(chunk)?;
                }
                None => arriving.chunks.complete()?,
            }
            Ok(arriving)
        });
        let arriving = put.await.map_err(|error| error.to_string())?;
        if !last {
            *slot = Some(arriving);
            return Ok(None);
        }
        tracing::info!(bytes = arriving.bytes, elapsed = ?arriving.started.elapsed(), "snapshot received");
        Ok(Some(arriving.chunks))
    }
}
