//! A run as a summary.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::{Measured, Plan, machine, watch};
use crate::check::Broken;
use crate::engine::WorkerLoad;
use crate::summary::{
    Checks, Cost, Counts, Generator, Latency, Rates, SCHEMA_VERSION, Scenario, Second, Server, ServerSecond, Summary,
    System, Tool, Window,
};
use crate::usage::Span;

/// A worker that is busier than this share of a core, or whose timers are later than this, distorts what it measures.
const BUSY_SHARE: f64 = 0.85;
const LAG_MS: f64 = 5.0;

/// Notes of one run; more say nothing new.
const NOTES: usize = 40;

pub fn summarize(plan: &Plan, system: System, processes: u32, mut measured: Measured) -> Summary {
    let rates = rates(plan, &measured);
    let cost = cost(&measured);
    let counts = counts(plan, &measured);
    let unhealthy = !measured.outcome.unanswered.is_empty() || measured.unhealthy.is_some();
    measured.checks.notes.extend(measured.unhealthy.take());
    let frozen = frozen(&measured.servers);
    measured.checks.notes.extend(frozen);
    let checks = checks(&measured.outcome.broken, &measured.outcome.told, std::mem::take(&mut measured.checks));
    let exit_code = match (checks.broken() > 0, unhealthy) {
        (true, _) => 4,
        (false, true) => 3,
        (false, false) => 0,
    };
    let outcome = &measured.outcome;
    let seconds = |us: u64| us as f64 / 1e6;
    Summary {
        schema_version: SCHEMA_VERSION,
        tool: Tool { name: "campanile-bench".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
        command: command(),
        started_unix_ms: measured.started_unix_ms,
        machine: machine::machine(),
        system,
        scenario: Scenario { name: plan.scenario.clone(), parameters: plan.parameters.clone() },
        window: Window {
            warmup_s: plan.load.warmup.as_secs_f64(),
            measured_s: seconds(outcome.measured_us),
            drain_s: seconds(outcome.drain_us),
        },
        counts,
        rates,
        latencies: latencies(&measured),
        timeline: timeline(&measured.timeline, &measured.servers),
        servers: measured.servers.iter().map(server).collect(),
        cost,
        generator: generator(&outcome.generator, processes),
        checks,
        marks: measured.marks,
        slos: Vec::new(),
        runs: Vec::new(),
        exit_code,
    }
}

/// Program and arguments; of the program its name alone.
fn command() -> Vec<String> {
    let arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    std::iter::once("campanile-bench".to_owned()).chain(arguments).collect()
}

fn counts(plan: &Plan, measured: &Measured) -> Counts {
    let outcome = &measured.outcome;
    let mut errors = outcome.errors.clone();
    if !outcome.unanswered.is_empty() {
        errors.insert("timeout".to_owned(), outcome.unanswered.len() as u64);
    }
    let of_group = plan.shape.groups.iter().map(|group| group.members.len() as u64);
    let lanes =
        plan.shape.groups.iter().zip(of_group).flat_map(|(group, members)| group.senders.iter().map(move |_| members));
    let sent: u64 = outcome.lanes.iter().map(|sent| u64::from(*sent)).sum();
    let due: u64 = outcome.lanes.iter().zip(lanes).map(|(sent, members)| u64::from(*sent) * members).sum();
    // Of the window: its acks, each with as many members as the run's messages have on average.
    let expected_deliveries = (outcome.counters.acked as f64 * due as f64 / sent.max(1) as f64).round() as u64;
    Counts {
        connections: measured.connections,
        logins: outcome.counters.logins,
        reconnects: outcome.counters.reconnects,
        sent: outcome.counters.sent,
        acked: outcome.counters.acked,
        delivered: outcome.counters.delivered,
        expected_deliveries,
        reads: outcome.counters.answered,
        backlog_peak: outcome.backlog_peak,
        errors,
    }
}

fn rates(plan: &Plan, measured: &Measured) -> Rates {
    let counters = &measured.outcome.counters;
    let per_s = |count: u64| count as f64 * 1e6 / measured.outcome.measured_us.max(1) as f64;
    Rates {
        intended_per_s: plan.load.rate(),
        sent_per_s: per_s(counters.sent),
        acked_per_s: per_s(counters.acked),
        delivered_per_s: per_s(counters.delivered),
        logins_per_s: per_s(counters.logins),
    }
}

fn latencies(measured: &Measured) -> BTreeMap<String, Latency> {
    let named = measured.outcome.latencies.named();
    let recorded = named.into_iter().filter(|(_, histogram)| !histogram.is_empty());
    recorded.map(|(name, histogram)| (name.to_owned(), Latency::of(histogram))).collect()
}

fn cost(measured: &Measured) -> Cost {
    let outcome = &measured.outcome;
    let per = |us: Option<u64>, count: u64| us.filter(|_| count > 0).map(|us| us as f64 / count as f64);
    let servers_us = (!measured.servers.is_empty()).then(|| measured.servers.iter().map(Span::cpu_us).sum());
    let own_us = Some(outcome.generator.iter().map(|worker| worker.cpu_us).sum());
    Cost {
        server_cpu_us_per_ack: per(servers_us, outcome.counters.acked),
        server_cpu_us_per_delivery: per(servers_us, outcome.counters.delivered),
        generator_cpu_us_per_ack: per(own_us, outcome.counters.acked),
        generator_cpu_us_per_delivery: per(own_us, outcome.counters.delivered),
        rss_bytes_per_connection: per(measured.connected_bytes, measured.connections),
        disk_bytes_per_message: per(measured.disk_bytes, outcome.total.acked),
    }
}

fn server(span: &Span) -> Server {
    Server {
        name: span.process.name.clone(),
        cpu_us: span.cpu_us(),
        rss_start_bytes: span.first.resident_bytes,
        rss_end_bytes: span.last.resident_bytes,
        rss_peak_bytes: span.peak_resident_bytes,
    }
}

/// The seconds of servers are taken from the beginning of the load, as those of the generator are.
fn timeline(moments: &[watch::Moment], servers: &[Span]) -> Vec<Second> {
    let ms = |us: u64| us as f64 / 1e3;
    let second = |(at, moment): (usize, &watch::Moment)| Second {
        second: i32::try_from(moment.second).unwrap_or(i32::MAX),
        sent: moment.counters.sent,
        acked: moment.counters.acked,
        delivered: moment.counters.delivered,
        logins: moment.counters.logins,
        errors: moment.counters.errors,
        connections: moment.connections,
        ack_p50_ms: moment.ack_us.map(|us| ms(us.0)),
        ack_p99_ms: moment.ack_us.map(|us| ms(us.1)),
        delivery_p50_ms: moment.delivery_us.map(|us| ms(us.0)),
        delivery_p99_ms: moment.delivery_us.map(|us| ms(us.1)),
        servers: servers.iter().map(|span| server_second(span, at)).collect(),
        generator_cpu_share: moment.cpu_us as f64 / 1e6,
    };
    moments.iter().enumerate().map(second).collect()
}

fn generator(workers: &[WorkerLoad], processes: u32) -> Generator {
    let share = |worker: &WorkerLoad| worker.cpu_us as f64 / worker.measured_us.max(1) as f64;
    let shares: Vec<f64> = workers.iter().map(share).collect();
    let lag_ms = |of: &dyn Fn(&Histogram<u64>) -> u64| {
        workers.iter().map(|worker| of(&worker.lag)).max().unwrap_or_default() as f64 / 1e3
    };
    let timer_lag_p99_ms = lag_ms(&|lag| lag.value_at_quantile(0.99));
    let (bottleneck, verdict) = verdict(&shares, timer_lag_p99_ms);
    Generator {
        processes,
        worker_cpu_shares: shares,
        timer_lag_p99_ms,
        timer_lag_max_ms: lag_ms(&Histogram::max),
        bottleneck,
        verdict,
    }
}

/// Whether the generator distorted what it measured, in words too.
pub(super) fn verdict(shares: &[f64], timer_lag_p99_ms: f64) -> (bool, String) {
    let busiest = shares.iter().copied().fold(0.0, f64::max);
    let (busy, late) = (busiest > BUSY_SHARE, timer_lag_p99_ms > LAG_MS);
    let figures = format!("busiest worker {:.0} % of a core, timer lag p99 {timer_lag_p99_ms:.1} ms", busiest * 100.0);
    let verdict = match (busy, late) {
        (true, _) => format!("the generator was the bottleneck: {figures}"),
        (false, true) => format!(
            "the generator did not get its share of the cores: {figures}; latencies hold that much of its own waiting"
        ),
        (false, false) => format!("the generator was not the bottleneck: {figures}"),
    };
    (busy || late, verdict)
}

/// A server that somebody froze serves nobody: whoever reads the figures must know.
pub(super) fn frozen(servers: &[Span]) -> Vec<String> {
    let frozen = servers.iter().filter(|span| span.stopped > 0);
    let note = |span: &Span| {
        let (name, seconds) = (&span.process.name, span.stopped);
        format!("{name} was stopped by a signal for about {seconds} s: the run's figures mean nothing")
    };
    frozen.map(note).collect()
}

/// Servers that were watched from elsewhere than the summary's load.
pub(super) fn attach_servers(summary: &mut Summary, servers: &[Span]) {
    summary.servers = servers.iter().map(server).collect();
    for (at, second) in summary.timeline.iter_mut().enumerate() {
        second.servers = servers.iter().map(|span| server_second(span, at)).collect();
    }
}

pub(super) fn cost_of_servers(summary: &Summary, servers: &[Span]) -> Cost {
    let per = |us: f64, count: u64| (count > 0).then(|| us / count as f64);
    let servers_us = (!servers.is_empty()).then(|| servers.iter().map(Span::cpu_us).sum::<u64>() as f64);
    let own_us = summary.generator.worker_cpu_shares.iter().sum::<f64>() * summary.window.measured_s * 1e6;
    let (acked, delivered) = (summary.counts.acked, summary.counts.delivered);
    Cost {
        server_cpu_us_per_ack: servers_us.and_then(|us| per(us, acked)),
        server_cpu_us_per_delivery: servers_us.and_then(|us| per(us, delivered)),
        generator_cpu_us_per_ack: per(own_us, acked),
        generator_cpu_us_per_delivery: per(own_us, delivered),
        ..Cost::default()
    }
}

fn server_second(span: &Span, at: usize) -> ServerSecond {
    let seen = span.seconds.get(at).copied().flatten();
    ServerSecond { cpu_share: seen.map(|seen| seen.0), rss_bytes: seen.map(|seen| seen.1) }
}

/// What was seen while the load ran, with what was found afterwards.
fn checks(broken: &Broken, told: &[String], after: Checks) -> Checks {
    let mut notes = told.to_vec();
    notes.extend(after.notes);
    notes.truncate(NOTES);
    Checks {
        lost: broken.lost + after.lost,
        duplicated: broken.duplicated + after.duplicated,
        reordered: broken.reordered + after.reordered,
        phantom: broken.phantom + after.phantom,
        gaps: broken.gaps + after.gaps,
        disagreed: broken.disagreed + after.disagreed,
        other: broken.other + after.other,
        notes,
        ..after
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::record::histogram;

    fn worker(cpu_us: u64, lag_us: u64) -> WorkerLoad {
        let mut lag = histogram();
        lag.saturating_record(lag_us);
        WorkerLoad { cpu_us, measured_us: 1_000_000, lag }
    }

    #[test]
    fn a_generator_that_distorts_says_so() {
        let good = generator(&[worker(500_000, 900), worker(840_000, 10)], 1);
        assert!(!good.bottleneck && good.verdict.contains("84 % of a core"), "{}", good.verdict);
        assert!(generator(&[worker(10_000, 100), worker(860_000, 10)], 1).bottleneck);
        let late = generator(&[worker(10_000, 7_000)], 1);
        assert!(late.bottleneck && late.verdict.contains("did not get its share"), "{}", late.verdict);
    }

    #[test]
    fn what_is_seen_and_what_is_found_add_up() {
        let broken = Broken { lost: 1, gaps: 2, ..Broken::default() };
        let after = Checks { lost: 3, digests_equal: Some(true), notes: vec!["b".into()], ..Checks::default() };
        let checks = checks(&broken, &["a".to_owned()], after);
        assert_eq!((checks.lost, checks.gaps, checks.digests_equal), (4, 2, Some(true)));
        assert_eq!(checks.notes, ["a", "b"]);
    }
}
