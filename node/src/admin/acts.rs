//! What is asked of the admin listener that changes something, for the security log: who, from where, what, and what came
//! of it. A request is recorded durably before it is served, and refused if that fails; its result is recorded after it.

use std::net::{IpAddr, Ipv4Addr};

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::USER_AGENT;
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse, web};
use bytes::Bytes;
use chat::errors::ErrorCode;
use chat::limits;
use futures_util::stream;
use serde_json::Value;
use uuid::Uuid;

use super::server::{Refused, Shared, refusal};
use crate::security::record::{Administration, AdministrationResult, bounded};
use crate::security::{NotRecorded, fingerprint};

/// The error that a refusal told, kept beside the response.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told(pub(super) ErrorCode);

/// Something to be done, in words that stay the same from release to release.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Act {
    verb: String,
    subject: String,
}

/// What a request asks to be done; nothing if it only looks. Every other request is an act, known by name or not.
fn act_of(method: &Method, path: &str, body: &Value) -> Option<Act> {
    if matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let path = path.strip_prefix("/v1/").unwrap_or(path);
    let parts: Vec<&str> = path.split('/').collect();
    let of = |fields: &[&str]| subject(body, fields);
    let (verb, subject) = match (method.as_str(), parts.as_slice()) {
        ("POST", ["join-tokens"]) => ("join_token.make", of(&["uses", "lifetime_ms"])),
        ("DELETE", ["join-tokens"]) => ("join_token.withdraw", String::new()),
        ("POST", ["join"]) => ("node.join", of(&["facts", "version", "level"])),
        ("DELETE", ["nodes", node]) => ("node.remove", format!("node={node}")),
        ("POST", ["drain"]) => ("node.drain", of(&["spread_ms"])),
        ("DELETE", ["drain"]) => ("node.resume", String::new()),
        ("POST", ["place"]) => ("shard.place", of(&["shard", "voters"])),
        ("POST", ["rebalance"]) => ("shard.rebalance", of(&["replicas"])),
        ("PUT", ["retention", "ids"]) => ("retention.ids", of(&["app", "window_ms"])),
        ("PUT", ["retention"]) => ("retention.set", of(&["app", "conversation", "policy"])),
        ("POST", ["backup", backup, shard]) => ("backup.copy", format!("backup={backup} shard={shard}")),
        ("PUT", ["level"]) => ("level.raise", of(&["level"])),
        ("POST", ["scrub"]) => ("node.scrub", String::new()),
        ("POST", ["verify", shard]) => ("shard.verify", format!("shard={shard}")),
        ("POST", ["users"]) => ("user.add", of(&["app", "user"])),
        ("POST", ["apps"]) => ("app.create", of(&["app", "name"])),
        ("PATCH", ["apps", app]) => ("app.set", format!("app={app} {}", of(&["changes"]))),
        ("POST", ["apps", app, "keys"]) => ("app.key.add", format!("app={app} {}", of(&["id"]))),
        ("DELETE", ["apps", app, "keys", id]) => ("app.key.remove", format!("app={app} id={id}")),
        ("POST", ["apps", app, "api-keys"]) => {
            ("app.api_key.make", format!("app={app} {}", of(&["name", "scopes", "lifetime_ms"])))
        }
        ("DELETE", ["apps", app, "api-keys", id]) => ("app.api_key.revoke", format!("app={app} id={id}")),
        ("POST", ["apps", app, "freeze"]) => ("app.freeze", format!("app={app}")),
        ("DELETE", ["apps", app, "freeze"]) => ("app.thaw", format!("app={app}")),
        (other, _) => return Some(Act { verb: format!("{other} {path}"), subject: String::new() }),
    };
    Some(Act { verb: verb.to_owned(), subject })
}

/// The named fields of a request's body: only those, since others may hold passwords and secrets.
fn subject(body: &Value, fields: &[&str]) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let named = |field: &&str| Some(format!("{field}={}", text(body.get(field)?)));
    fields.iter().filter_map(named).collect::<Vec<_>>().join(" ")
}

/// Records what changes something, before and after it is done. Whoever is not let in is refused before this.
pub(crate) async fn recorded(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(next.call(request).await?.map_into_boxed_body());
    }
    let body = request.extract::<web::Bytes>().await?;
    let form = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let shared = request.app_data::<web::Data<Shared>>().cloned();
    let (Some(act), Some(shared)) = (act_of(request.method(), request.path(), &form), shared) else {
        let answer = refusal(&Refused::new(ErrorCode::Internal, "the request cannot be recorded"));
        return Ok(request.into_response(answer));
    };
    let asked = administration(&request, &shared, &act, &form);
    if let Err(error) = shared.backend.record(asked.clone()).await {
        return Ok(request.into_response(not_recorded(error)));
    }
    request.set_payload(replayed(body));
    let response = next.call(request).await?.map_into_boxed_body();
    let told = response.response().extensions().get::<Told>().map(|told| told.0);
    let result = match told {
        None if response.status().is_success() => AdministrationResult::Done,
        None => AdministrationResult::Refused { code: response.status().as_u16(), name: "http".to_owned() },
        Some(code) => AdministrationResult::Refused { code: code.number(), name: code.name().to_owned() },
    };
    // It is done, and the record before says that it was asked for: an answer that hides that helps nobody.
    if let Err(error) = shared.backend.record(Administration { result, ..asked }).await {
        tracing::error!(event = "act_result_not_recorded", verb = act.verb, %error, "what came of it is not on record");
    }
    Ok(response)
}

fn administration(request: &ServiceRequest, shared: &Shared, act: &Act, form: &Value) -> Administration {
    let by = match form.get("secret").and_then(Value::as_str) {
        Some(secret) if act.verb == "node.join" => format!("join token {}", fingerprint(secret)),
        _ => shared.admin.clone(),
    };
    let agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let from = request.peer_addr();
    Administration {
        act: Uuid::now_v7(),
        by,
        ip: from.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |from| from.ip()),
        port: from.map_or(0, |from| from.port()),
        user_agent: bounded(agent, limits::USER_AGENT_BYTES),
        verb: bounded(&act.verb, limits::NAME_BYTES),
        subject: bounded(&act.subject, limits::ACT_SUBJECT_BYTES),
        result: AdministrationResult::Asked,
    }
}

fn not_recorded(error: NotRecorded) -> HttpResponse {
    let code = match error {
        NotRecorded::Overloaded => ErrorCode::Overloaded,
        NotRecorded::Failed => ErrorCode::Unavailable,
    };
    refusal(&Refused::new(code, format!("{error}: what is not recorded is not done")))
}

/// The body again, for the handler.
fn replayed(body: Bytes) -> Payload {
    Payload::Stream { payload: Box::pin(stream::once(async move { Ok(body) })) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_changes_something_has_a_name_and_shows_no_secret() {
        let said = |method: Method, path: &str, body: Value| {
            let Act { verb, subject } = act_of(&method, path, &body)?;
            Some(format!("{verb}|{subject}"))
        };
        let user = json!({ "app": "main", "user": "alice", "password": "longenough" });
        assert_eq!(said(Method::POST, "/v1/users", user).as_deref(), Some("user.add|app=main user=alice"));
        let key = json!({ "name": "orders", "scopes": ["users:read"], "secret": "s" });
        assert_eq!(
            said(Method::POST, "/v1/apps/shop/api-keys", key).as_deref(),
            Some(r#"app.api_key.make|app=shop name=orders scopes=["users:read"]"#)
        );
        let thaw = said(Method::DELETE, "/v1/apps/shop/freeze", Value::Null);
        assert_eq!(thaw.as_deref(), Some("app.thaw|app=shop"));
        let join = json!({ "secret": "s3", "request": "PEM", "facts": { "peer": "h:1" }, "version": "1", "level": 2 });
        let wanted = r#"node.join|facts={"peer":"h:1"} version=1 level=2"#;
        assert_eq!(said(Method::POST, "/v1/join", join).as_deref(), Some(wanted));
        let place = json!({ "shard": 3, "voters": [1, 2] });
        assert_eq!(said(Method::POST, "/v1/place", place).as_deref(), Some("shard.place|shard=3 voters=[1,2]"));
        assert_eq!(said(Method::DELETE, "/v1/nodes/3", Value::Null).as_deref(), Some("node.remove|node=3"));
        assert_eq!(said(Method::DELETE, "/v1/drain", Value::Null).as_deref(), Some("node.resume|"));
        // One that was added without a name here is recorded all the same.
        assert_eq!(said(Method::PATCH, "/v1/new/thing", Value::Null).as_deref(), Some("PATCH new/thing|"));
        assert_eq!(said(Method::GET, "/v1/status", Value::Null), None);
    }
}
