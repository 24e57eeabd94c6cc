//! Keys of the replicated state.
//!
//! `[len][app][space][len][part]…[last part]`: every key begins with the app (cluster-level things under the empty
//! one), so that a tenant is one range of keys. Parts carry their length, except the last: so the keys below a prefix
//! are in the byte order of their last part, and no two different keys have the same bytes.
//!
//! Long because every space of keys is listed, and most of their keys.

use bytes::Bytes;
use uuid::Uuid;

use crate::ids::{AppId, ClientMsgId, ConversationId, DeviceId, GroupId, NodeId, ShardId, UserId};
use crate::limits;

mod app;
mod user;

pub(crate) use app::{accounts, api_key, api_keys, app_counts, deactivated};
pub(crate) use user::{
    all_expiring, all_mentioned, burning, deleted, expiring, mentioned, pair, parse_expiring, user_change,
    user_changes, user_item, user_items_head,
};

/// What a key is of. Numbers are stored and never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Space {
    Account = 1,
    Device = 2,
    ListHead = 3,
    ListEntry = 4,
    ListOrder = 5,
    Conversation = 6,
    Member = 7,
    IndexPage = 8,
    Inline = 9,
    Dedupe = 10,
    DedupePage = 11,
    Floor = 16,
    Retention = 17,
    GroupSettings = 18,
    Nickname = 19,
    Ban = 20,
    JoinRequest = 21,
    Invite = 22,
    MutedLeaver = 23,
    LastSeen = 24,
    Privacy = 25,
    ClusterSettings = 32,
    App = 33,
    OutboxHead = 34,
    OutboxItem = 35,
    Roster = 36,
    Node = 37,
    Placement = 38,
    JoinToken = 39,
    AppRetention = 40,
    Level = 41,
    Build = 42,
    Turn = 44,
    IdWindow = 45,
    Annotation = 48,
    Pins = 49,
    Mentioned = 50,
    AllMentioned = 51,
    Expiring = 52,
    Burning = 53,
    Deleted = 54,
    Pair = 60,
    UserItemsHead = 61,
    UserItem = 62,
    UserChange = 63,
    ApiKey = 80,
    AppCounts = 81,
    Deactivated = 82,
}

/// Slots of one index page.
pub(crate) const PAGE_SLOTS: u64 = 64;

/// The page of the index that `seq` is on, and its slot there. Seqs start at 1.
pub(crate) fn page_of(seq: u64) -> (u64, usize) {
    let slot = seq.saturating_sub(1);
    (slot / PAGE_SLOTS, (slot % PAGE_SLOTS) as usize)
}

/// The key's bytes in one allocation of exactly their length: keys are made several times per message.
fn key(app: &[u8], space: Space, parts: &[&[u8]], last: &[u8]) -> Bytes {
    let length = 2 + app.len() + parts.iter().map(|part| 1 + part.len()).sum::<usize>() + last.len();
    let mut key = Vec::with_capacity(length);
    key.push(part_length(app));
    key.extend_from_slice(app);
    key.push(space as u8);
    for part in parts {
        key.push(part_length(part));
        key.extend_from_slice(part);
    }
    key.extend_from_slice(last);
    key.into()
}

fn of_app(app: &AppId, space: Space, parts: &[&[u8]], last: &[u8]) -> Bytes {
    key(app.as_str().as_bytes(), space, parts, last)
}

fn of_cluster(space: Space, last: &[u8]) -> Bytes {
    key(b"", space, &[], last)
}

fn part_length(part: &[u8]) -> u8 {
    u8::try_from(part.len()).expect("ids are at most 64 bytes and the longest part is a pair of them")
}

/// A conversation within a key. Sorted as the text form is.
struct ConversationPart {
    bytes: [u8; 2 + 2 * limits::ID_BYTES],
    length: usize,
}

impl ConversationPart {
    fn new(conversation: &ConversationId) -> Self {
        let mut part = Self { bytes: [0; 2 + 2 * limits::ID_BYTES], length: 0 };
        match conversation {
            ConversationId::Group(group) => part.push(b"g").push(group.0.as_bytes()),
            ConversationId::Private(a, b) => {
                part.push(b"p").push(a.as_str().as_bytes()).push(b":").push(b.as_str().as_bytes())
            }
        };
        part
    }

    fn push(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes[self.length..][..bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
        self
    }

    fn get(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

pub(crate) fn account(app: &AppId, user: &UserId) -> Bytes {
    of_app(app, Space::Account, &[], user.as_str().as_bytes())
}

pub(crate) fn devices(app: &AppId, user: &UserId) -> Bytes {
    of_app(app, Space::Device, &[user.as_str().as_bytes()], b"")
}

pub(crate) fn device(app: &AppId, user: &UserId, device: &DeviceId) -> Bytes {
    of_app(app, Space::Device, &[user.as_str().as_bytes()], device.as_str().as_bytes())
}

pub(crate) fn last_seen(app: &AppId, user: &UserId) -> Bytes {
    of_app(app, Space::LastSeen, &[], user.as_str().as_bytes())
}

pub(crate) fn privacy(app: &AppId, user: &UserId) -> Bytes {
    of_app(app, Space::Privacy, &[], user.as_str().as_bytes())
}

pub(crate) fn list_head(app: &AppId, user: &UserId) -> Bytes {
    of_app(app, Space::ListHead, &[], user.as_str().as_bytes())
}

pub(crate) fn list_entries(app: &AppId, user: &UserId) -> Bytes {
    of_app(app, Space::ListEntry, &[user.as_str().as_bytes()], b"")
}

pub(crate) fn list_entry(app: &AppId, user: &UserId, conversation: &ConversationId) -> Bytes {
    of_app(app, Space::ListEntry, &[user.as_str().as_bytes()], ConversationPart::new(conversation).get())
}

pub(crate) fn list_orders(app: &AppId, user: &UserId) -> Bytes {
    of_app(app, Space::ListOrder, &[user.as_str().as_bytes()], b"")
}

pub(crate) fn list_order(app: &AppId, user: &UserId, order: u64) -> Bytes {
    of_app(app, Space::ListOrder, &[user.as_str().as_bytes()], &order.to_be_bytes())
}

pub(crate) fn conversation(app: &AppId, conversation: &ConversationId) -> Bytes {
    of_app(app, Space::Conversation, &[], ConversationPart::new(conversation).get())
}

pub(crate) fn members(app: &AppId, conversation: &ConversationId) -> Bytes {
    of_app(app, Space::Member, &[ConversationPart::new(conversation).get()], b"")
}

pub(crate) fn member(app: &AppId, conversation: &ConversationId, user: &UserId) -> Bytes {
    of_app(app, Space::Member, &[ConversationPart::new(conversation).get()], user.as_str().as_bytes())
}

pub(crate) fn group_settings(app: &AppId, conversation: &ConversationId) -> Bytes {
    of_app(app, Space::GroupSettings, &[], ConversationPart::new(conversation).get())
}

pub(crate) fn nickname(app: &AppId, conversation: &ConversationId, user: &UserId) -> Bytes {
    of_app(app, Space::Nickname, &[ConversationPart::new(conversation).get()], user.as_str().as_bytes())
}

pub(crate) fn muted_leaver(app: &AppId, conversation: &ConversationId, user: &UserId) -> Bytes {
    of_app(app, Space::MutedLeaver, &[ConversationPart::new(conversation).get()], user.as_str().as_bytes())
}

pub(crate) fn bans(app: &AppId, conversation: &ConversationId) -> Bytes {
    of_app(app, Space::Ban, &[ConversationPart::new(conversation).get()], b"")
}

pub(crate) fn ban(app: &AppId, conversation: &ConversationId, user: &UserId) -> Bytes {
    of_app(app, Space::Ban, &[ConversationPart::new(conversation).get()], user.as_str().as_bytes())
}

pub(crate) fn join_requests(app: &AppId, conversation: &ConversationId) -> Bytes {
    of_app(app, Space::JoinRequest, &[ConversationPart::new(conversation).get()], b"")
}

pub(crate) fn join_request(app: &AppId, conversation: &ConversationId, user: &UserId) -> Bytes {
    of_app(app, Space::JoinRequest, &[ConversationPart::new(conversation).get()], user.as_str().as_bytes())
}

pub(crate) fn invites(app: &AppId, conversation: &ConversationId) -> Bytes {
    of_app(app, Space::Invite, &[ConversationPart::new(conversation).get()], b"")
}

pub(crate) fn invite(app: &AppId, conversation: &ConversationId, code: &[u8; 32]) -> Bytes {
    of_app(app, Space::Invite, &[ConversationPart::new(conversation).get()], code)
}

pub(crate) fn index_page(app: &AppId, conversation: &ConversationId, page: u64) -> Bytes {
    of_app(app, Space::IndexPage, &[ConversationPart::new(conversation).get()], &page.to_be_bytes())
}

pub(crate) fn inline(app: &AppId, conversation: &ConversationId, seq: u64) -> Bytes {
    of_app(app, Space::Inline, &[ConversationPart::new(conversation).get()], &seq.to_be_bytes())
}

pub(crate) fn dedupe(app: &AppId, conversation: &ConversationId, author: &UserId, id: ClientMsgId) -> Bytes {
    let conversation = ConversationPart::new(conversation);
    of_app(app, Space::Dedupe, &[conversation.get(), author.as_str().as_bytes()], id.0.as_bytes())
}

/// The page of ids that were made at about the same time: UUIDv7 begins with its milliseconds.
pub(crate) fn dedupe_page(app: &AppId, conversation: &ConversationId, author: &UserId, id: ClientMsgId) -> Bytes {
    const MILLISECONDS: u32 = 8;
    let (time_ms, _) = id.0.as_u64_pair();
    let bucket = (time_ms >> (16 + MILLISECONDS)).to_be_bytes();
    let conversation = ConversationPart::new(conversation);
    of_app(app, Space::DedupePage, &[conversation.get(), author.as_str().as_bytes()], &bucket[3..])
}

pub(crate) fn cluster_settings() -> Bytes {
    of_cluster(Space::ClusterSettings, b"")
}

pub(crate) fn apps() -> Bytes {
    of_cluster(Space::App, b"")
}

pub(crate) fn app(app: &AppId) -> Bytes {
    of_cluster(Space::App, app.as_str().as_bytes())
}

pub(crate) fn outbox_head() -> Bytes {
    of_cluster(Space::OutboxHead, b"")
}

pub(crate) fn outbox_item(number: u64) -> Bytes {
    of_cluster(Space::OutboxItem, &number.to_be_bytes())
}

pub(crate) fn roster() -> Bytes {
    of_cluster(Space::Roster, b"")
}

pub(crate) fn nodes() -> Bytes {
    of_cluster(Space::Node, b"")
}

pub(crate) fn node(node: NodeId) -> Bytes {
    of_cluster(Space::Node, &node.to_be_bytes())
}

pub(crate) fn placements() -> Bytes {
    of_cluster(Space::Placement, b"")
}

pub(crate) fn placement(shard: ShardId) -> Bytes {
    of_cluster(Space::Placement, &shard.0.to_be_bytes())
}

pub(crate) fn join_tokens() -> Bytes {
    of_cluster(Space::JoinToken, b"")
}

pub(crate) fn join_token(secret: &[u8; 32]) -> Bytes {
    of_cluster(Space::JoinToken, secret)
}

pub(crate) fn level() -> Bytes {
    of_cluster(Space::Level, b"")
}

pub(crate) fn builds() -> Bytes {
    of_cluster(Space::Build, b"")
}

pub(crate) fn turn() -> Bytes {
    of_cluster(Space::Turn, b"")
}

pub(crate) fn build(node: NodeId) -> Bytes {
    of_cluster(Space::Build, &node.to_be_bytes())
}

/// A walk over one kind of key in all apps of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walk {
    Conversations,
    IndexPages,
    Floors,
    Retentions,
}

impl Walk {
    fn space(self) -> Space {
        match self {
            Self::Conversations => Space::Conversation,
            Self::IndexPages => Space::IndexPage,
            Self::Floors => Space::Floor,
            Self::Retentions => Space::Retention,
        }
    }

    /// What the keys of this kind begin with in the app of `key`.
    pub(crate) fn prefix(self, key: &[u8]) -> Option<Bytes> {
        let app = app_part(key)?;
        Some([app, &[self.space() as u8]].concat().into())
    }

    /// Whether `key` is of this kind.
    pub(crate) fn is_of(self, key: &[u8]) -> bool {
        app_part(key).and_then(|app| key.get(app.len())) == Some(&(self.space() as u8))
    }
}

/// A key's app, with its length in front.
fn app_part(key: &[u8]) -> Option<&[u8]> {
    key.get(..1 + usize::from(*key.first()?))
}

/// Behind every key of the app of `key`.
pub(crate) fn end_of_app(key: &[u8]) -> Option<Bytes> {
    Some([app_part(key)?, &[u8::MAX]].concat().into())
}

/// The app in a key, if it has one.
pub(crate) fn app_of(key: &[u8]) -> Option<AppId> {
    AppId::new(std::str::from_utf8(app_part(key)?.get(1..)?).ok()?).ok()
}

/// What follows app and space in a key.
pub(crate) fn rest_of(key: &[u8]) -> Option<&[u8]> {
    key.get(app_part(key)?.len() + 1..)
}

/// The first part of a key that has more behind it, and the rest.
pub(crate) fn split_part(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = rest.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

/// A conversation as keys have it.
pub(crate) fn conversation_of(part: &[u8]) -> Option<ConversationId> {
    match part.split_first()? {
        (b'g', id) => Some(ConversationId::Group(GroupId(Uuid::from_slice(id).ok()?))),
        (b'p', pair) => {
            let (first, second) = std::str::from_utf8(pair).ok()?.split_once(':')?;
            Some(ConversationId::Private(UserId::new(first).ok()?, UserId::new(second).ok()?))
        }
        _ => None,
    }
}

/// Spaces of ids that were used, in the order of their keys.
pub(crate) const ID_SPACES: [u8; 2] = [Space::Dedupe as u8, ID_PAGES];
pub(crate) const ID_PAGES: u8 = Space::DedupePage as u8;

/// What the keys of a conversation's ids begin with, in one of [`ID_SPACES`].
pub(crate) fn ids(app: &AppId, conversation: &ConversationId, space: u8) -> Bytes {
    let space = if space == Space::Dedupe as u8 { Space::Dedupe } else { Space::DedupePage };
    of_app(app, space, &[ConversationPart::new(conversation).get()], b"")
}

pub(crate) fn floor(app: &AppId, conversation: &ConversationId) -> Bytes {
    of_app(app, Space::Floor, &[], ConversationPart::new(conversation).get())
}

pub(crate) fn retention(app: &AppId, conversation: &ConversationId) -> Bytes {
    of_app(app, Space::Retention, &[], ConversationPart::new(conversation).get())
}

pub(crate) fn id_window(app: &AppId) -> Bytes {
    of_cluster(Space::IdWindow, app.as_str().as_bytes())
}

pub(crate) fn app_retention(app: &AppId) -> Bytes {
    of_cluster(Space::AppRetention, app.as_str().as_bytes())
}

/// What became of a conversation's messages, in the order of their seqs.
pub(crate) fn annotations(app: &AppId, conversation: &ConversationId) -> Bytes {
    of_app(app, Space::Annotation, &[ConversationPart::new(conversation).get()], b"")
}

pub(crate) fn annotation(app: &AppId, conversation: &ConversationId, seq: u64) -> Bytes {
    of_app(app, Space::Annotation, &[ConversationPart::new(conversation).get()], &seq.to_be_bytes())
}

/// The seq of an annotation's key that begins with `prefix`.
pub(crate) fn parse_annotation(key: &[u8], prefix: &[u8]) -> Option<u64> {
    key.strip_prefix(prefix)?.try_into().ok().map(u64::from_be_bytes)
}

pub(crate) fn pins(app: &AppId, conversation: &ConversationId) -> Bytes {
    of_app(app, Space::Pins, &[], ConversationPart::new(conversation).get())
}

/// Every member of every conversation of an app.
pub(crate) fn all_members(app: &AppId) -> Bytes {
    of_app(app, Space::Member, &[], b"")
}

/// Every entry of every user's list of an app.
pub(crate) fn all_list_entries(app: &AppId) -> Bytes {
    of_app(app, Space::ListEntry, &[], b"")
}

/// Conversation and user of a member's key that begins with `prefix`.
pub(crate) fn parse_member(key: &[u8], prefix: &[u8]) -> Option<(ConversationId, UserId)> {
    let (conversation, user) = split_part(key.strip_prefix(prefix)?)?;
    Some((conversation_of(conversation)?, UserId::new(std::str::from_utf8(user).ok()?).ok()?))
}

/// The user of a list entry's key that begins with `prefix`; the conversation is in the value.
pub(crate) fn parse_list_entry(key: &[u8], prefix: &[u8]) -> Option<UserId> {
    let (user, _) = split_part(key.strip_prefix(prefix)?)?;
    UserId::new(std::str::from_utf8(user).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    #[test]
    fn every_key_begins_with_its_app_and_cluster_keys_with_none() {
        let (a, b) = (AppId::new("a").unwrap(), AppId::new("ab").unwrap());
        assert!(account(&a, &user("x")).starts_with(&[1, b'a']));
        assert!(account(&b, &user("x")).starts_with(&[2, b'a', b'b']));
        assert!(outbox_item(1).starts_with(&[0]));
    }

    #[test]
    fn a_prefix_covers_its_own_things_and_no_neighbours() {
        let app = AppId::new("main").unwrap();
        let id = DeviceId::new("phone").unwrap();
        assert!(device(&app, &user("al"), &id).starts_with(&devices(&app, &user("al"))));
        assert!(!device(&app, &user("alice"), &id).starts_with(&devices(&app, &user("al"))));
        let (short, long) =
            (ConversationId::private(user("a"), user("b")), ConversationId::private(user("a"), user("bc")));
        assert!(!member(&app, &long, &user("a")).starts_with(&members(&app, &short)));
    }

    #[test]
    fn members_and_list_entries_are_read_back_from_their_keys() {
        let app = AppId::new("main").unwrap();
        for conversation in
            [ConversationId::private(user("a"), user("bc")), ConversationId::Group(GroupId(Uuid::from_u128(9)))]
        {
            let key = member(&app, &conversation, &user("bc"));
            assert_eq!(parse_member(&key, &all_members(&app)), Some((conversation.clone(), user("bc"))));
            let key = list_entry(&app, &user("bc"), &conversation);
            assert_eq!(parse_list_entry(&key, &all_list_entries(&app)), Some(user("bc")));
        }
    }

    #[test]
    fn conversations_sort_as_their_text_does() {
        let mut all: Vec<ConversationId> = [("a", "b"), ("a", "bc"), ("ab", "c"), ("b", "b")]
            .iter()
            .map(|(a, b)| ConversationId::private(user(a), user(b)))
            .chain([9, 1 << 120].map(|n| ConversationId::Group(GroupId(Uuid::from_u128(n)))))
            .collect();
        let mut by_text = all.clone();
        all.sort_by_key(|c| list_entry(&AppId::new("m").unwrap(), &user("u"), c));
        by_text.sort_by_key(ToString::to_string);
        assert_eq!(all, by_text);
    }

    #[test]
    fn a_conversation_is_read_back_from_a_key() {
        let app = AppId::new("main").unwrap();
        for c in [ConversationId::private(user("a"), user("bc")), ConversationId::Group(GroupId(Uuid::from_u128(7)))] {
            let key = conversation(&app, &c);
            assert_eq!((app_of(&key), rest_of(&key).and_then(conversation_of)), (Some(app.clone()), Some(c.clone())));
            let page = index_page(&app, &c, 3);
            let (part, last) = rest_of(&page).and_then(split_part).unwrap();
            assert_eq!((conversation_of(part), last), (Some(c), 3u64.to_be_bytes().as_slice()));
            assert!(Walk::IndexPages.is_of(&page) && !Walk::Floors.is_of(&page));
            assert!(page < end_of_app(&page).unwrap());
        }
    }

    #[test]
    fn pages_hold_64_seqs_each() {
        assert_eq!((page_of(1), page_of(64), page_of(65)), ((0, 0), (0, 63), (1, 0)));
    }
}
