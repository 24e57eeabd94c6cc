//! `campanile node drain` and `node resume`.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::cluster_status::{admin_failure, from_config};
use super::output::{json, say};
use super::{Code, Exit, Failure};
use crate::admin::{AdminClient, Drain, NodeStatus};

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(200);
/// Past the time that clients are given, until it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) async fn drain(config: &Path, over_s: u64, as_json: bool) -> Result<(), Failure> {
    let (_, admin) = from_config(config)?;
    let over = Duration::from_secs(over_s);
    admin.drain(&Drain { spread_ms: over.as_millis() as u64 }).await.map_err(|error| admin_failure(&error))?;
    let status = given_away(&admin, over + PATIENCE).await?;
    let (node, leads) = (status.cluster.node, status.leads());
    if leads > 0 || status.sessions > 0 {
        let what = format!("node {node} still leads {leads} shards and serves {} clients", status.sessions);
        return Err(Failure::new(Code::Node, Exit::Failed, what)
            .next("campanile cluster status shows whether the other nodes are reachable and caught up"));
    }
    if as_json {
        json(&json!({ "node": node, "draining": true, "leads": leads, "sessions": status.sessions }));
    } else {
        say(format_args!("node {node} leads no shard and serves no client; its replicas are kept up to date"));
        say(format_args!("next: stop it, or campanile node resume --config {}", config.display()));
    }
    Ok(())
}

/// The status once nothing is left, or when patience ends.
async fn given_away(admin: &AdminClient, within: Duration) -> Result<NodeStatus, Failure> {
    let begun = Instant::now();
    loop {
        let status = admin.status().await.map_err(|error| admin_failure(&error))?;
        if status.leads() == 0 && status.sessions == 0 || begun.elapsed() >= within {
            return Ok(status);
        }
        tokio::time::sleep(LOOK).await;
    }
}

pub(super) async fn resume(config: &Path, as_json: bool) -> Result<(), Failure> {
    let (url, admin) = from_config(config)?;
    admin.resume().await.map_err(|error| admin_failure(&error))?;
    if as_json {
        json(&json!({ "draining": false }));
    } else {
        say(format_args!("the node at {url} serves clients again; it leads its shards again within seconds"));
    }
    Ok(())
}
