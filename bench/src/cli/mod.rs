//! The command line: arguments in, a run, an exit code out.

mod args;
mod bans;
mod capacity;
mod cluster;
mod common;
mod compare;
mod connections;
mod failover;
mod groups;
mod growth;
mod idle;
mod load;
mod pace;
mod replay;
mod scenario;
mod soak;

use std::process::ExitCode;

use bench::progress::Progress;
use clap::{Parser, Subcommand};

const EXIT_CODES: &str = "Exit codes:
  0  every promise kept, every SLO met
  1  an SLO missed
  2  wrong usage
  3  the cluster does not start, does not answer, or did not take every send
  4  a promise is broken: something lost, duplicated, out of order, or replicas that differ";

/// Loads a chat cluster, measures it, and checks every promise about what was sent.
#[derive(Parser)]
#[command(name = "campanile-bench", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Groups whose members do not overlap; some members of each send.
    #[command(after_help = EXIT_CODES)]
    Group(Box<load::Group>),
    /// Private conversations: pairs of users, one of each sends.
    #[command(after_help = EXIT_CODES)]
    Private(Box<load::Private>),
    /// One huge group.
    #[command(after_help = EXIT_CODES)]
    Community(Box<load::Community>),
    /// Connections: memory of idle ones, or a storm of logins beside users who are connected already.
    #[command(after_help = EXIT_CODES)]
    Connect(Box<connections::Connect>),
    /// A thundering herd: all connections are cut while messages are sent, and everybody comes back at once.
    #[command(after_help = EXIT_CODES)]
    Reconnect(Box<connections::Reconnect>),
    /// An ordinary day: groups of many sizes, private pairs, logins, reads, history.
    #[command(after_help = EXIT_CODES)]
    Mixed(Box<connections::Mixed>),
    /// kill -9 of leaders while messages are sent: pauses, and whether anything is lost or duplicated.
    #[command(after_help = EXIT_CODES)]
    Failover(Box<failover::Failover>),
    /// From one node to five and back to three others while messages are sent: whether anything is lost or duplicated.
    #[command(after_help = EXIT_CODES)]
    Growth(Box<growth::Growth>),
    /// A load of your own, phase by phase, from a file.
    #[command(after_help = EXIT_CODES)]
    Scenario(Box<scenario::ScenarioArgs>),
    /// The highest rate that holds objectives.
    #[command(after_help = EXIT_CODES)]
    Capacity(Box<capacity::CapacityArgs>),
    /// Many messages into a cluster that keeps few of them: whether memory and disk stay flat.
    #[command(after_help = EXIT_CODES)]
    Soak(Box<soak::Soak>),
    /// Bans that race sends from every node: whether anything later than a ban reaches the banned.
    #[command(after_help = EXIT_CODES)]
    Bans(Box<bans::Bans>),
    /// What clusters cost in which nothing happens, by the number of their shards.
    #[command(after_help = EXIT_CODES)]
    Idle(idle::Idle),
    /// A share of a load, as `--processes` starts it.
    #[command(hide = true)]
    LoadShare,
    /// The broadcast server that stores nothing, as `--system bare` starts it.
    #[command(hide = true)]
    BareServer { address: std::net::SocketAddr },
    /// Replays channel logs: each nick a user with a connection of its own, each file a group.
    #[command(after_help = EXIT_CODES)]
    Replay(Box<replay::Replay>),
    /// Two runs side by side: which figures are better or worse by more than noise.
    Compare(compare::Compare),
    /// Shows a run's summary again, and writes its report anew.
    Report(compare::Report),
}

/// What ended the program before there was a result.
struct Failure {
    code: u8,
    error: anyhow::Error,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { code: 2, error }
    }
}

pub(crate) fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let code = match Cli::parse().command {
        Command::Group(group) => group.run(),
        Command::Private(private) => private.run(),
        Command::Community(community) => community.run(),
        Command::Connect(connect) => connect.run(),
        Command::Reconnect(reconnect) => reconnect.run(),
        Command::Mixed(mixed) => mixed.run(),
        Command::Failover(failover) => failover.run(),
        Command::Growth(growth) => growth.run(),
        Command::Scenario(scenario) => scenario.run(),
        Command::Capacity(capacity) => capacity.run(),
        Command::Soak(soak) => soak.run(),
        Command::Bans(bans) => bans.run(),
        Command::Idle(idle) => idle.run(),
        Command::LoadShare => bench::run::processes::serve().map(|()| 0).map_err(Failure::from),
        Command::BareServer { address } => bare_server(address),
        Command::Replay(replay) => replay.run(),
        Command::Compare(compare) => compare.run(),
        Command::Report(report) => report.run(),
    };
    match code {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            Progress::Lines.say(&format!("error: {:#}", failure.error));
            ExitCode::from(failure.code)
        }
    }
}

fn bare_server(address: std::net::SocketAddr) -> Result<u8, Failure> {
    bench::systems::serve_bare(address).map_err(anyhow::Error::from)?;
    Ok(0)
}

#[expect(clippy::print_stdout, reason = "the result is the program's output")]
fn print(text: &impl std::fmt::Display) {
    println!("{text}");
}

#[cfg(test)]
mod tests;
