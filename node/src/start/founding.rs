//! The first entries of a cluster's life, and the apps its nodes are configured with. Every node asks for them; the
//! metadata group takes the same ask any number of times.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use chat::command::{ClusterCommand, Command, Outcome};
use chat::ids::ShardId;
use chat::limits::REPAIR_PATIENCE_MS;
use chat::state::query;
use cluster::Cluster;

use crate::config::NodeConfig;

/// Pause before the metadata group is asked again: it needs a majority of nodes.
const RETRY: Duration = Duration::from_millis(200);
/// The epoch of a cluster that was never restored.
const FIRST_EPOCH: u32 = 1;

/// How long a repair of the metadata group's records is waited for.
const REPAIR: Duration = Duration::from_millis(REPAIR_PATIENCE_MS);

/// Returns the cluster's stream epoch once the cluster and the configured apps are on record. What is damaged of that is
/// being repaired from the other nodes: it is asked for again.
pub(super) async fn found(cluster: &Cluster, config: &NodeConfig) -> anyhow::Result<u32> {
    let begun = Instant::now();
    loop {
        match found_once(cluster, config).await {
            Err(error) if is_repairable(&error) && begun.elapsed() < REPAIR => tokio::time::sleep(RETRY).await,
            done => return done,
        }
    }
}

fn is_repairable(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<storage::StorageError>().is_some_and(|error| error.is_repairable()))
}

async fn found_once(cluster: &Cluster, config: &NodeConfig) -> anyhow::Result<u32> {
    let view = cluster.view(ShardId::META).context("every node has the metadata group")?;
    if config.cluster.joined {
        caught_up(cluster).await;
    } else if query::cluster_settings(&view)?.is_none() {
        submit(cluster, founding(cluster, config))
            .await
            .context("the cluster was founded otherwise than this node is configured")?;
    }
    for app in &config.apps {
        let pem = std::fs::read_to_string(&app.token_public_key)
            .with_context(|| format!("cannot read {}", app.token_public_key.display()))?;
        // On record already: a node that starts without a majority still serves what it can.
        if let Some(known) = query::app(&view, &app.id)? {
            if !known.token_keys.iter().any(|key| key.pem == pem) {
                tracing::warn!(event = "app_key_unused", app = %app.id, "the configured key is none of the app's: campanile app key add");
            }
            continue;
        }
        submit(cluster, ClusterCommand::RegisterApp { app: app.id.clone(), token_public_key_pem: pem })
            .await
            .with_context(|| format!("app {} was not registered", app.id))?;
    }
    let settings = query::cluster_settings(&view)?.context("the founding is applied")?;
    if settings.shards != cluster.shards() {
        bail!("this cluster has {} shards, the configuration says {}", settings.shards, cluster.shards());
    }
    Ok(settings.stream_epoch)
}

fn founding(cluster: &Cluster, config: &NodeConfig) -> ClusterCommand {
    let nodes = config.members().iter().map(|member| (member.id, member.peer.to_string())).collect();
    let (shards, stream_epoch, level) = (cluster.shards(), FIRST_EPOCH, config.cluster.level);
    let cluster = cluster.cluster().to_owned();
    if level == chat::level::OLDEST {
        return ClusterCommand::Found { cluster, shards, stream_epoch, nodes };
    }
    ClusterCommand::FoundAt { cluster, shards, stream_epoch, nodes, level }
}

/// Waits until a node that joined has everything, and the cluster says so.
async fn caught_up(cluster: &Cluster) {
    let mut said = false;
    while !cluster.is_active() {
        if !std::mem::replace(&mut said, true) {
            tracing::info!(event = "node_joining", "catching up with the cluster before clients are served");
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn submit(cluster: &Cluster, command: ClusterCommand) -> anyhow::Result<()> {
    loop {
        match cluster.submit(ShardId::META, Command::Cluster(command.clone())).await {
            Ok(proposed) => {
                cluster.wait_applied(ShardId::META, proposed.index).await?;
                return match proposed.outcome {
                    Outcome::Applied { .. } => Ok(()),
                    Outcome::Rejected(code) => bail!("rejected: {}", code.name()),
                };
            }
            Err(error) => {
                tracing::info!(%error, "the metadata group does not answer yet");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
