//! Who hears of what. Generic over how a session is reached, so that it is tested without actors.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytestring::ByteString;
use chat::event::{Committed, Event, SequencedEvent};
use chat::ids::{AppId, ConversationId, UserId};

use super::message::SessionNumber;
use super::overflow::Noted;
use crate::session::message::{Live, LiveEvent};

/// The frame of an event, or none if its body does not open: then sessions ask history, which says what is wrong.
pub(super) trait Encode {
    fn encode(&self, event: &SequencedEvent) -> Option<ByteString>;
}

type Conversation = (AppId, ConversationId);
type User = (AppId, UserId);

struct Entry {
    user: User,
    conversations: HashSet<ConversationId>,
}

/// For each of these sessions, the same message.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) sessions: Vec<SessionNumber>,
    pub(super) live: Live,
}

#[derive(Default)]
pub(super) struct Core {
    sessions: HashMap<SessionNumber, Entry>,
    by_user: HashMap<User, Vec<SessionNumber>>,
    by_conversation: HashMap<Conversation, Vec<SessionNumber>>,
    encoded: u64,
}

impl Core {
    pub(super) fn register(&mut self, session: SessionNumber, app: AppId, user: UserId) {
        // A session whose `resume` failed registers again.
        if self.sessions.contains_key(&session) {
            return;
        }
        let user = (app, user);
        self.by_user.entry(user.clone()).or_default().push(session);
        self.sessions.insert(session, Entry { user, conversations: HashSet::new() });
    }

    pub(super) fn follow(&mut self, session: SessionNumber, conversations: Vec<ConversationId>) {
        let Some(entry) = self.sessions.get_mut(&session) else { return };
        for conversation in conversations {
            if entry.conversations.insert(conversation.clone()) {
                self.by_conversation.entry((entry.user.0.clone(), conversation)).or_default().push(session);
            }
        }
    }

    pub(super) fn unfollow(&mut self, session: SessionNumber, conversation: ConversationId) {
        let Some(entry) = self.sessions.get_mut(&session) else { return };
        if entry.conversations.remove(&conversation) {
            forget(&mut self.by_conversation, &(entry.user.0.clone(), conversation), session);
        }
    }

    pub(super) fn unregister(&mut self, session: SessionNumber) {
        let Some(entry) = self.sessions.remove(&session) else { return };
        for conversation in entry.conversations {
            forget(&mut self.by_conversation, &(entry.user.0.clone(), conversation), session);
        }
        forget(&mut self.by_user, &entry.user, session);
    }

    /// One message per conversation and batch for all its sessions here; an event is encoded once, and only if
    /// somebody here follows its conversation.
    pub(super) fn applied(&mut self, events: &[Committed], encoder: &dyn Encode) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        let mut runs: BTreeMap<&ConversationId, (&AppId, Vec<LiveEvent>)> = BTreeMap::new();
        for event in events {
            match event {
                Committed::Sequenced(event) => self.sequenced(event, encoder, &mut runs, &mut deliveries),
                Committed::ConversationListed { app, user, conversation } => {
                    deliveries.extend(self.listed(app, user, conversation));
                }
                Committed::ReadMoved { app, conversation, user, seq } => {
                    deliveries.extend(self.read_moved(app, conversation, user, *seq));
                }
                // The event that removed the user says it to the user's sessions.
                Committed::ConversationUnlisted { .. } => {}
            }
        }
        for (conversation, (app, events)) in runs {
            let sessions = self.followers(app, conversation);
            let live = Live::Events { conversation: Arc::new(conversation.clone()), events: events.into() };
            deliveries.push(Delivery { sessions, live });
        }
        deliveries
    }

    fn sequenced<'a>(
        &mut self,
        event: &'a SequencedEvent,
        encoder: &dyn Encode,
        runs: &mut BTreeMap<&'a ConversationId, (&'a AppId, Vec<LiveEvent>)>,
        deliveries: &mut Vec<Delivery>,
    ) {
        let sessions = self.followers(&event.app, &event.conversation);
        if sessions.is_empty() {
            return;
        }
        match encoder.encode(event) {
            Some(frame) => {
                self.encoded += 1;
                let live = LiveEvent { seq: event.seq, frame, removed: removed(&event.event).cloned() };
                let (app, run) = runs.entry(&event.conversation).or_insert((&event.app, Vec::new()));
                // The same group id in two apps is two conversations; one batch rarely holds both.
                if **app == event.app {
                    return run.push(live);
                }
                let (conversation, events) = (Arc::new(event.conversation.clone()), [live].into());
                deliveries.push(Delivery { sessions, live: Live::Events { conversation, events } });
            }
            None => deliveries.push(moved(sessions, &event.conversation, event.seq)),
        }
    }

    /// What could not be told event by event.
    pub(super) fn overflowed(&self, noted: Noted) -> Vec<Delivery> {
        if noted.everything {
            return self.reconnect(0);
        }
        let heads = noted.heads.into_iter().map(|((app, conversation), head)| {
            let sessions = self.followers(&app, &conversation);
            moved(sessions, &conversation, head)
        });
        let listed = noted.listed.into_iter().filter_map(|(app, user, at)| self.listed(&app, &user, &at));
        let reads = noted.reads.into_iter().filter_map(|((app, at, user), seq)| self.read_moved(&app, &at, &user, seq));
        heads.chain(listed).chain(reads).filter(|delivery| !delivery.sessions.is_empty()).collect()
    }

    /// Everybody connects again, spread evenly over a time.
    pub(super) fn reconnect(&self, spread_ms: u64) -> Vec<Delivery> {
        let all = self.sessions.len().max(1) as u64;
        let after = |at: usize| at as u64 * spread_ms / all;
        let each = self.sessions.keys().enumerate();
        each.map(|(at, session)| Delivery { sessions: vec![*session], live: Live::Reconnect { after_ms: after(at) } })
            .collect()
    }

    fn listed(&self, app: &AppId, user: &UserId, conversation: &ConversationId) -> Option<Delivery> {
        let sessions = self.by_user.get(&(app.clone(), user.clone()))?.clone();
        Some(Delivery { sessions, live: Live::Listed { conversation: Arc::new(conversation.clone()) } })
    }

    /// To the reader's own devices, and to the peer of a private conversation.
    fn read_moved(&self, app: &AppId, at: &ConversationId, user: &UserId, seq: u64) -> Option<Delivery> {
        let peer = at.peer_of(user).filter(|peer| *peer != user);
        let hearers = [Some(user), peer].into_iter().flatten();
        let sessions: Vec<_> =
            hearers.filter_map(|hearer| self.by_user.get(&(app.clone(), hearer.clone()))).flatten().copied().collect();
        let live = Live::ReadMoved { conversation: Arc::new(at.clone()), user: user.clone(), seq };
        (!sessions.is_empty()).then_some(Delivery { sessions, live })
    }

    fn followers(&self, app: &AppId, conversation: &ConversationId) -> Vec<SessionNumber> {
        let key = (app.clone(), conversation.clone());
        self.by_conversation.get(&key).cloned().unwrap_or_default()
    }

    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        (self.sessions.len(), self.by_user.len(), self.by_conversation.len())
    }

    pub(super) fn encoded(&self) -> u64 {
        self.encoded
    }
}

/// The member whom an event removes.
pub(crate) fn removed(event: &Event) -> Option<&UserId> {
    match event {
        Event::Left { user } | Event::Kicked { user, .. } => Some(user),
        _ => None,
    }
}

fn moved(sessions: Vec<SessionNumber>, conversation: &ConversationId, head: u64) -> Delivery {
    Delivery { sessions, live: Live::Moved { conversation: Arc::new(conversation.clone()), head } }
}

fn forget<K: Eq + std::hash::Hash>(index: &mut HashMap<K, Vec<SessionNumber>>, key: &K, session: SessionNumber) {
    let Some(sessions) = index.get_mut(key) else { return };
    sessions.retain(|other| *other != session);
    if sessions.is_empty() {
        index.remove(key);
    }
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
