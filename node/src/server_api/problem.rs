//! What a backend is told when a request fails: the same as clients on their wire, with an HTTP status.

use std::collections::BTreeMap;
use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use actix_web::{HttpResponse, ResponseError};
use chat::errors::ErrorCode;
use chat::limits;
use chat::wire::WireError;
use cluster::ProposeError;
use serde::Serialize;
use utoipa::openapi::{RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToResponse, ToSchema};
use uuid::Uuid;

use crate::group::GroupFailure;

/// Why a request was not done, or may not have been.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    code: ErrorCode,
    message: String,
    retry_after_ms: Option<u64>,
}

impl Problem {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let retry_after_ms = match code {
            ErrorCode::Overloaded => Some(limits::PAGES_RETRY_MS),
            code if code.retryable() => Some(limits::FULL_RETRY_MS),
            _ => None,
        };
        Self { code, message: message.into(), retry_after_ms }
    }

    pub(super) fn after(self, retry_after_ms: u64) -> Self {
        Self { retry_after_ms: Some(retry_after_ms), ..self }
    }

    /// As it is told; its `trace_id` finds it in the node's log.
    pub(super) fn told(&self) -> ProblemBody {
        let Self { code, message, retry_after_ms } = self;
        let trace_id = Uuid::now_v7().simple().to_string();
        if code.retryable() && !matches!(code, ErrorCode::Overloaded | ErrorCode::RateLimited) {
            let name = code.name();
            tracing::warn!(event = "api_request_failed", name, trace_id, message, "a backend's request failed");
        }
        let mut error = WireError::new(*code, message.as_str(), trace_id);
        error.retry_after_ms = *retry_after_ms;
        error.into()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.message)
    }
}

impl From<ErrorCode> for Problem {
    fn from(code: ErrorCode) -> Self {
        Self::new(code, words(code))
    }
}

impl From<GroupFailure> for Problem {
    fn from(failure: GroupFailure) -> Self {
        match failure {
            GroupFailure::Rejected(code) => code.into(),
            GroupFailure::Overloaded { retry_after_ms } => Self::from(ErrorCode::Overloaded).after(retry_after_ms),
            GroupFailure::TooOften { retry_after_ms } => Self::from(ErrorCode::RateLimited).after(retry_after_ms),
            GroupFailure::NotLeader { .. } | GroupFailure::Unavailable | GroupFailure::OutOfTurn => {
                ErrorCode::Unavailable.into()
            }
            GroupFailure::Unknown => ErrorCode::OutcomeUnknown.into(),
            GroupFailure::Internal => ErrorCode::Internal.into(),
        }
    }
}

impl From<ProposeError> for Problem {
    fn from(error: ProposeError) -> Self {
        let code = match error {
            ProposeError::Overloaded => ErrorCode::Overloaded,
            ProposeError::NotLeader { .. } | ProposeError::Unavailable => ErrorCode::Unavailable,
            ProposeError::Unknown => ErrorCode::OutcomeUnknown,
            ProposeError::Storage => ErrorCode::Internal,
            ProposeError::NotSwitchedOn { .. } => ErrorCode::NotSwitchedOn,
        };
        Self::new(code, error.to_string())
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        status(self.code)
    }

    fn error_response(&self) -> HttpResponse {
        let mut answer = HttpResponse::build(self.status_code());
        if let Some(ms) = self.retry_after_ms {
            answer.insert_header((RETRY_AFTER, ms.div_ceil(1_000).max(1)));
        }
        answer.json(self.told())
    }
}

fn words(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::BadApiKey => "send the header `Authorization: Bearer KEY` with an API key of your app",
        ErrorCode::NotAMember => "no such conversation, or the user is not a member of it",
        ErrorCode::Forbidden => "this cannot be done in the name of this user, or to this member",
        ErrorCode::UserNotFound => "no such user, or no such member",
        ErrorCode::IdConflict => "this client_msg_id was used with other content",
        ErrorCode::GroupExists => "this group id is taken",
        ErrorCode::AlreadyMember => "all of them are members already",
        ErrorCode::OwnerMustStay => "make another member the owner first",
        ErrorCode::LimitReached => "a limit of the app, the group or the message is reached",
        ErrorCode::AccountExists => "the account exists already",
        ErrorCode::EventNotFound => "no such event, or it is deleted or no message",
        ErrorCode::MessageRecalled => "the message was recalled",
        ErrorCode::GroupDissolved => "the group is dissolved",
        ErrorCode::AppFrozen => "the app is frozen: an operator thaws it",
        ErrorCode::UserDeactivated => "the user is deactivated",
        ErrorCode::RateLimited => "the API key asks more often than it may",
        ErrorCode::Overloaded => "too much is asked at once, nothing was done",
        ErrorCode::Unavailable => "no leader or no majority at the moment, nothing was done",
        ErrorCode::OutcomeUnknown => "no answer in time, it may have been done: the same again is safe",
        ErrorCode::Internal => "the service failed, it may have been done",
        ErrorCode::NoSuchResource => "there is nothing at this address, or not by this method",
        other => other.name(),
    }
}

fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::MalformedFrame | ErrorCode::InvalidField | ErrorCode::SeqBeyondHead => StatusCode::BAD_REQUEST,
        ErrorCode::FrameTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::BadApiKey => StatusCode::UNAUTHORIZED,
        ErrorCode::NotAMember
        | ErrorCode::UserNotFound
        | ErrorCode::EventNotFound
        | ErrorCode::AppNotFound
        | ErrorCode::NoSuchResource => StatusCode::NOT_FOUND,
        ErrorCode::IdConflict
        | ErrorCode::GroupExists
        | ErrorCode::AlreadyMember
        | ErrorCode::AccountExists
        | ErrorCode::OwnerMustStay
        | ErrorCode::GroupDissolved
        | ErrorCode::MessageRecalled
        | ErrorCode::LimitReached
        | ErrorCode::TooLate
        | ErrorCode::NotSwitchedOn => StatusCode::CONFLICT,
        ErrorCode::RateLimited | ErrorCode::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::OutcomeUnknown => StatusCode::GATEWAY_TIMEOUT,
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        // What is left is about who asks, or for whom.
        _ => StatusCode::FORBIDDEN,
    }
}

/// Every answer that is no success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// Of the error catalogue in docs/PROTOCOL.md; never changes its meaning.
    code: u16,
    name: String,
    /// For people; may change.
    message: String,
    /// The same request can succeed later.
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    /// What the request did: `none`, `unknown` or `applied`.
    #[schema(value_type = String, pattern = "^(none|unknown|applied)$")]
    effect: chat::errors::Effect,
    /// Finds the request in the node's log.
    trace_id: String,
}

impl From<WireError> for ProblemBody {
    fn from(error: WireError) -> Self {
        let WireError { code, name, message, retryable, retry_after_ms, effect, trace_id } = error;
        Self { code, name, message, retryable, retry_after_ms, effect, trace_id }
    }
}

#[derive(ToResponse)]
#[response(description = "Not done, or not known to be: `effect` says which")]
#[allow(dead_code, reason = "only its description is used")]
struct Refused(ProblemBody);

/// The answers that every request may get besides its own.
pub(super) struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let statuses = [400, 401, 403, 404, 409, 413, 429, 500, 503, 504];
        let (_, refused) = Refused::response();
        let refused = match refused {
            RefOr::T(refused) => refused,
            RefOr::Ref(_) => ResponseBuilder::new().build(),
        };
        statuses.into_iter().map(|status: u16| (status.to_string(), RefOr::T(refused.clone()))).collect()
    }
}
