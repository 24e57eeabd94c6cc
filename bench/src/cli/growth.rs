//! `campanile-bench growth`: a cluster that grows from one node to five and shrinks to three, under a steady load.

use std::time::Duration;

use bench::engine::{Load, Loop};
use bench::files;
use bench::progress::Progress;
use bench::run::RunError;
use bench::run::growth::UP_AND_DOWN;
use bench::run::subject::Subject;
use bench::run::summarize::summarize;
use bench::spawn::SpawnOptions;
use clap::Args;
use serde_json::json;

use super::common::CommonArgs;
use super::groups::GroupsArgs;
use super::{Failure, args};

#[derive(Args)]
pub(super) struct Growth {
    /// Messages a second over all senders.
    #[arg(long, value_name = "PER_SECOND", default_value = "500", value_parser = args::rate)]
    rate: f64,
    /// How long the load lasts. The changes follow one another within it.
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = args::duration)]
    duration: Duration,
    /// Time between one change that is complete and the next.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = args::duration)]
    pause: Duration,
    #[command(flatten)]
    groups: GroupsArgs,
    /// Bytes of a message's text.
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = args::payload)]
    payload: usize,
    #[command(flatten)]
    common: CommonArgs,
}

impl Growth {
    pub(super) fn run(self) -> Result<u8, Failure> {
        if self.common.system.is_some() || self.common.cluster.spawn != Some(1) {
            return Err(anyhow::anyhow!("growth begins with one node: it needs --spawn 1").into());
        }
        let parameters = [("rate", json!(self.rate)), ("pause_s", json!(self.pause.as_secs_f64()))];
        let parameters = parameters.into_iter().chain(self.groups.parameters());
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value)).collect();
        let pace = Loop::Open { per_second: self.rate };
        let load = Load::steady(Some(pace), Duration::from_secs(2), self.duration, Duration::from_secs(60));
        let load = Load { log_acks: true, ..load };
        let mut plan = self.common.plan_of("growth", parameters, self.groups.shape()?, load, self.payload);
        // Whoever lost a connection does not queue.
        plan.logins = plan.shape.users as usize;
        files::raise(plan.shape.users).map_err(RunError::Usage)?;
        let options = SpawnOptions { nodes: 1, shards: self.common.cluster.shards, tls: !self.common.no_tls };
        let progress = Progress::of_terminal();
        let (subject, measured) = Subject::grow(options, &plan, &UP_AND_DOWN, self.pause, progress)?;
        let described = subject.described();
        subject.stop(self.common.keep, progress);
        self.common.put_out(summarize(&plan, described, 1, measured), &self.common.slo)
    }
}
