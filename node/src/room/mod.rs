//! Watches the free space of the data directory, and what follows: a node that nears full hands over what it leads, and
//! goes back to work by itself once there is room. `core`: what it decides. [`cluster::Room`]: what each step means.

mod core;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use cluster::Room;
use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};

use self::core::Core;
pub use self::core::Marks;
use crate::duty::Duty;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// How long handing over leadership may take before it is left to the balance of leaders.
const RESIGN: Duration = Duration::from_secs(3);
/// Over which the clients of a node that falls behind are sent elsewhere.
const SPREAD: Duration = Duration::from_secs(2);

/// What was seen last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub room: Room,
    /// Bytes that this process could still write.
    pub free_bytes: u64,
}

/// Looks at one directory. Clones see the same.
#[derive(Clone)]
pub struct RoomWatch {
    dir: PathBuf,
    marks: Marks,
    seen: Arc<Mutex<Seen>>,
}

/// Bytes on the volume of `dir` that this process could still write.
pub fn free_bytes(dir: &Path) -> io::Result<u64> {
    let volume = rustix::fs::statvfs(dir)?;
    Ok(volume.f_bavail.saturating_mul(volume.f_frsize))
}

impl RoomWatch {
    /// With a first look.
    pub fn new(dir: &Path, marks: Marks) -> io::Result<Self> {
        let free_bytes = free_bytes(dir)?;
        let seen = Seen { room: Core::new(marks, free_bytes).room(), free_bytes };
        Ok(Self { dir: dir.to_owned(), marks, seen: Arc::new(Mutex::new(seen)) })
    }

    pub fn seen(&self) -> Seen {
        *self.seen.lock()
    }

    /// Why the node should get no clients, if so, and what is still done.
    pub fn complaint(&self) -> Option<String> {
        let Seen { room, free_bytes } = self.seen();
        let does = match room {
            Room::Ample | Room::Low => return None,
            Room::Tight => "it leads no shard and takes no writes of its own",
            Room::Full => "it leads no shard and takes no entries of other nodes either",
        };
        let (free, mark) = (free_bytes >> 20, self.marks.stop_below >> 20);
        Some(format!("the disk of {} is nearly full ({free} MiB free, {mark} needed): {does}", self.dir.display()))
    }

    /// Runs as long as the node does.
    pub async fn run(self, duty: Duty) {
        let mut core = Core::new(self.marks, self.seen().free_bytes);
        if core.room() != Room::Ample {
            self.changed(&duty, core.room());
        }
        let mut clock = interval(LOOK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            let dir = self.dir.clone();
            // A disk in trouble may not answer at once.
            let Ok(Ok(free_bytes)) = tokio::task::spawn_blocking(move || free_bytes(&dir)).await else { continue };
            let changed = core.look(free_bytes);
            *self.seen.lock() = Seen { room: core.room(), free_bytes };
            if let Some(room) = changed {
                self.changed(&duty, room);
            }
            // What it does not take, its clients do not hear of. If all nodes are full, nothing happens anywhere.
            let elsewhere = !core.room().may_follow() && duty.cluster.somebody_else_leads();
            duty.turn_away(elsewhere, SPREAD);
        }
    }

    fn changed(&self, duty: &Duty, room: Room) {
        let (dir, free_mib) = (self.dir.display(), self.seen().free_bytes >> 20);
        match room {
            Room::Ample => tracing::info!(event = "disk_room", %dir, free_mib, "there is room on the disk"),
            Room::Low => tracing::warn!(event = "disk_low", %dir, free_mib, "the disk is filling up"),
            Room::Tight => {
                tracing::error!(event = "disk_tight", %dir, free_mib, "the disk is nearly full: leading nothing")
            }
            Room::Full => tracing::error!(event = "disk_full", %dir, free_mib, "the disk is full: taking nothing"),
        }
        let cluster = duty.cluster.clone();
        actix::spawn(async move { cluster.set_room(room, RESIGN).await });
    }
}
