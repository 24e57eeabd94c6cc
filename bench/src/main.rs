//! `campanile-bench`: the load harness's command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use bench::plan::Pace;
use bench::progress::Progress;
use bench::replay::{self, Place, ReplayError, ReplayOptions};
use bench::report::Report;
use bench::spawn::SpawnOptions;
use bench::target::TargetOptions;
use chat::ids::AppId;
use clap::{Args, Parser, Subcommand};
use node::admin::AdminClient;

const EXIT_CODES: &str = "Exit codes:
  0  every send acked, every promise kept
  2  wrong usage
  3  the cluster does not start, does not answer, or did not take every send
  4  a promise is broken: something lost, duplicated, out of order, or replicas that differ";

/// Replays real chat against a cluster and checks every promise about it.
#[derive(Parser)]
#[command(name = "campanile-bench", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Replays channel logs: each nick a user with a connection of its own, each file a group.
    #[command(after_help = EXIT_CODES)]
    Replay(Box<Replay>),
}

#[derive(Args)]
struct Replay {
    /// A directory of logs (*.txt), or one log: `[HH:MM] <nick> text`.
    logs: PathBuf,
    /// Start a cluster of this many nodes in a temporary directory, and stop it afterwards.
    #[arg(long, value_name = "NODES", conflicts_with = "target", value_parser = clap::value_parser!(u16).range(1..=7))]
    spawn: Option<u16>,
    /// Shards of the spawned cluster.
    #[arg(long, default_value_t = chat::limits::SHARDS_DEFAULT, value_parser = clap::value_parser!(u16).range(1..=1024))]
    shards: u16,
    /// A node of a running cluster, wss://host:port; give every node.
    #[arg(long, value_name = "URL", required_unless_present = "spawn", requires_all = ["ca", "app_key"])]
    target: Vec<String>,
    /// The CA that the nodes' certificates are signed by (PEM).
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The key that signs the app's tokens (Ed25519, PKCS#8 PEM).
    #[arg(long, value_name = "FILE")]
    app_key: Option<PathBuf>,
    /// The app whose users chat.
    #[arg(long, default_value = "main")]
    app: AppId,
    /// A node's admin listener, https://host:port; give every node to compare their replicas.
    #[arg(long, value_name = "URL", requires = "admin_token")]
    admin: Vec<String>,
    /// The file that holds the admin token.
    #[arg(long, value_name = "FILE")]
    admin_token: Option<PathBuf>,
    /// Kill -9 the leader of the busiest shard once this share of the sends is acked (such as 50%), and restart it.
    #[arg(long, value_name = "PERCENT", value_parser = percent, requires = "spawn")]
    kill_leader_at: Option<u8>,
    /// Seconds after which the killed node comes back.
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    restart_after: u64,
    /// How many times faster than real time, or `max`: as fast as answers come.
    #[arg(long, default_value = "max", value_parser = pace)]
    speed: Pace,
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

fn percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    number.parse().ok().filter(|percent| *percent < 100).ok_or_else(|| "expected 0% to 99%".to_owned())
}

fn pace(text: &str) -> Result<Pace, String> {
    if text == "max" {
        return Ok(Pace::Max);
    }
    let times = text.parse().ok().filter(|times| *times > 0);
    times.map(Pace::Times).ok_or_else(|| "expected max, or how many times faster".to_owned())
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let Command::Replay(replay) = Cli::parse().command;
    match run(*replay) {
        Ok(report) => ExitCode::from(report.exit_code()),
        Err(failure) => {
            Progress::Lines.say(&format!("error: {:#}", failure.error));
            ExitCode::from(failure.code)
        }
    }
}

/// What ended the program before there was a report.
struct Failure {
    code: u8,
    error: anyhow::Error,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { code: 2, error }
    }
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

#[expect(clippy::print_stdout, reason = "the report is the program's output")]
fn print(report: &Report) {
    println!("{report}");
}

fn options(replay: Replay) -> anyhow::Result<ReplayOptions> {
    let place = match replay.spawn {
        Some(nodes) => Place::Spawn(SpawnOptions { nodes, shards: replay.shards, tls: true }),
        None => Place::Target(target(&replay)?),
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

fn target(replay: &Replay) -> anyhow::Result<TargetOptions> {
    let ca_pem = read(replay.ca.as_ref().context("--ca is missing")?)?;
    let app_key = read(replay.app_key.as_ref().context("--app-key is missing")?)?;
    let token = match &replay.admin_token {
        Some(path) => String::from_utf8(read(path)?).context("the admin token is not text")?,
        None => String::new(),
    };
    let admin = |url: &String| AdminClient::new(url, &ca_pem, token.trim());
    Ok(TargetOptions {
        urls: replay.target.clone(),
        app_key_pem: String::from_utf8(app_key).context("the app key is not PEM")?,
        app: replay.app.clone(),
        admins: replay.admin.iter().map(admin).collect::<Result<_, _>>()?,
        ca_pem,
    })
}

fn read(path: &PathBuf) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        assert!(Cli::try_parse_from(["b", "replay", "logs"]).is_err(), "a cluster must be named");
        assert!(Cli::try_parse_from(["b", "replay", "logs", "--target", "wss://a:1"]).is_err(), "a CA must be named");
        let kill = ["b", "replay", "logs", "--spawn", "3", "--kill-leader-at", "50%", "--speed", "60"];
        let Command::Replay(replay) = Cli::try_parse_from(kill).map(|cli| cli.command).unwrap();
        assert_eq!((replay.kill_leader_at, replay.speed, replay.spawn), (Some(50), Pace::Times(60), Some(3)));
        assert_eq!((percent("100%"), pace("0")).0, Err("expected 0% to 99%".to_owned()));
        assert!(pace("0").is_err());
    }
}
