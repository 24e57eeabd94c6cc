//! A cluster of the run's own: real node processes in a temporary directory.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use chat::ids::{AppId, NodeId};
use node::admin::AdminClient;
use node::init::InitOptions;
use node::local::{LocalCluster, LocalError};
use tempfile::TempDir;

use crate::target::TargetOptions;
use crate::usage::Process;

const READY_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// Between two looks whether a node has ended.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpawnOptions {
    pub nodes: u16,
    pub shards: u16,
    /// Clients connect over TLS.
    pub tls: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    #[error("cannot make a temporary directory")]
    Directory(#[from] std::io::Error),
    #[error(transparent)]
    Local(#[from] LocalError),
    #[error(transparent)]
    Id(#[from] chat::ids::IdError),
}

pub struct Spawned {
    cluster: LocalCluster,
    /// Where the nodes' ports begin, also those of nodes that may come.
    port: u16,
    dir: TempDir,
}

impl Spawned {
    /// Ready for clients when this returns.
    pub async fn start(options: SpawnOptions) -> Result<Self, SpawnError> {
        Self::start_with_room(options, options.nodes).await
    }

    /// As [`Spawned::start`], with ports for as many as `room` nodes in all.
    pub async fn start_with_room(options: SpawnOptions, room: u16) -> Result<Self, SpawnError> {
        let dir = tempfile::Builder::new().prefix("campanile-bench-").tempdir()?;
        let port = LocalCluster::free_port(room)?;
        let mut cluster = LocalCluster::create(&InitOptions {
            client_tls: options.tls,
            ..InitOptions::local(dir.path().join("cluster"), options.nodes, options.shards, port)
        })?;
        cluster.start_all()?;
        cluster.wait_all_ready(READY_WITHIN).await?;
        Ok(Self { cluster, port, dir })
    }

    pub fn target(&self) -> Result<TargetOptions, SpawnError> {
        let nodes = self.cluster.nodes().into_iter();
        let admins = nodes.map(|node| self.cluster.admin(node)).collect::<Result<_, _>>()?;
        Ok(TargetOptions {
            urls: self.cluster.client_urls(),
            ca_pem: self.cluster.ca_pem().to_vec(),
            app_key_pem: self.cluster.app_key_pem().to_owned(),
            app: AppId::new(node::init::MAIN_APP)?,
            admins,
        })
    }

    /// Where clients find the nodes up to number `room`, those too that are yet to come.
    pub fn urls_of(&self, room: u16) -> Vec<String> {
        let present = self.cluster.nodes();
        let Some(first) = present.first().and_then(|node| self.cluster.client_url(*node).ok()) else {
            return Vec::new();
        };
        let of =
            |node: u16| first.replace(&format!(":{}/", self.port + 11), &format!(":{}/", self.port + 10 * node + 1));
        (1..=room).map(of).collect()
    }

    /// One more node joins and is started; it catches up after that.
    pub async fn join(&mut self) -> Result<NodeId, SpawnError> {
        let next = self.cluster.nodes().last().copied().unwrap_or_default() as u16 + 1;
        let node = self.cluster.join("", Some(self.port + 10 * next)).await?;
        self.cluster.start(node)?;
        Ok(node)
    }

    /// The admin listener of a node that runs, and is not this one.
    pub fn admin_beside(&mut self, node: NodeId) -> Result<AdminClient, SpawnError> {
        let nodes = self.cluster.nodes();
        let other = nodes.into_iter().find(|other| *other != node && self.cluster.is_running(*other));
        Ok(self.cluster.admin(other.unwrap_or_default())?)
    }

    /// Forgets a node that left for good.
    pub fn forget(&mut self, node: NodeId) {
        self.cluster.forget(node);
    }

    /// The node processes that run.
    pub fn processes(&self) -> Vec<Process> {
        let running = self.cluster.nodes().into_iter().filter_map(|node| Some((node, self.cluster.pid(node)?)));
        running.map(|(node, pid)| Process { name: format!("node {node}"), pid }).collect()
    }

    /// Where the nodes' data and output are.
    pub fn dir(&self) -> PathBuf {
        self.cluster.dir().to_owned()
    }

    /// SIGTERM: the node leaves in good order.
    pub fn terminate(&self, node: NodeId) -> Result<(), SpawnError> {
        Ok(self.cluster.terminate(node)?)
    }

    /// Waits until a node that was told to stop has ended.
    pub async fn gone(&mut self, node: NodeId, within: Duration) {
        let begun = Instant::now();
        while self.is_running(node) && begun.elapsed() < within {
            tokio::time::sleep(LOOK).await;
        }
    }

    pub fn is_running(&mut self, node: NodeId) -> bool {
        self.cluster.is_running(node)
    }

    /// SIGKILL.
    pub fn kill(&mut self, node: NodeId) -> Result<(), SpawnError> {
        Ok(self.cluster.kill(node)?)
    }

    /// Ids, in order.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.cluster.nodes()
    }

    /// Starts a node that was killed; it is not ready yet when this returns.
    pub fn start_again(&mut self, node: NodeId) -> Result<(), SpawnError> {
        Ok(self.cluster.start(node)?)
    }

    pub async fn ready(&mut self, node: NodeId, within: Duration) -> Result<(), SpawnError> {
        Ok(self.cluster.wait_ready(node, within).await?)
    }

    pub async fn restart(&mut self, node: NodeId) -> Result<(), SpawnError> {
        self.cluster.start(node)?;
        Ok(self.cluster.wait_ready(node, READY_WITHIN).await?)
    }

    /// Stops the nodes. The directory goes too, unless it is kept for a look at what went wrong.
    pub async fn stop(mut self, keep: bool) -> Option<PathBuf> {
        self.cluster.stop_all(STOP_WITHIN).await;
        keep.then(|| self.dir.keep())
    }
}
