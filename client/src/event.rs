//! What a client tells its user unasked.

use chat::ids::{ClientMsgId, ConversationId, GroupId, UserId};
use chat::wire::{ResyncReason, SignalBody, UserItem, UserPresence, WireEvent};
use tokio::sync::mpsc;

/// One item of [`Events`].
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly every item is an event")]
pub enum ClientEvent {
    /// The next event of a conversation: each exactly once, in the order of `seq`, over reconnects too.
    Event(WireEvent),
    /// A member's newest read position. May be left out while this side reads slowly.
    ReadMoved { conversation: ConversationId, user: UserId, seq: u64 },
    /// A member's devices have everything up to `seq`. May be left out while this side reads slowly.
    DeliveredMoved { conversation: ConversationId, user: UserId, seq: u64 },
    /// More of a message that is being written; `text` begins at byte `offset`. May be left out while this side reads slowly.
    Stream { conversation: ConversationId, from: UserId, client_msg_id: ClientMsgId, offset: u64, text: String },
    /// The user deleted these on another device, for themselves.
    DeletedForMe { conversation: ConversationId, first: u64, last: u64 },
    /// What the user keeps has changed, up to `version`. Without items, or after a reconnect: ask for it with `Client::sync`.
    ItemsChanged { items: Vec<UserItem>, version: u64 },
    /// Somebody asks to join a group that this user is an admin of. May be left out while this side reads slowly: ask
    /// for `Client::join_requests` now and then.
    JoinAsked { group: GroupId, user: UserId, text: String },
    /// Events after `live_after` follow; what is up to it is read with `Client::history`.
    ConversationAdded { conversation: ConversationId, live_after: u64 },
    /// Nothing of this conversation follows.
    ConversationRemoved { conversation: ConversationId },
    /// Drop what you hold of this conversation: its events from `next_seq` on follow.
    MustResync { conversation: ConversationId, reason: ResyncReason, next_seq: u64 },
    /// How users appear now whom the client hears of: those that have changed, or all of them after a reconnect.
    Presence { users: Vec<UserPresence> },
    /// A member is typing. Of those who say so more than once, once in a while.
    Typing { conversation: ConversationId, user: UserId },
    /// What a member's app said to whoever is online. May be left out while this side reads slowly.
    Signal { conversation: ConversationId, from: UserId, body: SignalBody },
    /// The connection is gone; the client connects again by itself.
    Disconnected { why: String },
    /// Connected again and resumed: nothing was missed.
    Reconnected,
    /// The node closes soon; the client moves to another one by itself.
    Goaway { reconnect_after_ms: u64 },
    /// The last item: the service ended this client and connecting again would fail the same way.
    Closed { code: u16, why: String },
}

/// The client's events. Nothing is lost if they are read slowly: the client stops taking events from the
/// connection and later reads what it left out from history. Requests and their answers go on meanwhile.
#[derive(Debug)]
pub struct Events {
    pub(crate) receiver: mpsc::Receiver<ClientEvent>,
}

impl Events {
    /// The next event; none once the client is closed or dropped.
    pub async fn next(&mut self) -> Option<ClientEvent> {
        self.receiver.recv().await
    }

    /// The next event, if one is there.
    pub fn try_next(&mut self) -> Option<ClientEvent> {
        self.receiver.try_recv().ok()
    }
}
