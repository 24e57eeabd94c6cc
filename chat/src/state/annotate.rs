//! What becomes of messages: edits, recalls, reactions and pins. Each is an event of its own, and one record per changed
//! message says how it stands.
//!
//! A recall takes the message out of the index: what is left is an event without a body. So no reader can find the body any
//! more, whatever it asks for, and the log record that holds it can go.

use super::message::first_use;
use super::overlay::{Overlay, Step, Stop, require};
use super::record::{Annotation, Conversation, Edit, InlineEvent, Member, Pins, Reaction, Recall, Slot};
use super::{Scope, View, done, key, made, moderation, sequence};
use crate::app::is_system;
use crate::command::{Original, Outcome};
use crate::errors::ErrorCode;
use crate::event::{BodyKind, Event, Role, SealedBody};
use crate::ids::{AppId, ClientMsgId, ConversationId, UserId};
use crate::limits;
use crate::text;

/// Annotations looked at in one go.
const TRIM_STEP: usize = 64;

pub(super) fn edit<V: View>(
    work: &mut Overlay<'_, V>,
    scope: &Scope<'_>,
    original: &Original,
    client_msg_id: ClientMsgId,
    digest: [u8; 16],
    body: &SealedBody,
) -> Step<Outcome, V> {
    let id = match first_use(work, scope, client_msg_id, digest)? {
        Ok(id) => id,
        Err(outcome) => return Ok(outcome),
    };
    let (conversation, member) = sequence::of_member(work, scope)?;
    moderation::may_touch(work, scope, &conversation, &member)?;
    let mut annotation = of_message(work, scope, original.seq)?;
    require(original.author == *scope.actor, ErrorCode::Forbidden)?;
    require(annotation.recalled.is_none(), ErrorCode::MessageRecalled)?;
    let same_kind = body.kind == original.kind && body.kind != BodyKind::Merged;
    require(same_kind && !original.fixed, ErrorCode::InvalidField)?;
    require(age(work, original) <= limits::EDIT_WINDOW_MS.min(original.window_ms), ErrorCode::TooLate)?;
    require(annotation.edits.len() < limits::EDITS, ErrorCode::LimitReached)?;
    annotation.edits.push(Edit { seq: conversation.head + 1, time_ms: work.time_ms, client_msg_id });
    store(work, scope, original.seq, &annotation);
    let (target, by, body) = (original.seq, scope.actor.clone(), Some(body.clone()));
    let seq = happen(work, scope, conversation, member, Event::Edited { target, by, client_msg_id, body })?;
    id.keep(work, scope, seq);
    Ok(made(seq))
}

/// By the author for a while, by those who run a group at any time.
pub(super) fn recall<V: View>(work: &mut Overlay<'_, V>, scope: &Scope<'_>, original: &Original) -> Step<Outcome, V> {
    let (conversation, member) = sequence::of_member(work, scope)?;
    let annotation = of_message(work, scope, original.seq)?;
    if let Some(Recall { seq, .. }) = annotation.recalled {
        return Ok(Outcome::Applied { seq, duplicate: true });
    }
    if !runs_group(scope, &member) && !is_system(scope.actor) {
        require(original.author == *scope.actor, ErrorCode::Forbidden)?;
        require(age(work, original) <= limits::RECALL_WINDOW_MS.min(original.window_ms), ErrorCode::TooLate)?;
    }
    let by = scope.actor.clone();
    let recall = Recall { seq: conversation.head + 1, by: by.clone(), expired: false };
    take_away(work, scope, original, annotation, recall)?;
    happen(work, scope, conversation, member, Event::Recalled { target: original.seq, by }).map(made)
}

/// The message was for a while. One that is gone already ends no more.
pub(super) fn expire<V: View>(work: &mut Overlay<'_, V>, scope: &Scope<'_>, original: &Original) -> Step<(), V> {
    let annotation = match of_message(work, scope, original.seq) {
        Ok(annotation) if annotation.recalled.is_none() => annotation,
        Ok(_) | Err(Stop::Rejected(_)) => return Ok(()),
        Err(error) => return Err(error),
    };
    let Some(conversation) = sequence::conversation(work, scope)? else { return Ok(()) };
    let recall = Recall { seq: conversation.head + 1, by: original.author.clone(), expired: true };
    take_away(work, scope, original, annotation, recall)?;
    sequence::append(work, scope, conversation, Event::Expired { target: original.seq }).map(drop)
}

/// What else was said of the message goes with it.
fn take_away<V: View>(
    work: &mut Overlay<'_, V>,
    scope: &Scope<'_>,
    original: &Original,
    mut annotation: Annotation,
    recall: Recall,
) -> Step<(), V> {
    withhold(work, scope, original, &annotation.edits)?;
    if annotation.pinned {
        let mut pins = pins(work, scope)?;
        pins.seqs.retain(|seq| *seq != original.seq);
        work.store(key::pins(scope.app, scope.conversation), &pins);
    }
    annotation.recalled = Some(recall);
    (annotation.reactions, annotation.pinned) = (Vec::new(), false);
    store(work, scope, original.seq, &annotation);
    Ok(())
}

pub(super) fn react<V: View>(
    work: &mut Overlay<'_, V>,
    scope: &Scope<'_>,
    target: u64,
    reaction: &str,
    on: bool,
) -> Step<Outcome, V> {
    require(text::check_reaction(reaction).is_ok(), ErrorCode::InvalidField)?;
    let (conversation, member) = sequence::of_member(work, scope)?;
    moderation::may_touch(work, scope, &conversation, &member)?;
    let mut annotation = of_message(work, scope, target)?;
    require(annotation.recalled.is_none(), ErrorCode::MessageRecalled)?;
    let place = annotation.reactions.iter().position(|known| known.reaction == reaction);
    let users = place.and_then(|place| annotation.reactions.get(place)).map_or(&[][..], |known| &known.users);
    if users.contains(scope.actor) == on {
        return Ok(done(true));
    }
    if on {
        let all: usize = annotation.reactions.iter().map(|known| known.users.len()).sum();
        require(all < limits::REACTIONS, ErrorCode::LimitReached)?;
        set_reaction(&mut annotation, place, reaction, scope.actor)?;
    } else {
        annotation.reactions.iter_mut().for_each(|known| {
            if known.reaction == reaction {
                known.users.retain(|user| user != scope.actor);
            }
        });
        annotation.reactions.retain(|known| !known.users.is_empty());
    }
    store(work, scope, target, &annotation);
    let event = Event::Reacted { target, by: scope.actor.clone(), reaction: reaction.to_owned(), on };
    happen(work, scope, conversation, member, event).map(made)
}

fn set_reaction<E>(
    annotation: &mut Annotation,
    place: Option<usize>,
    reaction: &str,
    user: &UserId,
) -> Result<(), Stop<E>> {
    match place.and_then(|place| annotation.reactions.get_mut(place)) {
        Some(known) => known.users.push(user.clone()),
        None => {
            require(annotation.reactions.len() < limits::REACTION_KINDS, ErrorCode::LimitReached)?;
            annotation.reactions.push(Reaction { reaction: reaction.to_owned(), users: vec![user.clone()] });
        }
    }
    Ok(())
}

/// In a private conversation both may, in a group those who run it.
pub(super) fn pin<V: View>(work: &mut Overlay<'_, V>, scope: &Scope<'_>, target: u64, on: bool) -> Step<Outcome, V> {
    let (conversation, member) = sequence::of_member(work, scope)?;
    moderation::may_touch(work, scope, &conversation, &member)?;
    let private = matches!(scope.conversation, ConversationId::Private(..));
    require(private || runs_group(scope, &member), ErrorCode::Forbidden)?;
    let mut annotation = of_message(work, scope, target)?;
    require(annotation.recalled.is_none(), ErrorCode::MessageRecalled)?;
    if annotation.pinned == on {
        return Ok(done(true));
    }
    let mut pins = pins(work, scope)?;
    if on {
        require(pins.seqs.len() < limits::PINS, ErrorCode::LimitReached)?;
        pins.seqs.push(target);
    } else {
        pins.seqs.retain(|seq| *seq != target);
    }
    work.store(key::pins(scope.app, scope.conversation), &pins);
    annotation.pinned = on;
    store(work, scope, target, &annotation);
    let by = scope.actor.clone();
    let event = if on { Event::Pinned { target, by } } else { Event::Unpinned { target, by } };
    happen(work, scope, conversation, member, event).map(made)
}

/// Events below `oldest_seq` are deleted, and what became of them.
pub(super) fn trim<V: View>(
    work: &mut Overlay<'_, V>,
    app: &AppId,
    conversation: &ConversationId,
    oldest_seq: u64,
) -> Step<(), V> {
    let prefix = key::annotations(app, conversation);
    loop {
        let found = work.scan(&prefix, TRIM_STEP)?;
        let old = |key: &[u8]| key::parse_annotation(key, &prefix).is_some_and(|seq| seq < oldest_seq);
        let gone: Vec<_> = found.into_iter().map(|(key, _)| key).take_while(|key| old(key)).collect();
        let last = gone.len() < TRIM_STEP;
        gone.into_iter().for_each(|key| work.remove(key));
        if last {
            break;
        }
    }
    let key = key::pins(app, conversation);
    let Some(mut pins) = work.load::<Pins>(&key)? else { return Ok(()) };
    let before = pins.seqs.len();
    pins.seqs.retain(|seq| *seq >= oldest_seq);
    if pins.seqs.len() < before {
        work.store(key, &pins);
    }
    Ok(())
}

/// What became of the message at `seq`, which is kept, or was until it was recalled.
fn of_message<V: View>(work: &Overlay<'_, V>, scope: &Scope<'_>, seq: u64) -> Step<Annotation, V> {
    let slot = sequence::kept(work, scope, seq)?;
    let annotation: Option<Annotation> = work.load(&key::annotation(scope.app, scope.conversation, seq))?;
    let recalled = annotation.as_ref().is_some_and(|annotation| annotation.recalled.is_some());
    require(recalled || matches!(slot, Slot::Message { .. }), ErrorCode::EventNotFound)?;
    Ok(annotation.unwrap_or_default())
}

fn store<V: View>(work: &mut Overlay<'_, V>, scope: &Scope<'_>, seq: u64, annotation: &Annotation) {
    work.store(key::annotation(scope.app, scope.conversation, seq), annotation);
}

fn pins<V: View>(work: &Overlay<'_, V>, scope: &Scope<'_>) -> Step<Pins, V> {
    Ok(work.load(&key::pins(scope.app, scope.conversation))?.unwrap_or_default())
}

fn runs_group(scope: &Scope<'_>, member: &Member) -> bool {
    matches!(scope.conversation, ConversationId::Group(_)) && member.role >= Role::Admin
}

fn age<V: View>(work: &Overlay<'_, V>, original: &Original) -> u64 {
    work.time_ms.saturating_sub(original.time_ms)
}

/// Puts events without bodies in the place of a message and its edits.
fn withhold<V: View>(work: &mut Overlay<'_, V>, scope: &Scope<'_>, original: &Original, edits: &[Edit]) -> Step<(), V> {
    let Original { seq, author, client_msg_id, time_ms, .. } = original.clone();
    let message = Event::Message { author: author.clone(), client_msg_id, body: None, relations: None };
    replace(work, scope, seq, InlineEvent { time_ms, event: message })?;
    for Edit { seq: edited, time_ms, client_msg_id } in edits.iter().copied() {
        let event = Event::Edited { target: seq, by: author.clone(), client_msg_id, body: None };
        replace(work, scope, edited, InlineEvent { time_ms, event })?;
    }
    Ok(())
}

fn replace<V: View>(work: &mut Overlay<'_, V>, scope: &Scope<'_>, seq: u64, event: InlineEvent) -> Step<(), V> {
    let (page, place) = key::page_of(seq);
    let page = work.page(key::index_page(scope.app, scope.conversation, page))?;
    let slot = page.slots.get_mut(place).expect("a kept event has its slot");
    *slot = Slot::Inline;
    work.store(key::inline(scope.app, scope.conversation, seq), &event);
    Ok(())
}

/// The conversation's next event. Who had read everything need not read what they did themselves.
fn happen<V: View>(
    work: &mut Overlay<'_, V>,
    scope: &Scope<'_>,
    conversation: Conversation,
    mut member: Member,
    event: Event,
) -> Step<u64, V> {
    if member.read == conversation.head {
        member.read += 1;
        sequence::store_member(work, scope, scope.actor, &member);
    }
    sequence::append(work, scope, conversation, event)
}

#[cfg(test)]
#[path = "annotate_tests.rs"]
mod tests;
