//! Apps as tenants, as this node knows them.
//!
//! - [`room`]: whether an app may have more users, groups and members.
//! - [`secret`]: the keys of an app's backend: made, written down, recognized.

pub(crate) mod room;
pub(crate) mod secret;

use chat::ids::{AppId, ShardId};
use chat::state::query;
use chat::state::record::App;
use cluster::Cluster;
use storage::StorageError;

/// The app, as this node has applied it.
pub(crate) fn record(cluster: &Cluster, app: &AppId) -> Result<Option<App>, StorageError> {
    match cluster.view(ShardId::META) {
        Some(meta) => query::app(&meta, app),
        None => Ok(None),
    }
}
