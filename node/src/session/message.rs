//! What a session may be told, besides what its socket says ([`crate::socket::Inbound`]).

use std::sync::Arc;

use actix::{Message, MessageResponse};
use bytestring::ByteString;
use chat::event::{Event, Receipt, SequencedEvent};
use chat::ids::{ClientMsgId, ConversationId, UserId};
use chat::wire::{EventContent, ServerFrame, WireEvent};
use serde::Serialize;

use super::encode;

/// An event as every session of its conversation writes it: encoded once, shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiveEvent {
    pub(crate) seq: u64,
    pub(crate) frame: ByteString,
    /// The member whom this event removes.
    pub(crate) removed: Option<UserId>,
    /// Whose message this is: it is that session's ack too.
    pub(crate) sent: Option<(UserId, ClientMsgId)>,
    /// It is not for everybody.
    pub(crate) only: Option<Arc<Only>>,
}

/// Who sees what a message says, and what others see.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Only {
    author: UserId,
    users: Vec<UserId>,
    hidden: ByteString,
}

impl LiveEvent {
    pub(crate) fn new(event: &SequencedEvent, frame: ByteString) -> Self {
        let removed = match &event.event {
            Event::Left { user } | Event::Kicked { user, .. } | Event::Banned { user, .. } => Some(user.clone()),
            _ => None,
        };
        let sent = match &event.event {
            Event::Message { author, client_msg_id, .. } => Some((author.clone(), *client_msg_id)),
            _ => None,
        };
        let only = match &event.event {
            Event::Message { author, relations: Some(relations), .. } if !relations.only_to.is_empty() => {
                let hidden =
                    encode(&ServerFrame::Event { event: hidden(&event.conversation, event.seq, event.time_ms) });
                Some(Arc::new(Only { author: author.clone(), users: relations.only_to.clone(), hidden }))
            }
            _ => None,
        };
        Self { seq: event.seq, frame, removed, sent, only }
    }

    /// The frame as `user` sees it.
    pub(crate) fn frame_for(&self, user: Option<&UserId>) -> &ByteString {
        match &self.only {
            Some(only) if !user.is_some_and(|user| *user == only.author || only.users.contains(user)) => &only.hidden,
            _ => &self.frame,
        }
    }
}

/// What is left of an event for somebody whom it does not concern.
pub(crate) fn hidden(conversation: &ConversationId, seq: u64, time_ms: u64) -> WireEvent {
    WireEvent { conversation: conversation.clone(), seq, time_ms, content: EventContent::Hidden }
}

/// From the fan-out of the session's own thread: a direct call, which never waits.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Live<'a> {
    /// Events of one conversation, in order.
    Events {
        conversation: &'a ConversationId,
        events: &'a [LiveEvent],
    },
    /// Events up to `head` exist; history has them.
    Moved {
        conversation: &'a ConversationId,
        head: u64,
    },
    /// The conversation entered the user's list.
    Listed {
        conversation: &'a ConversationId,
    },
    ReadMoved {
        conversation: &'a ConversationId,
        user: &'a UserId,
        receipt: Receipt,
        seq: u64,
    },
    /// The user deleted these, for themselves.
    DeletedForMe {
        conversation: &'a ConversationId,
        first: u64,
        last: u64,
    },
    /// What the user keeps has changed, up to `version`; without a frame: ask for it.
    ItemsChanged {
        version: u64,
        frame: Option<&'a ByteString>,
    },
    /// Somebody asks to join a group that the user is an admin of.
    JoinAsked {
        conversation: &'a ConversationId,
        user: &'a UserId,
        text: &'a str,
    },
    /// Somebody whom the session hears of came, went or turned away.
    PresenceChanged {
        user: &'a UserId,
        frame: &'a ByteString,
    },
    /// Answers the session's `subscribe_presence`.
    PresenceAnswer {
        re: u64,
        frame: &'a ByteString,
    },
    /// Said in a conversation beside the log.
    Said {
        conversation: &'a ConversationId,
        frame: &'a ByteString,
    },
    /// This node cannot say what happened since, or will stop: the client must connect again and resume.
    Reconnect,
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
