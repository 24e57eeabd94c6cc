//! What clusters cost in which nothing happens: several side by side, so that they share whatever else the machine does.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::spawn::{SpawnError, SpawnOptions, Spawned};
use crate::usage::Usage;

/// One idle cluster, all its nodes together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Idle {
    pub nodes: u16,
    pub shards: u16,
    /// Of one core.
    pub cpu_share: f64,
    pub resident_bytes: u64,
}

/// Starts one cluster for each of `shards`, lets them come to rest for `settle`, and watches them for `span`.
pub async fn run(nodes: u16, shards: &[u16], settle: Duration, span: Duration) -> Result<Vec<Idle>, SpawnError> {
    let mut clusters = Vec::new();
    for shards in shards {
        clusters.push((*shards, Spawned::start(SpawnOptions { nodes, shards: *shards, tls: true }).await?));
    }
    tokio::time::sleep(settle).await;
    let begun = Instant::now();
    let before = clusters.iter().map(|(_, cluster)| usage(cluster)).collect::<Result<Vec<_>, _>>()?;
    tokio::time::sleep(span).await;
    let mut idle = Vec::new();
    for ((shards, cluster), before) in clusters.iter().zip(before) {
        let after = usage(cluster)?;
        let cpu_us = after.cpu_us.saturating_sub(before.cpu_us) as f64;
        idle.push(Idle {
            nodes,
            shards: *shards,
            cpu_share: cpu_us / begun.elapsed().as_micros() as f64,
            resident_bytes: after.resident_bytes,
        });
    }
    for (_, cluster) in clusters {
        cluster.stop(false).await;
    }
    Ok(idle)
}

/// Of all nodes of a cluster.
fn usage(cluster: &Spawned) -> Result<Usage, SpawnError> {
    let mut sum = Usage::default();
    for process in cluster.processes() {
        let usage = process.usage()?;
        sum.cpu_us += usage.cpu_us;
        sum.resident_bytes += usage.resident_bytes;
    }
    Ok(sum)
}

impl std::fmt::Display for Idle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} nodes, {:>4} shards: {:>5.1} % of one core, {} MiB, all nodes together",
            self.nodes,
            self.shards,
            100.0 * self.cpu_share,
            self.resident_bytes >> 20,
        )
    }
}
