//! The handle a program holds: one method per request.

use std::time::Duration;

use chat::errors::ErrorCode;
use chat::event::{Life, Relations, Role};
use chat::group::GroupKind;
use chat::ids::{ClientMsgId, ConversationId, GroupId, UserId};
use chat::limits;
use chat::wire::{Body, ConversationItem, Member, ReadMode, Request, ServerFrame, Target, WireEvent};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use uuid::Uuid;

use crate::connection::{Command, Connection, Ends};
use crate::core::encode;
use crate::core::standing::Lasting;
use crate::error::{ConnectError, RequestError, SendError};
use crate::event::Events;
use crate::options::ClientOptions;
use crate::session::{Session, Stats};
use crate::socket::Rotation;

/// Commands on their way to the task, and events on their way to the user. More waits in the core, which is bounded too.
const COMMAND_QUEUE: usize = 16;
const EVENT_QUEUE: usize = 32;
/// Bytes of a frame besides the request: its id.
const ID_FIELD_BYTES: usize = 32;

/// A connection to the service that heals itself. Clones share it; when the last one is dropped it closes.
#[derive(Clone)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    session: watch::Receiver<Option<Session>>,
    request_timeout: Duration,
}

/// A message that is committed on the disks of a majority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub conversation: ConversationId,
    pub seq: u64,
    /// An earlier attempt had already been applied; this is its place.
    pub duplicate: bool,
}

/// A change of a conversation that is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    pub conversation: ConversationId,
    /// The event's place; none if an earlier attempt made the change and its answer was lost.
    pub seq: Option<u64>,
    pub duplicate: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPage {
    pub events: Vec<WireEvent>,
    /// The conversation's last event when this was read.
    pub head: u64,
    pub more: bool,
    /// Events below it are deleted.
    pub oldest_seq: u64,
    pub read: ReadMode,
    /// The last event that the page takes into account.
    pub as_of_seq: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationPage {
    pub items: Vec<ConversationItem>,
    pub more: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberPage {
    pub members: Vec<Member>,
    pub more: bool,
}

/// Which part of a conversation to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// Events with a higher seq, oldest first.
    After(u64),
    /// The last events before this seq.
    Before(u64),
}

impl Client {
    /// Connects, logs in and resumes. Tries the nodes in turn until `connect_timeout`, unless the login itself is refused.
    pub async fn connect(options: ClientOptions) -> Result<(Self, Events), ConnectError> {
        let rotation = Rotation::new(&options.urls)?;
        let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
        let (event_queue, receiver) = mpsc::channel(EVENT_QUEUE);
        let (session, watched) = watch::channel(None);
        let (opened, opening) = oneshot::channel();
        let client = Self { commands, session: watched, request_timeout: options.request_timeout };
        let ends = Ends { commands: command_queue, events: event_queue, session, opened };
        tokio::spawn(Connection::new(options, rotation, ends).run());
        match opening.await {
            Ok(opened) => opened.map(|()| (client, Events { receiver })),
            Err(_) => Err(ConnectError::Unreachable { last: "the client's task ended".to_owned() }),
        }
    }

    /// The present session, or the last one while reconnecting.
    pub fn session(&self) -> Option<Session> {
        self.session.borrow().clone()
    }

    /// None once the client is closed.
    pub async fn stats(&self) -> Option<Stats> {
        let (reply, stats) = oneshot::channel();
        self.commands.send(Command::Stats(reply)).await.ok()?;
        stats.await.ok()
    }

    /// Sends a message under a new id and resolves once it is committed. Retries under the same id, over
    /// reconnects too, until the request timeout. Dropping the future does not take the message back.
    /// Messages sent without waiting for each other may change places when one of them is retried.
    pub async fn send(&self, to: Target, body: Body) -> Result<Sent, SendError> {
        self.send_with_id(to, ClientMsgId(Uuid::now_v7()), body).await
    }

    /// As [`Self::send`], under an id kept by the caller: to go on with a send after a restart of the program.
    pub async fn send_with_id(&self, to: Target, client_msg_id: ClientMsgId, body: Body) -> Result<Sent, SendError> {
        self.send_related(to, client_msg_id, body, Relations::default()).await
    }

    /// As [`Self::send_with_id`], with what the message says of others (what it answers, whom it names, where it was before), who
    /// sees it, and how long.
    pub async fn send_related(
        &self,
        to: Target,
        client_msg_id: ClientMsgId,
        body: Body,
        relations: Relations,
    ) -> Result<Sent, SendError> {
        let Relations { reply_to, mentions, forwarded, only_to, life } = relations;
        let Life { expires_in_ms, burn } = life;
        let request =
            Request::Send { to, client_msg_id, body, reply_to, mentions, forwarded, only_to, expires_in_ms, burn };
        self.sent(request, client_msg_id).await
    }

    async fn sent(&self, request: Request, client_msg_id: ClientMsgId) -> Result<Sent, SendError> {
        match self.ask(&request).await.map(|frame| *frame) {
            Ok(ServerFrame::Ack { conversation, seq, duplicate, .. }) => Ok(Sent { conversation, seq, duplicate }),
            Ok(_) => Err(SendError::from_request(RequestError::UnexpectedAnswer, client_msg_id)),
            Err(error) => Err(SendError::from_request(error, client_msg_id)),
        }
    }

    /// Sends a text to a user or a group.
    pub async fn send_text(&self, to: Target, text: impl Into<String>) -> Result<Sent, SendError> {
        self.send(to, Body::Text { text: text.into() }).await
    }

    /// `group` is the caller's choice (a new UUIDv7): creating it again with the same values is the same creation.
    pub async fn create_group(
        &self,
        group: GroupId,
        name: impl Into<String>,
        members: Vec<UserId>,
    ) -> Result<Changed, RequestError> {
        self.create_group_of(GroupKind::default(), group, name, members).await
    }

    /// As [`Self::create_group`], of another kind.
    pub async fn create_group_of(
        &self,
        kind: GroupKind,
        group: GroupId,
        name: impl Into<String>,
        members: Vec<UserId>,
    ) -> Result<Changed, RequestError> {
        self.change(Request::CreateGroup { group, name: name.into(), members, kind }, group, None).await
    }

    /// Where admins are asked, the result has no seq: they decide.
    pub async fn join(&self, group: GroupId) -> Result<Changed, RequestError> {
        let request = Request::Join { group, invite: None, text: String::new() };
        self.change(request, group, Some(ErrorCode::AlreadyMember)).await
    }

    pub async fn leave(&self, group: GroupId) -> Result<Changed, RequestError> {
        self.change(Request::Leave { group }, group, Some(ErrorCode::NotAMember)).await
    }

    /// At most [`limits::INVITE_USERS`] users.
    pub async fn invite(&self, group: GroupId, users: Vec<UserId>) -> Result<Changed, RequestError> {
        self.change(Request::Invite { group, users }, group, Some(ErrorCode::AlreadyMember)).await
    }

    pub async fn kick(&self, group: GroupId, user: UserId) -> Result<Changed, RequestError> {
        self.change(Request::Kick { group, user }, group, Some(ErrorCode::UserNotFound)).await
    }

    pub async fn set_role(&self, group: GroupId, user: UserId, role: Role) -> Result<Changed, RequestError> {
        self.change(Request::SetRole { group, user, role }, group, None).await
    }

    pub async fn members(&self, group: GroupId, after: Option<UserId>) -> Result<MemberPage, RequestError> {
        match *self.ask(&Request::Members { group, after, limit: None, read: ReadMode::default() }).await? {
            ServerFrame::Members { members, more, .. } => Ok(MemberPage { members, more }),
            _ => Err(RequestError::UnexpectedAnswer),
        }
    }

    /// Everything up to `seq` is read.
    pub async fn read(&self, conversation: ConversationId, seq: u64) -> Result<(), RequestError> {
        match *self.ask(&Request::Read { conversation, seq }).await? {
            ServerFrame::Ack { .. } => Ok(()),
            _ => Err(RequestError::UnexpectedAnswer),
        }
    }

    /// One page of a conversation, read linearizably.
    pub async fn history(&self, conversation: ConversationId, range: Range) -> Result<HistoryPage, RequestError> {
        self.history_as(conversation, range, ReadMode::Linearizable).await
    }

    /// One page of a conversation; [`ReadMode::Local`] is answered at once with what the node has, up to `as_of_seq`.
    pub async fn history_as(
        &self,
        conversation: ConversationId,
        range: Range,
        read: ReadMode,
    ) -> Result<HistoryPage, RequestError> {
        let (after, before) = match range {
            Range::After(seq) => (seq, None),
            Range::Before(seq) => (0, Some(seq)),
        };
        match *self.ask(&Request::History { conversation, after, before, limit: None, read }).await? {
            ServerFrame::History { events, head, more, oldest_seq, read, as_of_seq, .. } => {
                Ok(HistoryPage { events, head, more, oldest_seq, read, as_of_seq })
            }
            _ => Err(RequestError::UnexpectedAnswer),
        }
    }

    /// One page of the user's conversations, in order of their ids.
    pub async fn conversations(&self, after: Option<ConversationId>) -> Result<ConversationPage, RequestError> {
        match *self.ask(&Request::Conversations { after, limit: None, read: ReadMode::default() }).await? {
            ServerFrame::Conversations { items, more, .. } => Ok(ConversationPage { items, more }),
            _ => Err(RequestError::UnexpectedAnswer),
        }
    }

    /// Gives one of the user's own messages another body of the same kind. Retries under the same id, as [`Self::send`].
    pub async fn edit(&self, conversation: ConversationId, seq: u64, body: Body) -> Result<Sent, SendError> {
        let client_msg_id = ClientMsgId(Uuid::now_v7());
        self.sent(Request::Edit { conversation, seq, client_msg_id, body }, client_msg_id).await
    }

    /// Takes a message back, for everybody.
    pub async fn recall(&self, conversation: ConversationId, seq: u64) -> Result<Changed, RequestError> {
        self.change(Request::Recall { conversation: conversation.clone(), seq }, conversation, None).await
    }

    /// Sets or removes the user's own reaction to a message.
    pub async fn react(
        &self,
        conversation: ConversationId,
        seq: u64,
        reaction: impl Into<String>,
        on: bool,
    ) -> Result<Changed, RequestError> {
        let reaction = reaction.into();
        self.change(Request::React { conversation: conversation.clone(), seq, reaction, on }, conversation, None).await
    }

    pub async fn pin(&self, conversation: ConversationId, seq: u64, on: bool) -> Result<Changed, RequestError> {
        self.change(Request::Pin { conversation: conversation.clone(), seq, on }, conversation, None).await
    }

    /// The pinned messages of a conversation, in the order in which they were pinned.
    pub async fn pins(&self, conversation: ConversationId) -> Result<Vec<WireEvent>, RequestError> {
        match *self.ask(&Request::Pins { conversation, read: ReadMode::default() }).await? {
            ServerFrame::Pins { events, .. } => Ok(events),
            _ => Err(RequestError::UnexpectedAnswer),
        }
    }

    pub async fn ping(&self) -> Result<(), RequestError> {
        self.ask(&Request::Ping).await.map(drop)
    }

    /// Ends the session. The service closes the connection and the client does not come back.
    pub async fn logout(&self) -> Result<(), RequestError> {
        match self.request(&Request::Logout, false).await {
            // The connection closed instead of an answer: that is what was asked for.
            Ok(_) | Err(RequestError::Unknown { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A change of a conversation. `done` is the refusal that tells of an earlier attempt's success.
    pub(crate) async fn change(
        &self,
        request: Request,
        conversation: impl Into<ConversationId>,
        done: Option<ErrorCode>,
    ) -> Result<Changed, RequestError> {
        match self.ask(&request).await {
            Ok(frame) => match *frame {
                ServerFrame::Ack { conversation, seq, duplicate, .. } => {
                    Ok(Changed { conversation, seq: (seq > 0).then_some(seq), duplicate })
                }
                _ => Err(RequestError::UnexpectedAnswer),
            },
            Err(RequestError::Rejected { error, repeated: true })
                if done.is_some_and(|code| code.number() == error.code) =>
            {
                Ok(Changed { conversation: conversation.into(), seq: None, duplicate: true })
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn ask(&self, request: &Request) -> Result<Box<ServerFrame>, RequestError> {
        self.request(request, true).await
    }

    pub(crate) async fn request(&self, request: &Request, repeatable: bool) -> Result<Box<ServerFrame>, RequestError> {
        let json = encode(request);
        let bytes = json.len() + ID_FIELD_BYTES;
        if bytes > limits::FRAME_BYTES {
            return Err(RequestError::TooLarge { bytes, max: limits::FRAME_BYTES });
        }
        let deadline = Instant::now() + self.request_timeout;
        let (reply, answer) = oneshot::channel();
        // Full queues hold the caller back, but not beyond the deadline.
        match tokio::time::timeout_at(deadline, self.commands.reserve()).await {
            Ok(Ok(permit)) => {
                permit.send(Command::Request { json, lasting: Lasting::of(request), reply, deadline, repeatable })
            }
            Ok(Err(_)) | Err(_) => return Err(RequestError::NotSent { last: None }),
        }
        match answer.await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(RequestError::Unknown { last: None }),
        }
    }
}
