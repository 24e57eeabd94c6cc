//! `campanile node join`: the directory of a node that comes later than its cluster. It is built beside its place and
//! renamed at the end. What was made before the cluster was asked stays until then: asked again after a failure, the
//! cluster knows the node by its key and gives it the same id.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use chat::command::NodeFacts;
use chat::ids::NodeId;
use storage::{ClusterKey, NodeKey};
use zeroize::Zeroizing;

use super::certificates;
use super::files::{self, private_dir, private_file, public_file};
use super::settings::{self, Settings};
use super::{Addresses, InitError, WriteError, data, line, save_keys};
use crate::admin::{AdminClient, AdminError};
use crate::nodes::JoinToken;
use crate::nodes::api::{Join, Joined};

pub struct JoinOptions {
    /// The node's own directory, to be made.
    pub dir: PathBuf,
    /// Where the others, clients and operators reach the node.
    pub host: IpAddr,
    /// The node listens on `port + 1` (clients), `+ 2` (peers) and `+ 3` (admin).
    pub port: u16,
    pub zone: String,
    pub token: JoinToken,
}

#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(transparent)]
    Init(#[from] InitError),
    #[error("no node of the cluster answers")]
    Unreachable(#[source] AdminError),
    #[error(transparent)]
    Refused(AdminError),
    #[error("the cluster's answer cannot be used: {0}")]
    Answer(&'static str),
}

impl From<WriteError> for JoinError {
    fn from(error: WriteError) -> Self {
        Self::Init(error.into())
    }
}

/// A node that was let in, and is yet to be started.
#[derive(Debug, Clone)]
pub struct JoinedNode {
    pub node: NodeId,
    pub cluster: String,
    pub config: PathBuf,
    pub addresses: Addresses,
}

/// Asks the cluster to let this node in, and makes its directory.
pub async fn join(options: &JoinOptions) -> Result<JoinedNode, JoinError> {
    let dir = std::path::absolute(&options.dir).map_err(|source| WriteError { path: options.dir.clone(), source })?;
    if dir.is_file() || std::fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(InitError::Exists { dir }.into());
    }
    let addresses =
        Addresses::from(options.host, options.port).ok_or(InitError::Port { node: 0, port: options.port })?;
    let staging = files::beside(&dir, ".joining");
    let private_key = own_key(&staging)?;
    let facts = NodeFacts {
        peer: addresses.peer.to_string(),
        client: addresses.client.to_string(),
        admin: addresses.admin.to_string(),
        zone: options.zone.clone(),
    };
    let request = certificates::request(&private_key).map_err(InitError::from)?;
    let (secret, level) = (options.token.secret.clone(), chat::level::NEWEST);
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let joined = ask(&options.token, &Join { secret, request, facts, level, version }).await?;
    build(&staging, &joined, &options.token.ca_pem(), &addresses, &options.zone)?;
    files::rename(&staging, &dir)?;
    if let Some(parent) = dir.parent() {
        files::sync_dir(parent)?;
    }
    Ok(JoinedNode { node: joined.node, cluster: joined.cluster, config: dir.join("campanile.toml"), addresses })
}

/// The key of this node's certificate: that of an attempt before, if there was one.
fn own_key(staging: &Path) -> Result<Zeroizing<String>, JoinError> {
    let path = staging.join("node.key");
    if let Ok(known) = crate::config::read_secret_text(&path) {
        return Ok(known);
    }
    if let Some(parent) = staging.parent() {
        std::fs::create_dir_all(parent).map_err(|source| WriteError { path: parent.to_owned(), source })?;
    }
    if !staging.is_dir() {
        private_dir(staging)?;
    }
    let made = Zeroizing::new(certificates::node_key().map_err(InitError::from)?);
    private_file(&path, &made)?;
    files::sync_dir(staging)?;
    Ok(made)
}

/// The first node that answers decides.
async fn ask(token: &JoinToken, join: &Join) -> Result<Joined, JoinError> {
    let ca = token.ca_pem();
    let mut last = JoinError::Answer("the token names no node");
    for admin in &token.admin {
        let asked = match AdminClient::new(&format!("https://{admin}"), ca.as_bytes(), "") {
            Ok(client) => client.join(join).await,
            Err(error) => Err(error),
        };
        match asked {
            Ok(joined) => return Ok(joined),
            Err(error @ AdminError::Refused { .. }) => return Err(JoinError::Refused(error)),
            Err(error) => last = JoinError::Unreachable(error),
        }
    }
    Err(last)
}

fn build(staging: &Path, joined: &Joined, ca_pem: &str, own: &Addresses, zone: &str) -> Result<(), JoinError> {
    // What an attempt before left, but for the key.
    for name in ["node.pem", "ca.pem", "campanile.toml"] {
        remove(&staging.join(name), |path| std::fs::remove_file(path))?;
    }
    for name in ["keys", "data"] {
        remove(&staging.join(name), |path| std::fs::remove_dir_all(path))?;
    }
    let keys = staging.join("keys");
    private_dir(&keys)?;
    public_file(&staging.join("node.pem"), &joined.certificate)?;
    public_file(&staging.join("ca.pem"), ca_pem)?;
    let cluster_key = ClusterKey::revealed(&joined.cluster_key).ok_or(JoinError::Answer("no cluster key"))?;
    let node_key = NodeKey::generate();
    save_keys(&keys, &node_key, &cluster_key, Some(&joined.ca_key))?;
    private_file(&keys.join("admin.token"), &line(&joined.admin_token))?;
    for app in &joined.apps {
        public_file(&keys.join(format!("app-{}.pem", app.id)), &app.token_public_key)?;
    }
    let address = |text: &str| text.parse::<SocketAddr>().map_err(|_| JoinError::Answer("a member's address"));
    let members: Result<Vec<_>, JoinError> =
        joined.members.iter().map(|at| Ok((at.id, address(&at.peer)?, at.client.clone()))).collect();
    let apps: Vec<String> = joined.apps.iter().map(|app| app.id.clone()).collect();
    let settings = Settings {
        cluster: &joined.cluster,
        shards: joined.shards,
        node: joined.node,
        own,
        members: members?,
        client_tls: joined.client_tls,
        level: None,
        zone,
        joined: true,
        apps: &apps,
    };
    private_file(&staging.join("campanile.toml"), &settings::render(&settings))?;
    data::create(&staging.join("data"), &node_key, &joined.cluster, joined.node)?;
    Ok(files::sync_dir(staging)?)
}

fn remove(path: &Path, how: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<(), WriteError> {
    match how(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(WriteError { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
