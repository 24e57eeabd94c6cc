//! From `resume` on: what reaches the client, in which order, and what has to be read from history first.

use std::collections::BTreeMap;

use bytestring::ByteString;
use chat::errors::{CloseCode, ErrorCode};
use chat::event::Receipt;
use chat::ids::{ConversationId, UserId};
use chat::wire::{Resumption, ResyncReason, ServerFrame};

use super::super::message::{Live, LiveEvent};
use super::super::reads::Backfill;
use super::{Adding, Core, Effect, Phase, Standing};

fn must_resync(conversation: ConversationId, reason: ResyncReason, oldest_seq: u64) -> ServerFrame {
    ServerFrame::MustResync { conversation, reason, oldest_seq }
}

impl Core {
    /// `standings` of all conversations of the user; followed before they were read.
    pub(in crate::session) fn resumed(&mut self, standings: Result<Vec<Standing>, ErrorCode>) {
        let (re, have) = match std::mem::replace(&mut self.phase, Phase::Ready) {
            Phase::Resuming { re, have } => (re, have),
            other => {
                self.phase = other;
                return;
            }
        };
        let standings = match standings {
            Ok(standings) => standings,
            Err(code) => return self.error(Some(re), code, "the conversations cannot be read now", Some(500)),
        };
        self.phase = Phase::Live;
        let mut have: BTreeMap<_, _> = have.into_iter().map(|at| (at.conversation, at.seq)).collect();
        let mut conversations = Vec::with_capacity(standings.len());
        let mut resync = Vec::new();
        for Standing { conversation, head, joined, oldest } in standings {
            let had = have.remove(&conversation);
            let reason = match had {
                Some(seq) if seq > head => Some(ResyncReason::Epoch),
                Some(seq) if seq + 1 < oldest => Some(ResyncReason::Retention),
                _ => None,
            };
            resync.extend(reason.map(|reason| must_resync(conversation.clone(), reason, oldest)));
            let live_after = had.map_or(head, |seq| seq.max(oldest - 1).min(head));
            let newest = self.early.remove(&conversation).map_or(head, |early| early.max(head));
            self.cursors.start(conversation.clone(), joined, live_after, newest);
            conversations.push(Resumption { conversation, live_after, head, gone: false });
        }
        let gone = have.into_iter().map(|(conversation, live_after)| Resumption {
            conversation,
            live_after,
            head: live_after,
            gone: true,
        });
        conversations.extend(gone);
        self.write(&ServerFrame::Resumed { re, conversations });
        resync.iter().for_each(|frame| self.write(frame));
        self.early.clear();
        for conversation in std::mem::take(&mut self.early_listed) {
            self.listed(conversation);
        }
    }

    /// `None`: the user is not a member (any more).
    pub(in crate::session) fn added(
        &mut self,
        conversation: ConversationId,
        standing: Result<Option<Standing>, ErrorCode>,
    ) {
        let Some(mut adding) = self.adding.remove(&conversation) else { return };
        match standing {
            Ok(Some(standing)) => {
                let live_after = standing.joined.max(standing.oldest).saturating_sub(1);
                let newest = standing.head.max(adding.head);
                self.cursors.start(conversation.clone(), standing.joined, live_after, newest);
                self.write(&ServerFrame::ConversationAdded { conversation, live_after });
            }
            Ok(None) if adding.again => self.add(conversation),
            Ok(None) => self.effects.push(Effect::Unfollow(conversation)),
            Err(_) => {
                adding.failed = true;
                self.adding.insert(conversation, adding);
            }
        }
    }

    pub(in crate::session) fn backfilled(
        &mut self,
        now_ms: u64,
        conversation: &ConversationId,
        read: Result<Backfill, ErrorCode>,
    ) {
        self.reading = false;
        let Ok(Backfill { oldest_seq, events }) = read else { return self.close(now_ms, CloseCode::Internal) };
        // What is deleted is said, never skipped silently.
        let first = events.first().map_or(oldest_seq, |event| event.seq);
        let mut progressed = self.cursors.skip_to(conversation, first);
        if progressed {
            self.write(&must_resync(conversation.clone(), ResyncReason::Retention, first));
        }
        for event in events {
            if !self.cursors.accept_read(conversation, event.seq) {
                continue;
            }
            progressed = true;
            if self.deliver(conversation, &event) {
                return;
            }
        }
        if !self.cursors.page_done(conversation, progressed) {
            self.close(now_ms, CloseCode::Internal);
        }
    }

    pub(in crate::session) fn live(&mut self, now_ms: u64, live: Live) {
        if self.closing() {
            return;
        }
        match live {
            Live::Events { conversation, events } => self.heard(now_ms, conversation, events),
            Live::Moved { conversation, head } => self.moved(conversation, head),
            Live::Listed { conversation } => self.listed(conversation.clone()),
            Live::ReadMoved { conversation, user, receipt, seq } => {
                self.read_moved((conversation.clone(), user.clone(), receipt), seq);
            }
            Live::ItemsChanged { version, frame } => self.items_changed(version, frame),
            Live::DeletedForMe { conversation, first, last } => self.deleted_for_me(conversation, first, last),
            Live::JoinAsked { conversation, user, text } => self.join_asked(conversation, user, text),
            Live::PresenceChanged { user, frame } => self.presence_changed(user, frame),
            Live::PresenceAnswer { re, frame } => self.presence_answer(re, frame),
            Live::Said { conversation, frame } => self.overheard(conversation, frame),
            Live::Reconnect => self.reconnect(now_ms),
        }
    }

    fn heard(&mut self, now_ms: u64, conversation: &ConversationId, events: &[LiveEvent]) {
        for event in events {
            let room = self.room();
            if self.cursors.accept(conversation, event.seq, room) {
                self.answered_by(now_ms, conversation, event);
                self.deliver(conversation, event);
            } else {
                self.heard_early(conversation, event.seq);
            }
        }
    }

    /// A message of this session's own that was just applied here is committed: its ack need not wait for the group
    /// actor's answer, and travels with the event.
    fn answered_by(&mut self, now_ms: u64, conversation: &ConversationId, event: &LiveEvent) {
        if self.asked.len() == 0 {
            return;
        }
        let Some((author, id)) = &event.sent else { return };
        if self.user.as_ref() == Some(author) {
            let settled = self.asked.happened(now_ms, conversation, *id, event.seq, &mut self.effects);
            self.settle(settled);
        }
    }

    fn moved(&mut self, conversation: &ConversationId, head: u64) {
        self.cursors.moved(conversation, head);
        self.heard_early(conversation, head);
    }

    /// A conversation without a cursor may be about to get one.
    fn heard_early(&mut self, conversation: &ConversationId, seq: u64) {
        if let Some(adding) = self.adding.get_mut(conversation) {
            adding.head = adding.head.max(seq);
        } else if matches!(self.phase, Phase::Resuming { .. }) {
            let newest = self.early.entry(conversation.clone()).or_default();
            *newest = (*newest).max(seq);
        }
    }

    fn listed(&mut self, conversation: ConversationId) {
        match self.phase {
            Phase::Resuming { .. } => {
                self.early_listed.insert(conversation);
            }
            Phase::Live if self.cursors.listed(&conversation) => self.add(conversation),
            _ => {}
        }
    }

    fn add(&mut self, conversation: ConversationId) {
        if let Some(adding) = self.adding.get_mut(&conversation) {
            adding.again = true;
            return;
        }
        self.adding.insert(conversation.clone(), Adding::default());
        self.effects.push(Effect::Add(conversation));
    }

    /// Writes an event whose turn it is. True if it removed the user: then it was the conversation's last.
    fn deliver(&mut self, conversation: &ConversationId, event: &LiveEvent) -> bool {
        self.counters.events += 1;
        self.write_encoded(event.frame_for(self.user.as_ref()).clone());
        let removed = event.removed.is_some() && event.removed == self.user;
        if !removed || !self.cursors.ends_at(conversation, event.seq) {
            return false;
        }
        self.write(&ServerFrame::ConversationRemoved { conversation: conversation.clone() });
        if self.cursors.end(conversation) {
            self.add(conversation.clone());
        } else {
            self.effects.push(Effect::Unfollow(conversation.clone()));
        }
        true
    }

    fn read_moved(&mut self, whose: (ConversationId, UserId, Receipt), seq: u64) {
        if self.phase == Phase::Live {
            self.reads.insert(whose, seq);
        }
    }

    /// Who has no room sees it in history.
    fn deleted_for_me(&mut self, conversation: &ConversationId, first: u64, last: u64) {
        if self.phase == Phase::Live && self.cursors.has(conversation) && self.room() {
            self.write(&ServerFrame::DeletedForMe { conversation: conversation.clone(), first, last });
        }
    }

    /// What finds no room is asked for.
    fn items_changed(&mut self, version: u64, frame: Option<&ByteString>) {
        match frame {
            Some(frame) if self.room() && self.items_behind.is_none() => self.write_encoded(frame.clone()),
            _ => self.items_behind = self.items_behind.max(Some(version)),
        }
    }

    /// Who has no room hears of it from the list of those who ask.
    fn join_asked(&mut self, conversation: &ConversationId, user: &UserId, text: &str) {
        if let ConversationId::Group(group) = conversation
            && self.phase == Phase::Live
            && self.room()
        {
            self.write(&ServerFrame::JoinAsked { group: *group, user: user.clone(), text: text.to_owned() });
        }
    }

    fn reconnect(&mut self, now_ms: u64) {
        if !self.closing() {
            // Sessions are told one after the other: each may come back at once.
            self.write(&ServerFrame::Goaway { reconnect_after_ms: 0 });
            self.close(now_ms, CloseCode::GoingAway);
        }
    }

    pub(super) fn flush_reads(&mut self) {
        while self.room() && !self.closing() {
            if let Some(version) = self.items_behind.take() {
                self.write(&ServerFrame::ItemsChanged { items: Vec::new(), version });
                continue;
            }
            let Some(((conversation, user, receipt), seq)) = self.reads.pop_first() else { return };
            if self.cursors.has(&conversation) {
                self.write(&match receipt {
                    Receipt::Read => ServerFrame::ReadMoved { conversation, user, seq },
                    Receipt::Delivered => ServerFrame::DeliveredMoved { conversation, user, seq },
                });
            }
        }
    }
}
