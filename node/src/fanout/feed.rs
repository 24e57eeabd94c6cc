//! The replicas' side of the fan-out. It is called where entries are applied, so it never waits.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use chat::event::{Committed, Event};
use chat::ids::ShardId;
use chat::limits;

use super::FanOutHandle;
use super::message::{Applied, LookAtOverflow};
use crate::directory::Directory;

/// What an event weighs besides its body.
const EVENT_BYTES: usize = 256;

/// Passes what this node's replicas apply to the fan-out, and changes of leadership to the directory.
pub struct NodeFeed {
    fan_out: FanOutHandle,
    directory: Arc<Directory>,
}

impl NodeFeed {
    pub fn new(fan_out: FanOutHandle, directory: Arc<Directory>) -> Self {
        Self { fan_out, directory }
    }
}

impl FanOutHandle {
    pub(super) fn applied(&self, events: Arc<[Committed]>) {
        let shared = &self.shared;
        let bytes = events.iter().map(weight).sum();
        let queued = shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if queued <= limits::FANOUT_BYTES && self.actor.try_send(Applied { events: events.clone(), bytes }).is_ok() {
            return;
        }
        shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        shared.overflow.note(&events);
        self.look();
    }

    /// Events went by that are not told one by one: a snapshot.
    fn jumped(&self) {
        self.shared.overflow.note_everything();
        self.look();
    }

    fn look(&self) {
        // Full: then something in the mailbox is handled after the note was made, and looks at it.
        let _ = self.actor.try_send(LookAtOverflow);
    }
}

impl cluster::Feed for NodeFeed {
    fn committed(&self, _shard: ShardId, _log_index: u64, events: Arc<[Committed]>) {
        if !events.is_empty() {
            self.fan_out.applied(events);
        }
    }

    fn jumped(&self, _shard: ShardId, _log_index: u64) {
        self.fan_out.jumped();
    }

    fn leadership(&self, shard: ShardId, leading: bool) {
        if !leading {
            self.directory.retire(shard);
        }
    }
}

fn weight(event: &Committed) -> usize {
    match event {
        Committed::Sequenced(event) => match &event.event {
            Event::Message { body, .. } => EVENT_BYTES + body.bytes.len(),
            Event::GroupCreated { members: users, .. } | Event::Joined { users, .. } => {
                EVENT_BYTES + users.len() * limits::ID_BYTES
            }
            _ => EVENT_BYTES,
        },
        _ => EVENT_BYTES,
    }
}
