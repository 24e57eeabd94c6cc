//! A cluster of real node processes on this machine: for the demo, the load harness and tests.
//!
//! ```no_run
//! # async fn example(dir: &std::path::Path) -> Result<(), node::local::LocalError> {
//! use std::time::Duration;
//! let mut cluster = node::local::LocalCluster::init(dir, 3, 16, 0)?;
//! cluster.start_all()?;
//! cluster.wait_all_ready(Duration::from_secs(10)).await?;
//! cluster.kill(2)?;
//! cluster.start(2)?;
//! cluster.wait_ready(2, Duration::from_secs(10)).await?;
//! cluster.stop_all(Duration::from_secs(5)).await;
//! # Ok(()) }
//! ```

mod ports;
mod process;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chat::ids::NodeId;

use crate::admin::{AdminClient, AdminError};
use crate::config::{ConfigError, NodeConfig};
use crate::init::join::{JoinOptions, join};
use crate::init::{self, InitError, InitOptions, Layout, MAIN_APP};
use crate::nodes::JoinToken;
use crate::nodes::api::NewJoinToken;
use process::NodeProcess;

pub use process::find_binary;

/// How often a condition is looked at while waiting for it.
const POLL: Duration = Duration::from_millis(20);

#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    #[error(transparent)]
    Init(#[from] InitError),
    #[error("{} is not a cluster directory", dir.display())]
    NotACluster { dir: PathBuf },
    #[error("no block of free ports was found on this machine")]
    Ports,
    #[error("there is no node {node}")]
    NoSuchNode { node: NodeId },
    #[error("node {node} is running already")]
    Running { node: NodeId },
    #[error("node {node} is not running")]
    NotRunning { node: NodeId },
    #[error("the `campanile` binary is not beside this program; build it (`cargo build -p node`) or set CAMPANILE_BIN")]
    NoBinary,
    #[error("cannot start node {node}")]
    Spawn { node: NodeId, source: std::io::Error },
    #[error("node {node} ended ({status}) before it was ready; the end of {}:\n{tail}", log.display())]
    Ended { node: NodeId, status: String, log: PathBuf, tail: String },
    #[error("node {node} was not ready within {waited:?}: {why}")]
    NotReady { node: NodeId, waited: Duration, why: String },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("a node did not join: {0}")]
    Join(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Admin(#[from] AdminError),
}

/// Its processes end when this is dropped, and when this process ends in whatever way.
pub struct LocalCluster {
    layout: Layout,
    configs: BTreeMap<NodeId, NodeConfig>,
    running: BTreeMap<NodeId, NodeProcess>,
    ca_pem: Vec<u8>,
    app_key_pem: String,
    admin_token: String,
    binary: Option<PathBuf>,
}

impl LocalCluster {
    /// Makes a new cluster in `dir`, which must be absent or empty. `base_port` 0 takes a free block of ports.
    pub fn init(dir: &Path, nodes: u16, shards: u16, base_port: u16) -> Result<Self, LocalError> {
        let port = if base_port == 0 { Self::free_port(nodes)? } else { base_port };
        Self::create(&InitOptions::local(dir, nodes, shards, port))
    }

    /// As [`LocalCluster::init`], with everything that can be chosen.
    pub fn create(options: &InitOptions) -> Result<Self, LocalError> {
        init::create(options)?;
        Self::open(&options.dir)
    }

    /// A port from which on a cluster of `nodes` finds its ports free.
    pub fn free_port(nodes: u16) -> Result<u16, LocalError> {
        ports::free_block(nodes).ok_or(LocalError::Ports)
    }

    /// A cluster made before, by [`LocalCluster::init`] or `campanile cluster init`.
    pub fn open(dir: &Path) -> Result<Self, LocalError> {
        // Absolute, because the nodes may be started from another directory.
        let dir = std::path::absolute(dir).map_err(|source| LocalError::Read { path: dir.to_owned(), source })?;
        let layout = Layout::new(&dir);
        let mut configs = BTreeMap::new();
        for node in layout.nodes() {
            configs.insert(node, NodeConfig::load(&layout.config(node))?);
        }
        if configs.is_empty() {
            return Err(LocalError::NotACluster { dir });
        }
        Ok(Self {
            ca_pem: read(&layout.ca())?.into_bytes(),
            // It belongs on the app's servers, and may have been moved there.
            app_key_pem: match layout.app_key(MAIN_APP) {
                path if path.exists() => read(&path)?,
                _ => String::new(),
            },
            admin_token: read(&layout.admin_token())?.trim().to_owned(),
            layout,
            configs,
            running: BTreeMap::new(),
            binary: None,
        })
    }

    /// Lets one more node join, by a token of any running node, with its ports after `port` or on free ones; it is yet to be
    /// started. Its id, which is also in the name of its directory.
    pub async fn join(&mut self, zone: &str, port: Option<u16>) -> Result<NodeId, LocalError> {
        let asked = self.nodes().into_iter().find(|node| self.is_running(*node));
        let asked = asked.ok_or(LocalError::NotRunning { node: 0 })?;
        let made = self.admin(asked)?.join_token(&NewJoinToken { uses: 1, lifetime_ms: 600_000 }).await?;
        let token = JoinToken::decode(&made.token).map_err(|error| LocalError::Join(error.to_string()))?;
        // Named after its id, once that is known.
        let dir = self.dir().join("joining");
        let host = self.config(asked)?.peer.listen.ip();
        let port = match port {
            Some(port) => port,
            None => Self::free_port(1)? + 10,
        };
        let options = JoinOptions { dir: dir.clone(), host, port, zone: zone.to_owned(), token };
        let joined = join(&options).await.map_err(|error| LocalError::Join(error.to_string()))?;
        let named = self.layout.node_dir(joined.node);
        std::fs::rename(&dir, &named).map_err(|source| LocalError::Read { path: named, source })?;
        self.adopt(joined.node)?;
        Ok(joined.node)
    }

    /// Takes on a node whose directory has come to the others since.
    pub fn adopt(&mut self, node: NodeId) -> Result<(), LocalError> {
        self.configs.insert(node, NodeConfig::load(&self.layout.config(node))?);
        Ok(())
    }

    /// Forgets a node that left for good. Its process has ended, or is ended now.
    pub fn forget(&mut self, node: NodeId) {
        self.running.remove(&node);
        self.configs.remove(&node);
    }

    /// Starts nodes by this program from now on; it gets the arguments of `campanile`, a node's configuration last.
    pub fn use_binary(&mut self, binary: PathBuf) {
        self.binary = Some(binary);
    }

    pub fn dir(&self) -> &Path {
        self.layout.dir()
    }

    /// Ids, in order.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.configs.keys().copied().collect()
    }

    pub fn is_running(&mut self, node: NodeId) -> bool {
        self.running.get_mut(&node).is_some_and(|process| process.ended().is_none())
    }

    /// The process id of a running node.
    pub fn pid(&self, node: NodeId) -> Option<u32> {
        self.running.get(&node).map(NodeProcess::id)
    }

    pub fn config(&self, node: NodeId) -> Result<&NodeConfig, LocalError> {
        self.configs.get(&node).ok_or(LocalError::NoSuchNode { node })
    }

    /// `wss://127.0.0.1:7411/v1/connect` of every node, running or not.
    pub fn client_urls(&self) -> Vec<String> {
        self.configs.values().map(client_url).collect()
    }

    pub fn client_url(&self, node: NodeId) -> Result<String, LocalError> {
        self.config(node).map(client_url)
    }

    /// `https://127.0.0.1:7413`.
    pub fn admin_url(&self, node: NodeId) -> Result<String, LocalError> {
        Ok(format!("https://{}", self.config(node)?.admin.listen))
    }

    /// What the nodes' certificates are signed by.
    pub fn ca_pem(&self) -> &[u8] {
        &self.ca_pem
    }

    /// The key that signs tokens of the users of app `main`; empty if it is not kept here.
    pub fn app_key_pem(&self) -> &str {
        &self.app_key_pem
    }

    pub fn admin(&self, node: NodeId) -> Result<AdminClient, LocalError> {
        Ok(AdminClient::new(&self.admin_url(node)?, &self.ca_pem, &self.admin_token)?)
    }

    /// Where a node's standard output and error go.
    pub fn log(&self, node: NodeId) -> PathBuf {
        self.layout.log(node)
    }

    /// Starts a node's process; [`LocalCluster::wait_ready`] waits until it serves.
    pub fn start(&mut self, node: NodeId) -> Result<(), LocalError> {
        self.config(node)?;
        if self.is_running(node) {
            return Err(LocalError::Running { node });
        }
        let binary = self.binary.clone().or_else(find_binary).ok_or(LocalError::NoBinary)?;
        let process = NodeProcess::spawn(&binary, &self.layout.config(node), &self.layout.log(node))
            .map_err(|source| LocalError::Spawn { node, source })?;
        self.running.insert(node, process);
        Ok(())
    }

    pub fn start_all(&mut self) -> Result<(), LocalError> {
        self.nodes().into_iter().try_for_each(|node| self.start(node))
    }

    /// Waits until the node says that it is ready for clients, or has ended, or `within` has passed.
    pub async fn wait_ready(&mut self, node: NodeId, within: Duration) -> Result<(), LocalError> {
        let admin = self.admin(node)?;
        let start = Instant::now();
        loop {
            let log = self.log(node);
            let process = self.running.get_mut(&node).ok_or(LocalError::NotRunning { node })?;
            if let Some(status) = process.ended() {
                return Err(LocalError::Ended { node, status, tail: process::tail(&log), log });
            }
            let why = match admin.ready().await {
                Ok(readiness) if readiness.ready => return Ok(()),
                Ok(readiness) => readiness.reasons.join("; "),
                Err(error) => error.to_string(),
            };
            if start.elapsed() >= within {
                return Err(LocalError::NotReady { node, waited: start.elapsed(), why });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits for every node that was started.
    pub async fn wait_all_ready(&mut self, within: Duration) -> Result<(), LocalError> {
        let deadline = Instant::now() + within;
        let started: Vec<NodeId> = self.running.keys().copied().collect();
        for node in started {
            self.wait_ready(node, deadline.saturating_duration_since(Instant::now())).await?;
        }
        Ok(())
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(&mut self, node: NodeId) -> Result<(), LocalError> {
        self.running.remove(&node).ok_or(LocalError::NotRunning { node })?.kill();
        Ok(())
    }

    /// SIGTERM alone: the node leaves in its own time.
    pub fn terminate(&self, node: NodeId) -> Result<(), LocalError> {
        self.running.get(&node).ok_or(LocalError::NotRunning { node })?.terminate();
        Ok(())
    }

    /// SIGTERM, then SIGKILL if the process is still there after `within`. Says whether it went by itself.
    pub async fn stop(&mut self, node: NodeId, within: Duration) -> Result<bool, LocalError> {
        let process = self.running.remove(&node).ok_or(LocalError::NotRunning { node })?;
        process.terminate();
        Ok(process.wait(Instant::now() + within).await)
    }

    /// Stops every running node, all at once. Says whether all went by themselves.
    pub async fn stop_all(&mut self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let running = std::mem::take(&mut self.running);
        running.values().for_each(NodeProcess::terminate);
        let mut all = true;
        for process in running.into_values() {
            all &= process.wait(deadline).await;
        }
        all
    }
}

fn client_url(config: &NodeConfig) -> String {
    format!("{}://{}{}", config.client_scheme(), config.client.listen, chat::wire::PATH)
}

fn read(path: &Path) -> Result<String, LocalError> {
    std::fs::read_to_string(path).map_err(|source| LocalError::Read { path: path.to_owned(), source })
}
