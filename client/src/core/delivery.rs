//! Events on their way to the user: each exactly once and in order per conversation, whatever the
//! connection does. The log is the queue: an event that cannot be taken now is left out and read from
//! history later, so that neither a gap nor a slow reader needs an unbounded buffer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chat::ids::ConversationId;
use chat::limits;
use chat::wire::{Position, Resumption, ResyncReason, WireEvent};

use crate::event::ClientEvent;

/// Events ready for the user; sequenced ones beyond it are left out and read again later.
pub(crate) const READY_EVENTS: usize = 512;
/// Ready items at which the connection is no longer read at all. Room for a notice or two about every conversation,
/// so that only a service that never stops changing the user's list gets there.
pub(crate) const READY_HARD: usize = READY_EVENTS + 2 * limits::USER_CONVERSATIONS;
/// Events kept per conversation while the gap before them is filled.
const STASH_EVENTS: usize = 64;

/// What the client holds of one conversation.
#[derive(Debug, Default)]
struct Cursor {
    /// The last event delivered; all before it are delivered or known to be unreadable.
    held: u64,
    /// The highest event known to exist.
    known: u64,
    /// The highest event read from history: a live copy of it is no fault of the service.
    covered: u64,
    /// Events beyond a gap.
    stash: BTreeMap<u64, WireEvent>,
    /// The number of the history page that is on its way.
    filling: Option<u64>,
    /// History is refused: the user is no member any more, and the notice of it is on its way. What comes before it
    /// lies beyond a hole that nothing fills.
    ended: bool,
    /// Events were left out for want of room: what looks like a gap is our own doing.
    lagging: bool,
}

/// A history page to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) conversation: ConversationId,
    /// The position after which to read.
    pub(crate) after: u64,
    /// Unlike that of any other page: a conversation may be left and entered again while one is on its way.
    number: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Delivery {
    cursors: BTreeMap<ConversationId, Cursor>,
    /// Conversations with `held < known` and no request on its way.
    behind: BTreeSet<ConversationId>,
    ready: VecDeque<ClientEvent>,
    /// Live events that came a second time, or after a hole: faults of the service.
    pub(crate) duplicates: u64,
    pub(crate) gaps: u64,
    /// History pages asked for.
    pub(crate) backfills: u64,
}

impl Delivery {
    pub(crate) fn new(have: impl IntoIterator<Item = Position>) -> Self {
        let cursor = |p: Position| (p.conversation, Cursor { held: p.seq, known: p.seq, ..Cursor::default() });
        Self { cursors: have.into_iter().map(cursor).collect(), ..Self::default() }
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(crate) fn congested(&self) -> bool {
        self.ready.len() >= READY_HARD
    }

    pub(crate) fn pop(&mut self) -> Option<ClientEvent> {
        self.ready.pop_front()
    }

    /// Says something that is not sequenced. Notices which only describe the moment are left out when the reader lags.
    pub(crate) fn notice(&mut self, event: ClientEvent) {
        let momentary = matches!(
            event,
            ClientEvent::ReadMoved { .. }
                | ClientEvent::DeliveredMoved { .. }
                | ClientEvent::Stream { .. }
                | ClientEvent::Typing { .. }
                | ClientEvent::Signal { .. }
                | ClientEvent::Disconnected { .. }
                | ClientEvent::Reconnected
                | ClientEvent::Goaway { .. }
        );
        if !momentary || self.ready.len() < READY_EVENTS {
            self.ready.push_back(event);
        }
    }

    /// Positions for `resume`.
    pub(crate) fn positions(&self) -> impl Iterator<Item = Position> {
        self.cursors.iter().map(|(conversation, c)| Position { conversation: conversation.clone(), seq: c.held })
    }

    /// A live event.
    pub(crate) fn event(&mut self, event: WireEvent) {
        let room = self.ready.len() < READY_EVENTS;
        let Some(cursor) = self.cursors.get_mut(&event.conversation) else {
            // A conversation nobody announced: what lies before its first event was never promised to us.
            let held = event.seq.saturating_sub(1);
            self.cursors.insert(event.conversation.clone(), Cursor { held, known: held, ..Cursor::default() });
            return self.event(event);
        };
        if cursor.ended {
            return;
        }
        cursor.known = cursor.known.max(event.seq);
        if event.seq <= cursor.held {
            self.duplicates += u64::from(event.seq > cursor.covered);
        } else if event.seq == cursor.held + 1 && room {
            cursor.held = event.seq;
            let stashed = (!cursor.stash.is_empty()).then(|| event.conversation.clone());
            self.ready.push_back(ClientEvent::Event(event));
            if let Some(conversation) = stashed {
                self.unstash(&conversation);
            }
        } else {
            self.hold_back(event);
        }
    }

    /// An event that cannot be delivered now: it lies beyond a gap, or the reader lags.
    fn hold_back(&mut self, event: WireEvent) {
        let Some(cursor) = self.cursors.get_mut(&event.conversation) else { return };
        let gap = event.seq > cursor.held + 1;
        self.gaps += u64::from(gap && cursor.filling.is_none() && !cursor.lagging && cursor.stash.is_empty());
        cursor.lagging |= !gap;
        if cursor.filling.is_none() {
            self.behind.insert(event.conversation.clone());
        }
        if gap && !cursor.lagging && cursor.stash.len() < STASH_EVENTS {
            cursor.stash.insert(event.seq, event);
        }
    }

    /// Delivers what the stash holds without a gap.
    fn unstash(&mut self, conversation: &ConversationId) {
        let Some(cursor) = self.cursors.get_mut(conversation) else { return };
        while let Some(entry) = cursor.stash.first_entry() {
            if *entry.key() > cursor.held + 1 || self.ready.len() >= READY_EVENTS {
                break;
            }
            let event = entry.remove();
            if event.seq == cursor.held + 1 {
                cursor.held = event.seq;
                self.ready.push_back(ClientEvent::Event(event));
            }
        }
        if cursor.held >= cursor.known {
            cursor.lagging = false;
            self.behind.remove(conversation);
        }
    }

    /// The next history page to ask for.
    pub(crate) fn next_backfill(&mut self) -> Option<Page> {
        if self.ready.len() > READY_EVENTS / 2 {
            return None;
        }
        let conversation = self.behind.pop_first()?;
        let cursor = self.cursors.get_mut(&conversation)?;
        self.backfills += 1;
        cursor.filling = Some(self.backfills);
        Some(Page { conversation, after: cursor.held, number: self.backfills })
    }

    /// The cursor that waits for this page.
    fn filled(&mut self, page: &Page) -> Option<&mut Cursor> {
        let cursor = self.cursors.get_mut(&page.conversation)?;
        cursor.filling.take_if(|number| *number == page.number).map(|_| cursor)
    }

    /// What answers [`Self::next_backfill`].
    pub(crate) fn backfilled(&mut self, page: &Page, events: Vec<WireEvent>, head: u64) {
        if self.filled(page).is_none() {
            return;
        }
        let conversation = &page.conversation;
        let Some(cursor) = self.cursors.get_mut(conversation) else { return };
        cursor.known = cursor.known.max(head);
        let first_readable = events.first().map_or(head + 1, |event| event.seq);
        if first_readable > cursor.held + 1 {
            // What lies between is not there for this user any more; said, never skipped silently.
            cursor.held = first_readable - 1;
            cursor.known = cursor.known.max(cursor.held);
            let (conversation, next_seq) = (conversation.clone(), first_readable);
            self.ready.push_back(ClientEvent::MustResync { conversation, reason: ResyncReason::Retention, next_seq });
        }
        for event in events {
            cursor.covered = cursor.covered.max(event.seq);
            if event.seq == cursor.held + 1 && self.ready.len() < READY_EVENTS {
                cursor.held = event.seq;
                self.ready.push_back(ClientEvent::Event(event));
            }
        }
        if cursor.held < cursor.known {
            self.behind.insert(conversation.clone());
        }
        self.unstash(conversation);
    }

    /// The history of a conversation cannot be read any more. The node says that the conversation has ended when it
    /// comes to it.
    pub(crate) fn backfill_refused(&mut self, page: &Page) {
        if let Some(cursor) = self.filled(page) {
            cursor.ended = true;
            cursor.stash.clear();
        }
        self.behind.remove(&page.conversation);
    }

    /// Answers `resume`.
    pub(crate) fn resumed(&mut self, resumption: Resumption) {
        let Resumption { conversation, live_after, head, gone } = resumption;
        if gone {
            return self.removed(&conversation);
        }
        let Some(cursor) = self.cursors.get_mut(&conversation) else {
            return self.added(conversation, live_after);
        };
        if head < cursor.held {
            return self.must_resync(conversation, ResyncReason::Epoch, 1);
        }
        // Events up to live_after do not come by themselves: they are ours to read.
        cursor.known = cursor.known.max(live_after);
        if cursor.held < cursor.known {
            self.behind.insert(conversation);
        }
    }

    pub(crate) fn added(&mut self, conversation: ConversationId, live_after: u64) {
        if let Some(cursor) = self.cursors.get_mut(&conversation) {
            cursor.known = cursor.known.max(live_after);
            if cursor.held < cursor.known && cursor.filling.is_none() && !cursor.ended {
                self.behind.insert(conversation);
            }
            return;
        }
        self.cursors.insert(conversation.clone(), Cursor { held: live_after, known: live_after, ..Cursor::default() });
        self.notice(ClientEvent::ConversationAdded { conversation, live_after });
    }

    pub(crate) fn removed(&mut self, conversation: &ConversationId) {
        self.behind.remove(conversation);
        if self.cursors.remove(conversation).is_some() {
            self.notice(ClientEvent::ConversationRemoved { conversation: conversation.clone() });
        }
    }

    /// Events below `oldest_seq` are gone; the node goes on with that one. Who holds the one before it missed nothing.
    pub(crate) fn trimmed(&mut self, conversation: ConversationId, oldest_seq: u64) {
        let Some(cursor) = self.cursors.get_mut(&conversation).filter(|cursor| cursor.held + 1 < oldest_seq) else {
            return;
        };
        cursor.held = oldest_seq - 1;
        cursor.known = cursor.known.max(cursor.held);
        cursor.stash = cursor.stash.split_off(&oldest_seq);
        if cursor.held == cursor.known {
            self.behind.remove(&conversation);
        }
        let (id, reason) = (conversation.clone(), ResyncReason::Retention);
        self.notice(ClientEvent::MustResync { conversation: id, reason, next_seq: oldest_seq });
        self.unstash(&conversation);
    }

    pub(crate) fn must_resync(&mut self, conversation: ConversationId, reason: ResyncReason, next_seq: u64) {
        let held = next_seq.saturating_sub(1);
        // At least one event is looked for, so that the first page tells the true head.
        let cursor = Cursor { held, known: next_seq.max(1), covered: u64::MAX, ..Cursor::default() };
        self.cursors.insert(conversation.clone(), cursor);
        self.behind.insert(conversation.clone());
        self.notice(ClientEvent::MustResync { conversation, reason, next_seq: held + 1 });
    }

    /// The service was restored from a backup: nothing that we hold counts.
    pub(crate) fn epoch_changed(&mut self) {
        let conversations: Vec<ConversationId> = self.cursors.keys().cloned().collect();
        for conversation in conversations {
            self.must_resync(conversation, ResyncReason::Epoch, 1);
        }
        // `resume` follows and asks for all of it.
        self.disconnected();
    }

    /// The connection is gone, and with it every request on its way. The next one starts after `held`.
    pub(crate) fn disconnected(&mut self) {
        self.behind.clear();
        for cursor in self.cursors.values_mut() {
            let Cursor { held, covered, .. } = *cursor;
            *cursor = Cursor { held, known: held, covered, ..Cursor::default() };
        }
    }
}

#[cfg(test)]
mod tests;
