//! Read positions: they only move forward, and never past the head.

use super::overlay::{Overlay, Step, require};
use super::record::Conversation;
use super::{Scope, View, life, sequence};
use crate::command::Outcome;
use crate::errors::ErrorCode;
use crate::event::{Committed, Receipt};
use crate::limits;

/// The outcome's seq is the read position afterwards.
pub(super) fn mark<V: View>(work: &mut Overlay<'_, V>, scope: &Scope<'_>, seq: u64) -> Step<Outcome, V> {
    let (conversation, mut member) = sequence::of_member(work, scope)?;
    require(seq <= conversation.head, ErrorCode::SeqBeyondHead)?;
    if seq <= member.read {
        return Ok(Outcome::Applied { seq: member.read, duplicate: true });
    }
    member.read = seq;
    sequence::store_member(work, scope, scope.actor, &member);
    let outcome = moved(work, scope, &conversation, Receipt::Read, seq);
    life::burn(work, scope, seq)?;
    Ok(outcome)
}

/// The outcome's seq is the position afterwards. What was read was delivered, too.
pub(super) fn mark_delivered<V: View>(work: &mut Overlay<'_, V>, scope: &Scope<'_>, seq: u64) -> Step<Outcome, V> {
    let (conversation, mut member) = sequence::of_member(work, scope)?;
    require(seq <= conversation.head, ErrorCode::SeqBeyondHead)?;
    let known = member.delivered.max(member.read);
    if seq <= known {
        return Ok(Outcome::Applied { seq: known, duplicate: true });
    }
    member.delivered = seq;
    sequence::store_member(work, scope, scope.actor, &member);
    Ok(moved(work, scope, &conversation, Receipt::Delivered, seq))
}

fn moved<V: View>(
    work: &mut Overlay<'_, V>,
    scope: &Scope<'_>,
    conversation: &Conversation,
    receipt: Receipt,
    seq: u64,
) -> Outcome {
    let to_all = conversation.members <= limits::RECEIPT_GROUP_MEMBERS;
    let (app, conversation, user) = (scope.app.clone(), scope.conversation.clone(), scope.actor.clone());
    work.emit(Committed::ReadMoved { app, conversation, user, receipt, seq, to_all });
    Outcome::Applied { seq, duplicate: false }
}

#[cfg(test)]
mod tests {
    use super::super::query;
    use super::super::testing::{Shard, again, app, by, no, ok, private, send, user};
    use crate::command::ConversationCommand::{MarkDelivered, MarkRead};
    use crate::errors::ErrorCode;
    use crate::event::{Committed, Receipt};

    #[test]
    fn a_position_moves_forward_up_to_the_head() {
        let mut shard = Shard::default();
        let talk = private("alice", "bob");
        for n in 1..=5 {
            shard.act("alice", &talk, send(n, "x"));
        }
        let unread = |shard: &Shard| query::unread(&shard.state, &app(), &talk, &user("bob")).unwrap();
        assert_eq!(unread(&shard), Some(5));
        let delta = shard.entry(vec![by("bob", &talk, MarkRead { seq: 3 })]);
        assert_eq!(delta.outcomes, [ok(3)]);
        assert!(matches!(&delta.events[..], [Committed::ReadMoved { seq: 3, .. }]));
        assert_eq!(unread(&shard), Some(2));
        let delta = shard.entry(vec![by("bob", &talk, MarkRead { seq: 2 }), by("bob", &talk, MarkRead { seq: 6 })]);
        assert_eq!(delta.outcomes, [again(3), no(ErrorCode::SeqBeyondHead)]);
        assert!(delta.events.is_empty() && delta.writes.is_empty());
    }

    #[test]
    fn what_was_delivered_moves_on_its_own_and_what_was_read_was_delivered() {
        let mut shard = Shard::default();
        let talk = private("alice", "bob");
        for n in 1..=5 {
            shard.act("alice", &talk, send(n, "x"));
        }
        let delta = shard.entry(vec![by("bob", &talk, MarkDelivered { seq: 4 })]);
        assert_eq!(delta.outcomes, [ok(4)]);
        assert!(matches!(&delta.events[..], [Committed::ReadMoved { seq: 4, receipt: Receipt::Delivered, .. }]));
        assert_eq!(query::unread(&shard.state, &app(), &talk, &user("bob")).unwrap(), Some(5));
        shard.act("bob", &talk, MarkRead { seq: 5 });
        assert_eq!(shard.act("bob", &talk, MarkDelivered { seq: 5 }), again(5));
        assert_eq!(shard.act("bob", &talk, MarkDelivered { seq: 6 }), no(ErrorCode::SeqBeyondHead));
    }

    #[test]
    fn only_members_have_positions() {
        let mut shard = Shard::default();
        let talk = private("alice", "bob");
        assert_eq!(shard.act("bob", &talk, MarkRead { seq: 0 }), no(ErrorCode::NotAMember));
        shard.act("alice", &talk, send(1, "x"));
        assert_eq!(shard.act("eve", &talk, MarkRead { seq: 1 }), no(ErrorCode::NotAMember));
    }
}
