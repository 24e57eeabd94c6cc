//! `campanile cluster init`: everything a new cluster needs, in one directory.
//!
//! ```text
//! D/ca.pem  ca.key  admin.token  apps/main.key
//! D/node-1/campanile.toml  node.pem  node.key  ca.pem  data/  keys/{node.secret, cluster.secret, ca.secret, admin.token, app-main.pem}
//! ```
//!
//! It is built beside `D` and renamed at the end: `D` is complete or absent.

pub(crate) mod certificates;
mod data;
mod files;
pub mod join;
mod layout;
mod settings;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chat::ids::NodeId;
use chat::limits;
use storage::{ClusterKey, NodeKey};
use zeroize::Zeroizing;

use certificates::{AppKey, Authority};
use files::{private_dir, private_file, public_file};
use settings::Settings;

pub use files::WriteError;
pub use layout::{Addresses, Layout, MAIN_APP};

#[derive(Debug, Clone)]
pub struct InitOptions {
    pub dir: PathBuf,
    pub nodes: u16,
    pub shards: u16,
    /// Node `i` listens on `port + 10 * i + 1` (clients), `+ 2` (peers) and `+ 3` (admin).
    pub port: u16,
    /// One address for all nodes, or one for each.
    pub hosts: Vec<IpAddr>,
    /// Clients are served over TLS; without it on loopback addresses only.
    pub client_tls: bool,
    /// The feature level that the cluster begins at ([`chat::level`]).
    pub level: u16,
}

impl InitOptions {
    /// All nodes on this machine.
    pub fn local(dir: impl Into<PathBuf>, nodes: u16, shards: u16, port: u16) -> Self {
        let (dir, hosts, level) = (dir.into(), vec![IpAddr::V4(Ipv4Addr::LOCALHOST)], chat::level::NEWEST);
        Self { dir, nodes, shards, port, hosts, client_tls: true, level }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error("{} exists already and is not empty", dir.display())]
    Exists { dir: PathBuf },
    #[error("{nodes} nodes; 1 to {max} are possible", max = limits::NODES_MAX)]
    Nodes { nodes: u16 },
    #[error("{shards} shards; 1 to {max} are possible", max = limits::SHARDS_MAX)]
    Shards { shards: u16 },
    #[error("without TLS clients can be served on loopback addresses only")]
    Plaintext,
    #[error("{hosts} hosts for {nodes} nodes; name one for all, or one for each")]
    Hosts { hosts: usize, nodes: u16 },
    #[error("the ports of node {node} from base {port} on are not ports")]
    Port { node: NodeId, port: u16 },
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    #[error("the system gives no random bytes")]
    Random(#[from] getrandom::Error),
    #[error("cannot create the data directory {}", path.display())]
    Data { path: PathBuf, source: storage::OpenError },
}

/// What was made.
#[derive(Debug, Clone)]
pub struct Created {
    pub cluster: String,
    pub layout: Layout,
    /// In the order of the nodes, from 1.
    pub addresses: Vec<Addresses>,
}

/// Makes a cluster directory. It must not exist, or be empty.
pub fn create(options: &InitOptions) -> Result<Created, InitError> {
    let plan = plan(options)?;
    let occupied = std::fs::read_dir(&options.dir).is_ok_and(|mut entries| entries.next().is_some());
    if occupied || options.dir.is_file() {
        return Err(InitError::Exists { dir: options.dir.clone() });
    }
    let staging = files::beside(&options.dir, &format!(".partial-{}", std::process::id()));
    let build = |layout: &Layout| build(layout, &plan, &Origin::new()?);
    match build(&Layout::new(&staging)).and_then(|()| Ok(files::rename(&staging, &options.dir)?)) {
        Ok(()) => {
            if let Some(parent) = options.dir.parent().filter(|parent| parent.is_dir()) {
                files::sync_dir(parent)?;
            }
            Ok(Created { cluster: plan.cluster, layout: Layout::new(&options.dir), addresses: plan.addresses })
        }
        Err(error) => {
            // Half a cluster is of no use; what removing it fails with matters less than why it is there.
            drop(std::fs::remove_dir_all(&staging));
            Err(error)
        }
    }
}

/// The facts that all nodes share.
struct Plan {
    cluster: String,
    shards: u16,
    addresses: Vec<Addresses>,
    client_tls: bool,
    level: u16,
}

/// Secrets that all nodes share.
struct Shared<'a> {
    authority: Authority,
    admin_token: Zeroizing<String>,
    origin: &'a Origin,
}

/// What a cluster begins with: new keys, or those of the one that it was before.
pub(crate) struct Origin {
    pub(crate) cluster_key: ClusterKey,
    pub(crate) apps: Vec<AppOrigin>,
}

/// An app and its keys, both PEM.
pub(crate) struct AppOrigin {
    pub(crate) app: String,
    pub(crate) public: String,
    /// None if it is elsewhere: on the app's own servers.
    pub(crate) private: Option<String>,
}

impl Origin {
    fn new() -> Result<Self, InitError> {
        Ok(Self { cluster_key: ClusterKey::generate(), apps: vec![AppOrigin::new(MAIN_APP)?] })
    }
}

impl AppOrigin {
    /// An app with a new key.
    pub(crate) fn new(app: &str) -> Result<Self, InitError> {
        let AppKey { private, public } = certificates::app_key()?;
        Ok(Self { app: app.to_owned(), public, private: Some(private) })
    }
}

/// Makes a cluster in `dir`, which is there and will be moved to where `options` say.
pub(crate) fn create_from(dir: &Path, options: &InitOptions, origin: &Origin) -> Result<Created, InitError> {
    let plan = plan(options)?;
    let layout = Layout::new(dir);
    fill(&layout, &plan, origin)?;
    Ok(Created { cluster: plan.cluster, layout, addresses: plan.addresses })
}

/// What [`create`] would make, as far as that can be said without making it.
pub(crate) fn check(options: &InitOptions) -> Result<Vec<Addresses>, InitError> {
    addresses(options)
}

fn plan(options: &InitOptions) -> Result<Plan, InitError> {
    Ok(Plan {
        addresses: addresses(options)?,
        cluster: uuid::Uuid::now_v7().to_string(),
        shards: options.shards,
        client_tls: options.client_tls,
        level: options.level,
    })
}

fn addresses(options: &InitOptions) -> Result<Vec<Addresses>, InitError> {
    let (nodes, shards) = (options.nodes, options.shards);
    if nodes == 0 || usize::from(nodes) > limits::NODES_MAX {
        return Err(InitError::Nodes { nodes });
    }
    if shards == 0 || shards > limits::SHARDS_MAX {
        return Err(InitError::Shards { shards });
    }
    if options.hosts.len() != 1 && options.hosts.len() != usize::from(nodes) {
        return Err(InitError::Hosts { hosts: options.hosts.len(), nodes });
    }
    if !options.client_tls && !options.hosts.iter().all(IpAddr::is_loopback) {
        return Err(InitError::Plaintext);
    }
    let hosts = options.hosts.iter().cycle();
    (1..=NodeId::from(nodes))
        .zip(hosts)
        .map(|(node, host)| {
            Addresses::of(*host, options.port, node).ok_or(InitError::Port { node, port: options.port })
        })
        .collect()
}

fn build(layout: &Layout, plan: &Plan, origin: &Origin) -> Result<(), InitError> {
    if let Some(parent) = layout.dir().parent().filter(|parent| !parent.as_os_str().is_empty()) {
        let path = parent.to_owned();
        std::fs::create_dir_all(parent).map_err(|source| WriteError { path, source })?;
    }
    private_dir(layout.dir())?;
    fill(layout, plan, origin)
}

fn fill(layout: &Layout, plan: &Plan, origin: &Origin) -> Result<(), InitError> {
    let shared = Shared { authority: Authority::new(&plan.cluster)?, admin_token: token()?, origin };
    public_file(&layout.ca(), &shared.authority.pem)?;
    private_file(&layout.ca_key(), &shared.authority.private_key())?;
    private_file(&layout.admin_token(), &line(&shared.admin_token))?;
    private_dir(&layout.dir().join("apps"))?;
    for app in &origin.apps {
        if let Some(private) = &app.private {
            private_file(&layout.app_key(&app.app), private)?;
        }
    }
    for (node, addresses) in (1..).zip(&plan.addresses) {
        build_node(layout, plan, &shared, node, addresses)?;
    }
    Ok(files::sync_dir(layout.dir())?)
}

fn build_node(
    layout: &Layout,
    plan: &Plan,
    shared: &Shared<'_>,
    node: NodeId,
    addresses: &Addresses,
) -> Result<(), InitError> {
    let dir = layout.node_dir(node);
    let keys = dir.join("keys");
    private_dir(&dir)?;
    private_dir(&keys)?;
    let pair = shared.authority.node(&plan.cluster, node, addresses.client.ip())?;
    public_file(&dir.join("node.pem"), &pair.certificate)?;
    private_file(&dir.join("node.key"), &pair.private_key)?;
    public_file(&dir.join("ca.pem"), &shared.authority.pem)?;
    let node_key = NodeKey::generate();
    save_keys(&keys, &node_key, &shared.origin.cluster_key, Some(&shared.authority.private_key()))?;
    private_file(&keys.join("admin.token"), &line(&shared.admin_token))?;
    for AppOrigin { app, public, .. } in &shared.origin.apps {
        public_file(&keys.join(format!("app-{app}.pem")), public)?;
    }
    let apps: Vec<String> = shared.origin.apps.iter().map(|origin| origin.app.clone()).collect();
    let settings = Settings {
        cluster: &plan.cluster,
        shards: plan.shards,
        node,
        own: addresses,
        members: (1..).zip(&plan.addresses).map(|(id, at)| (id, at.peer, at.client.to_string())).collect(),
        client_tls: plan.client_tls,
        level: Some(plan.level),
        zone: "",
        joined: false,
        apps: &apps,
    };
    private_file(&layout.config(node), &settings::render(&settings))?;
    data::create(&dir.join("data"), &node_key, &plan.cluster, node)?;
    Ok(files::sync_dir(&dir)?)
}

/// The node's own key, and under it the cluster's and the authority's.
fn save_keys(
    keys: &Path,
    node_key: &NodeKey,
    cluster_key: &ClusterKey,
    ca_key: Option<&str>,
) -> Result<(), WriteError> {
    let at = |name: &str| keys.join(name);
    let failed = |name: &'static str| move |source| WriteError { path: name.into(), source };
    node_key.save(&at("node.secret")).map_err(failed("node.secret"))?;
    cluster_key.save(&at("cluster.secret"), node_key).map_err(failed("cluster.secret"))?;
    if let Some(ca_key) = ca_key {
        node_key.save_secret(&at("ca.secret"), CA_SECRET, ca_key.as_bytes()).map_err(failed("ca.secret"))?;
    }
    Ok(())
}

/// What the authority's key is sealed as.
pub(crate) const CA_SECRET: &str = "certificate authority key";

fn line(text: &str) -> Zeroizing<String> {
    Zeroizing::new(format!("{text}\n"))
}

/// A bearer token: no character that a shell or a header would mind.
fn token() -> Result<Zeroizing<String>, getrandom::Error> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice())?;
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_slice())))
}

#[cfg(test)]
mod tests;
