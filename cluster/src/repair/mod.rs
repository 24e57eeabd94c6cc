//! Damage is repaired from the other members while the node serves (docs/adr/0016).
//!
//! Whoever meets a record that does not open says so to the replica's [`Health`]; one task per replica ([`run`]) looks after it.
//! A log record is taken from the others' logs ([`LogRepair`]) or, if nobody needs it any more, removed, a state from another replica that agrees with the rest,
//! and a named record is written again from memory.

mod core;
mod health;
mod needless;
mod records;
mod source;
mod state;

use std::sync::Arc;
use std::time::Duration;

use chat::ids::ShardId;
use chat::limits::REPAIR_RETRY_MS;
use storage::{Damage, StorageError};

pub(crate) use health::Health;
pub use health::Integrity;
pub(crate) use records::{LogRepair, answer};
pub(crate) use source::{Part, Source};

use crate::cluster::Inner;
use crate::replica::Replica;

const RETRY: Duration = Duration::from_millis(REPAIR_RETRY_MS);

/// Looks after the damage of one replica until the node stops.
pub(crate) async fn run(inner: Arc<Inner>, shard: ShardId) {
    let Some(replica) = inner.replica(shard) else { return };
    loop {
        replica.health.wait().await;
        while let Some(damage) = replica.health.next() {
            match repair(&inner, replica, damage).await {
                Ok(()) => replica.health.repaired(damage),
                Err(why) => {
                    replica.health.failed(damage, why);
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

async fn repair(inner: &Arc<Inner>, replica: &Replica, damage: Damage) -> Result<(), String> {
    match damage {
        Damage::Log { index } => {
            replica.log_repair.repair(index).await.map_err(|error| error.to_string())?;
            // Damage seldom comes alone: whoever reads on does not have to wait for each record.
            let log = replica.log.clone();
            blocking(replica, move || log.get(index + 1).map(drop)).await.or(Ok(()))
        }
        Damage::State => state::rebuild(inner, replica).await.map_err(|error| error.to_string()),
        Damage::Meta => {
            let state = replica.state.clone();
            blocking(replica, move || state.rewrite_meta()).await
        }
    }
}

async fn blocking(
    replica: &Replica,
    work: impl FnOnce() -> Result<(), StorageError> + Send + 'static,
) -> Result<(), String> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?;
    replica.health.seen(done).map_err(|error| error.to_string())
}
