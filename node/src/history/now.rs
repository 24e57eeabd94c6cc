//! Messages as they are now: with the body of their newest edit, without one if they were recalled, with what was said of them.

use chat::event::{Event, SealedBody, SequencedEvent};
use chat::ids::{AppId, ConversationId, ShardId, UserId};
use chat::limits;
use chat::state::query;
use chat::state::record::{Annotation, Deleted, Edit, Reaction};
use chat::wire::{self, EventContent, Recalled, WireEvent};
use cluster::ShardView;
use storage::BodyContext;

use crate::session::message::hidden;

use super::{EventEncoder, History, HistoryError, json_bound, without_body};

/// An event, and what became of it since if it is a message.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) event: SequencedEvent,
    now: Option<Box<Now>>,
}

#[derive(Debug)]
struct Now {
    annotation: Annotation,
    /// The newest edit. Its body is sealed for its own id.
    edit: Option<(Edit, SealedBody)>,
}

impl Shown {
    pub(crate) fn seq(&self) -> u64 {
        self.event.seq
    }

    /// An upper bound of the JSON.
    pub(crate) fn json_bound(&self) -> usize {
        /// Names of fields, quotes and a number.
        const REACTION: usize = 64 + 2 * limits::REACTION_BYTES + limits::REACTION_USERS_SHOWN * (limits::ID_BYTES + 3);
        let now = self.now.as_ref().map_or(0, |now| {
            let edit = now.edit.as_ref().map_or(0, |(_, body)| 2 * body.bytes.len());
            edit + now.annotation.reactions.len() * REACTION
        });
        json_bound(&self.event.event) + now
    }
}

impl History {
    /// The same events as they are now. They follow each other.
    pub(super) fn as_now(
        &self,
        view: &ShardView,
        shard: ShardId,
        app: &AppId,
        conversation: &ConversationId,
        events: Vec<SequencedEvent>,
    ) -> Result<Vec<Shown>, HistoryError> {
        let seqs = (events.first().map_or(1, |event| event.seq), events.last().map_or(0, |event| event.seq));
        // Looked up after the events were found: whatever was recalled before then is seen here.
        let annotations = query::annotations(view, app, conversation, seqs, events.len())?;
        let mut annotations = annotations.into_iter().peekable();
        let mut shown = Vec::with_capacity(events.len());
        for event in events {
            let own = annotations.next_if(|(seq, _)| *seq == event.seq).map(|(_, annotation)| annotation);
            shown.push(match own {
                Some(annotation) => self.annotated(view, shard, event, annotation)?,
                // What a recall says of a message it says of its edits.
                None if matches!(event.event, Event::Edited { .. }) => {
                    Shown { event: self.unless_recalled(view, event)?, now: None }
                }
                None => Shown { event, now: None },
            });
        }
        Ok(shown)
    }

    fn annotated(
        &self,
        view: &ShardView,
        shard: ShardId,
        event: SequencedEvent,
        annotation: Annotation,
    ) -> Result<Shown, HistoryError> {
        let SequencedEvent { app, conversation, .. } = &event;
        let newest = annotation.edits.last().filter(|_| annotation.recalled.is_none()).copied();
        let edit = match newest {
            None => None,
            Some(edit) => match self.edited_body(view, shard, app, conversation, edit.seq)? {
                Some(body) => Some((edit, body)),
                // Recalled a moment ago.
                None => return Ok(Shown { event: without_body(event), now: None }),
            },
        };
        let event = if annotation.recalled.is_some() { without_body(event) } else { event };
        Ok(Shown { event, now: Some(Box::new(Now { annotation, edit })) })
    }

    fn edited_body(
        &self,
        view: &ShardView,
        shard: ShardId,
        app: &AppId,
        conversation: &ConversationId,
        seq: u64,
    ) -> Result<Option<SealedBody>, HistoryError> {
        let located = query::locate(view, app, conversation, seq, 1)?;
        let edit = self.read(shard, app, conversation, located, usize::MAX)?.pop();
        // What is deleted has something else in its place.
        match edit.filter(|edit| edit.seq == seq).ok_or(HistoryError::Missing { seq })?.event {
            Event::Edited { body, .. } => Ok(body),
            _ => Err(HistoryError::Missing { seq }),
        }
    }

    /// The event; without its body if it is a message that was recalled, or an edit of one.
    fn unless_recalled(&self, view: &ShardView, event: SequencedEvent) -> Result<SequencedEvent, HistoryError> {
        let target = match &event.event {
            Event::Message { body: Some(_), .. } => event.seq,
            Event::Edited { target, body: Some(_), .. } => *target,
            _ => return Ok(event),
        };
        let annotation = query::annotation(view, &event.app, &event.conversation, target)?;
        let recalled = annotation.is_some_and(|annotation| annotation.recalled.is_some());
        Ok(if recalled { without_body(event) } else { event })
    }

    /// As [`Self::unless_recalled`], for an event that was committed a while ago.
    pub(crate) fn still(&self, event: &SequencedEvent) -> Result<SequencedEvent, HistoryError> {
        let shard = self.cluster.conversation_shard(&event.app, &event.conversation);
        let view = self.cluster.view(shard).ok_or(HistoryError::NoShard)?;
        self.unless_recalled(&view, event.clone())
    }
}

/// Who looks at a conversation, and when.
pub(crate) struct Viewer<'a> {
    user: &'a UserId,
    /// None: the app's backend, for which nothing is hidden.
    deleted: Option<Deleted>,
    now_ms: u64,
}

impl<'a> Viewer<'a> {
    /// A member, who deleted some for themselves.
    pub(crate) fn member(user: &'a UserId, deleted: Deleted, now_ms: u64) -> Self {
        Self { user, deleted: Some(deleted), now_ms }
    }

    pub(crate) fn backend(user: &'a UserId, now_ms: u64) -> Self {
        Self { user, deleted: None, now_ms }
    }

    fn sees(&self, event: &SequencedEvent) -> bool {
        let Some(deleted) = &self.deleted else { return true };
        let meant = match &event.event {
            Event::Message { author, relations: Some(relations), .. } if !relations.only_to.is_empty() => {
                author == self.user || relations.only_to.contains(self.user)
            }
            _ => true,
        };
        // An edit says what the message said.
        let edited = matches!(&event.event, Event::Edited { target, .. } if deleted.has(*target));
        meant && !edited && !deleted.has(event.seq)
    }
}

/// Whether the message's time is over, whatever has been done about it.
fn is_over(event: &SequencedEvent, now_ms: u64) -> bool {
    let Event::Message { relations: Some(relations), body: Some(_), .. } = &event.event else { return false };
    relations.expires_ms(event.time_ms).is_some_and(|at_ms| at_ms <= now_ms)
}

impl EventEncoder {
    /// The event as the viewer sees it.
    pub(crate) fn show(&self, shown: &Shown, viewer: &Viewer<'_>) -> Result<WireEvent, HistoryError> {
        let reader = viewer.user;
        if !viewer.sees(&shown.event) {
            return Ok(hidden(&shown.event.conversation, shown.event.seq, shown.event.time_ms));
        }
        if shown.now.is_none() && is_over(&shown.event, viewer.now_ms) {
            let mut event = self.open(&without_body(shown.event.clone()))?;
            if let EventContent::Message { recalled, .. } = &mut event.content {
                *recalled = Some(Recalled { by: None, expired: true });
            }
            return Ok(event);
        }
        let mut event = self.open(&shown.event)?;
        let Some(now) = &shown.now else { return Ok(event) };
        let EventContent::Message { from, body, edited_seq, recalled, reactions, pinned, .. } = &mut event.content
        else {
            return Ok(event);
        };
        if let Some((edit, sealed)) = &now.edit {
            let SequencedEvent { app, conversation, .. } = &shown.event;
            let context = BodyContext { app, conversation, author: from, client_msg_id: edit.client_msg_id };
            *body = Some(self.body(edit.seq, &context, sealed)?);
            *edited_seq = Some(edit.seq);
        }
        if let Some(recall) = &now.annotation.recalled {
            let by = (!recall.expired).then(|| recall.by.clone());
            *recalled = Some(Recalled { by, expired: recall.expired });
        }
        *reactions = now.annotation.reactions.iter().map(|reaction| summary(reaction, reader)).collect();
        *pinned = now.annotation.pinned;
        Ok(event)
    }
}

fn summary(Reaction { reaction, users }: &Reaction, reader: &UserId) -> wire::Reaction {
    wire::Reaction {
        reaction: reaction.clone(),
        count: users.len() as u64,
        users: users.iter().take(limits::REACTION_USERS_SHOWN).cloned().collect(),
        mine: users.contains(reader),
    }
}
