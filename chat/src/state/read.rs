//! Read positions: they only move forward, and never past the head.

use super::overlay::{Overlay, Step, require};
use super::{Scope, View, sequence};
use crate::command::Outcome;
use crate::errors::ErrorCode;
use crate::event::Committed;

/// The outcome's seq is the read position afterwards.
pub(super) fn mark<V: View>(work: &mut Overlay<'_, V>, scope: &Scope<'_>, seq: u64) -> Step<Outcome, V> {
    let (conversation, mut member) = sequence::of_member(work, scope)?;
    require(seq <= conversation.head, ErrorCode::SeqBeyondHead)?;
    if seq <= member.read {
        return Ok(Outcome::Applied { seq: member.read, duplicate: true });
    }
    member.read = seq;
    sequence::store_member(work, scope, scope.actor, &member);
    let (app, conversation, user) = (scope.app.clone(), scope.conversation.clone(), scope.actor.clone());
    work.emit(Committed::ReadMoved { app, conversation, user, seq });
    Ok(Outcome::Applied { seq, duplicate: false })
}

#[cfg(test)]
mod tests {
    use super::super::query;
    use super::super::testing::{Shard, again, app, by, no, ok, private, send, user};
    use crate::command::ConversationCommand::MarkRead;
    use crate::errors::ErrorCode;
    use crate::event::Committed;

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
    fn only_members_have_positions() {
        let mut shard = Shard::default();
        let talk = private("alice", "bob");
        assert_eq!(shard.act("bob", &talk, MarkRead { seq: 0 }), no(ErrorCode::NotAMember));
        shard.act("alice", &talk, send(1, "x"));
        assert_eq!(shard.act("eve", &talk, MarkRead { seq: 1 }), no(ErrorCode::NotAMember));
    }
}
