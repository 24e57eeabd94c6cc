//! What clients see of what users keep, of each other's profiles, and of who read what.

use serde::{Deserialize, Serialize};

use crate::ids::{ConversationId, UserId};
use crate::user::{Contact, Item, ItemKey, ItemValue, Marks, Profile, UserSettings};

/// Something that a user keeps, as it is since `version`. Without a value it was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserItem {
    pub version: u64,
    #[serde(flatten)]
    pub what: Kept,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "item", rename_all = "snake_case")]
pub enum Kept {
    Profile {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        profile: Option<Profile>,
    },
    Settings {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        settings: Option<UserSettings>,
    },
    Contact {
        user: UserId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        contact: Option<Contact>,
    },
    /// Nothing of what this user says to you is taken.
    Blocked {
        user: UserId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since_ms: Option<u64>,
    },
    Marks {
        conversation: ConversationId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        marks: Option<Marks>,
    },
}

impl From<Item> for UserItem {
    fn from(Item { version, key, value }: Item) -> Self {
        let what = match (key, value) {
            (ItemKey::Profile, Some(ItemValue::Profile(profile))) => Kept::Profile { profile: Some(profile) },
            (ItemKey::Profile, _) => Kept::Profile { profile: None },
            (ItemKey::Settings, Some(ItemValue::Settings(settings))) => Kept::Settings { settings: Some(settings) },
            (ItemKey::Settings, _) => Kept::Settings { settings: None },
            (ItemKey::Contact(user), Some(ItemValue::Contact(contact))) => {
                Kept::Contact { user, contact: Some(contact) }
            }
            (ItemKey::Contact(user), _) => Kept::Contact { user, contact: None },
            (ItemKey::Blocked(user), Some(ItemValue::Blocked(since_ms))) => {
                Kept::Blocked { user, since_ms: Some(since_ms) }
            }
            (ItemKey::Blocked(user), _) => Kept::Blocked { user, since_ms: None },
            (ItemKey::Marks(conversation), Some(ItemValue::Marks(marks))) => {
                Kept::Marks { conversation, marks: Some(marks) }
            }
            (ItemKey::Marks(conversation), _) => Kept::Marks { conversation, marks: None },
        };
        Self { version, what }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserProfile {
    pub user: UserId,
    #[serde(flatten)]
    pub profile: Profile,
}

/// Who has read, or received, a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reader {
    pub user: UserId,
    /// Everything up to these.
    pub read: u64,
    pub delivered: u64,
}
