//! What the presence actor may be told. Whoever tells it something leaves it in its inbox ([`super::PresenceHandle`]) and
//! wakes it up, so that nobody waits and one look takes all there is.
//!
//! | message | from | no room |
//! |---|---|---|
//! | [`LookAtInbox`] | whoever left something in the inbox | what is in the mailbox looks at the inbox too |
//! | [`Input`] of a session | sessions: their coming, going and requests, of which each has few unanswered | there is always room |
//! | [`Input::Told`] | other nodes | dropped, and everything is asked of all nodes anew |

use actix::Message;
use chat::ids::{AppId, NodeId, ShardId, UserId};
use chat::state::record::Privacy;
use chat::wire::{Appearance, PresenceState, UserPresence};
use serde::{Deserialize, Serialize};

use crate::fanout::message::SessionNumber;

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct LookAtInbox;

/// What the presence of one node comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceInfo {
    /// Sessions here, and users whom some of them hear of.
    pub sessions: usize,
    pub watched: usize,
    /// Shards of which this node keeps the presence, and how many of these it has from all nodes.
    pub homes: usize,
    pub complete: usize,
    /// Users of those shards of whom anything is kept.
    pub users: usize,
}

#[derive(Debug)]
pub(crate) enum Input {
    /// A session is logged in.
    Came {
        session: SessionNumber,
        key: UserKey,
        platform: String,
    },
    Appears {
        session: SessionNumber,
        appearance: Appearance,
    },
    Gone {
        session: SessionNumber,
    },
    Subscribe {
        session: SessionNumber,
        re: u64,
        users: Vec<UserId>,
    },
    Unsubscribe {
        session: SessionNumber,
        users: Vec<UserId>,
    },
    Told {
        from: NodeId,
        note: PresenceNote,
    },
    /// The connection to a node broke: what was said to it may or may not have arrived.
    Lost {
        peer: NodeId,
    },
    /// Answers a look at the user's records; none if they cannot be read now.
    Looked {
        key: UserKey,
        number: u64,
        facts: Option<Facts>,
    },
    /// A user's wish for privacy has changed.
    PrivacySet {
        key: UserKey,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct UserKey {
    pub(crate) app: AppId,
    pub(crate) user: UserId,
}

/// What the user's home shard has on record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) privacy: Privacy,
    pub(crate) last_seen_ms: Option<u64>,
}

/// What nodes tell each other. The order of variants is the format between nodes: new ones go last.
///
/// The leader of a user's home shard keeps who is there. What it knows of a node it has pulled, page by page, and is then
/// told of changes. `incarnation` is a node's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PresenceNote {
    /// To the leader: pull. The sender takes it for the leader only now, or something may have been lost between the two.
    Here { shard: ShardId, incarnation: u64 },
    /// From the leader: how does the receiver stand to the shard's users after this one?
    Pull { shard: ShardId, number: u64, after: Option<UserKey> },
    /// Answers: nothing that is newer than `version` is in it, and everything that is not.
    Page { shard: ShardId, number: u64, incarnation: u64, version: u64, entries: Vec<Entry>, more: bool },
    /// To the leader: what has changed.
    Report { shard: ShardId, incarnation: u64, entries: Vec<Entry> },
    /// From the leader, to a node where somebody hears of these users. A later note has a higher `stamp`.
    Changed { shard: ShardId, incarnation: u64, stamp: u64, statuses: Vec<Status> },
}

/// How a node stands to a user: all of it, so that the newest entry is all that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) key: UserKey,
    /// Higher for each change on that node.
    pub(crate) version: u64,
    /// Of the user's sessions there that are not invisible.
    pub(crate) devices: Vec<Device>,
    pub(crate) watch: Watch,
}

impl Entry {
    pub(super) fn is_empty(&self) -> bool {
        self.devices.is_empty() && self.watch == Watch::No
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Device {
    pub(crate) platform: String,
    pub(crate) away: bool,
}

/// Whether somebody on a node hears of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Watch {
    No,
    /// And has been told nothing yet.
    Fresh,
    /// And was told that the user is there, or is not.
    Held {
        there: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) key: UserKey,
    pub(crate) shown: Shown,
}

/// What others see of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shown {
    pub(crate) state: PresenceState,
    pub(crate) platforms: Vec<String>,
    pub(crate) last_seen_ms: Option<u64>,
}

impl Shown {
    pub(super) fn offline(last_seen_ms: Option<u64>) -> Self {
        Self { state: PresenceState::Offline, platforms: Vec::new(), last_seen_ms }
    }

    pub(super) fn of(self, user: UserId) -> UserPresence {
        let Self { state, platforms, last_seen_ms } = self;
        UserPresence { user, state, platforms, last_seen_ms }
    }
}
