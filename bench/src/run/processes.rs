//! A load from several generator processes: each has a share of the groups, all begin together, their summaries become
//! one. They talk over pipes: a job and a word to begin go in, a word when ready and a summary come out, a line each.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use chat::ids::AppId;
use serde::{Deserialize, Serialize};

use super::campanile::{self, Cluster};
use super::summarize::{attach_servers, cost_of_servers, frozen, summarize, verdict};
use super::watch::Quiet;
use super::{LOOK_EVERY, Plan, RunError, resident};
use crate::check::replicas;
use crate::engine::Loop;
use crate::progress::Progress;
use crate::summary::{Checks, Counts, Latency, Rates, Second, Summary, System};
use crate::target::{Target, TargetOptions};
use crate::usage::Watch;
use crate::workload::{Shape, shares};

const READY: &str = "ready";
const BEGIN: &str = "begin";
/// How long replicas may take to agree once nothing is sent any more.
const DIGESTS_WITHIN: Duration = Duration::from_secs(60);

/// What a process is to do.
#[derive(Serialize, Deserialize)]
struct Job {
    urls: Vec<String>,
    ca_pem: String,
    app_key_pem: String,
    app: AppId,
    system: System,
    plan: Plan,
}

/// The plan of each process.
fn plans(plan: &Plan, processes: usize) -> Vec<Plan> {
    let lanes = |shape: &Shape| shape.lane_users().len() as f64;
    let all = (lanes(&plan.shape).max(1.0), f64::from(plan.shape.users).max(1.0));
    let part = |shape: Shape| {
        let (of_lanes, of_users) = (lanes(&shape) / all.0, f64::from(shape.users) / all.1);
        let mut load = plan.load.clone();
        for phase in &mut load.phases {
            if let Some(Loop::Open { per_second }) = &mut phase.pace {
                *per_second *= of_lanes;
            }
            phase.reads_per_s *= of_users;
            phase.history_per_s *= of_users;
            phase.relogins_per_s *= of_users;
        }
        Plan { load, first: shape.users, shape, ..plan.clone() }
    };
    shares(&plan.shape, processes).into_iter().map(part).collect()
}

/// One process of the generator, seen from the one that started it.
struct Part {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Part {
    fn start(job: &Job) -> Result<Self, RunError> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("load-share")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(RunError::Unhealthy("a process of the generator has no pipes".to_owned()));
        };
        let mut line = serde_json::to_string(job).map_err(std::io::Error::from)?;
        line.push('\n');
        stdin.write_all(line.as_bytes())?;
        Ok(Self { child, stdin, stdout: BufReader::new(stdout) })
    }

    fn line(&mut self) -> Result<String, RunError> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? == 0 {
            return Err(RunError::Unhealthy("a process of the generator ended early; its error is above".to_owned()));
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Both fail only if it has ended and been waited for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The plan by so many processes at once.
pub fn run(
    cluster: &Cluster,
    system: &System,
    plan: &Plan,
    processes: usize,
    progress: Progress,
) -> Result<Summary, RunError> {
    let options = &cluster.options;
    let job = |plan: Plan| Job {
        urls: options.urls.clone(),
        ca_pem: String::from_utf8_lossy(&options.ca_pem).into_owned(),
        app_key_pem: options.app_key_pem.clone(),
        app: options.app.clone(),
        system: system.clone(),
        plan,
    };
    let before = resident(&cluster.processes);
    let jobs = plans(plan, processes).into_iter().map(job);
    let mut parts = jobs.map(|job| Part::start(&job)).collect::<Result<Vec<_>, _>>()?;
    for part in &mut parts {
        let line = part.line()?;
        if line != READY {
            return Err(RunError::Unhealthy(format!("a process of the generator said {line:?} instead of {READY}")));
        }
    }
    let connected = resident(&cluster.processes);
    progress.say(&format!("{} processes are ready", parts.len()));
    for part in &mut parts {
        part.stdin.write_all(format!("{BEGIN}\n").as_bytes())?;
    }
    let servers = follow(cluster, plan);
    let mut summaries = Vec::new();
    for part in &mut parts {
        let line = part.line()?;
        summaries.push(serde_json::from_str(&line).map_err(std::io::Error::from)?);
    }
    let mut summary = merge(summaries)?;
    summary.scenario.parameters = plan.parameters.clone();
    attach_servers(&mut summary, &servers);
    summary.checks.notes.extend(frozen(&servers));
    summary.cost = cost_of_servers(&summary, &servers);
    let grown = before.zip(connected).map(|(before, after)| after.saturating_sub(before) as f64);
    summary.cost.rss_bytes_per_connection = grown.map(|bytes| bytes / summary.counts.connections.max(1) as f64);
    if options.admins.len() > 1 {
        let target = Target::new(options.clone())?;
        let difference = cluster.runtime.block_on(replicas::differ(&target, DIGESTS_WITHIN));
        summary.checks.digests_equal = Some(difference.is_none());
        summary.checks.notes.extend(difference.map(|difference| format!("replicas differ: {difference}")));
    }
    if summary.checks.broken() > 0 {
        summary.exit_code = 4;
    }
    Ok(summary)
}

/// Watches the servers until the measured window is over.
fn follow(cluster: &Cluster, plan: &Plan) -> Vec<crate::usage::Span> {
    let begin = Instant::now();
    let (from, mut begun) = (begin + plan.load.warmup, false);
    let until = from + plan.load.measured;
    let mut watch = Watch::new(&cluster.processes, begin);
    let mut next_look = begin + Duration::from_secs(1);
    while Instant::now() < until {
        std::thread::park_timeout(LOOK_EVERY);
        let now = Instant::now();
        if !begun && now >= from {
            watch.begin();
            begun = true;
        }
        if now >= next_look {
            watch.second(now);
            next_look += Duration::from_secs(1);
        }
    }
    watch.end();
    watch.spans()
}

/// The other side: one share of a load. Reads its job and the word to begin, writes the word when ready and a summary.
pub fn serve() -> Result<(), RunError> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let job: Job = serde_json::from_str(&line).map_err(std::io::Error::from)?;
    crate::files::raise(job.plan.shape.users).map_err(RunError::Usage)?;
    let options = TargetOptions {
        urls: job.urls,
        ca_pem: job.ca_pem.into_bytes(),
        app_key_pem: job.app_key_pem,
        app: job.app,
        admins: Vec::new(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let cluster = Cluster { options, processes: Vec::new(), runtime, gate };
    let (measured, _, _) = campanile::run(&cluster, &job.plan, |_| Ok(Quiet), Progress::Silent)?;
    let summary = summarize(&job.plan, job.system, 1, measured);
    say(&serde_json::to_string(&summary).map_err(std::io::Error::from)?)
}

fn gate() -> Result<(), RunError> {
    say(READY)?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    if line.trim_end() == BEGIN { Ok(()) } else { Err(RunError::Unhealthy("the load was called off".to_owned())) }
}

fn say(line: &str) -> Result<(), RunError> {
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// One summary of all. Histograms are added; of a second's quantiles, which cannot be, the worst is kept.
fn merge(parts: Vec<Summary>) -> Result<Summary, RunError> {
    let mut parts = parts.into_iter();
    let mut all = parts.next().ok_or_else(|| RunError::Usage("there is nothing to load".to_owned()))?;
    for part in parts {
        add_counts(&mut all.counts, part.counts);
        add_rates(&mut all.rates, part.rates);
        for (name, latency) in part.latencies {
            let sum = match all.latencies.get(&name) {
                Some(before) => add_latency(before, &latency)?,
                None => latency,
            };
            all.latencies.insert(name, sum);
        }
        add_timeline(&mut all.timeline, part.timeline);
        add_checks(&mut all.checks, part.checks);
        all.window.drain_s = all.window.drain_s.max(part.window.drain_s);
        all.generator.processes += part.generator.processes;
        all.generator.worker_cpu_shares.extend(part.generator.worker_cpu_shares);
        all.generator.timer_lag_p99_ms = all.generator.timer_lag_p99_ms.max(part.generator.timer_lag_p99_ms);
        all.generator.timer_lag_max_ms = all.generator.timer_lag_max_ms.max(part.generator.timer_lag_max_ms);
        all.exit_code = all.exit_code.max(part.exit_code);
    }
    (all.generator.bottleneck, all.generator.verdict) =
        verdict(&all.generator.worker_cpu_shares, all.generator.timer_lag_p99_ms);
    Ok(all)
}

fn add_latency(one: &Latency, other: &Latency) -> Result<Latency, RunError> {
    let wrong = |error: &dyn std::fmt::Display| RunError::Unhealthy(format!("a process told latencies badly: {error}"));
    let mut sum = one.histogram().map_err(|error| wrong(&error))?;
    sum.add(other.histogram().map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
    Ok(Latency::of(&sum))
}

fn add_counts(sum: &mut Counts, more: Counts) {
    sum.connections += more.connections;
    sum.logins += more.logins;
    sum.reconnects += more.reconnects;
    sum.sent += more.sent;
    sum.acked += more.acked;
    sum.delivered += more.delivered;
    sum.expected_deliveries += more.expected_deliveries;
    sum.reads += more.reads;
    sum.backlog_peak += more.backlog_peak;
    for (error, count) in more.errors {
        *sum.errors.entry(error).or_default() += count;
    }
}

fn add_rates(sum: &mut Rates, more: Rates) {
    sum.intended_per_s = sum.intended_per_s.zip(more.intended_per_s).map(|(one, other)| one + other);
    sum.sent_per_s += more.sent_per_s;
    sum.acked_per_s += more.acked_per_s;
    sum.delivered_per_s += more.delivered_per_s;
    sum.logins_per_s += more.logins_per_s;
}

fn add_timeline(sum: &mut Vec<Second>, more: Vec<Second>) {
    let worst = |one: Option<f64>, other: Option<f64>| match (one, other) {
        (Some(one), Some(other)) => Some(f64::max(one, other)),
        (one, other) => one.or(other),
    };
    for second in more {
        let Some(at) = sum.iter_mut().find(|before| before.second == second.second) else {
            sum.push(second);
            continue;
        };
        at.sent += second.sent;
        at.acked += second.acked;
        at.delivered += second.delivered;
        at.logins += second.logins;
        at.errors += second.errors;
        at.connections += second.connections;
        at.ack_p50_ms = worst(at.ack_p50_ms, second.ack_p50_ms);
        at.ack_p99_ms = worst(at.ack_p99_ms, second.ack_p99_ms);
        at.delivery_p50_ms = worst(at.delivery_p50_ms, second.delivery_p50_ms);
        at.delivery_p99_ms = worst(at.delivery_p99_ms, second.delivery_p99_ms);
        at.generator_cpu_share += second.generator_cpu_share;
    }
    sum.sort_by_key(|second| second.second);
}

fn add_checks(sum: &mut Checks, more: Checks) {
    sum.lost += more.lost;
    sum.duplicated += more.duplicated;
    sum.reordered += more.reordered;
    sum.phantom += more.phantom;
    sum.gaps += more.gaps;
    sum.disagreed += more.disagreed;
    sum.other += more.other;
    sum.histories_equal = match (sum.histories_equal, more.histories_equal) {
        (Some(one), Some(other)) => Some(one && other),
        (one, other) => one.or(other),
    };
    sum.notes.extend(more.notes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Load;
    use crate::summary::sample;

    #[test]
    fn shares_of_a_load_add_up() {
        let load = Load::steady(Some(Loop::Open { per_second: 900.0 }), Duration::ZERO, Duration::ZERO, Duration::ZERO);
        let parts = plans(&Plan::new("group", Shape::groups(3, 4, 2), load), 2);
        let rates: f64 = parts.iter().filter_map(|plan| plan.load.rate()).sum();
        assert_eq!((parts.len(), rates.round()), (2, 900.0));
        assert_eq!(parts.iter().map(|plan| plan.shape.users).sum::<u32>(), 12);
        let text = serde_json::to_string(&parts[0]).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap().shape, parts[0].shape);
    }

    #[test]
    fn summaries_of_shares_add_up() {
        let part = sample::summary();
        let both = merge(vec![part.clone(), part.clone()]).unwrap();
        assert_eq!(both.counts.acked, 2 * part.counts.acked);
        assert_eq!(both.latencies["ack"].count, 2 * part.latencies["ack"].count);
        assert_eq!(both.timeline.len(), part.timeline.len());
        assert_eq!(both.generator.processes, 2 * part.generator.processes);
        assert!(merge(Vec::new()).is_err());
    }
}
