//! Short words for the state machine's own tests.

use bytes::Bytes;
use uuid::Uuid;

use super::memory::MemoryState;
use super::{Delta, query};
use crate::command::{Command, ConversationCommand, EntryBatch, ListChange, Outcome, Owed};
use crate::errors::ErrorCode;
use crate::event::{BodyKind, Event, SealedBody};
use crate::group::GroupKind;
use crate::ids::{AppId, ClientMsgId, ConversationId, GroupId, UserId};

pub(super) fn app() -> AppId {
    AppId::new("main").unwrap()
}

pub(super) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub(super) fn users(names: &[&str]) -> Vec<UserId> {
    names.iter().map(|name| user(name)).collect()
}

pub(super) fn group(n: u128) -> ConversationId {
    ConversationId::Group(GroupId(Uuid::from_u128(n)))
}

pub(super) fn private(a: &str, b: &str) -> ConversationId {
    ConversationId::private(user(a), user(b))
}

pub(super) fn by(actor: &str, conversation: &ConversationId, command: ConversationCommand) -> Command {
    Command::Conversation { app: app(), conversation: conversation.clone(), actor: user(actor), command }
}

/// A send whose digest is its text.
pub(super) fn send(id: u128, text: &str) -> ConversationCommand {
    let mut digest = [0; 16];
    digest[..text.len().min(16)].copy_from_slice(&text.as_bytes()[..text.len().min(16)]);
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    let body = SealedBody { key_id: 1, kind: BodyKind::Text, bytes };
    ConversationCommand::Send { client_msg_id: ClientMsgId(Uuid::from_u128(id)), digest, body, relations: None }
}

pub(super) fn create(name: &str, members: &[&str]) -> ConversationCommand {
    ConversationCommand::CreateGroup { name: name.to_owned(), members: users(members), kind: GroupKind::Public }
}

pub(super) fn join() -> ConversationCommand {
    ConversationCommand::Join { invite: None, text: String::new() }
}

pub(super) fn ok(seq: u64) -> Outcome {
    Outcome::Applied { seq, duplicate: false }
}

pub(super) fn again(seq: u64) -> Outcome {
    Outcome::Applied { seq, duplicate: true }
}

pub(super) fn no(code: ErrorCode) -> Outcome {
    Outcome::Rejected(code)
}

/// A shard that takes its entries one after the other; the clock is 1000 times the log index.
#[derive(Default)]
pub(super) struct Shard {
    pub(super) state: MemoryState,
    pub(super) index: u64,
}

impl Shard {
    pub(super) fn entry(&mut self, commands: Vec<Command>) -> Delta {
        self.index += 1;
        self.state.apply(self.index, &EntryBatch { time_ms: self.index * 1_000, commands })
    }

    pub(super) fn one(&mut self, command: Command) -> Outcome {
        self.entry(vec![command]).outcomes[0].clone()
    }

    pub(super) fn act(&mut self, actor: &str, conversation: &ConversationId, command: ConversationCommand) -> Outcome {
        self.one(by(actor, conversation, command))
    }

    pub(super) fn outbox(&self) -> Vec<(u64, ListChange)> {
        let list = |(number, owed)| match owed {
            Owed::List(change) => Some((number, change)),
            Owed::Pair(_) => None,
        };
        query::outbox(&self.state, usize::MAX).unwrap().into_iter().filter_map(list).collect()
    }

    /// The outbox as `(number, user, seq, listed)`.
    pub(super) fn announced(&self) -> Vec<(u64, String, u64, bool)> {
        self.outbox().into_iter().map(|(n, c)| (n, c.user.to_string(), c.seq, c.listed)).collect()
    }

    pub(super) fn head(&self, conversation: &ConversationId) -> u64 {
        query::conversation(&self.state, &app(), conversation).unwrap().map_or(0, |c| c.head)
    }

    /// The event at `seq`, which must be no message.
    pub(super) fn inline(&self, conversation: &ConversationId, seq: u64) -> Event {
        match query::locate(&self.state, &app(), conversation, seq, 1).unwrap().pop() {
            Some(query::Located::Inline(at, _, event)) if at == seq => event,
            other => panic!("no inline event at {seq}: {other:?}"),
        }
    }
}
