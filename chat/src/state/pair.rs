//! How two users stand to each other: contacts, those who want to be, who blocked whom. It lives where their private
//! conversation does, so that a block is in the order of its messages: after it is acknowledged, nothing comes any more.
//! Both users' home shards hear of every change.

use super::list::owe;
use super::overlay::{Overlay, Step, Stop, require};
use super::record::Pair;
use super::{Scope, View, done, key, sequence};
use crate::command::{Outcome, Owed, PairNews};
use crate::errors::ErrorCode;
use crate::ids::UserId;
use crate::user::{self, Contact, ContactState};

pub(super) fn ask<V: View>(work: &mut Overlay<'_, V>, scope: &Scope<'_>, text: &str) -> Step<Outcome, V> {
    require(user::check_contact_text(text).is_ok(), ErrorCode::InvalidField)?;
    let (peer, mut pair) = of_actor(work, scope)?;
    require(!pair.blocks(&peer), ErrorCode::NotAccepted)?;
    match &pair.asked_by {
        _ if pair.since_ms.is_some() => return Ok(done(true)),
        Some(asked) if asked == scope.actor => return Ok(done(true)),
        // Both want it.
        Some(_) => pair.agree(work.time_ms),
        None => {
            (pair.asked_by, pair.asked_ms) = (Some(scope.actor.clone()), work.time_ms);
            text.clone_into(&mut pair.text);
        }
    }
    change(work, scope, &peer, pair)
}

pub(super) fn answer<V: View>(work: &mut Overlay<'_, V>, scope: &Scope<'_>, accept: bool) -> Step<Outcome, V> {
    let (peer, mut pair) = of_actor(work, scope)?;
    if accept && pair.since_ms.is_some() {
        return Ok(done(true));
    }
    require(pair.asked_by.as_ref() == Some(&peer), ErrorCode::UserNotFound)?;
    if accept {
        pair.agree(work.time_ms);
    } else {
        pair.part();
    }
    change(work, scope, &peer, pair)
}

/// Contacts no longer; or the actor does not want to be one any more.
pub(super) fn part<V: View>(work: &mut Overlay<'_, V>, scope: &Scope<'_>) -> Step<Outcome, V> {
    let (peer, mut pair) = of_actor(work, scope)?;
    if pair.since_ms.is_none() && pair.asked_by.as_ref() != Some(scope.actor) {
        return Ok(done(true));
    }
    pair.part();
    change(work, scope, &peer, pair)
}

pub(super) fn block<V: View>(work: &mut Overlay<'_, V>, scope: &Scope<'_>, on: bool) -> Step<Outcome, V> {
    let (peer, mut pair) = of_actor(work, scope)?;
    if pair.blocks(scope.actor) == on {
        return Ok(done(true));
    }
    if on {
        pair.blocked_by.push((scope.actor.clone(), work.time_ms));
    } else {
        pair.blocked_by.retain(|(by, _)| by != scope.actor);
    }
    if let Some(mut conversation) = sequence::conversation(work, scope)? {
        conversation.guarded = !pair.blocked_by.is_empty();
        work.store(key::conversation(scope.app, scope.conversation), &conversation);
    }
    change(work, scope, &peer, pair)
}

/// Whether the other side takes what the actor says.
pub(super) fn may_write<V: View>(work: &Overlay<'_, V>, scope: &Scope<'_>) -> Step<(), V> {
    let (peer, pair) = of_actor(work, scope)?;
    require(!pair.blocks(&peer), ErrorCode::NotAccepted)
}

/// Whether messages have to be looked at.
pub(super) fn is_guarded<V: View>(work: &Overlay<'_, V>, scope: &Scope<'_>) -> Step<bool, V> {
    let pair: Option<Pair> = work.load(&key::pair(scope.app, scope.conversation))?;
    Ok(pair.is_some_and(|pair| !pair.blocked_by.is_empty()))
}

/// Nobody stands to themselves in any way.
fn of_actor<V: View>(work: &Overlay<'_, V>, scope: &Scope<'_>) -> Step<(UserId, Pair), V> {
    let peer = scope.conversation.peer_of(scope.actor).ok_or(Stop::Rejected(ErrorCode::NotAMember))?;
    require(peer != scope.actor, ErrorCode::InvalidField)?;
    Ok((peer.clone(), work.load(&key::pair(scope.app, scope.conversation))?.unwrap_or_default()))
}

fn change<V: View>(work: &mut Overlay<'_, V>, scope: &Scope<'_>, peer: &UserId, mut pair: Pair) -> Step<Outcome, V> {
    pair.stamp += 1;
    work.store(key::pair(scope.app, scope.conversation), &pair);
    for (user, other) in [(scope.actor, peer), (peer, scope.actor)] {
        owe(work, &Owed::Pair(pair.news(scope, user, other)))?;
    }
    Ok(done(false))
}

impl Pair {
    pub(super) fn blocks(&self, user: &UserId) -> bool {
        self.blocked_by.iter().any(|(by, _)| by == user)
    }

    fn agree(&mut self, now_ms: u64) {
        (self.asked_by, self.since_ms) = (None, Some(now_ms));
        self.text.clear();
    }

    fn part(&mut self) {
        (self.asked_by, self.since_ms) = (None, None);
        self.text.clear();
    }

    fn news(&self, scope: &Scope<'_>, user: &UserId, peer: &UserId) -> PairNews {
        let contact = |state, since_ms| {
            let (remark, tags) = Default::default();
            Contact { state, since_ms, text: self.text.clone(), remark, tags }
        };
        let contact = match (self.since_ms, &self.asked_by) {
            (Some(since_ms), _) => Some(contact(ContactState::Contact, since_ms)),
            (None, Some(asked)) if asked == user => Some(contact(ContactState::Asked, self.asked_ms)),
            (None, Some(_)) => Some(contact(ContactState::Asking, self.asked_ms)),
            (None, None) => None,
        };
        let blocked_ms = self.blocked_by.iter().find(|(by, _)| by == user).map(|(_, since_ms)| *since_ms);
        let (app, user, peer) = (scope.app.clone(), user.clone(), peer.clone());
        PairNews { app, user, peer, stamp: self.stamp, contact, blocked_ms }
    }
}

#[cfg(test)]
#[path = "pair_tests.rs"]
mod tests;
