//! What has happened: committed facts, in the order of their conversation.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::app::LoginPolicy;
use crate::command::Revoked;
use crate::group::GroupChange;
use crate::ids::{AppId, ClientMsgId, ConversationId, UserId};

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

/// Everything that applying an entry tells the node it happens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// The next event of a conversation.
    Sequenced(SequencedEvent),
    /// A member read up to `seq`. Not sequenced: the newest position is all that counts.
    ReadMoved { app: AppId, conversation: ConversationId, user: UserId, seq: u64 },
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
    /// A session of the user began, and others end by the app's policy: those that began before it (home shard).
    SessionBegan { app: AppId, user: UserId, session: Uuid, platform: String, policy: LoginPolicy },
    /// Sessions of all users of the app end (metadata group).
    AppFrozen { app: AppId },
}
