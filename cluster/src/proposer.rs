//! One shard's proposer: many commands into one log entry, one entry in flight.
//!
//! When nothing is in flight a command leaves at once; under load commands gather behind the entry in flight, so
//! latency is kept when it is quiet and entries grow when it is not.
//!
//! Commands enter the log in the order they came, and none after one that did not: whoever depends on that names the
//! [`Fence`] under which it began. A refused entry ends the fence.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use chat::codec::{self, Kind};
use chat::command::{Command, EntryBatch, Outcome};
use chat::ids::{NodeId, ShardId};
use chat::limits::{ENTRY_BYTES, ENTRY_COMMANDS, LEASE_WAIT_MS, PROPOSER_QUEUE};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use crate::admission::{Core as Admission, Gate};
use crate::level::Level;

/// Between two attempts to write while the leader's lease has run out.
const LEASE_PAUSE: Duration = Duration::from_millis(5);
const LEASE_WAIT: Duration = Duration::from_millis(LEASE_WAIT_MS);

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
    /// Nothing happened: the cluster's log may not hold the command before its feature level is switched on.
    #[error("feature level {level} is not switched on")]
    NotSwitchedOn { level: u16 },
    /// This replica cannot go on.
    #[error("the replica has failed")]
    Storage,
}

/// A stretch in which no entry of the shard's proposer on this node was refused. A command that names one which is over
/// is answered [`ProposeError::Unavailable`]: an earlier one may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence(pub u64);

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
    /// When it began to wait.
    since: Instant,
    command: Command,
    fence: Option<Fence>,
    reply: Reply,
}

/// An entry that is applied: its place in the log, and what its commands came to.
pub(crate) struct Written {
    pub(crate) index: u64,
    pub(crate) outcomes: Arc<[Outcome]>,
}

/// Why an entry was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteRefused {
    NotLeader {
        leader: Option<NodeId>,
    },
    /// This node leads, and had not heard from a majority for a while; it has asked since. Nothing was written.
    LeaseExpired,
    /// It was in this leader's log when it lost its place: another leader may have committed it.
    Unknown,
    Storage,
}

/// The shard's log as the proposer sees it.
pub(crate) trait EntryLog: Send + Sync + 'static {
    /// Returns once the entry is applied here, or will not be.
    fn write(&self, entry: Bytes) -> impl Future<Output = Result<Written, WriteRefused>> + Send;
}

#[derive(Clone)]
pub(crate) struct Proposer {
    queue: mpsc::Sender<Pending>,
    fence: Arc<AtomicU64>,
    /// Whether new messages are taken; asked by who has them, before they cost anything.
    pub(crate) gate: Arc<Gate>,
    level: Arc<Level>,
}

impl Proposer {
    pub(crate) fn start(shard: ShardId, log: impl EntryLog, level: Arc<Level>) -> Self {
        let (queue, waiting) = mpsc::channel(PROPOSER_QUEUE);
        let (fence, gate) = (Arc::new(AtomicU64::new(0)), Arc::new(Gate::default()));
        tokio::spawn(run(shard, log, waiting, fence.clone(), gate.clone()));
        Self { queue, fence, gate, level }
    }

    /// The one that holds now.
    pub(crate) fn fence(&self) -> Fence {
        Fence(self.fence.load(Ordering::Acquire))
    }

    pub(crate) async fn propose(&self, command: Command) -> Result<Proposed, ProposeError> {
        let (sender, outcome) = oneshot::channel();
        // A caller that gave up closed its end.
        self.propose_then(None, command, Box::new(|result| drop(sender.send(result))))?;
        outcome.await.unwrap_or(Err(ProposeError::Unknown))
    }

    /// An error is the answer; `reply` is not called then.
    pub(crate) fn propose_then(
        &self,
        fence: Option<Fence>,
        command: Command,
        reply: ProposeReply,
    ) -> Result<(), ProposeError> {
        self.level.gate(&command)?;
        let pending = Pending { since: Instant::now(), command, fence, reply: Reply(Some(reply)) };
        let refused = match self.queue.try_send(pending) {
            Ok(()) => return Ok(()),
            Err(refused) => refused,
        };
        let (error, mut pending) = match refused {
            mpsc::error::TrySendError::Full(pending) => (ProposeError::Overloaded, pending),
            mpsc::error::TrySendError::Closed(pending) => (ProposeError::Storage, pending),
        };
        pending.reply.0 = None;
        Err(error)
    }
}

async fn run(
    shard: ShardId,
    log: impl EntryLog,
    mut waiting: mpsc::Receiver<Pending>,
    fence: Arc<AtomicU64>,
    gate: Arc<Gate>,
) {
    let mut held = None;
    let mut admission = Admission::new(Instant::now());
    loop {
        if held.is_none() && waiting.is_empty() {
            admission.idle();
            gate.open();
        }
        let first = match held.take() {
            Some(pending) => pending,
            None => match waiting.recv().await {
                Some(pending) => pending,
                None => return,
            },
        };
        let since = first.since;
        // Whoever else is ready to run may have something for the same entry.
        tokio::task::yield_now().await;
        let (commands, replies) = gather(Fence(fence.load(Ordering::Relaxed)), first, &mut waiting, &mut held);
        let now = Instant::now();
        let taken = commands.len() as u64;
        let shedding = admission.took(now, now - since, taken, waiting.len() as u64);
        gate.set(shard, shedding, taken, admission.per_second());
        if commands.is_empty() {
            continue;
        }
        match propose(shard, &log, commands).await {
            Ok(Written { index, outcomes }) => {
                for (reply, outcome) in replies.into_iter().zip(outcomes.iter()) {
                    reply.send(Ok(Proposed { outcome: outcome.clone(), index }));
                }
            }
            Err(error) => {
                // Before anybody hears of it: whoever begins anew does so under the next one.
                fence.fetch_add(1, Ordering::Release);
                for reply in replies {
                    reply.send(Err(error));
                }
            }
        }
    }
}

/// Takes what waits, up to one entry's limits. What no longer fits is held for the next.
fn gather(
    fence: Fence,
    first: Pending,
    waiting: &mut mpsc::Receiver<Pending>,
    held: &mut Option<Pending>,
) -> (Vec<Command>, Vec<Reply>) {
    let mut bytes = 0;
    let (mut commands, mut replies) = (Vec::new(), Vec::new());
    let mut next = Some(first);
    while let Some(pending) = next {
        let size = pending.command.size_bound();
        if pending.fence.is_some_and(|named| named != fence) {
            pending.reply.send(Err(ProposeError::Unavailable));
        } else if !commands.is_empty() && bytes + size > ENTRY_BYTES {
            *held = Some(pending);
            break;
        } else {
            bytes += size;
            commands.push(pending.command);
            replies.push(pending.reply);
        }
        next = if commands.len() < ENTRY_COMMANDS { waiting.try_recv().ok() } else { None };
    }
    (commands, replies)
}

async fn propose(shard: ShardId, log: &impl EntryLog, commands: Vec<Command>) -> Result<Written, ProposeError> {
    let time_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as u64);
    // `size_bound` is an upper bound, so what is too large is a fault of ours: nothing was proposed, and it is said.
    let fault = |reason: String| {
        tracing::error!(%shard, reason, "a batch could not be proposed");
        ProposeError::Overloaded
    };
    let entry = codec::encode(Kind::Entry, &EntryBatch { time_ms, commands }).map_err(|e| fault(e.to_string()))?;
    if entry.len() > ENTRY_BYTES {
        return Err(fault(format!("an entry of {} bytes", entry.len())));
    }
    let since = Instant::now();
    let mut renewed = false;
    loop {
        let refused = match log.write(entry.clone()).await {
            Ok(written) => return Ok(written),
            Err(refused) => refused,
        };
        match refused {
            // A quiet shard's lease was renewed by now: at once. On a machine that is short of time this passes with the next
            // heartbeat, and nobody needs to hear of it.
            WriteRefused::LeaseExpired if !std::mem::replace(&mut renewed, true) => {}
            WriteRefused::LeaseExpired if since.elapsed() < LEASE_WAIT => sleep(LEASE_PAUSE).await,
            WriteRefused::LeaseExpired => return Err(ProposeError::NotLeader { leader: None }),
            WriteRefused::NotLeader { leader } => return Err(ProposeError::NotLeader { leader }),
            WriteRefused::Unknown => return Err(ProposeError::Unknown),
            WriteRefused::Storage => return Err(ProposeError::Storage),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use parking_lot::Mutex;

    use super::*;

    const SHARD: ShardId = ShardId(1);

    /// Refuses as it is told to, and remembers what it took.
    #[derive(Clone, Default)]
    struct Script {
        refusals: Arc<Mutex<VecDeque<WriteRefused>>>,
        log: Arc<Mutex<Vec<Command>>>,
    }

    impl EntryLog for Script {
        async fn write(&self, entry: Bytes) -> Result<Written, WriteRefused> {
            if let Some(refused) = self.refusals.lock().pop_front() {
                return Err(refused);
            }
            let EntryBatch { commands, .. } = codec::decode(Kind::Entry, &entry).unwrap();
            let outcomes = commands.iter().map(|_| Outcome::Applied { seq: 0, duplicate: false }).collect();
            let mut log = self.log.lock();
            log.extend(commands);
            Ok(Written { index: log.len() as u64, outcomes })
        }
    }

    /// Told apart by `through`.
    fn command(through: u64) -> Command {
        Command::OutboxDelivered { through }
    }

    /// To which command, and the error if it is one.
    type Answer = (u64, Option<ProposeError>);

    struct Rig {
        proposer: Proposer,
        script: Script,
        answer: mpsc::UnboundedSender<Answer>,
        answers: mpsc::UnboundedReceiver<Answer>,
    }

    impl Rig {
        fn new(refusals: &[WriteRefused]) -> Self {
            let script = Script::default();
            script.refusals.lock().extend(refusals);
            let (answer, answers) = mpsc::unbounded_channel();
            Self { proposer: Proposer::start(SHARD, script.clone(), Arc::new(Level::new(1))), script, answer, answers }
        }

        fn propose(&self, number: u64, fence: Fence) {
            let answer = self.answer.clone();
            // The rig may be gone before the last answers.
            let reply = Box::new(move |result: Result<_, _>| _ = answer.send((number, result.err())));
            self.proposer.propose_then(Some(fence), command(number), reply).unwrap();
        }

        async fn answered(&mut self, count: usize) -> Vec<Answer> {
            let mut answers = Vec::new();
            while answers.len() < count {
                answers.push(self.answers.recv().await.unwrap());
            }
            answers
        }
    }

    #[tokio::test]
    async fn a_lease_that_has_run_out_is_waited_for_and_nothing_passes_meanwhile() {
        let mut rig = Rig::new(&[WriteRefused::LeaseExpired; 3]);
        let fence = rig.proposer.fence();
        rig.propose(1, fence);
        while rig.script.refusals.lock().len() > 1 {
            tokio::task::yield_now().await;
        }
        rig.propose(2, fence);
        assert_eq!(rig.answered(2).await, [(1, None), (2, None)]);
        assert_eq!(*rig.script.log.lock(), [command(1), command(2)]);
        assert_eq!(rig.proposer.fence(), fence);
    }

    #[tokio::test]
    async fn a_leader_that_stays_cut_off_says_so() {
        let mut rig = Rig::new(&[WriteRefused::LeaseExpired; 1_000]);
        rig.propose(1, rig.proposer.fence());
        assert_eq!(rig.answered(1).await, [(1, Some(ProposeError::NotLeader { leader: None }))]);
    }

    #[tokio::test]
    async fn what_was_proposed_before_a_refusal_was_heard_of_is_refused_too() {
        let mut rig = Rig::new(&[WriteRefused::NotLeader { leader: None }]);
        let fence = rig.proposer.fence();
        rig.propose(1, fence);
        rig.answered(1).await;
        // This node leads again, and the asker does not know yet what became of the first.
        rig.propose(2, fence);
        rig.propose(3, rig.proposer.fence());
        rig.propose(4, fence);
        let refused = Some(ProposeError::Unavailable);
        assert_eq!(rig.answered(3).await, [(2, refused), (4, refused), (3, None)]);
        assert_eq!(*rig.script.log.lock(), [command(3)]);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let rig = Rig::new(&[]);
        let fence = rig.proposer.fence();
        for number in 0..PROPOSER_QUEUE as u64 {
            rig.propose(number, fence);
        }
        let refused = rig.proposer.propose_then(Some(fence), command(0), Box::new(|_| panic!("answered twice")));
        assert_eq!(refused, Err(ProposeError::Overloaded));
    }
}
