//! What the replicated state stores. Field order and variant order are the format (see [`crate::codec`]): a changed
//! record is a new struct under a new format number, and `chat/golden` keeps the bytes of every layout.
//!
//! Long because most records of the state are here, in one place.

use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec::{self, Kind};
use crate::command::NodeFacts;
use crate::event::{Event, Role};
use crate::ids::{ClientMsgId, ConversationId, NodeId, UserId};
use crate::limits;
use crate::retention::Retention;
use crate::wire::Audience;

mod app;
mod user;

pub use app::{ApiKey, App, AppCounts, Deactivated, TokenKey};
pub use user::{Burning, Deleted, Expiring, ItemPlace, ItemsHead, Mentioned, Pair, StoredItem};

/// A value of the state.
pub trait Record: Serialize + DeserializeOwned {
    fn to_bytes(&self) -> Bytes {
        codec::encode(Kind::State, self).expect("a record is far smaller than the codec's limit")
    }

    /// Values are authenticated by storage and written by this state machine alone. One that does not decode means
    /// another build's state or a broken invariant: the process must not go on.
    fn from_bytes(bytes: &[u8]) -> Self {
        codec::decode(Kind::State, bytes).expect("stored values are records of a layout this build knows")
    }
}

/// A user of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub created_ms: u64,
    /// A PHC string; none for users whom only the app's tokens vouch for.
    pub password: Option<String>,
    /// Tokens that were issued before are good for no login.
    pub revoked_ms: u64,
}

/// One of a user's installations; its id is in the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub platform: String,
    pub name: String,
    pub first_seen_ms: u64,
    pub last_login_ms: u64,
    /// Tokens that were issued before are good for no login of this device.
    pub revoked_ms: u64,
}

/// When the user was last there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastSeen {
    pub at_ms: u64,
}

/// Who may know of a user's presence. No record: everyone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Privacy {
    pub last_seen: Audience,
    pub online: Audience,
}

/// The counters of a user's conversation list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListHead {
    /// Entries that are listed.
    pub listed: u64,
    /// Given to the next conversation that enters the list.
    pub next_order: u64,
}

/// A conversation's place in a user's list. It stays when the conversation leaves the list, so that an older change
/// that arrives late does not bring it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListEntry {
    pub conversation: ConversationId,
    /// Of the newest change seen.
    pub seq: u64,
    /// Set while listed: when it entered, relative to the user's other conversations.
    pub order: Option<u64>,
}

/// A conversation listed at some order: what makes room first when the list is full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListOrder {
    pub conversation: ConversationId,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// A group's name; none for private conversations.
    pub name: Option<String>,
    pub created_by: UserId,
    pub created_ms: u64,
    /// The seq of the last event.
    pub head: u64,
    pub members: u64,
    /// Chained over all events: equal digests mean equal histories.
    pub digest: [u8; 32],
    /// A group's settings may refuse a message: they have to be looked at.
    pub guarded: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub role: Role,
    /// The seq of the event that made the user a member.
    pub joined: u64,
    pub read: u64,
    /// The member's devices have everything up to it.
    pub delivered: u64,
    /// Until then the user may not speak; 0 for who may, the greatest number for good.
    pub muted_until_ms: u64,
    /// When the user last spoke, as long as slow mode is on.
    pub spoke_ms: u64,
}

/// A member's name in the group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nickname {
    pub nickname: String,
}

/// Who left while muted stays so when coming back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MutedLeaver {
    pub until_ms: u64,
}

/// Somebody who may not be a member. The greatest number: for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    pub until_ms: u64,
    pub by: UserId,
}

/// Somebody who wants to be a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    pub time_ms: u64,
    pub text: String,
}

/// What lets somebody join; a hash of its code is in the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    pub by: UserId,
    pub expires_ms: u64,
    /// That are left.
    pub uses: u32,
}

impl Member {
    pub(crate) fn new(role: Role, joined: u64, read: u64) -> Self {
        Self { role, joined, read, delivered: read, muted_until_ms: 0, spoke_ms: 0 }
    }

    /// Events after the read position, those before the user joined and those that are deleted not counted.
    pub fn unread(&self, head: u64, oldest_seq: u64) -> u64 {
        head.saturating_sub(self.read.max(self.joined.max(oldest_seq).saturating_sub(1)))
    }
}

/// Where consecutive seqs are found. Pages let the messages of one entry share one write.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexPage {
    pub slots: Vec<Slot>,
}

/// Where one event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Slot {
    /// A message: the `position`th command of the log entry.
    Message { log_index: u64, position: u32 },
    /// Any other event: beside the index, under its seq. A message, too, once it was recalled.
    Inline,
    /// An edit: the `position`th command of the log entry holds the new body.
    Edit { log_index: u64, position: u32 },
}

/// An event that is no message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InlineEvent {
    pub time_ms: u64,
    pub event: Event,
}

/// What became of a message after it was sent; its seq is in the key. There is none as long as nothing did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotation {
    /// Oldest first: the last one's body is the message's. At most [`limits::EDITS`].
    pub edits: Vec<Edit>,
    /// Since when there is no body.
    pub recalled: Option<Recall>,
    /// In the order in which they were first made. At most [`limits::REACTION_KINDS`], and [`limits::REACTIONS`] users in all.
    pub reactions: Vec<Reaction>,
    pub pinned: bool,
}

/// One edit of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    pub seq: u64,
    pub time_ms: u64,
    pub client_msg_id: ClientMsgId,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recall {
    pub seq: u64,
    pub by: UserId,
    /// It was for a while, and nobody took it back.
    pub expired: bool,
}

/// Those who reacted in one way, in the order in which they did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reaction {
    pub reaction: String,
    pub users: Vec<UserId>,
}

/// The pinned messages of a conversation, in the order in which they were pinned. At most [`limits::PINS`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pins {
    pub seqs: Vec<u64>,
}

/// A `client_msg_id` that was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dedupe {
    pub seq: u64,
    pub digest: [u8; 16],
}

/// Ids that one author made at about the same time, in the order of their use: one write for many messages.
/// What does not fit has a [`Dedupe`] of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DedupePage {
    /// 40 bytes each: id, seq (big-endian), digest. Raw, because they are copied far more often than looked at.
    ids: BytesMut,
}

impl DedupePage {
    /// Ids of one page.
    pub(crate) const IDS: usize = 64;
    const BYTES: usize = 16 + 8 + 16;

    pub(crate) fn find(&self, id: ClientMsgId) -> Option<Dedupe> {
        // The newest ones are asked for most.
        let found = self.ids.rchunks_exact(Self::BYTES).find(|entry| entry.starts_with(id.0.as_bytes()))?;
        let (_, rest) = found.split_first_chunk::<16>()?;
        let (seq, digest) = rest.split_first_chunk::<8>()?;
        Some(Dedupe { seq: u64::from_be_bytes(*seq), digest: digest.try_into().ok()? })
    }

    pub(crate) fn is_full(&self) -> bool {
        self.ids.len() >= Self::IDS * Self::BYTES
    }

    /// The newest seq of the page's messages.
    pub(crate) fn newest_seq(&self) -> u64 {
        let seqs = self.ids.chunks_exact(Self::BYTES).filter_map(|entry| entry.get(16..24)?.try_into().ok());
        seqs.map(u64::from_be_bytes).max().unwrap_or(0)
    }

    pub fn push(&mut self, id: ClientMsgId, used: &Dedupe) {
        self.ids.extend_from_slice(id.0.as_bytes());
        self.ids.extend_from_slice(&used.seq.to_be_bytes());
        self.ids.extend_from_slice(&used.digest);
    }
}

/// From which seq on a conversation's events are kept. There is none as long as all are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// Events below it are deleted. One more than the head if all are.
    pub oldest_seq: u64,
    /// What may be forgotten later, oldest first.
    pub marks: Vec<FloorMark>,
}

/// Ids of messages below `seq` were used before `time_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FloorMark {
    pub time_ms: u64,
    pub seq: u64,
}

impl Default for Floor {
    fn default() -> Self {
        Self { oldest_seq: 1, marks: Vec::new() }
    }
}

impl Floor {
    /// Events below `oldest_seq` are deleted, at `time_ms`. Times are rounded up, so that the marks stay few: as many as
    /// there are [`limits::FORGET_STEPS`] in the window.
    pub(crate) fn raise(&mut self, oldest_seq: u64, time_ms: u64, window_ms: u64) {
        self.oldest_seq = oldest_seq;
        let step = (window_ms / limits::FORGET_STEPS).max(1);
        let time_ms = (time_ms / step).saturating_add(1).saturating_mul(step);
        match self.marks.last_mut() {
            // A clock that goes back forgets later, never earlier.
            Some(last) if last.time_ms >= time_ms => last.seq = oldest_seq,
            _ => self.marks.push(FloorMark { time_ms, seq: oldest_seq }),
        }
    }

    /// Ids of messages below this may be forgotten at `now_ms`; 0 if none may.
    pub fn forgettable(&self, now_ms: u64, window_ms: u64) -> u64 {
        let expired = |mark: &&FloorMark| mark.time_ms.saturating_add(window_ms) <= now_ms;
        self.marks.iter().take_while(expired).map(|mark| mark.seq).max().unwrap_or(0)
    }
}

/// The cluster's unchangeable settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSettings {
    pub cluster: String,
    pub shards: u16,
    pub stream_epoch: u32,
    pub nodes: Vec<(NodeId, String)>,
    pub founded_ms: u64,
}

/// What concerns the nodes as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    /// The id of the next node that joins: no id is ever given twice.
    pub next: NodeId,
    /// Nodes that vote in each shard.
    pub replicas: u8,
    /// Replicas are to be spread evenly anew.
    pub rebalance: bool,
}

/// A node of the cluster; its id is in the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub facts: NodeFacts,
    pub state: NodeState,
    pub since_ms: u64,
    /// A hash of the public key it joined with; zeros for those that founded the cluster.
    pub key: [u8; 32],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    /// It catches up and votes nowhere.
    Joining,
    Active,
    /// It gives away its replicas, for good.
    Leaving,
    /// It is gone, and its id with it.
    Removed,
}

/// The nodes that vote in a shard, in the order in which they should lead; the shard is in the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    pub voters: Vec<NodeId>,
}

/// What lets nodes join; a hash of its secret is in the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    pub expires_ms: u64,
    pub uses: u32,
}

/// The feature level that is switched on. None on record: the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterLevel {
    pub level: u16,
    pub since_ms: u64,
}

/// The node whose turn it is to be away; none on record: nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    pub node: NodeId,
    pub since_ms: u64,
    /// It is over then, whatever became of the node.
    pub until_ms: u64,
}

/// How long the ids of an app's messages are remembered after those were deleted. None on record:
/// [`limits::DEDUPE_WINDOW_MS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdWindow {
    pub window_ms: u64,
}

/// What a node runs; its id is in the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// The highest feature level that it supports.
    pub level: u16,
    /// Its release.
    pub version: String,
}

/// The numbers of a shard's outbox: items `first..next` wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxHead {
    pub first: u64,
    pub next: u64,
}

impl Default for OutboxHead {
    fn default() -> Self {
        Self { first: 1, next: 1 }
    }
}

macro_rules! records {
    ($($name:ty),* $(,)?) => { $(impl Record for $name {})* };
}

records!(
    Account,
    Device,
    LastSeen,
    Privacy,
    ListHead,
    ListEntry,
    ListOrder,
    Conversation,
    Member,
    IndexPage,
    InlineEvent,
    Annotation,
    Pins,
    Dedupe,
    DedupePage,
    ClusterSettings,
    OutboxHead,
    Roster,
    Node,
    Placement,
    JoinToken,
    ClusterLevel,
    Build,
    Turn,
    IdWindow,
    Floor,
    Retention,
    crate::command::Owed,
    ItemsHead,
    StoredItem,
    ItemPlace,
    Pair,
    Mentioned,
    Expiring,
    Burning,
    Deleted,
    Nickname,
    MutedLeaver,
    Ban,
    JoinRequest,
    Invite,
    crate::group::GroupSettings,
);

/// The digest of a conversation after one more event.
pub(crate) fn chain_digest(before: &[u8; 32], seq: u64, time_ms: u64, event: &Event) -> [u8; 32] {
    let encoded = codec::encode(Kind::State, event).expect("an event is smaller than the entry it came in");
    let mut hasher = blake3::Hasher::new();
    hasher.update(before).update(&seq.to_be_bytes()).update(&time_ms.to_be_bytes()).update(&encoded);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unread_counts_from_the_later_of_reading_and_joining() {
        let member = |joined, read| Member::new(Role::Member, joined, read);
        assert_eq!(member(1, 0).unread(5, 1), 5);
        assert_eq!(member(4, 0).unread(5, 1), 2);
        assert_eq!(member(4, 5).unread(5, 1), 0);
        assert_eq!(member(1, 9).unread(5, 1), 0);
        assert_eq!((member(1, 0).unread(5, 4), member(1, 4).unread(5, 3), member(1, 0).unread(5, 6)), (2, 1, 0));
    }

    #[test]
    fn ids_are_forgotten_a_window_after_their_messages_were_deleted_and_the_marks_stay_few() {
        let mut floor = Floor::default();
        let window = limits::DEDUPE_WINDOW_MS;
        assert_eq!(floor.forgettable(u64::MAX, window), 0);
        let step = window / limits::FORGET_STEPS;
        for n in 0..100 {
            floor.raise(n + 2, 10 * step + n * step / 100, window);
        }
        assert_eq!(floor.marks, [FloorMark { time_ms: 11 * step, seq: 101 }]);
        floor.raise(102, 9 * step, window);
        floor.raise(103, 11 * step, window);
        assert_eq!(
            floor.marks,
            [FloorMark { time_ms: 11 * step, seq: 102 }, FloorMark { time_ms: 12 * step, seq: 103 }]
        );
        let at = |time_ms| floor.forgettable(time_ms, window);
        assert_eq!((at(11 * step + window - 1), at(11 * step + window), at(12 * step + window)), (0, 102, 103));
    }

    #[test]
    fn a_shorter_window_has_smaller_steps_and_what_was_noted_before_it_waits_for_its_own() {
        let window = limits::DEDUPE_WINDOW_MS_MIN;
        let step = window / limits::FORGET_STEPS;
        let mut floor = Floor::default();
        floor.raise(10, 0, window);
        floor.raise(20, 5 * step, window);
        assert_eq!(floor.marks, [FloorMark { time_ms: step, seq: 10 }, FloorMark { time_ms: 6 * step, seq: 20 }]);
        assert_eq!((floor.forgettable(step + window, window), floor.forgettable(6 * step + window, window)), (10, 20));
        let coarse = limits::DEDUPE_WINDOW_MS / limits::FORGET_STEPS;
        let mut floor = Floor::default();
        floor.raise(10, 0, limits::DEDUPE_WINDOW_MS);
        floor.raise(20, step, window);
        assert_eq!(floor.marks, [FloorMark { time_ms: coarse, seq: 20 }], "later than it could be, never earlier");
    }
}
