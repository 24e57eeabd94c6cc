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

struct Entry {
    app: AppId,
    user: UserId,
    conversations: HashSet<ConversationId>,
}

/// Who is here of one app. By app first, so that looking up an event's followers copies nothing.
#[derive(Default)]
struct Audience {
    by_user: HashMap<UserId, Vec<SessionNumber>>,
    by_conversation: HashMap<ConversationId, Vec<SessionNumber>>,
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
    audiences: HashMap<AppId, Audience>,
    encoded: u64,
}

impl Core {
    pub(super) fn register(&mut self, session: SessionNumber, app: AppId, user: UserId) {
        // A session whose `resume` failed registers again.
        if self.sessions.contains_key(&session) {
            return;
        }
        let audience = self.audiences.entry(app.clone()).or_default();
        audience.by_user.entry(user.clone()).or_default().push(session);
        self.sessions.insert(session, Entry { app, user, conversations: HashSet::new() });
    }

    pub(super) fn follow(&mut self, session: SessionNumber, conversations: Vec<ConversationId>) {
        let Some(entry) = self.sessions.get_mut(&session) else { return };
        let Some(audience) = self.audiences.get_mut(&entry.app) else { return };
        for conversation in conversations {
            if entry.conversations.insert(conversation.clone()) {
                audience.by_conversation.entry(conversation).or_default().push(session);
            }
        }
    }

    pub(super) fn unfollow(&mut self, session: SessionNumber, conversation: &ConversationId) {
        let Some(entry) = self.sessions.get_mut(&session) else { return };
        let Some(audience) = self.audiences.get_mut(&entry.app) else { return };
        if entry.conversations.remove(conversation) {
            forget(&mut audience.by_conversation, conversation, session);
        }
    }

    pub(super) fn unregister(&mut self, session: SessionNumber) {
        let Some(entry) = self.sessions.remove(&session) else { return };
        let Some(audience) = self.audiences.get_mut(&entry.app) else { return };
        for conversation in &entry.conversations {
            forget(&mut audience.by_conversation, conversation, session);
        }
        forget(&mut audience.by_user, &entry.user, session);
        if audience.by_user.is_empty() {
            self.audiences.remove(&entry.app);
        }
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
            let sessions = self.followers(app, conversation).to_vec();
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
        if self.followers(&event.app, &event.conversation).is_empty() {
            return;
        }
        let sessions = || self.followers(&event.app, &event.conversation).to_vec();
        match encoder.encode(event) {
            Some(frame) => {
                let live = LiveEvent { seq: event.seq, frame, removed: removed(&event.event).cloned() };
                let (app, run) = runs.entry(&event.conversation).or_insert((&event.app, Vec::new()));
                // The same group id in two apps is two conversations; one batch rarely holds both.
                if **app == event.app {
                    run.push(live);
                } else {
                    let (conversation, events) = (Arc::new(event.conversation.clone()), [live].into());
                    let live = Live::Events { conversation, events };
                    deliveries.push(Delivery { sessions: sessions(), live });
                }
                self.encoded += 1;
            }
            None => deliveries.push(moved(sessions(), &event.conversation, event.seq)),
        }
    }

    /// What could not be told event by event.
    pub(super) fn overflowed(&self, noted: Noted) -> Vec<Delivery> {
        if noted.everything {
            return self.reconnect(0);
        }
        let heads = noted.heads.into_iter().map(|((app, conversation), head)| {
            moved(self.followers(&app, &conversation).to_vec(), &conversation, head)
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
        let sessions = self.audiences.get(app)?.by_user.get(user)?.clone();
        Some(Delivery { sessions, live: Live::Listed { conversation: Arc::new(conversation.clone()) } })
    }

    /// To the reader's own devices, and to the peer of a private conversation.
    fn read_moved(&self, app: &AppId, at: &ConversationId, user: &UserId, seq: u64) -> Option<Delivery> {
        let peer = at.peer_of(user).filter(|peer| *peer != user);
        let hearers = [Some(user), peer].into_iter().flatten();
        let sessions: Vec<_> =
            hearers.filter_map(|hearer| self.audiences.get(app)?.by_user.get(hearer)).flatten().copied().collect();
        let live = Live::ReadMoved { conversation: Arc::new(at.clone()), user: user.clone(), seq };
        (!sessions.is_empty()).then_some(Delivery { sessions, live })
    }

    fn followers(&self, app: &AppId, conversation: &ConversationId) -> &[SessionNumber] {
        let audience = self.audiences.get(app);
        audience.and_then(|audience| audience.by_conversation.get(conversation)).map_or(&[], Vec::as_slice)
    }

    /// Sessions, users and conversations.
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        let users = self.audiences.values().map(|audience| audience.by_user.len()).sum();
        let conversations = self.audiences.values().map(|audience| audience.by_conversation.len()).sum();
        (self.sessions.len(), users, conversations)
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
