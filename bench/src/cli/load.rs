//! `campanile-bench group`, `private` and `community`: a shape of conversations and a load on it.

use std::time::Duration;

use anyhow::Context;
use bench::engine::{Load, Loop};
use bench::files;
use bench::progress::Progress;
use bench::run::campanile::{Cluster, Plan};
use bench::run::{Measured, RunError, campanile, plain};
use bench::spawn::Spawned;
use bench::workload::Shape;
use clap::Args;

use super::cluster::ClusterArgs;
use super::{Failure, args, print};

#[derive(Args)]
pub(super) struct Group {
    /// Groups; no user is in two of them.
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    groups: u32,
    /// Members of each group.
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    members: u32,
    /// Members of each group that send.
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    senders: u32,
    #[command(flatten)]
    load: LoadArgs,
}

#[derive(Args)]
pub(super) struct Private {
    /// Pairs of users.
    #[arg(long, value_name = "COUNT", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pairs: u32,
    #[command(flatten)]
    load: LoadArgs,
}

#[derive(Args)]
pub(super) struct Community {
    /// Members of the one group.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    members: u32,
    /// Members that send.
    #[arg(long, value_name = "COUNT", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    senders: u32,
    #[command(flatten)]
    load: LoadArgs,
}

#[derive(Args)]
pub(super) struct LoadArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Clients of the spawned cluster connect without TLS.
    #[arg(long, requires = "spawn")]
    no_tls: bool,
    /// Closed loop: each sender has so many messages on their way; one is through when its sender has the ack and
    /// every member the message.
    #[arg(long, value_name = "COUNT", conflicts_with = "rate", value_parser = clap::value_parser!(u32).range(1..=4_096))]
    window: Option<u32>,
    /// Open loop: so many messages a second over all senders, whatever becomes of them; latencies count from the moment
    /// at which a message was due.
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    rate: Option<f64>,
    /// Bytes of a message's text.
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = payload)]
    payload: usize,
    /// How long is measured.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = args::duration)]
    duration: Duration,
    /// How long the load runs before it is measured.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = args::duration)]
    warmup: Duration,
    /// How long what is on its way may take after the last send.
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = args::duration)]
    drain: Duration,
    /// Threads of the generator [default: half the cores].
    #[arg(long, value_name = "COUNT")]
    workers: Option<usize>,
    /// Logins under way at once.
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    logins: usize,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "expected messages a second, more than 0".to_owned())
}

fn payload(text: &str) -> Result<usize, String> {
    let (least, most) = (bench::protocol::NUMBER_DIGITS, chat::limits::TEXT_BYTES);
    let bytes = text.parse().ok().filter(|bytes| (least..=most).contains(bytes));
    bytes.ok_or_else(|| format!("expected {least} to {most} bytes: a message carries its number"))
}

impl Group {
    pub(super) fn run(self) -> Result<u8, Failure> {
        if self.senders > self.members {
            return Err(anyhow::anyhow!("--senders: a group of {} has no {} senders", self.members, self.senders).into());
        }
        self.load.run(Shape::groups(self.groups, self.members, self.senders))
    }
}

impl Private {
    pub(super) fn run(self) -> Result<u8, Failure> {
        self.load.run(Shape::pairs(self.pairs))
    }
}

impl Community {
    pub(super) fn run(self) -> Result<u8, Failure> {
        if self.senders > self.members {
            return Err(anyhow::anyhow!("--senders: {} members are no {} senders", self.members, self.senders).into());
        }
        self.load.run(Shape::groups(1, self.members, self.senders))
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let code = match &error {
            RunError::Usage(_) | RunError::Target(_) | RunError::Connector(_) => 2,
            RunError::Spawn(_) | RunError::Unhealthy(_) | RunError::Engine(_) => 3,
        };
        Self { code, error: error.into() }
    }
}

impl LoadArgs {
    fn load(&self) -> Load {
        let pace = match (self.rate, self.window) {
            (Some(per_second), _) => Loop::Open { per_second },
            (None, window) => Loop::Closed { window: window.unwrap_or(1) },
        };
        Load { pace, warmup: self.warmup, measured: self.duration, drain: self.drain }
    }

    fn run(self, shape: Shape) -> Result<u8, Failure> {
        files::raise(shape.users).map_err(RunError::Usage)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let plan = Plan {
            load: self.load(),
            payload: self.payload,
            workers: self.workers.unwrap_or(cores / 2).max(1),
            logins: self.logins,
            shape,
        };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
        let progress = Progress::of_terminal();
        let Some(spawn) = self.cluster.spawn(!self.no_tls) else {
            let options = self.cluster.target()?;
            let cluster = Cluster { options, processes: self.cluster.server_pid.clone(), runtime };
            return Ok(report(&plan, &campanile::run(&cluster, &plan, progress)?));
        };
        let spawned = runtime.block_on(Spawned::start(spawn)).map_err(RunError::from)?;
        progress.say(&format!("{} nodes in {}", spawn.nodes, spawned.dir().display()));
        let options = spawned.target().map_err(RunError::from)?;
        let cluster = Cluster { options, processes: spawned.processes(), runtime };
        let measured = campanile::run(&cluster, &plan, progress);
        let keep = measured.as_ref().map_or(true, |measured| measured.outcome.broken.total() > 0);
        if let Some(kept) = cluster.runtime.block_on(spawned.stop(keep)) {
            progress.say(&format!("the nodes' data and output are kept in {}", kept.display()));
        }
        Ok(report(&plan, &measured?))
    }
}

fn report(plan: &Plan, measured: &Measured) -> u8 {
    print(&plain::text(plan, measured));
    if measured.outcome.broken.total() > 0 { 4 } else { 0 }
}
