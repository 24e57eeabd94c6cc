//! What the admin listener of a running node shows and does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chat::app::AppCommand;
use chat::command::{Command, Outcome, UserCommand};
use chat::errors::ErrorCode;
use chat::ids::{AppId, ShardId};
use cluster::{Cluster, Comparison, ProposeError, ShardDigest};
use futures_util::future::BoxFuture;
use storage::Engine;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::api::{NewUser, NodeStatus, Readiness, StorageStatus};
use super::apps::{self, AppInfo};
use super::backup::BackupDesk;
use super::retention::{self, IdWindowChange, RetentionChange, RetentionOf, RetentionStatus};
use super::server::{Backend, Refused};
use crate::apps::room::{self, NoRoom};
use crate::auth::{PasswordError, Passwords};
use crate::compaction::CompactionWatch;
use crate::duty::Duty;
use crate::presence::PresenceHandle;
use crate::room::RoomWatch;
use crate::security::{Administration, NotRecorded, SecurityLog};

/// Everything is asked of the parts that own it; nothing is kept here.
pub struct NodeBackend {
    pub cluster: Cluster,
    pub engine: Engine,
    pub passwords: Passwords,
    pub security: SecurityLog,
    pub duty: Duty,
    pub presence: PresenceHandle,
    pub backups: BackupDesk,
    pub compaction: CompactionWatch,
    pub room: RoomWatch,
    /// The client listener is open.
    pub serving: Arc<AtomicBool>,
    pub started: Instant,
}

impl Backend for NodeBackend {
    fn status(&self) -> NodeStatus {
        let stats = self.engine.stats();
        let seen = self.room.seen();
        NodeStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            sessions: self.duty.sessions.connections() as u64,
            draining: self.duty.is_draining(),
            storage: StorageStatus {
                commits: stats.commits,
                records: stats.records,
                bytes_on_disk: stats.bytes_on_disk,
                database_bytes: stats.space.disk_bytes,
                live_bytes: stats.space.live_bytes,
                dead_percent: stats.space.dead_percent(),
                compaction_due: self.compaction.is_due(&stats.space),
                compaction_waits: self.compaction.waits(),
                queued: stats.queue_depth as u64,
                failed: self.engine.failed(),
                room: seen.room,
                free_bytes: seen.free_bytes,
            },
            presence: self.presence.observable_state(),
            cluster: self.cluster.status(),
        }
    }

    fn readiness(&self) -> Readiness {
        let mut readiness = Readiness::of(&self.cluster.status(), self.engine.failed().as_deref());
        if self.security.has_failed() {
            readiness.ready = false;
            readiness.reasons.push("the security log cannot be written: nobody can log in".to_owned());
        }
        if let Some(why) = self.room.complaint() {
            readiness.ready = false;
            readiness.reasons.push(why);
        }
        if self.duty.is_draining() {
            readiness.ready = false;
            readiness.reasons.push("it is drained: campanile node resume ends that".to_owned());
        }
        if !self.serving.load(Ordering::Relaxed) {
            readiness.ready = false;
            readiness.reasons.push("clients are not served yet".to_owned());
        }
        readiness
    }

    fn digests(&self) -> BoxFuture<'_, Result<Vec<ShardDigest>, Refused>> {
        Box::pin(async move {
            let mut digests = Vec::new();
            for shard in 0..=self.cluster.shards() {
                let digest = self.cluster.digest(ShardId(shard)).await;
                digests.push(digest.map_err(|error| Refused::new(ErrorCode::Internal, error.to_string()))?);
            }
            Ok(digests)
        })
    }

    fn verify(&self, shard: ShardId) -> BoxFuture<'_, Result<Comparison, Refused>> {
        Box::pin(async move {
            if shard.0 > self.cluster.shards() {
                return Err(Refused::new(ErrorCode::InvalidField, format!("there is no shard {}", shard.0)));
            }
            self.cluster.verify(shard).await.map_err(not_proposed)
        })
    }

    fn scrub(&self) {
        self.cluster.scrub();
    }

    fn backup(&self, backup: Uuid, shard: ShardId) -> BoxFuture<'_, Result<mpsc::Receiver<Bytes>, Refused>> {
        Box::pin(async move {
            if shard.0 > self.cluster.shards() {
                return Err(Refused::new(ErrorCode::InvalidField, format!("there is no shard {}", shard.0)));
            }
            self.cluster.read_barrier(shard).await.map_err(not_proposed)?;
            self.backups.copy(self.engine.clone(), backup, shard)
        })
    }

    fn drain(&self, spread: Duration) {
        let duty = self.duty.clone();
        actix::spawn(async move { duty.drain(spread).await });
    }

    fn resume(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.duty.resume())
    }

    fn add_user(&self, user: NewUser) -> BoxFuture<'_, Result<(), Refused>> {
        Box::pin(async move {
            let NewUser { app, user, password } = user;
            apps::show(&self.cluster, app.clone()).await?;
            room::for_user(&self.cluster, &app).map_err(|full| match full {
                NoRoom::Full => Refused::new(ErrorCode::LimitReached, format!("app {app}: {full}")),
                NoRoom::Unreadable(error) => Refused::new(ErrorCode::Internal, error.to_string()),
            })?;
            let password = match password {
                None => None,
                Some(password) => Some(self.passwords.hash(&password).await.map_err(not_hashed)?),
            };
            let shard = self.cluster.home_shard(&app, &user);
            let said = format!("user {user} of app {app}");
            let command = Command::User { app, user, command: UserCommand::CreateAccount { password } };
            match self.cluster.submit(shard, command).await.map_err(not_proposed)?.outcome {
                Outcome::Applied { .. } => Ok(()),
                Outcome::Rejected(ErrorCode::AccountExists) => {
                    Err(Refused::new(ErrorCode::AccountExists, format!("{said} exists already")))
                }
                Outcome::Rejected(code) => Err(Refused::new(code, format!("{said}: {}", code.name()))),
            }
        })
    }

    fn apps(&self) -> BoxFuture<'_, Result<Vec<AppInfo>, Refused>> {
        Box::pin(apps::list(&self.cluster))
    }

    fn app(&self, app: AppId) -> BoxFuture<'_, Result<AppInfo, Refused>> {
        Box::pin(apps::show(&self.cluster, app))
    }

    fn change_app(&self, app: AppId, command: AppCommand) -> BoxFuture<'_, Result<AppInfo, Refused>> {
        Box::pin(apps::change(&self.cluster, app, command))
    }

    fn retention(&self, of: RetentionOf) -> BoxFuture<'_, Result<RetentionStatus, Refused>> {
        Box::pin(retention::show(&self.cluster, of))
    }

    fn set_retention(&self, change: RetentionChange) -> BoxFuture<'_, Result<RetentionStatus, Refused>> {
        Box::pin(retention::set(&self.cluster, change))
    }

    fn set_id_window(&self, change: IdWindowChange) -> BoxFuture<'_, Result<RetentionStatus, Refused>> {
        Box::pin(retention::set_id_window(&self.cluster, change))
    }

    fn record(&self, administration: Administration) -> BoxFuture<'_, Result<(), NotRecorded>> {
        Box::pin(self.security.administration(administration))
    }

    fn security_log(&self, limit: usize) -> BoxFuture<'_, Result<serde_json::Value, Refused>> {
        Box::pin(async move {
            let internal = |error: &dyn std::error::Error| Refused::new(ErrorCode::Internal, error.to_string());
            let entries = self.security.tail(limit).await.map_err(|error| internal(&error))?;
            serde_json::to_value(entries).map_err(|error| internal(&error))
        })
    }
}

fn not_hashed(error: PasswordError) -> Refused {
    let code = match error {
        PasswordError::Length => ErrorCode::InvalidField,
        PasswordError::Overloaded => ErrorCode::Overloaded,
        PasswordError::Internal => ErrorCode::Internal,
    };
    Refused::new(code, error.to_string())
}

pub(crate) fn not_proposed(error: ProposeError) -> Refused {
    let code = match error {
        ProposeError::Overloaded => ErrorCode::Overloaded,
        ProposeError::NotLeader { .. } | ProposeError::Unavailable => ErrorCode::Unavailable,
        ProposeError::Unknown => ErrorCode::OutcomeUnknown,
        ProposeError::Storage => ErrorCode::Internal,
        ProposeError::NotSwitchedOn { .. } => {
            let what = format!("{error} in this cluster: campanile cluster upgrade does that");
            return Refused::new(ErrorCode::NotSwitchedOn, what);
        }
    };
    Refused::new(code, error.to_string())
}
