//! The scrub: every stored record is opened once in a while, whether anybody reads it or not, slowly and beside what goes
//! on. What does not open is repaired as if somebody had read it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chat::ids::ShardId;
use chat::limits::{REPAIR_PATIENCE_MS, SCRUB_BYTES_PER_S, SCRUB_EVERY_MS, SCRUB_STEP_BYTES};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use storage::{Engine, ScrubCursor, Scrubbed, StorageError};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use crate::cluster::Inner;

/// How long a scrub waits for the repair of what it found before it goes on.
const REPAIR_TIMEOUT: Duration = Duration::from_millis(REPAIR_PATIENCE_MS);

/// How often, and how fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scrubbing {
    /// From the beginning of one to the beginning of the next; zero: only when asked for.
    pub every: Duration,
    pub bytes_per_s: u64,
}

impl Default for Scrubbing {
    fn default() -> Self {
        Self { every: Duration::from_millis(SCRUB_EVERY_MS), bytes_per_s: SCRUB_BYTES_PER_S }
    }
}

/// How far a scrub is, or how it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubProgress {
    /// The shard that it is at; none when it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<ShardId>,
    pub shards_done: u16,
    pub records: u64,
    /// Of sealed values.
    pub bytes: u64,
    /// Records that did not open.
    pub damaged: u64,
    /// Unix milliseconds by this node's clock; 0 for never.
    pub began_ms: u64,
    pub ended_ms: u64,
    /// Why it ended early, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// A node's scrub: shared by the task that does it and whoever asks for it or for how far it is.
#[derive(Default)]
pub(crate) struct Scrub {
    wanted: Notify,
    progress: Mutex<ScrubProgress>,
}

impl Scrub {
    /// Begins one now, unless one is under way.
    pub(crate) fn start(&self) {
        let mut progress = self.progress.lock();
        if progress.at.is_none() {
            // Whoever asks next sees that one is under way.
            *progress = ScrubProgress { at: Some(ShardId::META), began_ms: now_ms(), ..ScrubProgress::default() };
            self.wanted.notify_one();
        }
    }

    pub(crate) fn progress(&self) -> ScrubProgress {
        self.progress.lock().clone()
    }
}

/// Scrubs now and then, and when asked, until the node stops.
pub(crate) async fn run(inner: Arc<Inner>, engine: Engine, scrubbing: Scrubbing) {
    loop {
        // A node that was restarted does not know when it did so last.
        let soon = Instant::now() + scrubbing.every / 2;
        tokio::select! {
            () = inner.scrub.wanted.notified() => {}
            () = sleep_until(soon), if !scrubbing.every.is_zero() => {
                inner.scrub.start();
                continue;
            }
        }
        let failed = whole(&inner, &engine, scrubbing.bytes_per_s).await.err().map(|error| error.to_string());
        let mut progress = inner.scrub.progress.lock();
        progress.at = None;
        progress.ended_ms = now_ms();
        progress.failed = failed;
        let ScrubProgress { records, bytes, damaged, failed, .. } = &*progress;
        tracing::info!(event = "scrub_ended", records, bytes, damaged, failed, "every stored record was looked at");
    }
}

async fn whole(inner: &Arc<Inner>, engine: &Engine, bytes_per_s: u64) -> Result<(), StorageError> {
    for shard in inner.replicas.iter().map(|replica| replica.shard) {
        inner.scrub.progress.lock().at = Some(shard);
        one(inner, engine, Some(shard), bytes_per_s).await?;
        inner.scrub.progress.lock().shards_done += 1;
    }
    one(inner, engine, None, bytes_per_s).await
}

async fn one(
    inner: &Arc<Inner>,
    engine: &Engine,
    shard: Option<ShardId>,
    bytes_per_s: u64,
) -> Result<(), StorageError> {
    let mut cursor: Option<ScrubCursor> = None;
    loop {
        let engine_clone = engine.clone();
        let step =
            tokio::task::spawn_blocking(move || engine_clone.scrub(shard, cursor.as_ref(), SCRUB_STEP_BYTES)).await;
        let Scrubbed { records, bytes, damaged, next } = step.map_err(|_| StorageError::Closed)??;
        {
            let mut progress = inner.scrub.progress.lock();
            progress.records += records;
            progress.bytes += bytes;
            progress.damaged += damaged.len() as u64;
        }
        for error in &damaged {
            match shard.and_then(|shard| inner.replica(shard)) {
                Some(replica) => replica.health.report(error),
                None => rewrite_own(engine, error).await?,
            }
        }
        if let (Some(replica), false) = (shard.and_then(|shard| inner.replica(shard)), damaged.is_empty()) {
            // What does not fit among the damage that waits would be left as it is.
            replica.health.wait_repaired(REPAIR_TIMEOUT).await;
        }
        if next.is_none() {
            return Ok(());
        }
        cursor = next;
        sleep(pause(bytes, bytes_per_s)).await;
    }
}

/// The engine's own records are in memory.
async fn rewrite_own(engine: &Engine, error: &StorageError) -> Result<(), StorageError> {
    tracing::error!(event = "record_damaged", %error, "one of the node's own records is damaged: it is written again");
    let engine = engine.clone();
    tokio::task::spawn_blocking(move || engine.rewrite_own()).await.map_err(|_| StorageError::Closed)?
}

/// After so many bytes.
fn pause(bytes: u64, bytes_per_s: u64) -> Duration {
    Duration::from_micros(bytes.saturating_mul(1_000_000) / bytes_per_s.max(1))
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_keeps_the_rate() {
        assert_eq!(pause(1 << 20, 4 << 20), Duration::from_millis(250));
        assert_eq!((pause(0, 1), pause(1, 0)), (Duration::ZERO, Duration::from_secs(1)));
    }

    #[test]
    fn a_scrub_under_way_is_not_begun_again() {
        let scrub = Scrub::default();
        scrub.start();
        scrub.progress.lock().records = 7;
        scrub.start();
        assert_eq!((scrub.progress().records, scrub.progress().at), (7, Some(ShardId::META)));
        scrub.progress.lock().at = None;
        scrub.start();
        assert_eq!(scrub.progress().records, 0);
    }
}
