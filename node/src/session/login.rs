//! Logging in: who it is, whether there is a place, and the record of it, durable before the client hears anything.

use std::sync::Arc;
use std::time::Duration;

use chat::command::{Command, UserCommand};
use chat::errors::ErrorCode;
use chat::limits;
use chat::state::{query, record};
use chat::wire::{Credentials, Device};

use super::Services;
use crate::auth::{AuthError, Authenticator, Identity};
use crate::directory::UserSlot;
use crate::security::{LoginOutcome, Method, NotRecorded, Visitor};

/// What the client is told of a login that failed.
pub(super) type LoginFailure = (ErrorCode, &'static str);

pub(super) async fn login(
    services: Arc<Services>,
    visitor: Visitor,
    session: String,
    auth: Credentials,
) -> Result<(Identity, UserSlot), LoginFailure> {
    let method = match &auth {
        Credentials::Password { .. } => Method::Password,
        Credentials::Token(_) => Method::Token,
    };
    let deadline = Duration::from_millis(limits::REQUEST_TIMEOUT_MS);
    let answer = tokio::time::timeout(deadline, services.authenticator.login(&auth)).await;
    let identity = match answer.unwrap_or(Err(AuthError::Unavailable)) {
        Ok(identity) => identity,
        Err(error) => {
            let claimed = Authenticator::claimed(&auth);
            let outcome = LoginOutcome::refused(claimed.as_ref(), error);
            services.security.login(&visitor, method, outcome).await.map_err(not_recorded)?;
            return Err((error.code(), words(error)));
        }
    };
    let Some(slot) = services.sessions.enter(&identity) else {
        let code = ErrorCode::TooManySessions;
        let outcome = LoginOutcome::Refused { claimed: Some(&identity), code, reason: code.name().to_owned() };
        services.security.login(&visitor, method, outcome).await.map_err(not_recorded)?;
        return Err((code, "the user has as many connections to this node as allowed"));
    };
    let outcome = LoginOutcome::Accepted { identity: &identity, session: &session };
    services.security.login(&visitor, method, outcome).await.map_err(not_recorded)?;
    Ok((identity, slot))
}

fn words(error: AuthError) -> &'static str {
    match error {
        AuthError::Refused(_) => "user, password or token are wrong",
        AuthError::TokenExpired => "the token has expired",
        AuthError::Overloaded => "too many logins at once",
        AuthError::Unavailable => "accounts cannot be read now",
        AuthError::Internal => "the login could not be checked",
    }
}

/// Fails closed: a login that leaves no record is none.
fn not_recorded(error: NotRecorded) -> LoginFailure {
    match error {
        NotRecorded::Overloaded => (ErrorCode::Overloaded, "too many logins at once"),
        NotRecorded::Failed => (ErrorCode::Internal, "the login could not be recorded"),
    }
}

/// Remembers the device. The login does not wait for it: the list of devices is for looking at, not for deciding. So
/// somebody who was here a moment ago, as everybody was who comes back after a node's end, costs the log nothing.
pub(super) async fn see_device(services: Arc<Services>, identity: Identity, device: Device, now_ms: u64) {
    let Identity { app, user } = identity;
    let shard = services.cluster.home_shard(&app, &user);
    let view = services.cluster.view(shard);
    let known = view.and_then(|view| query::device(&view, &app, &user, &device.id).ok().flatten());
    if known.is_some_and(|known| is_recent(&known, &device, now_ms)) {
        return;
    }
    let command = UserCommand::SeeDevice { device: device.id, platform: device.platform, name: device.name };
    if let Err(error) = services.cluster.submit(shard, Command::User { app, user, command }).await {
        tracing::warn!(%error, "a device was not remembered");
    }
}

fn is_recent(known: &record::Device, device: &Device, now_ms: u64) -> bool {
    known.platform == device.platform
        && known.name == device.name
        && now_ms.abs_diff(known.last_login_ms) < limits::DEVICE_SEEN_MS
}

#[cfg(test)]
mod tests {
    use chat::ids::DeviceId;

    use super::*;

    #[test]
    fn a_device_is_written_down_when_it_has_changed_or_its_record_is_old() {
        let known = record::Device {
            platform: "web".to_owned(),
            name: "desk".to_owned(),
            first_seen_ms: 1,
            last_login_ms: 1_000_000,
        };
        let device =
            |name: &str| Device { id: DeviceId::new("d").unwrap(), platform: "web".to_owned(), name: name.to_owned() };
        assert!(is_recent(&known, &device("desk"), 1_000_000 + limits::DEVICE_SEEN_MS - 1));
        assert!(!is_recent(&known, &device("desk"), 1_000_000 + limits::DEVICE_SEEN_MS));
        assert!(!is_recent(&known, &device("lap"), 1_000_000));
    }
}
