//! Going through a shard's state piece by piece, for what is done in the background. A walk may pause for as long as it
//! likes between two pieces: it goes on behind the key where it stopped.

use bytes::Bytes;

use super::View;
use super::key::{self, PAGE_SLOTS, Walk};
use super::record::{Conversation, Dedupe, DedupePage, Floor, IndexPage, Record, Slot};
use crate::ids::{AppId, ConversationId};

/// A piece of a walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece<T> {
    pub items: Vec<T>,
    /// Where to go on; none at the end.
    pub next: Option<Bytes>,
}

/// Up to `limit` conversations after `after`, of all apps.
pub fn conversations<V: View>(
    view: &V,
    after: Option<Bytes>,
    limit: usize,
) -> Result<Piece<(AppId, ConversationId, Conversation)>, V::Error> {
    let found = pairs(view, Walk::Conversations, after, limit)?;
    let named = |(key, value): &(Bytes, Bytes)| {
        let conversation = key::conversation_of(key::rest_of(key)?)?;
        Some((key::app_of(key)?, conversation, Conversation::from_bytes(value)))
    };
    let next = found.last().map(|(key, _)| key.clone());
    Ok(Piece { items: found.iter().filter_map(named).collect(), next })
}

/// Whether some conversation has a policy of its own, or has had events deleted.
pub fn has_retention<V: View>(view: &V) -> Result<bool, V::Error> {
    Ok(!pairs(view, Walk::Retentions, None, 1)?.is_empty() || !pairs(view, Walk::Floors, None, 1)?.is_empty())
}

/// Names to `mark` the log entries that messages are read from, those on up to `limit` index pages after `after`. The
/// same entry may be named many times. Gives where to go on; none at the end.
pub fn entries_in_use<V: View>(
    view: &V,
    after: Option<Bytes>,
    limit: usize,
    mut mark: impl FnMut(u64),
) -> Result<Option<Bytes>, V::Error> {
    let found = pairs(view, Walk::IndexPages, after, limit)?;
    // Of the conversation at hand, as its keys have it.
    let mut floor: Option<(Bytes, u64)> = None;
    for (page_key, value) in &found {
        let Some((app, part, page)) = place_of(page_key) else { continue };
        let begin = page_key.slice(..page_key.len() - size_of::<u64>());
        let oldest_seq = match &floor {
            Some((of, oldest_seq)) if *of == begin => *oldest_seq,
            _ => {
                let oldest = view.get(&key::floor(&app, &part))?;
                let oldest_seq = oldest.map_or(1, |floor| Floor::from_bytes(&floor).oldest_seq);
                floor = Some((begin, oldest_seq));
                oldest_seq
            }
        };
        let first_seq = page * PAGE_SLOTS + 1;
        for (seq, slot) in (first_seq..).zip(IndexPage::from_bytes(value).slots) {
            match slot {
                Slot::Message { log_index, .. } | Slot::Edit { log_index, .. } if seq >= oldest_seq => mark(log_index),
                _ => {}
            }
        }
    }
    Ok(found.last().map(|(key, _)| key.clone()))
}

/// App, conversation and number of an index page.
fn place_of(page_key: &[u8]) -> Option<(AppId, ConversationId, u64)> {
    let (part, page) = key::rest_of(page_key).and_then(key::split_part)?;
    let page = u64::from_be_bytes(page.try_into().ok()?);
    Some((key::app_of(page_key)?, key::conversation_of(part)?, page))
}

/// A record of ids that were used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdPage {
    /// Where it is among the conversation's others, which are in this order.
    pub place: Bytes,
    /// Of the messages whose ids it holds.
    pub newest_seq: u64,
}

/// Up to `limit` records of a conversation's ids whose place is after `after`.
pub fn ids<V: View>(
    view: &V,
    app: &AppId,
    conversation: &ConversationId,
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<IdPage>, V::Error> {
    let mut found = Vec::new();
    for space in key::ID_SPACES {
        let prefix = key::ids(app, conversation, space);
        let start = match after.and_then(<[u8]>::split_first) {
            Some((at, _)) if *at > space => continue,
            Some((at, rest)) if *at == space => Some([&prefix[..], rest].concat()),
            _ => None,
        };
        for (key, value) in view.scan(&prefix, start.as_deref(), limit - found.len())? {
            let place = [&[space], key.get(prefix.len()..).unwrap_or_default()].concat().into();
            found.push(IdPage { place, newest_seq: newest_seq(space, &value) });
        }
        if found.len() == limit {
            break;
        }
    }
    Ok(found)
}

/// The key of the record of ids at `place`; none if that is no place.
pub(crate) fn id_key(app: &AppId, conversation: &ConversationId, place: &[u8]) -> Option<(u8, Bytes)> {
    let (space, rest) = place.split_first()?;
    key::ID_SPACES.contains(space).then(|| (*space, [&key::ids(app, conversation, *space)[..], rest].concat().into()))
}

fn newest_seq(space: u8, value: &[u8]) -> u64 {
    if space == key::ID_PAGES { DedupePage::from_bytes(value).newest_seq() } else { Dedupe::from_bytes(value).seq }
}

/// Up to `limit` pairs of one kind after `after`; fewer only at the end of an app, none at the end of all.
fn pairs<V: View>(view: &V, walk: Walk, after: Option<Bytes>, limit: usize) -> Result<Vec<(Bytes, Bytes)>, V::Error> {
    let mut at = after;
    loop {
        // Within the app where the walk is; the next one begins with its first key of any kind.
        let (prefix, from) = match &at {
            Some(key) if walk.is_of(key) => (walk.prefix(key), Some(key.clone())),
            _ => match view.scan(&[], at.as_deref(), 1)?.pop() {
                None => return Ok(Vec::new()),
                Some((key, _)) => (walk.prefix(&key), None),
            },
        };
        let Some(prefix) = prefix else { return Ok(Vec::new()) };
        let found = view.scan(&prefix, from.as_deref(), limit)?;
        if !found.is_empty() {
            return Ok(found);
        }
        at = key::end_of_app(&prefix);
    }
}
