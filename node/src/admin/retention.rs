//! `/v1/retention`: how long messages are kept, shown and set.

use actix_web::{HttpResponse, web};
use chat::command::{Command, Outcome, RetentionCommand};
use chat::errors::ErrorCode;
use chat::ids::{AppId, ConversationId, ShardId};
use chat::limits;
use chat::retention::Retention;
use chat::state::query;
use cluster::Cluster;
use serde::{Deserialize, Serialize};
use storage::StorageError;

use super::backend::not_proposed;
use super::server::{Refused, Shared, answer};

/// `GET /v1/retention?app=…&conversation=…`: what is asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionOf {
    pub app: AppId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<ConversationId>,
}

/// `PUT /v1/retention`. For a conversation, no `policy` takes its own away: the app's holds again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionChange {
    pub app: AppId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<ConversationId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
}

/// `PUT /v1/retention/ids`: how long the ids of the app's messages are remembered after those were deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdWindowChange {
    pub app: AppId,
    pub window_ms: u64,
}

/// None of the two: for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    #[serde(default)]
    pub max_age_ms: Option<u64>,
    #[serde(default)]
    pub max_count: Option<u64>,
}

impl From<Retention> for Policy {
    fn from(Retention { max_age_ms, max_count }: Retention) -> Self {
        Self { max_age_ms, max_count }
    }
}

impl From<Policy> for Retention {
    fn from(Policy { max_age_ms, max_count }: Policy) -> Self {
        Self { max_age_ms, max_count }
    }
}

/// What holds, linearizably.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionStatus {
    #[serde(flatten)]
    pub of: RetentionOf,
    /// The app's policy.
    pub app_policy: Policy,
    /// How long the ids of its messages are remembered after those were deleted.
    #[serde(default)]
    pub id_window_ms: u64,
    /// The conversation's own, if it has one: it holds instead of the app's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_policy: Option<Policy>,
    /// Events of the conversation from here on are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_seq: Option<u64>,
    /// The conversation's last event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<u64>,
}

impl RetentionStatus {
    /// What the conversation, or the app, is kept by.
    pub fn holds(&self) -> Policy {
        self.own_policy.unwrap_or(self.app_policy)
    }
}

pub(super) async fn get(shared: web::Data<Shared>, of: web::Query<RetentionOf>) -> HttpResponse {
    answer(shared.backend.retention(of.into_inner()).await)
}

pub(super) async fn put(shared: web::Data<Shared>, change: web::Json<RetentionChange>) -> HttpResponse {
    answer(shared.backend.set_retention(change.into_inner()).await)
}

pub(super) async fn put_ids(shared: web::Data<Shared>, change: web::Json<IdWindowChange>) -> HttpResponse {
    answer(shared.backend.set_id_window(change.into_inner()).await)
}

pub(super) async fn show(cluster: &Cluster, of: RetentionOf) -> Result<RetentionStatus, Refused> {
    let unreadable = |error: StorageError| Refused::new(ErrorCode::Internal, error.to_string());
    let no_shard = || Refused::new(ErrorCode::Internal, "this node has no such shard");
    cluster.read_barrier(ShardId::META).await.map_err(not_proposed)?;
    let meta = cluster.view(ShardId::META).ok_or_else(no_shard)?;
    if query::app(&meta, &of.app).map_err(unreadable)?.is_none() {
        return Err(Refused::new(ErrorCode::InvalidField, format!("there is no app {}", of.app)));
    }
    let app_policy = query::app_retention(&meta, &of.app).map_err(unreadable)?.into();
    let id_window_ms = query::id_window(&meta, &of.app).map_err(unreadable)?;
    let mut status = RetentionStatus { of, app_policy, id_window_ms, own_policy: None, oldest_seq: None, head: None };
    if let Some(conversation) = &status.of.conversation {
        let app = &status.of.app;
        let shard = cluster.conversation_shard(app, conversation);
        cluster.read_barrier(shard).await.map_err(not_proposed)?;
        let view = cluster.view(shard).ok_or_else(no_shard)?;
        let found = query::conversation(&view, app, conversation).map_err(unreadable)?;
        let found = found.ok_or_else(|| no_conversation(conversation))?;
        let own = query::conversation_retention(&view, app, conversation).map_err(unreadable)?;
        status.own_policy = own.map(Policy::from);
        status.oldest_seq = Some(query::oldest_seq(&view, app, conversation).map_err(unreadable)?);
        status.head = Some(found.head);
    }
    Ok(status)
}

pub(super) async fn set(cluster: &Cluster, change: RetentionChange) -> Result<RetentionStatus, Refused> {
    let RetentionChange { app, conversation, policy } = change;
    let of = RetentionOf { app, conversation };
    let retention = policy.map(Retention::from);
    if retention.is_some_and(|retention| !retention.is_valid()) {
        let message = format!(
            "policy: at least {} ms and {} message",
            chat::limits::RETENTION_AGE_MS_MIN,
            chat::limits::RETENTION_COUNT_MIN
        );
        return Err(Refused::new(ErrorCode::InvalidField, message));
    }
    let (shard, command) = match (&of.conversation, retention) {
        (None, None) => return Err(Refused::new(ErrorCode::InvalidField, "policy: an app needs one")),
        (None, Some(retention)) => (ShardId::META, RetentionCommand::SetApp { app: of.app.clone(), retention }),
        (Some(conversation), retention) => {
            let (app, conversation) = (of.app.clone(), conversation.clone());
            let shard = cluster.conversation_shard(&app, &conversation);
            (shard, RetentionCommand::SetConversation { app, conversation, retention })
        }
    };
    let proposed = cluster.submit(shard, Command::Retention(command)).await.map_err(not_proposed)?;
    tracing::info!(event = "retention_set", app = %of.app, ?retention, outcome = ?proposed.outcome, "retention set");
    match (proposed.outcome, &of.conversation) {
        (Outcome::Applied { .. }, _) => show(cluster, of).await,
        (Outcome::Rejected(_), Some(conversation)) => Err(no_conversation(conversation)),
        (Outcome::Rejected(code), None) => Err(Refused::new(code, format!("there is no app {}", of.app))),
    }
}

pub(super) async fn set_id_window(cluster: &Cluster, change: IdWindowChange) -> Result<RetentionStatus, Refused> {
    let IdWindowChange { app, window_ms } = change;
    let range = limits::DEDUPE_WINDOW_MS_MIN..=limits::DEDUPE_WINDOW_MS;
    if !range.contains(&window_ms) {
        let message = format!("window_ms: {} to {} are possible", range.start(), range.end());
        return Err(Refused::new(ErrorCode::InvalidField, message));
    }
    let command = Command::Retention(RetentionCommand::SetIdWindow { app: app.clone(), window_ms });
    let proposed = cluster.submit(ShardId::META, command).await.map_err(not_proposed)?;
    match proposed.outcome {
        Outcome::Applied { .. } => {
            tracing::info!(event = "id_window_set", %app, window_ms, "how long message ids are remembered was set");
            show(cluster, RetentionOf { app, conversation: None }).await
        }
        Outcome::Rejected(code) => Err(Refused::new(code, format!("there is no app {app}"))),
    }
}

fn no_conversation(conversation: &ConversationId) -> Refused {
    Refused::new(ErrorCode::InvalidField, format!("there is no conversation {conversation}"))
}
