use super::super::query;
use super::super::testing::{Shard, again, app, group, no, ok, user};
use super::*;
use crate::command::{Command, ListChange, UserCommand};
use crate::user::{ContactState, Strangers};

fn alice(command: UserCommand) -> Command {
    Command::User { app: app(), user: user("alice"), command }
}

fn profile(name: &str) -> Command {
    alice(UserCommand::SetProfile { profile: Profile { name: name.to_owned(), ..Profile::default() } })
}

fn marks(n: u128, change: MarksChange) -> Command {
    alice(UserCommand::Mark { conversation: group(n), change })
}

fn list(shard: &mut Shard, n: u128) {
    let change = ListChange { app: app(), user: user("alice"), conversation: group(n), seq: 1, listed: true };
    shard.one(Command::ListChanges { changes: vec![change] });
}

fn news(peer: &str, stamp: u64, state: Option<ContactState>, blocked_ms: Option<u64>) -> Command {
    let contact = state.map(|state| Contact {
        state,
        since_ms: stamp,
        text: String::new(),
        remark: String::new(),
        tags: Vec::new(),
    });
    let news = PairNews { app: app(), user: user("alice"), peer: user(peer), stamp, contact, blocked_ms };
    Command::PairNews { news: vec![news] }
}

fn pinned(pinned: bool) -> MarksChange {
    MarksChange { pinned: Some(pinned), ..MarksChange::default() }
}

fn items(shard: &Shard, after: u64, limit: usize) -> query::Items {
    query::items(&shard.state, &app(), &user("alice"), after, limit).unwrap()
}

#[test]
fn what_changed_since_a_version_is_told_once_each_as_it_is_now() {
    let mut shard = Shard::default();
    list(&mut shard, 1);
    assert_eq!(shard.one(profile("A")), ok(0));
    assert_eq!(shard.one(marks(1, pinned(true))), ok(0));
    assert_eq!(shard.one(profile("Alice")), ok(0));
    assert_eq!(shard.one(profile("Alice")), again(0), "the same is no change");
    let all = items(&shard, 0, 10);
    assert_eq!(all.items.iter().map(|item| item.version).collect::<Vec<_>>(), [2, 3]);
    assert_eq!((all.version, all.more, all.reset), (3, false, false));
    assert_eq!(items(&shard, 2, 10).items.len(), 1);
    assert_eq!(shard.one(marks(1, pinned(false))), ok(0));
    let changed = items(&shard, 3, 10);
    assert_eq!(changed.items, [Item { version: 4, key: ItemKey::Marks(group(1)), value: None }], "and what is gone");
    let page = items(&shard, 0, 1);
    assert_eq!((page.version, page.more), (3, true));
    assert_eq!(items(&shard, page.version, 1).version, 4);
    assert!(items(&shard, 9, 10).reset, "a version from another life");
}

#[test]
fn marks_are_of_conversations_in_the_list_and_each_is_set_on_its_own() {
    let mut shard = Shard::default();
    assert_eq!(shard.one(marks(1, pinned(true))), no(ErrorCode::NotAMember));
    list(&mut shard, 1);
    shard.one(marks(1, MarksChange { draft: Some("half a".to_owned()), ..MarksChange::default() }));
    shard.one(marks(1, MarksChange { muted_until_ms: Some(9), ..pinned(true) }));
    let value = query::item(&shard.state, &app(), &user("alice"), &ItemKey::Marks(group(1))).unwrap();
    let expected = Marks { pinned: true, muted_until_ms: 9, unread: false, draft: "half a".to_owned() };
    assert_eq!(value, Some(ItemValue::Marks(expected)));
    let long = Some("x".repeat(limits::DRAFT_BYTES + 1));
    assert_eq!(shard.one(marks(1, MarksChange { draft: long, ..MarksChange::default() })), no(ErrorCode::InvalidField));
}

#[test]
fn news_of_a_pair_count_in_their_order_and_keep_the_users_own_words() {
    let mut shard = Shard::default();
    let describe = |remark: &str| {
        let (user, remark) = (user("bob"), remark.to_owned());
        alice(UserCommand::DescribeContact { user, remark, tags: vec!["work".to_owned()] })
    };
    assert_eq!(shard.one(describe("Bobby")), no(ErrorCode::UserNotFound));
    assert_eq!(shard.one(news("bob", 1, Some(ContactState::Asking), None)), ok(0));
    assert_eq!(shard.one(describe("Bobby")), ok(0));
    assert_eq!(shard.one(news("bob", 3, Some(ContactState::Contact), Some(7))), ok(0));
    assert_eq!(shard.one(news("bob", 2, None, None)), again(0), "it comes too late");
    assert_eq!(shard.one(news("bob", 3, Some(ContactState::Contact), Some(7))), again(0));
    let Some(ItemValue::Contact(contact)) =
        query::item(&shard.state, &app(), &user("alice"), &ItemKey::Contact(user("bob"))).unwrap()
    else {
        panic!("no contact")
    };
    assert_eq!((contact.state, contact.remark.as_str()), (ContactState::Contact, "Bobby"));
    assert_eq!(shard.one(news("bob", 4, None, None)), ok(0));
    let values: Vec<_> = items(&shard, 0, 10).items.into_iter().map(|item| item.value).collect();
    assert_eq!(values, [None, None], "neither contact nor blocked");
}

#[test]
fn the_longest_removed_makes_room_and_who_is_behind_it_begins_anew() {
    let mut shard = Shard::default();
    for n in 0..limits::USER_ITEMS {
        shard.one(news(&format!("u{n}"), 1, Some(ContactState::Asking), None));
    }
    assert_eq!(shard.one(news("late", 1, Some(ContactState::Asking), None)), again(0), "no room");
    assert_eq!(shard.one(profile("A")), no(ErrorCode::LimitReached));
    shard.one(news("u700", 2, None, None));
    let told = items(&shard, 0, 1_000_000).version;
    assert_eq!(shard.one(profile("A")), ok(0));
    assert!(!items(&shard, told, 10).reset, "who heard of the removal goes on");
    assert!(items(&shard, told - 1, 10).reset);
    assert_eq!(
        shard.one(alice(UserCommand::SetSettings { settings: UserSettings { strangers: Strangers::MayAsk } })),
        no(ErrorCode::LimitReached)
    );
}
