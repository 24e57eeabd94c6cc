//! Keys of what is stored of apps.

use bytes::Bytes;

use super::{Space, of_app, of_cluster};
use crate::ids::{AppId, KeyId, UserId};

pub(crate) fn accounts(app: &AppId) -> Bytes {
    of_app(app, Space::Account, &[], b"")
}

pub(crate) fn api_keys() -> Bytes {
    of_cluster(Space::ApiKey, b"")
}

/// By the key's id alone, which is random: whoever comes with a key does not say of which app it is.
pub(crate) fn api_key(id: &KeyId) -> Bytes {
    of_cluster(Space::ApiKey, id.as_str().as_bytes())
}

pub(crate) fn app_counts(app: &AppId) -> Bytes {
    of_app(app, Space::AppCounts, &[], b"")
}

pub(crate) fn deactivated(app: &AppId, user: &UserId) -> Bytes {
    of_app(app, Space::Deactivated, &[], user.as_str().as_bytes())
}
