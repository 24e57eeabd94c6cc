//! What has happened: committed facts, in the order of their conversation.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::app::LoginPolicy;
use crate::command::Revoked;
use crate::group::GroupChange;
use crate::ids::{AppId, ClientMsgId, ConversationId, UserId};
use crate::user::Item;

/// A member's role in a group. The order is the rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Member,
    Admin,
    Owner,
}

/// What a message's sealed bytes hold once opened. The number is stored; new kinds go last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BodyKind {
    Text,
    /// An IRC-style `/me` action: text said about the author.
    Action,
    /// From here on the plain bytes are the body's JSON.
    Custom,
    Location,
    Contact,
    Merged,
}

/// What a message says of others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relations {
    /// The seq of the event that it answers.
    pub reply_to: Option<u64>,
    pub mentions: Mentions,
    pub forwarded: Option<Forwarded>,
    /// In a group: only these and the author see what it says. Empty: everybody.
    pub only_to: Vec<UserId>,
    /// How long it is shown.
    pub life: Life,
}

impl Relations {
    /// Whether the message stays as it was sent: it is for few, or for a while.
    pub fn is_fixed(&self) -> bool {
        !self.only_to.is_empty() || self.life != Life::default()
    }

    /// When the message ends that was sent at `sent_ms`, if it does by itself.
    pub fn expires_ms(&self, sent_ms: u64) -> Option<u64> {
        Some(sent_ms.saturating_add(self.life.expires_in_ms?))
    }
}

/// How long a message is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    pub expires_in_ms: Option<u64>,
    /// In a private conversation: until the other side has read it.
    pub burn: bool,
}

/// Whom a message names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mentions {
    #[serde(default)]
    pub users: Vec<UserId>,
    /// Everybody in the conversation.
    #[serde(default)]
    pub all: bool,
}

impl Mentions {
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && !self.all
    }
}

/// Where a message was before, as its sender says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarded {
    pub from: UserId,
    pub conversation: Option<ConversationId>,
    pub seq: Option<u64>,
}

/// A message's body as the log, the replicas and the snapshots see it: ciphertext.
/// The associated data binds app, conversation, author, `client_msg_id`, key id and kind (`storage::seal`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedBody {
    pub key_id: u32,
    pub kind: BodyKind,
    /// Nonce, ciphertext and tag.
    pub bytes: Bytes,
}

/// One event of a conversation's sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// Without a body if it was recalled.
    Message {
        author: UserId,
        client_msg_id: ClientMsgId,
        body: Option<SealedBody>,
        relations: Option<Box<Relations>>,
    },
    GroupCreated {
        by: UserId,
        name: String,
        members: Vec<UserId>,
    },
    Joined {
        users: Vec<UserId>,
        by: UserId,
    },
    Left {
        user: UserId,
    },
    Kicked {
        user: UserId,
        by: UserId,
    },
    RoleChanged {
        user: UserId,
        role: Role,
        by: UserId,
    },
    GroupChanged {
        change: GroupChange,
        by: UserId,
    },
    /// None: for good. Who is a member is removed by it.
    Banned {
        user: UserId,
        until_ms: Option<u64>,
        by: UserId,
    },
    Unbanned {
        user: UserId,
        by: UserId,
    },
    /// None: for good.
    Muted {
        user: UserId,
        until_ms: Option<u64>,
        by: UserId,
    },
    Unmuted {
        user: UserId,
        by: UserId,
    },
    /// A member's name in the group; none takes it away.
    NicknameChanged {
        user: UserId,
        nickname: Option<String>,
    },
    Dissolved {
        by: UserId,
    },
    /// The message at `target`, which is `by`'s own, has another body. Without one if the message was recalled.
    Edited {
        target: u64,
        by: UserId,
        client_msg_id: ClientMsgId,
        body: Option<SealedBody>,
    },
    Recalled {
        target: u64,
        by: UserId,
    },
    Reacted {
        target: u64,
        by: UserId,
        reaction: String,
        on: bool,
    },
    Pinned {
        target: u64,
        by: UserId,
    },
    Unpinned {
        target: u64,
        by: UserId,
    },
    /// The message at `target` was for a while.
    Expired {
        target: u64,
    },
}

/// An event with its place: what fan-out delivers and history returns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequencedEvent {
    pub app: AppId,
    pub conversation: ConversationId,
    /// Dense from 1, never reused.
    pub seq: u64,
    /// The leader's clock when the entry was proposed, Unix milliseconds. Display only: it orders nothing.
    pub time_ms: u64,
    pub event: Event,
}

/// What became of messages at a member's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Receipt {
    /// The member's devices have them.
    Delivered,
    Read,
}

/// Everything that applying an entry tells the node it happens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// The next event of a conversation.
    Sequenced(SequencedEvent),
    /// A member read, or has, everything up to `seq`. Not sequenced: the newest position is all that counts. `to_all`: the
    /// conversation is so small that all its members are told.
    ReadMoved { app: AppId, conversation: ConversationId, user: UserId, receipt: Receipt, seq: u64, to_all: bool },
    /// Somebody asks to join a group: told to those who may answer.
    JoinAsked { app: AppId, conversation: ConversationId, user: UserId, text: String, admins: Vec<UserId> },
    /// Sessions of the user end, on every node (home shard).
    LoginsRevoked { app: AppId, user: UserId, which: Revoked },
    /// A conversation entered the user's list (home shard).
    ConversationListed { app: AppId, user: UserId, conversation: ConversationId },
    /// A conversation left the user's list (home shard).
    ConversationUnlisted { app: AppId, user: UserId, conversation: ConversationId },
    /// A user changed who may know of its presence (home shard).
    PrivacySet { app: AppId, user: UserId },
    /// Something that the user keeps is another now (home shard).
    ItemChanged { app: AppId, user: UserId, item: Box<Item> },
    /// A member does not want to see these any more, on any device.
    DeletedForMe { app: AppId, conversation: ConversationId, user: UserId, first: u64, last: u64 },
    /// A session of the user began, and others end by the app's policy: those that began before it (home shard).
    SessionBegan { app: AppId, user: UserId, session: Uuid, platform: String, policy: LoginPolicy },
    /// Sessions of all users of the app end (metadata group).
    AppFrozen { app: AppId },
}
