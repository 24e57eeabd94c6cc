//! What a session may be told, besides what its socket says ([`crate::socket::Inbound`]).

use actix::{Message, MessageResponse};
use bytestring::ByteString;
use chat::event::{Event, Receipt, SequencedEvent};
use chat::ids::{ClientMsgId, ConversationId, UserId};
use serde::Serialize;

/// An event as every session of its conversation writes it: encoded once, shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiveEvent {
    pub(crate) seq: u64,
    pub(crate) frame: ByteString,
    /// The member whom this event removes.
    pub(crate) removed: Option<UserId>,
    /// Whose message this is: it is that session's ack too.
    pub(crate) sent: Option<(UserId, ClientMsgId)>,
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
        Self { seq: event.seq, frame, removed, sent }
    }
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
