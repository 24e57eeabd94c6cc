//! What a worker's fan-out actor may be told. Its sessions live on its own thread and call it directly
//! ([`super::LocalFanOut`]).
//!
//! | message | from | mailbox full |
//! |---|---|---|
//! | [`Applied`] | [`super::NodeFeed`] | noted in the worker's overflow: sessions read from history |
//! | [`super::aside::Tell`] | the presence actor, the router | not heard; presence is told again |
//! | [`LookAtOverflow`] | [`super::NodeFeed`] | what is in the mailbox looks at the overflow too |
//! | [`Reconnect`] | the node, before it stops or rests | the node waits |
//! | [`Observe`] | tests, admin API | the asker waits |

use std::sync::Arc;

use actix::{Message, MessageResponse};
use serde::Serialize;

use super::batch::Batch;

/// A session of this process.
pub(crate) type SessionNumber = u64;

/// Events of one applied entry, in order.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Applied(pub(super) Arc<Batch>);

/// Something is in the overflow.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct LookAtOverflow;

/// One part of all sessions is to say goodbye; their clients connect again.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Reconnect {
    pub(super) part: u64,
    pub(super) of: u64,
}

#[derive(Debug, Message)]
#[rtype(result = "FanOutState")]
pub(super) struct Observe;

/// One worker's numbers; the node's are their sums.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, MessageResponse)]
pub struct FanOutState {
    pub sessions: usize,
    pub users: usize,
    pub conversations: usize,
    /// Events handed to sessions.
    pub delivered: u64,
    /// Times a worker's queue was full.
    pub overflowed: u64,
}
