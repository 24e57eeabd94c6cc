use super::super::query;
use super::super::testing::{Shard, again, app, by, group, no, ok, private, send, user};
use super::*;
use crate::command::ConversationCommand::{AnswerContact, AskContact, Block, React, RemoveContact};
use crate::command::{Command, Owed};
use crate::ids::ConversationId;

fn ask(text: &str) -> crate::command::ConversationCommand {
    AskContact { text: text.to_owned() }
}

/// Both sides' home shards are this shard.
fn deliver(shard: &mut Shard) {
    let owed = query::outbox(&shard.state, usize::MAX).unwrap();
    let news = owed.into_iter().filter_map(|(_, owed)| if let Owed::Pair(news) = owed { Some(news) } else { None });
    let news = news.collect();
    shard.one(Command::PairNews { news });
    shard.one(Command::OutboxDelivered { through: u64::MAX });
}

fn contact(shard: &Shard, of: &str, peer: &str) -> Option<ContactState> {
    let key = crate::user::ItemKey::Contact(user(peer));
    match query::item(&shard.state, &app(), &user(of), &key).unwrap() {
        Some(crate::user::ItemValue::Contact(contact)) => Some(contact.state),
        _ => None,
    }
}

fn talk() -> ConversationId {
    private("alice", "bob")
}

#[test]
fn a_contact_is_asked_for_and_answered_and_both_sides_hear_of_it() {
    let mut shard = Shard::default();
    assert_eq!(shard.act("bob", &talk(), AnswerContact { accept: true }), no(ErrorCode::UserNotFound));
    assert_eq!(shard.act("alice", &talk(), ask("hello")), ok(0));
    assert_eq!(shard.act("alice", &talk(), ask("hello again")), again(0));
    deliver(&mut shard);
    assert_eq!(
        (contact(&shard, "alice", "bob"), contact(&shard, "bob", "alice")),
        (Some(ContactState::Asked), Some(ContactState::Asking))
    );
    assert_eq!(
        shard.act("alice", &talk(), AnswerContact { accept: true }),
        no(ErrorCode::UserNotFound),
        "not one's own"
    );
    assert_eq!(shard.act("bob", &talk(), AnswerContact { accept: true }), ok(0));
    assert_eq!(shard.act("bob", &talk(), AnswerContact { accept: true }), again(0));
    deliver(&mut shard);
    assert_eq!(
        (contact(&shard, "alice", "bob"), contact(&shard, "bob", "alice")),
        (Some(ContactState::Contact), Some(ContactState::Contact))
    );
    assert_eq!(shard.act("alice", &talk(), RemoveContact), ok(0));
    assert_eq!(shard.act("alice", &talk(), RemoveContact), again(0));
    deliver(&mut shard);
    assert_eq!((contact(&shard, "alice", "bob"), contact(&shard, "bob", "alice")), (None, None));
    assert!(query::conversation(&shard.state, &app(), &talk()).unwrap().is_none(), "nothing was said");
}

#[test]
fn two_who_ask_each_other_agree_and_a_refusal_leaves_nothing() {
    let mut shard = Shard::default();
    shard.act("alice", &talk(), ask("a"));
    assert_eq!(shard.act("bob", &talk(), ask("b")), ok(0));
    assert!(query::pair(&shard.state, &app(), &talk()).unwrap().since_ms.is_some());
    let other = private("alice", "cleo");
    shard.act("alice", &other, ask("a"));
    assert_eq!(shard.act("cleo", &other, AnswerContact { accept: false }), ok(0));
    let pair = query::pair(&shard.state, &app(), &other).unwrap();
    assert_eq!((pair.asked_by, pair.since_ms, pair.text.as_str()), (None, None, ""));
    assert_eq!(shard.act("alice", &private("alice", "alice"), ask("me")), no(ErrorCode::InvalidField));
    assert_eq!(shard.act("alice", &group(1), ask("all")), no(ErrorCode::NotAMember));
    assert_eq!(shard.act("eve", &talk(), Block { on: true }), no(ErrorCode::NotAMember));
}

#[test]
fn from_a_block_on_nothing_more_is_taken_in_that_direction() {
    let mut shard = Shard::default();
    assert_eq!(shard.act("bob", &talk(), Block { on: true }), ok(0));
    assert_eq!(shard.act("alice", &talk(), send(1, "hi")), no(ErrorCode::NotAccepted));
    assert!(query::conversation(&shard.state, &app(), &talk()).unwrap().is_none());
    assert_eq!(shard.act("alice", &talk(), ask("please")), no(ErrorCode::NotAccepted));
    assert_eq!(shard.act("bob", &talk(), send(1, "hi")), ok(1), "the other direction");
    assert_eq!(shard.act("alice", &talk(), send(1, "hi")), no(ErrorCode::NotAccepted));
    let react = React { seq: 1, reaction: "x".to_owned(), on: true };
    assert_eq!(shard.act("alice", &talk(), react.clone()), no(ErrorCode::NotAccepted));
    assert_eq!(shard.act("bob", &talk(), Block { on: false }), ok(0));
    assert_eq!(shard.act("bob", &talk(), Block { on: false }), again(0));
    assert_eq!((shard.act("alice", &talk(), send(2, "hi")), shard.act("alice", &talk(), react)), (ok(2), ok(3)));
    let entry = vec![
        by("bob", &talk(), send(3, "x")),
        by("bob", &talk(), Block { on: true }),
        by("alice", &talk(), send(4, "x")),
    ];
    assert_eq!(shard.entry(entry).outcomes, [ok(4), ok(0), no(ErrorCode::NotAccepted)], "in the order of the log");
}
