//! Keys of what users keep, of how they stand to each other, and of messages that are for some or for a while.

use std::borrow::Cow;

use bytes::Bytes;

use super::{ConversationPart, Space, conversation_of, of_app};
use crate::ids::{AppId, ConversationId, UserId};
use crate::user::ItemKey;

pub(crate) fn mentioned(app: &AppId, conversation: &ConversationId, user: &UserId) -> Bytes {
    of_app(app, Space::Mentioned, &[ConversationPart::new(conversation).get()], user.as_str().as_bytes())
}

/// Messages that name everybody.
pub(crate) fn all_mentioned(app: &AppId, conversation: &ConversationId) -> Bytes {
    of_app(app, Space::AllMentioned, &[], ConversationPart::new(conversation).get())
}

/// Messages of an app that end by themselves, in the order in which they do.
pub(crate) fn all_expiring(app: &AppId) -> Bytes {
    of_app(app, Space::Expiring, &[], b"")
}

pub(crate) fn expiring(app: &AppId, at_ms: u64, conversation: &ConversationId, seq: u64) -> Bytes {
    let conversation = ConversationPart::new(conversation);
    of_app(app, Space::Expiring, &[], &[&at_ms.to_be_bytes(), conversation.get(), &seq.to_be_bytes()].concat())
}

/// When and where, and the seq, of a key that begins with `prefix`.
pub(crate) fn parse_expiring(key: &[u8], prefix: &[u8]) -> Option<(u64, ConversationId, u64)> {
    let (at_ms, rest) = key.strip_prefix(prefix)?.split_first_chunk::<8>()?;
    let (conversation, seq) = rest.split_last_chunk::<8>()?;
    Some((u64::from_be_bytes(*at_ms), conversation_of(conversation)?, u64::from_be_bytes(*seq)))
}

pub(crate) fn burning(app: &AppId, conversation: &ConversationId) -> Bytes {
    of_app(app, Space::Burning, &[], ConversationPart::new(conversation).get())
}

pub(crate) fn deleted(app: &AppId, conversation: &ConversationId, user: &UserId) -> Bytes {
    of_app(app, Space::Deleted, &[ConversationPart::new(conversation).get()], user.as_str().as_bytes())
}

pub(crate) fn pair(app: &AppId, conversation: &ConversationId) -> Bytes {
    of_app(app, Space::Pair, &[], ConversationPart::new(conversation).get())
}

pub(crate) fn user_items_head(app: &AppId, user: &UserId) -> Bytes {
    of_app(app, Space::UserItemsHead, &[], user.as_str().as_bytes())
}

pub(crate) fn user_item(app: &AppId, user: &UserId, item: &ItemKey) -> Bytes {
    let item: Cow<'_, [u8]> = match item {
        ItemKey::Profile => Cow::Borrowed(b"p"),
        ItemKey::Settings => Cow::Borrowed(b"s"),
        ItemKey::Contact(of) => Cow::Owned([b"c", of.as_str().as_bytes()].concat()),
        ItemKey::Blocked(of) => Cow::Owned([b"b", of.as_str().as_bytes()].concat()),
        ItemKey::Marks(of) => Cow::Owned([b"m", ConversationPart::new(of).get()].concat()),
    };
    of_app(app, Space::UserItem, &[user.as_str().as_bytes()], &item)
}

pub(crate) fn user_changes(app: &AppId, user: &UserId) -> Bytes {
    of_app(app, Space::UserChange, &[user.as_str().as_bytes()], b"")
}

pub(crate) fn user_change(app: &AppId, user: &UserId, version: u64) -> Bytes {
    of_app(app, Space::UserChange, &[user.as_str().as_bytes()], &version.to_be_bytes())
}
