//! Which workers have anybody who hears of a conversation or a user: the feed wakes no other.

use std::collections::HashMap;

use chat::event::Committed;
use chat::ids::{AppId, ConversationId, UserId};
use parking_lot::RwLock;

/// A set of workers, one bit each. Workers beyond 64 share bits: then one is told for nothing now and then.
pub(super) type Workers = u64;

pub(super) fn bit(worker: usize) -> Workers {
    1 << (worker % Workers::BITS as usize)
}

#[derive(Debug, Default)]
struct Audience {
    users: HashMap<UserId, Workers>,
    conversations: HashMap<ConversationId, Workers>,
}

/// Written by the worker whose sessions come and go, read by the replicas' feed.
#[derive(Debug, Default)]
pub(super) struct Interest(RwLock<HashMap<AppId, Audience>>);

impl Interest {
    pub(super) fn hears_of_user(&self, worker: Workers, app: &AppId, user: &UserId, hears: bool) {
        self.change(app, |audience| set(&mut audience.users, user, worker, hears));
    }

    pub(super) fn follows(&self, worker: Workers, app: &AppId, conversation: &ConversationId, follows: bool) {
        self.change(app, |audience| set(&mut audience.conversations, conversation, worker, follows));
    }

    fn change(&self, app: &AppId, change: impl FnOnce(&mut Audience)) {
        let mut apps = self.0.write();
        let audience = apps.entry(app.clone()).or_default();
        change(audience);
        if audience.users.is_empty() && audience.conversations.is_empty() {
            apps.remove(app);
        }
    }

    /// Everybody who follows the conversation.
    pub(super) fn followers(&self, app: &AppId, conversation: &ConversationId) -> Workers {
        let apps = self.0.read();
        apps.get(app).and_then(|audience| audience.conversations.get(conversation)).copied().unwrap_or(0)
    }

    /// Everybody who hears of any of these.
    pub(super) fn of(&self, events: &[Committed]) -> Workers {
        let apps = self.0.read();
        events.iter().fold(0, |workers, event| workers | of_event(&apps, event))
    }
}

fn of_event(apps: &HashMap<AppId, Audience>, event: &Committed) -> Workers {
    let user = |app: &AppId, user| apps.get(app).and_then(|audience| audience.users.get(user)).copied().unwrap_or(0);
    match event {
        Committed::Sequenced(event) => {
            let audience = apps.get(&event.app);
            audience.and_then(|audience| audience.conversations.get(&event.conversation)).copied().unwrap_or(0)
        }
        Committed::ConversationListed { app, user: of, .. } => user(app, of),
        Committed::ItemChanged { app, user: of, .. } | Committed::DeletedForMe { app, user: of, .. } => user(app, of),
        Committed::ReadMoved { app, conversation: at @ ConversationId::Group(_), to_all: true, .. } => {
            apps.get(app).and_then(|audience| audience.conversations.get(at)).copied().unwrap_or(0)
        }
        Committed::ReadMoved { app, conversation, user: reader, .. } => {
            user(app, reader) | conversation.peer_of(reader).map_or(0, |peer| user(app, peer))
        }
        Committed::JoinAsked { app, admins, .. } => admins.iter().fold(0, |workers, admin| workers | user(app, admin)),
        // The event that removed the user says it to the user's sessions.
        // Others hear of it: sessions from the directory, the presence actor.
        Committed::ConversationUnlisted { .. }
        | Committed::LoginsRevoked { .. }
        | Committed::PrivacySet { .. }
        | Committed::SessionBegan { .. }
        | Committed::AppFrozen { .. } => 0,
    }
}

fn set<K: Clone + Eq + std::hash::Hash>(map: &mut HashMap<K, Workers>, key: &K, worker: Workers, on: bool) {
    if on {
        *map.entry(key.clone()).or_default() |= worker;
    } else if let Some(workers) = map.get_mut(key) {
        *workers &= !worker;
        if *workers == 0 {
            map.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_workers_that_somebody_listens_on_are_named() {
        let interest = Interest::default();
        let (app, alice, bob) =
            (AppId::new("main").unwrap(), UserId::new("alice").unwrap(), UserId::new("bob").unwrap());
        let talk = ConversationId::private(alice.clone(), bob.clone());
        interest.hears_of_user(bit(0), &app, &alice, true);
        interest.hears_of_user(bit(3), &app, &bob, true);
        interest.follows(bit(3), &app, &talk, true);
        let listed =
            Committed::ConversationListed { app: app.clone(), user: alice.clone(), conversation: talk.clone() };
        let (receipt, to_all) = (chat::event::Receipt::Read, true);
        let (of, at, user) = (app.clone(), talk.clone(), alice.clone());
        let read = Committed::ReadMoved { app: of, conversation: at, user, receipt, seq: 1, to_all };
        assert_eq!(interest.of(std::slice::from_ref(&listed)), 1);
        assert_eq!(interest.of(&[read]), 0b1001, "the reader's devices and the peer's");
        interest.hears_of_user(bit(0), &app, &alice, false);
        assert_eq!(interest.of(&[listed]), 0);
        interest.hears_of_user(bit(3), &app, &bob, false);
        interest.follows(bit(3), &app, &talk, false);
        assert!(interest.0.read().is_empty());
    }
}
