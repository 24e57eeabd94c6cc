//! Ways into a group that do not begin with a member: asking, and invites.

use super::group::{self, require_group};
use super::membership::enter;
use super::overlay::{Overlay, Step, Stop, require};
use super::record::{Conversation, Invite, JoinRequest, Record};
use super::{Scope, View, done, key, made, moderation, sequence};
use crate::command::Outcome;
use crate::errors::ErrorCode;
use crate::event::{Committed, Event, Role};
use crate::group::JoinMode;
use crate::ids::UserId;
use crate::limits;

/// Any account of the app that knows the group's id may try. A group that everybody left is over: it has no owner,
/// and who came first would come into the history of people who are gone. Where an admin has to agree, the outcome has
/// no seq yet.
pub(super) fn join<V: View>(
    work: &mut Overlay<'_, V>,
    scope: &Scope<'_>,
    invite: Option<&[u8; 32]>,
    text: &str,
) -> Step<Outcome, V> {
    require_group(scope)?;
    let conversation = sequence::conversation(work, scope)?.filter(|conversation| conversation.members > 0);
    let conversation = conversation.ok_or(Stop::Rejected(ErrorCode::NotAMember))?;
    require(sequence::member(work, scope, scope.actor)?.is_none(), ErrorCode::AlreadyMember)?;
    let settings = group::settings(work, scope)?;
    // Whoever cannot know that there is such a group does not hear of it.
    require(invite.is_some() || settings.join != JoinMode::Invite, ErrorCode::NotAMember)?;
    require(!settings.dissolved, ErrorCode::GroupDissolved)?;
    require(!moderation::is_banned(work, scope, scope.actor)?, ErrorCode::Banned)?;
    require(conversation.members < settings.kind.members_max(), ErrorCode::LimitReached)?;
    match invite {
        Some(code) => spend(work, scope, code)?,
        None if settings.join == JoinMode::Approval => return ask(work, scope, text, settings.admins),
        None => {}
    }
    let read = conversation.head + 1;
    admit(work, scope, conversation, scope.actor, read)
}

fn admit<V: View>(
    work: &mut Overlay<'_, V>,
    scope: &Scope<'_>,
    mut conversation: Conversation,
    user: &UserId,
    read: u64,
) -> Step<Outcome, V> {
    enter(work, scope, &mut conversation, user, read)?;
    let event = Event::Joined { users: vec![user.clone()], by: scope.actor.clone() };
    sequence::append(work, scope, conversation, event).map(made)
}

fn ask<V: View>(
    work: &mut Overlay<'_, V>,
    scope: &Scope<'_>,
    text: &str,
    admins: impl IntoIterator<Item = UserId>,
) -> Step<Outcome, V> {
    require(text.len() <= limits::REQUEST_TEXT_BYTES, ErrorCode::InvalidField)?;
    let key = key::join_request(scope.app, scope.conversation, scope.actor);
    if work.load::<JoinRequest>(&key)?.is_some() {
        return Ok(done(true));
    }
    let waiting = work.scan(&key::join_requests(scope.app, scope.conversation), limits::GROUP_REQUESTS)?;
    require(waiting.len() < limits::GROUP_REQUESTS, ErrorCode::LimitReached)?;
    work.store(key, &JoinRequest { time_ms: work.time_ms, text: text.to_owned() });
    work.emit(Committed::JoinAsked {
        app: scope.app.clone(),
        conversation: scope.conversation.clone(),
        user: scope.actor.clone(),
        text: text.to_owned(),
        admins: admins.into_iter().collect(),
    });
    Ok(done(false))
}

/// An admin's answer to somebody who asked.
pub(super) fn answer<V: View>(
    work: &mut Overlay<'_, V>,
    scope: &Scope<'_>,
    user: &UserId,
    accept: bool,
) -> Step<Outcome, V> {
    require_group(scope)?;
    let (conversation, actor) = sequence::of_member(work, scope)?;
    require(actor.role >= Role::Admin, ErrorCode::Forbidden)?;
    let settings = group::open_settings(work, scope)?;
    require(sequence::member(work, scope, user)?.is_none(), ErrorCode::AlreadyMember)?;
    let key = key::join_request(scope.app, scope.conversation, user);
    require(work.load::<JoinRequest>(&key)?.is_some(), ErrorCode::UserNotFound)?;
    if !accept {
        work.remove(key);
        return Ok(done(false));
    }
    require(!moderation::is_banned(work, scope, user)?, ErrorCode::Banned)?;
    require(conversation.members < settings.kind.members_max(), ErrorCode::LimitReached)?;
    admit(work, scope, conversation, user, 0)
}

pub(super) fn add_invite<V: View>(
    work: &mut Overlay<'_, V>,
    scope: &Scope<'_>,
    code: &[u8; 32],
    life_ms: u64,
    uses: u32,
) -> Step<Outcome, V> {
    require_group(scope)?;
    require((1..=limits::INVITE_LIFE_MS_MAX).contains(&life_ms) && uses > 0, ErrorCode::InvalidField)?;
    let (_, actor) = sequence::of_member(work, scope)?;
    let settings = group::open_settings(work, scope)?;
    require(actor.role >= settings.rights.invite, ErrorCode::Forbidden)?;
    let key = key::invite(scope.app, scope.conversation, code);
    if work.load::<Invite>(&key)?.is_some() {
        return Ok(done(true));
    }
    let now_ms = work.time_ms;
    let mut present = work.scan(&key::invites(scope.app, scope.conversation), limits::GROUP_INVITES)?;
    present.retain(|(key, invite)| {
        let holds = Invite::from_bytes(invite).expires_ms > now_ms;
        if !holds {
            work.remove(key.clone());
        }
        holds
    });
    require(present.len() < limits::GROUP_INVITES, ErrorCode::LimitReached)?;
    work.store(key, &Invite { by: scope.actor.clone(), expires_ms: now_ms.saturating_add(life_ms), uses });
    Ok(done(false))
}

/// Who made it or an admin takes it back.
pub(super) fn revoke_invite<V: View>(
    work: &mut Overlay<'_, V>,
    scope: &Scope<'_>,
    code: &[u8; 32],
) -> Step<Outcome, V> {
    require_group(scope)?;
    let (_, actor) = sequence::of_member(work, scope)?;
    let key = key::invite(scope.app, scope.conversation, code);
    let Some(invite) = work.load::<Invite>(&key)? else { return Ok(done(true)) };
    require(actor.role >= Role::Admin || invite.by == *scope.actor, ErrorCode::Forbidden)?;
    work.remove(key);
    Ok(done(false))
}

fn spend<V: View>(work: &mut Overlay<'_, V>, scope: &Scope<'_>, code: &[u8; 32]) -> Step<(), V> {
    let key = key::invite(scope.app, scope.conversation, code);
    let invite = work.load::<Invite>(&key)?.filter(|invite| invite.expires_ms > work.time_ms);
    let mut invite = invite.ok_or(Stop::Rejected(ErrorCode::InviteInvalid))?;
    invite.uses -= 1;
    if invite.uses == 0 {
        work.remove(key);
    } else {
        work.store(key, &invite);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::query;
    use super::super::testing::{Shard, again, app, by, group, join, no, ok, user, users};
    use crate::command::ConversationCommand::{
        self, AddInvite, AnswerJoin, ChangeGroup, CreateGroup, Join, RevokeInvite,
    };
    use crate::errors::ErrorCode;
    use crate::event::{Committed, Event};
    use crate::group::{GroupChange, GroupKind, JoinMode};
    use crate::ids::ConversationId;

    fn of(kind: GroupKind) -> (Shard, ConversationId) {
        let (mut shard, g) = (Shard::default(), group(1));
        shard.act("owner", &g, CreateGroup { name: "Team".into(), members: users(&["bob"]), kind });
        (shard, g)
    }

    fn with(code: u8) -> ConversationCommand {
        Join { invite: Some([code; 32]), text: String::new() }
    }

    #[test]
    fn a_work_group_is_not_there_for_strangers_and_an_invite_lets_so_many_in() {
        let (mut shard, g) = of(GroupKind::Work);
        assert_eq!(shard.act("eve", &g, join()), no(ErrorCode::NotAMember));
        let invite = AddInvite { code: [1; 32], life_ms: 60_000, uses: 2 };
        assert_eq!(shard.act("bob", &g, invite.clone()), ok(0), "members bring others in");
        assert_eq!(shard.act("bob", &g, invite), again(0));
        assert_eq!(shard.act("eve", &g, with(2)), no(ErrorCode::InviteInvalid));
        assert_eq!(shard.act("eve", &g, with(1)), ok(2));
        assert_eq!(shard.act("eve", &g, with(1)), no(ErrorCode::AlreadyMember));
        assert_eq!(shard.act("dave", &g, with(1)), ok(3));
        assert_eq!(shard.act("frank", &g, with(1)), no(ErrorCode::InviteInvalid), "it is used up");
        assert_eq!(shard.inline(&g, 3), Event::Joined { users: users(&["dave"]), by: user("dave") });
    }

    #[test]
    fn an_invite_ends_with_its_time_or_when_it_is_taken_back() {
        let (mut shard, g) = of(GroupKind::Work);
        // The clock is 1000 times the log index.
        shard.act("bob", &g, AddInvite { code: [1; 32], life_ms: 1_500, uses: 9 });
        assert_eq!(shard.act("eve", &g, with(1)), ok(2));
        assert_eq!(shard.act("dave", &g, with(1)), no(ErrorCode::InviteInvalid));
        shard.act("owner", &g, AddInvite { code: [2; 32], life_ms: 60_000, uses: 9 });
        assert_eq!(shard.act("bob", &g, RevokeInvite { code: [2; 32] }), no(ErrorCode::Forbidden));
        assert_eq!(shard.act("owner", &g, RevokeInvite { code: [2; 32] }), ok(0));
        assert_eq!(shard.act("dave", &g, with(2)), no(ErrorCode::InviteInvalid));
    }

    #[test]
    fn where_admins_are_asked_they_hear_of_it_and_decide() {
        let (mut shard, g) = of(GroupKind::Public);
        shard.act("owner", &g, ChangeGroup { change: GroupChange::Join(JoinMode::Approval) });
        let delta = shard.entry(vec![by("eve", &g, Join { invite: None, text: "please".into() })]);
        assert_eq!(delta.outcomes, [ok(0)]);
        let [Committed::JoinAsked { user: who, text, admins, .. }] = &delta.events[..] else {
            panic!("{:?}", delta.events)
        };
        assert_eq!((who, text.as_str(), admins.as_slice()), (&user("eve"), "please", &users(&["owner"])[..]));
        assert_eq!(shard.act("eve", &g, join()), again(0));
        let waiting = query::join_requests(&shard.state, &app(), &g, None, 10).unwrap();
        assert_eq!((waiting.items.len(), waiting.items[0].0.as_str()), (1, "eve"));
        let answer = |accept| AnswerJoin { user: user("eve"), accept };
        assert_eq!(shard.act("bob", &g, answer(true)), no(ErrorCode::Forbidden));
        assert_eq!(shard.act("owner", &g, answer(false)), ok(0));
        assert_eq!(shard.act("owner", &g, answer(true)), no(ErrorCode::UserNotFound));
        shard.act("eve", &g, join());
        assert_eq!(shard.act("owner", &g, answer(true)), ok(3));
        assert_eq!(shard.inline(&g, 3), Event::Joined { users: users(&["eve"]), by: user("owner") });
        assert!(query::join_requests(&shard.state, &app(), &g, None, 10).unwrap().items.is_empty());
    }
}
