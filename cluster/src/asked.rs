//! What peers ask of this node, given to the replica that it is about.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use chat::ids::{NodeId, ShardId};
use storage::LogPosition;
use tokio::time::Instant;

use crate::cluster::Inner;
use crate::consensus::serve::{self, SnapshotPart};
use crate::consensus::types::VoteRecord;
use crate::peer::message::{Append, Appended, Failure, Request, Response};
use crate::peer::server::Handler;
use crate::placement::settle::{self, Wanted};
use crate::proposer::ProposeError;
use crate::reach;
use crate::repair::{self, Part};
use crate::replica::Replica;
use crate::signs::Leader;

impl Inner {
    async fn serve(&self, from: NodeId, request: Request) -> Response {
        match request {
            Request::Leaving { leaving } => {
                self.leaving.set(from, leaving);
                return Response::Heard;
            }
            Request::Reach => return Response::Reach(reach::reached(self)),
            _ => {}
        }
        if !self.room.takes(&request) {
            return Response::Failed(Failure::NoRoom);
        }
        let Some(replica) = request.shard().and_then(|shard| self.replica(shard)) else {
            return Response::Failed(Failure::NoShard);
        };
        match request {
            Request::Append { append, .. } => self.append(replica, append).await,
            Request::Vote { vote, last, transfer, pre, .. } => {
                self.vote(replica, from, Ballot { vote, last, transfer, pre }).await
            }
            Request::Leaving { .. } | Request::Reach => Response::Heard,
            Request::Settle { voters, members, .. } => settle::serve(self, replica, Wanted { voters, members }).await,
            Request::Digest { index, .. } => match replica.digests.wait(index).await {
                Some(made) => Response::Digest { digest: made.digest, records: made.records },
                None => Response::Failed(Failure::Unavailable),
            },
            Request::Agreed { shard, index, digest } => {
                replica.digests.judge(&replica.health, shard, index, digest);
                Response::Heard
            }
            Request::LogRecord { index, .. } => match repair::answer(replica, index) {
                Ok((record, before)) => Response::LogRecord { record, before, committed: replica.applied_index() },
                Err(_) => Response::Failed(Failure::Unavailable),
            },
            Request::WishState { .. } => {
                replica.source.wish();
                Response::Heard
            }
            Request::StatePart { number, .. } => match replica.source.part(number).await {
                Some((applied, Part::Pairs(chunk))) => {
                    Response::StatePart { applied, chunk: Some(chunk), digest: None }
                }
                Some((applied, Part::End(digest))) => {
                    Response::StatePart { applied, chunk: None, digest: Some(digest) }
                }
                None => Response::Failed(Failure::Unavailable),
            },
            Request::Transfer { from, to, last, .. } => serve::transfer(&replica.raft, from, to, last).await,
            Request::Snapshot { vote, applied, id, number, chunk, .. } => {
                let part = SnapshotPart { vote, applied, id, number, chunk };
                serve::snapshot(&replica.raft, &replica.spool, part).await
            }
            Request::Holds { .. } => Response::Holds(replica.state.applied().position.map(|position| position.index)),
            Request::ReadIndex { .. } => match replica.read_index().await {
                Ok(index) => Response::ReadIndex(index),
                Err(error) => Response::Failed(error.into()),
            },
            Request::Submit { shard, command } => match self.propose(shard, command).await {
                Ok(proposed) => Response::Submitted { outcome: proposed.outcome, index: proposed.index },
                Err(error) => Response::Failed(error.into()),
            },
        }
    }
}

/// What a candidate asks for.
struct Ballot {
    vote: VoteRecord,
    last: Option<LogPosition>,
    transfer: bool,
    pre: bool,
}

impl Inner {
    async fn append(&self, replica: &Replica, append: Append) -> Response {
        let response = serve::append(&replica.raft, append).await;
        if !matches!(response, Response::Append(Appended::HigherVote(_)) | Response::Failed(_)) {
            replica.signs.heard(Instant::now(), self.timing.election_max);
        }
        response
    }

    async fn vote(&self, replica: &Replica, from: NodeId, ballot: Ballot) -> Response {
        let Ballot { vote, last, transfer, pre } = ballot;
        // A leader that hands over has let go of its lease.
        if !transfer {
            replica.keep_promise().await;
            if self.keeps_leader(replica, from) {
                return Response::Vote { vote: replica.vote(), granted: false, last: None };
            }
        }
        let response = serve::vote(&replica.raft, vote, last, transfer, pre).await;
        if matches!(response, Response::Vote { granted: true, .. }) && !pre {
            replica.signs.stood_aside(Instant::now());
        }
        response
    }

    /// Whether the shard is quiet and its leader, for all this node knows, well: then a candidate is not heard.
    fn keeps_leader(&self, replica: &Replica, candidate: NodeId) -> bool {
        let leader = match replica.leader() {
            Some(leader) if leader == self.node => Leader::Own,
            Some(leader) if leader != candidate && self.connected(leader) => Leader::Reached,
            _ => Leader::Lost,
        };
        replica.signs.refuses(Instant::now(), self.timing.election_max, leader)
    }
}

impl Handler for Inner {
    fn handle(self: Arc<Self>, from: NodeId, request: Request) -> Pin<Box<dyn Future<Output = Response> + Send>> {
        Box::pin(async move { self.serve(from, request).await })
    }

    fn told(&self, from: NodeId, note: Bytes) {
        self.service.told(from, note);
    }

    fn spoken_for(&self, from: NodeId, quiet: &[(ShardId, u64)]) {
        for (shard, term) in quiet {
            if let Some(replica) = self.replica(*shard)
                && replica.leader() == Some(from)
                && replica.term() == *term
            {
                replica.signs.spoken_for(Instant::now(), self.timing.election_max);
            }
        }
    }
}

impl From<ProposeError> for Failure {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NotLeader { leader } => Self::NotLeader { leader },
            ProposeError::Overloaded => Self::Overloaded,
            // Whoever asked has heard of the level, this node is about to.
            ProposeError::NotSwitchedOn { .. } => Self::Unavailable,
            ProposeError::Unavailable | ProposeError::Storage => Self::Unavailable,
            ProposeError::Unknown => Self::Unknown,
        }
    }
}
