//! What a group actor may be asked. Asked by [`crate::router`], on the conversation's leader node; the answer comes
//! through the request's own channel. A full mailbox is answered [`GroupFailure::Overloaded`].

use actix::{Message, MessageResponse};
use bytes::Bytes;
use chat::codec::{self, Kind};
use chat::command::{ConversationCommand, Original};
use chat::errors::ErrorCode;
use chat::event::{BodyKind, Relations, Role, SealedBody};
use chat::group::{GroupChange, GroupKind};
use chat::ids::{ClientMsgId, NodeId, UserId};
use cluster::{ProposeError, Proposed};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a user wants of a conversation. Crosses the wire between nodes: new variants go last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum GroupAsk {
    Send { client_msg_id: ClientMsgId, kind: BodyKind, plain: Bytes, relations: Option<Box<Relations>> },
    CreateGroup { name: String, members: Vec<UserId>, kind: GroupKind },
    Join { invite: Option<[u8; 32]>, text: String },
    Leave,
    Invite { users: Vec<UserId> },
    Kick { user: UserId },
    SetRole { user: UserId, role: Role },
    MarkRead { seq: u64 },
    ChangeGroup { change: GroupChange },
    Ban { user: UserId, duration_ms: Option<u64> },
    Unban { user: UserId },
    Mute { user: UserId, duration_ms: Option<u64> },
    Unmute { user: UserId },
    SetNickname { nickname: Option<String> },
    AnswerJoin { user: UserId, accept: bool },
    AddInvite { code: [u8; 32], life_ms: u64, uses: u32 },
    RevokeInvite { code: [u8; 32] },
    Dissolve,
    Edit { seq: u64, client_msg_id: ClientMsgId, kind: BodyKind, plain: Bytes },
    Recall { seq: u64 },
    React { seq: u64, reaction: String, on: bool },
    Pin { seq: u64, on: bool },
    AskContact { text: String },
    AnswerContact { accept: bool },
    RemoveContact,
    Block { on: bool },
    MarkDelivered { seq: u64 },
    DeleteForMe { first: u64, last: u64 },
}

impl GroupAsk {
    /// Whether asking twice does what asking once does, and answers the same.
    pub(crate) fn idempotent(&self) -> bool {
        matches!(
            self,
            Self::Send { .. }
                | Self::CreateGroup { .. }
                | Self::MarkRead { .. }
                | Self::ChangeGroup { .. }
                | Self::Unban { .. }
                | Self::Unmute { .. }
                | Self::SetNickname { .. }
                | Self::RevokeInvite { .. }
                | Self::Edit { .. }
                | Self::Recall { .. }
                | Self::AskContact { .. }
                | Self::RemoveContact
                | Self::Block { .. }
                | Self::MarkDelivered { .. }
                | Self::DeleteForMe { .. }
        )
    }

    /// Whether it may change who is a member.
    pub(super) fn changes_members(&self) -> bool {
        matches!(
            self,
            Self::CreateGroup { .. }
                | Self::Join { .. }
                | Self::Leave
                | Self::Invite { .. }
                | Self::Kick { .. }
                | Self::Ban { .. }
                | Self::AnswerJoin { .. }
                | Self::SetRole { .. }
        )
    }

    /// Whether it is about the two users of a private conversation, which need not have begun.
    pub(super) fn of_pair(&self) -> bool {
        matches!(self, Self::AskContact { .. } | Self::AnswerContact { .. } | Self::RemoveContact | Self::Block { .. })
    }

    /// The message that has to be found in the log before this can be proposed.
    pub(super) fn original(&self) -> Option<u64> {
        match self {
            Self::Edit { seq, .. } | Self::Recall { seq } => Some(*seq),
            _ => None,
        }
    }

    /// The id by which a repetition is known, of what was sent before.
    pub(super) fn id(&self) -> Option<ClientMsgId> {
        match self {
            Self::Send { client_msg_id, .. } | Self::Edit { client_msg_id, .. } => Some(*client_msg_id),
            _ => None,
        }
    }

    /// Users who must have accounts before this can be done.
    pub(crate) fn names(&self) -> &[UserId] {
        match self {
            Self::CreateGroup { members, .. } => members,
            Self::Invite { users } => users,
            Self::Ban { user, .. } => std::slice::from_ref(user),
            _ => &[],
        }
    }

    /// The command for the log; none if a message that it needs was not found. What has a body is sealed by `seal`, which
    /// gives the digest, too.
    pub(super) fn command(
        self,
        original: Option<Original>,
        seal: impl FnOnce(ClientMsgId, BodyKind, &[u8]) -> ([u8; 16], SealedBody),
    ) -> Option<ConversationCommand> {
        Some(match self {
            Self::Send { client_msg_id, kind, plain, relations } => {
                let (digest, body) = seal(client_msg_id, kind, &plain);
                ConversationCommand::Send { client_msg_id, digest, body, relations }
            }
            Self::CreateGroup { name, members, kind } => ConversationCommand::CreateGroup { name, members, kind },
            Self::Join { invite, text } => ConversationCommand::Join { invite, text },
            Self::Leave => ConversationCommand::Leave,
            Self::Invite { users } => ConversationCommand::Invite { users },
            Self::Kick { user } => ConversationCommand::Kick { user },
            Self::SetRole { user, role } => ConversationCommand::SetRole { user, role },
            Self::MarkRead { seq } => ConversationCommand::MarkRead { seq },
            Self::ChangeGroup { change } => ConversationCommand::ChangeGroup { change },
            Self::Ban { user, duration_ms } => ConversationCommand::Ban { user, duration_ms },
            Self::Unban { user } => ConversationCommand::Unban { user },
            Self::Mute { user, duration_ms } => ConversationCommand::Mute { user, duration_ms },
            Self::Unmute { user } => ConversationCommand::Unmute { user },
            Self::SetNickname { nickname } => ConversationCommand::SetNickname { nickname },
            Self::AnswerJoin { user, accept } => ConversationCommand::AnswerJoin { user, accept },
            Self::AddInvite { code, life_ms, uses } => ConversationCommand::AddInvite { code, life_ms, uses },
            Self::RevokeInvite { code } => ConversationCommand::RevokeInvite { code },
            Self::Dissolve => ConversationCommand::Dissolve,
            Self::Edit { client_msg_id, kind, plain, .. } => {
                let (digest, body) = seal(client_msg_id, kind, &plain);
                ConversationCommand::Edit { original: Box::new(original?), client_msg_id, digest, body }
            }
            Self::Recall { .. } => ConversationCommand::Recall { original: original? },
            Self::React { seq, reaction, on } => ConversationCommand::React { seq, reaction, on },
            Self::Pin { seq, on } => ConversationCommand::Pin { seq, on },
            Self::AskContact { text } => ConversationCommand::AskContact { text },
            Self::AnswerContact { accept } => ConversationCommand::AnswerContact { accept },
            Self::RemoveContact => ConversationCommand::RemoveContact,
            Self::Block { on } => ConversationCommand::Block { on },
            Self::MarkDelivered { seq } => ConversationCommand::MarkDelivered { seq },
            Self::DeleteForMe { first, last } => ConversationCommand::DeleteForMe { first, last },
        })
    }

    /// What a message says besides its body: the same id with another of it is a conflict, too.
    pub(super) fn about(&self) -> Bytes {
        match self {
            Self::Send { relations: Some(relations), .. } => {
                codec::encode(Kind::Entry, relations).expect("relations are smaller than the entry they go into")
            }
            Self::Edit { seq, .. } => Bytes::copy_from_slice(&seq.to_be_bytes()),
            _ => Bytes::new(),
        }
    }
}

/// A request's place among those that its session makes of the same conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Turn {
    pub(crate) session: Uuid,
    /// The session's number of the request; the same again when it is asked again.
    pub(crate) ticket: u64,
    /// The request before it, unless that was answered already: this one comes after it or not at all.
    pub(crate) after: Option<u64>,
}

/// It is in the log of a majority, durably.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GroupDone {
    pub(crate) seq: u64,
    pub(crate) duplicate: bool,
}

/// Crosses the wire between nodes: new variants go last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum GroupFailure {
    Rejected(ErrorCode),
    /// Not decided here; nothing happened.
    NotLeader {
        leader: Option<NodeId>,
    },
    /// A queue is full; nothing happened.
    Overloaded {
        retry_after_ms: u64,
    },
    /// Nothing happened.
    Unavailable,
    /// It may have happened.
    Unknown,
    /// Storage failed; it may have happened.
    Internal,
    /// The request before it has not entered the log; nothing happened.
    OutOfTurn,
    /// More is said in the conversation, or in the app, than may be; nothing happened.
    TooOften {
        retry_after_ms: u64,
    },
}

impl GroupFailure {
    /// The log or a check has decided: asking again gives the same answer.
    pub(crate) fn is_decided(self) -> bool {
        matches!(self, Self::Rejected(_))
    }
}

pub(crate) type GroupAnswer = Result<GroupDone, GroupFailure>;

/// Where an answer goes: called once, from any thread; must not block. Dropped without an answer, because the actor
/// ended with the request in hand, it answers [`GroupFailure::Unknown`].
pub(crate) struct Reply(Option<Box<dyn FnOnce(GroupAnswer) + Send>>);

impl Reply {
    pub(crate) fn new(reply: impl FnOnce(GroupAnswer) + Send + 'static) -> Self {
        Self(Some(Box::new(reply)))
    }

    pub(crate) fn send(mut self, answer: GroupAnswer) {
        if let Some(reply) = self.0.take() {
            reply(answer);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(reply) = self.0.take() {
            reply(Err(GroupFailure::Unknown));
        }
    }
}

/// One request.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct GroupRequest {
    pub(crate) actor: UserId,
    pub(crate) ask: GroupAsk,
    pub(crate) turn: Turn,
    pub(crate) reply: Reply,
}

/// From the proposer: what became of the command that was proposed for a ticket. Told past the mailbox's limit: there
/// is one for each request that the mailbox or the actor held, and those are bounded.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Decided {
    pub(super) ticket: u64,
    pub(super) outcome: Result<Proposed, ProposeError>,
}

/// From the directory: this node no longer leads the shard, or the actor is not needed. Full: asked again later.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Retire;

/// For tests and the admin API. Full: try again.
#[derive(Debug, Message)]
#[rtype(result = "GroupState")]
pub(crate) struct Observe;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, MessageResponse)]
pub struct GroupState {
    pub conversation: String,
    pub in_flight: usize,
    /// Commands proposed since the actor was made.
    pub proposed: u64,
    /// Repetitions that waited for a first copy's outcome.
    pub joined_in_flight: u64,
}
