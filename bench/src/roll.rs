//! What a member received, in constant memory: the next expected seq and a rolling hash per group,
//! to be compared with those of the group's history.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use chat::wire::{Body, EventContent, WireEvent};

/// The hash of a sequence of events, from the hash of the sequence before `event`.
/// Compared within one process only, so the standard hasher (SipHash) will do.
pub fn roll(before: u64, event: &WireEvent) -> u64 {
    let mut hasher = DefaultHasher::new();
    (before, event.seq).hash(&mut hasher);
    match &event.content {
        EventContent::Message {
            from,
            client_msg_id,
            body: Some(body @ (Body::Text { text } | Body::Action { text })),
            ..
        } => {
            let action = matches!(body, Body::Action { .. });
            (from, client_msg_id, action, text).hash(&mut hasher);
        }
        // Nothing but messages belongs into a replay; whatever it is, it must be the same for everybody.
        other => format!("{other:?}").hash(&mut hasher),
    }
    hasher.finish()
}

/// One member's view of one group. Written by that member's task alone, read by the verifier.
#[derive(Debug, Default)]
pub struct View {
    /// Whether the group is in the member's list: live delivery has begun.
    listed: AtomicBool,
    /// The last seq received in order; 0 before the first.
    seq: AtomicU64,
    hash: AtomicU64,
    /// Events that were not the next one.
    disorder: AtomicU64,
}

impl View {
    pub fn list(&self) {
        self.listed.store(true, Ordering::Release);
    }

    pub fn is_listed(&self) -> bool {
        self.listed.load(Ordering::Acquire)
    }

    /// Takes an event after the group's setup, which ended with seq `base`.
    pub fn take(&self, base: u64, event: &WireEvent) -> bool {
        let expected = self.seq.load(Ordering::Relaxed).max(base) + 1;
        if event.seq != expected {
            self.disorder.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        self.hash.store(roll(self.hash.load(Ordering::Relaxed), event), Ordering::Relaxed);
        self.seq.store(event.seq, Ordering::Release);
        true
    }

    /// The last seq received and the hash of everything up to it.
    pub fn position(&self, base: u64) -> (u64, u64) {
        let seq = self.seq.load(Ordering::Acquire).max(base);
        (seq, self.hash.load(Ordering::Relaxed))
    }

    pub fn disorder(&self) -> u64 {
        self.disorder.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use chat::ids::{ClientMsgId, ConversationId, GroupId, UserId};
    use uuid::Uuid;

    use super::*;

    fn event(seq: u64, text: &str) -> WireEvent {
        let content = EventContent::message(
            UserId::new("ann").unwrap(),
            ClientMsgId(Uuid::from_u128(1)),
            Body::Text { text: text.to_owned() },
        );
        WireEvent { conversation: ConversationId::Group(GroupId(Uuid::nil())), seq, time_ms: 0, content }
    }

    fn view(events: &[WireEvent]) -> View {
        let view = View::default();
        for event in events {
            view.take(5, event);
        }
        view
    }

    #[test]
    fn equal_views_are_equal_and_every_difference_shows() {
        let history = view(&[event(6, "a"), event(7, "b")]);
        assert_eq!(history.position(5), view(&[event(6, "a"), event(7, "b")]).position(5));
        assert_ne!(history.position(5), view(&[event(6, "a"), event(7, "c")]).position(5));
        assert_ne!(history.position(5), view(&[event(6, "a")]).position(5));
        assert_eq!(history.disorder(), 0);
    }

    #[test]
    fn duplicates_gaps_and_disorder_are_counted_and_not_taken() {
        let broken = view(&[event(6, "a"), event(6, "a"), event(8, "c"), event(7, "b")]);
        assert_eq!((broken.position(5).0, broken.disorder()), (7, 2));
    }
}
