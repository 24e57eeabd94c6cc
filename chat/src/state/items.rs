//! What a user keeps with the service, on the user's home shard.
//!
//! Every item has the version of its last change, and an index from versions to items: what changed since a version is read
//! from there, at the cost of what changed. What is removed leaves a mark for those who have not heard of it; when there are
//! too many, the oldest go, and who is behind them begins anew.

use super::overlay::{Overlay, Step, Stop, require};
use super::record::{ItemPlace, ItemsHead, ListEntry, StoredItem};
use super::{View, done, key};
use crate::command::{MarksChange, Outcome, PairNews};
use crate::errors::ErrorCode;
use crate::event::Committed;
use crate::ids::{AppId, ConversationId, UserId};
use crate::limits;
use crate::user::{self, Contact, Item, ItemKey, ItemValue, Marks, Profile, UserSettings};

/// Changes looked at in one go for one that can be forgotten.
const FORGET_STEP: usize = 256;

pub(super) fn set_profile<V: View>(
    work: &mut Overlay<'_, V>,
    app: &AppId,
    user: &UserId,
    profile: &Profile,
) -> Step<Outcome, V> {
    require(user::check_profile(profile).is_ok(), ErrorCode::InvalidField)?;
    let value = (*profile != Profile::default()).then(|| ItemValue::Profile(profile.clone()));
    set(work, app, user, ItemKey::Profile, value)
}

pub(super) fn set_settings<V: View>(
    work: &mut Overlay<'_, V>,
    app: &AppId,
    user: &UserId,
    settings: UserSettings,
) -> Step<Outcome, V> {
    let value = (settings != UserSettings::default()).then_some(ItemValue::Settings(settings));
    set(work, app, user, ItemKey::Settings, value)
}

/// The user's own words about a contact, or about somebody who is about to be one.
pub(super) fn describe_contact<V: View>(
    work: &mut Overlay<'_, V>,
    app: &AppId,
    user: &UserId,
    of: &UserId,
    remark: &str,
    tags: &[String],
) -> Step<Outcome, V> {
    require(user::check_remark(remark, tags).is_ok(), ErrorCode::InvalidField)?;
    let key = ItemKey::Contact(of.clone());
    let Some(ItemValue::Contact(known)) = value(work, app, user, &key)? else {
        return Err(Stop::Rejected(ErrorCode::UserNotFound));
    };
    let contact = Contact { remark: remark.to_owned(), tags: tags.to_vec(), ..known };
    set(work, app, user, key, Some(ItemValue::Contact(contact)))
}

pub(super) fn mark<V: View>(
    work: &mut Overlay<'_, V>,
    app: &AppId,
    user: &UserId,
    conversation: &ConversationId,
    change: &MarksChange,
) -> Step<Outcome, V> {
    let listed = work.load::<ListEntry>(&key::list_entry(app, user, conversation))?;
    require(listed.is_some(), ErrorCode::NotAMember)?;
    let key = ItemKey::Marks(conversation.clone());
    let mut marks = match value(work, app, user, &key)? {
        Some(ItemValue::Marks(marks)) => marks,
        _ => Marks::default(),
    };
    let MarksChange { pinned, muted_until_ms, unread, draft } = change;
    marks.pinned = pinned.unwrap_or(marks.pinned);
    marks.muted_until_ms = muted_until_ms.unwrap_or(marks.muted_until_ms);
    marks.unread = unread.unwrap_or(marks.unread);
    if let Some(draft) = draft {
        require(user::check_draft(draft).is_ok(), ErrorCode::InvalidField)?;
        marks.draft.clone_from(draft);
    }
    let value = (marks != Marks::default()).then_some(ItemValue::Marks(marks));
    set(work, app, user, key, value)
}

/// How the user stands to others, from the shards that know. The newest of each pair counts, whatever order they arrive in.
/// For who has no room, others go on as if nothing had been said.
pub(super) fn heard<V: View>(work: &mut Overlay<'_, V>, news: &[PairNews]) -> Step<Outcome, V> {
    let mut changed = false;
    for PairNews { app, user, peer, stamp, contact, blocked_ms } in news {
        let key = ItemKey::Contact(peer.clone());
        let contact = match contact {
            Some(news) => {
                let (remark, tags) = match value(work, app, user, &key)? {
                    Some(ItemValue::Contact(known)) => (known.remark, known.tags),
                    _ => Default::default(),
                };
                Some(ItemValue::Contact(Contact { remark, tags, ..news.clone() }))
            }
            None => None,
        };
        for (key, value) in [(key, contact), (ItemKey::Blocked(peer.clone()), blocked_ms.map(ItemValue::Blocked))] {
            match put(work, app, user, key, value, Some(*stamp)) {
                Ok(put) => changed |= put,
                Err(Stop::Rejected(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(done(!changed))
}

pub(super) fn value<V: View>(
    work: &Overlay<'_, V>,
    app: &AppId,
    user: &UserId,
    key: &ItemKey,
) -> Step<Option<ItemValue>, V> {
    Ok(work.load::<StoredItem>(&key::user_item(app, user, key))?.and_then(|item| item.value))
}

fn set<V: View>(
    work: &mut Overlay<'_, V>,
    app: &AppId,
    user: &UserId,
    key: ItemKey,
    value: Option<ItemValue>,
) -> Step<Outcome, V> {
    put(work, app, user, key, value, None).map(|changed| done(!changed))
}

/// `stamp`: of news that may arrive twice, or too late.
fn put<V: View>(
    work: &mut Overlay<'_, V>,
    app: &AppId,
    user: &UserId,
    key: ItemKey,
    value: Option<ItemValue>,
    stamp: Option<u64>,
) -> Step<bool, V> {
    let place = key::user_item(app, user, &key);
    let known: Option<StoredItem> = work.load(&place)?;
    let known_stamp = known.as_ref().map_or(0, |known| known.stamp);
    if stamp.is_some_and(|stamp| known.is_some() && stamp <= known_stamp) {
        return Ok(false);
    }
    let stamp = stamp.unwrap_or(known_stamp);
    let head_key = key::user_items_head(app, user);
    let mut head: ItemsHead = work.load(&head_key)?.unwrap_or_default();
    match known {
        Some(known) if known.value == value => {
            work.store(place, &StoredItem { stamp, ..known });
            return Ok(false);
        }
        None if value.is_none() => return Ok(false),
        Some(known) => work.remove(key::user_change(app, user, known.version)),
        None => {
            if head.items as usize >= limits::USER_ITEMS {
                forget_one(work, app, user, &mut head)?;
            }
            head.items += 1;
        }
    }
    head.version += 1;
    let version = head.version;
    work.store(head_key, &head);
    work.store(key::user_change(app, user, version), &ItemPlace { key: key.clone() });
    work.store(place, &StoredItem { version, stamp, value: value.clone() });
    let item = Item { version, key, value };
    work.emit(Committed::ItemChanged { app: app.clone(), user: user.clone(), item: Box::new(item) });
    Ok(true)
}

/// The item that was removed longest ago makes room.
fn forget_one<V: View>(work: &mut Overlay<'_, V>, app: &AppId, user: &UserId, head: &mut ItemsHead) -> Step<(), V> {
    let prefix = key::user_changes(app, user);
    let mut after = None;
    loop {
        let changes = View::scan(work, &prefix, after.as_deref(), FORGET_STEP).map_err(Stop::View)?;
        for (change, place) in &changes {
            let ItemPlace { key } = super::record::Record::from_bytes(place);
            let place = key::user_item(app, user, &key);
            let Some(item) = work.load::<StoredItem>(&place)? else { continue };
            if item.value.is_none() {
                work.remove(place);
                work.remove(change.clone());
                head.items -= 1;
                head.forgotten = item.version;
                return Ok(());
            }
        }
        match changes.last() {
            Some((last, _)) if changes.len() == FORGET_STEP => after = Some(last.clone()),
            _ => return Err(Stop::Rejected(ErrorCode::LimitReached)),
        }
    }
}

#[cfg(test)]
#[path = "items_tests.rs"]
mod tests;
