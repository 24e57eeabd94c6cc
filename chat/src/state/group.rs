//! Groups come into being, and roles change.

use std::collections::BTreeSet;

use super::overlay::{Overlay, Step, Stop, require};
use super::record::{Conversation, Member};
use super::{Scope, View, list, made, sequence};
use crate::command::Outcome;
use crate::errors::ErrorCode;
use crate::event::{Event, Role};
use crate::ids::{ConversationId, UserId};
use crate::limits;
use crate::text;

/// What a private conversation has not got cannot be asked of it.
pub(super) fn require_group<E>(scope: &Scope<'_>) -> Result<(), Stop<E>> {
    require(matches!(scope.conversation, ConversationId::Group(_)), ErrorCode::InvalidField)
}

/// `users` without the actor and without repetitions, in the order given.
pub(super) fn others(scope: &Scope<'_>, users: &[UserId]) -> Vec<UserId> {
    let mut seen = BTreeSet::from([scope.actor]);
    users.iter().filter(|user| seen.insert(user)).cloned().collect()
}

pub(super) fn create<V: View>(
    work: &mut Overlay<'_, V>,
    scope: &Scope<'_>,
    name: &str,
    members: &[UserId],
) -> Step<Outcome, V> {
    require_group(scope)?;
    require(text::check_name(name).is_ok(), ErrorCode::InvalidField)?;
    require(members.len() <= limits::INVITE_USERS, ErrorCode::LimitReached)?;
    if let Some(present) = sequence::conversation(work, scope)? {
        let same = present.created_by == *scope.actor && present.name.as_deref() == Some(name);
        require(same, ErrorCode::GroupExists)?;
        return Ok(Outcome::Applied { seq: 1, duplicate: true });
    }
    let members = others(scope, members);
    let owner = Member { role: Role::Owner, joined: 1, read: 1 };
    sequence::store_member(work, scope, scope.actor, &owner);
    list::announce(work, scope, scope.actor, 1, true)?;
    for user in &members {
        sequence::store_member(work, scope, user, &Member { role: Role::Member, joined: 1, read: 0 });
        list::announce(work, scope, user, 1, true)?;
    }
    let conversation = Conversation {
        name: Some(name.to_owned()),
        created_by: scope.actor.clone(),
        created_ms: work.time_ms,
        head: 0,
        members: members.len() as u64 + 1,
        digest: [0; 32],
    };
    let event = Event::GroupCreated { by: scope.actor.clone(), name: name.to_owned(), members };
    sequence::append(work, scope, conversation, event).map(made)
}

/// Only the owner gives roles. Giving the ownership away makes the giver an admin; the one event says both.
pub(super) fn set_role<V: View>(
    work: &mut Overlay<'_, V>,
    scope: &Scope<'_>,
    user: &UserId,
    role: Role,
) -> Step<Outcome, V> {
    require_group(scope)?;
    let (conversation, mut actor) = sequence::of_member(work, scope)?;
    require(actor.role == Role::Owner, ErrorCode::Forbidden)?;
    let Some(mut member) = sequence::member(work, scope, user)? else {
        return Err(Stop::Rejected(ErrorCode::UserNotFound));
    };
    if member.role == role {
        return Ok(super::done(true));
    }
    require(user != scope.actor, ErrorCode::OwnerMustStay)?;
    if role == Role::Owner {
        actor.role = Role::Admin;
        sequence::store_member(work, scope, scope.actor, &actor);
    }
    member.role = role;
    sequence::store_member(work, scope, user, &member);
    let event = Event::RoleChanged { user: user.clone(), role, by: scope.actor.clone() };
    sequence::append(work, scope, conversation, event).map(made)
}

#[cfg(test)]
mod tests {
    use super::super::query;
    use super::super::testing::{Shard, again, app, create, group, no, ok, private, user, users};
    use crate::command::ConversationCommand::{CreateGroup, SetRole};
    use crate::errors::ErrorCode;
    use crate::event::{Event, Role};
    use crate::ids::ConversationId;
    use crate::limits;

    fn role(shard: &Shard, group: &ConversationId, name: &str) -> Option<Role> {
        query::role(&shard.state, &app(), group, &user(name)).unwrap()
    }

    fn give(name: &str, role: Role) -> crate::command::ConversationCommand {
        SetRole { user: user(name), role }
    }

    #[test]
    fn the_creator_owns_the_group_and_each_member_is_listed_once() {
        let mut shard = Shard::default();
        let g = group(1);
        assert_eq!(shard.act("alice", &g, create("Team", &["bob", "alice", "bob"])), ok(1));
        let announced = shard.announced();
        assert_eq!(announced, [(1, "alice".into(), 1, true), (2, "bob".into(), 1, true)]);
        assert_eq!((role(&shard, &g, "alice"), role(&shard, &g, "bob")), (Some(Role::Owner), Some(Role::Member)));
        let members = users(&["bob"]);
        assert_eq!(shard.inline(&g, 1), Event::GroupCreated { by: user("alice"), name: "Team".into(), members });
        let unread = |name| query::unread(&shard.state, &app(), &g, &user(name)).unwrap();
        assert_eq!((unread("alice"), unread("bob")), (Some(0), Some(1)));
    }

    #[test]
    fn creating_again_is_a_repetition_only_by_the_same_user_under_the_same_name() {
        let mut shard = Shard::default();
        let g = group(1);
        shard.act("alice", &g, create("Team", &[]));
        assert_eq!(shard.act("alice", &g, create("Team", &["bob"])), again(1));
        assert_eq!(role(&shard, &g, "bob"), None);
        assert_eq!(shard.act("alice", &g, create("Other", &[])), no(ErrorCode::GroupExists));
        assert_eq!(shard.act("bob", &g, create("Team", &[])), no(ErrorCode::GroupExists));
    }

    #[test]
    fn limits_and_names_are_checked() {
        let mut shard = Shard::default();
        assert_eq!(shard.act("alice", &group(1), create(" ", &[])), no(ErrorCode::InvalidField));
        assert_eq!(shard.act("alice", &private("alice", "bob"), create("x", &[])), no(ErrorCode::InvalidField));
        let members = (0..=limits::INVITE_USERS).map(|n| user(&format!("u{n}"))).collect();
        let crowd = CreateGroup { name: "x".into(), members };
        assert_eq!(shard.act("alice", &group(1), crowd), no(ErrorCode::LimitReached));
        assert!(shard.state.is_empty());
    }

    #[test]
    fn the_owner_gives_roles_and_there_is_always_one_owner() {
        let mut shard = Shard::default();
        let g = group(1);
        shard.act("alice", &g, create("Team", &["bob", "carol"]));
        assert_eq!(shard.act("bob", &g, give("carol", Role::Admin)), no(ErrorCode::Forbidden));
        assert_eq!(shard.act("eve", &g, give("carol", Role::Admin)), no(ErrorCode::NotAMember));
        assert_eq!(shard.act("alice", &g, give("eve", Role::Admin)), no(ErrorCode::UserNotFound));
        assert_eq!(shard.act("alice", &g, give("alice", Role::Member)), no(ErrorCode::OwnerMustStay));
        assert_eq!(shard.act("alice", &g, give("bob", Role::Admin)), ok(2));
        assert_eq!(shard.act("alice", &g, give("bob", Role::Admin)), again(0));
        assert_eq!(shard.act("alice", &g, give("bob", Role::Owner)), ok(3));
        assert_eq!((role(&shard, &g, "alice"), role(&shard, &g, "bob")), (Some(Role::Admin), Some(Role::Owner)));
        let (by, user) = (user("alice"), user("bob"));
        assert_eq!(shard.inline(&g, 3), Event::RoleChanged { user, role: Role::Owner, by });
    }
}
