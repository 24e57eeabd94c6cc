//! All that may be asked of the security actor, and what a full mailbox means for each:
//!
//! | message | from | answer | mailbox full |
//! |---|---|---|---|
//! | [`RecordLogin`] | session | once the record is durable | [`NotRecorded`]: the login is refused |
//! | [`RecordLogin`] | admin listener | once the record is durable | [`NotRecorded`]: nothing is done |
//! | [`RecordEnd`] | session, the node | none | counted; a gap record follows |
//! | [`Flush`] | the node, before it stops | once all is durable | the asker waits |
//! | [`NoteGap`] | [`SecurityLog`] | none | dropped: whoever empties the mailbox looks at the gap anyway |
//! | [`Tail`] | admin API | the newest records | the asker waits |
//! | [`Observe`] | admin API, tests | [`SecurityState`] | the asker waits |

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix::prelude::SendError;
use actix::{Addr, Message};
use chat::errors::ErrorCode;
use chat::ids::NodeId;
use chat::limits;
use chat::wire::Device;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::oneshot;

use super::SecurityActor;
use super::record::{
    Administration, Counters, DeviceRecord, EndReason, Entry, Event, LoginResult, Method, SessionHash, Visit, bounded,
};
use crate::auth::{AuthError, Identity};
use crate::socket::unix_ms;

/// The record could not be made durable. Whatever was to be recorded must not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotRecorded {
    #[error("too many security records wait")]
    Overloaded,
    #[error("the security log cannot be written")]
    Failed,
}

/// The other end of a connection, as it says of itself. Made safe when it is recorded.
#[derive(Debug, Clone)]
pub struct Visitor {
    pub ip: IpAddr,
    pub port: u16,
    pub user_agent: String,
    /// Known once the login frame was read.
    pub device: Option<Device>,
}

impl Visitor {
    fn visit(&self, identity: Option<&Identity>, session: Option<&str>) -> Visit {
        Visit {
            app: identity.map(|identity| identity.app.clone()),
            user: identity.map(|identity| identity.user.clone()),
            session: session.map(SessionHash::of),
            ip: self.ip,
            port: self.port,
            user_agent: bounded(&self.user_agent, limits::USER_AGENT_BYTES),
            device: self.device.as_ref().map(DeviceRecord::from),
        }
    }
}

/// What became of a login.
#[derive(Debug)]
pub enum LoginOutcome<'a> {
    Accepted {
        identity: &'a Identity,
        session: &'a str,
    },
    /// `claimed` is whom the credentials named, if they named anybody; `reason` is not told to the client.
    Refused {
        claimed: Option<&'a Identity>,
        code: ErrorCode,
        reason: String,
    },
}

impl<'a> LoginOutcome<'a> {
    pub fn refused(claimed: Option<&'a Identity>, error: AuthError) -> Self {
        Self::Refused { claimed, code: error.code(), reason: error.to_string() }
    }
}

/// To be recorded and durable before the client hears the answer, or before anything is done.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct RecordLogin {
    pub(super) time_ms: u64,
    pub(super) event: Event,
    pub(super) durable: oneshot::Sender<Result<(), NotRecorded>>,
}

/// Everything before it is to be durable.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Flush {
    pub(super) durable: oneshot::Sender<Result<(), NotRecorded>>,
}

/// To be recorded soon.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct RecordEnd {
    pub(super) time_ms: u64,
    pub(super) event: Event,
}

/// Something was counted in the gap.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct NoteGap;

/// The newest `limit` records, oldest first; at most [`limits::SECURITY_TAIL`].
#[derive(Debug, Message)]
#[rtype(result = "Vec<Entry>")]
pub struct Tail {
    pub limit: usize,
}

#[derive(Debug, Message)]
#[rtype(result = "SecurityState")]
pub struct Observe;

/// The actor as tests, the admin API and the console see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecurityState {
    /// Sequence of the last record written, durable or not.
    pub last_sequence: Option<u64>,
    /// Records not yet durable.
    pub waiting: usize,
    pub records: u64,
    pub syncs: u64,
    /// Records that a full mailbox turned away, counted in gap records.
    pub missed: u64,
    /// Why the log cannot be written any more. Nobody can log in until the node is restarted.
    pub failed: Option<String>,
}

/// Records that found the mailbox full, until the actor writes how many there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) first_ms: u64,
    pub(super) last_ms: u64,
    pub(super) count: u64,
}

pub(super) type SharedGap = Arc<Mutex<Option<Gap>>>;
/// Set once, when the log cannot be written any more.
pub(super) type SharedFlag = Arc<AtomicBool>;

/// What sessions hold of the security log. Clones share one sender, so that the mailbox limit holds for all of them
/// together (actix gives every clone of an address a place of its own beyond the limit).
#[derive(Clone)]
pub struct SecurityLog {
    actor: Arc<Addr<SecurityActor>>,
    gap: SharedGap,
    failed: SharedFlag,
}

impl SecurityLog {
    pub(super) fn new(actor: Addr<SecurityActor>, gap: SharedGap, failed: SharedFlag) -> Self {
        Self { actor: Arc::new(actor), gap, failed }
    }

    /// Whether the log can no longer be written: nobody can log in on this node until it is restarted.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Returns once the login is on disk. An error means that nobody may be let in on it.
    /// A refused attempt is recorded the same way: a guess that leaves no trace gets no answer.
    pub async fn login(&self, visitor: &Visitor, method: Method, outcome: LoginOutcome<'_>) -> Result<(), NotRecorded> {
        let (visit, result) = match outcome {
            LoginOutcome::Accepted { identity, session } => {
                (visitor.visit(Some(identity), Some(session)), LoginResult::Accepted)
            }
            LoginOutcome::Refused { claimed, code, reason } => {
                let reason = bounded(&reason, limits::NAME_BYTES);
                (visitor.visit(claimed, None), LoginResult::Refused { code: code.number(), reason })
            }
        };
        self.durably(Event::Login { visit, method, result }).await
    }

    /// Returns once it is on disk. An error means that nothing may be done of what was asked.
    pub async fn administration(&self, administration: Administration) -> Result<(), NotRecorded> {
        self.durably(Event::Administration(administration)).await
    }

    /// The cluster has decided where a node stands from now on.
    pub fn membership(&self, node: NodeId, state: String) {
        self.record(Event::Membership { node, state });
    }

    async fn durably(&self, event: Event) -> Result<(), NotRecorded> {
        let (durable, answer) = oneshot::channel();
        let message = RecordLogin { time_ms: unix_ms(), event, durable };
        self.actor.try_send(message).map_err(|error| match error {
            SendError::Full(_) => NotRecorded::Overloaded,
            SendError::Closed(_) => NotRecorded::Failed,
        })?;
        answer.await.unwrap_or(Err(NotRecorded::Failed))
    }

    /// Returns once everything recorded before is on disk: for a planned stop.
    pub async fn flush(&self) -> Result<(), NotRecorded> {
        let (durable, answer) = oneshot::channel();
        self.actor.send(Flush { durable }).await.map_err(|_| NotRecorded::Failed)?;
        answer.await.unwrap_or(Err(NotRecorded::Failed))
    }

    /// The client asked to end its session.
    pub fn logout(&self, visitor: &Visitor, identity: &Identity, session: &str) {
        self.record(Event::Logout { visit: visitor.visit(Some(identity), Some(session)) });
    }

    /// A session that was logged in is over.
    pub fn session_ended(
        &self,
        visitor: &Visitor,
        identity: &Identity,
        session: &str,
        reason: EndReason,
        duration_ms: u64,
        counters: Counters,
    ) {
        let visit = visitor.visit(Some(identity), Some(session));
        self.record(Event::SessionEnded { visit, reason, duration_ms, counters });
    }

    /// For the admin API.
    pub async fn tail(&self, limit: usize) -> Result<Vec<Entry>, NotRecorded> {
        self.actor.send(Tail { limit }).await.map_err(|_| NotRecorded::Failed)
    }

    pub async fn observe(&self) -> Result<SecurityState, NotRecorded> {
        self.actor.send(Observe).await.map_err(|_| NotRecorded::Failed)
    }

    fn record(&self, event: Event) {
        let time_ms = unix_ms();
        if self.actor.try_send(RecordEnd { time_ms, event }).is_ok() {
            return;
        }
        self.count_missed(time_ms);
        // If the mailbox was emptied in between, nobody else would tell the actor. If it is full still, whoever
        // comes next out of it does.
        if self.actor.try_send(NoteGap).is_err() {
            tracing::debug!("a session's end was counted, not recorded");
        }
    }

    fn count_missed(&self, time_ms: u64) {
        let mut gap = self.gap.lock();
        let counted = gap.get_or_insert(Gap { first_ms: time_ms, last_ms: time_ms, count: 0 });
        counted.last_ms = time_ms;
        counted.count += 1;
    }
}
