//! Taking a backup: shard after shard from one running node, written as it comes.

use std::path::Path;

use chat::ids::{NodeId, ShardId};
use storage::ClusterKey;
use storage::backup::{About, BackupError, BackupKey, BackupWriter, Manifest, StreamFrame, StreamSealer};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::admin::{AdminClient, AdminError};

#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error("the node is of cluster {found}, the keys are of cluster {expected}")]
    OtherCluster { found: String, expected: String },
    #[error("node {node} cannot give shard {shard}: {reason}")]
    Failed { node: NodeId, shard: ShardId, reason: String },
    #[error("node {node} ended before shard {shard} was complete")]
    CutShort { node: NodeId, shard: ShardId },
}

/// Makes a backup in `target`, which must be absent or empty: complete on return, or absent after an error and when it
/// is dropped half way. `told` hears of each shard that is done.
pub async fn create(
    admin: &AdminClient,
    cluster: &str,
    cluster_key: &ClusterKey,
    key: &BackupKey,
    target: &Path,
    mut told: impl FnMut(ShardId, u16),
) -> Result<Manifest, CreateError> {
    let status = admin.status().await?;
    if status.cluster.cluster != cluster {
        return Err(CreateError::OtherCluster { found: status.cluster.cluster, expected: cluster.to_owned() });
    }
    let node = status.cluster.node;
    let shards = status.cluster.shards.iter().map(|shard| shard.shard.0).max().unwrap_or(0);
    let backup = Uuid::now_v7();
    let about = About {
        backup,
        cluster: cluster.to_owned(),
        campanile: env!("CARGO_PKG_VERSION").to_owned(),
        created: OffsetDateTime::now_utc().to_string(),
        node,
        shards,
    };
    let mut writer = BackupWriter::begin(target, key, cluster_key, about)?;
    let sealer = StreamSealer::new(cluster_key);
    for shard in (0..=shards).map(ShardId) {
        take(admin, &sealer, backup, node, shard, &mut writer).await?;
        told(shard, shards);
    }
    Ok(writer.finish()?)
}

async fn take(
    admin: &AdminClient,
    sealer: &StreamSealer,
    backup: Uuid,
    node: NodeId,
    shard: ShardId,
    writer: &mut BackupWriter,
) -> Result<(), CreateError> {
    let mut frames = admin.backup(backup, shard).await?;
    let mut number = 0;
    let mut next = async || -> Result<StreamFrame, CreateError> {
        let frame = frames.next().await?.ok_or(CreateError::CutShort { node, shard })?;
        let opened = sealer.open(backup, shard, number, &frame)?;
        number += 1;
        match opened {
            StreamFrame::Failed { reason } => Err(CreateError::Failed { node, shard, reason }),
            opened => Ok(opened),
        }
    };
    let unexpected = || BackupError::Content { shard, what: "its frames are out of order".to_owned() };
    let StreamFrame::Cut(cut) = next().await? else { return Err(unexpected().into()) };
    let mut into = writer.shard(&cut)?;
    let mut taken = 0;
    loop {
        match next().await? {
            // Writing is some milliseconds every few megabytes; nothing else waits for this thread.
            StreamFrame::Chunk(chunk) => into.add(&chunk)?,
            StreamFrame::End { chunks } if chunks == taken => return Ok(into.finish()?),
            _ => return Err(unexpected().into()),
        }
        taken += 1;
    }
}
