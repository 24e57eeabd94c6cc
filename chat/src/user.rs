//! What a user keeps with the service: a profile, settings, contacts, blocked users, marks on conversations. Each is an
//! item with a version of its own, so that a device asks for what changed since it last did.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{ConversationId, UserId};
use crate::limits;
use crate::text::{self, TextError};

/// What other users of the app see of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// One line.
    #[serde(default)]
    pub name: String,
    /// Where a picture is: the app's affair.
    #[serde(default)]
    pub avatar: String,
    /// The app's own.
    #[serde(default)]
    pub fields: BTreeMap<String, String>,
}

/// Who may begin a conversation with a user, or ask to be a contact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strangers {
    #[default]
    Welcome,
    /// They may ask to be contacts, and begin a conversation once they are.
    MayAsk,
    Refused,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSettings {
    #[serde(default)]
    pub strangers: Strangers,
}

/// How two users stand to each other, as one of them sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContactState {
    /// The user asked; the other one has not answered.
    Asked,
    /// The other one asked.
    Asking,
    Contact,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    pub state: ContactState,
    pub since_ms: u64,
    /// What was said when asking.
    #[serde(default)]
    pub text: String,
    /// The user's own name for the contact, and groups it is put in. Nobody else sees them.
    #[serde(default)]
    pub remark: String,
    #[serde(default)]
    pub tags: Vec<String>,
}

/// How a user treats a conversation, the same on all devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    #[serde(default)]
    pub pinned: bool,
    /// Until then it makes no noise, Unix milliseconds; 0 if it may.
    #[serde(default)]
    pub muted_until_ms: u64,
    /// It is to look unread although it was read.
    #[serde(default)]
    pub unread: bool,
    /// A message that is not sent yet.
    #[serde(default)]
    pub draft: String,
}

/// Which item.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ItemKey {
    Profile,
    Settings,
    Contact(UserId),
    Blocked(UserId),
    Marks(ConversationId),
}

/// What an item holds. Stored: new variants go last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ItemValue {
    Profile(Profile),
    Settings(UserSettings),
    Contact(Contact),
    /// Since when, Unix milliseconds.
    Blocked(u64),
    Marks(Marks),
}

/// An item as it is now; without a value if it was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    pub version: u64,
    pub key: ItemKey,
    pub value: Option<ItemValue>,
}

pub fn check_profile(profile: &Profile) -> Result<(), TextError> {
    let long =
        |text: &str, max| if text.len() > max { Err(TextError::TooLong { len: text.len(), max }) } else { Ok(()) };
    if !profile.name.is_empty() {
        text::check_label(&profile.name)?;
    }
    long(&profile.avatar, limits::PROFILE_AVATAR_BYTES)?;
    let (len, max) = (profile.fields.len(), limits::PROFILE_FIELDS);
    if len > max {
        return Err(TextError::TooLong { len, max });
    }
    for (key, value) in &profile.fields {
        if key.is_empty() {
            return Err(TextError::Empty);
        }
        long(key, limits::ATTRIBUTE_KEY_BYTES)?;
        long(value, limits::ATTRIBUTE_VALUE_BYTES)?;
    }
    Ok(())
}

/// The user's own words about a contact.
pub fn check_remark(remark: &str, tags: &[String]) -> Result<(), TextError> {
    let (len, max) = (tags.len(), limits::CONTACT_TAGS);
    if len > max {
        return Err(TextError::TooLong { len, max });
    }
    if !remark.is_empty() {
        text::check_label(remark)?;
    }
    tags.iter().try_for_each(|tag| if tag.is_empty() { Err(TextError::Empty) } else { text::check_label(tag) })
}

pub fn check_contact_text(text: &str) -> Result<(), TextError> {
    let (len, max) = (text.len(), limits::REQUEST_TEXT_BYTES);
    if len > max { Err(TextError::TooLong { len, max }) } else { Ok(()) }
}

pub fn check_draft(draft: &str) -> Result<(), TextError> {
    let (len, max) = (draft.len(), limits::DRAFT_BYTES);
    if len > max { Err(TextError::TooLong { len, max }) } else { Ok(()) }
}
