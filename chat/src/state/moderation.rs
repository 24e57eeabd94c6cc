//! Who may speak, and who may be there at all.

use super::group::{self, require_group};
use super::membership::part;
use super::overlay::{Overlay, Step, Stop, require};
use super::record::{Ban, Conversation, Member};
use super::{Scope, View, done, key, made, pair, sequence};
use crate::command::Outcome;
use crate::errors::ErrorCode;
use crate::event::{Event, Role};
use crate::ids::{ConversationId, UserId};
use crate::limits;

/// For good.
const EVER: u64 = u64::MAX;

/// Whether a message of this member is taken now. Notes when it was, where that counts.
pub(super) fn may_speak<V: View>(
    work: &Overlay<'_, V>,
    scope: &Scope<'_>,
    conversation: &Conversation,
    member: &mut Member,
) -> Step<(), V> {
    require(member.muted_until_ms <= work.time_ms, ErrorCode::Muted)?;
    if !conversation.guarded {
        return Ok(());
    }
    if matches!(scope.conversation, ConversationId::Private(..)) {
        return pair::may_write(work, scope);
    }
    let settings = group::open_settings(work, scope)?;
    require(member.role >= settings.rights.send, ErrorCode::Forbidden)?;
    if member.role >= Role::Admin {
        return Ok(());
    }
    require(!settings.mute_all, ErrorCode::Muted)?;
    if settings.slow_mode_ms > 0 {
        let again = member.spoke_ms.saturating_add(settings.slow_mode_ms);
        require(member.spoke_ms == 0 || work.time_ms >= again, ErrorCode::SlowMode)?;
        member.spoke_ms = work.time_ms;
    }
    Ok(())
}

/// Whether this member may say something about a message, which is speaking too.
pub(super) fn may_touch<V: View>(
    work: &Overlay<'_, V>,
    scope: &Scope<'_>,
    conversation: &Conversation,
    member: &Member,
) -> Step<(), V> {
    require(member.muted_until_ms <= work.time_ms, ErrorCode::Muted)?;
    if conversation.guarded {
        if matches!(scope.conversation, ConversationId::Private(..)) {
            return pair::may_write(work, scope);
        }
        let settings = group::open_settings(work, scope)?;
        require(member.role >= Role::Admin || !settings.mute_all, ErrorCode::Muted)?;
    }
    Ok(())
}

pub(super) fn is_banned<V: View>(work: &Overlay<'_, V>, scope: &Scope<'_>, user: &UserId) -> Step<bool, V> {
    let ban = work.load::<Ban>(&key::ban(scope.app, scope.conversation, user))?;
    Ok(ban.is_some_and(|ban| ban.until_ms > work.time_ms))
}

/// An admin of a group that is not over, and the group.
fn moderator<V: View>(work: &Overlay<'_, V>, scope: &Scope<'_>) -> Step<(Conversation, Member), V> {
    require_group(scope)?;
    let (conversation, actor) = sequence::of_member(work, scope)?;
    require(actor.role >= Role::Admin, ErrorCode::Forbidden)?;
    group::open_settings(work, scope)?;
    Ok((conversation, actor))
}

/// When a sentence that begins now ends.
fn ends<E>(now_ms: u64, duration_ms: Option<u64>) -> Result<u64, Stop<E>> {
    let Some(duration_ms) = duration_ms else { return Ok(EVER) };
    require((1..=limits::SENTENCE_MS_MAX).contains(&duration_ms), ErrorCode::InvalidField)?;
    Ok(now_ms.saturating_add(duration_ms))
}

/// As clients see it.
pub(super) fn shown(until_ms: u64) -> Option<u64> {
    (until_ms != EVER).then_some(until_ms)
}

/// A ban is a barrier as any removal is: what comes after it does not reach the user, and the user does not come back.
pub(super) fn ban<V: View>(
    work: &mut Overlay<'_, V>,
    scope: &Scope<'_>,
    user: &UserId,
    duration_ms: Option<u64>,
) -> Step<Outcome, V> {
    let (mut conversation, actor) = moderator(work, scope)?;
    let until_ms = ends(work.time_ms, duration_ms)?;
    let member = sequence::member(work, scope, user)?;
    require(member.is_none_or(|member| actor.role > member.role), ErrorCode::Forbidden)?;
    let key = key::ban(scope.app, scope.conversation, user);
    match work.load::<Ban>(&key)? {
        Some(present) if present.until_ms == until_ms && member.is_none() => return Ok(done(true)),
        Some(_) => {}
        None => {
            let banned = work.scan(&key::bans(scope.app, scope.conversation), limits::GROUP_BANS)?;
            require(banned.len() < limits::GROUP_BANS || make_room(work, &banned), ErrorCode::LimitReached)?;
        }
    }
    work.store(key, &Ban { until_ms, by: scope.actor.clone() });
    if member.is_some() {
        part(work, scope, &mut conversation, user)?;
    }
    let event = Event::Banned { user: user.clone(), until_ms: shown(until_ms), by: scope.actor.clone() };
    sequence::append(work, scope, conversation, event).map(made)
}

/// Bans that are over make room for others. Whether there were any.
fn make_room<V: View>(work: &mut Overlay<'_, V>, banned: &[(bytes::Bytes, bytes::Bytes)]) -> bool {
    let now_ms = work.time_ms;
    let over = banned.iter().filter(|(_, ban)| <Ban as super::record::Record>::from_bytes(ban).until_ms <= now_ms);
    let over: Vec<bytes::Bytes> = over.map(|(key, _)| key.clone()).collect();
    let any = !over.is_empty();
    over.into_iter().for_each(|key| work.remove(key));
    any
}

pub(super) fn unban<V: View>(work: &mut Overlay<'_, V>, scope: &Scope<'_>, user: &UserId) -> Step<Outcome, V> {
    let (conversation, _) = moderator(work, scope)?;
    let key = key::ban(scope.app, scope.conversation, user);
    if work.load::<Ban>(&key)?.is_none() {
        return Ok(done(true));
    }
    work.remove(key);
    let event = Event::Unbanned { user: user.clone(), by: scope.actor.clone() };
    sequence::append(work, scope, conversation, event).map(made)
}

pub(super) fn mute<V: View>(
    work: &mut Overlay<'_, V>,
    scope: &Scope<'_>,
    user: &UserId,
    duration_ms: Option<u64>,
) -> Step<Outcome, V> {
    let (conversation, actor) = moderator(work, scope)?;
    let until_ms = ends(work.time_ms, duration_ms)?;
    let mut member = sequence::member(work, scope, user)?.ok_or(Stop::Rejected(ErrorCode::UserNotFound))?;
    require(actor.role > member.role, ErrorCode::Forbidden)?;
    if member.muted_until_ms == until_ms {
        return Ok(done(true));
    }
    member.muted_until_ms = until_ms;
    sequence::store_member(work, scope, user, &member);
    let event = Event::Muted { user: user.clone(), until_ms: shown(until_ms), by: scope.actor.clone() };
    sequence::append(work, scope, conversation, event).map(made)
}

pub(super) fn unmute<V: View>(work: &mut Overlay<'_, V>, scope: &Scope<'_>, user: &UserId) -> Step<Outcome, V> {
    let (conversation, actor) = moderator(work, scope)?;
    let mut member = sequence::member(work, scope, user)?.ok_or(Stop::Rejected(ErrorCode::UserNotFound))?;
    require(actor.role > member.role, ErrorCode::Forbidden)?;
    if member.muted_until_ms <= work.time_ms {
        return Ok(done(true));
    }
    member.muted_until_ms = 0;
    sequence::store_member(work, scope, user, &member);
    let event = Event::Unmuted { user: user.clone(), by: scope.actor.clone() };
    sequence::append(work, scope, conversation, event).map(made)
}

#[cfg(test)]
mod tests {
    use super::super::query;
    use super::super::testing::{Shard, again, app, create, group, join, no, ok, send, user};
    use crate::command::ConversationCommand::{
        Ban, ChangeGroup, Dissolve, Invite, Leave, Mute, React, SetRole, Unban, Unmute,
    };
    use crate::errors::ErrorCode;
    use crate::event::Role;
    use crate::group::GroupChange::{self, MuteAll, SlowModeMs};
    use crate::ids::ConversationId;

    fn team() -> (Shard, ConversationId) {
        let (mut shard, g) = (Shard::default(), group(1));
        shard.act("owner", &g, create("Team", &["admin", "bob", "carol"]));
        shard.act("owner", &g, SetRole { user: user("admin"), role: Role::Admin });
        (shard, g)
    }

    fn change(change: GroupChange) -> crate::command::ConversationCommand {
        ChangeGroup { change }
    }

    fn is_member(shard: &Shard, g: &ConversationId, name: &str) -> bool {
        query::role(&shard.state, &app(), g, &user(name)).unwrap().is_some()
    }

    #[test]
    fn the_banned_are_out_at_once_and_come_back_when_the_ban_is_over() {
        let (mut shard, g) = team();
        let ban = |name: &str, duration_ms| Ban { user: user(name), duration_ms };
        assert_eq!(shard.act("bob", &g, ban("carol", None)), no(ErrorCode::Forbidden));
        assert_eq!(shard.act("admin", &g, ban("owner", None)), no(ErrorCode::Forbidden));
        // The clock is 1000 times the log index.
        assert_eq!(shard.act("admin", &g, ban("bob", Some(3_500))), ok(3));
        assert!(!is_member(&shard, &g, "bob"));
        assert_eq!(shard.act("bob", &g, send(1, "hi")), no(ErrorCode::NotAMember));
        assert_eq!(shard.act("bob", &g, join()), no(ErrorCode::Banned));
        assert_eq!(shard.act("owner", &g, Invite { users: vec![user("bob")] }), no(ErrorCode::Banned));
        assert_eq!(shard.act("bob", &g, join()), ok(4), "it is over");
        assert_eq!(shard.act("admin", &g, ban("eve", None)), ok(5), "also before she comes");
        assert_eq!(shard.act("admin", &g, ban("eve", None)), again(0));
        assert_eq!(shard.act("eve", &g, join()), no(ErrorCode::Banned));
        assert_eq!(shard.act("admin", &g, Unban { user: user("eve") }), ok(6));
        assert_eq!(shard.act("admin", &g, Unban { user: user("eve") }), again(0));
        assert_eq!(shard.act("eve", &g, join()), ok(7));
        assert_eq!(shard.act("admin", &g, ban("eve", Some(0))), no(ErrorCode::InvalidField));
    }

    #[test]
    fn the_muted_read_and_do_not_speak_also_when_they_leave_and_come_back() {
        let (mut shard, g) = team();
        assert_eq!(shard.act("admin", &g, Mute { user: user("bob"), duration_ms: None }), ok(3));
        assert_eq!(shard.act("bob", &g, send(1, "hi")), no(ErrorCode::Muted));
        assert_eq!(shard.act("bob", &g, Leave), ok(4));
        assert_eq!(shard.act("bob", &g, join()), ok(5));
        assert_eq!(shard.act("bob", &g, send(1, "hi")), no(ErrorCode::Muted));
        assert_eq!(shard.act("admin", &g, Unmute { user: user("bob") }), ok(6));
        assert_eq!(shard.act("bob", &g, send(1, "hi")), ok(7));
        assert_eq!(shard.act("admin", &g, Mute { user: user("owner"), duration_ms: None }), no(ErrorCode::Forbidden));
        assert_eq!(shard.act("admin", &g, Mute { user: user("eve"), duration_ms: None }), no(ErrorCode::UserNotFound));
    }

    #[test]
    fn the_muted_say_nothing_about_messages_either() {
        let (mut shard, g) = team();
        assert_eq!(shard.act("bob", &g, send(1, "hi")), ok(3));
        assert_eq!(shard.act("admin", &g, Mute { user: user("bob"), duration_ms: None }), ok(4));
        let react = |on| React { seq: 3, reaction: "+1".into(), on };
        assert_eq!(shard.act("bob", &g, react(true)), no(ErrorCode::Muted));
        assert_eq!(shard.act("carol", &g, react(true)), ok(5));
        assert_eq!(shard.act("owner", &g, Dissolve), ok(6));
        assert_eq!(shard.act("carol", &g, react(false)), no(ErrorCode::GroupDissolved));
    }

    #[test]
    fn mute_all_and_slow_mode_hold_back_members_and_not_admins() {
        let (mut shard, g) = team();
        assert_eq!(shard.act("bob", &g, change(MuteAll(true))), no(ErrorCode::Forbidden));
        assert_eq!(shard.act("admin", &g, change(MuteAll(true))), ok(3));
        assert_eq!(shard.act("bob", &g, send(1, "hi")), no(ErrorCode::Muted));
        assert_eq!(shard.act("admin", &g, send(1, "hi")), ok(4));
        assert_eq!(shard.act("admin", &g, change(MuteAll(false))), ok(5));
        assert_eq!(shard.act("admin", &g, change(SlowModeMs(2_500))), ok(6));
        assert_eq!(shard.act("bob", &g, send(1, "hi")), ok(7));
        assert_eq!(shard.act("bob", &g, send(2, "hi")), no(ErrorCode::SlowMode));
        assert_eq!(shard.act("bob", &g, send(1, "hi")), again(7), "a repetition is none");
        assert_eq!(shard.act("bob", &g, send(2, "hi")), ok(8));
        assert_eq!(shard.act("admin", &g, send(2, "hi")), ok(9));
        assert_eq!(shard.act("admin", &g, send(3, "hi")), ok(10));
    }

    #[test]
    fn a_dissolved_group_takes_nothing_and_everybody_may_go() {
        let (mut shard, g) = team();
        assert_eq!(shard.act("admin", &g, Dissolve), no(ErrorCode::Forbidden));
        assert_eq!(shard.act("owner", &g, Dissolve), ok(3));
        assert_eq!(shard.act("owner", &g, Dissolve), again(0));
        for command in [send(1, "hi"), change(MuteAll(true)), Mute { user: user("bob"), duration_ms: None }] {
            assert_eq!(shard.act("owner", &g, command), no(ErrorCode::GroupDissolved));
        }
        assert_eq!(shard.act("eve", &g, join()), no(ErrorCode::GroupDissolved));
        assert_eq!(shard.act("owner", &g, Leave), ok(4));
        assert_eq!(shard.act("bob", &g, Leave), ok(5));
    }
}
