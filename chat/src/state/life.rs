//! Messages that are for few, for a while, or that a member does not want to see any more.
//!
//! A message that ended is shown to nobody from that moment on: every reader knows from the message itself. That it is taken
//! away like a recalled one comes after, by the shard's leader.

use super::annotate::expire;
use super::overlay::{Overlay, Step, require};
use super::record::{Burning, Deleted, Expiring};
use super::{Scope, View, done, key, sequence};
use crate::command::{Original, Outcome};
use crate::errors::ErrorCode;
use crate::event::{Committed, Relations};
use crate::ids::{AppId, ConversationId};
use crate::limits;

/// Whether the actor may have a message shown so, and there is room to remember it.
pub(super) fn may_live<V: View>(work: &Overlay<'_, V>, scope: &Scope<'_>, relations: &Relations) -> Step<(), V> {
    let Relations { only_to, life, .. } = relations;
    let private = matches!(scope.conversation, ConversationId::Private(..));
    require(only_to.is_empty() || !private, ErrorCode::InvalidField)?;
    require(only_to.len() <= limits::TARGET_USERS, ErrorCode::LimitReached)?;
    let allowed = limits::EXPIRY_MS_MIN..=limits::EXPIRY_MS_MAX;
    require(life.expires_in_ms.is_none_or(|ms| allowed.contains(&ms)), ErrorCode::InvalidField)?;
    if life.burn {
        let other = scope.conversation.peer_of(scope.actor);
        require(other.is_some_and(|other| other != scope.actor), ErrorCode::InvalidField)?;
        let burning: Option<Burning> = work.load(&key::burning(scope.app, scope.conversation))?;
        let few = burning.is_none_or(|burning| burning.originals.len() < limits::BURNING);
        require(few, ErrorCode::LimitReached)?;
    }
    Ok(())
}

/// Remembers when the message ends.
pub(super) fn note<V: View>(
    work: &mut Overlay<'_, V>,
    scope: &Scope<'_>,
    relations: &Relations,
    original: Original,
) -> Step<(), V> {
    if relations.life.burn {
        let key = key::burning(scope.app, scope.conversation);
        let mut burning: Burning = work.load(&key)?.unwrap_or_default();
        burning.originals.push(original.clone());
        work.store(key, &burning);
    }
    if let Some(at_ms) = relations.expires_ms(original.time_ms) {
        let key = key::expiring(scope.app, at_ms, scope.conversation, original.seq);
        work.store(key, &Expiring { original });
    }
    Ok(())
}

/// The time of a message is over.
pub(super) fn end<V: View>(
    work: &mut Overlay<'_, V>,
    app: &AppId,
    conversation: &ConversationId,
    seq: u64,
    at_ms: u64,
) -> Step<Outcome, V> {
    let key = key::expiring(app, at_ms, conversation, seq);
    let Some(Expiring { original }) = work.load(&key)? else { return Ok(done(true)) };
    require(work.time_ms >= at_ms, ErrorCode::InvalidField)?;
    let scope = Scope { app, conversation, actor: &original.author };
    expire(work, &scope, &original)?;
    work.remove(key);
    Ok(done(false))
}

/// The actor has read up to `seq`: what the other side said until it would be read ends.
pub(super) fn burn<V: View>(work: &mut Overlay<'_, V>, scope: &Scope<'_>, seq: u64) -> Step<(), V> {
    let key = key::burning(scope.app, scope.conversation);
    let Some(burning) = work.load::<Burning>(&key)? else { return Ok(()) };
    let (over, left): (Vec<_>, Vec<_>) =
        burning.originals.into_iter().partition(|original| original.seq <= seq && original.author != *scope.actor);
    if over.is_empty() {
        return Ok(());
    }
    for original in over {
        expire(work, scope, &original)?;
    }
    match left.is_empty() {
        true => work.remove(key),
        false => work.store(key, &Burning { originals: left }),
    }
    Ok(())
}

pub(super) fn delete_for_me<V: View>(
    work: &mut Overlay<'_, V>,
    scope: &Scope<'_>,
    first: u64,
    last: u64,
) -> Step<Outcome, V> {
    let (conversation, _) = sequence::of_member(work, scope)?;
    require(1 <= first && first <= last, ErrorCode::InvalidField)?;
    require(last <= conversation.head, ErrorCode::SeqBeyondHead)?;
    let key = key::deleted(scope.app, scope.conversation, scope.actor);
    let mut deleted: Deleted = work.load(&key)?.unwrap_or_default();
    if !deleted.add(first, last) {
        return Ok(done(true));
    }
    require(deleted.ranges.len() <= limits::DELETED_RANGES, ErrorCode::LimitReached)?;
    work.store(key, &deleted);
    let (app, conversation, user) = (scope.app.clone(), scope.conversation.clone(), scope.actor.clone());
    work.emit(Committed::DeletedForMe { app, conversation, user, first, last });
    Ok(done(false))
}

#[cfg(test)]
#[path = "life_tests.rs"]
mod tests;
