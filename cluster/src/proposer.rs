//! One shard's proposer: many commands into one log entry, a few entries in flight.
//!
//! When nothing is in flight a command leaves at once; under load commands gather behind the entry in flight, so
//! latency is kept when it is quiet and entries grow when it is not.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use chat::codec::{self, Kind};
use chat::command::{Command, EntryBatch, Outcome};
use chat::ids::{NodeId, ShardId};
use chat::limits::{ENTRIES_IN_FLIGHT, ENTRY_BYTES, ENTRY_COMMANDS, PROPOSER_QUEUE};
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::consensus::serve::Raft;
use crate::consensus::types::{Proposal, Types};

/// What a command came to, and the log index it was decided at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposed {
    pub outcome: Outcome,
    pub index: u64,
}

/// Why a command has no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    #[error("this node does not lead the shard")]
    NotLeader { leader: Option<NodeId> },
    #[error("too many commands wait for the shard")]
    Overloaded,
    /// No leader or no majority within the deadline; nothing happened.
    #[error("the shard has no leader that answers")]
    Unavailable,
    /// It may or may not have happened.
    #[error("the outcome is not known")]
    Unknown,
    /// This replica cannot go on.
    #[error("the replica has failed")]
    Storage,
}

/// Called once with what became of a command; must not block.
pub type ProposeReply = Box<dyn FnOnce(Result<Proposed, ProposeError>) + Send>;

/// Whoever waits for a command. Dropped without an answer, it says that the outcome is unknown.
struct Reply(Option<ProposeReply>);

impl Reply {
    fn send(mut self, result: Result<Proposed, ProposeError>) {
        if let Some(reply) = self.0.take() {
            reply(result);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(reply) = self.0.take() {
            reply(Err(ProposeError::Unknown));
        }
    }
}

struct Pending {
    command: Command,
    reply: Reply,
}

#[derive(Clone)]
pub(crate) struct Proposer {
    queue: mpsc::Sender<Pending>,
}

impl Proposer {
    pub(crate) fn start(shard: ShardId, raft: Raft) -> Self {
        let (queue, waiting) = mpsc::channel(PROPOSER_QUEUE);
        tokio::spawn(run(shard, raft, waiting));
        Self { queue }
    }

    pub(crate) async fn propose(&self, command: Command) -> Result<Proposed, ProposeError> {
        let (sender, outcome) = oneshot::channel();
        // A caller that gave up closed its end.
        self.propose_then(command, Box::new(|result| drop(sender.send(result))));
        outcome.await.unwrap_or(Err(ProposeError::Unknown))
    }

    pub(crate) fn propose_then(&self, command: Command, reply: ProposeReply) {
        let refused = match self.queue.try_send(Pending { command, reply: Reply(Some(reply)) }) {
            Ok(()) => return,
            Err(refused) => refused,
        };
        let (error, pending) = match refused {
            mpsc::error::TrySendError::Full(pending) => (ProposeError::Overloaded, pending),
            mpsc::error::TrySendError::Closed(pending) => (ProposeError::Storage, pending),
        };
        pending.reply.send(Err(error));
    }
}

async fn run(shard: ShardId, raft: Raft, mut waiting: mpsc::Receiver<Pending>) {
    let in_flight = Arc::new(Semaphore::new(ENTRIES_IN_FLIGHT));
    let mut held = None;
    loop {
        let first = match held.take() {
            Some(pending) => pending,
            None => match waiting.recv().await {
                Some(pending) => pending,
                None => return,
            },
        };
        let Ok(permit) = in_flight.clone().acquire_owned().await else { return };
        // Whoever else is ready to run may have something for the same entry.
        tokio::task::yield_now().await;
        let (commands, replies) = gather(first, &mut waiting, &mut held);
        propose(shard, &raft, commands, replies, permit).await;
    }
}

/// Takes what waits, up to one entry's limits. What no longer fits is held for the next.
fn gather(
    first: Pending,
    waiting: &mut mpsc::Receiver<Pending>,
    held: &mut Option<Pending>,
) -> (Vec<Command>, Vec<Reply>) {
    let mut bytes = 0;
    let (mut commands, mut replies) = (Vec::new(), Vec::new());
    let mut next = Some(first);
    while let Some(pending) = next {
        let size = pending.command.size_bound();
        if !commands.is_empty() && bytes + size > ENTRY_BYTES {
            *held = Some(pending);
            break;
        }
        bytes += size;
        commands.push(pending.command);
        replies.push(pending.reply);
        next = if commands.len() < ENTRY_COMMANDS { waiting.try_recv().ok() } else { None };
    }
    (commands, replies)
}

async fn propose(
    shard: ShardId,
    raft: &Raft,
    commands: Vec<Command>,
    replies: Vec<Reply>,
    permit: OwnedSemaphorePermit,
) {
    let time_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as u64);
    let bytes = match codec::encode(Kind::Entry, &EntryBatch { time_ms, commands }) {
        Ok(bytes) if bytes.len() <= ENTRY_BYTES => bytes,
        // `size_bound` is an upper bound, so this is a fault of ours: nothing was proposed, and it is said.
        Ok(bytes) => return refuse(shard, replies, &format!("an entry of {} bytes", bytes.len())),
        Err(error) => return refuse(shard, replies, &error.to_string()),
    };
    let (responder, outcome) = ProgressResponder::<Types, _>::complete_only();
    if raft.client_write_ff(Proposal(bytes), Some(responder)).await.is_err() {
        return answer(replies, Err(ProposeError::Storage));
    }
    tokio::spawn(async move {
        match outcome.await {
            Ok(Ok(written)) => {
                let index = written.log_id.index;
                for (reply, outcome) in replies.into_iter().zip(written.data.outcomes.iter()) {
                    reply.send(Ok(Proposed { outcome: outcome.clone(), index }));
                }
            }
            Ok(Err(ClientWriteError::ForwardToLeader(to))) => {
                answer(replies, Err(ProposeError::NotLeader { leader: to.leader_id }));
            }
            // The entry was in this leader's log when it lost its place: another leader may have committed it.
            Ok(Err(_)) | Err(_) => answer(replies, Err(ProposeError::Unknown)),
        }
        drop(permit);
    });
}

fn refuse(shard: ShardId, replies: Vec<Reply>, reason: &str) {
    tracing::error!(%shard, reason, "a batch could not be proposed");
    answer(replies, Err(ProposeError::Overloaded));
}

fn answer(replies: Vec<Reply>, result: Result<Proposed, ProposeError>) {
    for reply in replies {
        reply.send(result.clone());
    }
}
