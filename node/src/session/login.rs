//! Logging in: who it is, whether there is a place, and the record of it, durable before the client hears anything.

use std::sync::Arc;
use std::time::Duration;

use chat::app::{AppSettings, LoginPolicy};
use chat::command::{Command, Outcome, UserCommand};
use chat::errors::ErrorCode;
use chat::ids::{DeviceId, ShardId};
use chat::limits;
use chat::state::{query, record};
use chat::wire::{Credentials, Device, Limits, Token};
use cluster::{ProposeError, Proposed};

use uuid::Uuid;

use super::Services;
use crate::apps;
use crate::auth::{AuthError, Authenticator, Identity, Login, account_in};
use crate::directory::{Arrival, UserSlot};
use crate::security::{LoginOutcome, Method, NotRecorded, Visitor};

/// What the client is told of a login that failed.
pub(super) type LoginFailure = (ErrorCode, &'static str);

pub(super) async fn login(
    services: Arc<Services>,
    visitor: Visitor,
    auth: Credentials,
    place: Arrival,
) -> Result<Entered, LoginFailure> {
    let method = match &auth {
        Credentials::Password { .. } => Method::Password,
        Credentials::Token(_) => Method::Token,
    };
    let deadline = Duration::from_millis(limits::REQUEST_TIMEOUT_MS);
    let answer = tokio::time::timeout(deadline, services.authenticator.login(&auth, &place.device)).await;
    let login = match answer.unwrap_or(Err(AuthError::Unavailable)) {
        Ok(login) => login,
        Err(error) => {
            let claimed = Authenticator::claimed(&auth);
            let outcome = LoginOutcome::refused(claimed.as_ref(), error);
            services.security.login(&visitor, method, outcome).await.map_err(not_recorded)?;
            return Err((error.code(), words(error)));
        }
    };
    let identity = &login.identity;
    let (device, session, platform) = (place.device.clone(), place.session, place.platform.clone());
    let entered = match services.sessions.enter(identity, place) {
        None => Err((ErrorCode::TooManySessions, "the user has as many connections to this node as allowed")),
        Some(slot) => match settings(&services, &login, &device) {
            Err(error) => Err((error.code(), words(error))),
            Ok(settings) => begin(&services, identity, &slot, (session, platform), settings.login_policy)
                .await
                .map(|()| (slot, settings)),
        },
    };
    let (slot, settings) = match entered {
        Ok(entered) => entered,
        Err((code, words)) => {
            let outcome = LoginOutcome::Refused { claimed: Some(identity), code, reason: code.name().to_owned() };
            services.security.login(&visitor, method, outcome).await.map_err(not_recorded)?;
            return Err((code, words));
        }
    };
    let outcome = LoginOutcome::Accepted { identity, session: &session.simple().to_string() };
    services.security.login(&visitor, method, outcome).await.map_err(not_recorded)?;
    let AppSettings { edit_window_ms, recall_window_ms, .. } = settings;
    let limits = Limits { edit_window_ms, recall_window_ms, ..Limits::default() };
    Ok(Entered { login, slot, limits })
}

/// A login that is done.
pub(super) struct Entered {
    pub(super) login: Login,
    pub(super) slot: UserSlot,
    /// As the app has them.
    pub(super) limits: Limits,
}

/// The app's settings, for a session that has its place. What was revoked, deactivated or frozen between the look at the account and
/// the place: either this node has applied it, or will tell the place. What cannot be read counts as revoked.
fn settings(services: &Services, login: &Login, device: &DeviceId) -> Result<AppSettings, AuthError> {
    let Identity { app, user } = &login.identity;
    let view = services.cluster.view(services.cluster.home_shard(app, user)).ok_or(AuthError::Revoked)?;
    // An account that this node has not heard of yet was made by this login.
    match account_in(&view, app, user, device).map_err(|_| AuthError::Revoked)? {
        Some(account) if !account.active => return Err(AuthError::Deactivated),
        Some(account) if login.is_revoked_by(&account) => return Err(AuthError::Revoked),
        Some(_) | None => {}
    }
    match apps::record(&services.cluster, app) {
        Ok(Some(app)) if app.frozen => Err(AuthError::Frozen),
        Ok(Some(app)) => Ok(app.settings),
        Ok(None) | Err(_) => Err(AuthError::Internal),
    }
}

/// Where the app ends older sessions, the log says which is the newer one: the same to every node, which then ends its own. If
/// it is not known whether it is in the log, the older ones may end although this one never begins.
async fn begin(
    services: &Services,
    who: &Identity,
    slot: &UserSlot,
    (session, platform): (Uuid, String),
    policy: LoginPolicy,
) -> Result<(), LoginFailure> {
    if policy == LoginPolicy::Several {
        slot.begin();
        return Ok(());
    }
    let command = UserCommand::BeginSession { session, platform, policy };
    let Identity { app, user } = who.clone();
    let shard = services.cluster.home_shard(&app, &user);
    let code = match services.cluster.submit(shard, Command::User { app, user, command }).await {
        Ok(Proposed { outcome: Outcome::Applied { .. }, .. }) => return Ok(()),
        Ok(Proposed { outcome: Outcome::Rejected(code), .. }) => code,
        Err(ProposeError::Overloaded) => ErrorCode::Overloaded,
        Err(_) => ErrorCode::Unavailable,
    };
    Err((code, "the login did not get its place in the log"))
}

/// How long the ids of the app's messages are remembered, as far as this node has heard. What cannot be read now is the
/// least that there can be: a promise that is kept anyway.
pub(super) fn id_window_ms(services: &Services, identity: &Identity) -> u64 {
    let view = services.cluster.view(ShardId::META);
    let known = view.and_then(|meta| query::id_window(&meta, &identity.app).ok());
    known.unwrap_or(limits::DEDUPE_WINDOW_MS_MIN)
}

/// A newer token for a session: when it ends then.
pub(super) async fn refresh(
    services: Arc<Services>,
    who: Identity,
    device: DeviceId,
    token: Token,
) -> Result<u64, LoginFailure> {
    let deadline = Duration::from_millis(limits::REQUEST_TIMEOUT_MS);
    let times = tokio::time::timeout(deadline, services.authenticator.refresh(&token.0, &who, &device)).await;
    let times = times.unwrap_or(Err(AuthError::Unavailable));
    times.map(|times| times.ends_ms).map_err(|error| (error.code(), words(error)))
}

/// A command about the user's own account.
pub(super) async fn change(services: Arc<Services>, who: Identity, command: UserCommand) -> Result<(), ErrorCode> {
    let Identity { app, user } = who;
    let shard = services.cluster.home_shard(&app, &user);
    match services.cluster.submit(shard, Command::User { app, user, command }).await {
        Ok(Proposed { outcome: Outcome::Applied { .. }, .. }) => Ok(()),
        Ok(Proposed { outcome: Outcome::Rejected(code), .. }) => Err(code),
        Err(ProposeError::Overloaded) => Err(ErrorCode::Overloaded),
        Err(ProposeError::NotSwitchedOn { .. }) => Err(ErrorCode::NotSwitchedOn),
        Err(ProposeError::Unknown) => Err(ErrorCode::OutcomeUnknown),
        Err(ProposeError::Storage) => Err(ErrorCode::Internal),
        Err(ProposeError::NotLeader { .. } | ProposeError::Unavailable) => Err(ErrorCode::Unavailable),
    }
}

fn words(error: AuthError) -> &'static str {
    match error {
        AuthError::Refused(_) => "user, password or token are wrong",
        AuthError::TokenExpired => "the token has expired",
        AuthError::Revoked => "the user's logins were revoked after the token was issued: get a new one",
        AuthError::Overloaded => "too many logins at once",
        AuthError::Unavailable => "accounts cannot be read now",
        AuthError::Internal => "the login could not be checked",
        AuthError::Frozen => "the app lets nobody in now",
        AuthError::Deactivated => "the user is deactivated",
        AuthError::Full => "the app has as many users as it may have",
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
            revoked_ms: 0,
        };
        let device =
            |name: &str| Device { id: DeviceId::new("d").unwrap(), platform: "web".to_owned(), name: name.to_owned() };
        assert!(is_recent(&known, &device("desk"), 1_000_000 + limits::DEVICE_SEEN_MS - 1));
        assert!(!is_recent(&known, &device("desk"), 1_000_000 + limits::DEVICE_SEEN_MS));
        assert!(!is_recent(&known, &device("lap"), 1_000_000));
    }
}
