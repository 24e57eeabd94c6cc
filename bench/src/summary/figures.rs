//! Every single number that a summary can be asked for by name: what an SLO judges, what `compare` sets side by side,
//! and what is kept of each of several runs.

use std::collections::BTreeMap;

use super::latency::{NAMES, QUANTILES};
use super::median::median;
use super::{Latency, Summary};

/// Which way is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    Lower,
    Higher,
}

/// What a figure is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Ms,
    PerSecond,
    Us,
    Bytes,
    /// 1 is one core.
    Share,
    Count,
}

/// A named figure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    pub name: String,
    pub unit: Unit,
    pub better: Better,
}

type Get = fn(&Summary) -> Option<f64>;

/// All but the latencies.
const PLAIN: &[(&str, Unit, Better, Get)] = &[
    ("sent_rate", Unit::PerSecond, Better::Higher, |s| Some(s.rates.sent_per_s)),
    ("acked_rate", Unit::PerSecond, Better::Higher, |s| Some(s.rates.acked_per_s)),
    ("delivered_rate", Unit::PerSecond, Better::Higher, |s| Some(s.rates.delivered_per_s)),
    ("login_rate", Unit::PerSecond, Better::Higher, |s| Some(s.rates.logins_per_s)),
    ("server_cpu_per_ack", Unit::Us, Better::Lower, |s| s.cost.server_cpu_us_per_ack),
    ("server_cpu_per_delivery", Unit::Us, Better::Lower, |s| s.cost.server_cpu_us_per_delivery),
    ("generator_cpu_per_ack", Unit::Us, Better::Lower, |s| s.cost.generator_cpu_us_per_ack),
    ("generator_cpu_per_delivery", Unit::Us, Better::Lower, |s| s.cost.generator_cpu_us_per_delivery),
    ("rss_per_connection", Unit::Bytes, Better::Lower, |s| s.cost.rss_bytes_per_connection),
    ("disk_per_message", Unit::Bytes, Better::Lower, |s| s.cost.disk_bytes_per_message),
    ("server_rss_peak", Unit::Bytes, Better::Lower, server_rss_peak),
    ("server_cpu", Unit::Share, Better::Lower, server_cpu),
    ("generator_cpu", Unit::Share, Better::Lower, |s| Some(s.generator.worker_cpu_shares.iter().sum())),
    ("timer_lag_p99", Unit::Ms, Better::Lower, |s| Some(s.generator.timer_lag_p99_ms)),
    ("backlog_peak", Unit::Count, Better::Lower, |s| Some(s.counts.backlog_peak as f64)),
    ("reconnects", Unit::Count, Better::Lower, |s| Some(s.counts.reconnects as f64)),
    ("errors", Unit::Count, Better::Lower, |s| Some(s.counts.errors.values().sum::<u64>() as f64)),
    ("lost", Unit::Count, Better::Lower, |s| Some(s.checks.lost as f64)),
    ("duplicated", Unit::Count, Better::Lower, |s| Some(s.checks.duplicated as f64)),
    ("reordered", Unit::Count, Better::Lower, |s| Some(s.checks.reordered as f64)),
    ("phantom", Unit::Count, Better::Lower, |s| Some(s.checks.phantom as f64)),
    ("gaps", Unit::Count, Better::Lower, |s| Some(s.checks.gaps as f64)),
    ("disagreed", Unit::Count, Better::Lower, |s| Some(s.checks.disagreed as f64)),
    ("broken", Unit::Count, Better::Lower, |s| Some(s.checks.broken() as f64)),
];

/// The largest server's.
fn server_rss_peak(summary: &Summary) -> Option<f64> {
    summary.servers.iter().map(|server| server.rss_peak_bytes as f64).max_by(f64::total_cmp)
}

fn server_cpu(summary: &Summary) -> Option<f64> {
    let used: u64 = summary.servers.iter().map(|server| server.cpu_us).sum();
    let known = !summary.servers.is_empty() && summary.window.measured_s > 0.0;
    known.then(|| used as f64 / 1e6 / summary.window.measured_s)
}

/// Every figure that there is: rates and costs, then the latencies (`ack_p99`, `delivery_p99.9`, …).
pub fn all() -> Vec<Figure> {
    let plain =
        PLAIN.iter().map(|(name, unit, better, _)| Figure { name: (*name).to_owned(), unit: *unit, better: *better });
    let latencies = NAMES.iter().flat_map(|name| QUANTILES.iter().map(move |quantile| format!("{name}_{quantile}")));
    plain.chain(latencies.map(|name| Figure { name, unit: Unit::Ms, better: Better::Lower })).collect()
}

impl Figure {
    pub fn named(name: &str) -> Option<Self> {
        all().into_iter().find(|figure| figure.name == name)
    }
}

impl Summary {
    /// The figure of the run that the summary shows; none if there is none, such as latencies of what never happened.
    pub fn figure_of_shown_run(&self, name: &str) -> Option<f64> {
        if let Some((.., get)) = PLAIN.iter().find(|plain| plain.0 == name) {
            return get(self);
        }
        let (latency, quantile) = name.rsplit_once('_')?;
        self.latencies.get(latency).filter(|latency: &&Latency| latency.count > 0)?.quantile_ms(quantile)
    }

    /// The median over the runs; of what is counted because it should not happen, the worst.
    pub fn figure(&self, name: &str) -> Option<f64> {
        let runs = self.runs_of(name);
        if Figure::named(name)?.unit == Unit::Count {
            return runs.into_iter().max_by(f64::total_cmp);
        }
        median(runs)
    }

    /// The figure of every run.
    pub fn runs_of(&self, name: &str) -> Vec<f64> {
        if self.runs.is_empty() {
            return self.figure_of_shown_run(name).into_iter().collect();
        }
        self.runs.iter().filter_map(|run| run.figures.get(name).copied()).collect()
    }

    /// Every figure that this run has.
    pub fn figures_of_shown_run(&self) -> BTreeMap<String, f64> {
        let figures = all().into_iter();
        figures.filter_map(|figure| Some((figure.name.clone(), self.figure_of_shown_run(&figure.name)?))).collect()
    }
}
