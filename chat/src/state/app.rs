//! Apps: what they are set to, and the keys of their tokens and backends (metadata group). How much of an app there is, and which
//! of its users are let in, is noted in the shards where it is.

use super::overlay::{Overlay, Step, Stop, require};
use super::record::{Account, ApiKey, App, AppCounts, Deactivated, Record, TokenKey};
use super::{View, done, key};
use crate::app::{AppChange, AppCommand, AppSettings, NewApiKey};
use crate::command::{Outcome, Revoked};
use crate::errors::ErrorCode;
use crate::event::Committed;
use crate::ids::{AppId, KeyId, UserId};
use crate::limits;
use crate::text;

/// The id of the token key that a node's configuration names.
const CONFIGURED: &str = "config";

pub(super) fn apply<V: View>(work: &mut Overlay<'_, V>, app: &AppId, command: &AppCommand) -> Step<Outcome, V> {
    match command {
        AppCommand::Create { name } => create(work, app, name),
        AppCommand::Change { changes } => change(work, app, changes),
        AppCommand::AddTokenKey { id, pem } => add_token_key(work, app, id, pem),
        AppCommand::RemoveTokenKey { id } => remove_token_key(work, app, id),
        AppCommand::AddApiKey { id, key } => add_api_key(work, app, id, key),
        AppCommand::RevokeApiKey { id } => revoke_api_key(work, app, id),
        AppCommand::SetFrozen { frozen } => set_frozen(work, app, *frozen),
    }
}

/// Makes the app that a node is configured with. One that is on record stays as operators have set it since, its keys
/// too: otherwise a node that starts again would bring back a key that was taken away.
pub(super) fn register<V: View>(work: &mut Overlay<'_, V>, app: &AppId, pem: &str) -> Step<Outcome, V> {
    require(is_pem(pem), ErrorCode::InvalidField)?;
    if work.load::<App>(&key::app(app))?.is_some() {
        return Ok(done(true));
    }
    let id = KeyId::new(CONFIGURED).expect("it is a valid id");
    let token_keys = vec![TokenKey { id, pem: pem.to_owned(), added_ms: work.time_ms }];
    make(work, app, app.as_str(), token_keys)
}

fn create<V: View>(work: &mut Overlay<'_, V>, app: &AppId, name: &str) -> Step<Outcome, V> {
    require(text::check_name(name).is_ok(), ErrorCode::InvalidField)?;
    if let Some(present) = work.load::<App>(&key::app(app))? {
        // As it was made: this is a repetition.
        let untouched = present.name == name && present.token_keys.is_empty() && !present.frozen;
        require(untouched && present.settings == AppSettings::default(), ErrorCode::AppExists)?;
        return Ok(done(true));
    }
    make(work, app, name, Vec::new())
}

fn make<V: View>(work: &mut Overlay<'_, V>, app: &AppId, name: &str, token_keys: Vec<TokenKey>) -> Step<Outcome, V> {
    require(work.scan(&key::apps(), limits::APPS)?.len() < limits::APPS, ErrorCode::LimitReached)?;
    let (name, created_ms, settings) = (name.to_owned(), work.time_ms, AppSettings::default());
    work.store(key::app(app), &App { name, created_ms, token_keys, settings, frozen: false });
    Ok(done(false))
}

fn existing<V: View>(work: &Overlay<'_, V>, app: &AppId) -> Step<App, V> {
    work.load(&key::app(app))?.ok_or(Stop::Rejected(ErrorCode::AppNotFound))
}

/// Stores what an app has become, if it is another.
fn keep<V: View>(work: &mut Overlay<'_, V>, app: &AppId, before: &App, after: &App) -> Outcome {
    if before != after {
        work.store(key::app(app), after);
    }
    done(before == after)
}

fn change<V: View>(work: &mut Overlay<'_, V>, app: &AppId, changes: &[AppChange]) -> Step<Outcome, V> {
    require(changes.len() <= limits::APP_CHANGES, ErrorCode::LimitReached)?;
    require(changes.iter().all(AppChange::is_valid), ErrorCode::InvalidField)?;
    let before = existing(work, app)?;
    let mut after = before.clone();
    for change in changes {
        change.set(&mut after.settings);
        if let AppChange::Name(name) = change {
            after.name.clone_from(name);
        }
    }
    Ok(keep(work, app, &before, &after))
}

fn is_pem(pem: &str) -> bool {
    !pem.is_empty() && pem.len() <= limits::PUBLIC_KEY_BYTES
}

fn add_token_key<V: View>(work: &mut Overlay<'_, V>, app: &AppId, id: &KeyId, pem: &str) -> Step<Outcome, V> {
    require(is_pem(pem), ErrorCode::InvalidField)?;
    let before = existing(work, app)?;
    if let Some(present) = before.token_keys.iter().find(|key| key.id == *id) {
        require(present.pem == pem, ErrorCode::IdConflict)?;
        return Ok(done(true));
    }
    require(before.token_keys.len() < limits::TOKEN_KEYS, ErrorCode::LimitReached)?;
    let mut after = before.clone();
    after.token_keys.push(TokenKey { id: id.clone(), pem: pem.to_owned(), added_ms: work.time_ms });
    Ok(keep(work, app, &before, &after))
}

fn remove_token_key<V: View>(work: &mut Overlay<'_, V>, app: &AppId, id: &KeyId) -> Step<Outcome, V> {
    let before = existing(work, app)?;
    let mut after = before.clone();
    after.token_keys.retain(|key| key.id != *id);
    Ok(keep(work, app, &before, &after))
}

fn add_api_key<V: View>(work: &mut Overlay<'_, V>, app: &AppId, id: &KeyId, new: &NewApiKey) -> Step<Outcome, V> {
    let NewApiKey { name, scopes, hash, expires_ms, last4 } = new.clone();
    require(text::check_name(&name).is_ok() && last4.len() <= limits::ID_BYTES, ErrorCode::InvalidField)?;
    require(!scopes.is_empty() && scopes.is_sorted_by(|a, b| a < b), ErrorCode::InvalidField)?;
    require(expires_ms.is_none_or(|at_ms| at_ms > work.time_ms), ErrorCode::InvalidField)?;
    existing(work, app)?;
    if let Some(present) = work.load::<ApiKey>(&key::api_key(id))? {
        require(present.app == *app && present.hash == hash, ErrorCode::IdConflict)?;
        return Ok(done(true));
    }
    let all = work.scan(&key::api_keys(), limits::APPS * limits::API_KEYS)?;
    let own = all.iter().filter(|(_, stored)| ApiKey::from_bytes(stored).app == *app).count();
    require(own < limits::API_KEYS, ErrorCode::LimitReached)?;
    let (app, created_ms) = (app.clone(), work.time_ms);
    work.store(key::api_key(id), &ApiKey { app, name, scopes, hash, created_ms, expires_ms, last4 });
    Ok(done(false))
}

/// A key of another app is none.
fn revoke_api_key<V: View>(work: &mut Overlay<'_, V>, app: &AppId, id: &KeyId) -> Step<Outcome, V> {
    existing(work, app)?;
    match work.load::<ApiKey>(&key::api_key(id))? {
        Some(present) if present.app == *app => work.remove(key::api_key(id)),
        _ => return Ok(done(true)),
    }
    Ok(done(false))
}

fn set_frozen<V: View>(work: &mut Overlay<'_, V>, app: &AppId, frozen: bool) -> Step<Outcome, V> {
    let before = existing(work, app)?;
    if frozen {
        // Also if it is frozen already: a session that slipped in ends now.
        work.emit(Committed::AppFrozen { app: app.clone() });
    }
    Ok(keep(work, app, &before, &App { frozen, ..before.clone() }))
}

/// Counts what this entry adds to the app in this shard.
pub(super) fn count<V: View>(work: &mut Overlay<'_, V>, app: &AppId, add: impl FnOnce(&mut AppCounts)) -> Step<(), V> {
    let key = key::app_counts(app);
    let mut counts: AppCounts = work.load(&key)?.unwrap_or_default();
    add(&mut counts);
    work.store(key, &counts);
    Ok(())
}

/// A user who is not let in keeps everything else: who comes back finds it as it was.
pub(super) fn set_active<V: View>(
    work: &mut Overlay<'_, V>,
    app: &AppId,
    user: &UserId,
    active: bool,
) -> Step<Outcome, V> {
    require(work.load::<Account>(&key::account(app, user))?.is_some(), ErrorCode::UserNotFound)?;
    let key = key::deactivated(app, user);
    let was_active = work.load::<Deactivated>(&key)?.is_none();
    match active {
        true => work.remove(key),
        false => {
            if was_active {
                work.store(key, &Deactivated { since_ms: work.time_ms });
            }
            work.emit(Committed::LoginsRevoked { app: app.clone(), user: user.clone(), which: Revoked::All });
        }
    }
    Ok(done(was_active == active))
}

#[cfg(test)]
#[path = "app_tests.rs"]
mod tests;
