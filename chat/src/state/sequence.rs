//! Events get their place: the next seq, a slot in the index, a link in the digest.

use super::key::{self, page_of};
use super::overlay::{Overlay, Step, require};
use super::record::{Conversation, Floor, InlineEvent, Member, Slot, chain_digest};
use super::{Scope, Stop, View};
use crate::app::is_system;
use crate::command::ConversationCommand;
use crate::errors::ErrorCode;
use crate::event::{Committed, Event, Role, SequencedEvent};
use crate::ids::{ConversationId, UserId};

pub(super) fn conversation<V: View>(work: &Overlay<'_, V>, scope: &Scope<'_>) -> Step<Option<Conversation>, V> {
    work.load(&key::conversation(scope.app, scope.conversation))
}

pub(super) fn member<V: View>(work: &Overlay<'_, V>, scope: &Scope<'_>, user: &UserId) -> Step<Option<Member>, V> {
    work.load(&key::member(scope.app, scope.conversation, user))
}

/// The conversation and the actor's membership, or `NotAMember`.
pub(super) fn of_member<V: View>(work: &Overlay<'_, V>, scope: &Scope<'_>) -> Step<(Conversation, Member), V> {
    let member = match is_visitor(scope, scope.actor) {
        true => Some(Member::new(Role::Owner, 1, 0)),
        false => member(work, scope, scope.actor)?,
    };
    let (Some(conversation), Some(member)) = (conversation(work, scope)?, member) else {
        return Err(Stop::Rejected(ErrorCode::NotAMember));
    };
    Ok((conversation, member))
}

/// The app itself, where it is no member: in a group it may what the owner may, in its users' private conversations recall.
fn is_visitor(scope: &Scope<'_>, user: &UserId) -> bool {
    is_system(user) && scope.conversation.peer_of(user).is_none()
}

/// What only a member can do, or become, the app cannot.
pub(super) fn require_for_system<E>(scope: &Scope<'_>, command: &ConversationCommand) -> Result<(), Stop<E>> {
    let group = matches!(scope.conversation, ConversationId::Group(_));
    let fit = match command {
        ConversationCommand::Recall { .. } => true,
        ConversationCommand::Send { .. }
        | ConversationCommand::Invite { .. }
        | ConversationCommand::Kick { .. }
        | ConversationCommand::SetRole { .. }
        | ConversationCommand::ChangeGroup { .. }
        | ConversationCommand::Ban { .. }
        | ConversationCommand::Unban { .. }
        | ConversationCommand::Mute { .. }
        | ConversationCommand::Unmute { .. }
        | ConversationCommand::Dissolve => group,
        _ => false,
    };
    require(fit || !is_visitor(scope, scope.actor), ErrorCode::Forbidden)
}

pub(super) fn store_member<V: View>(work: &mut Overlay<'_, V>, scope: &Scope<'_>, user: &UserId, member: &Member) {
    if is_visitor(scope, user) {
        return;
    }
    work.store(key::member(scope.app, scope.conversation, user), member);
}

/// Where the event at `seq` is, which must be kept.
pub(super) fn kept<V: View>(work: &Overlay<'_, V>, scope: &Scope<'_>, seq: u64) -> Step<Slot, V> {
    let floor: Floor = work.load(&key::floor(scope.app, scope.conversation))?.unwrap_or_default();
    let (page, place) = page_of(seq);
    // Past the head there is no slot.
    let slot = match seq >= floor.oldest_seq {
        true => work.slot(&key::index_page(scope.app, scope.conversation, page), place)?,
        false => None,
    };
    slot.ok_or(Stop::Rejected(ErrorCode::EventNotFound))
}

/// Makes `event` the conversation's next one and stores the conversation.
pub(super) fn append<V: View>(
    work: &mut Overlay<'_, V>,
    scope: &Scope<'_>,
    mut conversation: Conversation,
    event: Event,
) -> Step<u64, V> {
    let (seq, time_ms) = (conversation.head + 1, work.time_ms);
    let slot = match &event {
        Event::Message { .. } => Slot::Message { log_index: work.log_index, position: work.position },
        Event::Edited { .. } => Slot::Edit { log_index: work.log_index, position: work.position },
        _ => {
            let inline = InlineEvent { time_ms, event: event.clone() };
            work.store(key::inline(scope.app, scope.conversation, seq), &inline);
            Slot::Inline
        }
    };
    let (page, place) = page_of(seq);
    let page = work.page(key::index_page(scope.app, scope.conversation, page))?;
    assert_eq!(page.slots.len(), place, "the index has a slot for every seq up to the head");
    page.slots.push(slot);
    conversation.head = seq;
    conversation.digest = chain_digest(&conversation.digest, seq, time_ms, &event);
    work.store(key::conversation(scope.app, scope.conversation), &conversation);
    let (app, conversation) = (scope.app.clone(), scope.conversation.clone());
    work.emit(Committed::Sequenced(SequencedEvent { app, conversation, seq, time_ms, event }));
    Ok(seq)
}
