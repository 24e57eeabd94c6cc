//! Apps as the metadata group keeps them, users who are not let in, sessions that end others.

use uuid::Uuid;

use super::super::testing::{Shard, again, app, by, create as created, group, no, ok, private, send, user, users};
use super::super::{apps, query};
use crate::app::{AppChange, AppCommand, AppSettings, LoginPolicy, NewApiKey, Registration, SYSTEM, Scope};
use crate::command::{ClusterCommand, Command, ConversationCommand, Original, Revoked, UserCommand};
use crate::errors::ErrorCode;
use crate::event::{BodyKind, Committed, Role};
use crate::ids::{AppId, ClientMsgId, KeyId};
use crate::limits;

fn ask(id: &str, command: AppCommand) -> Command {
    Command::Cluster(ClusterCommand::App { app: AppId::new(id).unwrap(), command })
}

fn key_id(id: &str) -> KeyId {
    KeyId::new(id).unwrap()
}

fn token_key(id: &str, pem: &str) -> AppCommand {
    AppCommand::AddTokenKey { id: key_id(id), pem: pem.to_owned() }
}

fn api_key(id: &str, hash: u8) -> AppCommand {
    let (scopes, hash) = (vec![Scope::UsersRead, Scope::MessagesSend], [hash; 32]);
    let key = NewApiKey { name: "backend".into(), scopes, hash, expires_ms: None, last4: "abcd".into() };
    AppCommand::AddApiKey { id: key_id(id), key }
}

fn register(pem: &str) -> Command {
    Command::Cluster(ClusterCommand::RegisterApp { app: app(), token_public_key_pem: pem.to_owned() })
}

#[test]
fn what_a_configuration_says_makes_the_app_and_no_more() {
    let mut meta = Shard::default();
    assert_eq!(meta.one(register("")), no(ErrorCode::InvalidField));
    assert_eq!((meta.one(register("key 1")), meta.one(register("key 1"))), (ok(0), again(0)));
    assert_eq!(meta.one(ask("main", token_key("next", "key 2"))), ok(0));
    assert_eq!(meta.one(ask("main", AppCommand::RemoveTokenKey { id: key_id("config") })), ok(0));
    assert_eq!(meta.one(register("key 1")), again(0), "a key that was taken away stays away");
    let record = query::app(&meta.state, &app()).unwrap().unwrap();
    assert_eq!(record.token_keys.iter().map(|key| key.pem.as_str()).collect::<Vec<_>>(), ["key 2"]);
    assert_eq!(query::apps(&meta.state, 10).unwrap().len(), 1);
}

#[test]
fn an_app_is_made_once_and_set_within_the_limits() {
    let mut meta = Shard::default();
    let make = |name: &str| ask("shop", AppCommand::Create { name: name.to_owned() });
    let set = |changes| ask("shop", AppCommand::Change { changes });
    assert_eq!(meta.one(set(vec![])), no(ErrorCode::AppNotFound));
    assert_eq!((meta.one(make("Shop")), meta.one(make("Shop"))), (ok(0), again(0)));
    assert_eq!(meta.one(make("Another")), no(ErrorCode::AppExists));
    for wrong in [
        AppChange::Name(" ".into()),
        AppChange::EditWindowMs(limits::EDIT_WINDOW_MS + 1),
        AppChange::RecallWindowMs(limits::RECALL_WINDOW_MS + 1),
        AppChange::UsersMax(0),
        AppChange::GroupMembersMax(0),
        AppChange::GroupsMax(limits::APP_GROUPS + 1),
    ] {
        assert_eq!(meta.one(set(vec![AppChange::UsersMax(5), wrong])), no(ErrorCode::InvalidField));
    }
    let changes = vec![
        AppChange::Name("The shop".into()),
        AppChange::LoginPolicy(LoginPolicy::NewestWins),
        AppChange::Registration(Registration::AppOnly),
        AppChange::EditWindowMs(0),
    ];
    assert_eq!((meta.one(set(changes.clone())), meta.one(set(changes))), (ok(0), again(0)));
    assert_eq!(meta.one(make("The shop")), no(ErrorCode::AppExists), "it is another by now");
    let record = query::app(&meta.state, &AppId::new("shop").unwrap()).unwrap().unwrap();
    let (login_policy, registration) = (LoginPolicy::NewestWins, Registration::AppOnly);
    let settings = AppSettings { login_policy, registration, edit_window_ms: 0, ..AppSettings::default() };
    assert_eq!((record.name.as_str(), record.settings), ("The shop", settings));
}

#[test]
fn token_keys_come_and_go_each_under_its_id() {
    let mut meta = Shard::default();
    meta.one(register("key 0"));
    assert_eq!(
        (meta.one(ask("main", token_key("k", "a"))), meta.one(ask("main", token_key("k", "a")))),
        (ok(0), again(0))
    );
    assert_eq!(meta.one(ask("main", token_key("k", "b"))), no(ErrorCode::IdConflict));
    for n in 2..limits::TOKEN_KEYS {
        assert_eq!(meta.one(ask("main", token_key(&format!("k{n}"), "a"))), ok(0));
    }
    assert_eq!(meta.one(ask("main", token_key("one-more", "a"))), no(ErrorCode::LimitReached));
    let remove = || ask("main", AppCommand::RemoveTokenKey { id: key_id("k") });
    assert_eq!((meta.one(remove()), meta.one(remove())), (ok(0), again(0)));
    assert_eq!(meta.one(ask("main", token_key("k", "b"))), ok(0));
}

#[test]
fn an_api_key_is_of_one_app_and_no_other_can_take_it_away() {
    let mut meta = Shard::default();
    meta.one(register("key"));
    meta.one(ask("other", AppCommand::Create { name: "Other".into() }));
    assert_eq!((meta.one(ask("main", api_key("1", 1))), meta.one(ask("main", api_key("1", 1)))), (ok(0), again(0)));
    assert_eq!(meta.one(ask("main", api_key("1", 2))), no(ErrorCode::IdConflict));
    assert_eq!(meta.one(ask("other", api_key("1", 1))), no(ErrorCode::IdConflict));
    let revoke = |app| ask(app, AppCommand::RevokeApiKey { id: key_id("1") });
    assert_eq!(meta.one(revoke("other")), again(0));
    let record = apps::api_key(&meta.state, &key_id("1")).unwrap().unwrap();
    assert_eq!((record.app, record.created_ms, record.hash), (app(), 3_000, [1; 32]));
    assert_eq!(apps::api_keys(&meta.state, &app()).unwrap().len(), 1);
    assert_eq!(apps::api_keys(&meta.state, &AppId::new("other").unwrap()).unwrap(), []);
    assert_eq!((meta.one(revoke("main")), meta.one(revoke("main"))), (ok(0), again(0)));
    assert_eq!(apps::api_key(&meta.state, &key_id("1")).unwrap(), None);
    for n in 0..limits::API_KEYS {
        assert_eq!(meta.one(ask("main", api_key(&format!("m{n}"), 1))), ok(0));
    }
    assert_eq!(meta.one(ask("main", api_key("one-more", 1))), no(ErrorCode::LimitReached));
    assert_eq!(meta.one(ask("other", api_key("o", 1))), ok(0), "the limit is each app's own");
}

#[test]
fn a_frozen_app_is_told_to_every_node() {
    let mut meta = Shard::default();
    meta.one(register("key"));
    let freeze = |frozen| ask("main", AppCommand::SetFrozen { frozen });
    let frozen = [Committed::AppFrozen { app: app() }];
    let first = meta.entry(vec![freeze(true)]);
    assert_eq!((first.outcomes, first.events), (vec![ok(0)], frozen.to_vec()));
    let again_ = meta.entry(vec![freeze(true)]);
    assert_eq!((again_.outcomes, again_.events), (vec![again(0)], frozen.to_vec()));
    let thawed = meta.entry(vec![freeze(false)]);
    assert_eq!((thawed.outcomes, thawed.events), (vec![ok(0)], vec![]));
    assert!(!query::app(&meta.state, &app()).unwrap().unwrap().frozen);
}

#[test]
fn users_are_counted_listed_and_not_let_in_any_more() {
    let mut home = Shard::default();
    let of = |name: &str, command| Command::User { app: app(), user: user(name), command };
    let make = |name: &str| of(name, UserCommand::CreateAccount { password: None });
    assert_eq!(home.one(make(SYSTEM)), no(ErrorCode::Forbidden));
    for name in ["alice", "bob", "carol", "alice"] {
        home.one(make(name));
    }
    assert_eq!(apps::counts(&home.state, &app()).unwrap().users, 3);
    let names = |after: Option<&str>, limit| {
        let page = apps::accounts(&home.state, &app(), after.map(user).as_ref(), limit).unwrap();
        (page.items.into_iter().map(|(user, _)| user.to_string()).collect::<Vec<_>>(), page.more)
    };
    assert_eq!(names(None, 2), (vec!["alice".to_owned(), "bob".to_owned()], true));
    assert_eq!(names(Some("bob"), 2), (vec!["carol".to_owned()], false));

    let set = |active| of("bob", UserCommand::SetActive { active });
    assert_eq!(home.one(of("nobody", UserCommand::SetActive { active: false })), no(ErrorCode::UserNotFound));
    let delta = home.entry(vec![set(false), set(false)]);
    let ended = || Committed::LoginsRevoked { app: app(), user: user("bob"), which: Revoked::All };
    assert_eq!((delta.outcomes, delta.events), (vec![ok(0), again(0)], vec![ended(), ended()]));
    assert!(apps::is_deactivated(&home.state, &app(), &user("bob")).unwrap());
    assert_eq!((home.one(set(true)), home.one(set(true))), (ok(0), again(0)));
    assert!(!apps::is_deactivated(&home.state, &app(), &user("bob")).unwrap());
}

#[test]
fn a_session_that_begins_is_told_in_the_order_of_the_log() {
    let mut home = Shard::default();
    let begin = |n| {
        let (session, platform) = (Uuid::from_u128(n), "web".to_owned());
        let command = UserCommand::BeginSession { session, platform, policy: LoginPolicy::NewestWins };
        Command::User { app: app(), user: user("alice"), command }
    };
    assert_eq!(home.one(begin(1)), no(ErrorCode::UserNotFound));
    home.one(Command::User { app: app(), user: user("alice"), command: UserCommand::CreateAccount { password: None } });
    let delta = home.entry(vec![begin(2), begin(1)]);
    let sessions = delta.events.into_iter().map(|event| match event {
        Committed::SessionBegan { session, .. } => session.as_u128(),
        other => panic!("{other:?}"),
    });
    assert_eq!(sessions.collect::<Vec<_>>(), [2, 1]);
}

#[test]
fn the_app_itself_runs_a_group_without_being_in_it() {
    let mut shard = Shard::default();
    let g = group(1);
    assert_eq!(shard.act(SYSTEM, &g, created("Team", &[])), no(ErrorCode::Forbidden));
    assert_eq!(shard.act(SYSTEM, &g, send(1, "early")), no(ErrorCode::NotAMember));
    shard.act("alice", &g, created("Team", &["bob"]));
    assert_eq!(apps::counts(&shard.state, &app()).unwrap().groups, 1);
    assert_eq!(shard.act(SYSTEM, &g, send(1, "hello")), ok(2));
    assert_eq!(shard.act(SYSTEM, &g, send(1, "hello")), again(2));
    assert_eq!(shard.act(SYSTEM, &g, ConversationCommand::Invite { users: users(&["carol"]) }), ok(3));
    let role = |name: &str| query::role(&shard.state, &app(), &g, &user(name)).unwrap();
    assert_eq!((role(SYSTEM), role("carol"), role("alice")), (None, Some(Role::Member), Some(Role::Owner)));
    let set_role = |name: &str, role| ConversationCommand::SetRole { user: user(name), role };
    // The owner changes, and there is one.
    assert_eq!(shard.act(SYSTEM, &g, set_role("alice", Role::Member)), no(ErrorCode::OwnerMustStay));
    assert_eq!(shard.act(SYSTEM, &g, set_role("bob", Role::Owner)), ok(4));
    let role = |name: &str| query::role(&shard.state, &app(), &g, &user(name)).unwrap();
    assert_eq!((role("bob"), role("alice")), (Some(Role::Owner), Some(Role::Admin)));
    assert_eq!(shard.act(SYSTEM, &g, ConversationCommand::Kick { user: user("bob") }), no(ErrorCode::Forbidden));
    assert_eq!(shard.act(SYSTEM, &g, ConversationCommand::Kick { user: user("alice") }), ok(5));
    for members_own in [ConversationCommand::Leave, ConversationCommand::MarkRead { seq: 1 }] {
        assert_eq!(shard.act(SYSTEM, &g, members_own), no(ErrorCode::Forbidden));
    }
    assert_eq!(query::members(&shard.state, &app(), &g, None, 9).unwrap().items.len(), 2);
    let conversation = query::conversation(&shard.state, &app(), &g).unwrap().unwrap();
    assert_eq!((conversation.members, conversation.head), (2, 5));
    assert_eq!(shard.one(by(SYSTEM, &g, ConversationCommand::Dissolve)), ok(6));
    // Of its users' private conversations it can take something back, and no more.
    let talk = private("alice", "bob");
    shard.act("alice", &talk, send(9, "rude"));
    let client_msg_id = ClientMsgId(Uuid::from_u128(9));
    let (author, kind, window_ms) = (user("alice"), BodyKind::Text, 0);
    let original = Original { seq: 1, author, client_msg_id, time_ms: 0, kind, fixed: false, window_ms };
    assert_eq!(shard.act(SYSTEM, &talk, send(1, "hello")), no(ErrorCode::Forbidden));
    assert_eq!(
        shard.act("alice", &talk, ConversationCommand::Recall { original: original.clone() }),
        no(ErrorCode::TooLate)
    );
    assert_eq!(shard.act(SYSTEM, &talk, ConversationCommand::Recall { original }), ok(2));
}
