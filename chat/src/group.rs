//! What a group is like: its kind, who may do what in it, and what its owner and admins may change.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::event::Role;
use crate::ids::UserId;
use crate::limits;
use crate::text;

/// What a group is for. It decides how a group begins; all but the size can be changed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupKind {
    /// Anybody who knows its id joins and reads everything.
    #[default]
    Public,
    /// Colleagues: only members bring others in.
    Work,
    /// Anybody who knows its id joins, and reads what is said from then on.
    Meeting,
    /// As `public`, for up to [`limits::COMMUNITY_MEMBERS`] members.
    Community,
    /// Admins speak, everybody reads; as large as a community.
    Channel,
}

/// How somebody who is not invited by a member comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JoinMode {
    /// By asking.
    #[default]
    Open,
    /// By asking, once an admin agrees; with an invite at once.
    Approval,
    /// With an invite only.
    Invite,
}

/// What a member may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Visibility {
    /// Everything that is kept.
    #[default]
    All,
    /// From the event that made the user a member.
    SinceJoin,
}

/// The lowest role that may do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rights {
    /// Send messages.
    pub send: Role,
    /// Bring users in, and make invites.
    pub invite: Role,
    /// Change name, announcement and attributes.
    pub change_info: Role,
}

/// One thing about a group that can be changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupChange {
    Name(String),
    /// An empty one takes it away.
    Announcement(String),
    /// No value takes it away. What it means is the app's business.
    Attribute {
        key: String,
        value: Option<String>,
    },
    Join(JoinMode),
    History(Visibility),
    /// Only admins and the owner speak.
    MuteAll(bool),
    /// Shortest time between two messages of one member; 0 for none. Admins and the owner are exempt.
    SlowModeMs(u64),
    Rights(Rights),
}

/// A group's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSettings {
    pub kind: GroupKind,
    pub join: JoinMode,
    pub history: Visibility,
    pub rights: Rights,
    pub mute_all: bool,
    pub slow_mode_ms: u64,
    pub announcement: String,
    pub attributes: BTreeMap<String, String>,
    /// The owner and the admins: who is asked about things.
    pub admins: BTreeSet<UserId>,
    /// It is over: what was said stays to be read, and nothing is added but leaving.
    pub dissolved: bool,
}

impl GroupKind {
    pub fn members_max(self) -> u64 {
        let most = match self {
            Self::Public | Self::Work | Self::Meeting => limits::GROUP_MEMBERS,
            Self::Community | Self::Channel => limits::COMMUNITY_MEMBERS,
        };
        most as u64
    }
}

impl GroupSettings {
    pub fn new(kind: GroupKind) -> Self {
        let join = if kind == GroupKind::Work { JoinMode::Invite } else { JoinMode::Open };
        let history = if kind == GroupKind::Meeting { Visibility::SinceJoin } else { Visibility::All };
        let send = if kind == GroupKind::Channel { Role::Admin } else { Role::Member };
        let invite = if kind == GroupKind::Work { Role::Member } else { Role::Admin };
        Self {
            kind,
            join,
            history,
            rights: Rights { send, invite, change_info: Role::Admin },
            mute_all: false,
            slow_mode_ms: 0,
            announcement: String::new(),
            attributes: BTreeMap::new(),
            admins: BTreeSet::new(),
            dissolved: false,
        }
    }

    /// Whether a message may be refused because of them.
    pub(crate) fn is_guarded(&self) -> bool {
        self.dissolved || self.mute_all || self.slow_mode_ms > 0 || self.rights.send > Role::Member
    }

    /// Makes the change. False if everything was so already.
    pub(crate) fn change(&mut self, change: &GroupChange) -> bool {
        let before = self.clone();
        match change {
            // The name is kept with the conversation.
            GroupChange::Name(_) => {}
            GroupChange::Announcement(text) => self.announcement.clone_from(text),
            GroupChange::Attribute { key, value: Some(value) } => {
                self.attributes.insert(key.clone(), value.clone());
            }
            GroupChange::Attribute { key, value: None } => {
                self.attributes.remove(key);
            }
            GroupChange::Join(join) => self.join = *join,
            GroupChange::History(history) => self.history = *history,
            GroupChange::MuteAll(mute) => self.mute_all = *mute,
            GroupChange::SlowModeMs(ms) => self.slow_mode_ms = *ms,
            GroupChange::Rights(rights) => self.rights = *rights,
        }
        *self != before
    }
}

/// What the log holds instead of an invite's code.
pub fn code_hash(code: &str) -> [u8; 32] {
    blake3::derive_key("campanile group invite code", code.as_bytes())
}

/// Whether a code may be an invite's: long enough not to be guessed.
pub fn check_code(code: &str) -> Result<(), CodeError> {
    let lengths = limits::INVITE_CODE_BYTES_MIN..=limits::INVITE_CODE_BYTES_MAX;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if lengths.contains(&code.len()) && code.chars().all(plain) { Ok(()) } else { Err(CodeError) }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a code is {min} to {max} random letters, digits, `-` and `_`",
    min = limits::INVITE_CODE_BYTES_MIN,
    max = limits::INVITE_CODE_BYTES_MAX
)]
pub struct CodeError;

/// Why a change is not allowed by anybody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    #[error(transparent)]
    Text(#[from] text::TextError),
    #[error("an attribute's key is 1 to {max} bytes of a-z, 0-9, `-`, `_` and `.`", max = limits::ATTRIBUTE_KEY_BYTES)]
    Key,
    #[error("slow mode is at most {max} ms", max = limits::SLOW_MODE_MS_MAX)]
    SlowMode,
}

impl GroupChange {
    /// Whether its values are within limits, whoever asks for it.
    pub fn check(&self) -> Result<(), ChangeError> {
        match self {
            Self::Name(name) => Ok(text::check_name(name)?),
            Self::Announcement(words) if words.is_empty() => Ok(()),
            Self::Announcement(words) => Ok(text::check_long(words, limits::ANNOUNCEMENT_BYTES)?),
            Self::Attribute { key, value } => {
                let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
                if key.is_empty() || key.len() > limits::ATTRIBUTE_KEY_BYTES || !key.chars().all(plain) {
                    return Err(ChangeError::Key);
                }
                Ok(value.iter().try_for_each(|value| text::check_long(value, limits::ATTRIBUTE_VALUE_BYTES))?)
            }
            Self::SlowModeMs(ms) if *ms > limits::SLOW_MODE_MS_MAX => Err(ChangeError::SlowMode),
            Self::SlowModeMs(_) | Self::Join(_) | Self::History(_) | Self::MuteAll(_) | Self::Rights(_) => Ok(()),
        }
    }

    /// The role that may make it under these rights.
    pub(crate) fn needs(&self, rights: &Rights) -> Role {
        match self {
            Self::Name(_) | Self::Announcement(_) | Self::Attribute { .. } => rights.change_info,
            Self::MuteAll(_) | Self::SlowModeMs(_) | Self::Join(_) => Role::Admin,
            Self::History(_) | Self::Rights(_) => Role::Owner,
        }
    }

    /// Bytes of the texts in it.
    pub fn text_bytes(&self) -> usize {
        match self {
            Self::Name(text) | Self::Announcement(text) => text.len(),
            Self::Attribute { key, value } => key.len() + value.as_ref().map_or(0, String::len),
            Self::Join(_) | Self::History(_) | Self::MuteAll(_) | Self::SlowModeMs(_) | Self::Rights(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_begins_as_its_users_expect() {
        let kind = GroupSettings::new;
        assert_eq!(kind(GroupKind::Work).join, JoinMode::Invite);
        assert_eq!(kind(GroupKind::Meeting).history, Visibility::SinceJoin);
        assert!(!kind(GroupKind::Public).is_guarded() && kind(GroupKind::Channel).is_guarded());
        assert_eq!(GroupKind::Channel.members_max(), 100_000);
    }

    #[test]
    fn changes_are_made_once_and_within_limits() {
        let mut settings = GroupSettings::new(GroupKind::Public);
        let topic =
            |value: Option<&str>| GroupChange::Attribute { key: "topic".into(), value: value.map(str::to_owned) };
        assert!(settings.change(&topic(Some("bells"))) && !settings.change(&topic(Some("bells"))));
        assert!(settings.change(&topic(None)) && settings.attributes.is_empty());
        assert!(settings.change(&GroupChange::SlowModeMs(1_000)) && settings.is_guarded());
        assert!(GroupChange::SlowModeMs(limits::SLOW_MODE_MS_MAX + 1).check().is_err());
        assert!(GroupChange::Attribute { key: "No".into(), value: None }.check().is_err());
        assert!(GroupChange::Announcement("two\nlines".into()).check().is_ok());
        assert!(GroupChange::Announcement("x".repeat(limits::ANNOUNCEMENT_BYTES + 1)).check().is_err());
    }
}
