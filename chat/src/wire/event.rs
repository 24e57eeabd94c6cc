//! Events as clients see them.

use serde::{Deserialize, Serialize};

use super::{Body, Reaction, Recalled};
use crate::event::{Forwarded, Mentions, Role};
use crate::group::GroupChange;
use crate::ids::{ClientMsgId, ConversationId, UserId};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireEvent {
    pub conversation: ConversationId,
    pub seq: u64,
    pub time_ms: u64,
    #[serde(flatten)]
    pub content: EventContent,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "nearly every event is a message")]
pub enum EventContent {
    Message {
        from: UserId,
        client_msg_id: ClientMsgId,
        /// None if it was recalled.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<Body>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply_to: Option<u64>,
        #[serde(default, skip_serializing_if = "Mentions::is_empty")]
        mentions: Mentions,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        forwarded: Option<Forwarded>,
        /// The `edited` event whose body this is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        edited_seq: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        recalled: Option<Recalled>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        reactions: Vec<Reaction>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        pinned: bool,
        /// Only these and the author see what it says.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        only_to: Vec<UserId>,
        /// From then on it is not shown.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_ms: Option<u64>,
        /// It is shown until the other side has read it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        burn: bool,
    },
    /// A message that is not for the reader, or that the reader deleted: only its place.
    Hidden,
    /// The message at `target` was for a while: forget what it held.
    Expired {
        target: u64,
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
    /// The message at `target` has another body from now on. None if the message was recalled since.
    Edited {
        target: u64,
        by: UserId,
        client_msg_id: ClientMsgId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<Body>,
    },
    /// The message at `target` was taken back: forget what it held.
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
    GroupChanged {
        change: GroupChange,
        by: UserId,
    },
    Banned {
        user: UserId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until_ms: Option<u64>,
        by: UserId,
    },
    Unbanned {
        user: UserId,
        by: UserId,
    },
    Muted {
        user: UserId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until_ms: Option<u64>,
        by: UserId,
    },
    Unmuted {
        user: UserId,
        by: UserId,
    },
    NicknameChanged {
        user: UserId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nickname: Option<String>,
    },
    Dissolved {
        by: UserId,
    },
    /// An event of a later version of the service: it takes its seq and is passed over. Never sent.
    #[serde(other)]
    Unknown,
}

impl EventContent {
    /// A message that nothing happened to and that speaks of no other.
    pub fn message(from: UserId, client_msg_id: ClientMsgId, body: Body) -> Self {
        Self::Message {
            from,
            client_msg_id,
            body: Some(body),
            reply_to: None,
            mentions: Mentions::default(),
            forwarded: None,
            edited_seq: None,
            recalled: None,
            reactions: Vec::new(),
            pinned: false,
            only_to: Vec::new(),
            expires_ms: None,
            burn: false,
        }
    }
}
