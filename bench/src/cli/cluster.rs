//! Which cluster a run goes against: one of its own, or one that runs already.

use std::path::PathBuf;

use anyhow::Context;
use bench::spawn::SpawnOptions;
use bench::target::TargetOptions;
use bench::usage::Process;
use chat::ids::AppId;
use clap::Args;
use node::admin::AdminClient;

use super::args;

#[derive(Args)]
pub(super) struct ClusterArgs {
    /// Start a cluster of this many nodes in a temporary directory, and stop it afterwards.
    #[arg(long, value_name = "NODES", conflicts_with = "target", value_parser = clap::value_parser!(u16).range(1..=7))]
    pub(super) spawn: Option<u16>,
    /// Shards of the spawned cluster.
    #[arg(long, default_value_t = chat::limits::SHARDS_DEFAULT, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) shards: u16,
    /// A node of a running cluster, wss://host:port; give every node.
    #[arg(long, value_name = "URL", requires_all = ["ca", "app_key"])]
    pub(super) target: Vec<String>,
    /// The CA that the nodes' certificates are signed by (PEM).
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// The key that signs the app's tokens (Ed25519, PKCS#8 PEM).
    #[arg(long, value_name = "FILE")]
    pub(super) app_key: Option<PathBuf>,
    /// The app whose users chat.
    #[arg(long, default_value = "main")]
    pub(super) app: AppId,
    /// A node's admin listener, https://host:port; give every node to compare their replicas.
    #[arg(long, value_name = "URL", requires = "admin_token")]
    pub(super) admin: Vec<String>,
    /// The file that holds the admin token.
    #[arg(long, value_name = "FILE")]
    pub(super) admin_token: Option<PathBuf>,
    /// A server's process on this machine, to measure its CPU and memory; give every node.
    #[arg(long, value_name = "NAME=PID", value_parser = args::process, requires = "target")]
    pub(super) server_pid: Vec<Process>,
}

impl ClusterArgs {
    pub(super) fn spawn(&self, tls: bool) -> Option<SpawnOptions> {
        self.spawn.map(|nodes| SpawnOptions { nodes, shards: self.shards, tls })
    }

    pub(super) fn target(&self) -> anyhow::Result<TargetOptions> {
        anyhow::ensure!(!self.target.is_empty(), "name a cluster: --spawn 3, or --target with every node");
        let ca_pem = read(self.ca.as_ref().context("--ca is missing")?)?;
        let app_key = read(self.app_key.as_ref().context("--app-key is missing")?)?;
        let token = match &self.admin_token {
            Some(path) => String::from_utf8(read(path)?).context("the admin token is not text")?,
            None => String::new(),
        };
        let admin = |url: &String| AdminClient::new(url, &ca_pem, token.trim());
        Ok(TargetOptions {
            urls: self.target.clone(),
            app_key_pem: String::from_utf8(app_key).context("the app key is not PEM")?,
            app: self.app.clone(),
            admins: self.admin.iter().map(admin).collect::<Result<_, _>>()?,
            ca_pem,
        })
    }
}

fn read(path: &PathBuf) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
