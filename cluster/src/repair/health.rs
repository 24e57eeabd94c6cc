//! What a replica knows of its own damage, and who waits for its repair.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chat::ids::ShardId;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use storage::{Damage, StorageError};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::core::Book;
use crate::Feed;

/// A replica's damage, as an operator sees it. Counts since the node started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Integrity {
    /// Damaged records found; a state that differs from the others counts as one.
    pub found: u64,
    pub repaired: u64,
    /// Removed instead: log records that nobody needed any more.
    #[serde(default)]
    pub dropped: u64,
    /// Not yet repaired.
    pub pending: u64,
    /// The state differs from the other replicas': nothing of it is shown until it is rebuilt.
    pub quarantined: bool,
    /// What was found last, and where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// Why the last attempt to repair it came to nothing. It is made again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck: Option<String>,
}

pub(crate) struct Health {
    shard: ShardId,
    /// Held while an entry is applied, and while the state is replaced.
    pub(crate) gate: tokio::sync::Mutex<()>,
    feed: Arc<dyn Feed>,
    applied: watch::Sender<u64>,
    book: Mutex<Book>,
    quarantined: AtomicBool,
    /// Consensus runs, and there are other members to repair from.
    repairable: AtomicBool,
    found: Notify,
    /// Something was repaired.
    mended: Notify,
    /// How often the state was rebuilt.
    rebuilt: watch::Sender<u64>,
}

impl Health {
    pub(crate) fn new(shard: ShardId, feed: Arc<dyn Feed>, applied: watch::Sender<u64>) -> Self {
        Self {
            shard,
            gate: tokio::sync::Mutex::default(),
            feed,
            applied,
            book: Mutex::default(),
            quarantined: AtomicBool::new(false),
            repairable: AtomicBool::new(false),
            found: Notify::new(),
            mended: Notify::new(),
            rebuilt: watch::Sender::new(0),
        }
    }

    /// Whether there are others to repair from: said once consensus runs, and when others come or go.
    pub(crate) fn peers(&self, has_peers: bool) {
        if self.repairable.swap(has_peers, Ordering::AcqRel) != has_peers {
            self.found.notify_one();
        }
    }

    /// Notes what an error says of damage; whatever else it says is not its business.
    pub(crate) fn report(&self, error: &StorageError) {
        let Some(damage) = error.damage() else { return };
        if self.book.lock().report(damage, error.to_string()) {
            tracing::error!(event = "record_damaged", %error, "a record is damaged: it is not served, and repaired");
        }
        self.found.notify_one();
    }

    /// The state differs from the others' after entry `index`.
    pub(crate) fn quarantine(&self, index: u64) {
        if self.quarantined.swap(true, Ordering::AcqRel) {
            return;
        }
        let shard = self.shard;
        tracing::error!(event = "replica_quarantined", %shard, index, "its state is not shown any more, and rebuilt");
        let what = format!("the state of shard {shard} differs from the other replicas' after entry {index}");
        self.book.lock().report(Damage::State, what);
        self.found.notify_one();
    }

    pub(crate) fn is_quarantined(&self) -> bool {
        self.quarantined.load(Ordering::Acquire)
    }

    /// Refuses reads of a state that differs.
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        if self.is_quarantined() { Err(StorageError::Quarantined { shard: self.shard }) } else { Ok(()) }
    }

    /// Passes a result on, noting what it says of damage.
    pub(crate) fn seen<T>(&self, result: Result<T, StorageError>) -> Result<T, StorageError> {
        if let Err(error) = &result {
            self.report(error);
        }
        result
    }

    /// Waits until the state that gave `error` is rebuilt. Whoever waits does not hold the gate.
    ///
    /// # Errors
    ///
    /// The same, if it says nothing of the state or there is nobody to rebuild it from.
    pub(crate) async fn rebuilt_after(&self, error: StorageError) -> Result<(), StorageError> {
        let mut rebuilt = self.rebuilt.subscribe();
        self.report(&error);
        if error.damage() != Some(Damage::State) || !self.repairable.load(Ordering::Acquire) {
            return Err(error);
        }
        // The sender lives as long as `self`.
        rebuilt.changed().await.map_err(|_| error)
    }

    /// How often the state was rebuilt.
    pub(crate) fn times_rebuilt(&self) -> u64 {
        *self.rebuilt.borrow()
    }

    /// The state was replaced by another replica's after entry `index`. The gate is held.
    pub(super) fn state_replaced(&self, index: u64) {
        self.quarantined.store(false, Ordering::Release);
        self.rebuilt.send_modify(|times| *times += 1);
        self.applied.send_replace(index);
        // Sessions may hold positions from before: they read the rest from the log.
        self.feed.jumped(self.shard, index);
    }

    /// Returns once nothing is damaged any more that is known of, or when `within` has passed.
    pub(crate) async fn wait_repaired(&self, within: Duration) {
        let repaired = async {
            loop {
                let mended = self.mended.notified();
                if self.next().is_none() {
                    return;
                }
                mended.await;
            }
        };
        // What is left is said in the status.
        let _ = timeout(within, repaired).await;
    }

    pub(super) async fn wait(&self) {
        self.found.notified().await;
    }

    pub(super) fn next(&self) -> Option<Damage> {
        self.book.lock().next()
    }

    pub(super) fn repaired(&self, damage: Damage) {
        if self.book.lock().repaired(damage) {
            let shard = self.shard;
            tracing::warn!(event = "record_repaired", %shard, ?damage, "repaired");
        }
        self.mended.notify_waiters();
    }

    /// Damaged log records up to `through`.
    pub(super) fn damaged_records(&self, through: u64) -> BTreeSet<u64> {
        self.book.lock().records(through)
    }

    /// Nobody needs it any more, and it is removed.
    pub(super) fn dropped(&self, damage: Damage) {
        if self.book.lock().dropped(damage) {
            let shard = self.shard;
            tracing::warn!(event = "record_dropped", %shard, ?damage, "nobody needs it any more: removed");
        }
        self.mended.notify_waiters();
    }

    pub(super) fn failed(&self, damage: Damage, why: String) {
        if self.book.lock().failed(&why) {
            let shard = self.shard;
            tracing::warn!(event = "repair_failed", %shard, ?damage, why, "not repaired yet");
        }
    }

    pub(crate) fn integrity(&self) -> Integrity {
        let book = self.book.lock();
        Integrity {
            found: book.found,
            repaired: book.repaired,
            dropped: book.dropped,
            pending: book.pending() as u64,
            quarantined: self.is_quarantined(),
            last: book.last.clone(),
            stuck: book.stuck.clone(),
        }
    }
}
