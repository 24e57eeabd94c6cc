//! The bytes of everything that is stored: records of the state, log entries, commands. What was once written must be
//! readable for ever, and must be written the same by every replica.
//!
//! A new layout gets a new file (`GOLDEN=write cargo test -p chat --test golden` writes the ones that are missing);
//! an existing file is never changed. Long because it has an example of every layout.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops where it fails")]

use std::fmt::Debug;
use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use chat::app::{AppChange, AppCommand, AppSettings, LoginPolicy, NewApiKey, Registration, Scope};
use chat::codec::{self, Kind};
use chat::command::{
    ClusterCommand, Command, ConversationCommand, EntryBatch, ListChange, MarksChange, NodeFacts, Original, Outcome,
    Owed, PairNews, RetentionCommand, Revoked, UserCommand,
};
use chat::errors::ErrorCode;
use chat::event::{BodyKind, Event, Forwarded, Life, Mentions, Relations, Role, SealedBody};
use chat::group::{GroupChange, GroupKind, GroupSettings, JoinMode, Rights, Visibility};
use chat::ids::{AppId, ClientMsgId, ConversationId, DeviceId, GroupId, KeyId, ShardId, UserId};
use chat::retention::Retention;
use chat::state::View;
use chat::state::memory::MemoryState;
use chat::state::record::{
    Account, Annotation, ApiKey, App, AppCounts, Ban, Build, Burning, ClusterLevel, ClusterSettings, Conversation,
    Deactivated, Dedupe, DedupePage, Deleted, Device, Edit, Expiring, Floor, FloorMark, IdWindow, IndexPage,
    InlineEvent, Invite, ItemPlace, ItemsHead, JoinRequest, JoinToken, LastSeen, ListEntry, ListHead, ListOrder,
    Member, Mentioned, MutedLeaver, Nickname, Node, NodeState, OutboxHead, Pair, Pins, Placement, Privacy, Reaction,
    Recall, Roster, Slot, StoredItem, TokenKey, Turn,
};
use chat::user::{Contact, ContactState, ItemKey, ItemValue, Marks, Profile, Strangers, UserSettings};
use chat::wire::Audience;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(kind: Kind, name: &str, value: &T) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/records").join(format!("{name}.bin"));
    let encoded = codec::encode(kind, value).unwrap();
    if !path.exists() && std::env::var("GOLDEN").is_ok_and(|mode| mode == "write") {
        fs::write(&path, &encoded).unwrap();
    }
    let stored = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(&codec::decode::<T>(kind, &stored).unwrap(), value, "{name} no longer decodes to what was written");
    assert_eq!(stored, encoded, "{name} is written differently now");
}

fn state<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: T) {
    golden(Kind::State, name, &value);
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn app() -> AppId {
    AppId::new("main").unwrap()
}

fn group() -> ConversationId {
    ConversationId::Group(GroupId(Uuid::from_u128(0x0193_6f3e_7c00_7000_8000_0000_0000_000a)))
}

fn private() -> ConversationId {
    ConversationId::private(user("alice"), user("bob"))
}

fn client_msg_id() -> ClientMsgId {
    ClientMsgId(Uuid::from_u128(0x0193_6f3e_7c00_7000_8000_0000_0000_000b))
}

fn body() -> SealedBody {
    SealedBody { key_id: 300, kind: BodyKind::Action, bytes: Bytes::from_static(b"nonce, ciphertext and tag") }
}

fn list_change() -> ListChange {
    ListChange { app: app(), user: user("bob"), conversation: private(), seq: 70_000, listed: true }
}

fn profile() -> Profile {
    let fields = [("title".to_owned(), "Ringer".to_owned())].into();
    Profile { name: "Alice".into(), avatar: "https://example.org/a.png".into(), fields }
}

fn contact() -> Contact {
    let (text, remark, tags) = ("It is Bob".to_owned(), "Bobby".to_owned(), vec!["work".to_owned()]);
    Contact { state: ContactState::Asking, since_ms: TIME_MS, text, remark, tags }
}

fn pair_news() -> PairNews {
    let (contact, blocked_ms) = (Some(contact()), Some(TIME_MS));
    PairNews { app: app(), user: user("alice"), peer: user("bob"), stamp: 300, contact, blocked_ms }
}

const TIME_MS: u64 = 1_732_400_000_000;

#[test]
fn records_of_the_home_shard() {
    state(
        "account_password",
        Account { created_ms: TIME_MS, password: Some("$argon2id$v=19$x".into()), revoked_ms: 0 },
    );
    state("account_token", Account { created_ms: TIME_MS, password: None, revoked_ms: TIME_MS });
    let (platform, name) = ("web".to_owned(), "Firefox".to_owned());
    state("device", Device { platform, name, first_seen_ms: TIME_MS, last_login_ms: TIME_MS + 1, revoked_ms: TIME_MS });
    state("last_seen", LastSeen { at_ms: TIME_MS });
    state("privacy", Privacy { last_seen: Audience::Everyone, online: Audience::Nobody });
    state("list_head", ListHead { listed: 3, next_order: 500 });
    state("list_entry_listed", ListEntry { conversation: group(), seq: 9, order: Some(4) });
    state("list_entry_gone", ListEntry { conversation: private(), seq: 9, order: None });
    state("list_order", ListOrder { conversation: group() });
    state("items_head", ItemsHead { version: 300, items: 7, forgotten: 9 });
    for (name, key) in [
        ("item_place_profile", ItemKey::Profile),
        ("item_place_settings", ItemKey::Settings),
        ("item_place_contact", ItemKey::Contact(user("bob"))),
        ("item_place_blocked", ItemKey::Blocked(user("bob"))),
        ("item_place_marks", ItemKey::Marks(private())),
    ] {
        state(name, ItemPlace { key });
    }
    let item = |value| StoredItem { version: 300, stamp: 2, value };
    state("item_gone", item(None));
    state("item_profile", item(Some(ItemValue::Profile(profile()))));
    state("item_settings", item(Some(ItemValue::Settings(UserSettings { strangers: Strangers::Refused }))));
    state("item_contact", item(Some(ItemValue::Contact(contact()))));
    state("item_blocked", item(Some(ItemValue::Blocked(TIME_MS))));
    let draft = "Shall we".to_owned();
    let marks = Marks { pinned: true, muted_until_ms: TIME_MS, unread: true, draft };
    state("item_marks", item(Some(ItemValue::Marks(marks))));
}

#[test]
fn records_of_the_conversations_shard() {
    let (name, created_by, digest) = (Some("Team".to_owned()), user("alice"), [7; 32]);
    state(
        "conversation",
        Conversation { name, created_by, created_ms: TIME_MS, head: 300, members: 3, digest, guarded: true },
    );
    for (name, role) in [("member", Role::Member), ("member_admin", Role::Admin), ("member_owner", Role::Owner)] {
        state(name, Member { role, joined: 1, read: 299, delivered: 300, muted_until_ms: 0, spoke_ms: TIME_MS });
    }
    let slots = vec![Slot::Inline, Slot::Message { log_index: 70_000, position: 255 }];
    state("index_page", IndexPage { slots });
    state("index_page_edit", IndexPage { slots: vec![Slot::Edit { log_index: 70_000, position: 255 }] });
    let edits = vec![Edit { seq: 300, time_ms: TIME_MS, client_msg_id: client_msg_id() }];
    let reactions = vec![Reaction { reaction: "\u{1f44d}".into(), users: vec![user("bob"), user("alice")] }];
    state("annotation", Annotation { edits, recalled: None, reactions, pinned: true });
    let recalled = Some(Recall { seq: 301, by: user("alice"), expired: true });
    state("annotation_recalled", Annotation { recalled, ..Annotation::default() });
    state("pins", Pins { seqs: vec![7, 300] });
    state("deleted", Deleted { ranges: vec![(1, 7), (300, 300)] });
    state("dedupe", Dedupe { seq: 300, digest: [9; 16] });
    let mut page = DedupePage::default();
    page.push(client_msg_id(), &Dedupe { seq: 300, digest: [9; 16] });
    state("dedupe_page", page);
    state("outbox_head", OutboxHead { first: 3, next: 300 });
    state("outbox_item", Owed::List(list_change()));
    state("outbox_item_pair", Owed::Pair(pair_news()));
    let (author, client_msg_id, kind) = (user("alice"), client_msg_id(), BodyKind::Text);
    let original = Original { seq: 300, author, client_msg_id, time_ms: TIME_MS, kind, fixed: true, window_ms: 300 };
    state("expiring", Expiring { original: original.clone() });
    state("burning", Burning { originals: vec![original] });
    state("mentioned", Mentioned { seqs: vec![7, 300] });
    let blocked_by = vec![(user("alice"), TIME_MS)];
    let (asked_by, text) = (Some(user("bob")), "please".to_owned());
    state("pair", Pair { stamp: 300, asked_by, asked_ms: TIME_MS, text, since_ms: Some(TIME_MS), blocked_by });
    let marks = vec![FloorMark { time_ms: TIME_MS, seq: 200 }];
    state("floor", Floor { oldest_seq: 300, marks });
    state("group_settings", settings());
    state("nickname", Nickname { nickname: "Bobby".into() });
    state("muted_leaver", MutedLeaver { until_ms: u64::MAX });
    state("ban", Ban { until_ms: TIME_MS, by: user("alice") });
    state("join_request", JoinRequest { time_ms: TIME_MS, text: "please".into() });
    state("invite", Invite { by: user("alice"), expires_ms: TIME_MS, uses: 300 });
    state("retention", Retention { max_age_ms: Some(86_400_000), max_count: None });
}

fn settings() -> GroupSettings {
    GroupSettings {
        kind: GroupKind::Channel,
        join: JoinMode::Invite,
        history: Visibility::SinceJoin,
        rights: RIGHTS,
        mute_all: true,
        slow_mode_ms: 300,
        announcement: "Bells at eight".into(),
        attributes: [("topic".to_owned(), "bells".to_owned())].into(),
        admins: [user("alice")].into(),
        dissolved: true,
    }
}

const RIGHTS: Rights = Rights { send: Role::Admin, invite: Role::Member, change_info: Role::Owner };

fn changes() -> Vec<GroupChange> {
    let (key, value) = ("topic".to_owned(), Some("bells".to_owned()));
    vec![
        GroupChange::Name("Team".into()),
        GroupChange::Announcement("Bells at eight".into()),
        GroupChange::Attribute { key, value },
        GroupChange::Join(JoinMode::Approval),
        GroupChange::History(Visibility::SinceJoin),
        GroupChange::MuteAll(true),
        GroupChange::SlowModeMs(300),
        GroupChange::Rights(RIGHTS),
    ]
}

#[test]
fn events_and_commands_of_groups() {
    let (by, who, until_ms) = (user("alice"), user("bob"), Some(TIME_MS));
    let mut events = vec![
        Event::Banned { user: who.clone(), until_ms, by: by.clone() },
        Event::Unbanned { user: who.clone(), by: by.clone() },
        Event::Muted { user: who.clone(), until_ms: None, by: by.clone() },
        Event::Unmuted { user: who.clone(), by: by.clone() },
        Event::NicknameChanged { user: who.clone(), nickname: Some("Bobby".into()) },
        Event::Dissolved { by: by.clone() },
    ];
    events.extend(changes().into_iter().map(|change| Event::GroupChanged { change, by: by.clone() }));
    let inline: Vec<_> = events.into_iter().map(|event| InlineEvent { time_ms: TIME_MS, event }).collect();
    state("events_of_groups", inline);
    let mut commands = vec![
        ConversationCommand::Join { invite: Some([5; 32]), text: "please".into() },
        ConversationCommand::Ban { user: who.clone(), duration_ms: Some(300) },
        ConversationCommand::Unban { user: who.clone() },
        ConversationCommand::Mute { user: who.clone(), duration_ms: None },
        ConversationCommand::Unmute { user: who.clone() },
        ConversationCommand::SetNickname { nickname: Some("Bobby".into()) },
        ConversationCommand::AnswerJoin { user: who, accept: true },
        ConversationCommand::AddInvite { code: [5; 32], life_ms: 300, uses: 2 },
        ConversationCommand::RevokeInvite { code: [5; 32] },
        ConversationCommand::Dissolve,
    ];
    commands.extend(changes().into_iter().map(|change| ConversationCommand::ChangeGroup { change }));
    let of_group = |command| Command::Conversation { app: app(), conversation: group(), actor: by.clone(), command };
    let commands = commands.into_iter().map(of_group).collect();
    golden(Kind::Entry, "entry_groups", &EntryBatch { time_ms: TIME_MS, commands });
}

#[test]
fn commands_of_users() {
    let tab = DeviceId::new("tab-1").unwrap();
    let which = [Revoked::All, Revoked::Device(tab.clone()), Revoked::Others(tab)];
    let of_user =
        |which| Command::User { app: app(), user: user("alice"), command: UserCommand::RevokeLogins { which } };
    let commands = which.map(of_user).to_vec();
    golden(Kind::Entry, "entry_revoke_logins", &EntryBatch { time_ms: TIME_MS, commands });
}

#[test]
fn records_of_the_metadata_group() {
    let nodes = vec![(1, "one".to_owned()), (2, "two".to_owned())];
    let (cluster, founded_ms) = ("3f0c7c1e".to_owned(), TIME_MS);
    state("cluster_settings", ClusterSettings { cluster, shards: 16, stream_epoch: 1, nodes, founded_ms });
    state("app", an_app());
    state("roster", Roster { next: 300, replicas: 3, rebalance: true });
    for (name, node_state) in [
        ("node_joining", NodeState::Joining),
        ("node_active", NodeState::Active),
        ("node_leaving", NodeState::Leaving),
        ("node_removed", NodeState::Removed),
    ] {
        state(name, Node { facts: facts(), state: node_state, since_ms: TIME_MS, key: [3; 32] });
    }
    state("placement", Placement { voters: vec![3, 1, 300] });
    state("join_token", JoinToken { expires_ms: TIME_MS, uses: 2 });
    state("level", ClusterLevel { level: 300, since_ms: TIME_MS });
    state("build", Build { level: 300, version: "0.2.0".into() });
    state("turn", Turn { node: 300, since_ms: TIME_MS, until_ms: TIME_MS + 1 });
    state("id_window", IdWindow { window_ms: 86_400_000 });
}

fn key_id(id: &str) -> KeyId {
    KeyId::new(id).unwrap()
}

fn an_app() -> App {
    let pem = "-----BEGIN PUBLIC KEY-----".to_owned();
    let settings = AppSettings {
        recall_window_ms: 300,
        edit_window_ms: 200,
        registration: Registration::AppOnly,
        login_policy: LoginPolicy::OnePerPlatform,
        users_max: 70_000,
        groups_max: 7_000,
        group_members_max: 700,
    };
    let token_keys = vec![TokenKey { id: key_id("config"), pem, added_ms: TIME_MS }];
    App { name: "Main".into(), created_ms: TIME_MS, token_keys, settings, frozen: true }
}

#[test]
fn records_and_commands_of_apps() {
    let (scopes, last4) = (Scope::ALL.to_vec(), "x7Qa".to_owned());
    let new = NewApiKey { name: "Shop".into(), scopes: scopes.clone(), hash: [8; 32], expires_ms: None, last4 };
    let NewApiKey { name, hash, last4, .. } = new.clone();
    let key = ApiKey { app: app(), name, scopes, hash, created_ms: TIME_MS, expires_ms: Some(TIME_MS), last4 };
    state("api_key", key);
    state("app_counts", AppCounts { users: 70_000, groups: 300 });
    state("deactivated", Deactivated { since_ms: TIME_MS });
    let id = || key_id("2026");
    let changes = vec![
        AppChange::Name("Main".into()),
        AppChange::RecallWindowMs(300),
        AppChange::EditWindowMs(200),
        AppChange::Registration(Registration::FirstLogin),
        AppChange::LoginPolicy(LoginPolicy::NewestWins),
        AppChange::UsersMax(70_000),
        AppChange::GroupsMax(7_000),
        AppChange::GroupMembersMax(700),
    ];
    let commands = [
        AppCommand::Create { name: "Main".into() },
        AppCommand::Change { changes },
        AppCommand::AddTokenKey { id: id(), pem: "-----BEGIN".into() },
        AppCommand::RemoveTokenKey { id: id() },
        AppCommand::AddApiKey { id: id(), key: new },
        AppCommand::RevokeApiKey { id: id() },
        AppCommand::SetFrozen { frozen: true },
    ];
    let of_app = |command| Command::Cluster(ClusterCommand::App { app: app(), command });
    let mut commands = commands.map(of_app).to_vec();
    let (session, platform) = (Uuid::from_u128(7), "ios".to_owned());
    for command in [
        UserCommand::SetActive { active: false },
        UserCommand::BeginSession { session, platform, policy: LoginPolicy::Several },
    ] {
        commands.push(Command::User { app: app(), user: user("alice"), command });
    }
    golden(Kind::Entry, "entry_apps", &EntryBatch { time_ms: TIME_MS, commands });
}

fn facts() -> NodeFacts {
    let (peer, client, admin) = ("10.0.0.1:7412".into(), "10.0.0.1:7411".into(), "10.0.0.1:7413".into());
    NodeFacts { peer, client, admin, zone: "b".into() }
}

fn message(body: Option<SealedBody>, relations: Option<Box<Relations>>) -> Event {
    Event::Message { author: user("bob"), client_msg_id: client_msg_id(), body, relations }
}

fn relations() -> Box<Relations> {
    let mentions = Mentions { users: vec![user("carol")], all: true };
    let forwarded = Some(Forwarded { from: user("dave"), conversation: Some(private()), seq: Some(9) });
    let (only_to, life) = (vec![user("bob")], Life { expires_in_ms: Some(60_000), burn: true });
    Box::new(Relations { reply_to: Some(7), mentions, forwarded, only_to, life })
}

#[test]
fn inline_events() {
    let events = [
        ("group_created", Event::GroupCreated { by: user("alice"), name: "Team".into(), members: vec![user("bob")] }),
        ("joined", Event::Joined { users: vec![user("carol"), user("dave")], by: user("alice") }),
        ("left", Event::Left { user: user("dave") }),
        ("kicked", Event::Kicked { user: user("carol"), by: user("alice") }),
        ("role_changed", Event::RoleChanged { user: user("bob"), role: Role::Owner, by: user("alice") }),
        ("message", message(Some(body()), None)),
        ("message_related", message(Some(body()), Some(relations()))),
        ("message_recalled", message(None, None)),
        ("edited", Event::Edited { target: 7, by: user("bob"), client_msg_id: client_msg_id(), body: Some(body()) }),
        ("edited_recalled", Event::Edited { target: 7, by: user("bob"), client_msg_id: client_msg_id(), body: None }),
        ("recalled", Event::Recalled { target: 7, by: user("alice") }),
        ("reacted", Event::Reacted { target: 7, by: user("bob"), reaction: "\u{1f44d}".into(), on: true }),
        ("pinned", Event::Pinned { target: 7, by: user("alice") }),
        ("unpinned", Event::Unpinned { target: 7, by: user("alice") }),
        ("expired", Event::Expired { target: 7 }),
    ];
    for (name, event) in events {
        state(&format!("event_{name}"), InlineEvent { time_ms: TIME_MS, event });
    }
}

/// The log's own form. Each variant has its file, and one entry holds them all.
#[test]
fn commands_and_the_entry_that_carries_them() {
    let named = commands();
    for (name, command) in &named {
        let batch = EntryBatch { time_ms: TIME_MS, commands: vec![command.clone()] };
        golden(Kind::Entry, &format!("entry_{name}"), &batch);
    }
    let commands = named.into_iter().map(|(_, command)| command).collect();
    golden(Kind::Entry, "entry_all", &EntryBatch { time_ms: TIME_MS, commands });
}

fn commands() -> Vec<(&'static str, Command)> {
    let (cluster, nodes) = ("3f0c7c1e".to_owned(), vec![(1, "one".to_owned())]);
    let found = ClusterCommand::Found { cluster, shards: 16, stream_epoch: 1, nodes };
    let register = ClusterCommand::RegisterApp { app: app(), token_public_key_pem: "-----BEGIN".into() };
    let (device, platform, name) = (DeviceId::new("tab-1").unwrap(), "web".to_owned(), "Firefox".to_owned());
    let of_user = |command| Command::User { app: app(), user: user("alice"), command };
    let of_group = |command| Command::Conversation { app: app(), conversation: group(), actor: user("alice"), command };
    let send =
        ConversationCommand::Send { client_msg_id: client_msg_id(), digest: [9; 16], body: body(), relations: None };
    let members = vec![user("bob"), user("carol")];
    vec![
        ("found", Command::Cluster(found)),
        ("register_app", Command::Cluster(register)),
        ("create_account", of_user(UserCommand::CreateAccount { password: Some("$argon2id$x".into()) })),
        ("set_password", of_user(UserCommand::SetPassword { password: None })),
        ("see_device", of_user(UserCommand::SeeDevice { device, platform, name })),
        ("send", of_group(send.clone())),
        (
            "send_private",
            Command::Conversation { app: app(), conversation: private(), actor: user("bob"), command: send },
        ),
        (
            "create_group",
            of_group(ConversationCommand::CreateGroup { name: "Team".into(), members, kind: GroupKind::Public }),
        ),
        ("join", of_group(ConversationCommand::Join { invite: None, text: String::new() })),
        ("leave", of_group(ConversationCommand::Leave)),
        ("invite", of_group(ConversationCommand::Invite { users: vec![user("dave")] })),
        ("kick", of_group(ConversationCommand::Kick { user: user("dave") })),
        ("set_role", of_group(ConversationCommand::SetRole { user: user("bob"), role: Role::Admin })),
        ("mark_read", of_group(ConversationCommand::MarkRead { seq: 300 })),
        ("outbox_delivered", Command::OutboxDelivered { through: 300 }),
        ("list_changes", Command::ListChanges { changes: vec![list_change()] }),
    ]
}

/// Commands that came after `entry_all` was written. Long because it has an example of each.
#[test]
fn later_commands() {
    golden(Kind::Entry, "entry_compare", &EntryBatch { time_ms: TIME_MS, commands: vec![Command::Compare] });
    let commands = [
        ClusterCommand::AddJoinToken { secret: [5; 32], expires_ms: TIME_MS, uses: 2 },
        ClusterCommand::JoinNode { secret: [5; 32], key: [3; 32], facts: facts() },
        ClusterCommand::DescribeNode { node: 300, facts: facts() },
        ClusterCommand::PromoteNode { node: 300 },
        ClusterCommand::RemoveNode { node: 300 },
        ClusterCommand::ForgetNode { node: 300 },
        ClusterCommand::Place { shard: ShardId(3), voters: vec![3, 1, 300] },
        ClusterCommand::Rebalance { wanted: true, replicas: 5 },
    ];
    let commands = commands.into_iter().map(Command::Cluster).collect();
    golden(Kind::Entry, "entry_nodes", &EntryBatch { time_ms: TIME_MS, commands });
    let (cluster, version, level) = ("3f0c7c1e".to_owned(), "0.2.0".to_owned(), 300);
    let commands = [
        ClusterCommand::FoundAt { cluster, shards: 16, stream_epoch: 1, nodes: vec![(1, "one".to_owned())], level },
        ClusterCommand::DescribeBuild { node: 300, level, version },
        ClusterCommand::SetLevel { level },
        ClusterCommand::WithdrawJoinTokens,
    ];
    let commands = commands.map(Command::Cluster).to_vec();
    golden(Kind::Entry, "entry_level", &EntryBatch { time_ms: TIME_MS, commands });
    let of_group = |command| Command::Conversation { app: app(), conversation: group(), actor: user("alice"), command };
    let (client_msg_id, digest, body) = (client_msg_id(), [9; 16], body());
    let original = || Original {
        seq: 300,
        author: user("alice"),
        client_msg_id,
        time_ms: TIME_MS,
        kind: BodyKind::Merged,
        fixed: true,
        window_ms: 300,
    };
    let commands = [
        ConversationCommand::Send { client_msg_id, digest, body: body.clone(), relations: Some(relations()) },
        ConversationCommand::Edit { original: Box::new(original()), client_msg_id, digest, body },
        ConversationCommand::Recall { original: original() },
        ConversationCommand::React { seq: 300, reaction: "\u{1f44d}".into(), on: false },
        ConversationCommand::Pin { seq: 300, on: true },
    ];
    let commands = commands.map(of_group).to_vec();
    golden(Kind::Entry, "entry_messages", &EntryBatch { time_ms: TIME_MS, commands });
    let conversation = private();
    let place = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
    let retention = Retention { max_age_ms: Some(86_400_000), max_count: Some(10_000) };
    let commands = [
        RetentionCommand::SetApp { app: app(), retention },
        RetentionCommand::SetConversation { app: app(), conversation: group(), retention: Some(retention) },
        RetentionCommand::Trim { app: app(), conversation: group(), oldest_seq: 70_000 },
        RetentionCommand::Forget { app: app(), conversation, below: 70_000, after: place("a"), through: place("b") },
        RetentionCommand::Purge { through: 70_000 },
        RetentionCommand::Expire { app: app(), conversation: private(), seq: 300, at_ms: TIME_MS },
    ];
    let commands = commands.map(Command::Retention).to_vec();
    golden(Kind::Entry, "entry_retention", &EntryBatch { time_ms: TIME_MS, commands });
    let (conversation, window_ms) = (private(), 86_400_000);
    let (after, through) = (place("a"), place("b"));
    let commands = [
        Command::Cluster(ClusterCommand::TakeTurn { node: 300, for_ms: 70_000 }),
        Command::Cluster(ClusterCommand::EndTurn { node: 300 }),
        Command::Retention(RetentionCommand::SetIdWindow { app: app(), window_ms }),
        Command::Retention(RetentionCommand::TrimWithin {
            app: app(),
            conversation: group(),
            oldest_seq: 70_000,
            window_ms,
        }),
        Command::Retention(RetentionCommand::ForgetWithin {
            app: app(),
            conversation,
            below: 70_000,
            after,
            through,
            window_ms,
        }),
    ];
    golden(Kind::Entry, "entry_turns", &EntryBatch { time_ms: TIME_MS, commands: commands.to_vec() });
}

#[test]
fn later_commands_of_users() {
    let privacy = Privacy { last_seen: Audience::Nobody, online: Audience::Everyone };
    let commands = [UserCommand::SeeUser { at_ms: TIME_MS }, UserCommand::SetPrivacy { privacy }];
    let commands = commands.map(|command| Command::User { app: app(), user: user("alice"), command }).to_vec();
    golden(Kind::Entry, "entry_presence", &EntryBatch { time_ms: TIME_MS, commands });
    let of_user = |command| Command::User { app: app(), user: user("alice"), command };
    let of_pair = |command| Command::Conversation { app: app(), conversation: private(), actor: user("bob"), command };
    let (remark, tags, draft) = ("Bobby".to_owned(), vec!["work".to_owned()], Some("Shall we".to_owned()));
    let change = MarksChange { pinned: Some(true), muted_until_ms: Some(TIME_MS), unread: None, draft };
    let commands = vec![
        of_user(UserCommand::SetProfile { profile: profile() }),
        of_user(UserCommand::SetSettings { settings: UserSettings { strangers: Strangers::MayAsk } }),
        of_user(UserCommand::DescribeContact { user: user("bob"), remark, tags }),
        of_user(UserCommand::Mark { conversation: private(), change }),
        of_pair(ConversationCommand::AskContact { text: "please".into() }),
        of_pair(ConversationCommand::AnswerContact { accept: true }),
        of_pair(ConversationCommand::RemoveContact),
        of_pair(ConversationCommand::Block { on: true }),
        of_pair(ConversationCommand::MarkDelivered { seq: 300 }),
        of_pair(ConversationCommand::DeleteForMe { first: 7, last: 300 }),
        Command::PairNews { news: vec![pair_news()] },
    ];
    golden(Kind::Entry, "entry_users", &EntryBatch { time_ms: TIME_MS, commands });
}

/// Outcomes travel between nodes of different builds. New codes go after these.
#[test]
fn outcomes() {
    let mut outcomes = vec![Outcome::Applied { seq: 300, duplicate: true }];
    outcomes.extend(ErrorCode::ALL[..25].iter().map(|code| Outcome::Rejected(*code)));
    golden(Kind::Peer, "outcomes", &outcomes);
    golden(Kind::Peer, "outcome_not_switched_on", &Outcome::Rejected(ErrorCode::NotSwitchedOn));
}

/// Every key and value that a short history leaves behind, as hexadecimal text. Replicas of different builds apply the
/// same entries, so that a difference here is a difference between nodes.
#[test]
fn a_history_leaves_the_same_state_in_every_build() {
    let at = |actor: &str, conversation: ConversationId, command| Command::Conversation {
        app: app(),
        conversation,
        actor: user(actor),
        command,
    };
    let second = vec![
        at("bob", group(), ConversationCommand::MarkRead { seq: 1 }),
        at("carol", group(), ConversationCommand::Leave),
        at("alice", group(), ConversationCommand::SetRole { user: user("bob"), role: Role::Owner }),
        Command::OutboxDelivered { through: 2 },
    ];
    let mut shard = MemoryState::default();
    let first = commands().into_iter().map(|(_, command)| command).collect();
    for (index, commands) in (1..).zip([first, second]) {
        shard.apply(index, &EntryBatch { time_ms: TIME_MS + index, commands });
    }
    let Ok(pairs) = shard.scan(&[], None, usize::MAX);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let lines: String = pairs.iter().map(|(key, value)| format!("{} {}\n", hex(key), hex(value))).collect();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/state.txt");
    if !path.exists() && std::env::var("GOLDEN").is_ok_and(|mode| mode == "write") {
        fs::write(&path, &lines).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), lines);
}
