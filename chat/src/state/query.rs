//! Typed reads of a shard's state, for the node. They see what has been applied and nothing else: whether that is
//! fresh enough is the caller's business (`read_barrier`).

use crate::command::Owed;
use crate::event::{Event, Role};
use crate::group::{GroupSettings, Visibility};
use crate::ids::{AppId, ClientMsgId, ConversationId, DeviceId, NodeId, ShardId, UserId};
use crate::limits;
use crate::retention::Retention;
use crate::state::key::{self, page_of};
use crate::state::record::{
    Account, Annotation, App, Ban, Build, ClusterLevel, ClusterSettings, Conversation, DedupePage, Device, Floor,
    IdWindow, IndexPage, InlineEvent, JoinRequest, LastSeen, ListEntry, Member, Nickname, Node, OutboxHead, Pins,
    Placement, Privacy, Record, Roster, Slot, Turn,
};
use crate::state::{Delta, View, nodes};

mod user;

pub use user::{Items, deleted, expired, item, items, mentions, pair};

/// A page of something ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// There is more after the last item.
    pub more: bool,
}

/// Where an event of a conversation is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Located {
    /// A message or an edit of one: the command at `position_in_batch` of the log entry `log_index`, whose `time_ms` is the event's.
    Message { seq: u64, log_index: u64, position_in_batch: u32 },
    /// Seq, time and the event itself.
    Inline(u64, u64, Event),
}

impl Located {
    pub fn seq(&self) -> u64 {
        match self {
            Self::Message { seq, .. } | Self::Inline(seq, ..) => *seq,
        }
    }
}

fn load<V: View, T: Record>(view: &V, key: &[u8]) -> Result<Option<T>, V::Error> {
    Ok(view.get(key)?.as_deref().map(T::from_bytes))
}

pub fn account<V: View>(view: &V, app: &AppId, user: &UserId) -> Result<Option<Account>, V::Error> {
    load(view, &key::account(app, user))
}

pub fn device<V: View>(view: &V, app: &AppId, user: &UserId, device: &DeviceId) -> Result<Option<Device>, V::Error> {
    load(view, &key::device(app, user, device))
}

/// The user's devices in byte order of their ids; at most [`crate::limits::USER_DEVICES`].
pub fn devices<V: View>(view: &V, app: &AppId, user: &UserId) -> Result<Vec<(DeviceId, Device)>, V::Error> {
    let prefix = key::devices(app, user);
    let found = view.scan(&prefix, None, crate::limits::USER_DEVICES)?;
    let named = |(key, value): &(bytes::Bytes, bytes::Bytes)| {
        Some((DeviceId::new(last_part(key, &prefix)?).ok()?, Device::from_bytes(value)))
    };
    Ok(found.iter().filter_map(named).collect())
}

/// When the user was last there, Unix milliseconds, if that is known.
pub fn last_seen<V: View>(view: &V, app: &AppId, user: &UserId) -> Result<Option<u64>, V::Error> {
    let seen: Option<LastSeen> = load(view, &key::last_seen(app, user))?;
    Ok(seen.map(|seen| seen.at_ms))
}

/// Who may know of the user's presence; everyone, of a user who said nothing or does not exist.
pub fn privacy<V: View>(view: &V, app: &AppId, user: &UserId) -> Result<Privacy, V::Error> {
    Ok(load(view, &key::privacy(app, user))?.unwrap_or_default())
}

/// Head, name, member count, digest.
pub fn conversation<V: View>(
    view: &V,
    app: &AppId,
    conversation: &ConversationId,
) -> Result<Option<Conversation>, V::Error> {
    load(view, &key::conversation(app, conversation))
}

pub fn member<V: View>(
    view: &V,
    app: &AppId,
    conversation: &ConversationId,
    user: &UserId,
) -> Result<Option<Member>, V::Error> {
    load(view, &key::member(app, conversation, user))
}

pub fn role<V: View>(
    view: &V,
    app: &AppId,
    conversation: &ConversationId,
    user: &UserId,
) -> Result<Option<Role>, V::Error> {
    Ok(member(view, app, conversation, user)?.map(|member| member.role))
}

/// Whether a message of this author under this id is in the conversation.
pub fn was_sent<V: View>(
    view: &V,
    app: &AppId,
    conversation: &ConversationId,
    author: &UserId,
    id: ClientMsgId,
) -> Result<bool, V::Error> {
    let page = view.get(&key::dedupe_page(app, conversation, author, id))?;
    let Some(page) = page.as_deref().map(DedupePage::from_bytes) else { return Ok(false) };
    if page.find(id).is_some() || !page.is_full() {
        return Ok(page.find(id).is_some());
    }
    Ok(view.get(&key::dedupe(app, conversation, author, id))?.is_some())
}

/// Events the member has not read, or none for others.
pub fn unread<V: View>(
    view: &V,
    app: &AppId,
    conversation: &ConversationId,
    user: &UserId,
) -> Result<Option<u64>, V::Error> {
    let Some(member) = member(view, app, conversation, user)? else { return Ok(None) };
    let head = load::<V, Conversation>(view, &key::conversation(app, conversation))?.map_or(0, |c| c.head);
    Ok(Some(member.unread(head, oldest_seq(view, app, conversation)?)))
}

/// Members after `after` in byte order of their ids.
pub fn members<V: View>(
    view: &V,
    app: &AppId,
    conversation: &ConversationId,
    after: Option<&UserId>,
    limit: usize,
) -> Result<Page<(UserId, Member)>, V::Error> {
    let after = after.map(|user| key::member(app, conversation, user));
    by_user(view, &key::members(app, conversation), after, limit)
}

/// A page of what is kept under users' ids below `prefix`.
fn by_user<V: View, T: Record>(
    view: &V,
    prefix: &[u8],
    after: Option<bytes::Bytes>,
    limit: usize,
) -> Result<Page<(UserId, T)>, V::Error> {
    let mut found = view.scan(prefix, after.as_deref(), limit.saturating_add(1))?;
    let more = found.len() > limit;
    found.truncate(limit);
    let named = |(key, value): &(bytes::Bytes, bytes::Bytes)| {
        Some((UserId::new(last_part(key, prefix)?).ok()?, T::from_bytes(value)))
    };
    Ok(Page { items: found.iter().filter_map(named).collect(), more })
}

/// Who waits for an answer after `after`, in byte order of their ids.
pub fn join_requests<V: View>(
    view: &V,
    app: &AppId,
    conversation: &ConversationId,
    after: Option<&UserId>,
    limit: usize,
) -> Result<Page<(UserId, JoinRequest)>, V::Error> {
    let after = after.map(|user| key::join_request(app, conversation, user));
    by_user(view, &key::join_requests(app, conversation), after, limit)
}

/// Who is banned after `after`, in byte order of their ids; also those whose ban is over.
pub fn bans<V: View>(
    view: &V,
    app: &AppId,
    conversation: &ConversationId,
    after: Option<&UserId>,
    limit: usize,
) -> Result<Page<(UserId, Ban)>, V::Error> {
    let after = after.map(|user| key::ban(app, conversation, user));
    by_user(view, &key::bans(app, conversation), after, limit)
}

/// A group's settings; none for what is no group.
pub fn group_settings<V: View>(
    view: &V,
    app: &AppId,
    conversation: &ConversationId,
) -> Result<Option<GroupSettings>, V::Error> {
    load(view, &key::group_settings(app, conversation))
}

pub fn nickname<V: View>(
    view: &V,
    app: &AppId,
    conversation: &ConversationId,
    user: &UserId,
) -> Result<Option<String>, V::Error> {
    Ok(load::<V, Nickname>(view, &key::nickname(app, conversation, user))?.map(|stored| stored.nickname))
}

/// The first event that the member may read.
pub fn visible_from<V: View>(
    view: &V,
    app: &AppId,
    conversation: &ConversationId,
    member: &Member,
) -> Result<u64, V::Error> {
    let oldest = oldest_seq(view, app, conversation)?;
    let since_join = matches!(conversation, ConversationId::Group(_))
        && group_settings(view, app, conversation)?.is_some_and(|settings| settings.history == Visibility::SinceJoin);
    Ok(if since_join { oldest.max(member.joined) } else { oldest })
}

/// The user's listed conversations after `after`, in the order of their text form.
pub fn conversations<V: View>(
    view: &V,
    app: &AppId,
    user: &UserId,
    after: Option<&ConversationId>,
    limit: usize,
) -> Result<Page<ConversationId>, V::Error> {
    let prefix = key::list_entries(app, user);
    let mut after = after.map(|conversation| key::list_entry(app, user, conversation));
    let mut items = Vec::new();
    // Entries of conversations that left the list are passed over.
    loop {
        let step = limit.saturating_add(1);
        let found = view.scan(&prefix, after.as_deref(), step)?;
        let last = found.len() < step;
        after = found.last().map(|(key, _)| key.clone());
        let entries = found.iter().map(|(_, value)| ListEntry::from_bytes(value));
        items.extend(entries.filter(|entry| entry.order.is_some()).map(|entry| entry.conversation));
        if items.len() > limit {
            items.truncate(limit);
            return Ok(Page { items, more: true });
        }
        if last {
            return Ok(Page { items, more: false });
        }
    }
}

/// The conversation's own policy, if it has one.
pub fn conversation_retention<V: View>(
    view: &V,
    app: &AppId,
    conversation: &ConversationId,
) -> Result<Option<Retention>, V::Error> {
    load(view, &key::retention(app, conversation))
}

/// The app's policy (metadata group).
pub fn app_retention<V: View>(view: &V, app: &AppId) -> Result<Retention, V::Error> {
    Ok(load(view, &key::app_retention(app))?.unwrap_or_default())
}

/// How long the ids of the app's messages are remembered after those were deleted, in milliseconds (metadata group).
pub fn id_window<V: View>(view: &V, app: &AppId) -> Result<u64, V::Error> {
    let on_record: Option<IdWindow> = load(view, &key::id_window(app))?;
    Ok(on_record.map_or(limits::DEDUPE_WINDOW_MS, |record| record.window_ms))
}

/// Where the conversation's kept events begin, and what is still to be forgotten.
pub fn floor<V: View>(view: &V, app: &AppId, conversation: &ConversationId) -> Result<Floor, V::Error> {
    Ok(load(view, &key::floor(app, conversation))?.unwrap_or_default())
}

/// The first seq whose event is kept; one more than the head if none is.
pub fn oldest_seq<V: View>(view: &V, app: &AppId, conversation: &ConversationId) -> Result<u64, V::Error> {
    Ok(floor(view, app, conversation)?.oldest_seq)
}

/// Where the events from `from_seq` on are, in order; at most `limit`, fewer only at the head. Those that retention has
/// deleted are passed over.
pub fn locate<V: View>(
    view: &V,
    app: &AppId,
    conversation: &ConversationId,
    from_seq: u64,
    limit: usize,
) -> Result<Vec<Located>, V::Error> {
    let mut located = Vec::new();
    let mut seq = from_seq.max(oldest_seq(view, app, conversation)?);
    while located.len() < limit {
        let (page, first) = page_of(seq);
        let page: Option<IndexPage> = load(view, &key::index_page(app, conversation, page))?;
        let Some(slots) = page.as_ref().and_then(|page| page.slots.get(first..)).filter(|slots| !slots.is_empty())
        else {
            break;
        };
        for slot in slots.iter().take(limit - located.len()) {
            let Some(found) = resolve(view, app, conversation, seq, *slot)? else { return Ok(located) };
            located.push(found);
            seq += 1;
        }
    }
    Ok(located)
}

fn resolve<V: View>(
    view: &V,
    app: &AppId,
    conversation: &ConversationId,
    seq: u64,
    slot: Slot,
) -> Result<Option<Located>, V::Error> {
    match slot {
        Slot::Message { log_index, position } | Slot::Edit { log_index, position } => {
            Ok(Some(Located::Message { seq, log_index, position_in_batch: position }))
        }
        Slot::Inline => {
            let inline: Option<InlineEvent> = load(view, &key::inline(app, conversation, seq))?;
            Ok(inline.map(|inline| Located::Inline(seq, inline.time_ms, inline.event)))
        }
    }
}

/// What became of the messages from `from_seq` to `through_seq`, in order, at most `limit`; those that nothing became of
/// are passed over.
pub fn annotations<V: View>(
    view: &V,
    app: &AppId,
    conversation: &ConversationId,
    (from_seq, through_seq): (u64, u64),
    limit: usize,
) -> Result<Vec<(u64, Annotation)>, V::Error> {
    let prefix = key::annotations(app, conversation);
    let before = from_seq.checked_sub(1).map(|seq| key::annotation(app, conversation, seq));
    let found = view.scan(&prefix, before.as_deref(), limit)?;
    let named = |(key, value): &(bytes::Bytes, bytes::Bytes)| {
        let seq = key::parse_annotation(key, &prefix).filter(|seq| *seq <= through_seq)?;
        Some((seq, Annotation::from_bytes(value)))
    };
    Ok(found.iter().map_while(named).collect())
}

/// What became of one message.
pub fn annotation<V: View>(
    view: &V,
    app: &AppId,
    conversation: &ConversationId,
    seq: u64,
) -> Result<Option<Annotation>, V::Error> {
    load(view, &key::annotation(app, conversation, seq))
}

/// The pinned messages, in the order in which they were pinned.
pub fn pins<V: View>(view: &V, app: &AppId, conversation: &ConversationId) -> Result<Vec<u64>, V::Error> {
    Ok(load::<V, Pins>(view, &key::pins(app, conversation))?.unwrap_or_default().seqs)
}

/// List changes that wait for delivery, with their numbers, oldest first.
pub fn outbox<V: View>(view: &V, limit: usize) -> Result<Vec<(u64, Owed)>, V::Error> {
    let head: OutboxHead = load(view, &key::outbox_head())?.unwrap_or_default();
    let mut items = Vec::new();
    for number in (head.first..head.next).take(limit) {
        let Some(change) = load(view, &key::outbox_item(number))? else { break };
        items.push((number, change));
    }
    Ok(items)
}

/// Whether applying `delta` changed the outbox: its shard's leader then looks for items to deliver.
pub fn touches_outbox(delta: &Delta) -> bool {
    delta.writes.contains_key(&key::outbox_head())
}

/// The cluster's settings (metadata group); none before its founding.
pub fn cluster_settings<V: View>(view: &V) -> Result<Option<ClusterSettings>, V::Error> {
    load(view, &key::cluster_settings())
}

/// The app (metadata group) with the key that verifies its users' tokens.
pub fn app<V: View>(view: &V, app: &AppId) -> Result<Option<App>, V::Error> {
    load(view, &key::app(app))
}

/// All apps (metadata group) in byte order of their ids.
pub fn apps<V: View>(view: &V, limit: usize) -> Result<Vec<(AppId, App)>, V::Error> {
    let prefix = key::apps();
    let found = view.scan(&prefix, None, limit)?;
    let named = |(key, value): &(bytes::Bytes, bytes::Bytes)| {
        Some((AppId::new(last_part(key, &prefix)?).ok()?, App::from_bytes(value)))
    };
    Ok(found.iter().filter_map(named).collect())
}

/// What concerns the nodes as a whole (metadata group); none before the cluster's founding.
pub fn roster<V: View>(view: &V) -> Result<Option<Roster>, V::Error> {
    match load(view, &key::roster())? {
        Some(roster) => Ok(Some(roster)),
        None => Ok(cluster_settings(view)?.as_ref().map(nodes::first_roster)),
    }
}

/// Every node there is or was (metadata group), by id.
pub fn nodes<V: View>(view: &V) -> Result<Vec<(NodeId, Node)>, V::Error> {
    let Some(roster) = roster(view)? else { return Ok(Vec::new()) };
    let prefix = key::nodes();
    let found = view.scan(&prefix, None, usize::try_from(roster.next).unwrap_or(usize::MAX))?;
    if found.is_empty() {
        return Ok(cluster_settings(view)?.as_ref().map(nodes::founders).unwrap_or_default());
    }
    let named = |(key, value): &(bytes::Bytes, bytes::Bytes)| {
        let id = key.strip_prefix(&prefix[..])?.try_into().ok().map(NodeId::from_be_bytes)?;
        Some((id, Node::from_bytes(value)))
    };
    Ok(found.iter().filter_map(named).collect())
}

/// The nodes that vote in each shard that was placed (metadata group), in the order in which they should lead.
pub fn placements<V: View>(view: &V, limit: usize) -> Result<Vec<(ShardId, Vec<NodeId>)>, V::Error> {
    let prefix = key::placements();
    let found = view.scan(&prefix, None, limit)?;
    let named = |(key, value): &(bytes::Bytes, bytes::Bytes)| {
        let shard = key.strip_prefix(&prefix[..])?.try_into().ok().map(u16::from_be_bytes)?;
        Some((ShardId(shard), Placement::from_bytes(value).voters))
    };
    Ok(found.iter().filter_map(named).collect())
}

/// The cluster's feature level (metadata group).
pub fn level<V: View>(view: &V) -> Result<u16, V::Error> {
    Ok(load::<V, ClusterLevel>(view, &key::level())?.map_or(crate::level::OLDEST, |record| record.level))
}

/// Whose turn it is to be away, as far as is on record (metadata group): it may be over.
pub fn turn<V: View>(view: &V) -> Result<Option<Turn>, V::Error> {
    load(view, &key::turn())
}

/// What each node that has said so runs (metadata group), by id.
pub fn builds<V: View>(view: &V) -> Result<Vec<(NodeId, Build)>, V::Error> {
    let Some(roster) = roster(view)? else { return Ok(Vec::new()) };
    let prefix = key::builds();
    let found = view.scan(&prefix, None, usize::try_from(roster.next).unwrap_or(usize::MAX))?;
    let named = |(key, value): &(bytes::Bytes, bytes::Bytes)| {
        let id = key.strip_prefix(&prefix[..])?.try_into().ok().map(NodeId::from_be_bytes)?;
        Some((id, Build::from_bytes(value)))
    };
    Ok(found.iter().filter_map(named).collect())
}

fn last_part<'k>(key: &'k [u8], prefix: &[u8]) -> Option<&'k str> {
    std::str::from_utf8(key.strip_prefix(prefix)?).ok()
}
