//! What frames say of the moment: who is there, and signals of the app's own making.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ids::UserId;

/// How a session's user wants to appear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Appearance {
    #[default]
    Online,
    Away,
    /// As if this session were not there.
    Invisible,
}

/// How a user appears to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PresenceState {
    Online,
    Away,
    /// Nobody is there, or the user does not say, or there is no such user.
    Offline,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserPresence {
    pub user: UserId,
    pub state: PresenceState,
    /// Of the devices that are there, each once, in order.
    pub platforms: Vec<String>,
    /// When the user was last there, Unix milliseconds: of those who are offline and show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_ms: Option<u64>,
}

/// Who may know something of a user. Stored as well: the order of variants is the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    #[default]
    Everyone,
    Nobody,
}

/// What a signal carries: what it means is the app's affair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SignalBody {
    Text(String),
    Object(Map<String, Value>),
}

impl SignalBody {
    /// Bytes of its JSON.
    pub fn bytes(&self) -> usize {
        serde_json::to_string(self).map_or(usize::MAX, |json| json.len())
    }
}
