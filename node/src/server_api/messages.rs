//! Messages, sent and read for an app.

use actix_web::{get, post, web};
use chat::app::{SYSTEM, Scope};
use chat::body::{check_body, plain_body};
use chat::errors::ErrorCode;
use chat::event::{Mentions, Relations};
use chat::ids::{ClientMsgId, ConversationId, UserId};
use chat::limits;
use chat::state::query;
use chat::wire::{Body, Target, WireEvent};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Done;
use super::call::{Call, blocking, unreadable};
use super::forms::{Content, ConversationName, Mentioned, To, UserName};
use super::problem::{Problem, Refusals};
use crate::group::GroupAsk;
use crate::history::{HistoryError, Shown, Span, Viewer};
use crate::socket::unix_ms;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewMessage {
    /// A user, or `system`: the app itself, which need not be a member of a group.
    #[schema(value_type = UserName)]
    from: UserId,
    #[schema(value_type = To, example = json!({"user": "bob"}))]
    to: Target,
    /// The same again has one effect; with other content it is `id_conflict`.
    #[schema(value_type = uuid::Uuid)]
    client_msg_id: ClientMsgId,
    #[schema(value_type = Content, example = json!({"kind": "text", "text": "hi"}))]
    body: Body,
    /// The seq of the event that it answers.
    reply_to: Option<u64>,
    #[serde(default)]
    #[schema(value_type = Mentioned, required = false)]
    mentions: Mentions,
}

/// A message that is committed on the durable disks of a majority.
#[derive(Serialize, ToSchema)]
pub(crate) struct Sent {
    #[schema(value_type = ConversationName)]
    conversation: ConversationId,
    seq: u64,
    /// It was sent before; `seq` is that of the first time.
    duplicate: bool,
}

/// Sends a message as a user, or as the app itself.
#[utoipa::path(tag = "messages", request_body = NewMessage, responses((status = 200, description = "It is committed", body = Sent), Refusals), security(("api_key" = [])))]
#[post("/messages")]
pub(super) async fn send_message(call: Call, body: web::Json<NewMessage>) -> Result<web::Json<Sent>, Problem> {
    call.may(Scope::MessagesSend)?;
    let NewMessage { from, to, client_msg_id, body, reply_to, mentions } = body.into_inner();
    let invalid = |message: String| Problem::new(ErrorCode::InvalidField, message);
    check_body(&body).map_err(|error| invalid(format!("body: {error}")))?;
    if mentions.users.len() > limits::MENTION_USERS {
        return Err(invalid(format!("mentions: at most {} users", limits::MENTION_USERS)));
    }
    call.may_act_as(&from).await?;
    let (kind, plain) = plain_body(body);
    let relations = Relations { reply_to, mentions, ..Relations::default() };
    let relations = (relations != Relations::default()).then(|| Box::new(relations));
    let conversation = to.conversation(&from);
    let ask = GroupAsk::Send { client_msg_id, kind, plain, relations };
    let done = call.ask(conversation.clone(), from, ask).await?;
    Ok(web::Json(Sent { conversation, seq: done.seq, duplicate: done.duplicate }))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Range {
    /// Events after this seq, oldest first.
    after: Option<u64>,
    /// The last ones before this seq, instead.
    before: Option<u64>,
    /// At most 200.
    #[param(minimum = 1)]
    limit: Option<usize>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct History {
    #[schema(value_type = ConversationName)]
    conversation: ConversationId,
    /// As in docs/PROTOCOL.md.
    #[schema(value_type = Vec<Object>)]
    events: Vec<WireEvent>,
    /// The conversation's last event.
    head: u64,
    /// Events below it are deleted.
    oldest_seq: u64,
    /// More follow in the asked direction.
    more: bool,
}

/// Shows events of a conversation, each message as it is now.
#[utoipa::path(tag = "messages", params(("conversation" = ConversationName, Path), Range), responses((status = 200, description = "A page of events", body = History), Refusals), security(("api_key" = [])))]
#[get("/conversations/{conversation}/messages")]
pub(super) async fn history(
    call: Call,
    conversation: web::Path<ConversationId>,
    span: web::Query<Range>,
) -> Result<web::Json<History>, Problem> {
    call.may(Scope::MessagesRead)?;
    let Range { after, before, limit } = span.into_inner();
    let limit = super::page_limit(limit, limits::HISTORY_PAGE)?;
    let conversation = conversation.into_inner();
    let view = call.fresh_conversation(&conversation).await?;
    let _turn = call.services().pages.turn(call.services().cluster.is_pressed()).await?;
    blocking(move || {
        let found = query::conversation(&view, &call.app, &conversation).map_err(unreadable)?;
        let head = found.ok_or(ErrorCode::NotAMember)?.head;
        let after = after.unwrap_or(0).min(head);
        let (from, limit) = match before {
            None => (after + 1, limit),
            Some(before) => {
                let end = before.min(head + 1);
                let from = end.saturating_sub(limit as u64).max(after + 1);
                (from, end.saturating_sub(from) as usize)
            }
        };
        let history = &call.services().history;
        // Backwards the page ends at `before`: it is not cut there.
        let max_bytes = if before.is_some() { usize::MAX } else { limits::HISTORY_PAGE_BYTES };
        let read = history.events(&call.app, &conversation, from, limit, max_bytes);
        let Span { oldest_seq, mut events } = read.map_err(not_shown)?;
        events.retain(|event| before.is_none_or(|before| event.seq() < before));
        let more = match before {
            Some(_) => events.first().map_or(from, Shown::seq) > oldest_seq.max(after + 1),
            None => events.last().map_or(from.max(oldest_seq) - 1, Shown::seq) < head,
        };
        let reader = UserId::new(SYSTEM).expect("it is a valid id");
        let viewer = Viewer::backend(&reader, unix_ms());
        let opened = events.iter().map(|event| history.encoder().show(event, &viewer));
        let events = opened.collect::<Result<_, _>>().map_err(not_shown)?;
        Ok(web::Json(History { conversation, events, head, oldest_seq, more }))
    })
    .await
}

fn not_shown(error: HistoryError) -> Problem {
    if error.is_repairable() {
        return ErrorCode::Unavailable.into();
    }
    tracing::error!(event = "api_read_failed", %error, "a backend's read failed");
    ErrorCode::Internal.into()
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recall {
    /// A user who may recall it; none for the app itself, which may recall any message at any time.
    #[schema(value_type = Option<UserName>)]
    by: Option<UserId>,
}

/// Takes a message back, for everybody.
#[utoipa::path(tag = "messages", params(("conversation" = ConversationName, Path), ("seq" = u64, Path)), request_body = Recall, responses((status = 200, description = "It is recalled", body = Done), Refusals), security(("api_key" = [])))]
#[post("/conversations/{conversation}/messages/{seq}/recall")]
pub(super) async fn recall_message(
    call: Call,
    at: web::Path<(ConversationId, u64)>,
    body: web::Json<Recall>,
) -> Result<web::Json<Done>, Problem> {
    call.may(Scope::MessagesSend)?;
    let (conversation, seq) = at.into_inner();
    let by = body.into_inner().by.unwrap_or_else(super::system);
    call.may_act_as(&by).await?;
    let done = call.ask(conversation, by, GroupAsk::Recall { seq }).await?;
    Ok(web::Json(done.into()))
}
