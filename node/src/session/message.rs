//! What a session may be told, besides what its socket says ([`crate::socket::Inbound`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use actix::{Message, MessageResponse};
use bytestring::ByteString;
use chat::ids::{ConversationId, UserId};
use parking_lot::Mutex;
use serde::Serialize;

/// An event as every session of its conversation writes it: encoded once, shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiveEvent {
    pub(crate) seq: u64,
    pub(crate) frame: ByteString,
    /// The member whom this event removes.
    pub(crate) removed: Option<UserId>,
}

/// From the fan-out actor, one-way. If the session's mailbox is full, it is noted in the session's [`Missed`] instead.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub(crate) enum Live {
    /// Events of one conversation, in order.
    Events {
        conversation: Arc<ConversationId>,
        events: Arc<[LiveEvent]>,
    },
    /// Events up to `head` exist; history has them.
    Moved {
        conversation: Arc<ConversationId>,
        head: u64,
    },
    /// The conversation entered the user's list.
    Listed {
        conversation: Arc<ConversationId>,
    },
    ReadMoved {
        conversation: Arc<ConversationId>,
        user: UserId,
        seq: u64,
    },
    /// Something was noted in [`Missed`].
    LookAtMissed,
    /// This node cannot say what happened since, or will stop: the client must connect again and resume.
    Reconnect {
        after_ms: u64,
    },
}

/// What did not fit a mailbox, coalesced: the newest positions are enough, history has the rest.
/// Bounded by the number of conversations of the user.
#[derive(Debug, Default)]
pub(crate) struct Missed(Mutex<MissedNews>);

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct MissedNews {
    pub(crate) heads: BTreeMap<ConversationId, u64>,
    pub(crate) listed: BTreeSet<ConversationId>,
    pub(crate) reads: BTreeMap<(ConversationId, UserId), u64>,
    pub(crate) reconnect: Option<u64>,
}

impl Missed {
    pub(crate) fn note(&self, live: &Live) {
        let mut news = self.0.lock();
        match live {
            Live::Events { conversation, events } => {
                if let Some(last) = events.last() {
                    news.head(conversation, last.seq);
                }
            }
            Live::Moved { conversation, head } => news.head(conversation, *head),
            Live::Listed { conversation } => {
                news.listed.insert((**conversation).clone());
            }
            Live::ReadMoved { conversation, user, seq } => {
                let newest = news.reads.entry(((**conversation).clone(), user.clone())).or_default();
                *newest = (*newest).max(*seq);
            }
            Live::LookAtMissed => {}
            Live::Reconnect { after_ms } => news.reconnect = Some(*after_ms),
        }
    }

    /// Everything noted since the last time.
    pub(crate) fn take(&self) -> Option<MissedNews> {
        let mut news = self.0.lock();
        if *news == MissedNews::default() { None } else { Some(std::mem::take(&mut *news)) }
    }
}

impl MissedNews {
    fn head(&mut self, conversation: &ConversationId, seq: u64) {
        let newest = self.heads.entry(conversation.clone()).or_default();
        *newest = (*newest).max(seq);
    }
}

/// Asks for the session's state: tests and the admin API. Full: try again.
#[derive(Debug, Message)]
#[rtype(result = "SessionState")]
pub(crate) struct Observe;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, MessageResponse)]
pub(crate) struct SessionState {
    pub(crate) session: String,
    pub(crate) phase: &'static str,
    pub(crate) conversations: usize,
    pub(crate) lagging: usize,
    pub(crate) in_flight: usize,
    pub(crate) waiting_bytes: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missed_is_coalesced_to_the_newest() {
        let conversation = Arc::new(ConversationId::Group(chat::ids::GroupId(uuid::Uuid::from_u128(1))));
        let missed = Missed::default();
        assert_eq!(missed.take(), None);
        let event = |seq| LiveEvent { seq, frame: "{}".into(), removed: None };
        missed.note(&Live::Events { conversation: conversation.clone(), events: [event(4), event(5)].into() });
        missed.note(&Live::Moved { conversation: conversation.clone(), head: 3 });
        missed.note(&Live::Listed { conversation: conversation.clone() });
        let news = missed.take().unwrap();
        assert_eq!(news.heads, [((*conversation).clone(), 5)].into());
        assert_eq!(news.listed.len(), 1);
        assert_eq!(missed.take(), None);
    }
}
