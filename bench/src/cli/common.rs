//! What all loads have in common: the system, the generator, what is put out; and how a run is made of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use bench::engine::{Load, Loop};
use bench::progress::Progress;
use bench::report::{self, terminal};
use bench::run::failover::Kills;
use bench::run::subject::Subject;
use bench::run::summarize::summarize;
use bench::run::{Plan, RunError};
use bench::slo::{self, Slo};
use bench::summary::Summary;
use bench::systems::{Clients, System};
use bench::workload::Shape;
use bench::{beside, files};
use clap::{ArgGroup, Args, ValueEnum};
use serde_json::{Value, json};

use super::cluster::ClusterArgs;
use super::pace::PaceArgs;
use super::{Failure, args, print};

#[derive(Args)]
#[command(group = ArgGroup::new("others").args(["system", "beside"]).multiple(true))]
pub(super) struct CommonArgs {
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
    /// Clients of the spawned cluster connect without TLS.
    #[arg(long, requires = "spawn")]
    pub(super) no_tls: bool,
    /// Load another system instead, started on this machine (its packages: bench/systems/install.sh).
    #[arg(long, value_enum, conflicts_with_all = ["spawn", "target"])]
    pub(super) system: Option<System>,
    /// Load this system too, in turn with the first one and run by run, and show them side by side. May be given more
    /// than once.
    #[arg(long, value_enum, value_name = "SYSTEM", conflicts_with = "target")]
    pub(super) beside: Vec<System>,
    /// Clients of the other system connect over TLS.
    #[arg(long, requires = "others")]
    pub(super) tls: bool,
    /// NATS: streams that the groups are dealt out to [default: what is best for it].
    #[arg(long, value_name = "COUNT", requires = "others")]
    pub(super) streams: Option<u32>,
    /// Threads of the generator [default: half the cores].
    #[arg(long, value_name = "COUNT", value_parser = args::workers)]
    pub(super) workers: Option<usize>,
    /// Processes of the generator, each with a share of the groups.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = args::workers)]
    pub(super) processes: usize,
    /// Logins under way at once.
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    pub(super) logins: usize,
    /// The last events of each group that are read back from every node at the end.
    #[arg(long, value_name = "EVENTS", default_value_t = 400)]
    pub(super) read_back: usize,
    /// An objective such as 'ack_p99<50ms' or 'acked_rate>=10000'; may be given more than once.
    #[arg(long, value_name = "OBJECTIVE")]
    pub(super) slo: Vec<Slo>,
    /// Repeat so many times on the same system, with new users and groups, and report medians.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(super) runs: u32,
    /// Write summary.json, timeline.csv, histograms and report.html there.
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    /// Keep the data and output of what was started.
    #[arg(long, conflicts_with = "target")]
    pub(super) keep: bool,
}

impl CommonArgs {
    /// A plan of this scenario. `parameters` are those of the scenario alone.
    pub(super) fn plan(&self, scenario: &str, parameters: &[(&str, Value)], shape: Shape, pace: &PaceArgs) -> Plan {
        let mut all: BTreeMap<String, Value> =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        match pace.pace() {
            Loop::Closed { window } => all.insert("window".to_owned(), json!(window)),
            Loop::Open { per_second } => all.insert("rate".to_owned(), json!(per_second)),
        };
        self.plan_of(scenario, all, shape, pace.load(), pace.payload)
    }

    /// A plan of this load.
    pub(super) fn plan_of(
        &self,
        scenario: &str,
        mut all: BTreeMap<String, Value>,
        shape: Shape,
        load: Load,
        payload: usize,
    ) -> Plan {
        all.insert("payload_bytes".to_owned(), json!(payload));
        all.extend(self.setting(self.system, &shape));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Plan {
            parameters: all,
            payload,
            workers: self.workers.unwrap_or(cores / 2).max(1),
            logins: self.logins,
            read_back: self.read_back,
            ..Plan::new(scenario, shape, load)
        }
    }

    fn subject(&self, system: Option<System>, progress: Progress) -> Result<Subject, Failure> {
        if let Some(system) = system {
            let clients = if self.tls { Clients::Tls } else { Clients::Plain };
            return Ok(Subject::rival(system, clients, self.streams, progress)?);
        }
        match self.cluster.spawn(!self.no_tls) {
            Some(spawn) => Ok(Subject::spawn(spawn, progress)?),
            None => Ok(Subject::target(self.cluster.target()?, self.cluster.server_pid.clone())?),
        }
    }

    /// Starts the system, runs the plan as often as asked for, and puts out what it came to.
    pub(super) fn run(&self, plan: &Plan, kills: Option<&Kills>) -> Result<u8, Failure> {
        self.run_judged(plan, kills, &self.slo)
    }

    pub(super) fn run_judged(&self, plan: &Plan, kills: Option<&Kills>, slos: &[Slo]) -> Result<u8, Failure> {
        if self.processes > 1 && kills.is_some() {
            return Err(anyhow::anyhow!("kills are made from one process: leave --processes out").into());
        }
        if !self.beside.is_empty() {
            return self.run_beside(plan, kills, slos);
        }
        self.with_subject(plan.shape.users, |subject, progress| {
            let mut summaries = Vec::new();
            for number in 1..=self.runs {
                if self.runs > 1 {
                    progress.say(&format!("run {number} of {}", self.runs));
                }
                summaries.push(match self.processes {
                    1 => summarize(plan, subject.described(), 1, subject.run(plan, kills, progress)?),
                    processes => subject.run_in_processes(plan, processes, progress)?,
                });
            }
            Ok(Summary::of_runs(summaries).context("nothing was run")?)
        })
        .and_then(|summary| self.put_out(summary, slos))
    }

    /// Starts the system, does the work with it, and stops it whatever the work came to.
    pub(super) fn with_subject<T>(
        &self,
        users: u32,
        work: impl FnOnce(&mut Subject, Progress) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.with_system(self.system, users, work)
    }

    fn with_system<T>(
        &self,
        system: Option<System>,
        users: u32,
        work: impl FnOnce(&mut Subject, Progress) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        files::raise(users).map_err(RunError::Usage)?;
        let progress = Progress::of_terminal();
        let mut subject = self.subject(system, progress)?;
        let done = work(&mut subject, progress);
        subject.stop(self.keep, progress);
        done
    }

    /// Each system anew for each run, in turn: what the machine does meanwhile, it does to all of them.
    fn run_beside(&self, plan: &Plan, kills: Option<&Kills>, slos: &[Slo]) -> Result<u8, Failure> {
        if self.processes > 1 {
            return Err(anyhow::anyhow!("--beside loads from one process: leave --processes out").into());
        }
        let systems = std::iter::once(self.system).chain(self.beside.iter().copied().map(Some));
        let mut all: Vec<_> = systems.map(|system| (system, Vec::new())).collect();
        for number in 1..=self.runs {
            for (system, summaries) in &mut all {
                let plan = self.plan_for(*system, plan);
                summaries.push(self.with_system(*system, plan.shape.users, |subject, progress| {
                    progress.say(&format!("run {number} of {}: {}", self.runs, name(*system)));
                    Ok(summarize(&plan, subject.described(), 1, subject.run(&plan, kills, progress)?))
                })?);
            }
        }
        let mut shown = Vec::new();
        let mut code = 0;
        for (number, (system, summaries)) in all.into_iter().enumerate() {
            let mut summary = Summary::of_runs(summaries).context("nothing was run")?;
            slo::judge_all(if number == 0 { slos } else { &[] }, &mut summary);
            code = code.max(summary.exit_code);
            if let Some(dir) = &self.out {
                report::write_all(&dir.join(name(system)), &summary).context("the run's files")?;
            }
            shown.push((name(system), summary));
        }
        print(&beside::text(&shown));
        Ok(code)
    }

    /// The same load as another system is set up for it.
    fn plan_for(&self, system: Option<System>, plan: &Plan) -> Plan {
        let mut plan = plan.clone();
        if let Some((name, _)) = self.setting(self.system, &plan.shape) {
            plan.parameters.remove(&name);
        }
        plan.parameters.extend(self.setting(system, &plan.shape));
        plan
    }

    /// The parameter that says how a system of the run's own is set up, if it has one.
    fn setting(&self, system: Option<System>, shape: &Shape) -> Option<(String, Value)> {
        match system {
            Some(system) => {
                let streams = system.streams(self.streams, shape.groups.len() as u32)?;
                Some(("streams".to_owned(), json!(streams)))
            }
            None => self.cluster.spawn.map(|_| ("shards".to_owned(), json!(self.cluster.shards))),
        }
    }

    /// Judges, prints and writes a summary; the program's exit code.
    pub(super) fn put_out(&self, mut summary: Summary, slos: &[Slo]) -> Result<u8, Failure> {
        slo::judge_all(slos, &mut summary);
        print(&terminal::text(&summary));
        if let Some(dir) = &self.out {
            report::write_all(dir, &summary).context("the run's files")?;
        }
        Ok(summary.exit_code)
    }
}

/// As on the command line.
fn name(system: Option<System>) -> String {
    let value = system.as_ref().and_then(ValueEnum::to_possible_value);
    value.map_or_else(|| "campanile".to_owned(), |value| value.get_name().to_owned())
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let code = match &error {
            RunError::Usage(_) | RunError::Target(_) | RunError::Connector(_) => 2,
            RunError::Spawn(_) | RunError::System(_) | RunError::Unhealthy(_) | RunError::Engine(_) => 3,
        };
        Self { code, error: error.into() }
    }
}
