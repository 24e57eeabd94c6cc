//! The replay, phase by phase: read the logs, log everybody in, make the groups, send, then check.

mod connect;
mod drive;
mod files;
mod kill;
pub(crate) mod report;
mod run;
mod setup;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use campanile_client::{Client, Stats};
use chat::ids::ShardId;

use crate::ledger::new_run;
use crate::logs::{ChannelLog, parse_log};
use crate::plan::{Pace, Plan};
use crate::progress::Progress;
use crate::report::{Report, Violations};
use crate::spawn::{SpawnError, SpawnOptions, Spawned};
use crate::target::{Target, TargetError, TargetOptions};
pub(crate) use run::Run;

/// Which cluster to replay against.
pub enum Place {
    Spawn(SpawnOptions),
    Target(TargetOptions),
}

pub struct ReplayOptions {
    /// A directory of `*.txt` logs, or one log.
    pub logs: PathBuf,
    /// At most this many logs, in order of their names.
    pub files: usize,
    pub place: Place,
    pub pace: Pace,
    /// Those who only joined are members too.
    pub lurkers: bool,
    /// Kill the busiest shard's leader once this share of the sends is acked, in percent.
    pub kill_leader_at: Option<u8>,
    /// The killed node comes back after this.
    pub restart_after: Duration,
    /// Sends on their way at once, over all senders.
    pub in_flight: usize,
    /// Logins at once.
    pub logins: usize,
    /// How long one send is tried.
    pub send_timeout: Duration,
    /// Decides who connects to which node first.
    pub seed: u64,
    pub progress: Progress,
}

impl ReplayOptions {
    pub fn new(logs: impl Into<PathBuf>, place: Place) -> Self {
        Self {
            logs: logs.into(),
            files: usize::MAX,
            place,
            pace: Pace::Max,
            lurkers: false,
            kill_leader_at: None,
            restart_after: Duration::from_secs(3),
            in_flight: 256,
            logins: 64,
            send_timeout: Duration::from_secs(60),
            seed: 0,
            progress: Progress::Silent,
        }
    }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("{0}")]
    Usage(String),
    #[error("cannot read {}", path.display())]
    Logs { path: PathBuf, source: std::io::Error },
    #[error("the cluster of the run's own failed")]
    Spawn(#[from] SpawnError),
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The cluster does not serve as it should, whether or not it keeps its promises.
    #[error("{0}")]
    Unhealthy(String),
}

/// Replays and checks. A report with violations is a result, not an error.
pub async fn run(options: ReplayOptions) -> Result<Report, ReplayError> {
    if options.kill_leader_at.is_some() && !matches!(options.place, Place::Spawn(_)) {
        return Err(ReplayError::Usage("only a cluster of the run's own (--spawn) is ever killed".to_owned()));
    }
    let logs = read_logs(&options.logs, options.files)?;
    let plan = Plan::of(&logs, options.pace, options.lurkers);
    if plan.messages.is_empty() {
        return Err(ReplayError::Usage(format!("{} holds no messages", options.logs.display())));
    }
    let (users, groups, messages) = (plan.users.len(), plan.groups.len(), plan.messages.len());
    files::check(users)?;
    options.progress.say(&format!("{users} users, {groups} groups, {messages} messages, seed {}", options.seed));
    match &options.place {
        Place::Target(target) => replay(&options, Target::new(target.clone())?, plan, &mut None).await,
        Place::Spawn(spawn) => {
            let spawned = Spawned::start(*spawn).await?;
            options.progress.say(&format!("{} nodes in {}", spawn.nodes, spawned.dir().display()));
            let target = Target::new(spawned.target()?)?;
            let mut cluster = Some(spawned);
            let outcome = replay(&options, target, plan, &mut cluster).await;
            let failed = !matches!(&outcome, Ok(report) if report.passed());
            if let Some(spawned) = cluster
                && let Some(dir) = spawned.stop(failed).await
            {
                options.progress.say(&format!("the nodes' data and output are kept in {}", dir.display()));
            }
            outcome
        }
    }
}

async fn replay(
    options: &ReplayOptions,
    target: Target,
    plan: Plan,
    cluster: &mut Option<Spawned>,
) -> Result<Report, ReplayError> {
    let shards = shards_of(&target).await?;
    let target = Arc::new(target);
    let run = Arc::new(Run::new(plan, new_run(), shards, &target.app));
    let clients = connect::connect_all(options, &target, &run).await?;
    setup::make_groups(options, &run, &clients).await?;

    let drive = drive::send_everything(options, &run, &clients);
    let (driven, killed) = tokio::join!(drive, kill::kill_leader(options, &target, &run, cluster));
    let (duration, killed) = (driven, killed?);
    let (pause_ms, shard_pauses) = run.meters.pauses_ms(run.now_us());

    let mut violations = Violations::default();
    verify::check(options, &target, &run, &mut violations).await?;
    let stats = total_stats(&clients).await;
    violations.count("events came twice on a connection", stats.duplicates);
    violations.count("events came before their predecessors", stats.gaps);
    let kill = killed.map(|kill| kill.report(pause_ms, &shard_pauses));
    Ok(Report::of(&run, duration, stats, kill, violations))
}

/// The shards of the cluster, if its status may be asked for: pauses are then told per shard.
async fn shards_of(target: &Target) -> Result<u16, ReplayError> {
    let Some(admin) = target.admins.first() else { return Ok(0) };
    let status = admin.status().await.map_err(|e| ReplayError::Unhealthy(format!("no status: {e}")))?;
    Ok(status.cluster.shards.iter().map(|s| s.shard).filter(|s| *s != ShardId::META).count() as u16)
}

async fn total_stats(clients: &[Client]) -> Stats {
    let mut total = Stats::default();
    for client in clients {
        let stats = client.stats().await.unwrap_or_default();
        total.connections += stats.connections;
        total.retries += stats.retries;
        total.duplicates += stats.duplicates;
        total.gaps += stats.gaps;
        total.backfills += stats.backfills;
    }
    total
}

/// The logs at `path`, in order of their names.
fn read_logs(path: &Path, most: usize) -> Result<Vec<ChannelLog>, ReplayError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ReplayError::Logs { path, source }
    };
    let mut files = Vec::new();
    if path.is_file() {
        files.push(path.to_owned());
    } else {
        for entry in std::fs::read_dir(path).map_err(failed(path))? {
            let file = entry.map_err(failed(path))?.path();
            if file.extension().is_some_and(|extension| extension == "txt") {
                files.push(file);
            }
        }
    }
    files.sort();
    files.truncate(most);
    let mut logs = Vec::new();
    for file in files {
        let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let log = parse_log(&name, &std::fs::read(&file).map_err(failed(&file))?);
        if !log.messages.is_empty() {
            logs.push(log);
        }
    }
    Ok(logs)
}
