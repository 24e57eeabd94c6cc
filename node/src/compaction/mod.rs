//! A node whose database is mostly dead compacts it by itself: it waits until the cluster goes on without it, takes its turn,
//! stops as for an operator, and begins again with the compaction (docs/adr/0030). `core`: what it waits for.

mod core;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chat::ids::ShardId;
use cluster::Cluster;
use parking_lot::Mutex;
use storage::{Compaction, Engine, Space};
use tokio::time::{MissedTickBehavior, interval};

pub(crate) use self::core::Waits;
use self::core::{Standing, obstacle, turn_ms};
use crate::admin::BackupDesk;
use crate::duty::Duty;
use crate::room::RoomWatch;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(2);
/// Between two attempts to give the turn back.
const RETRY: Duration = Duration::from_secs(1);

/// What is asked of a node, and by whom it decides.
pub struct CompactionOptions {
    /// When the database is to be compacted.
    pub when: Compaction,
    /// By the node itself; otherwise when it starts.
    pub by_itself: bool,
    /// After its start it compacts by itself so much later at the soonest.
    pub pause: Duration,
    /// Free bytes that the node needs for its work.
    pub stop_below: u64,
}

/// The parts of a node that are looked at.
pub struct Around<'n> {
    pub cluster: &'n Cluster,
    pub engine: &'n Engine,
    pub duty: &'n Duty,
    pub backups: &'n BackupDesk,
    pub room: &'n RoomWatch,
    /// When the node's program began.
    pub up_since: Instant,
}

/// Looks after one node's database. Clones see the same.
#[derive(Clone)]
pub struct CompactionWatch(Arc<Watched>);

struct Watched {
    options: CompactionOptions,
    waits: Mutex<Option<Waits>>,
}

impl CompactionWatch {
    pub fn new(options: CompactionOptions) -> Self {
        Self(Arc::new(Watched { options, waits: Mutex::default() }))
    }

    /// Whether the database should be compacted.
    pub fn is_due(&self, space: &Space) -> bool {
        space.wants(self.0.options.when)
    }

    /// What a compaction that is due waits for.
    pub fn waits(&self) -> Option<String> {
        self.0.waits.lock().as_ref().map(ToString::to_string)
    }

    /// Returns once this node has its turn: it is to stop, and to begin again with the compaction.
    pub async fn turn(&self, around: &Around<'_>) {
        let mut clock = interval(LOOK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            let space = around.engine.stats().space;
            if !self.is_due(&space) {
                *self.0.waits.lock() = None;
                continue;
            }
            match self.0.ask(around, &space).await {
                Ok(()) => {
                    tracing::warn!(
                        event = "compaction_turn",
                        database_bytes = space.disk_bytes,
                        live_bytes = space.live_bytes,
                        "it is this node's turn to compact its database: it stops and begins again"
                    );
                    return;
                }
                Err(waits) => self.0.wait(waits),
            }
        }
    }
}

impl Watched {
    /// Takes the turn, if nothing is in the way.
    async fn ask(&self, around: &Around<'_>, space: &Space) -> Result<(), Waits> {
        let Around { cluster, duty, backups, room, up_since, .. } = around;
        let standing = Standing {
            up: up_since.elapsed(),
            draining: duty.is_draining(),
            copying: backups.is_busy(),
            program: std::env::current_exe().is_ok_and(|program| program.exists()),
            live_bytes: space.live_bytes,
            free_bytes: room.seen().free_bytes,
            stop_below: self.options.stop_below,
        };
        if let Some(waits) = obstacle(&standing, self.options.by_itself, self.options.pause) {
            return Err(waits);
        }
        cluster.can_go().await?;
        cluster.take_turn(turn_ms(space.disk_bytes)).await?;
        // Between the look and the turn another node may have had its own.
        if let Err(not_now) = cluster.can_go().await {
            give_back(Cluster::clone(cluster)).await;
            return Err(not_now.into());
        }
        Ok(())
    }

    fn wait(&self, waits: Waits) {
        let mut known = self.waits.lock();
        // The numbers in it change with every look.
        let same = known.as_ref().is_some_and(|known| std::mem::discriminant(known) == std::mem::discriminant(&waits));
        if !same {
            tracing::info!(event = "compaction_waits", %waits, "the database should be compacted");
        }
        *known = Some(waits);
    }
}

/// Gives the turn back of a node that is there again, if it has it; again and again until that is on record.
pub async fn give_back(cluster: Cluster) {
    // A replica that has just begun may not know yet what it applied before it stopped.
    while cluster.read_barrier(ShardId::META).await.is_err() {
        tokio::time::sleep(RETRY).await;
    }
    if cluster.turn().is_none_or(|turn| turn.node != cluster.node()) {
        return;
    }
    while let Err(error) = cluster.end_turn().await {
        tracing::debug!(%error, "the turn is given back later");
        tokio::time::sleep(RETRY).await;
    }
    tracing::info!(event = "compaction_turn_ended", "another node may compact its database");
}
