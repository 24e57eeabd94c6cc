//! `campanile-bench capacity`: the highest rate that holds the objectives.

use std::time::Duration;

use bench::capacity::{Bounds, Capacity, Ended, Search, Step};
use bench::engine::{Load, Loop};
use bench::progress::Progress;
use bench::run::subject::Subject;
use bench::run::summarize::summarize;
use bench::slo;
use bench::summary::Summary;
use clap::Args;
use serde_json::json;

use super::common::CommonArgs;
use super::groups::GroupsArgs;
use super::{Failure, args, print};

/// A rate holds only if this share of it is acked.
const KEPT: f64 = 0.98;

#[derive(Args)]
pub(super) struct CapacityArgs {
    #[command(flatten)]
    groups: GroupsArgs,
    /// Messages a second that are tried first, least, at most.
    #[arg(long, value_name = "PER_SECOND", default_value = "1000", value_parser = args::rate)]
    first: f64,
    #[arg(long, value_name = "PER_SECOND", default_value = "50", value_parser = args::rate)]
    lowest: f64,
    #[arg(long, value_name = "PER_SECOND", default_value = "200000", value_parser = args::rate)]
    highest: f64,
    /// How near the rates that hold and that miss are to be: 0.05 is 5 %.
    #[arg(long, value_name = "SHARE", default_value_t = 0.05)]
    tolerance: f64,
    /// Probes at most.
    #[arg(long, value_name = "COUNT", default_value_t = 30)]
    probes: u32,
    /// How long each probe is measured.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = args::duration)]
    duration: Duration,
    /// How long each probe runs before it is measured.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = args::duration)]
    warmup: Duration,
    /// Bytes of a message's text.
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = args::payload)]
    payload: usize,
    #[command(flatten)]
    common: CommonArgs,
}

impl CapacityArgs {
    pub(super) fn run(self) -> Result<u8, Failure> {
        if self.common.slo.is_empty() {
            return Err(anyhow::anyhow!("capacity: name the objectives, such as --slo 'ack_p99<50ms'").into());
        }
        if !self.common.beside.is_empty() {
            return Err(anyhow::anyhow!("capacity looks at one system at a time: leave --beside out").into());
        }
        let bounds = Bounds {
            first: self.first,
            lowest: self.lowest,
            highest: self.highest,
            tolerance: self.tolerance,
            probes_max: self.probes,
        };
        let mut search = Search::new(bounds).map_err(anyhow::Error::from)?;
        let users = self.groups.shape()?.users;
        let (found, best) = self.common.with_subject(users, |subject, progress| {
            let mut best: Option<Summary> = None;
            loop {
                let rate = match search.next() {
                    Step::Done(found) => return Ok((found, best)),
                    Step::Probe(rate) => rate,
                };
                let summary = self.probe(subject, rate, progress)?;
                let held = self.held(&summary, rate);
                search.record(rate, held);
                progress.say(&format!("{rate:>10.0} /s {}", if held { "held" } else { "missed" }));
                let better = best.as_ref().and_then(|best| best.rates.intended_per_s).is_none_or(|best| rate >= best);
                if summary.checks.broken() > 0 {
                    // A broken promise ends the search: no rate makes up for it.
                    return Ok((
                        Capacity { rate: None, confirmed: false, missed_at: Some(rate), ended: Ended::Lowest },
                        Some(summary),
                    ));
                }
                if held && better {
                    best = Some(summary);
                }
            }
        })?;
        self.tell(&found, best)
    }

    fn probe(&self, subject: &mut Subject, rate: f64, progress: Progress) -> Result<Summary, Failure> {
        let parameters = self.groups.parameters().into_iter().chain([("rate", json!(rate))]);
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value)).collect();
        let pace = Loop::Open { per_second: rate };
        let load = Load::steady(Some(pace), self.warmup, self.duration, Duration::from_secs(30));
        let plan = self.common.plan_of("capacity", parameters, self.groups.shape()?, load, self.payload);
        let mut summary = match self.common.processes {
            1 => summarize(&plan, subject.described(), 1, subject.run(&plan, None, progress)?),
            processes => subject.run_in_processes(&plan, processes, progress)?,
        };
        slo::judge_all(&self.common.slo, &mut summary);
        Ok(summary)
    }

    fn held(&self, summary: &Summary, rate: f64) -> bool {
        summary.exit_code == 0 && summary.rates.acked_per_s >= rate * KEPT
    }

    fn tell(&self, found: &Capacity, best: Option<Summary>) -> Result<u8, Failure> {
        let shown = best.map(|summary| self.common.put_out(summary, &self.common.slo)).transpose()?;
        let Some(rate) = found.rate else {
            print(&"capacity      none: not even the lowest rate holds");
            return Ok(shown.filter(|code| *code > 0).unwrap_or(1));
        };
        let above = found.missed_at.map_or_else(String::new, |missed| format!(", {missed:.0} /s does not"));
        let sure = if found.confirmed { "held twice" } else { "held once" };
        print(&format!("capacity      {rate:.0} messages a second ({sure}{above}; {:?})", found.ended));
        Ok(0)
    }
}
