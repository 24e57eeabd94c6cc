//! What the fan-out actor may be told.
//!
//! | message | from | mailbox full |
//! |---|---|---|
//! | [`Applied`] | [`super::FanOutFeed`] | noted in the node's overflow: sessions read from history |
//! | [`Register`], [`Follow`] | session, while it resumes | the session waits, within its request's deadline |
//! | [`Unfollow`], [`Unregister`] | session | dropped: a closed session is found at the next sweep |
//! | [`Reconnect`] | the node, before it stops | the node waits |
//! | [`Observe`] | tests, admin API | the asker waits |

use std::sync::Arc;

use actix::{Message, MessageResponse, Recipient};
use chat::event::Committed;
use chat::ids::{AppId, ConversationId, UserId};
use serde::Serialize;

use crate::session::message::{Live, Missed};

/// A session of this process.
pub(crate) type SessionNumber = u64;

/// How a session is reached.
#[derive(Clone)]
pub(crate) struct Subscriber {
    pub(crate) mailbox: Recipient<Live>,
    /// What does not fit the mailbox.
    pub(crate) missed: Arc<Missed>,
}

/// Events of one applied entry, in order.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Applied {
    pub(super) events: Arc<[Committed]>,
    pub(super) bytes: usize,
}

/// Something is in the overflow.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct LookAtOverflow;

/// From now on the session hears what enters its user's list.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Register {
    pub(crate) session: SessionNumber,
    pub(crate) app: AppId,
    pub(crate) user: UserId,
    pub(crate) subscriber: Subscriber,
}

/// From the answer on, every event of these conversations reaches the session or its `Missed`.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Follow {
    pub(crate) session: SessionNumber,
    pub(crate) conversations: Vec<ConversationId>,
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Unfollow {
    pub(crate) session: SessionNumber,
    pub(crate) conversation: ConversationId,
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Unregister {
    pub(crate) session: SessionNumber,
}

/// Every session is to say goodbye; its client connects again, spread over `spread_ms`.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Reconnect {
    pub(crate) spread_ms: u64,
}

#[derive(Debug, Message)]
#[rtype(result = "FanOutState")]
pub(crate) struct Observe;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, MessageResponse)]
pub struct FanOutState {
    pub sessions: usize,
    pub users: usize,
    pub conversations: usize,
    /// Events encoded; each once, however many sessions get it.
    pub encoded: u64,
    /// Events handed to sessions.
    pub delivered: u64,
    /// Times a session's mailbox was full.
    pub lagged: u64,
    /// Times this actor's own queue was full.
    pub overflowed: u64,
}
