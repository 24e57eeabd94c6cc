//! Typed reads of what is stored of apps and their users.

use super::View;
use super::key;
use super::query::Page;
use super::record::{Account, ApiKey, AppCounts, Deactivated, Record};
use crate::ids::{AppId, KeyId, UserId};
use crate::limits;

fn load<V: View, T: Record>(view: &V, key: &[u8]) -> Result<Option<T>, V::Error> {
    Ok(view.get(key)?.as_deref().map(T::from_bytes))
}

/// A key of some app's backend (metadata group).
pub fn api_key<V: View>(view: &V, id: &KeyId) -> Result<Option<ApiKey>, V::Error> {
    load(view, &key::api_key(id))
}

/// The keys of the app's backend (metadata group), in byte order of their ids.
pub fn api_keys<V: View>(view: &V, app: &AppId) -> Result<Vec<(KeyId, ApiKey)>, V::Error> {
    let prefix = key::api_keys();
    let found = view.scan(&prefix, None, limits::APPS * limits::API_KEYS)?;
    let named = |(key, value): &(bytes::Bytes, bytes::Bytes)| {
        let id = KeyId::new(std::str::from_utf8(key.strip_prefix(&prefix[..])?).ok()?).ok()?;
        Some((id, ApiKey::from_bytes(value))).filter(|(_, api_key)| api_key.app == *app)
    };
    Ok(found.iter().filter_map(named).collect())
}

/// How much of the app there is in this shard.
pub fn counts<V: View>(view: &V, app: &AppId) -> Result<AppCounts, V::Error> {
    Ok(load(view, &key::app_counts(app))?.unwrap_or_default())
}

/// Whether the user is not let in (home shard).
pub fn is_deactivated<V: View>(view: &V, app: &AppId, user: &UserId) -> Result<bool, V::Error> {
    Ok(load::<V, Deactivated>(view, &key::deactivated(app, user))?.is_some())
}

/// Accounts of the app whose home is this shard, after `after`, in byte order of their ids.
pub fn accounts<V: View>(
    view: &V,
    app: &AppId,
    after: Option<&UserId>,
    limit: usize,
) -> Result<Page<(UserId, Account)>, V::Error> {
    let prefix = key::accounts(app);
    let after = after.map(|user| key::account(app, user));
    let mut found = view.scan(&prefix, after.as_deref(), limit.saturating_add(1))?;
    let more = found.len() > limit;
    found.truncate(limit);
    let named = |(key, value): &(bytes::Bytes, bytes::Bytes)| {
        let user = UserId::new(std::str::from_utf8(key.strip_prefix(&prefix[..])?).ok()?).ok()?;
        Some((user, Account::from_bytes(value)))
    };
    Ok(Page { items: found.iter().filter_map(named).collect(), more })
}
