//! The server API: what an app's backend asks over HTTP, on the client listener under `/v1` (docs/SERVER_API.md).
//!
//! - `call`: who asks, whether it may, and the way to the group actors. `problem`: what a failure is told as.
//! - `users`, `messages`, `groups`, `settings`: the endpoints, each with its description; [`document`] puts them together.
//!
//! **Invariant:** a request reaches nothing of another app than its key's: the app is never in an address or a body.

mod call;
mod forms;
mod groups;
mod messages;
mod problem;
mod settings;
mod users;

use std::sync::Arc;

use actix_web::error::JsonPayloadError;
use actix_web::{HttpResponse, middleware, web};
use chat::app::SYSTEM;
use chat::errors::ErrorCode;
use chat::ids::UserId;
use chat::limits;
use serde::Serialize;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi, ToSchema};

pub(crate) use call::Api;
use problem::Problem;

use crate::group::GroupDone;

/// Where it is, on the client listener.
const ROOT: &str = "/v1";

/// Something that is done, or was so already.
#[derive(Serialize, ToSchema)]
pub(crate) struct Done {
    /// The event's place in the conversation, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    /// It was so already.
    duplicate: bool,
}

impl From<GroupDone> for Done {
    fn from(done: GroupDone) -> Self {
        Self { seq: Some(done.seq).filter(|seq| *seq > 0), duplicate: done.duplicate }
    }
}

/// Whom the app itself appears as.
fn system() -> UserId {
    UserId::new(SYSTEM).expect("it is a valid id")
}

/// Asking for more than a page holds gives a full page; asking for nothing is a mistake.
fn page_limit(limit: Option<usize>, max: usize) -> Result<usize, Problem> {
    match limit {
        Some(0) => Err(Problem::new(ErrorCode::InvalidField, "limit: ask for at least one")),
        Some(limit) => Ok(limit.min(max)),
        None => Ok(max),
    }
}

/// Every endpoint, once: it is served and described, or neither.
macro_rules! endpoints {
    ($($endpoint:path),* $(,)?) => {
        #[derive(OpenApi)]
        #[openapi(
            info(title = "Campanile server API", description = "For the backends of apps. docs/SERVER_API.md begins with how to get a key.", license(name = "Apache-2.0", identifier = "Apache-2.0")),
            servers((url = "/v1")),
            paths($($endpoint),*),
            modifiers(&ApiKeys),
        )]
        struct Described;

        fn serve(scope: actix_web::Scope) -> actix_web::Scope {
            scope$(.service($endpoint))*
        }
    };
}

endpoints! {
    users::import_users,
    users::list_users,
    users::get_user,
    users::deactivate_user,
    users::activate_user,
    users::set_password,
    users::revoke_logins,
    users::user_devices,
    messages::send_message,
    messages::history,
    messages::recall_message,
    groups::create_group,
    groups::get_group,
    groups::change_group,
    groups::dissolve_group,
    groups::list_members,
    groups::add_members,
    groups::remove_member,
    groups::set_role,
    groups::ban_user,
    groups::unban_user,
    groups::mute_member,
    groups::unmute_member,
    settings::app_settings,
}

struct ApiKeys;

impl Modify for ApiKeys {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An app's API key")).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("api_key", SecurityScheme::Http(scheme));
    }
}

/// The OpenAPI 3.1 description, from the types that the endpoints take and give.
fn document() -> utoipa::openapi::OpenApi {
    Described::openapi()
}

/// Adds the API to the client listener: behind what else is there.
pub(crate) fn routes(api: Arc<Api>) -> impl FnOnce(&mut web::ServiceConfig) {
    let problem = |problem: Problem| actix_web::Error::from(problem);
    let invalid = move |message: String| problem(Problem::new(ErrorCode::InvalidField, message));
    let json = web::JsonConfig::default().limit(limits::API_BODY_BYTES).error_handler(move |error, _| match error {
        JsonPayloadError::Overflow { .. } | JsonPayloadError::OverflowKnownLength { .. } => {
            problem(Problem::new(ErrorCode::FrameTooLarge, format!("at most {} bytes", limits::API_BODY_BYTES)))
        }
        error => invalid(error.to_string()),
    });
    let path = web::PathConfig::default().error_handler(move |error, _| invalid(error.to_string()));
    let query = web::QueryConfig::default().error_handler(move |error, _| invalid(error.to_string()));
    move |config| {
        let nothing = || async { Err::<HttpResponse, _>(Problem::from(ErrorCode::NoSuchResource)) };
        let scope = web::scope(ROOT).app_data(json).app_data(path).app_data(query).app_data(web::Data::from(api));
        config
            .route("/v1/openapi.json", web::get().to(|| async { web::Json(document()) }))
            .service(serve(scope).default_service(web::to(nothing)).wrap(middleware::from_fn(call::admitted)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beside the macro, in the text: whoever writes a description and forgets the list hears of it.
    #[test]
    fn every_endpoint_that_is_written_is_described_and_served() {
        let sources = [
            include_str!("users.rs"),
            include_str!("messages.rs"),
            include_str!("groups.rs"),
            include_str!("settings.rs"),
        ];
        let count = |what: &str| sources.iter().map(|source| source.matches(what).count()).sum::<usize>();
        let document = serde_json::to_value(document()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let operations = paths.values().map(|path| path.as_object().unwrap().len()).sum::<usize>();
        let served: usize = ["#[get(", "#[post(", "#[put(", "#[patch(", "#[delete("].map(count).iter().sum();
        assert_eq!((served, count("#[utoipa::path(")), (operations, operations));
        assert_eq!(document["openapi"], "3.1.0");
    }

    #[test]
    fn a_done_event_has_its_place() {
        let done = |seq| serde_json::to_value(Done::from(GroupDone { seq, duplicate: false })).unwrap();
        assert_eq!(done(7), serde_json::json!({ "seq": 7, "duplicate": false }));
        assert_eq!(done(0), serde_json::json!({ "duplicate": false }));
    }
}
