//! `campanile-bench replay`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use bench::plan::Pace;
use bench::progress::Progress;
use bench::replay::{self, Place, ReplayError, ReplayOptions};
use bench::report::Report;
use clap::Args;

use super::cluster::ClusterArgs;
use super::{Failure, print};

#[derive(Args)]
pub(super) struct Replay {
    /// A directory of logs (*.txt), or one log: `[HH:MM] <nick> text`.
    logs: PathBuf,
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
    /// Kill -9 the leader of the busiest shard once this share of the sends is acked (such as 50%), and restart it.
    #[arg(long, value_name = "PERCENT", value_parser = percent, requires = "spawn")]
    pub(super) kill_leader_at: Option<u8>,
    /// Seconds after which the killed node comes back.
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    restart_after: u64,
    /// How many times faster than real time, or `max`: as fast as answers come.
    #[arg(long, default_value = "max", value_parser = pace)]
    pub(super) speed: Pace,
    /// Only the first logs, in order of their names.
    #[arg(long, value_name = "COUNT")]
    files: Option<usize>,
    /// Nicks that joined and said nothing are members too.
    #[arg(long)]
    lurkers: bool,
    /// Sends on their way at once.
    #[arg(long, value_name = "COUNT", default_value_t = 256)]
    in_flight: usize,
    /// Logins at once.
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    connections: usize,
    /// Decides who connects to which node.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Write the report there, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(super) fn percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    number.parse().ok().filter(|percent| *percent < 100).ok_or_else(|| "expected 0% to 99%".to_owned())
}

pub(super) fn pace(text: &str) -> Result<Pace, String> {
    if text == "max" {
        return Ok(Pace::Max);
    }
    let times = text.parse().ok().filter(|times| *times > 0);
    times.map(Pace::Times).ok_or_else(|| "expected max, or how many times faster".to_owned())
}

impl From<ReplayError> for Failure {
    fn from(error: ReplayError) -> Self {
        let code = match &error {
            ReplayError::Usage(_) | ReplayError::Logs { .. } | ReplayError::Target(_) => 2,
            ReplayError::Spawn(_) | ReplayError::Unhealthy(_) => 3,
        };
        Self { code, error: error.into() }
    }
}

impl Replay {
    pub(super) fn run(self) -> Result<u8, Failure> {
        Ok(run(self)?.exit_code())
    }
}

fn run(replay: Replay) -> Result<Report, Failure> {
    let json = replay.json.clone();
    let options = options(replay)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let report = runtime.block_on(replay::run(options))?;
    print(&report);
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&report).context("cannot encode the report")?;
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(report)
}

fn options(replay: Replay) -> anyhow::Result<ReplayOptions> {
    let place = match replay.cluster.spawn(true) {
        Some(spawn) => Place::Spawn(spawn),
        None => Place::Target(replay.cluster.target()?),
    };
    let mut options = ReplayOptions::new(replay.logs, place);
    options.files = replay.files.unwrap_or(usize::MAX);
    options.pace = replay.speed;
    options.lurkers = replay.lurkers;
    options.kill_leader_at = replay.kill_leader_at;
    options.restart_after = Duration::from_secs(replay.restart_after);
    options.in_flight = replay.in_flight;
    options.logins = replay.connections;
    options.seed = replay.seed;
    options.progress = Progress::of_terminal();
    Ok(options)
}
