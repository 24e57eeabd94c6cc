//! `campanile-bench idle`.

use std::time::Duration;

use bench::idle;
use clap::Args;

use super::{Failure, args, print};

/// Clusters of the run's own, side by side.
#[derive(Args)]
pub(super) struct Idle {
    /// Nodes of each cluster.
    #[arg(long, value_name = "NODES", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=7))]
    spawn: u16,
    /// Shards: a cluster for each number.
    #[arg(long, value_delimiter = ',', default_value = "16,128", value_parser = clap::value_parser!(u16).range(1..=1024))]
    shards: Vec<u16>,
    /// How long they may come to rest.
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = args::duration)]
    settle: Duration,
    /// How long they are watched.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = args::duration)]
    duration: Duration,
    #[arg(long)]
    json: bool,
}

impl Idle {
    pub(super) fn run(&self) -> Result<u8, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(anyhow::Error::from)?;
        let idle = runtime.block_on(idle::run(self.spawn, &self.shards, self.settle, self.duration));
        let idle = idle.map_err(|error| Failure { code: 3, error: error.into() })?;
        if self.json {
            print(&serde_json::json!(idle));
        } else {
            idle.iter().for_each(print);
        }
        Ok(0)
    }
}
