//! Groups, as an app runs them: what is done to one is done by the app itself, which may what its owner may.

use std::collections::BTreeMap;

use actix_web::{delete, get, patch, post, put, web};
use chat::app::Scope;
use chat::errors::ErrorCode;
use chat::event::Role;
use chat::group::{GroupChange, GroupKind, JoinMode, Rights, Visibility};
use chat::ids::{ConversationId, GroupId, UserId};
use chat::limits;
use chat::render::check_group_name;
use chat::state::{query, record};
use serde::{Deserialize, Serialize};
use storage::StorageError;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::call::{Call, blocking, unreadable};
use super::forms::{Change, ConversationName, Join, Kind, May, Rank, Seen, UserName};
use super::problem::{Problem, Refusals};
use super::{Done, system};
use crate::group::GroupAsk;
use crate::socket::unix_ms;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewGroup {
    /// A UUIDv7 of your own: the same creation again makes no second group. Without one, one is made up.
    #[schema(value_type = Option<Uuid>)]
    group: Option<GroupId>,
    #[schema(value_type = UserName)]
    owner: UserId,
    #[schema(min_length = 1, max_length = 128)]
    name: String,
    #[serde(default)]
    #[schema(value_type = Vec<UserName>, max_items = 500, required = false)]
    members: Vec<UserId>,
    #[serde(default)]
    #[schema(value_type = Kind, required = false)]
    kind: GroupKind,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedGroup {
    #[schema(value_type = Uuid)]
    group: GroupId,
    #[schema(value_type = ConversationName)]
    conversation: ConversationId,
    /// It was made before.
    duplicate: bool,
}

/// Makes a group on behalf of its owner.
#[utoipa::path(tag = "groups", request_body = NewGroup, responses((status = 200, description = "The group is there", body = CreatedGroup), Refusals), security(("api_key" = [])))]
#[post("/groups")]
pub(super) async fn create_group(call: Call, body: web::Json<NewGroup>) -> Result<web::Json<CreatedGroup>, Problem> {
    call.may(Scope::GroupsWrite)?;
    let NewGroup { group, owner, name, members, kind } = body.into_inner();
    let invalid = |message: String| Problem::new(ErrorCode::InvalidField, message);
    check_group_name(&name).map_err(|error| invalid(format!("name: {error}")))?;
    few(&members)?;
    let (_, active) = call.account(&owner).await?;
    if !active {
        return Err(ErrorCode::UserDeactivated.into());
    }
    let group = group.unwrap_or_else(|| GroupId(Uuid::now_v7()));
    let conversation = ConversationId::from(group);
    let done = call.ask(conversation.clone(), owner, GroupAsk::CreateGroup { name, members, kind }).await?;
    Ok(web::Json(CreatedGroup { group, conversation, duplicate: done.duplicate }))
}

fn few(users: &[UserId]) -> Result<(), Problem> {
    if users.len() <= limits::INVITE_USERS {
        return Ok(());
    }
    Err(Problem::new(ErrorCode::InvalidField, format!("at most {} users at once", limits::INVITE_USERS)))
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Group {
    #[schema(value_type = Uuid)]
    group: GroupId,
    name: String,
    #[schema(value_type = Kind)]
    kind: GroupKind,
    members: u64,
    members_max: u64,
    #[schema(value_type = UserName)]
    created_by: UserId,
    created_ms: u64,
    /// The owner and the admins.
    #[schema(value_type = Vec<UserName>)]
    admins: Vec<UserId>,
    #[schema(value_type = Join)]
    join: JoinMode,
    #[schema(value_type = Seen)]
    history: Visibility,
    /// The lowest role that may `send`, `invite`, `change_info`.
    #[schema(value_type = May)]
    rights: Rights,
    mute_all: bool,
    slow_mode_ms: u64,
    announcement: String,
    attributes: BTreeMap<String, String>,
    dissolved: bool,
}

/// Shows a group.
#[utoipa::path(tag = "groups", params(("group" = Uuid, Path)), responses((status = 200, description = "The group", body = Group), Refusals), security(("api_key" = [])))]
#[get("/groups/{group}")]
pub(super) async fn get_group(call: Call, group: web::Path<GroupId>) -> Result<web::Json<Group>, Problem> {
    call.may(Scope::GroupsRead)?;
    let group = group.into_inner();
    let conversation = ConversationId::from(group);
    let view = call.fresh_conversation(&conversation).await?;
    let found = query::conversation(&view, &call.app, &conversation).map_err(unreadable)?;
    let settings = query::group_settings(&view, &call.app, &conversation).map_err(unreadable)?;
    let (found, settings) = found.zip(settings).ok_or(ErrorCode::NotAMember)?;
    Ok(web::Json(Group {
        group,
        name: found.name.unwrap_or_default(),
        kind: settings.kind,
        members: found.members,
        members_max: settings.kind.members_max().min(call.record.settings.group_members_max),
        created_by: found.created_by,
        created_ms: found.created_ms,
        admins: settings.admins.into_iter().collect(),
        join: settings.join,
        history: settings.history,
        rights: settings.rights,
        mute_all: settings.mute_all,
        slow_mode_ms: settings.slow_mode_ms,
        announcement: settings.announcement,
        attributes: settings.attributes,
        dissolved: settings.dissolved,
    }))
}

/// Asks the group's actor, as the app itself.
async fn run(call: &Call, group: GroupId, ask: GroupAsk) -> Result<web::Json<Done>, Problem> {
    call.may(Scope::GroupsWrite)?;
    Ok(web::Json(call.ask(group.into(), system(), ask).await?.into()))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeGroup {
    /// One thing, as in docs/PROTOCOL.md: `{"name": "New"}`, `{"mute_all": true}`, `{"join": "approval"}`.
    #[schema(value_type = Change, example = json!({"name": "New"}))]
    change: GroupChange,
}

/// Changes one thing about a group.
#[utoipa::path(tag = "groups", params(("group" = Uuid, Path)), request_body = ChangeGroup, responses((status = 200, description = "It is so", body = Done), Refusals), security(("api_key" = [])))]
#[patch("/groups/{group}")]
pub(super) async fn change_group(
    call: Call,
    group: web::Path<GroupId>,
    body: web::Json<ChangeGroup>,
) -> Result<web::Json<Done>, Problem> {
    let ChangeGroup { change } = body.into_inner();
    change.check().map_err(|error| Problem::new(ErrorCode::InvalidField, format!("change: {error}")))?;
    run(&call, group.into_inner(), GroupAsk::ChangeGroup { change }).await
}

/// Ends a group: it takes nothing any more, and its members keep what they may read.
#[utoipa::path(tag = "groups", params(("group" = Uuid, Path)), responses((status = 200, description = "It is over", body = Done), Refusals), security(("api_key" = [])))]
#[delete("/groups/{group}")]
pub(super) async fn dissolve_group(call: Call, group: web::Path<GroupId>) -> Result<web::Json<Done>, Problem> {
    run(&call, group.into_inner(), GroupAsk::Dissolve).await
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Window {
    /// Those after this user, in byte order.
    #[param(value_type = Option<UserName>)]
    after: Option<UserId>,
    /// At most 500.
    #[param(minimum = 1)]
    limit: Option<usize>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Members {
    members: Vec<Member>,
    /// There are more after the last one.
    more: bool,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Member {
    #[schema(value_type = UserName)]
    user: UserId,
    #[schema(value_type = Rank)]
    role: Role,
    /// The seq of the event that made the user a member.
    joined: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    nickname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    muted_until_ms: Option<u64>,
}

/// Lists members in byte order of their ids.
#[utoipa::path(tag = "groups", params(("group" = Uuid, Path), Window), responses((status = 200, description = "A page of members", body = Members), Refusals), security(("api_key" = [])))]
#[get("/groups/{group}/members")]
pub(super) async fn list_members(
    call: Call,
    group: web::Path<GroupId>,
    window: web::Query<Window>,
) -> Result<web::Json<Members>, Problem> {
    call.may(Scope::GroupsRead)?;
    let Window { after, limit } = window.into_inner();
    let limit = super::page_limit(limit, limits::LIST_PAGE)?;
    let conversation = ConversationId::from(group.into_inner());
    let view = call.fresh_conversation(&conversation).await?;
    blocking(move || {
        let app = &call.app;
        if query::conversation(&view, app, &conversation).map_err(unreadable)?.is_none() {
            return Err(ErrorCode::NotAMember.into());
        }
        let page = query::members(&view, app, &conversation, after.as_ref(), limit).map_err(unreadable)?;
        let now_ms = unix_ms();
        let shown = |(user, member): (UserId, record::Member)| {
            let nickname = query::nickname(&view, app, &conversation, &user)?;
            let muted_until_ms = (member.muted_until_ms > now_ms).then_some(member.muted_until_ms);
            Ok(Member { user, role: member.role, joined: member.joined, nickname, muted_until_ms })
        };
        let members: Result<_, StorageError> = page.items.into_iter().map(shown).collect();
        Ok(web::Json(Members { members: members.map_err(unreadable)?, more: page.more }))
    })
    .await
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewMembers {
    #[schema(value_type = Vec<UserName>, min_items = 1, max_items = 500)]
    users: Vec<UserId>,
}

/// Adds members. Those who are members already are passed over; if all are, it is `already_member`.
#[utoipa::path(tag = "groups", params(("group" = Uuid, Path)), request_body = NewMembers, responses((status = 200, description = "They are members", body = Done), Refusals), security(("api_key" = [])))]
#[post("/groups/{group}/members")]
pub(super) async fn add_members(
    call: Call,
    group: web::Path<GroupId>,
    body: web::Json<NewMembers>,
) -> Result<web::Json<Done>, Problem> {
    let NewMembers { users } = body.into_inner();
    few(&users)?;
    run(&call, group.into_inner(), GroupAsk::Invite { users }).await
}

/// Removes a member other than the owner: nothing later reaches them.
#[utoipa::path(tag = "groups", params(("group" = Uuid, Path), ("user" = UserName, Path)), responses((status = 200, description = "The user is no member", body = Done), Refusals), security(("api_key" = [])))]
#[delete("/groups/{group}/members/{user}")]
pub(super) async fn remove_member(call: Call, at: web::Path<(GroupId, UserId)>) -> Result<web::Json<Done>, Problem> {
    let (group, user) = at.into_inner();
    run(&call, group, GroupAsk::Kick { user }).await
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetRole {
    /// Who was owner becomes an admin.
    #[schema(value_type = Rank)]
    role: Role,
}

/// Gives a member a role.
#[utoipa::path(tag = "groups", params(("group" = Uuid, Path), ("user" = UserName, Path)), request_body = SetRole, responses((status = 200, description = "It is so", body = Done), Refusals), security(("api_key" = [])))]
#[put("/groups/{group}/members/{user}/role")]
pub(super) async fn set_role(
    call: Call,
    at: web::Path<(GroupId, UserId)>,
    body: web::Json<SetRole>,
) -> Result<web::Json<Done>, Problem> {
    let (group, user) = at.into_inner();
    run(&call, group, GroupAsk::SetRole { user, role: body.into_inner().role }).await
}

/// How long it holds.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sentence {
    /// None: for good.
    #[schema(minimum = 1)]
    duration_ms: Option<u64>,
}

impl Sentence {
    fn checked(self) -> Result<Option<u64>, Problem> {
        match self.duration_ms {
            Some(ms) if !(1..=limits::SENTENCE_MS_MAX).contains(&ms) => {
                let message = format!("duration_ms: from 1 to {}", limits::SENTENCE_MS_MAX);
                Err(Problem::new(ErrorCode::InvalidField, message))
            }
            duration_ms => Ok(duration_ms),
        }
    }
}

/// Bans a user, who is removed and does not come back while it holds.
#[utoipa::path(tag = "groups", params(("group" = Uuid, Path), ("user" = UserName, Path)), request_body = Sentence, responses((status = 200, description = "It is so", body = Done), Refusals), security(("api_key" = [])))]
#[put("/groups/{group}/bans/{user}")]
pub(super) async fn ban_user(
    call: Call,
    at: web::Path<(GroupId, UserId)>,
    body: web::Json<Sentence>,
) -> Result<web::Json<Done>, Problem> {
    let ((group, user), duration_ms) = (at.into_inner(), body.into_inner().checked()?);
    run(&call, group, GroupAsk::Ban { user, duration_ms }).await
}

/// Ends a ban.
#[utoipa::path(tag = "groups", params(("group" = Uuid, Path), ("user" = UserName, Path)), responses((status = 200, description = "It is so", body = Done), Refusals), security(("api_key" = [])))]
#[delete("/groups/{group}/bans/{user}")]
pub(super) async fn unban_user(call: Call, at: web::Path<(GroupId, UserId)>) -> Result<web::Json<Done>, Problem> {
    let (group, user) = at.into_inner();
    run(&call, group, GroupAsk::Unban { user }).await
}

/// Has a member not speak.
#[utoipa::path(tag = "groups", params(("group" = Uuid, Path), ("user" = UserName, Path)), request_body = Sentence, responses((status = 200, description = "It is so", body = Done), Refusals), security(("api_key" = [])))]
#[put("/groups/{group}/mutes/{user}")]
pub(super) async fn mute_member(
    call: Call,
    at: web::Path<(GroupId, UserId)>,
    body: web::Json<Sentence>,
) -> Result<web::Json<Done>, Problem> {
    let ((group, user), duration_ms) = (at.into_inner(), body.into_inner().checked()?);
    run(&call, group, GroupAsk::Mute { user, duration_ms }).await
}

/// Lets a member speak again.
#[utoipa::path(tag = "groups", params(("group" = Uuid, Path), ("user" = UserName, Path)), responses((status = 200, description = "It is so", body = Done), Refusals), security(("api_key" = [])))]
#[delete("/groups/{group}/mutes/{user}")]
pub(super) async fn unmute_member(call: Call, at: web::Path<(GroupId, UserId)>) -> Result<web::Json<Done>, Problem> {
    let (group, user) = at.into_inner();
    run(&call, group, GroupAsk::Unmute { user }).await
}
