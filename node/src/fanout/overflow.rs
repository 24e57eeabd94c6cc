//! What the fan-out's queue had no room for. The feed never waits: it notes the newest positions here, and sessions
//! read the rest from history.

use std::collections::{BTreeMap, BTreeSet};

use chat::event::{Committed, Receipt};
use chat::ids::{AppId, ConversationId, UserId};
use parking_lot::Mutex;

/// Conversations and users noted at most; past it every session connects again.
const NOTED: usize = 65_536;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) heads: BTreeMap<(AppId, ConversationId), u64>,
    pub(super) listed: BTreeSet<(AppId, UserId, ConversationId)>,
    pub(super) reads: BTreeMap<(AppId, ConversationId, UserId, Receipt), (u64, bool)>,
    /// Versions of what users keep.
    pub(super) items: BTreeMap<(AppId, UserId), u64>,
    /// So much was missed that nothing here is complete.
    pub(super) everything: bool,
}

#[derive(Debug, Default)]
pub(super) struct Overflow(Mutex<Noted>);

impl Overflow {
    pub(super) fn note(&self, events: &[Committed]) {
        let mut noted = self.0.lock();
        for event in events {
            noted.note(event);
        }
        if noted.heads.len() + noted.listed.len() + noted.reads.len() + noted.items.len() > NOTED {
            *noted = Noted { everything: true, ..Noted::default() };
        }
    }

    pub(super) fn note_everything(&self) {
        *self.0.lock() = Noted { everything: true, ..Noted::default() };
    }

    /// Everything noted since the last time.
    pub(super) fn take(&self) -> Option<Noted> {
        let mut noted = self.0.lock();
        if *noted == Noted::default() { None } else { Some(std::mem::take(&mut *noted)) }
    }
}

impl Noted {
    fn note(&mut self, event: &Committed) {
        if self.everything {
            return;
        }
        match event {
            Committed::Sequenced(event) => {
                let key = (event.app.clone(), event.conversation.clone());
                let head = self.heads.entry(key).or_default();
                *head = (*head).max(event.seq);
            }
            Committed::ConversationListed { app, user, conversation } => {
                self.listed.insert((app.clone(), user.clone(), conversation.clone()));
            }
            Committed::ReadMoved { app, conversation, user, receipt, seq, to_all } => {
                self.reads.insert((app.clone(), conversation.clone(), user.clone(), *receipt), (*seq, *to_all));
            }
            Committed::ItemChanged { app, user, item } => {
                self.items.insert((app.clone(), user.clone()), item.version);
            }
            // The event that removed the user says it to the user's sessions.
            Committed::ConversationUnlisted { .. } => {}
            // It is in the list of those who ask; what is deleted is not in history.
            Committed::JoinAsked { .. } | Committed::DeletedForMe { .. } => {}
            // Others hear of it: sessions from the directory, the presence actor.
            Committed::LoginsRevoked { .. }
            | Committed::PrivacySet { .. }
            | Committed::SessionBegan { .. }
            | Committed::AppFrozen { .. } => {}
        }
    }
}
