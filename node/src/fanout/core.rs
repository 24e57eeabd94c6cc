//! Who hears of what on one worker. A session is reached by a direct call, so that it is tested without actors.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use bytestring::ByteString;
use chat::event::{Committed, Receipt};
use chat::ids::{AppId, ConversationId, UserId};
use chat::wire::{ServerFrame, UserItem};

use super::batch::{Batch, Encode};
use super::interest::{Interest, Workers};
use super::message::SessionNumber;
use super::overflow::Noted;
use crate::session::encode;
use crate::session::message::Live;

/// A session as the fan-out reaches it. It must not call the fan-out back.
pub(crate) trait Listener {
    fn hear(&self, now_ms: u64, live: Live<'_>);
}

struct Entry {
    app: AppId,
    user: UserId,
    conversations: HashSet<ConversationId>,
    listener: Rc<dyn Listener>,
}

type Listeners = Vec<(SessionNumber, Rc<dyn Listener>)>;

/// Who is here of one app. By app first, so that looking up an event's followers copies nothing.
#[derive(Default)]
struct Audience {
    by_user: HashMap<UserId, Listeners>,
    by_conversation: HashMap<ConversationId, Listeners>,
}

pub(super) struct Core {
    worker: Workers,
    interest: Arc<Interest>,
    sessions: HashMap<SessionNumber, Entry>,
    audiences: HashMap<AppId, Audience>,
    /// Events handed to sessions.
    pub(super) delivered: u64,
}

impl Core {
    pub(super) fn new(worker: Workers, interest: Arc<Interest>) -> Self {
        Self { worker, interest, sessions: HashMap::new(), audiences: HashMap::new(), delivered: 0 }
    }

    pub(super) fn register(&mut self, session: SessionNumber, app: AppId, user: UserId, listener: Rc<dyn Listener>) {
        // A session whose `resume` failed registers again.
        if self.sessions.contains_key(&session) {
            return;
        }
        let audience = self.audiences.entry(app.clone()).or_default();
        let sessions = audience.by_user.entry(user.clone()).or_default();
        if sessions.is_empty() {
            self.interest.hears_of_user(self.worker, &app, &user, true);
        }
        sessions.push((session, listener.clone()));
        self.sessions.insert(session, Entry { app, user, conversations: HashSet::new(), listener });
    }

    pub(super) fn follow(&mut self, session: SessionNumber, conversations: &[ConversationId]) {
        let Some(entry) = self.sessions.get_mut(&session) else { return };
        let Some(audience) = self.audiences.get_mut(&entry.app) else { return };
        for conversation in conversations {
            if entry.conversations.insert(conversation.clone()) {
                let followers = audience.by_conversation.entry(conversation.clone()).or_default();
                if followers.is_empty() {
                    self.interest.follows(self.worker, &entry.app, conversation, true);
                }
                followers.push((session, entry.listener.clone()));
            }
        }
    }

    pub(super) fn unfollow(&mut self, session: SessionNumber, conversation: &ConversationId) {
        let Some(entry) = self.sessions.get_mut(&session) else { return };
        let Some(audience) = self.audiences.get_mut(&entry.app) else { return };
        if entry.conversations.remove(conversation) && forget(&mut audience.by_conversation, conversation, session) {
            self.interest.follows(self.worker, &entry.app, conversation, false);
        }
    }

    pub(super) fn unregister(&mut self, session: SessionNumber) {
        let Some(entry) = self.sessions.remove(&session) else { return };
        let Some(audience) = self.audiences.get_mut(&entry.app) else { return };
        for conversation in &entry.conversations {
            if forget(&mut audience.by_conversation, conversation, session) {
                self.interest.follows(self.worker, &entry.app, conversation, false);
            }
        }
        if forget(&mut audience.by_user, &entry.user, session) {
            self.interest.hears_of_user(self.worker, &entry.app, &entry.user, false);
        }
        if audience.by_user.is_empty() {
            self.audiences.remove(&entry.app);
        }
    }

    /// Each conversation's events in one call per session; an event is encoded only if somebody follows it.
    pub(super) fn applied(&mut self, now_ms: u64, batch: &Batch, encoder: &dyn Encode) {
        let mut delivered = 0;
        for (app, conversation, encoded) in batch.runs(encoder) {
            let followers = self.followers(app, conversation);
            if followers.is_empty() {
                continue;
            }
            let encoded = encoded();
            if !encoded.events.is_empty() {
                delivered += (encoded.events.len() * followers.len()) as u64;
                tell(followers, now_ms, Live::Events { conversation, events: &encoded.events });
            }
            if let Some(head) = encoded.unreadable {
                tell(followers, now_ms, Live::Moved { conversation, head });
            }
        }
        for event in batch.events() {
            match event {
                Committed::ConversationListed { app, user, conversation } => {
                    self.listed(now_ms, app, user, conversation);
                }
                Committed::ReadMoved { app, conversation, user, receipt, seq, to_all } => {
                    let live = Live::ReadMoved { conversation, user, receipt: *receipt, seq: *seq };
                    self.read_moved(now_ms, app, live, *to_all);
                }
                Committed::DeletedForMe { app, conversation, user, first, last } => {
                    let live = Live::DeletedForMe { conversation, first: *first, last: *last };
                    tell(self.sessions_of(app, user), now_ms, live);
                }
                Committed::ItemChanged { app, user, item } => {
                    let sessions = self.sessions_of(app, user);
                    if !sessions.is_empty() {
                        let items = vec![UserItem::from(item.as_ref().clone())];
                        let frame = encode(&ServerFrame::ItemsChanged { items, version: item.version });
                        tell(sessions, now_ms, Live::ItemsChanged { version: item.version, frame: Some(&frame) });
                    }
                }
                Committed::JoinAsked { app, conversation, user, text, admins } => {
                    let live = Live::JoinAsked { conversation, user, text };
                    admins.iter().for_each(|admin| tell(self.sessions_of(app, admin), now_ms, live));
                }
                // The event that removed the user says it to the user's sessions.
                Committed::Sequenced(_)
                | Committed::ConversationUnlisted { .. }
                | Committed::LoginsRevoked { .. }
                | Committed::SessionBegan { .. }
                | Committed::AppFrozen { .. }
                | Committed::PrivacySet { .. } => {}
            }
        }
        self.delivered += delivered;
    }

    /// What could not be told event by event.
    pub(super) fn overflowed(&self, now_ms: u64, noted: Noted) {
        if noted.everything {
            return self.reconnect(now_ms, |_| true);
        }
        for ((app, conversation), head) in &noted.heads {
            tell(self.followers(app, conversation), now_ms, Live::Moved { conversation, head: *head });
        }
        for (app, user, conversation) in &noted.listed {
            self.listed(now_ms, app, user, conversation);
        }
        for ((app, conversation, user, receipt), (seq, to_all)) in &noted.reads {
            let live = Live::ReadMoved { conversation, user, receipt: *receipt, seq: *seq };
            self.read_moved(now_ms, app, live, *to_all);
        }
        for ((app, user), version) in &noted.items {
            tell(self.sessions_of(app, user), now_ms, Live::ItemsChanged { version: *version, frame: None });
        }
    }

    /// These sessions' clients connect again.
    pub(super) fn reconnect(&self, now_ms: u64, among: impl Fn(SessionNumber) -> bool) {
        for (_, entry) in self.sessions.iter().filter(|(session, _)| among(**session)) {
            entry.listener.hear(now_ms, Live::Reconnect);
        }
    }

    fn listed(&self, now_ms: u64, app: &AppId, user: &UserId, conversation: &ConversationId) {
        tell(self.sessions_of(app, user), now_ms, Live::Listed { conversation });
    }

    /// To the reader's own devices, and to the peer of a private conversation or the members of a small group. What was
    /// delivered to one's own devices they know.
    fn read_moved(&self, now_ms: u64, app: &AppId, live: Live<'_>, to_all: bool) {
        let Live::ReadMoved { conversation: at, user, receipt, .. } = live else { return };
        if to_all && matches!(at, ConversationId::Group(_)) {
            return tell(self.followers(app, at), now_ms, live);
        }
        if receipt == Receipt::Read {
            tell(self.sessions_of(app, user), now_ms, live);
        }
        if let Some(peer) = at.peer_of(user).filter(|peer| *peer != user) {
            tell(self.sessions_of(app, peer), now_ms, live);
        }
    }

    pub(super) fn hear(&self, session: SessionNumber, now_ms: u64, live: Live<'_>) {
        if let Some(entry) = self.sessions.get(&session) {
            entry.listener.hear(now_ms, live);
        }
    }

    /// To whoever follows the conversation, except the sessions of `but`.
    pub(super) fn said(
        &self,
        now_ms: u64,
        app: &AppId,
        conversation: &ConversationId,
        but: Option<&UserId>,
        frame: &ByteString,
    ) {
        for (session, listener) in self.followers(app, conversation) {
            let user = self.sessions.get(session).map(|entry| &entry.user);
            if but.is_none() || user != but {
                listener.hear(now_ms, Live::Said { conversation, frame });
            }
        }
    }

    fn followers(&self, app: &AppId, conversation: &ConversationId) -> &[(SessionNumber, Rc<dyn Listener>)] {
        let audience = self.audiences.get(app);
        audience.and_then(|audience| audience.by_conversation.get(conversation)).map_or(&[], Vec::as_slice)
    }

    fn sessions_of(&self, app: &AppId, user: &UserId) -> &[(SessionNumber, Rc<dyn Listener>)] {
        self.audiences.get(app).and_then(|audience| audience.by_user.get(user)).map_or(&[], Vec::as_slice)
    }

    /// Sessions, users and conversations.
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        let users = self.audiences.values().map(|audience| audience.by_user.len()).sum();
        let conversations = self.audiences.values().map(|audience| audience.by_conversation.len()).sum();
        (self.sessions.len(), users, conversations)
    }
}

fn tell(listeners: &[(SessionNumber, Rc<dyn Listener>)], now_ms: u64, live: Live<'_>) {
    for (_, listener) in listeners {
        listener.hear(now_ms, live);
    }
}

/// True if nobody is left under `key`.
fn forget<K: Eq + std::hash::Hash>(index: &mut HashMap<K, Listeners>, key: &K, session: SessionNumber) -> bool {
    let Some(sessions) = index.get_mut(key) else { return false };
    if let Some(place) = sessions.iter().position(|(other, _)| *other == session) {
        sessions.swap_remove(place);
    }
    if sessions.is_empty() {
        index.remove(key);
        return true;
    }
    false
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
