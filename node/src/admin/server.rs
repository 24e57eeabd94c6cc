//! The admin listener. Handlers translate; what is true is asked of the [`Backend`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{Server, ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::StatusCode;
use actix_web::http::header::AUTHORIZATION;
use actix_web::middleware::Next;
use actix_web::{App, Error, HttpResponse, HttpServer, middleware, web};
use bytes::Bytes;
use chat::app::AppCommand;
use chat::errors::ErrorCode;
use chat::ids::{AppId, ShardId};
use cluster::{Comparison, ShardDigest};
use futures_util::future::BoxFuture;
use rustls::ServerConfig;
use serde::Deserialize;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::nodes::{self, NodesDesk};
use crate::security::{Administration, NotRecorded, fingerprint};

use super::acts::{Told, recorded};
use super::api::{AdminProblem, Drain, NewUser, NodeStatus, Readiness, SPREAD_MS_MAX};
use super::apps::{self, AppInfo};
use super::retention::{self, IdWindowChange, RetentionChange, RetentionOf, RetentionStatus};

/// Bytes of a request's body.
const BODY_BYTES: usize = 16 * 1024;
/// Operators are few.
const WORKERS: usize = 1;
const CONNECTIONS: usize = 256;
/// Records in one answer of the security log, unless asked otherwise.
const SECURITY_RECORDS: usize = 100;

/// Why an operator's request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    pub code: ErrorCode,
    pub message: String,
}

impl Refused {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// What the admin listener shows and does.
pub trait Backend: Send + Sync + 'static {
    fn status(&self) -> NodeStatus;
    fn readiness(&self) -> Readiness;
    fn digests(&self) -> BoxFuture<'_, Result<Vec<ShardDigest>, Refused>>;
    /// Compares all replicas of a shard.
    fn verify(&self, shard: ShardId) -> BoxFuture<'_, Result<Comparison, Refused>>;
    /// Begins to open every stored record; the status shows how far it is.
    fn scrub(&self);
    /// The sealed frames of one shard for a backup, after everything that was committed before the call.
    fn backup(&self, backup: Uuid, shard: ShardId) -> BoxFuture<'_, Result<mpsc::Receiver<Bytes>, Refused>>;
    /// Begins to give everything away; the status shows how far it is.
    fn drain(&self, spread: Duration);
    fn resume(&self) -> BoxFuture<'_, ()>;
    fn add_user(&self, user: NewUser) -> BoxFuture<'_, Result<(), Refused>>;
    fn apps(&self) -> BoxFuture<'_, Result<Vec<AppInfo>, Refused>>;
    fn app(&self, app: AppId) -> BoxFuture<'_, Result<AppInfo, Refused>>;
    /// Does what is asked of the app; what it is like then.
    fn change_app(&self, app: AppId, command: AppCommand) -> BoxFuture<'_, Result<AppInfo, Refused>>;
    fn retention(&self, of: RetentionOf) -> BoxFuture<'_, Result<RetentionStatus, Refused>>;
    fn set_retention(&self, change: RetentionChange) -> BoxFuture<'_, Result<RetentionStatus, Refused>>;
    fn set_id_window(&self, change: IdWindowChange) -> BoxFuture<'_, Result<RetentionStatus, Refused>>;
    /// Writes an act down, durably; whatever cannot be written down is not done.
    fn record(&self, administration: Administration) -> BoxFuture<'_, Result<(), NotRecorded>>;
    /// The newest records of this node's security log, oldest first, as JSON.
    fn security_log(&self, limit: usize) -> BoxFuture<'_, Result<serde_json::Value, Refused>>;
}

/// What the handlers share.
pub(super) struct Shared {
    pub(super) backend: Arc<dyn Backend>,
    /// How the security log names whoever has the token.
    pub(super) admin: String,
    /// Of the token: hashes compare in constant time and have one length.
    token: blake3::Hash,
}

/// Binds the listener. The returned server runs when it is awaited.
pub fn serve(
    listen: SocketAddr,
    tls: ServerConfig,
    token: &str,
    backend: Arc<dyn Backend>,
    nodes: Option<NodesDesk>,
) -> std::io::Result<Server> {
    let admin = format!("admin token {}", fingerprint(token));
    let shared = web::Data::new(Shared { backend, admin, token: blake3::hash(token.as_bytes()) });
    let nodes = nodes.map(web::Data::new);
    let app = move || {
        let app = App::new().app_data(shared.clone());
        match nodes.clone() {
            Some(nodes) => app.app_data(nodes).configure(nodes::join_route).configure(routes),
            None => app.configure(routes),
        }
    };
    let server = HttpServer::new(app)
        .workers(WORKERS)
        .max_connections(CONNECTIONS)
        .disable_signals()
        .shutdown_timeout(1)
        .bind_rustls_0_23(listen, tls)?
        .run();
    Ok(server)
}

fn routes(config: &mut web::ServiceConfig) {
    let json = web::JsonConfig::default().limit(BODY_BYTES).error_handler(|error, _| {
        let answer = refusal(&Refused::new(ErrorCode::InvalidField, error.to_string()));
        InternalError::from_response(error, answer).into()
    });
    config
        .app_data(json)
        .app_data(web::PayloadConfig::new(BODY_BYTES))
        .route("/healthz", web::get().to(health))
        .route("/readyz", web::get().to(ready))
        .service(
            web::scope("/v1")
                .wrap(middleware::from_fn(recorded))
                // The last one is asked first.
                .wrap(middleware::from_fn(authorized))
                .route("/status", web::get().to(status))
                .route("/digests", web::get().to(digests))
                .route("/verify/{shard}", web::post().to(verify))
                .route("/scrub", web::post().to(scrub))
                .route("/backup/{backup}/{shard}", web::post().to(backup))
                .route("/drain", web::post().to(drain))
                .route("/drain", web::delete().to(resume))
                .route("/users", web::post().to(add_user))
                .route("/retention", web::get().to(retention::get))
                .route("/retention", web::put().to(retention::put))
                .route("/retention/ids", web::put().to(retention::put_ids))
                .route("/security/log", web::get().to(security_log))
                .configure(apps::routes)
                .configure(nodes::routes),
        )
        .default_service(web::to(|| async { problem(StatusCode::NOT_FOUND, 404, "not_found", "no such resource") }));
}

async fn authorized(
    request: ServiceRequest,
    next: Next<impl actix_web::body::MessageBody + 'static>,
) -> Result<ServiceResponse<actix_web::body::BoxBody>, Error> {
    let expected = request.app_data::<web::Data<Shared>>().map(|shared| shared.token);
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).map(|token| blake3::hash(token.as_bytes()));
    if given.is_some() && given == expected {
        return Ok(next.call(request).await?.map_into_boxed_body());
    }
    let answer = problem(
        StatusCode::UNAUTHORIZED,
        ErrorCode::BadCredentials.number(),
        "unauthorized",
        "send the header `Authorization: Bearer TOKEN` with the token of [admin] token_file",
    );
    Ok(request.into_response(answer))
}

/// The process runs and answers: whether it should get traffic is asked of `/readyz`.
async fn health() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({ "status": "ok" }))
}

async fn ready(shared: web::Data<Shared>) -> HttpResponse {
    let readiness = shared.backend.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    HttpResponse::build(status).json(readiness)
}

async fn status(shared: web::Data<Shared>) -> HttpResponse {
    HttpResponse::Ok().json(shared.backend.status())
}

async fn digests(shared: web::Data<Shared>) -> HttpResponse {
    answer(shared.backend.digests().await)
}

async fn verify(shared: web::Data<Shared>, shard: web::Path<u16>) -> HttpResponse {
    answer(shared.backend.verify(ShardId(shard.into_inner())).await)
}

async fn scrub(shared: web::Data<Shared>) -> HttpResponse {
    shared.backend.scrub();
    HttpResponse::NoContent().finish()
}

async fn backup(shared: web::Data<Shared>, asked: web::Path<(Uuid, u16)>) -> HttpResponse {
    let (backup, shard) = asked.into_inner();
    match shared.backend.backup(backup, ShardId(shard)).await {
        Ok(frames) => {
            let frames = futures_util::stream::unfold(frames, async |mut frames: mpsc::Receiver<Bytes>| {
                Some((Ok::<_, Error>(frames.recv().await?), frames))
            });
            HttpResponse::Ok().content_type("application/octet-stream").streaming(Box::pin(frames))
        }
        Err(refused) => refusal(&refused),
    }
}

async fn drain(shared: web::Data<Shared>, drain: web::Json<Drain>) -> HttpResponse {
    if drain.spread_ms > SPREAD_MS_MAX {
        let message = format!("spread_ms: at most {SPREAD_MS_MAX}");
        return refusal(&Refused::new(ErrorCode::InvalidField, message));
    }
    shared.backend.drain(Duration::from_millis(drain.spread_ms));
    HttpResponse::Accepted().json(serde_json::json!({ "draining": true }))
}

async fn resume(shared: web::Data<Shared>) -> HttpResponse {
    shared.backend.resume().await;
    HttpResponse::Ok().json(serde_json::json!({ "draining": false }))
}

async fn add_user(shared: web::Data<Shared>, user: web::Json<NewUser>) -> HttpResponse {
    answer(shared.backend.add_user(user.into_inner()).await.map(|()| serde_json::json!({ "created": true })))
}

#[derive(Deserialize)]
struct Window {
    limit: Option<usize>,
}

async fn security_log(shared: web::Data<Shared>, window: web::Query<Window>) -> HttpResponse {
    answer(shared.backend.security_log(window.limit.unwrap_or(SECURITY_RECORDS)).await)
}

pub(crate) fn answer<T: serde::Serialize>(result: Result<T, Refused>) -> HttpResponse {
    match result {
        Ok(value) => HttpResponse::Ok().json(value),
        Err(refused) => refusal(&refused),
    }
}

pub(super) fn refusal(refused: &Refused) -> HttpResponse {
    let code = refused.code;
    let mut answer = problem(http_status(code), code.number(), code.name(), &refused.message);
    answer.extensions_mut().insert(Told(code));
    answer
}

fn problem(status: StatusCode, code: u16, name: &str, message: &str) -> HttpResponse {
    HttpResponse::build(status).json(AdminProblem { code, name: name.to_owned(), message: message.to_owned() })
}

fn http_status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::MalformedFrame | ErrorCode::InvalidField => StatusCode::BAD_REQUEST,
        ErrorCode::AccountExists | ErrorCode::IdConflict | ErrorCode::NotSwitchedOn | ErrorCode::AppExists => {
            StatusCode::CONFLICT
        }
        ErrorCode::UserNotFound | ErrorCode::AppNotFound => StatusCode::NOT_FOUND,
        ErrorCode::BadCredentials | ErrorCode::TokenExpired | ErrorCode::Forbidden => StatusCode::FORBIDDEN,
        ErrorCode::LimitReached | ErrorCode::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::OutcomeUnknown => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
