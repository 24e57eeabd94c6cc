//! A stage for tests on real processes: a cluster of `campanile` nodes on loopback, and clients of it.

pub mod cli;
pub mod http;
pub mod raw;
pub mod volume;
pub mod written;

use std::fs::OpenOptions;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use campanile_client::{Client, ClientOptions, Events, Tls};
use chat::ids::{AppId, DeviceId, NodeId, UserId};
use chat::wire::Credentials;
use node::auth::signer::TokenSigner;
use node::local::LocalCluster;
use tempfile::TempDir;

/// No condition may take longer.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(20);

/// A running cluster in a temporary directory; its processes end with it.
pub struct Stage {
    pub cluster: LocalCluster,
    pub tls: Tls,
    signer: TokenSigner,
    _dir: TempDir,
}

impl Stage {
    /// Starts `nodes` nodes and waits until all are ready for clients.
    pub async fn start(nodes: u16, shards: u16) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let cluster = LocalCluster::init(&dir.path().join("cluster"), nodes, shards, 0)?;
        Self::of(cluster, dir).await
    }

    /// As [`Self::start`], with `more` at the end of every node's configuration.
    pub async fn configured(nodes: u16, shards: u16, more: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let cluster = LocalCluster::init(&dir.path().join("cluster"), nodes, shards, 0)?;
        for node in cluster.nodes() {
            let config = cluster.dir().join(format!("node-{node}/campanile.toml"));
            OpenOptions::new().append(true).open(config)?.write_all(more.as_bytes())?;
        }
        Self::of(cluster, dir).await
    }

    /// Starts the nodes of a cluster that lies in `dir`.
    pub async fn of(mut cluster: LocalCluster, dir: TempDir) -> Result<Self> {
        cluster.start_all()?;
        cluster.wait_all_ready(DEADLINE).await?;
        let tls = Tls::from_ca_pem(cluster.ca_pem())?;
        let signer = TokenSigner::new(app(), cluster.app_key_pem())?;
        Ok(Self { cluster, tls, signer, _dir: dir })
    }

    /// A token of `name`, issued now.
    pub fn credentials(&self, name: &str) -> Result<Credentials> {
        Ok(self.signer.credentials(&user(name))?)
    }

    /// How `name` connects, trying the given nodes in turn.
    pub fn options(&self, name: &str, nodes: &[NodeId]) -> Result<ClientOptions> {
        let urls = nodes.iter().map(|node| self.cluster.client_url(*node)).collect::<Result<Vec<_>, _>>()?;
        let credentials = self.credentials(name)?;
        let mut options = ClientOptions::new(urls, self.tls.clone(), credentials, DeviceId::new(format!("{name}-1"))?);
        options.connect_timeout = DEADLINE;
        options.request_timeout = DEADLINE;
        Ok(options)
    }

    pub async fn connect(&self, name: &str, nodes: &[NodeId]) -> Result<(Client, Events)> {
        Client::connect(self.options(name, nodes)?).await.with_context(|| format!("{name} connects"))
    }

    /// Waits until all running nodes have applied the same and their state digests are equal.
    pub async fn equal_digests(&mut self) -> Result<()> {
        let started = Instant::now();
        loop {
            let mut all = Vec::new();
            for node in self.cluster.nodes() {
                if self.cluster.is_running(node) {
                    all.push(self.cluster.admin(node)?.digests().await?);
                }
            }
            if all.windows(2).all(|pair| pair[0] == pair[1]) {
                return Ok(());
            }
            ensure!(started.elapsed() < DEADLINE, "replicas differ: {all:?}");
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Waits for a condition; `what` says what was missing.
pub async fn until<F>(what: &str, mut condition: F) -> Result<()>
where
    F: AsyncFnMut() -> Result<bool>,
{
    let started = Instant::now();
    while !condition().await? {
        ensure!(started.elapsed() < DEADLINE, "not in time: {what}");
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

pub fn app() -> AppId {
    AppId::new("main").expect("it is a valid id")
}

pub fn user(name: &str) -> UserId {
    UserId::new(name).expect("tests use valid names")
}
