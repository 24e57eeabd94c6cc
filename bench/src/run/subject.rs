//! What is loaded: a cluster of ours, of the run's own or one that runs already, or another system to compare with.

use std::path::PathBuf;
use std::time::Duration;

use chat::ids::ShardId;

use super::campanile::{self, Cluster};
use super::failover::{self, Failover, Kills};
use super::growth::{self, Change, Growth};
use super::rival::Rival;
use super::watch::Quiet;
use super::{Measured, Plan, RunError, machine, open_gate, processes};
use crate::progress::Progress;
use crate::spawn::{SpawnOptions, Spawned};
use crate::summary::{self, Summary};
use crate::systems::{Clients, Running, System};
use crate::target::TargetOptions;
use crate::usage::Process;

/// What an ack of ours says.
const PROMISE: &str = "ack: on the disks of a majority (fsync); order by the shard's leader, delivery after commit";

pub enum Subject {
    Ours { cluster: Box<Cluster>, spawned: Option<Box<Spawned>> },
    Rival(Rival),
}

impl Subject {
    /// A cluster of the run's own.
    pub fn spawn(options: SpawnOptions, progress: Progress) -> Result<Self, RunError> {
        let runtime = runtime()?;
        let spawned = runtime.block_on(Spawned::start(options))?;
        progress.say(&format!("{} nodes in {}", options.nodes, spawned.dir().display()));
        let cluster = Cluster { options: spawned.target()?, processes: spawned.processes(), runtime, gate: open_gate };
        Ok(Self::Ours { cluster: Box::new(cluster), spawned: Some(Box::new(spawned)) })
    }

    /// A cluster of the run's own that grows and shrinks under the load.
    pub fn grow(
        options: SpawnOptions,
        plan: &Plan,
        changes: &[Change],
        pause: Duration,
        progress: Progress,
    ) -> Result<(Self, Measured), RunError> {
        let room = options.nodes + changes.iter().filter(|change| **change == Change::Join).count() as u16;
        let runtime = runtime()?;
        let mut spawned = runtime.block_on(Spawned::start_with_room(options, room))?;
        progress.say(&format!("{} nodes in {}", options.nodes, spawned.dir().display()));
        let mut target = spawned.target()?;
        target.urls = spawned.urls_of(room);
        let cluster = Cluster { options: target, processes: spawned.processes(), runtime, gate: open_gate };
        let handle = cluster.runtime.handle().clone();
        let conduct = |_: &[ShardId]| Ok(Growth::new(&mut spawned, handle, changes.to_vec(), pause));
        let (mut measured, conductor, _) = campanile::run(&cluster, plan, conduct, progress)?;
        let (took, troubles) = (conductor.took, conductor.troubles);
        growth::record(&mut measured, &took, troubles, changes.len());
        Ok((Self::Ours { cluster: Box::new(cluster), spawned: Some(Box::new(spawned)) }, measured))
    }

    /// A cluster that runs already.
    pub fn target(options: TargetOptions, processes: Vec<Process>) -> Result<Self, RunError> {
        let cluster = Box::new(Cluster { options, processes, runtime: runtime()?, gate: open_gate });
        Ok(Self::Ours { cluster, spawned: None })
    }

    pub fn rival(system: System, clients: Clients, streams: Option<u32>, progress: Progress) -> Result<Self, RunError> {
        let running = Running::start(system, clients)?;
        let rival = Rival { system, running, streams };
        progress.say(&format!("{} in {}", rival.name(), rival.running.dir().display()));
        Ok(Self::Rival(rival))
    }

    /// A run on users and groups of its own.
    pub fn run(&mut self, plan: &Plan, kills: Option<&Kills>, progress: Progress) -> Result<Measured, RunError> {
        let disk = self.dir().map(|dir| machine::bytes_below(&dir));
        let mut measured = match (&mut *self, kills) {
            (Self::Ours { cluster, .. }, None) => campanile::run(cluster, plan, |_| Ok(Quiet), progress)?.0,
            (Self::Ours { cluster, spawned: Some(spawned) }, Some(kills)) => {
                cluster.processes = spawned.processes();
                failover(cluster, spawned, plan, kills, progress)?
            }
            (Self::Rival(rival), None) => rival.run(plan, progress)?,
            (Self::Rival(rival), Some(kills)) => rival.failover(plan, kills, progress)?,
            (Self::Ours { .. }, Some(_)) => {
                return Err(RunError::Usage("only a cluster of the run's own (--spawn) is ever killed".to_owned()));
            }
        };
        let grown = self.dir().map(|dir| machine::bytes_below(&dir));
        measured.disk_bytes = disk.zip(grown).map(|(before, after)| after.saturating_sub(before));
        Ok(measured)
    }

    /// The same from several generator processes.
    pub fn run_in_processes(&self, plan: &Plan, processes: usize, progress: Progress) -> Result<Summary, RunError> {
        let Self::Ours { cluster, .. } = self else {
            return Err(RunError::Usage("several processes load a cluster of ours, not another system".to_owned()));
        };
        if plan.first < plan.shape.users || plan.accounts_first {
            return Err(RunError::Usage("a scenario of connections needs one process".to_owned()));
        }
        let before = self.dir().map(|dir| machine::bytes_below(&dir));
        let mut summary = processes::run(cluster, &self.described(), plan, processes, progress)?;
        let after = self.dir().map(|dir| machine::bytes_below(&dir));
        let grown = before.zip(after).map(|(before, after)| after.saturating_sub(before) as f64);
        summary.cost.disk_bytes_per_message =
            grown.filter(|_| summary.counts.acked > 0).map(|bytes| bytes / summary.counts.acked as f64);
        Ok(summary)
    }

    /// Where the servers' files are, if they are ours to look at.
    fn dir(&self) -> Option<PathBuf> {
        match self {
            Self::Ours { spawned, .. } => spawned.as_ref().map(|spawned| spawned.dir()),
            Self::Rival(rival) => Some(rival.running.dir().to_owned()),
        }
    }

    /// The system, as a summary names it.
    pub fn described(&self) -> summary::System {
        match self {
            Self::Ours { cluster, .. } => summary::System {
                name: "campanile".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                nodes: cluster.options.urls.len() as u32,
                tls: cluster.options.urls.iter().any(|url| url.starts_with("wss:")),
                promise: PROMISE.to_owned(),
            },
            Self::Rival(rival) => summary::System {
                name: rival.name(),
                version: rival.system.version(),
                nodes: rival.running.urls().len() as u32,
                tls: rival.running.is_tls(),
                promise: rival.system.promise().to_owned(),
            },
        }
    }

    /// Stops what was started. Its directory may be kept for a look at what went wrong.
    pub fn stop(self, keep: bool, progress: Progress) {
        let kept = match self {
            Self::Ours { cluster, spawned: Some(spawned) } => cluster.runtime.block_on(spawned.stop(keep)),
            Self::Ours { spawned: None, .. } => None,
            Self::Rival(rival) => rival.running.stop(keep),
        };
        if let Some(kept) = kept {
            progress.say(&format!("the nodes' data and output are kept in {}", kept.display()));
        }
    }
}

/// A run with kills.
fn failover(
    cluster: &Cluster,
    spawned: &mut Spawned,
    plan: &Plan,
    kills: &Kills,
    progress: Progress,
) -> Result<Measured, RunError> {
    let handle = cluster.runtime.handle().clone();
    let admins = cluster.options.admins.clone();
    let until = plan.load.measured;
    let conduct =
        |shards: &[ShardId]| Ok(Failover::new(spawned, admins, handle, kills.clone(), shards.to_vec(), until));
    let (mut measured, conductor, shards) = campanile::run(cluster, plan, conduct, progress)?;
    failover::record(&mut measured, &conductor.killed, conductor.troubles, &shards, kills.len());
    Ok(measured)
}

fn runtime() -> Result<tokio::runtime::Runtime, RunError> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
