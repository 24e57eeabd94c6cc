//! Where a session is in each of its conversations.
//!
//! Live delivery, catching up after a lag and resuming are one thing: an event is written exactly when it is the next
//! one of its cursor; anything later makes the conversation *lag*, and a lagging conversation is read from history
//! until its cursor has passed the newest event known.

use std::collections::{BTreeMap, VecDeque};

use chat::ids::ConversationId;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor {
    /// The next seq to write.
    next: u64,
    /// The newest seq known to exist.
    head: u64,
    /// The event by which the user became a member: one before it that removed the user ends nothing.
    joined: u64,
    /// Waits in `lagging`, or is being read.
    lagging: bool,
    /// The user's list took the conversation up again before its removal was seen here: lists and conversations live
    /// in different shards, so their news come in any order.
    relisted: bool,
}

#[derive(Debug, Default)]
pub(super) struct Cursors {
    cursors: BTreeMap<ConversationId, Cursor>,
    /// In the order of falling behind, so that every conversation gets its turn.
    lagging: VecDeque<ConversationId>,
}

impl Cursors {
    pub(super) fn len(&self) -> usize {
        self.cursors.len()
    }

    pub(super) fn lagging(&self) -> usize {
        self.lagging.len()
    }

    pub(super) fn has(&self, conversation: &ConversationId) -> bool {
        self.cursors.contains_key(conversation)
    }

    /// Live delivery begins after `live_after`.
    pub(super) fn start(&mut self, conversation: ConversationId, joined: u64, live_after: u64, head: u64) {
        let cursor = Cursor { next: live_after + 1, head: live_after, joined, lagging: false, relisted: false };
        self.cursors.insert(conversation.clone(), cursor);
        self.moved(&conversation, head);
    }

    /// Whether a live event is to be written now. If not, it is a repetition, or history has it when its turn comes.
    pub(super) fn accept(&mut self, conversation: &ConversationId, seq: u64, room: bool) -> bool {
        let Some(cursor) = self.cursors.get_mut(conversation) else { return false };
        if cursor.next == seq && !cursor.lagging && room {
            cursor.next = seq + 1;
            cursor.head = cursor.head.max(seq);
            return true;
        }
        self.moved(conversation, seq);
        false
    }

    /// Events up to `head` exist.
    pub(super) fn moved(&mut self, conversation: &ConversationId, head: u64) {
        let Some(cursor) = self.cursors.get_mut(conversation) else { return };
        cursor.head = cursor.head.max(head);
        if cursor.next <= cursor.head && !cursor.lagging {
            cursor.lagging = true;
            self.lagging.push_back(conversation.clone());
        }
    }

    /// The conversation whose turn it is to be read, and the seq after which.
    pub(super) fn next_to_read(&mut self) -> Option<(ConversationId, u64)> {
        while let Some(conversation) = self.lagging.pop_front() {
            if let Some(cursor) = self.cursors.get(&conversation) {
                return Some((conversation, cursor.next - 1));
            }
        }
        None
    }

    /// Whether an event read from history is to be written.
    pub(super) fn accept_read(&mut self, conversation: &ConversationId, seq: u64) -> bool {
        match self.cursors.get_mut(conversation) {
            Some(cursor) if cursor.next == seq => {
                cursor.next = seq + 1;
                true
            }
            _ => false,
        }
    }

    /// Events below `seq` are deleted. True if the cursor had them still before it.
    pub(super) fn skip_to(&mut self, conversation: &ConversationId, seq: u64) -> bool {
        match self.cursors.get_mut(conversation) {
            Some(cursor) if cursor.next < seq => {
                cursor.next = seq;
                cursor.head = cursor.head.max(seq - 1);
                true
            }
            _ => false,
        }
    }

    /// A page has been read. False if it brought the cursor no nearer to a head that is still ahead, although
    /// everything up to the head is in this node's replica.
    pub(super) fn page_done(&mut self, conversation: &ConversationId, progressed: bool) -> bool {
        let Some(cursor) = self.cursors.get_mut(conversation) else { return true };
        if cursor.next > cursor.head {
            cursor.lagging = false;
            return true;
        }
        self.lagging.push_back(conversation.clone());
        progressed
    }

    /// Remembers that the list names the conversation (again). True if there is no cursor yet.
    pub(super) fn listed(&mut self, conversation: &ConversationId) -> bool {
        match self.cursors.get_mut(conversation) {
            Some(cursor) => {
                cursor.relisted = true;
                false
            }
            None => true,
        }
    }

    /// Whether the user was removed by the event `seq` and has not come back before this session began.
    pub(super) fn ends_at(&self, conversation: &ConversationId, seq: u64) -> bool {
        self.cursors.get(conversation).is_some_and(|cursor| seq >= cursor.joined)
    }

    /// Ends the conversation. True if the list has taken it up again meanwhile.
    pub(super) fn end(&mut self, conversation: &ConversationId) -> bool {
        self.lagging.retain(|other| other != conversation);
        self.cursors.remove(conversation).is_some_and(|cursor| cursor.relisted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(n: u128) -> ConversationId {
        ConversationId::Group(chat::ids::GroupId(uuid::Uuid::from_u128(n)))
    }

    fn started(live_after: u64, head: u64) -> Cursors {
        let mut cursors = Cursors::default();
        cursors.start(group(1), 1, live_after, head);
        cursors
    }

    #[test]
    fn live_events_pass_in_order_and_once() {
        let mut cursors = started(4, 4);
        assert!(cursors.accept(&group(1), 5, true));
        assert!(!cursors.accept(&group(1), 5, true), "a repetition");
        assert!(cursors.accept(&group(1), 6, true));
        assert_eq!(cursors.next_to_read(), None);
        assert!(!cursors.accept(&group(2), 1, true), "a conversation that is not followed");
    }

    #[test]
    fn a_gap_is_read_from_history_before_anything_later_is_written() {
        let mut cursors = started(4, 4);
        assert!(!cursors.accept(&group(1), 7, true));
        assert_eq!(cursors.next_to_read(), Some((group(1), 4)));
        assert!(!cursors.accept(&group(1), 5, true), "the page being read will bring it");
        assert!(!cursors.accept(&group(1), 8, true));
        let read: Vec<_> = (5..=7).filter(|seq| cursors.accept_read(&group(1), *seq)).collect();
        assert_eq!(read, [5, 6, 7]);
        assert!(cursors.page_done(&group(1), true));
        assert_eq!(cursors.next_to_read(), Some((group(1), 7)), "8 came meanwhile");
        assert!(cursors.accept_read(&group(1), 8));
        assert!(cursors.page_done(&group(1), true));
        assert!(cursors.accept(&group(1), 9, true), "live again");
    }

    #[test]
    fn without_room_nothing_is_written_and_nothing_is_forgotten() {
        let mut cursors = started(0, 0);
        cursors.start(group(2), 1, 0, 0);
        assert!(!cursors.accept(&group(1), 1, false));
        assert!(!cursors.accept(&group(2), 1, false));
        assert!(!cursors.accept(&group(1), 2, true), "later events wait behind the first");
        assert_eq!(cursors.next_to_read(), Some((group(1), 0)));
        assert_eq!(cursors.next_to_read(), Some((group(2), 0)));
        assert_eq!(cursors.next_to_read(), None);
    }

    #[test]
    fn resuming_behind_the_head_is_a_lag_and_a_page_without_progress_is_a_fault() {
        let mut cursors = started(2, 9);
        assert_eq!(cursors.next_to_read(), Some((group(1), 2)));
        assert!(!cursors.page_done(&group(1), false));
    }

    #[test]
    fn a_conversation_relisted_before_its_removal_is_taken_up_again() {
        let mut cursors = started(0, 3);
        assert!(!cursors.listed(&group(1)));
        assert!(cursors.end(&group(1)));
        assert_eq!(cursors.next_to_read(), None);
        assert!(cursors.listed(&group(1)));
        cursors.start(group(1), 3, 3, 3);
        assert!(!cursors.end(&group(1)));
    }
}
