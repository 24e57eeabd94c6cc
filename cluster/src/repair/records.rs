//! A damaged log record is taken from the other members' logs.

use std::sync::Arc;
use std::time::Duration;

use chat::ids::ShardId;
use chat::limits::{REPAIR_PATIENCE_MS, REPAIR_RETRY_MS};
use futures_util::future::join_all;
use storage::{Damage, LogPosition, LogRecord, LogStore, StateStore, StorageError};
use tokio::time::{Instant, sleep};

use super::core::{Held, Known, Verdict, decide};
use super::health::Health;
use crate::peer::PEER_TIMEOUT;
use crate::peer::lane::Lane;
use crate::peer::message::{Request, Response};
use crate::replica::Replica;
use crate::roster::Lanes;

const PATIENCE: Duration = Duration::from_millis(REPAIR_PATIENCE_MS);
const RETRY: Duration = Duration::from_millis(REPAIR_RETRY_MS);

/// Repairs the log of one replica, also before its consensus runs.
pub(crate) struct LogRepair {
    shard: ShardId,
    pub(super) log: LogStore,
    pub(super) state: StateStore,
    lanes: Arc<Lanes>,
    pub(crate) health: Arc<Health>,
    /// One record at a time.
    busy: tokio::sync::Mutex<()>,
}

/// Why a log record was not repaired.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRepaired {
    #[error("log record {index} of shard {shard} is damaged, and cannot be taken from other members: {why}")]
    Undecided { shard: ShardId, index: u64, why: String },
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl LogRepair {
    pub(crate) fn new(
        shard: ShardId,
        log: LogStore,
        state: StateStore,
        lanes: Arc<Lanes>,
        health: Arc<Health>,
    ) -> Self {
        Self { shard, log, state, lanes, health, busy: tokio::sync::Mutex::default() }
    }

    /// Repairs what `error` names, waiting for the other members.
    ///
    /// # Errors
    ///
    /// The same, if it names no log record; else why it cannot be repaired.
    pub(crate) async fn repair_after(&self, error: StorageError) -> Result<(), NotRepaired> {
        let Some(Damage::Log { index }) = error.damage() else { return Err(error.into()) };
        self.health.report(&error);
        self.repair(index).await
    }

    /// Repairs the end of a log whose last records were damaged when it was opened.
    pub(crate) async fn repair_end(&self) -> Result<(), NotRepaired> {
        for index in self.log.unsure() {
            let shard = self.shard;
            tracing::error!(event = "record_damaged", %shard, index, "the log ends with a damaged record: asking the others");
            self.repair(index).await?;
        }
        Ok(())
    }

    pub(crate) async fn repair(&self, index: u64) -> Result<(), NotRepaired> {
        let _busy = self.busy.lock().await;
        let begun = Instant::now();
        loop {
            let ends_log = self.log.unsure().first() == Some(&index);
            if !ends_log && self.is_whole(index)? {
                return Ok(());
            }
            let why = match self.verdict(index, ends_log).await {
                Verdict::Take(record) => {
                    let log = self.log.clone();
                    let rewritten = tokio::task::spawn_blocking(move || log.rewrite(&record)).await;
                    rewritten.map_err(|_| StorageError::Closed)??;
                    self.health.repaired(Damage::Log { index });
                    return Ok(());
                }
                Verdict::Refuse(why) => why,
                Verdict::Wait if begun.elapsed() < PATIENCE && !self.lanes.is_empty() => {
                    sleep(RETRY).await;
                    continue;
                }
                Verdict::Wait => "not enough of them answered".to_owned(),
            };
            // What cannot be read now to judge by is repaired first; this is tried again.
            if !ends_log && self.drop_needless(index).await.unwrap_or(false) {
                return Ok(());
            }
            self.health.failed(Damage::Log { index }, why.clone());
            return Err(NotRepaired::Undecided { shard: self.shard, index, why });
        }
    }

    /// Whether the stored record opens now; somebody else may have repaired it, or a truncation removed it.
    fn is_whole(&self, index: u64) -> Result<bool, StorageError> {
        if self.log.remembered(index).is_some() {
            return Ok(false);
        }
        match self.log.get(index) {
            Ok(Some(_)) => Ok(true),
            Ok(None) => Ok(self.log.bounds().last.is_none_or(|last| index > last.index)),
            Err(error) if error.damage().is_some() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn verdict(&self, index: u64, ends_log: bool) -> Verdict {
        if let Some(record) = self.log.remembered(index) {
            return Verdict::Take(record.as_ref().clone());
        }
        let position = |index: Option<u64>| position(&self.log, index?);
        let stored = [self.state.applied().position, self.log.committed().ok().flatten()];
        let known = Known {
            index,
            before: position(index.checked_sub(1)),
            after: if ends_log { None } else { position(index.checked_add(1)) },
            exact: stored.into_iter().flatten().find(|position| position.index == index),
        };
        let lanes = self.lanes.all();
        let asked = lanes.iter().map(|lane| held(lane, self.shard, index));
        let answers: Vec<Held> = join_all(asked).await.into_iter().flatten().collect();
        decide(&known, &answers, lanes.len() + 1)
    }
}

fn position(log: &LogStore, index: u64) -> Option<LogPosition> {
    log.get(index).ok().flatten().map(|record| record.position)
}

async fn held(lane: &Lane, shard: ShardId, index: u64) -> Option<Held> {
    match lane.call(Request::LogRecord { shard, index }, PEER_TIMEOUT).await {
        Ok(Response::LogRecord { record, before, committed }) => Some(Held { record, before, committed }),
        _ => None,
    }
}

/// A peer asks for a record. Nothing is said of one that is damaged here too.
pub(crate) fn answer(replica: &Replica, index: u64) -> Result<(Option<LogRecord>, Option<LogPosition>), StorageError> {
    let record = replica.health.seen(replica.log.get(index))?;
    let before = index.checked_sub(1).and_then(|before| position(&replica.log, before));
    Ok((record.map(|record| record.as_ref().clone()), before))
}
