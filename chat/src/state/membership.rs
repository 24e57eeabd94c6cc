//! Members come and go. Each change takes one seq: what comes later does not reach those who left before it.

use super::group::{self, others, require_group};
use super::overlay::{Overlay, Step, Stop, require};
use super::record::{Conversation, JoinRequest, Member, MutedLeaver, Nickname};
use super::{Scope, View, done, key, list, made, moderation, sequence};
use crate::command::Outcome;
use crate::errors::ErrorCode;
use crate::event::{Event, Role};
use crate::ids::UserId;
use crate::limits;
use crate::text;

pub(super) fn leave<V: View>(work: &mut Overlay<'_, V>, scope: &Scope<'_>) -> Step<Outcome, V> {
    require_group(scope)?;
    let (mut conversation, member) = sequence::of_member(work, scope)?;
    let may_go = member.role != Role::Owner || conversation.members == 1 || group::settings(work, scope)?.dissolved;
    require(may_go, ErrorCode::OwnerMustStay)?;
    part(work, scope, &mut conversation, scope.actor)?;
    let event = Event::Left { user: scope.actor.clone() };
    sequence::append(work, scope, conversation, event).map(made)
}

/// All of the new ones come in, or none if they are too many.
pub(super) fn invite<V: View>(work: &mut Overlay<'_, V>, scope: &Scope<'_>, users: &[UserId]) -> Step<Outcome, V> {
    require_group(scope)?;
    require(!users.is_empty(), ErrorCode::InvalidField)?;
    require(users.len() <= limits::INVITE_USERS, ErrorCode::LimitReached)?;
    let (mut conversation, actor) = sequence::of_member(work, scope)?;
    let settings = group::open_settings(work, scope)?;
    require(actor.role >= settings.rights.invite, ErrorCode::Forbidden)?;
    let mut new = Vec::new();
    for user in others(scope, users) {
        if sequence::member(work, scope, &user)?.is_none() {
            require(!moderation::is_banned(work, scope, &user)?, ErrorCode::Banned)?;
            new.push(user);
        }
    }
    require(!new.is_empty(), ErrorCode::AlreadyMember)?;
    require(conversation.members + new.len() as u64 <= settings.kind.members_max(), ErrorCode::LimitReached)?;
    for user in &new {
        enter(work, scope, &mut conversation, user, 0)?;
    }
    let event = Event::Joined { users: new, by: scope.actor.clone() };
    sequence::append(work, scope, conversation, event).map(made)
}

/// The actor's role must be higher than that of the member to go.
pub(super) fn kick<V: View>(work: &mut Overlay<'_, V>, scope: &Scope<'_>, user: &UserId) -> Step<Outcome, V> {
    require_group(scope)?;
    let (mut conversation, actor) = sequence::of_member(work, scope)?;
    require(actor.role >= Role::Admin, ErrorCode::Forbidden)?;
    let member = sequence::member(work, scope, user)?.ok_or(Stop::Rejected(ErrorCode::UserNotFound))?;
    require(actor.role > member.role, ErrorCode::Forbidden)?;
    part(work, scope, &mut conversation, user)?;
    let event = Event::Kicked { user: user.clone(), by: scope.actor.clone() };
    sequence::append(work, scope, conversation, event).map(made)
}

/// A name of one's own in the group; none takes it away.
pub(super) fn set_nickname<V: View>(
    work: &mut Overlay<'_, V>,
    scope: &Scope<'_>,
    nickname: Option<&str>,
) -> Step<Outcome, V> {
    require_group(scope)?;
    require(nickname.is_none_or(|name| text::check_name(name).is_ok()), ErrorCode::InvalidField)?;
    let (conversation, _) = sequence::of_member(work, scope)?;
    group::open_settings(work, scope)?;
    let key = key::nickname(scope.app, scope.conversation, scope.actor);
    let present = work.load::<Nickname>(&key)?.map(|stored| stored.nickname);
    if present.as_deref() == nickname {
        return Ok(done(true));
    }
    match nickname {
        Some(nickname) => work.store(key, &Nickname { nickname: nickname.to_owned() }),
        None => work.remove(key),
    }
    let event = Event::NicknameChanged { user: scope.actor.clone(), nickname: nickname.map(str::to_owned) };
    sequence::append(work, scope, conversation, event).map(made)
}

/// `user` becomes a member by the event that comes next.
pub(super) fn enter<V: View>(
    work: &mut Overlay<'_, V>,
    scope: &Scope<'_>,
    conversation: &mut Conversation,
    user: &UserId,
    read: u64,
) -> Step<(), V> {
    let joined = conversation.head + 1;
    let mut member = Member::new(Role::Member, joined, read);
    let muted = key::muted_leaver(scope.app, scope.conversation, user);
    if let Some(MutedLeaver { until_ms }) = work.load(&muted)? {
        member.muted_until_ms = until_ms;
        work.remove(muted);
    }
    let request = key::join_request(scope.app, scope.conversation, user);
    if work.load::<JoinRequest>(&request)?.is_some() {
        work.remove(request);
    }
    sequence::store_member(work, scope, user, &member);
    conversation.members += 1;
    list::announce(work, scope, user, joined, true)
}

/// `user` is no member any more from the event that comes next.
pub(super) fn part<V: View>(
    work: &mut Overlay<'_, V>,
    scope: &Scope<'_>,
    conversation: &mut Conversation,
    user: &UserId,
) -> Step<(), V> {
    if let Some(member) = sequence::member(work, scope, user)? {
        if member.muted_until_ms > work.time_ms {
            let leaver = MutedLeaver { until_ms: member.muted_until_ms };
            work.store(key::muted_leaver(scope.app, scope.conversation, user), &leaver);
        }
        if member.role > Role::Member {
            let mut settings = group::settings(work, scope)?;
            settings.admins.remove(user);
            group::store_settings(work, scope, &settings);
        }
    }
    let nickname = key::nickname(scope.app, scope.conversation, user);
    if work.load::<Nickname>(&nickname)?.is_some() {
        work.remove(nickname);
    }
    work.remove(key::member(scope.app, scope.conversation, user));
    conversation.members = conversation.members.saturating_sub(1);
    list::announce(work, scope, user, conversation.head + 1, false)
}

#[cfg(test)]
mod tests {
    use super::super::query;
    use super::super::record::Member;
    use super::super::testing::{Shard, app, create, group, join, no, ok, private, send, user, users};
    use crate::command::ConversationCommand::{Invite, Kick, Leave, SetRole};
    use crate::errors::ErrorCode;
    use crate::event::{Event, Role};
    use crate::ids::ConversationId;
    use crate::limits;

    fn team() -> (Shard, ConversationId) {
        let mut shard = Shard::default();
        let g = group(1);
        shard.act("owner", &g, create("Team", &["admin", "member"]));
        shard.act("owner", &g, SetRole { user: user("admin"), role: Role::Admin });
        (shard, g)
    }

    fn member(shard: &Shard, g: &ConversationId, name: &str) -> Option<Member> {
        query::member(&shard.state, &app(), g, &user(name)).unwrap()
    }

    fn kick(name: &str) -> crate::command::ConversationCommand {
        Kick { user: user(name) }
    }

    #[test]
    fn joining_needs_the_id_of_a_group_that_has_members() {
        let (mut shard, g) = team();
        assert_eq!(shard.act("new", &group(2), join()), no(ErrorCode::NotAMember));
        assert_eq!(shard.act("new", &private("new", "owner"), join()), no(ErrorCode::InvalidField));
        assert_eq!(shard.act("new", &g, join()), ok(3));
        assert_eq!(shard.act("new", &g, join()), no(ErrorCode::AlreadyMember));
        assert_eq!(shard.inline(&g, 3), Event::Joined { users: users(&["new"]), by: user("new") });
        assert_eq!(member(&shard, &g, "new"), Some(Member::new(Role::Member, 3, 3)));
    }

    #[test]
    fn the_last_one_out_ends_the_group() {
        let mut shard = Shard::default();
        let g = group(1);
        shard.act("owner", &g, create("Team", &["bob"]));
        assert_eq!(shard.act("owner", &g, Leave), no(ErrorCode::OwnerMustStay));
        assert_eq!(shard.act("bob", &g, Leave), ok(2));
        assert_eq!(shard.act("bob", &g, Leave), no(ErrorCode::NotAMember));
        assert_eq!(shard.act("owner", &g, Leave), ok(3));
        assert_eq!(shard.act("bob", &g, join()), no(ErrorCode::NotAMember));
        let record = query::conversation(&shard.state, &app(), &g).unwrap().unwrap();
        assert_eq!((record.head, record.members), (3, 0));
        assert_eq!(shard.announced()[2..], [(3, "bob".into(), 2, false), (4, "owner".into(), 3, false)]);
    }

    #[test]
    fn coming_back_is_a_new_membership() {
        let (mut shard, g) = team();
        shard.act("member", &g, Leave);
        shard.act("owner", &g, send(1, "while away"));
        assert_eq!(shard.act("admin", &g, Invite { users: users(&["member"]) }), ok(5));
        assert_eq!(member(&shard, &g, "member"), Some(Member::new(Role::Member, 5, 0)));
        assert_eq!(query::unread(&shard.state, &app(), &g, &user("member")).unwrap(), Some(1));
    }

    #[test]
    fn invites_are_the_admins_and_pass_over_who_is_in() {
        let (mut shard, g) = team();
        let invite = |names: &[&str]| Invite { users: users(names) };
        assert_eq!(shard.act("member", &g, invite(&["new"])), no(ErrorCode::Forbidden));
        assert_eq!(shard.act("eve", &g, invite(&["new"])), no(ErrorCode::NotAMember));
        assert_eq!(shard.act("admin", &g, invite(&[])), no(ErrorCode::InvalidField));
        assert_eq!(shard.act("admin", &g, invite(&["member", "admin"])), no(ErrorCode::AlreadyMember));
        assert_eq!(shard.act("admin", &g, invite(&["x", "member", "x", "y"])), ok(3));
        assert_eq!(shard.inline(&g, 3), Event::Joined { users: users(&["x", "y"]), by: user("admin") });
        assert_eq!(query::conversation(&shard.state, &app(), &g).unwrap().unwrap().members, 5);
    }

    #[test]
    fn a_kick_needs_a_higher_rank() {
        let (mut shard, g) = team();
        shard.act("new", &g, join());
        assert_eq!(shard.act("member", &g, kick("new")), no(ErrorCode::Forbidden));
        assert_eq!(shard.act("admin", &g, kick("owner")), no(ErrorCode::Forbidden));
        assert_eq!(shard.act("admin", &g, kick("admin")), no(ErrorCode::Forbidden));
        assert_eq!(shard.act("admin", &g, kick("stranger")), no(ErrorCode::UserNotFound));
        assert_eq!(shard.act("admin", &g, kick("member")), ok(4));
        assert_eq!(shard.act("owner", &g, kick("admin")), ok(5));
        assert_eq!(shard.inline(&g, 4), Event::Kicked { user: user("member"), by: user("admin") });
        assert_eq!(shard.act("member", &g, send(1, "still here?")), no(ErrorCode::NotAMember));
    }

    #[test]
    fn a_full_group_takes_nobody_and_members_come_in_pages() {
        let mut shard = Shard::default();
        let g = group(1);
        shard.act("owner", &g, create("Crowd", &[]));
        let all: Vec<_> = (0..limits::GROUP_MEMBERS - 1).map(|n| user(&format!("u{n:05}"))).collect();
        for users in all.chunks(limits::INVITE_USERS) {
            let outcome = shard.act("owner", &g, Invite { users: users.to_vec() });
            assert_eq!(outcome, ok(shard.head(&g)));
        }
        assert_eq!(query::conversation(&shard.state, &app(), &g).unwrap().unwrap().members, 10_000);
        assert_eq!(shard.act("late", &g, join()), no(ErrorCode::LimitReached));
        assert_eq!(shard.act("owner", &g, Invite { users: users(&["late"]) }), no(ErrorCode::LimitReached));
        let page = |after: Option<&str>| {
            query::members(&shard.state, &app(), &g, after.map(user).as_ref(), limits::LIST_PAGE).unwrap()
        };
        let first = page(None);
        assert_eq!((first.items[0].0.as_str(), first.items.len(), first.more), ("owner", 500, true));
        let last = page(Some("u09990"));
        assert_eq!((last.items[0].0.as_str(), last.items.len(), last.more), ("u09991", 8, false));
    }
}
