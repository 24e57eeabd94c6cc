//! An app's users.

use actix_web::{get, post, put, web};
use chat::app::Scope;
use chat::command::{Revoked, UserCommand};
use chat::errors::ErrorCode;
use chat::ids::{DeviceId, ShardId, UserId};
use chat::limits;
use chat::state::{apps, query};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Done;
use super::call::{Call, blocking, unreadable};
use super::forms::UserName;
use super::problem::{Problem, ProblemBody, Refusals};
use crate::apps::room;
use crate::auth::PasswordError;

/// Users that may be there already.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Import {
    #[schema(min_items = 1, max_items = 100)]
    users: Vec<ImportedUser>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImportedUser {
    #[schema(value_type = UserName)]
    user: UserId,
    /// None for those who log in with the app's tokens only.
    #[schema(min_length = 8, max_length = 256)]
    password: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Imported {
    /// One for each, in the order of the request.
    results: Vec<ImportResult>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ImportResult {
    #[schema(value_type = UserName)]
    user: UserId,
    /// False if the account was there, or was not made.
    created: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<ProblemBody>,
}

/// Makes accounts: of each it is said what became of it. Repeating it is safe; a user who is there, with a password or in
/// the request with one, is `account_exists`.
#[utoipa::path(tag = "users", request_body = Import, responses((status = 200, description = "What became of each", body = Imported), Refusals), security(("api_key" = [])))]
#[post("/users/import")]
pub(super) async fn import_users(call: Call, body: web::Json<Import>) -> Result<web::Json<Imported>, Problem> {
    call.may(Scope::UsersWrite)?;
    let Import { users } = body.into_inner();
    if users.is_empty() || users.len() > limits::API_USERS {
        let message = format!("users: from 1 to {}", limits::API_USERS);
        return Err(Problem::new(ErrorCode::InvalidField, message));
    }
    call.record("api.users.import", &format!("users={}", users.len())).await?;
    let mut left = room::users_left(&call.services().cluster, &call.app).map_err(unreadable)?;
    let mut imports = Vec::with_capacity(users.len());
    for user in users {
        let there = is_there(&call, &user.user)?;
        let fits = there || left > 0;
        left = left.saturating_sub(u64::from(!there));
        imports.push(import_user(&call, user, fits));
    }
    Ok(web::Json(Imported { results: join_all(imports).await }))
}

/// Whether this node knows the account already: making it again takes no room.
fn is_there(call: &Call, user: &UserId) -> Result<bool, Problem> {
    let cluster = &call.services().cluster;
    let view = cluster.view(cluster.home_shard(&call.app, user)).ok_or(ErrorCode::Internal)?;
    Ok(query::account(&view, &call.app, user).map_err(unreadable)?.is_some())
}

async fn import_user(call: &Call, ImportedUser { user, password }: ImportedUser, fits: bool) -> ImportResult {
    let made = match fits {
        true => make(call, user.clone(), password).await,
        false => Err(Problem::new(ErrorCode::LimitReached, "the app has as many users as it may have")),
    };
    match made {
        Ok(duplicate) => ImportResult { user, created: !duplicate, problem: None },
        Err(problem) => ImportResult { user, created: false, problem: Some(problem.told()) },
    }
}

async fn make(call: &Call, user: UserId, password: Option<String>) -> Result<bool, Problem> {
    let password = hashed(call, password).await?;
    call.change_user(user, UserCommand::CreateAccount { password }).await
}

async fn hashed(call: &Call, password: Option<String>) -> Result<Option<String>, Problem> {
    let Some(password) = password else { return Ok(None) };
    match call.services().authenticator.hash_password(&password).await {
        Ok(hash) => Ok(Some(hash)),
        Err(error @ PasswordError::Length) => Err(Problem::new(ErrorCode::InvalidField, error.to_string())),
        Err(PasswordError::Overloaded) => Err(ErrorCode::Overloaded.into()),
        Err(PasswordError::Internal) => Err(ErrorCode::Internal.into()),
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct User {
    #[schema(value_type = UserName)]
    user: UserId,
    created_ms: u64,
    /// The user is let in.
    active: bool,
    has_password: bool,
    /// The end of the user's last session, about.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen_ms: Option<u64>,
}

/// Shows a user.
#[utoipa::path(tag = "users", params(("user" = UserName, Path)), responses((status = 200, description = "The user", body = User), Refusals), security(("api_key" = [])))]
#[get("/users/{user}")]
pub(super) async fn get_user(call: Call, user: web::Path<UserId>) -> Result<web::Json<User>, Problem> {
    call.may(Scope::UsersRead)?;
    let user = user.into_inner();
    let (account, active) = call.account(&user).await?;
    let view = call.fresh_home(&user).await?;
    let last_seen_ms = query::last_seen(&view, &call.app, &user).map_err(unreadable)?;
    let has_password = account.password.is_some();
    Ok(web::Json(User { user, created_ms: account.created_ms, active, has_password, last_seen_ms }))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Window {
    /// Those after this user, in byte order.
    #[param(value_type = Option<UserName>)]
    after: Option<UserId>,
    /// At most 100.
    #[param(minimum = 1)]
    limit: Option<usize>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct UserPage {
    users: Vec<User>,
    /// There are more after the last one.
    more: bool,
}

/// Lists users in byte order of their ids.
#[utoipa::path(tag = "users", params(Window), responses((status = 200, description = "A page of users", body = UserPage), Refusals), security(("api_key" = [])))]
#[get("/users")]
pub(super) async fn list_users(call: Call, window: web::Query<Window>) -> Result<web::Json<UserPage>, Problem> {
    call.may(Scope::UsersRead)?;
    let Window { after, limit } = window.into_inner();
    let limit = super::page_limit(limit, limits::API_USERS)?;
    let shards = 1..=call.services().cluster.shards();
    let views = join_all(shards.map(|shard| call.fresh(ShardId(shard)))).await;
    let views = views.into_iter().collect::<Result<Vec<_>, _>>()?;
    blocking(move || {
        let mut users = Vec::new();
        for view in &views {
            // Each shard's first ones: those of all of them are among these.
            let page = apps::accounts(view, &call.app, after.as_ref(), limit + 1).map_err(unreadable)?;
            for (user, account) in page.items {
                users.push(User {
                    active: !apps::is_deactivated(view, &call.app, &user).map_err(unreadable)?,
                    last_seen_ms: query::last_seen(view, &call.app, &user).map_err(unreadable)?,
                    user,
                    created_ms: account.created_ms,
                    has_password: account.password.is_some(),
                });
            }
        }
        users.sort_unstable_by(|a, b| a.user.cmp(&b.user));
        let more = users.len() > limit;
        users.truncate(limit);
        Ok(web::Json(UserPage { users, more }))
    })
    .await
}

/// Does not let a user in any more, and ends the user's sessions. Messages and groups stay as they are.
#[utoipa::path(tag = "users", params(("user" = UserName, Path)), responses((status = 200, description = "Done", body = Done), Refusals), security(("api_key" = [])))]
#[post("/users/{user}/deactivate")]
pub(super) async fn deactivate_user(call: Call, user: web::Path<UserId>) -> Result<web::Json<Done>, Problem> {
    set_active(call, user.into_inner(), false).await
}

/// Lets a user in again.
#[utoipa::path(tag = "users", params(("user" = UserName, Path)), responses((status = 200, description = "Done", body = Done), Refusals), security(("api_key" = [])))]
#[post("/users/{user}/activate")]
pub(super) async fn activate_user(call: Call, user: web::Path<UserId>) -> Result<web::Json<Done>, Problem> {
    set_active(call, user.into_inner(), true).await
}

async fn set_active(call: Call, user: UserId, active: bool) -> Result<web::Json<Done>, Problem> {
    call.may(Scope::UsersWrite)?;
    let verb = if active { "api.user.activate" } else { "api.user.deactivate" };
    call.record(verb, &format!("user={user}")).await?;
    let duplicate = call.change_user(user, UserCommand::SetActive { active }).await?;
    Ok(web::Json(Done { seq: None, duplicate }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPassword {
    /// None: the user logs in with the app's tokens only.
    #[schema(min_length = 8, max_length = 256)]
    password: Option<String>,
}

/// Sets or takes away a user's password. Sessions go on.
#[utoipa::path(tag = "users", params(("user" = UserName, Path)), request_body = NewPassword, responses((status = 200, description = "Done", body = Done), Refusals), security(("api_key" = [])))]
#[put("/users/{user}/password")]
pub(super) async fn set_password(
    call: Call,
    user: web::Path<UserId>,
    body: web::Json<NewPassword>,
) -> Result<web::Json<Done>, Problem> {
    call.may(Scope::UsersWrite)?;
    call.record("api.user.password", &format!("user={user}")).await?;
    let password = hashed(&call, body.into_inner().password).await?;
    let duplicate = call.change_user(user.into_inner(), UserCommand::SetPassword { password }).await?;
    Ok(web::Json(Done { seq: None, duplicate }))
}

/// Whose sessions end: all, or those of one device.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RevokeLogins {
    /// None: of all devices.
    #[schema(value_type = Option<UserName>)]
    device: Option<DeviceId>,
}

/// Ends sessions of a user, and refuses tokens that were issued before.
#[utoipa::path(tag = "logins", params(("user" = UserName, Path)), request_body = RevokeLogins, responses((status = 200, description = "Done", body = Done), Refusals), security(("api_key" = [])))]
#[post("/users/{user}/revoke-logins")]
pub(super) async fn revoke_logins(
    call: Call,
    user: web::Path<UserId>,
    body: web::Json<RevokeLogins>,
) -> Result<web::Json<Done>, Problem> {
    call.may(Scope::LoginsWrite)?;
    call.record("api.user.revoke_logins", &format!("user={user}")).await?;
    let which = body.into_inner().device.map_or(Revoked::All, Revoked::Device);
    let duplicate = call.change_user(user.into_inner(), UserCommand::RevokeLogins { which }).await?;
    Ok(web::Json(Done { seq: None, duplicate }))
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Devices {
    devices: Vec<Device>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Device {
    #[schema(value_type = String)]
    id: DeviceId,
    platform: String,
    name: String,
    first_seen_ms: u64,
    /// Up to ten minutes old.
    last_login_ms: u64,
}

/// Lists a user's devices.
#[utoipa::path(tag = "users", params(("user" = UserName, Path)), responses((status = 200, description = "The devices", body = Devices), Refusals), security(("api_key" = [])))]
#[get("/users/{user}/devices")]
pub(super) async fn user_devices(call: Call, user: web::Path<UserId>) -> Result<web::Json<Devices>, Problem> {
    call.may(Scope::UsersRead)?;
    call.account(&user).await?;
    let view = call.fresh_home(&user).await?;
    let known = query::devices(&view, &call.app, &user).map_err(unreadable)?;
    let devices = known.into_iter().map(|(id, device)| Device {
        id,
        platform: device.platform,
        name: device.name,
        first_seen_ms: device.first_seen_ms,
        last_login_ms: device.last_login_ms,
    });
    Ok(web::Json(Devices { devices: devices.collect() }))
}
