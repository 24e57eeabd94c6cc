//! A small world, so that random commands meet: five users, two groups, their private conversations.

use bytes::Bytes;
use chat::command::{Command, ConversationCommand, Original, RetentionCommand, Revoked, UserCommand};
use chat::event::{BodyKind, Event, Role, SealedBody};
use chat::group::GroupKind;
use chat::ids::{AppId, ClientMsgId, ConversationId, DeviceId, GroupId, UserId};
use chat::state::record::Privacy;
use chat::wire::Audience;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any};
use proptest::prop_oneof;
use uuid::Uuid;

const USERS: [&str; 5] = ["ann", "bob", "cid", "dan", "eve"];

#[derive(Debug, Clone)]
pub(crate) enum Action {
    Do(Command),
    /// Outbox items are carried to the home shard.
    Carry {
        limit: usize,
        crash: bool,
    },
}

impl Action {
    pub(crate) fn command(&self) -> Option<Command> {
        match self {
            Self::Do(command) => Some(command.clone()),
            Self::Carry { .. } => None,
        }
    }
}

pub(crate) fn app() -> AppId {
    AppId::new("main").unwrap()
}

pub(crate) fn users() -> Vec<UserId> {
    USERS.iter().map(|name| UserId::new(*name).unwrap()).collect()
}

fn groups() -> Vec<ConversationId> {
    (1..=2).map(|n| ConversationId::Group(GroupId(Uuid::from_u128(n)))).collect()
}

pub(crate) fn conversations() -> Vec<ConversationId> {
    let pair = |a: &UserId, b: &UserId| ConversationId::private(a.clone(), b.clone());
    let users = users();
    [groups(), vec![pair(&users[0], &users[1]), pair(&users[1], &users[2]), pair(&users[0], &users[0])]].concat()
}

/// The event that a send or an edit makes, if `command` is one.
pub(crate) fn message_of(command: &Command) -> Option<Event> {
    let Command::Conversation { actor, command, .. } = command else { return None };
    match command.clone() {
        ConversationCommand::Send { client_msg_id, body, .. } => {
            Some(Event::Message { author: actor.clone(), client_msg_id, body: Some(body), relations: None })
        }
        ConversationCommand::Edit { original, client_msg_id, body, .. } => {
            Some(Event::Edited { target: original.seq, by: actor.clone(), client_msg_id, body: Some(body) })
        }
        _ => None,
    }
}

/// The message that a command changes, to be filled in by whoever proposes it.
pub(crate) fn original_of(command: &mut Command) -> Option<(ConversationId, &mut Original)> {
    let Command::Conversation { conversation, command, .. } = command else { return None };
    match command {
        ConversationCommand::Edit { original, .. } => Some((conversation.clone(), original)),
        ConversationCommand::Recall { original } => Some((conversation.clone(), original)),
        _ => None,
    }
}

fn user() -> impl Strategy<Value = UserId> {
    (0..USERS.len()).prop_map(|n| users()[n].clone())
}

fn conversation() -> impl Strategy<Value = ConversationId> {
    // Groups more often: most rules are theirs.
    (0..8usize).prop_map(|n| conversations().get(n).cloned().unwrap_or_else(|| groups()[n % 2].clone()))
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![2 => Just(Role::Owner), 4 => Just(Role::Admin), 2 => Just(Role::Member)]
}

fn send() -> impl Strategy<Value = ConversationCommand> {
    (0..12u128, prop_oneof![9 => 0..1u8, 1 => 1..3u8]).prop_map(|(id, text)| {
        let bytes = Bytes::from(vec![id as u8, text]);
        let body = SealedBody { key_id: 1, kind: BodyKind::Text, bytes };
        ConversationCommand::Send {
            client_msg_id: ClientMsgId(Uuid::from_u128(id)),
            digest: [text; 16],
            body,
            relations: None,
        }
    })
}

/// As it would be said of a message of ann's.
fn original() -> impl Strategy<Value = Original> {
    (0..16u64).prop_map(|seq| Original {
        seq,
        author: users()[0].clone(),
        client_msg_id: ClientMsgId(Uuid::from_u128(1)),
        time_ms: 0,
        kind: BodyKind::Text,
        fixed: false,
        window_ms: u64::MAX,
    })
}

fn edit() -> impl Strategy<Value = ConversationCommand> {
    (original(), send()).prop_map(|(original, send)| {
        let ConversationCommand::Send { client_msg_id, mut digest, body, .. } = send else { panic!("{send:?}") };
        digest[0] = 100 + original.seq as u8;
        ConversationCommand::Edit { original: Box::new(original), client_msg_id, digest, body }
    })
}

/// What is done to messages; also to what is none.
fn change() -> impl Strategy<Value = ConversationCommand> {
    let reaction = || prop_oneof![4 => "[ab]", 1 => " "];
    prop_oneof![
        4 => edit(),
        2 => original().prop_map(|original| ConversationCommand::Recall { original }),
        4 => (0..16u64, reaction(), any::<bool>())
            .prop_map(|(seq, reaction, on)| ConversationCommand::React { seq, reaction, on }),
        3 => (0..16u64, any::<bool>()).prop_map(|(seq, on)| ConversationCommand::Pin { seq, on }),
    ]
}

fn create() -> impl Strategy<Value = ConversationCommand> {
    let name = prop_oneof![8 => "one", 1 => "two", 1 => " "];
    (name, vec(user(), 0..4)).prop_map(|(name, members)| ConversationCommand::CreateGroup {
        name,
        members,
        kind: GroupKind::Public,
    })
}

fn mark_read() -> impl Strategy<Value = ConversationCommand> {
    (0..24u64).prop_map(|seq| ConversationCommand::MarkRead { seq })
}

fn membership() -> impl Strategy<Value = ConversationCommand> {
    prop_oneof![
        2 => Just(ConversationCommand::Join { invite: None, text: String::new() }),
        2 => Just(ConversationCommand::Leave),
        2 => vec(user(), 0..4).prop_map(|users| ConversationCommand::Invite { users }),
        2 => user().prop_map(|user| ConversationCommand::Kick { user }),
        2 => (user(), role()).prop_map(|(user, role)| ConversationCommand::SetRole { user, role }),
    ]
}

fn somewhere(command: impl Strategy<Value = ConversationCommand>) -> impl Strategy<Value = Action> {
    (user(), conversation(), command).prop_map(|(actor, conversation, command)| {
        Action::Do(Command::Conversation { app: app(), conversation, actor, command })
    })
}

fn revoked(n: u8) -> Revoked {
    let device = DeviceId::new(format!("d{n}")).unwrap();
    match n % 3 {
        0 => Revoked::All,
        1 => Revoked::Device(device),
        _ => Revoked::Others(device),
    }
}

fn privacy() -> impl Strategy<Value = Privacy> {
    let audience = || prop_oneof![Just(Audience::Everyone), Just(Audience::Nobody)];
    (audience(), audience()).prop_map(|(last_seen, online)| Privacy { last_seen, online })
}

fn account() -> impl Strategy<Value = Action> {
    let password = || prop_oneof![2 => Just(None), 1 => "[ab]".prop_map(Some)];
    let device = (0..40u8, any::<bool>()).prop_map(|(device, named)| UserCommand::SeeDevice {
        device: DeviceId::new(format!("d{device}")).unwrap(),
        platform: "web".to_owned(),
        name: if named { "Tab".to_owned() } else { String::new() },
    });
    let command = prop_oneof![
        1 => password().prop_map(|password| UserCommand::CreateAccount { password }),
        1 => password().prop_map(|password| UserCommand::SetPassword { password }),
        1 => (0..40u8).prop_map(|n| UserCommand::RevokeLogins { which: revoked(n) }),
        8 => device,
        2 => (0..9u64).prop_map(|at_ms| UserCommand::SeeUser { at_ms }),
        2 => privacy().prop_map(|privacy| UserCommand::SetPrivacy { privacy }),
    ];
    (user(), command).prop_map(|(user, command)| Action::Do(Command::User { app: app(), user, command }))
}

/// Deleting what is old, and forgetting its ids; also where, and how much, is not possible.
fn retention() -> impl Strategy<Value = Action> {
    let trim = (conversation(), 0..24u64).prop_map(|(conversation, oldest_seq)| RetentionCommand::Trim {
        app: app(),
        conversation,
        oldest_seq,
    });
    let forget = (conversation(), 0..24u64).prop_map(|(conversation, below)| RetentionCommand::Forget {
        app: app(),
        conversation,
        below,
        after: None,
        through: None,
    });
    prop_oneof![2 => trim, 1 => forget].prop_map(|command| Action::Do(Command::Retention(command)))
}

/// Anything.
pub(crate) fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => somewhere(send()),
        4 => somewhere(create()),
        10 => somewhere(membership()),
        3 => somewhere(mark_read()),
        8 => somewhere(change()),
        3 => retention(),
        3 => account(),
        1 => (1..6usize, any::<bool>()).prop_map(|(limit, crash)| Action::Carry { limit, crash }),
    ]
}

/// What clients repeat under the same ids.
pub(crate) fn retried() -> impl Strategy<Value = Action> {
    prop_oneof![8 => somewhere(send()), 2 => somewhere(create()), 2 => somewhere(edit())]
}
