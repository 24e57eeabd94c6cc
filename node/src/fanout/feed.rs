//! The replicas' side of the fan-out. It is called where entries are applied, so it never waits.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use chat::event::{Committed, Event, SequencedEvent};
use chat::ids::ShardId;
use chat::limits;

use super::batch::Batch;
use super::message::{Applied, LookAtOverflow};
use super::{FanOutHandle, Worker};
use crate::auth::Identity;
use crate::directory::{Directory, Sessions};
use crate::presence::PresenceHandle;
use crate::presence::message::{Input, UserKey};

/// Passes what this node's replicas apply to the fan-out, changes of leadership to the directory, and wishes for
/// privacy to presence.
pub struct NodeFeed {
    fan_out: FanOutHandle,
    directory: Arc<Directory>,
    sessions: Sessions,
    presence: PresenceHandle,
}

impl NodeFeed {
    pub fn new(fan_out: FanOutHandle, directory: Arc<Directory>, sessions: Sessions, presence: PresenceHandle) -> Self {
        Self { fan_out, directory, sessions, presence }
    }
}

impl FanOutHandle {
    fn applied(&self, events: Arc<[Committed]>) {
        let recalled = events.iter().filter(|event| is_recall(event)).count() as u64;
        let recalls = self.recalls.fetch_add(recalled, Ordering::AcqRel);
        let workers = self.interest.of(&events);
        if workers == 0 {
            return;
        }
        let batch = Arc::new(Batch::new(events, recalls));
        for worker in self.workers.read().iter().filter(|worker| worker.bit & workers != 0) {
            worker.applied(&batch);
        }
    }

    /// Events went by that are not told one by one: a snapshot.
    fn jumped(&self) {
        for worker in self.workers.read().iter() {
            worker.shared.overflow.note_everything();
            worker.look();
        }
    }
}

impl Worker {
    fn applied(&self, batch: &Arc<Batch>) {
        let queued = self.shared.queued_bytes.fetch_add(batch.bytes, Ordering::Relaxed) + batch.bytes;
        if queued <= limits::FANOUT_BYTES && self.actor.try_send(Applied(batch.clone())).is_ok() {
            return;
        }
        self.shared.queued_bytes.fetch_sub(batch.bytes, Ordering::Relaxed);
        self.shared.overflow.note(batch.events());
        self.look();
    }

    fn look(&self) {
        // Full: then something in the mailbox is handled after the note was made, and looks at it.
        let _ = self.actor.try_send(LookAtOverflow);
    }
}

fn is_recall(event: &Committed) -> bool {
    let gone = |event: &Event| matches!(event, Event::Recalled { .. } | Event::Expired { .. });
    matches!(event, Committed::Sequenced(SequencedEvent { event, .. }) if gone(event))
}

impl cluster::Feed for NodeFeed {
    fn committed(&self, _shard: ShardId, _log_index: u64, events: Arc<[Committed]>) {
        for event in events.iter() {
            match event {
                Committed::LoginsRevoked { app, user, which } => {
                    self.sessions.revoke(&Identity { app: app.clone(), user: user.clone() }, which);
                }
                Committed::SessionBegan { app, user, session, platform, policy } => {
                    let user = Identity { app: app.clone(), user: user.clone() };
                    self.sessions.began(&user, *session, platform, *policy);
                }
                Committed::AppFrozen { app } => self.sessions.freeze(app),
                Committed::PrivacySet { app, user } => {
                    let key = UserKey { app: app.clone(), user: user.clone() };
                    self.presence.say(Input::PrivacySet { key });
                }
                _ => {}
            }
        }
        self.fan_out.applied(events);
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

#[cfg(test)]
mod tests {
    use chat::ids::{AppId, ConversationId, GroupId, UserId};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn recalls_are_counted_whoever_listens() {
        let fan_out = FanOutHandle::default();
        let by = UserId::new("alice").unwrap();
        let event = |event| {
            let conversation = ConversationId::Group(GroupId(Uuid::from_u128(1)));
            let app = AppId::new("main").unwrap();
            Committed::Sequenced(SequencedEvent { app, conversation, seq: 9, time_ms: 0, event })
        };
        let recalled = || event(Event::Recalled { target: 1, by: by.clone() });
        fan_out.applied([recalled(), event(Event::Left { user: by.clone() }), recalled()].into());
        assert_eq!(fan_out.recalls.load(Ordering::Relaxed), 2);
    }
}
