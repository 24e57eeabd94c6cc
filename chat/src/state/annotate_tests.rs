//! Edits, recalls, reactions and pins, each by whom and how often.

use bytes::Bytes;
use uuid::Uuid;

use super::super::query::{self, Located};
use super::super::testing::{Shard, again, app, by, create, group, no, ok, private, send, user};
use super::super::walk;
use super::*;
use crate::command::ConversationCommand::{Leave, Pin, React, SetRole};
use crate::command::{Command, ConversationCommand, EntryBatch, RetentionCommand};

/// The message that `author` sent under `id` as `seq`, in the entry `seq` of a shard's clock.
fn original(seq: u64, author: &str, id: u128) -> Original {
    let client_msg_id = ClientMsgId(Uuid::from_u128(id));
    Original {
        seq,
        author: user(author),
        client_msg_id,
        time_ms: seq * 1_000,
        kind: BodyKind::Text,
        fixed: false,
        window_ms: u64::MAX,
    }
}

fn edit_as(original: Original, id: u128, text: &str, kind: BodyKind) -> ConversationCommand {
    let body = SealedBody { key_id: 1, kind, bytes: Bytes::copy_from_slice(text.as_bytes()) };
    let (original, client_msg_id) = (Box::new(original), ClientMsgId(Uuid::from_u128(id)));
    ConversationCommand::Edit { original, client_msg_id, digest: [text.len() as u8; 16], body }
}

fn edit(original: Original, id: u128, text: &str) -> ConversationCommand {
    edit_as(original, id, text, BodyKind::Text)
}

fn recall(original: Original) -> ConversationCommand {
    ConversationCommand::Recall { original }
}

fn react(seq: u64, reaction: &str, on: bool) -> ConversationCommand {
    React { seq, reaction: reaction.to_owned(), on }
}

/// A shard with one message of alice's to bob.
fn talking() -> (Shard, ConversationId) {
    let mut shard = Shard::default();
    let talk = private("alice", "bob");
    assert_eq!(shard.act("alice", &talk, send(1, "one")), ok(1));
    (shard, talk)
}

fn annotation(shard: &Shard, talk: &ConversationId, seq: u64) -> Option<Annotation> {
    query::annotation(&shard.state, &app(), talk, seq).unwrap()
}

fn pinned(shard: &Shard, talk: &ConversationId) -> Vec<u64> {
    query::pins(&shard.state, &app(), talk).unwrap()
}

fn located(shard: &Shard, talk: &ConversationId, seq: u64) -> Located {
    query::locate(&shard.state, &app(), talk, seq, 1).unwrap().remove(0)
}

/// At a time of its own.
fn at(shard: &mut Shard, time_ms: u64, command: Command) -> Outcome {
    shard.index += 1;
    shard.state.apply(shard.index, &EntryBatch { time_ms, commands: vec![command] }).outcomes.remove(0)
}

#[test]
fn an_author_edits_and_each_edit_has_one_effect() {
    let (mut shard, talk) = talking();
    let first = || original(1, "alice", 1);
    assert_eq!(shard.act("alice", &talk, edit(first(), 2, "two")), ok(2));
    assert_eq!(shard.act("alice", &talk, edit(first(), 3, "other")), ok(3));
    assert_eq!(shard.act("alice", &talk, edit(first(), 2, "two")), again(2));
    assert_eq!(shard.act("alice", &talk, edit(first(), 2, "else")), no(ErrorCode::IdConflict));
    assert_eq!(shard.act("alice", &talk, send(2, "two")), no(ErrorCode::IdConflict), "ids are of both");
    assert_eq!(shard.act("bob", &talk, edit(first(), 9, "x")), no(ErrorCode::Forbidden));
    assert_eq!(shard.act("eve", &talk, edit(first(), 9, "x")), no(ErrorCode::NotAMember));
    assert_eq!(shard.act("alice", &talk, edit(original(7, "alice", 1), 9, "x")), no(ErrorCode::EventNotFound));
    assert_eq!(
        shard.act("alice", &talk, edit(original(2, "alice", 2), 9, "x")),
        no(ErrorCode::EventNotFound),
        "an edit"
    );
    let other_kind = edit_as(first(), 9, "x", BodyKind::Custom);
    assert_eq!(shard.act("alice", &talk, other_kind), no(ErrorCode::InvalidField));
    let edits = annotation(&shard, &talk, 1).unwrap().edits;
    assert_eq!(edits.iter().map(|edit| edit.seq).collect::<Vec<_>>(), [2, 3]);
    assert!(matches!(located(&shard, &talk, 3), Located::Message { seq: 3, log_index: 3, position_in_batch: 0 }));
    let mut used = Vec::new();
    walk::entries_in_use(&shard.state, None, 10, |entry| used.push(entry)).unwrap();
    assert_eq!(used, [1, 2, 3], "the log keeps what edits hold");
}

#[test]
fn edits_are_few_and_soon() {
    let (mut shard, talk) = talking();
    let first = || original(1, "alice", 1);
    let late = by("alice", &talk, edit(first(), 99, "x"));
    assert_eq!(at(&mut shard, 1_001 + limits::EDIT_WINDOW_MS, late.clone()), no(ErrorCode::TooLate));
    for n in 0..limits::EDITS as u128 {
        assert_eq!(shard.act("alice", &talk, edit(first(), 10 + n, "x")), ok(2 + n as u64));
    }
    assert_eq!(at(&mut shard, 1_000 + limits::EDIT_WINDOW_MS, late), no(ErrorCode::LimitReached));
}

#[test]
fn a_recalled_message_has_no_body_anywhere_and_stays_so() {
    let (mut shard, talk) = talking();
    let first = || original(1, "alice", 1);
    shard.act("alice", &talk, edit(first(), 2, "two"));
    shard.act("bob", &talk, react(1, "+1", true));
    shard.act("bob", &talk, Pin { seq: 1, on: true });
    assert_eq!(shard.act("bob", &talk, recall(first())), no(ErrorCode::Forbidden));
    assert_eq!(shard.act("eve", &talk, recall(first())), no(ErrorCode::NotAMember));
    assert_eq!(shard.act("alice", &talk, recall(original(2, "alice", 2))), no(ErrorCode::EventNotFound), "an edit");
    assert_eq!(shard.act("alice", &talk, recall(first())), ok(5));
    assert_eq!(shard.act("alice", &talk, recall(first())), again(5));
    let (author, client_msg_id) = (user("alice"), first().client_msg_id);
    let message = Event::Message { author, client_msg_id, body: None, relations: None };
    assert_eq!(located(&shard, &talk, 1), Located::Inline(1, 1_000, message));
    assert!(matches!(shard.inline(&talk, 2), Event::Edited { target: 1, body: None, .. }));
    assert_eq!(shard.inline(&talk, 5), Event::Recalled { target: 1, by: user("alice") });
    let left = annotation(&shard, &talk, 1).unwrap();
    assert_eq!(left.recalled, Some(Recall { seq: 5, by: user("alice"), expired: false }));
    assert_eq!((left.reactions, left.pinned, pinned(&shard, &talk)), (vec![], false, vec![]));
    shard_refuses_changes(&mut shard, &talk);
    let mut used = Vec::new();
    walk::entries_in_use(&shard.state, None, 10, |entry| used.push(entry)).unwrap();
    assert_eq!(used, [0u64; 0], "nothing is read from the log any more");
    assert_eq!(shard.act("alice", &talk, send(1, "one")), again(1), "its id is known all the same");
}

fn shard_refuses_changes(shard: &mut Shard, talk: &ConversationId) {
    for command in [edit(original(1, "alice", 1), 8, "x"), react(1, "+1", true), Pin { seq: 1, on: true }] {
        assert_eq!(shard.act("alice", talk, command), no(ErrorCode::MessageRecalled));
    }
}

#[test]
fn who_runs_a_group_recalls_and_pins_and_others_only_soon_or_not() {
    let mut shard = Shard::default();
    let g = group(1);
    shard.act("alice", &g, create("Team", &["bob", "carol"]));
    shard.act("bob", &g, send(1, "one"));
    shard.act("bob", &g, send(2, "two"));
    let first = || original(2, "bob", 1);
    let late = 2_001 + limits::RECALL_WINDOW_MS;
    assert_eq!(at(&mut shard, late, by("bob", &g, recall(first()))), no(ErrorCode::TooLate));
    assert_eq!(shard.act("bob", &g, Pin { seq: 2, on: true }), no(ErrorCode::Forbidden));
    assert_eq!(shard.act("alice", &g, Pin { seq: 1, on: true }), no(ErrorCode::EventNotFound), "no message");
    shard.act("alice", &g, SetRole { user: user("carol"), role: Role::Admin });
    assert_eq!(shard.act("carol", &g, Pin { seq: 2, on: true }), ok(5));
    assert_eq!(shard.act("carol", &g, Pin { seq: 2, on: true }), again(0));
    assert_eq!(shard.act("alice", &g, Pin { seq: 3, on: true }), ok(6));
    assert_eq!(pinned(&shard, &g), [2, 3]);
    assert_eq!(shard.act("alice", &g, Pin { seq: 2, on: false }), ok(7));
    assert_eq!((shard.act("alice", &g, Pin { seq: 2, on: false }), pinned(&shard, &g)), (again(0), vec![3]));
    assert_eq!(at(&mut shard, late, by("carol", &g, recall(first()))), ok(8));
    assert_eq!(shard.act("alice", &g, recall(original(3, "bob", 2))), ok(9));
    assert!(pinned(&shard, &g).is_empty());
}

#[test]
fn each_user_reacts_once_in_one_way_and_there_are_so_many_ways() {
    let (mut shard, talk) = talking();
    assert_eq!(shard.act("bob", &talk, react(1, "+1", false)), again(0));
    assert_eq!(shard.act("bob", &talk, react(1, "+1", true)), ok(2));
    assert_eq!(shard.act("bob", &talk, react(1, "+1", true)), again(0));
    assert_eq!(shard.act("alice", &talk, react(1, "+1", true)), ok(3));
    let said = |shard: &Shard| annotation(shard, &talk, 1).unwrap().reactions;
    assert_eq!(said(&shard), [Reaction { reaction: "+1".into(), users: vec![user("bob"), user("alice")] }]);
    assert_eq!(shard.act("bob", &talk, react(1, "+1", false)), ok(4));
    assert_eq!(shard.act("alice", &talk, react(1, "+1", false)), ok(5));
    assert_eq!(said(&shard), []);
    for n in 0..limits::REACTION_KINDS {
        assert_eq!(shard.act("bob", &talk, react(1, &format!("r{n}"), true)), ok(6 + n as u64));
    }
    assert_eq!(shard.act("bob", &talk, react(1, "more", true)), no(ErrorCode::LimitReached));
    assert_eq!(shard.act("bob", &talk, react(1, " ", true)), no(ErrorCode::InvalidField));
    assert_eq!(shard.act("eve", &talk, react(1, "r1", true)), no(ErrorCode::NotAMember));
}

#[test]
fn all_reactions_to_a_message_are_bounded_and_so_are_pins() {
    let mut shard = Shard::default();
    let g = group(1);
    let names: Vec<String> = (0..limits::REACTIONS).map(|n| format!("u{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    shard.act("alice", &g, create("g", &names[..limits::INVITE_USERS.min(names.len())]));
    shard.act("alice", &g, send(1, "x"));
    let delta = shard.entry(names.iter().map(|name| by(name, &g, react(2, "+1", true))).collect());
    assert!(delta.outcomes.iter().all(|outcome| matches!(outcome, Outcome::Applied { duplicate: false, .. })));
    assert_eq!(shard.act("alice", &g, react(2, "+1", true)), no(ErrorCode::LimitReached));
    let head = shard.head(&g);
    for n in 0..=limits::PINS as u128 {
        shard.act("alice", &g, send(10 + n, "x"));
    }
    let pin = |n: usize| by("alice", &g, Pin { seq: head + 1 + n as u64, on: true });
    let mut outcomes = shard.entry((0..=limits::PINS).map(pin).collect()).outcomes;
    assert_eq!(outcomes.pop(), Some(no(ErrorCode::LimitReached)));
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Applied { duplicate: false, .. })));
}

#[test]
fn what_one_does_oneself_is_read_if_all_was() {
    let (mut shard, talk) = talking();
    let unread = |shard: &Shard, name| query::unread(&shard.state, &app(), &talk, &user(name)).unwrap();
    shard.act("alice", &talk, react(1, "+1", true));
    assert_eq!((unread(&shard, "alice"), unread(&shard, "bob")), (Some(0), Some(2)));
    shard.act("bob", &talk, react(1, "+1", true));
    assert_eq!((unread(&shard, "alice"), unread(&shard, "bob")), (Some(1), Some(3)), "bob has not read the message");
}

#[test]
fn what_became_of_a_message_goes_with_it_and_the_rest_stays() {
    let (mut shard, talk) = talking();
    for n in 2..=200 {
        assert_eq!(shard.act("alice", &talk, send(n, "x")), ok(n as u64));
    }
    for seq in 1..=200 {
        shard.act("bob", &talk, react(seq, "+1", true));
    }
    shard.act("bob", &talk, Pin { seq: 5, on: true });
    shard.act("bob", &talk, Pin { seq: 190, on: true });
    let trim = RetentionCommand::Trim { app: app(), conversation: talk.clone(), oldest_seq: 150 };
    assert_eq!(shard.one(Command::Retention(trim)), ok(150));
    let left = query::annotations(&shard.state, &app(), &talk, (1, 200), 1_000).unwrap();
    assert_eq!(left.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), (150..=200).collect::<Vec<_>>());
    let some = query::annotations(&shard.state, &app(), &talk, (160, 170), 5).unwrap();
    assert_eq!(some.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), (160..=164).collect::<Vec<_>>());
    assert_eq!(query::annotations(&shard.state, &app(), &talk, (199, 199), 9).unwrap().len(), 1);
    assert_eq!(pinned(&shard, &talk), [190]);
    assert_eq!(shard.act("bob", &talk, react(149, "+1", true)), no(ErrorCode::EventNotFound));
    assert_eq!(shard.act("alice", &talk, recall(original(149, "alice", 149))), no(ErrorCode::EventNotFound));
}

#[test]
fn who_left_changes_nothing_but_hears_of_what_was_done() {
    let mut shard = Shard::default();
    let g = group(1);
    shard.act("alice", &g, create("Team", &["bob"]));
    shard.act("bob", &g, send(1, "one"));
    let first = || original(2, "bob", 1);
    assert_eq!(shard.act("bob", &g, edit(first(), 2, "two")), ok(3));
    assert_eq!(shard.act("bob", &g, Leave), ok(4));
    assert_eq!(shard.act("bob", &g, edit(first(), 2, "two")), again(3));
    assert_eq!(shard.act("bob", &g, edit(first(), 3, "x")), no(ErrorCode::NotAMember));
    assert_eq!(shard.act("bob", &g, recall(first())), no(ErrorCode::NotAMember));
}
