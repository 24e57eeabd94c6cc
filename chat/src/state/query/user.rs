//! What users keep with the service, how they stand to each other, and which messages name them.

use std::collections::BTreeSet;

use super::{annotation, load};
use crate::ids::{AppId, ConversationId, UserId};
use crate::state::record::{Deleted, ItemPlace, ItemsHead, Member, Mentioned, Pair, Record, StoredItem};
use crate::state::{View, key};
use crate::user::{Item, ItemKey, ItemValue};

/// Unread messages that name the member, or everybody. `oldest_seq`: events below it are deleted, or not for this member.
pub fn mentions<V: View>(
    view: &V,
    app: &AppId,
    conversation: &ConversationId,
    user: &UserId,
    member: &Member,
    oldest_seq: u64,
) -> Result<u64, V::Error> {
    let seen = member.read.max(member.joined.max(oldest_seq).saturating_sub(1));
    let mut unread = BTreeSet::new();
    for key in [key::mentioned(app, conversation, user), key::all_mentioned(app, conversation)] {
        let mentioned: Mentioned = load(view, &key)?.unwrap_or_default();
        unread.extend(mentioned.seqs.into_iter().filter(|seq| *seq > seen));
    }
    let mut count = 0;
    for seq in unread {
        let annotation = annotation(view, app, conversation, seq)?;
        count += u64::from(annotation.is_none_or(|annotation| annotation.recalled.is_none()));
    }
    Ok(count)
}

/// What a member does not want to see any more.
pub fn deleted<V: View>(
    view: &V,
    app: &AppId,
    conversation: &ConversationId,
    user: &UserId,
) -> Result<Deleted, V::Error> {
    Ok(load(view, &key::deleted(app, conversation, user))?.unwrap_or_default())
}

/// Up to `limit` messages whose time is over at `now_ms` and that are still there: when it was over, where and which.
pub fn expired<V: View>(
    view: &V,
    app: &AppId,
    now_ms: u64,
    limit: usize,
) -> Result<Vec<(u64, ConversationId, u64)>, V::Error> {
    let prefix = key::all_expiring(app);
    let found = view.scan(&prefix, None, limit)?;
    let parsed = found.iter().filter_map(|(key, _)| key::parse_expiring(key, &prefix));
    Ok(parsed.take_while(|(at_ms, ..)| *at_ms <= now_ms).collect())
}

/// Something that a user keeps.
pub fn item<V: View>(view: &V, app: &AppId, user: &UserId, item: &ItemKey) -> Result<Option<ItemValue>, V::Error> {
    Ok(load::<V, StoredItem>(view, &key::user_item(app, user, item))?.and_then(|item| item.value))
}

/// What a user keeps that changed since a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Items {
    /// In the order of their versions.
    pub items: Vec<Item>,
    /// Up to which this is all that changed.
    pub version: u64,
    pub more: bool,
    /// Some of what was removed since then is forgotten: everything there is follows from the beginning.
    pub reset: bool,
}

pub fn items<V: View>(view: &V, app: &AppId, user: &UserId, after: u64, limit: usize) -> Result<Items, V::Error> {
    let head: ItemsHead = load(view, &key::user_items_head(app, user))?.unwrap_or_default();
    // A version that there never was is from before a restore.
    let reset = after > 0 && (after < head.forgotten || after > head.version);
    let after = if reset { 0 } else { after };
    let from = key::user_change(app, user, after);
    let mut found = view.scan(&key::user_changes(app, user), Some(&from), limit.saturating_add(1))?;
    let more = found.len() > limit;
    found.truncate(limit);
    let mut items = Vec::with_capacity(found.len());
    for (_, place) in &found {
        let ItemPlace { key } = ItemPlace::from_bytes(place);
        if let Some(StoredItem { version, value, .. }) = load(view, &key::user_item(app, user, &key))? {
            items.push(Item { version, key, value });
        }
    }
    let version = if more { items.last().map_or(after, |item| item.version) } else { head.version };
    Ok(Items { items, version, more, reset })
}

/// How two users stand to each other.
pub fn pair<V: View>(view: &V, app: &AppId, conversation: &ConversationId) -> Result<Pair, V::Error> {
    Ok(load(view, &key::pair(app, conversation))?.unwrap_or_default())
}
