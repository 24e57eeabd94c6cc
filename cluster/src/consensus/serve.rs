//! A peer's Raft requests, given to the shard's openraft.

use std::sync::Arc;
use std::time::Instant;

use chat::ids::NodeId;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest};
use parking_lot::Mutex;
use storage::{
    Applied, LogPosition, SnapshotChunk, SnapshotMeta, SnapshotSource, SpoolReader, SpoolWriter, Spools, StorageError,
};

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

/// A snapshot arriving chunk by chunk, kept in a file. It is given to openraft only when it is complete,
/// because a source that fails half way would count as a storage fault there.
pub(crate) struct Spool {
    spools: Spools,
    arriving: Mutex<Option<Arriving>>,
}

struct Arriving {
    id: String,
    vote: VoteRecord,
    file: SpoolWriter,
    started: Instant,
}

pub(crate) struct SnapshotPart {
    pub(crate) vote: VoteRecord,
    pub(crate) applied: Applied,
    pub(crate) id: String,
    pub(crate) number: u64,
    pub(crate) chunk: Option<SnapshotChunk>,
}

pub(crate) async fn snapshot(raft: &Raft, spool: &Arc<Spool>, part: SnapshotPart) -> Response {
    let spool = spool.clone();
    let taken = tokio::task::spawn_blocking(move || (spool.take(&part), part)).await;
    let (complete, part) = match taken {
        Ok((Ok(Some(arrived)), part)) => (arrived, part),
        Ok((Ok(None), _)) => return Response::SnapshotChunk,
        Ok((Err(reason), _)) => return fault(reason),
        Err(error) => return fault(error),
    };
    let meta = match snapshot_meta(&part.applied) {
        Ok(meta) => meta,
        Err(error) => return fault(error),
    };
    let source = Received { meta: SnapshotMeta { applied: part.applied, id: part.id }, chunks: complete };
    let snapshot = RaftSnapshot { meta, snapshot: Box::new(source) };
    match raft.install_full_snapshot(Vote::from(part.vote), snapshot).await {
        Ok(answer) => Response::Snapshot { vote: VoteRecord::from(&answer.vote) },
        Err(error) => fault(error),
    }
}

impl Spool {
    pub(crate) fn new(spools: Spools) -> Self {
        Self { spools, arriving: Mutex::default() }
    }

    /// Takes one part; all of them once the last has come. Writes to the disk.
    fn take(&self, part: &SnapshotPart) -> Result<Option<SpoolReader>, String> {
        let mut slot = self.arriving.lock();
        if part.number == 0 {
            let file = self.spools.begin().map_err(|error| error.to_string())?;
            *slot = Some(Arriving { id: part.id.clone(), vote: part.vote, file, started: Instant::now() });
        }
        // Taken out: whatever fails below ends this snapshot, and its file goes with it.
        let Some(mut arriving) = slot.take() else {
            return Err("a snapshot must start with its first chunk".to_owned());
        };
        if arriving.id != part.id || arriving.vote != part.vote || arriving.file.chunks() != part.number {
            return Err("the chunk does not follow the one before".to_owned());
        }
        let Some(chunk) = &part.chunk else {
            let (bytes, elapsed) = (arriving.file.bytes(), arriving.started.elapsed());
            tracing::info!(bytes, ?elapsed, "snapshot received");
            return arriving.file.finish().map(Some).map_err(|error| error.to_string());
        };
        arriving.file.add(chunk).map_err(|error| error.to_string())?;
        *slot = Some(arriving);
        Ok(None)
    }
}

struct Received {
    meta: SnapshotMeta,
    chunks: SpoolReader,
}

impl SnapshotSource for Received {
    fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    fn next(&mut self) -> Result<Option<SnapshotChunk>, StorageError> {
        self.chunks.next_chunk()
    }
}
