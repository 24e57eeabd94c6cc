//! `/v1/apps`: apps, what they are set to, and the keys of their tokens and backends.

use actix_web::{HttpResponse, web};
use chat::app::{AppChange, AppCommand, LoginPolicy, NewApiKey, Registration, Scope};
use chat::command::{ClusterCommand, Command, Outcome};
use chat::errors::ErrorCode;
use chat::ids::{AppId, KeyId, ShardId};
use chat::limits;
use chat::state::record::{ApiKey, App};
use chat::state::{apps, query};
use cluster::{Cluster, ShardView};
use jsonwebtoken::DecodingKey;
use serde::{Deserialize, Serialize};
use storage::StorageError;
use zeroize::Zeroizing;

use super::backend::not_proposed;
use super::server::{Refused, Shared, answer, refusal};
use crate::apps::room;
use crate::apps::secret::ApiSecret;
use crate::socket::unix_ms;

/// `POST /v1/apps`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewApp {
    pub app: AppId,
    pub name: String,
}

/// `PATCH /v1/apps/APP`: all of it, or nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AppChanges {
    pub changes: Vec<AppChange>,
}

/// `POST /v1/apps/APP/keys`: an Ed25519 public key, PEM.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTokenKey {
    pub id: KeyId,
    pub pem: String,
}

/// `POST /v1/apps/APP/api-keys`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedApiKey {
    pub name: String,
    pub scopes: Vec<Scope>,
    /// None: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_ms: Option<u64>,
}

/// A key that was made; its secret is told here and nowhere else. `Debug` does not show it.
#[derive(Clone, Serialize, Deserialize)]
pub struct MadeApiKey {
    pub id: KeyId,
    pub key: Zeroizing<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
}

impl std::fmt::Debug for MadeApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MadeApiKey({})", self.id)
    }
}

/// `GET /v1/apps/APP`, and what every change of it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppInfo {
    pub app: AppId,
    pub name: String,
    pub created_ms: u64,
    pub frozen: bool,
    pub users: u64,
    pub groups: u64,
    pub settings: Settings,
    pub token_keys: Vec<TokenKeyInfo>,
    pub api_keys: Vec<ApiKeyInfo>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub recall_window_ms: u64,
    pub edit_window_ms: u64,
    pub registration: Registration,
    pub login_policy: LoginPolicy,
    pub users_max: u64,
    pub groups_max: u64,
    pub group_members_max: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenKeyInfo {
    pub id: KeyId,
    pub pem: String,
    pub added_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKeyInfo {
    pub id: KeyId,
    pub name: String,
    pub scopes: Vec<Scope>,
    pub created_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    /// The last characters of its secret.
    pub last4: String,
}

impl From<chat::app::AppSettings> for Settings {
    fn from(settings: chat::app::AppSettings) -> Self {
        let chat::app::AppSettings { recall_window_ms, edit_window_ms, registration, login_policy, .. } = settings;
        let (users_max, groups_max) = (settings.users_max, settings.groups_max);
        let group_members_max = settings.group_members_max;
        Self { recall_window_ms, edit_window_ms, registration, login_policy, users_max, groups_max, group_members_max }
    }
}

// --- what is asked of the cluster --------------------------------------------------------------------------------

fn unreadable(error: StorageError) -> Refused {
    Refused::new(ErrorCode::Internal, error.to_string())
}

async fn metadata(cluster: &Cluster) -> Result<ShardView, Refused> {
    cluster.read_barrier(ShardId::META).await.map_err(not_proposed)?;
    cluster.view(ShardId::META).ok_or_else(|| Refused::new(ErrorCode::Internal, "this node has no such shard"))
}

/// All apps, linearizably; how many users and groups each has, as this node has applied it.
pub(super) async fn list(cluster: &Cluster) -> Result<Vec<AppInfo>, Refused> {
    let meta = metadata(cluster).await?;
    let all = query::apps(&meta, limits::APPS).map_err(unreadable)?;
    all.into_iter().map(|(app, record)| info(cluster, &meta, app, record).map_err(unreadable)).collect()
}

pub(super) async fn show(cluster: &Cluster, app: AppId) -> Result<AppInfo, Refused> {
    let meta = metadata(cluster).await?;
    match query::app(&meta, &app).map_err(unreadable)? {
        Some(record) => info(cluster, &meta, app, record).map_err(unreadable),
        None => Err(Refused::new(ErrorCode::AppNotFound, format!("there is no app {app}"))),
    }
}

fn info(cluster: &Cluster, meta: &ShardView, app: AppId, record: App) -> Result<AppInfo, StorageError> {
    let counts = room::counts(cluster, &app)?;
    let token_key =
        |key: chat::state::record::TokenKey| TokenKeyInfo { id: key.id, pem: key.pem, added_ms: key.added_ms };
    let api_key = |(id, key): (KeyId, ApiKey)| {
        let ApiKey { name, scopes, created_ms, expires_ms, last4, .. } = key;
        ApiKeyInfo { id, name, scopes, created_ms, expires_ms, last4 }
    };
    let api_keys = apps::api_keys(meta, &app)?.into_iter().map(api_key).collect();
    Ok(AppInfo {
        app,
        name: record.name,
        created_ms: record.created_ms,
        frozen: record.frozen,
        users: counts.users,
        groups: counts.groups,
        settings: record.settings.into(),
        token_keys: record.token_keys.into_iter().map(token_key).collect(),
        api_keys,
    })
}

pub(super) async fn change(cluster: &Cluster, app: AppId, command: AppCommand) -> Result<AppInfo, Refused> {
    let asked = Command::Cluster(ClusterCommand::App { app: app.clone(), command });
    match cluster.submit(ShardId::META, asked).await.map_err(not_proposed)?.outcome {
        Outcome::Applied { .. } => show(cluster, app).await,
        Outcome::Rejected(code) => Err(Refused::new(code, words(code, &app))),
    }
}

fn words(code: ErrorCode, app: &AppId) -> String {
    match code {
        ErrorCode::AppNotFound => format!("there is no app {app}"),
        ErrorCode::AppExists => format!("there is an app {app} already"),
        ErrorCode::IdConflict => "there is another key of this id".to_owned(),
        ErrorCode::LimitReached => format!(
            "there may be {} apps, and each may have {} token keys and {} API keys",
            limits::APPS,
            limits::TOKEN_KEYS,
            limits::API_KEYS
        ),
        ErrorCode::InvalidField => "a value is not one that may be set (docs/OPERATIONS.md has the limits)".to_owned(),
        other => other.name().to_owned(),
    }
}

// --- the resources -----------------------------------------------------------------------------------------------

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/apps", web::get().to(get_all))
        .route("/apps", web::post().to(create))
        .route("/apps/{app}", web::get().to(get_one))
        .route("/apps/{app}", web::patch().to(set))
        .route("/apps/{app}/keys", web::post().to(add_key))
        .route("/apps/{app}/keys/{key}", web::delete().to(remove_key))
        .route("/apps/{app}/api-keys", web::post().to(make_api_key))
        .route("/apps/{app}/api-keys/{key}", web::delete().to(revoke_api_key))
        .route("/apps/{app}/freeze", web::post().to(freeze))
        .route("/apps/{app}/freeze", web::delete().to(thaw));
}

async fn get_all(shared: web::Data<Shared>) -> HttpResponse {
    answer(shared.backend.apps().await)
}

async fn get_one(shared: web::Data<Shared>, app: web::Path<AppId>) -> HttpResponse {
    answer(shared.backend.app(app.into_inner()).await)
}

async fn create(shared: web::Data<Shared>, new: web::Json<NewApp>) -> HttpResponse {
    let NewApp { app, name } = new.into_inner();
    answer(shared.backend.change_app(app, AppCommand::Create { name }).await)
}

async fn set(shared: web::Data<Shared>, app: web::Path<AppId>, wanted: web::Json<AppChanges>) -> HttpResponse {
    let AppChanges { changes } = wanted.into_inner();
    answer(shared.backend.change_app(app.into_inner(), AppCommand::Change { changes }).await)
}

async fn add_key(shared: web::Data<Shared>, app: web::Path<AppId>, key: web::Json<NewTokenKey>) -> HttpResponse {
    let NewTokenKey { id, pem } = key.into_inner();
    if DecodingKey::from_ed_pem(pem.as_bytes()).is_err() {
        return refusal(&Refused::new(ErrorCode::InvalidField, "pem: not an Ed25519 public key"));
    }
    answer(shared.backend.change_app(app.into_inner(), AppCommand::AddTokenKey { id, pem }).await)
}

async fn remove_key(shared: web::Data<Shared>, key: web::Path<(AppId, KeyId)>) -> HttpResponse {
    let (app, id) = key.into_inner();
    answer(shared.backend.change_app(app, AppCommand::RemoveTokenKey { id }).await)
}

async fn make_api_key(shared: web::Data<Shared>, app: web::Path<AppId>, key: web::Json<WantedApiKey>) -> HttpResponse {
    let WantedApiKey { name, mut scopes, lifetime_ms } = key.into_inner();
    if lifetime_ms.is_some_and(|ms| ms == 0 || ms > limits::API_KEY_LIFETIME_MS) {
        let message = format!("lifetime_ms: from 1 to {}", limits::API_KEY_LIFETIME_MS);
        return refusal(&Refused::new(ErrorCode::InvalidField, message));
    }
    let Ok(secret) = ApiSecret::make() else {
        return refusal(&Refused::new(ErrorCode::Internal, "the system gives no random bytes"));
    };
    scopes.sort_unstable();
    scopes.dedup();
    let expires_ms = lifetime_ms.map(|ms| unix_ms() + ms);
    let new = NewApiKey { name, scopes, hash: secret.hash(), expires_ms, last4: secret.last4() };
    let id = secret.id.clone();
    let command = AppCommand::AddApiKey { id: id.clone(), key: new };
    let made = shared.backend.change_app(app.into_inner(), command).await;
    answer(made.map(|_| MadeApiKey { id, key: secret.reveal(), expires_ms }))
}

async fn revoke_api_key(shared: web::Data<Shared>, key: web::Path<(AppId, KeyId)>) -> HttpResponse {
    let (app, id) = key.into_inner();
    answer(shared.backend.change_app(app, AppCommand::RevokeApiKey { id }).await)
}

async fn freeze(shared: web::Data<Shared>, app: web::Path<AppId>) -> HttpResponse {
    answer(shared.backend.change_app(app.into_inner(), AppCommand::SetFrozen { frozen: true }).await)
}

async fn thaw(shared: web::Data<Shared>, app: web::Path<AppId>) -> HttpResponse {
    answer(shared.backend.change_app(app.into_inner(), AppCommand::SetFrozen { frozen: false }).await)
}
