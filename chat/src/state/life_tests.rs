use super::super::query::{self, Located};
use super::super::record::Deleted;
use super::super::testing::{Shard, again, app, by, create, group, no, ok, private, send, user};
use super::*;
use crate::command::ConversationCommand::{DeleteForMe, Edit, MarkRead, Recall};
use crate::command::{Command, ConversationCommand, RetentionCommand};
use crate::event::{BodyKind, Event, Life};
use crate::ids::{ClientMsgId, UserId};
use uuid::Uuid;

fn living(id: u128, only_to: &[&str], life: Life) -> ConversationCommand {
    let ConversationCommand::Send { client_msg_id, digest, body, .. } = send(id, "x") else { panic!() };
    let only_to: Vec<UserId> = only_to.iter().map(|name| user(name)).collect();
    let relations = Some(Box::new(Relations { only_to, life, ..Relations::default() }));
    ConversationCommand::Send { client_msg_id, digest, body, relations }
}

fn for_ms(ms: u64) -> Life {
    Life { expires_in_ms: Some(ms), burn: false }
}

const BURN: Life = Life { expires_in_ms: None, burn: true };

fn end(shard: &mut Shard, at: &ConversationId, seq: u64, at_ms: u64) -> Outcome {
    shard.one(Command::Retention(RetentionCommand::Expire { app: app(), conversation: at.clone(), seq, at_ms }))
}

fn original(seq: u64, id: u128, time_ms: u64) -> Original {
    let (author, client_msg_id) = (user("alice"), ClientMsgId(Uuid::from_u128(id)));
    Original { seq, author, client_msg_id, time_ms, kind: BodyKind::Text, fixed: true, window_ms: u64::MAX }
}

fn has_body(shard: &Shard, at: &ConversationId, seq: u64) -> bool {
    matches!(query::locate(&shard.state, &app(), at, seq, 1).unwrap()[..], [Located::Message { .. }])
}

#[test]
fn a_message_ends_at_its_time_and_no_earlier_and_stays_as_it_was() {
    let mut shard = Shard::default();
    let talk = private("alice", "bob");
    for bad in [0, limits::EXPIRY_MS_MIN - 1, limits::EXPIRY_MS_MAX + 1] {
        assert_eq!(shard.act("alice", &talk, living(9, &[], for_ms(bad))), no(ErrorCode::InvalidField));
    }
    assert_eq!(shard.act("alice", &talk, living(1, &[], for_ms(5_000))), ok(1));
    let at_ms = shard.index * 1_000 + 5_000;
    let (client_msg_id, digest) = (ClientMsgId(Uuid::from_u128(2)), [2; 16]);
    let ConversationCommand::Send { body, .. } = send(2, "y") else { panic!() };
    let original = Box::new(original(1, 1, at_ms - 5_000));
    let edit = Edit { original, client_msg_id, digest, body };
    assert_eq!(shard.act("alice", &talk, edit), no(ErrorCode::InvalidField));
    assert_eq!(end(&mut shard, &talk, 1, at_ms), no(ErrorCode::InvalidField), "not yet");
    assert_eq!(query::expired(&shard.state, &app(), at_ms - 1, 10).unwrap(), []);
    assert_eq!(query::expired(&shard.state, &app(), at_ms, 10).unwrap(), [(at_ms, talk.clone(), 1)]);
    while shard.index * 1_000 < at_ms {
        shard.act("bob", &talk, send(100 + u128::from(shard.index), "z"));
    }
    let head = shard.head(&talk);
    assert_eq!(end(&mut shard, &talk, 1, at_ms), ok(0));
    assert_eq!(end(&mut shard, &talk, 1, at_ms), again(0));
    assert!(!has_body(&shard, &talk, 1) && has_body(&shard, &talk, 2));
    assert_eq!(shard.inline(&talk, head + 1), Event::Expired { target: 1 });
    let annotation = query::annotation(&shard.state, &app(), &talk, 1).unwrap().unwrap();
    assert!(annotation.recalled.is_some_and(|recall| recall.expired));
    assert_eq!(query::expired(&shard.state, &app(), u64::MAX, 10).unwrap(), []);
}

#[test]
fn what_was_recalled_before_its_time_does_not_end_twice() {
    let mut shard = Shard::default();
    let talk = private("alice", "bob");
    shard.act("alice", &talk, living(1, &[], for_ms(1_000)));
    let at_ms = shard.index * 1_000 + 1_000;
    assert_eq!(shard.act("alice", &talk, Recall { original: original(1, 1, at_ms - 1_000) }), ok(2));
    assert_eq!(end(&mut shard, &talk, 1, at_ms), ok(0));
    assert_eq!(shard.head(&talk), 2);
}

#[test]
fn what_is_to_burn_ends_when_the_other_side_has_read_it() {
    let mut shard = Shard::default();
    let talk = private("alice", "bob");
    assert_eq!(shard.act("alice", &private("alice", "alice"), living(1, &[], BURN)), no(ErrorCode::InvalidField));
    shard.act("alice", &group(1), create("g", &["bob"]));
    assert_eq!(shard.act("alice", &group(1), living(1, &[], BURN)), no(ErrorCode::InvalidField));
    for id in 1..=3 {
        shard.act("alice", &talk, living(id, &[], BURN));
    }
    shard.act("alice", &talk, MarkRead { seq: 3 });
    assert!(has_body(&shard, &talk, 1), "the author has read it from the beginning");
    let delta = shard.entry(vec![by("bob", &talk, MarkRead { seq: 2 })]);
    assert_eq!(delta.outcomes, [ok(2)]);
    assert_eq!(
        (has_body(&shard, &talk, 1), has_body(&shard, &talk, 2), has_body(&shard, &talk, 3)),
        (false, false, true)
    );
    assert_eq!(
        (shard.inline(&talk, 4), shard.inline(&talk, 5)),
        (Event::Expired { target: 1 }, Event::Expired { target: 2 })
    );
    // Whoever answers has read what was said before.
    shard.act("bob", &talk, send(9, "seen"));
    assert!(!has_body(&shard, &talk, 3));
}

#[test]
fn a_message_for_few_is_for_groups() {
    let mut shard = Shard::default();
    shard.act("alice", &group(1), create("g", &["bob", "eve"]));
    assert_eq!(shard.act("alice", &group(1), living(1, &["bob"], Life::default())), ok(2));
    assert_eq!(
        shard.act("alice", &private("alice", "bob"), living(1, &["bob"], Life::default())),
        no(ErrorCode::InvalidField)
    );
    let names: Vec<String> = (0..=limits::TARGET_USERS).map(|n| format!("u{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(shard.act("alice", &group(1), living(2, &names, Life::default())), no(ErrorCode::LimitReached));
}

#[test]
fn what_a_member_deletes_is_deleted_for_that_member() {
    let mut shard = Shard::default();
    let talk = private("alice", "bob");
    for id in 1..=9 {
        shard.act("alice", &talk, send(id, "x"));
    }
    let delta = shard.entry(vec![by("bob", &talk, DeleteForMe { first: 2, last: 3 })]);
    assert_eq!(delta.outcomes, [ok(0)]);
    assert!(matches!(&delta.events[..], [Committed::DeletedForMe { first: 2, last: 3, .. }]));
    assert_eq!(shard.act("bob", &talk, DeleteForMe { first: 3, last: 3 }), again(0));
    assert_eq!(shard.act("bob", &talk, DeleteForMe { first: 0, last: 3 }), no(ErrorCode::InvalidField));
    assert_eq!(shard.act("bob", &talk, DeleteForMe { first: 9, last: 10 }), no(ErrorCode::SeqBeyondHead));
    assert_eq!(shard.act("eve", &talk, DeleteForMe { first: 1, last: 1 }), no(ErrorCode::NotAMember));
    let deleted = |name| query::deleted(&shard.state, &app(), &talk, &user(name)).unwrap();
    assert_eq!((deleted("bob").ranges, deleted("alice").ranges), (vec![(2, 3)], vec![]));
}

#[test]
fn ranges_that_touch_become_one() {
    let mut deleted = Deleted::default();
    for (first, last) in [(10, 12), (1, 2), (20, 25), (4, 5), (3, 3), (13, 19)] {
        assert!(deleted.add(first, last));
    }
    assert_eq!(deleted.ranges, [(1, 5), (10, 25)]);
    assert!(
        !deleted.add(11, 25)
            && deleted.has(1)
            && deleted.has(5)
            && !deleted.has(6)
            && deleted.has(25)
            && !deleted.has(26)
    );
}
