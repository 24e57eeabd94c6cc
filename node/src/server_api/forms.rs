//! The forms of what the document describes, where the type itself is of another crate: `chat` knows nothing of OpenAPI. Nothing here is
//! ever made; the types beside them are what is read.
#![allow(dead_code, reason = "only their descriptions are used")]

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// A user: visible ASCII but for `: / " ' < > & , @ # %`.
#[derive(Serialize, ToSchema)]
#[schema(value_type = String, min_length = 1, max_length = 64, pattern = r"^[!$()*+\-.0-9;=?A-Z\[\\\]^_`a-z{|}~]+$", example = "alice")]
pub(super) struct UserName(String);

/// `p:alice:bob`, the users in byte order, or `g:` and a group's UUID.
#[derive(Serialize, ToSchema)]
#[schema(value_type = String, pattern = "^(p:[^:/]+:[^:/]+|g:[0-9a-fA-F-]{36})$", example = "p:alice:bob")]
pub(super) struct ConversationName(String);

/// Where a message goes.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum To {
    User(UserName),
    Group(Uuid),
}

/// What a message holds, as in docs/PROTOCOL.md, which also has the kind `merged`.
#[derive(Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Content {
    Text {
        #[schema(min_length = 1, max_length = 16384)]
        text: String,
    },
    Action {
        #[schema(min_length = 1, max_length = 16384)]
        text: String,
    },
    Custom {
        data: serde_json::Value,
    },
    Location {
        #[schema(minimum = -90, maximum = 90)]
        latitude: f64,
        #[schema(minimum = -180, maximum = 180)]
        longitude: f64,
        #[schema(max_length = 128)]
        label: String,
    },
    Contact {
        user: UserName,
        #[schema(min_length = 1, max_length = 128)]
        name: String,
    },
}

/// Whom a message names.
#[derive(Serialize, ToSchema)]
pub(super) struct Mentioned {
    #[schema(max_items = 50)]
    users: Vec<UserName>,
    /// Everybody in the conversation.
    all: bool,
}

/// One thing about a group.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Change {
    Name(String),
    /// An empty one takes it away.
    Announcement(String),
    /// No value takes it away.
    Attribute {
        #[schema(min_length = 1, max_length = 32)]
        key: String,
        #[schema(max_length = 512)]
        value: Option<String>,
    },
    Join(Join),
    History(Seen),
    /// Only admins and the owner speak.
    MuteAll(bool),
    /// Shortest time between two messages of one member.
    SlowModeMs(u32),
    Rights(May),
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Join {
    Open,
    Approval,
    Invite,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Seen {
    All,
    SinceJoin,
}

/// The lowest role that may.
#[derive(Serialize, ToSchema)]
pub(super) struct May {
    send: Rank,
    invite: Rank,
    change_info: Rank,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Rank {
    Member,
    Admin,
    Owner,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Public,
    Work,
    Meeting,
    Community,
    Channel,
}
