//! Apps as tenants: what each is set to, the keys its tokens and its backend come with, and the commands that change that.

use serde::{Deserialize, Serialize};

use crate::ids::{KeyId, UserId};
use crate::limits;
use crate::text;

/// Who the app itself is in conversations. No user has this id: it logs in nowhere, and in a group it is no member but may do
/// what the owner may.
pub const SYSTEM: &str = "system";

pub fn is_system(user: &UserId) -> bool {
    user.as_str() == SYSTEM
}

/// Who makes the accounts of users who come with a token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Registration {
    /// A token's first login does.
    #[default]
    FirstLogin,
    /// The app's backend does, before: nobody else is let in.
    AppOnly,
}

/// Which of a user's sessions may be there at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginPolicy {
    #[default]
    Several,
    /// A new one ends those of the same platform.
    OnePerPlatform,
    /// A new one ends all others.
    NewestWins,
}

impl LoginPolicy {
    /// Whether a session that begins on one platform ends one that is there on another.
    pub fn ends(self, begins: &str, there: &str) -> bool {
        match self {
            Self::Several => false,
            Self::OnePerPlatform => begins == there,
            Self::NewestWins => true,
        }
    }
}

/// What an app is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppSettings {
    pub recall_window_ms: u64,
    pub edit_window_ms: u64,
    pub registration: Registration,
    pub login_policy: LoginPolicy,
    pub users_max: u64,
    pub groups_max: u64,
    /// Besides what the group's kind allows.
    pub group_members_max: u64,
}

impl Default for AppSettings {
    fn default() -> Self {
        Self {
            recall_window_ms: limits::RECALL_WINDOW_MS,
            edit_window_ms: limits::EDIT_WINDOW_MS,
            registration: Registration::default(),
            login_policy: LoginPolicy::default(),
            users_max: limits::APP_USERS,
            groups_max: limits::APP_GROUPS,
            group_members_max: limits::COMMUNITY_MEMBERS as u64,
        }
    }
}

/// One thing about an app that can be set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppChange {
    Name(String),
    RecallWindowMs(u64),
    EditWindowMs(u64),
    Registration(Registration),
    LoginPolicy(LoginPolicy),
    UsersMax(u64),
    GroupsMax(u64),
    GroupMembersMax(u64),
}

impl AppChange {
    /// Whether the value is one that may be set.
    pub fn is_valid(&self) -> bool {
        match self {
            Self::Name(name) => text::check_name(name).is_ok(),
            Self::RecallWindowMs(ms) => *ms <= limits::RECALL_WINDOW_MS,
            Self::EditWindowMs(ms) => *ms <= limits::EDIT_WINDOW_MS,
            Self::Registration(_) | Self::LoginPolicy(_) => true,
            Self::UsersMax(max) => (1..=limits::APP_USERS).contains(max),
            Self::GroupsMax(max) => *max <= limits::APP_GROUPS,
            Self::GroupMembersMax(max) => (1..=limits::COMMUNITY_MEMBERS as u64).contains(max),
        }
    }

    /// Sets everything but the name, which is no setting.
    pub(crate) fn set(&self, settings: &mut AppSettings) {
        match self {
            Self::Name(_) => {}
            Self::RecallWindowMs(ms) => settings.recall_window_ms = *ms,
            Self::EditWindowMs(ms) => settings.edit_window_ms = *ms,
            Self::Registration(registration) => settings.registration = *registration,
            Self::LoginPolicy(policy) => settings.login_policy = *policy,
            Self::UsersMax(max) => settings.users_max = *max,
            Self::GroupsMax(max) => settings.groups_max = *max,
            Self::GroupMembersMax(max) => settings.group_members_max = *max,
        }
    }

    fn bytes(&self) -> usize {
        16 + if let Self::Name(name) = self { name.len() } else { 0 }
    }
}

/// What a key of the app's backend is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    #[serde(rename = "users:read")]
    UsersRead,
    #[serde(rename = "users:write")]
    UsersWrite,
    #[serde(rename = "messages:send")]
    MessagesSend,
    #[serde(rename = "messages:read")]
    MessagesRead,
    #[serde(rename = "groups:read")]
    GroupsRead,
    #[serde(rename = "groups:write")]
    GroupsWrite,
    #[serde(rename = "logins:write")]
    LoginsWrite,
}

impl Scope {
    pub const ALL: [Self; 7] = [
        Self::UsersRead,
        Self::UsersWrite,
        Self::MessagesSend,
        Self::MessagesRead,
        Self::GroupsRead,
        Self::GroupsWrite,
        Self::LoginsWrite,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::UsersRead => "users:read",
            Self::UsersWrite => "users:write",
            Self::MessagesSend => "messages:send",
            Self::MessagesRead => "messages:read",
            Self::GroupsRead => "groups:read",
            Self::GroupsWrite => "groups:write",
            Self::LoginsWrite => "logins:write",
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|scope| scope.name() == text).ok_or_else(|| format!("it is one of {}", names()))
    }
}

/// A key of the app's backend, as it is made: the secret itself is stored nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewApiKey {
    pub name: String,
    pub scopes: Vec<Scope>,
    /// SHA-256: the secret is random and as long, so that nothing slower makes it harder to guess.
    pub hash: [u8; 32],
    /// None: for ever.
    pub expires_ms: Option<u64>,
    /// The secret's last characters, so that people can tell keys apart.
    pub last4: String,
}

/// What is asked of an app's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppCommand {
    /// Rejected with `AppExists` if there is one, unless it is in all the same.
    Create {
        name: String,
    },
    /// All or none.
    Change {
        changes: Vec<AppChange>,
    },
    /// A public key (PEM) that tokens are verified with. The same again changes nothing; another one under its id is refused.
    AddTokenKey {
        id: KeyId,
        pem: String,
    },
    RemoveTokenKey {
        id: KeyId,
    },
    AddApiKey {
        id: KeyId,
        key: NewApiKey,
    },
    RevokeApiKey {
        id: KeyId,
    },
    /// A frozen app lets nobody in, and its sessions end.
    SetFrozen {
        frozen: bool,
    },
}

impl AppCommand {
    pub(crate) fn size_bound(&self) -> usize {
        match self {
            Self::Create { name } => name.len(),
            Self::Change { changes } => changes.iter().map(AppChange::bytes).sum(),
            Self::AddTokenKey { pem, .. } => pem.len(),
            Self::AddApiKey { key, .. } => key.name.len() + key.scopes.len() + 64,
            Self::RemoveTokenKey { .. } | Self::RevokeApiKey { .. } | Self::SetFrozen { .. } => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_one_word_everywhere() {
        for scope in Scope::ALL {
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.name());
            assert_eq!(scope.name().parse(), Ok(scope));
        }
    }

    #[test]
    fn a_policy_says_who_has_to_go() {
        let ends = |policy: LoginPolicy| (policy.ends("ios", "ios"), policy.ends("ios", "web"));
        assert_eq!(ends(LoginPolicy::Several), (false, false));
        assert_eq!(ends(LoginPolicy::OnePerPlatform), (true, false));
        assert_eq!(ends(LoginPolicy::NewestWins), (true, true));
    }
}
