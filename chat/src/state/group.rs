//! Groups come into being, and roles change.

use std::collections::BTreeSet;

use super::overlay::{Overlay, Step, Stop, require};
use super::record::{Conversation, Member};
use super::{Scope, View, app, done, key, list, made, sequence};
use crate::command::Outcome;
use crate::errors::ErrorCode;
use crate::event::{Event, Role};
use crate::group::{GroupChange, GroupKind, GroupSettings};
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

/// A group's settings; those of a public one if it has none of its own.
pub(super) fn settings<V: View>(work: &Overlay<'_, V>, scope: &Scope<'_>) -> Step<GroupSettings, V> {
    let stored = work.load(&key::group_settings(scope.app, scope.conversation))?;
    Ok(stored.unwrap_or_else(|| GroupSettings::new(GroupKind::default())))
}

pub(super) fn store_settings<V: View>(work: &mut Overlay<'_, V>, scope: &Scope<'_>, settings: &GroupSettings) {
    work.store(key::group_settings(scope.app, scope.conversation), settings);
}

/// The settings of a group that is not over.
pub(super) fn open_settings<V: View>(work: &Overlay<'_, V>, scope: &Scope<'_>) -> Step<GroupSettings, V> {
    let settings = settings(work, scope)?;
    require(!settings.dissolved, ErrorCode::GroupDissolved)?;
    Ok(settings)
}

pub(super) fn create<V: View>(
    work: &mut Overlay<'_, V>,
    scope: &Scope<'_>,
    name: &str,
    members: &[UserId],
    kind: GroupKind,
) -> Step<Outcome, V> {
    require_group(scope)?;
    require(text::check_name(name).is_ok(), ErrorCode::InvalidField)?;
    require(members.len() <= limits::INVITE_USERS, ErrorCode::LimitReached)?;
    if let Some(present) = sequence::conversation(work, scope)? {
        let same = present.created_by == *scope.actor
            && present.name.as_deref() == Some(name)
            && settings(work, scope)?.kind == kind;
        require(same, ErrorCode::GroupExists)?;
        return Ok(Outcome::Applied { seq: 1, duplicate: true });
    }
    let members = others(scope, members);
    app::count(work, scope.app, |counts| counts.groups += 1)?;
    sequence::store_member(work, scope, scope.actor, &Member::new(Role::Owner, 1, 1));
    list::announce(work, scope, scope.actor, 1, true)?;
    for user in &members {
        sequence::store_member(work, scope, user, &Member::new(Role::Member, 1, 0));
        list::announce(work, scope, user, 1, true)?;
    }
    let mut settings = GroupSettings::new(kind);
    settings.admins.insert(scope.actor.clone());
    store_settings(work, scope, &settings);
    let conversation = Conversation {
        name: Some(name.to_owned()),
        created_by: scope.actor.clone(),
        created_ms: work.time_ms,
        head: 0,
        members: members.len() as u64 + 1,
        digest: [0; 32],
        guarded: settings.is_guarded(),
    };
    let event = Event::GroupCreated { by: scope.actor.clone(), name: name.to_owned(), members };
    sequence::append(work, scope, conversation, event).map(made)
}

/// Who owns the group is one of its admins from now on.
fn resign<V: View>(work: &mut Overlay<'_, V>, scope: &Scope<'_>, settings: &GroupSettings) -> Step<(), V> {
    for admin in &settings.admins {
        if let Some(member) = sequence::member(work, scope, admin)?.filter(|member| member.role == Role::Owner) {
            sequence::store_member(work, scope, admin, &Member { role: Role::Admin, ..member });
        }
    }
    Ok(())
}

/// What is so already is no event.
pub(super) fn change<V: View>(work: &mut Overlay<'_, V>, scope: &Scope<'_>, change: &GroupChange) -> Step<Outcome, V> {
    require_group(scope)?;
    require(change.check().is_ok(), ErrorCode::InvalidField)?;
    let (mut conversation, actor) = sequence::of_member(work, scope)?;
    let mut settings = open_settings(work, scope)?;
    require(actor.role >= change.needs(&settings.rights), ErrorCode::Forbidden)?;
    let mut changed = settings.change(change);
    require(settings.attributes.len() <= limits::ATTRIBUTES, ErrorCode::LimitReached)?;
    if let GroupChange::Name(name) = change {
        changed = conversation.name.as_ref() != Some(name);
        conversation.name = Some(name.clone());
    }
    if !changed {
        return Ok(done(true));
    }
    conversation.guarded = settings.is_guarded();
    store_settings(work, scope, &settings);
    let event = Event::GroupChanged { change: change.clone(), by: scope.actor.clone() };
    sequence::append(work, scope, conversation, event).map(made)
}

/// The owner ends the group. Members keep what they may read and leave when they like.
pub(super) fn dissolve<V: View>(work: &mut Overlay<'_, V>, scope: &Scope<'_>) -> Step<Outcome, V> {
    require_group(scope)?;
    let (mut conversation, actor) = sequence::of_member(work, scope)?;
    require(actor.role == Role::Owner, ErrorCode::Forbidden)?;
    let mut settings = settings(work, scope)?;
    if settings.dissolved {
        return Ok(done(true));
    }
    settings.dissolved = true;
    conversation.guarded = true;
    store_settings(work, scope, &settings);
    sequence::append(work, scope, conversation, Event::Dissolved { by: scope.actor.clone() }).map(made)
}

/// Only the owner gives roles, or the app. Giving the ownership away makes who had it an admin; the one event says both.
pub(super) fn set_role<V: View>(
    work: &mut Overlay<'_, V>,
    scope: &Scope<'_>,
    user: &UserId,
    role: Role,
) -> Step<Outcome, V> {
    require_group(scope)?;
    let (conversation, actor) = sequence::of_member(work, scope)?;
    require(actor.role == Role::Owner, ErrorCode::Forbidden)?;
    let Some(mut member) = sequence::member(work, scope, user)? else {
        return Err(Stop::Rejected(ErrorCode::UserNotFound));
    };
    if member.role == role {
        return Ok(done(true));
    }
    require(member.role != Role::Owner, ErrorCode::OwnerMustStay)?;
    let mut settings = open_settings(work, scope)?;
    if role == Role::Member {
        settings.admins.remove(user);
    } else {
        settings.admins.insert(user.clone());
    }
    require(settings.admins.len() <= limits::GROUP_ADMINS, ErrorCode::LimitReached)?;
    store_settings(work, scope, &settings);
    if role == Role::Owner {
        resign(work, scope, &settings)?;
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
    use crate::group::GroupKind;
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
        let crowd = CreateGroup { name: "x".into(), members, kind: GroupKind::Public };
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
