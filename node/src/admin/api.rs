//! What the admin listener says, as JSON.

use chat::ids::{AppId, ShardId, UserId};
use cluster::{ClusterStatus, Room};
use serde::{Deserialize, Serialize};

use crate::presence::PresenceInfo;

/// `GET /v1/status`: the cluster as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    pub version: String,
    pub uptime_ms: u64,
    /// Live client connections of this node.
    pub sessions: u64,
    /// It gives away what it leads and whom it serves, or has done so.
    #[serde(default)]
    pub draining: bool,
    pub storage: StorageStatus,
    #[serde(default)]
    pub presence: PresenceInfo,
    #[serde(flatten)]
    pub cluster: ClusterStatus,
}

impl NodeStatus {
    /// Shards that the node leads.
    pub fn leads(&self) -> usize {
        self.cluster.shards.iter().filter(|shard| shard.leader == Some(self.cluster.node)).count()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageStatus {
    /// Group commits, each one flush and one fdatasync.
    pub commits: u64,
    pub records: u64,
    pub bytes_on_disk: u64,
    /// Of the database: bytes of its files, of what is in them, and the share of the rest in percent.
    #[serde(default)]
    pub database_bytes: u64,
    #[serde(default)]
    pub live_bytes: u64,
    #[serde(default)]
    pub dead_percent: u8,
    /// The database should be compacted, and what the node waits for before it does so.
    #[serde(default)]
    pub compaction_due: bool,
    #[serde(default)]
    pub compaction_waits: Option<String>,
    /// Writes waiting for the storage thread.
    pub queued: u64,
    /// Why nothing can be stored any more, if so.
    pub failed: Option<String>,
    /// How much room the disk has, and what the node therefore still does.
    #[serde(default)]
    pub room: Room,
    #[serde(default)]
    pub free_bytes: u64,
}

/// `GET /readyz`: whether clients should be sent here. 200 if so, 503 if not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    pub ready: bool,
    /// Why not.
    pub reasons: Vec<String>,
}

/// Entries a replica may be behind its own log and still count as caught up: it applies them within moments.
const CAUGHT_UP_ENTRIES: u64 = 1_000;

impl Readiness {
    /// Judges what a node knows of itself.
    pub fn of(cluster: &ClusterStatus, storage_failed: Option<&str>) -> Self {
        let mut reasons: Vec<String> = storage_failed.map(|why| format!("storage failed: {why}")).into_iter().collect();
        for shard in &cluster.shards {
            let name = shard_name(shard.shard);
            if let Some(why) = &shard.failed {
                reasons.push(format!("{name} failed: {why}"));
            } else if let Some(index) = shard.diverged {
                reasons.push(format!("{name} differs from the other replicas since entry {index}"));
            } else if shard.leader.is_none() {
                reasons.push(format!("{name} has no leader"));
            } else if shard.applied + CAUGHT_UP_ENTRIES < shard.last {
                reasons.push(format!("{name} is not caught up: {} of {} entries", shard.applied, shard.last));
            } else if shard.applied == 0 {
                reasons.push(format!("{name} has applied nothing yet"));
            }
        }
        Self { ready: reasons.is_empty(), reasons }
    }
}

/// `shard 3`, or `shard meta` for the metadata group.
pub fn shard_name(shard: ShardId) -> String {
    format!("shard {shard}")
}

/// `POST /v1/drain`; `DELETE /v1/drain` takes everything back.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// Clients are told to leave one after the other within this.
    #[serde(default = "spread")]
    pub spread_ms: u64,
}

/// An hour.
pub(super) const SPREAD_MS_MAX: u64 = 3_600_000;

fn spread() -> u64 {
    10_000
}

/// `POST /v1/users`. `Debug` shows no password.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    pub app: AppId,
    pub user: UserId,
    /// None for users that only the app's tokens vouch for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

impl std::fmt::Debug for NewUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NewUser({}/{})", self.app, self.user)
    }
}

/// Every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminProblem {
    /// The number of the error catalogue: 1309 in `C1309`.
    pub code: u16,
    pub name: String,
    pub message: String,
}

#[cfg(test)]
mod tests {
    use cluster::ShardStatus;

    use super::*;

    fn shard(shard: u16, leader: Option<u64>, applied: u64, last: u64) -> ShardStatus {
        ShardStatus {
            shard: ShardId(shard),
            leader,
            voters: Vec::new(),
            learners: Vec::new(),
            preferred: None,
            term: 1,
            last,
            applied,
            failed: None,
            diverged: None,
            integrity: cluster::Integrity::default(),
            purged: 0,
        }
    }

    fn cluster(shards: Vec<ShardStatus>) -> ClusterStatus {
        ClusterStatus {
            cluster: "c".into(),
            node: 1,
            level: 1,
            supported: 1,
            peers: Vec::new(),
            shards,
            scrub: cluster::ScrubProgress::default(),
        }
    }

    #[test]
    fn a_node_is_ready_when_every_shard_is_led_and_applied() {
        let good = cluster(vec![shard(0, Some(2), 5, 5), shard(1, Some(1), 7, 9)]);
        assert_eq!(Readiness::of(&good, None), Readiness { ready: true, reasons: Vec::new() });
    }

    #[test]
    fn everything_that_is_missing_is_named() {
        let mut failed = shard(4, Some(1), 1, 1);
        failed.failed = Some("disk".into());
        let mut diverged = shard(5, Some(1), 50, 50);
        diverged.diverged = Some(40);
        let bad =
            cluster(vec![shard(0, None, 5, 5), shard(1, Some(1), 7, 7_000), shard(2, Some(1), 0, 0), failed, diverged]);
        let readiness = Readiness::of(&bad, Some("fsync"));
        assert!(!readiness.ready);
        assert_eq!(
            readiness.reasons,
            [
                "storage failed: fsync",
                "shard meta has no leader",
                "shard 1 is not caught up: 7 of 7000 entries",
                "shard 2 has applied nothing yet",
                "shard 4 failed: disk",
                "shard 5 differs from the other replicas since entry 40",
            ]
        );
    }
}
