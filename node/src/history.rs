//! Events read back: positions from the state, messages from the log records, bodies opened. [`now`]: what became of them.

use bytestring::ByteString;
use chat::body::{BodyUnreadable, open_body};
use chat::command::{Command, ConversationCommand, EntryBatch};
use chat::event::{Event, Relations, SealedBody, SequencedEvent};
use chat::ids::{AppId, ConversationId, ShardId};
use chat::limits;
use chat::render::{BodyMissing, wire_event};
use chat::state::query::{self, Located};
use chat::wire::{Body, ServerFrame, WireEvent};
use cluster::{Cluster, ReadError, ShardView};
use storage::{BodyContext, BodySealer, SealError, StorageError};

use crate::session::encode;

mod now;

pub(crate) use now::{Shown, Viewer};

/// Why events cannot be shown. Nothing wrong is ever shown instead.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("the shard is not on this node")]
    NoShard,
    #[error("the state cannot be read")]
    State(#[from] StorageError),
    #[error("the log record cannot be read")]
    Record(#[from] ReadError),
    #[error("seq {seq} is not where the index says")]
    Missing { seq: u64 },
    #[error("the body of seq {seq} does not open")]
    Sealed { seq: u64, source: SealError },
    #[error("the body of seq {seq} is none")]
    Unreadable { seq: u64, source: BodyUnreadable },
    #[error("the body of seq {seq} was not opened")]
    Unopened { seq: u64, source: BodyMissing },
}

impl HistoryError {
    /// Whether the same can be read once the replica is repaired.
    pub(crate) fn is_repairable(&self) -> bool {
        match self {
            Self::State(error) | Self::Record(ReadError::Storage(error)) => error.is_repairable(),
            _ => false,
        }
    }
}

/// Opens committed events and writes them as clients see them.
#[derive(Clone)]
pub struct EventEncoder {
    sealer: BodySealer,
}

impl EventEncoder {
    pub fn new(sealer: BodySealer) -> Self {
        Self { sealer }
    }

    pub(crate) fn open(&self, event: &SequencedEvent) -> Result<WireEvent, HistoryError> {
        let seq = event.seq;
        let body = match &event.event {
            Event::Message { author, client_msg_id, body: Some(body), .. }
            | Event::Edited { by: author, client_msg_id, body: Some(body), .. } => {
                let (app, conversation) = (&event.app, &event.conversation);
                let context = BodyContext { app, conversation, author, client_msg_id: *client_msg_id };
                Some(self.body(seq, &context, body)?)
            }
            _ => None,
        };
        wire_event(event, body).map_err(|source| HistoryError::Unopened { seq, source })
    }

    fn body(&self, seq: u64, context: &BodyContext<'_>, sealed: &SealedBody) -> Result<Body, HistoryError> {
        let plain = self.sealer.open(context, sealed).map_err(|source| HistoryError::Sealed { seq, source })?;
        open_body(sealed.kind, &plain).map_err(|source| HistoryError::Unreadable { seq, source })
    }

    /// The `event` frame.
    pub(crate) fn frame(&self, event: &SequencedEvent) -> Result<ByteString, HistoryError> {
        Ok(encode(&ServerFrame::Event { event: self.open(event)? }))
    }
}

/// Reads conversations of this node's replicas as they are. Blocks on storage: for the blocking pool.
#[derive(Clone)]
pub struct History {
    cluster: Cluster,
    encoder: EventEncoder,
}

impl History {
    pub fn new(cluster: Cluster, encoder: EventEncoder) -> Self {
        Self { cluster, encoder }
    }

    pub(crate) fn encoder(&self) -> &EventEncoder {
        &self.encoder
    }

    /// Up to `limit` kept events, as they are now, from `from_seq` on, in order, and no more of them once they come to `max_bytes`; at
    /// least one if there is any.
    pub(crate) fn events(
        &self,
        app: &AppId,
        conversation: &ConversationId,
        from_seq: u64,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Span, HistoryError> {
        let shard = self.cluster.conversation_shard(app, conversation);
        let view = self.cluster.view(shard).ok_or(HistoryError::NoShard)?;
        loop {
            let located = query::locate(&view, app, conversation, from_seq, limit)?;
            let read = self.read(shard, app, conversation, located, max_bytes);
            let read = read.and_then(|events| self.as_now(&view, shard, app, conversation, events));
            let oldest_seq = query::oldest_seq(&view, app, conversation)?;
            match read {
                // Deleted between looking it up and reading it: what is kept begins later now.
                Err(HistoryError::Missing { seq }) if seq < oldest_seq => {}
                // Or recalled: it is no longer to be read from the log.
                Err(HistoryError::Missing { seq }) if self.is_inline(&view, app, conversation, seq)? => {}
                read => return Ok(Span { oldest_seq, events: fitting(read?, max_bytes) }),
            }
        }
    }

    fn is_inline(
        &self,
        view: &ShardView,
        app: &AppId,
        conversation: &ConversationId,
        seq: u64,
    ) -> Result<bool, HistoryError> {
        let located = query::locate(view, app, conversation, seq, 1)?;
        Ok(matches!(located.first(), Some(Located::Inline(at, ..)) if *at == seq))
    }

    fn read(
        &self,
        shard: ShardId,
        app: &AppId,
        conversation: &ConversationId,
        located: Vec<Located>,
        max_bytes: usize,
    ) -> Result<Vec<SequencedEvent>, HistoryError> {
        // Neighbours are often in the same entry.
        let mut entry: Option<(u64, EntryBatch)> = None;
        let mut events = Vec::with_capacity(located.len());
        let mut bytes = 0;
        for at in located {
            let (seq, time_ms, event) = match at {
                Located::Inline(seq, time_ms, event) => (seq, time_ms, event),
                Located::Message { seq, log_index, position_in_batch } => {
                    if entry.as_ref().is_none_or(|(index, _)| *index != log_index) {
                        let read = self.cluster.entry(shard, log_index)?.ok_or(HistoryError::Missing { seq })?;
                        entry = Some((log_index, read));
                    }
                    let batch = entry.as_ref().map(|(_, batch)| batch).ok_or(HistoryError::Missing { seq })?;
                    let event = message(batch, position_in_batch, conversation).ok_or(HistoryError::Missing { seq })?;
                    (seq, batch.time_ms, event)
                }
            };
            bytes += json_bound(&event);
            if bytes > max_bytes && !events.is_empty() {
                break;
            }
            let (app, conversation) = (app.clone(), conversation.clone());
            events.push(SequencedEvent { app, conversation, seq, time_ms, event });
        }
        Ok(events)
    }
}

/// Events that follow each other. They begin later than was asked if what is before them is deleted.
#[derive(Debug)]
pub(crate) struct Span {
    /// What is kept begins here, or began here a moment ago.
    pub(crate) oldest_seq: u64,
    pub(crate) events: Vec<Shown>,
}

/// An upper bound of the event's JSON: of the characters a text may have, escaping at most doubles each.
pub(crate) fn json_bound(event: &Event) -> usize {
    const FIELDS: usize = 1024;
    let sealed = |body: &Option<SealedBody>| body.as_ref().map_or(0, |body| 2 * body.bytes.len());
    match event {
        Event::Message { body, relations, .. } => {
            let named = |relations: &Relations| relations.mentions.users.len() + relations.only_to.len();
            let mentioned = relations.as_deref().map_or(0, named);
            FIELDS + sealed(body) + mentioned * (limits::ID_BYTES + 3)
        }
        Event::Edited { body, .. } => FIELDS + sealed(body),
        Event::GroupCreated { members: users, .. } | Event::Joined { users, .. } => {
            FIELDS + users.iter().map(|user| 2 * user.as_str().len() + 3).sum::<usize>()
        }
        Event::GroupChanged { change, .. } => FIELDS + 2 * change.text_bytes(),
        Event::NicknameChanged { nickname, .. } => FIELDS + 2 * nickname.as_ref().map_or(0, String::len),
        Event::Left { .. }
        | Event::Kicked { .. }
        | Event::RoleChanged { .. }
        | Event::Banned { .. }
        | Event::Unbanned { .. }
        | Event::Muted { .. }
        | Event::Unmuted { .. }
        | Event::Recalled { .. }
        | Event::Reacted { .. }
        | Event::Pinned { .. }
        | Event::Unpinned { .. }
        | Event::Expired { .. }
        | Event::Dissolved { .. } => FIELDS,
    }
}

/// As many events from the front as fit, at least one.
fn fitting(mut events: Vec<Shown>, max_bytes: usize) -> Vec<Shown> {
    let mut bytes = 0usize;
    let fits = events.iter().take_while(|event| {
        bytes = bytes.saturating_add(event.json_bound());
        bytes <= max_bytes
    });
    let keep = fits.count().max(1);
    events.truncate(keep);
    events
}

/// The event as it is once its message was recalled.
fn without_body(mut event: SequencedEvent) -> SequencedEvent {
    match &mut event.event {
        Event::Message { body, relations, .. } => (*body, *relations) = (None, None),
        Event::Edited { body, .. } => *body = None,
        _ => {}
    }
    event
}

/// The message or the edit at a position of an entry.
fn message(batch: &EntryBatch, position: u32, expected: &ConversationId) -> Option<Event> {
    match batch.commands.get(position as usize)? {
        Command::Conversation {
            conversation,
            actor,
            command: ConversationCommand::Send { client_msg_id, body, relations, .. },
            ..
        } if conversation == expected => {
            let (author, body, relations) = (actor.clone(), Some(body.clone()), relations.clone());
            Some(Event::Message { author, client_msg_id: *client_msg_id, body, relations })
        }
        Command::Conversation {
            conversation,
            actor,
            command: ConversationCommand::Edit { original, client_msg_id, body, .. },
            ..
        } if conversation == expected => {
            let (target, by, body) = (original.seq, actor.clone(), Some(body.clone()));
            Some(Event::Edited { target, by, client_msg_id: *client_msg_id, body })
        }
        _ => None,
    }
}
