//! The data directory of a new node, with the identity inside that keeps it from ever serving another one.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use chat::ids::NodeId;
use storage::{Engine, EngineOptions, Identity, NodeKey};

use super::{InitError, WriteError};

/// Cache while creating; a node that starts takes its own from its configuration.
const CACHE_BYTES: u64 = 4 << 20;

pub(super) fn create(path: &Path, node_key: &NodeKey, cluster: &str, node: NodeId) -> Result<(), InitError> {
    let options = EngineOptions {
        dir: path.to_owned(),
        node_key: node_key.clone(),
        identity: Identity { cluster: cluster.to_owned(), node, name: format!("node-{node}") },
        cache_bytes: CACHE_BYTES,
    };
    Engine::create(&options).map_err(|source| InitError::Data { path: path.to_owned(), source })?;
    let private = std::fs::set_permissions(path, Permissions::from_mode(0o700));
    Ok(private.map_err(|source| WriteError { path: path.to_owned(), source })?)
}
