//! openraft's network over the peers' lanes: translation only.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chat::ids::{NodeId, ShardId};
use openraft::OptionalSend;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use storage::SnapshotChunk;

use super::state_machine::{RaftSnapshot, SnapshotData};
use super::types::{Types, Vote, VoteRecord, io_error, log_id_of, position_of, record_of, stored_members_to_bytes};
use crate::peer::lane::CallError;
use crate::peer::message::{Append, Appended, Failure, Request, Response};
use crate::roster::Lanes;

/// Deadline of one snapshot chunk, and of the installation after the last.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(10);
const INSTALL_TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Clone)]
pub(crate) struct Network {
    shard: ShardId,
    lanes: Arc<Lanes>,
}

impl Network {
    pub(crate) fn new(shard: ShardId, lanes: Arc<Lanes>) -> Self {
        Self { shard, lanes }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = PeerClient;

    async fn new_client(&mut self, target: NodeId, _node: &openraft::EmptyNode) -> PeerClient {
        PeerClient { shard: self.shard, target, lanes: self.lanes.clone() }
    }
}

/// One shard's calls to one peer.
pub(crate) struct PeerClient {
    shard: ShardId,
    target: NodeId,
    /// Looked at for each call: a peer may get another address.
    lanes: Arc<Lanes>,
}

type RpcError = RPCError<Types>;

fn rpc_error(error: CallError) -> RpcError {
    match error {
        // openraft waits before it tries an unreachable peer again.
        CallError::Unreachable => RPCError::Unreachable(Unreachable::new(&error)),
        CallError::Overloaded | CallError::NoAnswer => RPCError::Network(NetworkError::new(&error)),
    }
}

fn unexpected(what: &'static str) -> RpcError {
    RPCError::Network(NetworkError::new(&std::io::Error::other(what)))
}

impl PeerClient {
    async fn call(&self, request: Request, deadline: Duration) -> Result<Response, RpcError> {
        let lane = self.lanes.get(self.target).ok_or_else(|| rpc_error(CallError::Unreachable))?;
        match lane.call(request, deadline).await.map_err(rpc_error)? {
            // Until it has room again, it is as if it were not there.
            Response::Failed(failure @ Failure::NoRoom) => Err(RPCError::Unreachable(Unreachable::new(&failure))),
            Response::Failed(failure) => Err(RPCError::Network(NetworkError::new(&failure))),
            response => Ok(response),
        }
    }

    async fn ask_vote(
        &self,
        rpc: VoteRequest<Types>,
        pre: bool,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RpcError> {
        let request = Request::Vote {
            shard: self.shard,
            vote: VoteRecord::from(&rpc.vote),
            last: rpc.last_log_id.as_ref().map(position_of),
            transfer: rpc.leadership_transfer,
            pre,
        };
        match self.call(request, option.soft_ttl()).await? {
            Response::Vote { vote, granted, last } => {
                Ok(VoteResponse::new(Vote::from(vote), last.map(log_id_of), granted))
            }
            _ => Err(unexpected("a vote was answered by something else")),
        }
    }

    async fn send_snapshot(
        &self,
        vote: &Vote,
        mut snapshot: RaftSnapshot,
    ) -> Result<SnapshotResponse<Types>, RpcError> {
        let storage_error = |error: std::io::Error| RPCError::Network(NetworkError::new(&error));
        let applied = storage::Applied {
            position: snapshot.meta.last_log_id.as_ref().map(position_of),
            membership: stored_members_to_bytes(&snapshot.meta.last_membership)
                .map_err(|e| storage_error(io_error(e)))?,
        };
        let id = snapshot.snapshot.meta().id.clone();
        // A replica that was away for long has what it had. One that does not say gets everything.
        if let Ok(Response::Holds(Some(index))) = self.call(Request::Holds { shard: self.shard }, CHUNK_TIMEOUT).await {
            snapshot.snapshot.has_records(index);
        }
        let request = |number, chunk: Option<SnapshotChunk>| Request::Snapshot {
            shard: self.shard,
            vote: VoteRecord::from(vote),
            applied: applied.clone(),
            id: id.clone(),
            number,
            chunk,
        };
        let mut number = 0;
        loop {
            let source = snapshot.snapshot;
            let (source, chunk) = tokio::task::spawn_blocking(move || next_chunk(source))
                .await
                .map_err(|error| storage_error(std::io::Error::other(error)))?;
            snapshot.snapshot = source;
            match chunk.map_err(|error| storage_error(io_error(error)))? {
                Some(chunk) => {
                    self.call(request(number, Some(chunk)), CHUNK_TIMEOUT).await?;
                    number += 1;
                }
                None => break,
            }
        }
        match self.call(request(number, None), INSTALL_TIMEOUT).await? {
            Response::Snapshot { vote } => Ok(SnapshotResponse::new(vote.into())),
            _ => Err(unexpected("a snapshot was answered by something else")),
        }
    }
}

fn next_chunk(mut source: SnapshotData) -> (SnapshotData, Result<Option<SnapshotChunk>, storage::StorageError>) {
    let chunk = source.next();
    (source, chunk)
}

impl RaftNetworkV2<Types> for PeerClient {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RpcError> {
        let records = rpc.entries.into_iter().map(record_of).collect::<Result<Vec<_>, _>>();
        let append = Append {
            vote: VoteRecord::from(&rpc.vote),
            previous: rpc.prev_log_id.as_ref().map(position_of),
            records: records.map_err(|error| RPCError::Network(NetworkError::new(&error)))?,
            committed: rpc.leader_commit.as_ref().map(position_of),
        };
        match self.call(Request::Append { shard: self.shard, append }, option.soft_ttl()).await? {
            Response::Append(Appended::Success) => Ok(AppendEntriesResponse::Success),
            Response::Append(Appended::Partial(position)) => {
                Ok(AppendEntriesResponse::PartialSuccess(position.map(log_id_of)))
            }
            Response::Append(Appended::Conflict) => Ok(AppendEntriesResponse::Conflict),
            Response::Append(Appended::HigherVote(vote)) => Ok(AppendEntriesResponse::HigherVote(vote.into())),
            _ => Err(unexpected("an append was answered by something else")),
        }
    }

    async fn vote(&mut self, rpc: VoteRequest<Types>, option: RPCOption) -> Result<VoteResponse<Types>, RpcError> {
        self.ask_vote(rpc, false, option).await
    }

    async fn pre_vote(&mut self, rpc: VoteRequest<Types>, option: RPCOption) -> Result<VoteResponse<Types>, RpcError> {
        self.ask_vote(rpc, true, option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        tokio::select! {
            sent = self.send_snapshot(&vote, snapshot) => sent.map_err(StreamingError::from),
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RpcError> {
        let rpc = Request::Transfer {
            shard: self.shard,
            from: VoteRecord::from(request.from_leader()),
            // Every follower is told, so that the others let go of their lease.
            to: *request.to_node_id(),
            last: request.last_log_id().map(position_of),
        };
        match self.call(rpc, option.soft_ttl()).await? {
            Response::Transfer(true) => Ok(Ok(())),
            _ => Err(unexpected("the leadership was not taken")),
        }
    }
}
