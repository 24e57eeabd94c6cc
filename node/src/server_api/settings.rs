//! The app's own settings.

use actix_web::{get, web};
use chat::app::{AppSettings, LoginPolicy, Registration, Scope};
use chat::ids::AppId;
use serde::Serialize;
use utoipa::ToSchema;

use super::call::{Call, unreadable};
use super::problem::{Problem, Refusals};
use crate::apps::room;

#[derive(Serialize, ToSchema)]
pub(crate) struct Settings {
    #[schema(value_type = String)]
    app: AppId,
    name: String,
    recall_window_ms: u64,
    edit_window_ms: u64,
    /// `first_login` or `app_only`.
    #[schema(value_type = String)]
    registration: Registration,
    /// `several`, `one_per_platform` or `newest_wins`.
    #[schema(value_type = String)]
    login_policy: LoginPolicy,
    users: u64,
    users_max: u64,
    groups: u64,
    groups_max: u64,
    group_members_max: u64,
    /// What the key that asks is good for.
    #[schema(value_type = Vec<String>)]
    scopes: Vec<Scope>,
}

/// Shows the app, and what the key is good for. Any key may.
#[utoipa::path(tag = "app", responses((status = 200, description = "The app", body = Settings), Refusals), security(("api_key" = [])))]
#[get("/app")]
pub(super) async fn app_settings(call: Call) -> Result<web::Json<Settings>, Problem> {
    let counts = room::counts(&call.services().cluster, &call.app).map_err(unreadable)?;
    let AppSettings { recall_window_ms, edit_window_ms, registration, login_policy, .. } = call.record.settings;
    let AppSettings { users_max, groups_max, group_members_max, .. } = call.record.settings;
    Ok(web::Json(Settings {
        app: call.app.clone(),
        name: call.record.name.clone(),
        recall_window_ms,
        edit_window_ms,
        registration,
        login_policy,
        users: counts.users,
        users_max,
        groups: counts.groups,
        groups_max,
        group_members_max,
        scopes: call.scopes().to_vec(),
    }))
}
