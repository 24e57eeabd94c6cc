//! A run's result for people at a terminal, at most [`WIDTH`](super::table::WIDTH) columns wide.

use serde_json::Value;

use super::numbers::{bytes, count, duration_ms, percent, significant, with_unit};
use super::table::{Table, WIDTH, paragraph};
use crate::slo;
use crate::summary::figures::Figure;
use crate::summary::{Checks, Latency, Summary, System};

/// Marks that are spelled out; the report has all of them.
const MARKS: usize = 12;

pub fn text(summary: &Summary) -> String {
    let sections =
        [head(summary), figures(summary), latencies(summary), servers(summary), promises(summary), runs(summary)];
    sections.into_iter().filter(|section| !section.is_empty()).collect::<Vec<_>>().join("\n")
}

/// What the run came to, in a word or two.
pub fn verdict(summary: &Summary) -> &'static str {
    match summary.exit_code {
        0 => "PASSED",
        1 => "SLO MISSED",
        3 => "TARGET UNHEALTHY",
        4 => "PROMISE BROKEN",
        _ => "FAILED",
    }
}

/// `failover on campanile 0.1.0 (3 nodes, no TLS)`
pub fn title(summary: &Summary) -> String {
    let System { nodes, tls, .. } = &summary.system;
    let plural = if *nodes == 1 { "" } else { "s" };
    let tls = if *tls { "TLS" } else { "no TLS" };
    format!("{} on {} ({nodes} node{plural}, {tls})", summary.scenario.name, system(summary))
}

/// Name and version; not every system tells its version.
pub fn system(summary: &Summary) -> String {
    let System { name, version, .. } = &summary.system;
    format!("{name} {version}").trim_end().to_owned()
}

/// `groups 50, members 10, …`
pub fn parameters(summary: &Summary) -> String {
    let each = summary.scenario.parameters.iter().map(|(name, value)| format!("{name} {}", parameter(value)));
    each.collect::<Vec<_>>().join(", ")
}

/// Text without quotes, `500.0` as `500`, lists in brackets.
pub fn parameter(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.as_f64().map_or_else(|| number.to_string(), |number| number.to_string()),
        Value::Array(values) => format!("({})", values.iter().map(parameter).collect::<Vec<_>>().join("; ")),
        Value::Object(fields) => {
            let each = fields.iter().map(|(name, value)| format!("{name} {}", parameter(value)));
            each.collect::<Vec<_>>().join(", ")
        }
        Value::Bool(_) | Value::Null => value.to_string(),
    }
}

fn head(summary: &Summary) -> String {
    let (title, verdict) = (title(summary), verdict(summary));
    let room = WIDTH.saturating_sub(title.chars().count());
    let mut text =
        if verdict.len() < room { format!("{title}{verdict:>room$}\n") } else { format!("{title}\n{verdict}\n") };
    text += &paragraph("promise", &summary.system.promise);
    text += &paragraph("workload", &parameters(summary));
    let window = &summary.window;
    let (warmup, measured, drain) = (window.warmup_s * 1e3, window.measured_s * 1e3, window.drain_s * 1e3);
    let (warmup, measured, drain) = (duration_ms(warmup), duration_ms(measured), duration_ms(drain));
    text += &paragraph(
        "window",
        &format!("{measured} measured after {warmup} of warm-up; all had arrived {drain} after the last send"),
    );
    text
}

fn figures(summary: &Summary) -> String {
    let (counts, rates) = (&summary.counts, &summary.rates);
    let mut table = Table::new(["", "sent", "acked", "delivered", "due", "logins", "reconnects"]);
    let totals =
        [counts.sent, counts.acked, counts.delivered, counts.expected_deliveries, counts.logins, counts.reconnects];
    table.row(std::iter::once("messages".to_owned()).chain(totals.map(count)));
    let each = [rates.sent_per_s, rates.acked_per_s, rates.delivered_per_s].map(significant);
    let logins = [String::new(), significant(rates.logins_per_s)];
    table.row(std::iter::once("per second".to_owned()).chain(each).chain(logins));
    let mut text = table.lines();
    if let Some(intended) = rates.intended_per_s {
        let backlog = count(counts.backlog_peak);
        text += &paragraph(
            "open loop",
            &format!("{} /s intended; at most {backlog} were due and not yet sent", significant(intended)),
        );
    }
    if counts.reads > 0 {
        text += &paragraph("reads", &count(counts.reads));
    }
    text
}

fn latencies(summary: &Summary) -> String {
    if summary.latencies.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["latency, ms", "count", "p50", "p90", "p99", "p99.9", "max", "mean"]);
    for (name, latency) in in_order(summary) {
        let Latency { count: number, p50_ms, p90_ms, p99_ms, p999_ms, max_ms, mean_ms, .. } = latency;
        let quantiles = [p50_ms, p90_ms, p99_ms, p999_ms, max_ms, mean_ms].map(|ms| significant(*ms));
        table.row([name.to_owned(), count(*number)].into_iter().chain(quantiles));
    }
    table.lines()
}

/// The latencies as they are told everywhere: as in [`NAMES`](crate::summary::latency::NAMES), unknown ones last.
pub fn in_order(summary: &Summary) -> Vec<(&str, &Latency)> {
    let place = |name: &str| {
        let names = crate::summary::latency::NAMES;
        names.iter().position(|known| *known == name).unwrap_or(names.len())
    };
    let mut all: Vec<_> = summary.latencies.iter().map(|(name, latency)| (name.as_str(), latency)).collect();
    all.sort_by_key(|(name, _)| place(name));
    all
}

fn servers(summary: &Summary) -> String {
    let measured_us = summary.window.measured_s * 1e6;
    let mut table = Table::new(["process", "CPU", "µs/ack", "µs/delivery", "RSS start", "end", "peak"]);
    for server in &summary.servers {
        let cpu = if measured_us > 0.0 { percent(server.cpu_us as f64 / measured_us) } else { String::new() };
        let memory = [server.rss_start_bytes, server.rss_end_bytes, server.rss_peak_bytes];
        let memory = memory.map(|size| bytes(size as f64));
        table.row([server.name.clone(), cpu, String::new(), String::new()].into_iter().chain(memory));
    }
    let optional = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), significant);
    let cost = &summary.cost;
    if let Some(cpu) = summary.figure_of_shown_run("server_cpu") {
        let each = [cost.server_cpu_us_per_ack, cost.server_cpu_us_per_delivery].map(optional);
        table.row(["all servers".to_owned(), percent(cpu)].into_iter().chain(each));
    }
    let cpu: f64 = summary.generator.worker_cpu_shares.iter().sum();
    let each = [cost.generator_cpu_us_per_ack, cost.generator_cpu_us_per_delivery].map(optional);
    table.row(["generator".to_owned(), percent(cpu)].into_iter().chain(each));
    let mut text = table.lines();
    let kept = [
        cost.rss_bytes_per_connection.map(|size| format!("{} resident per connection", bytes(size))),
        cost.disk_bytes_per_message.map(|size| format!("{} on disk per message", bytes(size))),
    ];
    let kept: Vec<_> = kept.into_iter().flatten().collect();
    if !kept.is_empty() {
        text += &paragraph("servers", &kept.join(", "));
    }
    text + &paragraph(if summary.generator.bottleneck { "BOTTLENECK" } else { "generator" }, &generator(summary))
}

/// Whether the figures are the system's, or the generator's own limit.
pub fn generator(summary: &Summary) -> String {
    let verdict = &summary.generator.verdict;
    if summary.generator.bottleneck {
        return format!("the generator was the bottleneck, the system may be faster: {verdict}");
    }
    verdict.clone()
}

fn promises(summary: &Summary) -> String {
    let mut text = paragraph("checks", &checks(&summary.checks));
    for note in &summary.checks.notes {
        text += &paragraph("", note);
    }
    let errors: Vec<_> =
        summary.counts.errors.iter().map(|(code, number)| format!("{} {code}", count(*number))).collect();
    text += &paragraph("errors", &if errors.is_empty() { "none".to_owned() } else { errors.join(", ") });
    for mark in summary.marks.iter().take(MARKS) {
        text += &paragraph(&format!("at {:.1} s", mark.at_s), &mark.text);
    }
    if let Some(more) = summary.marks.len().checked_sub(MARKS).filter(|more| *more > 0) {
        text += &paragraph("", &format!("and {more} more marks, in {}", crate::summary::FILE_NAME));
    }
    for result in &summary.slos {
        let label = if result.passed { "SLO held" } else { "SLO MISSED" };
        text += &paragraph(label, &format!("{}: {}", result.slo, slo_value(&result.slo, result.value)));
    }
    text
}

/// The figure that an objective is about, with its unit.
pub fn slo_value(slo: &str, value: Option<f64>) -> String {
    let Some(value) = value else { return "not measured".to_owned() };
    match slo.parse::<slo::Slo>() {
        Ok(slo) => with_unit(value, slo.figure().unit),
        Err(_) => significant(value),
    }
}

/// In one line.
pub fn checks(checks: &Checks) -> String {
    let Checks { lost, duplicated, reordered, phantom, gaps, disagreed, other, .. } = checks;
    let equal = |what: &str, equal: Option<bool>| match equal {
        Some(true) => format!("{what} equal"),
        Some(false) => format!("{what} DIFFER"),
        None => format!("{what} not compared"),
    };
    let digests = equal("replicas' digests", checks.digests_equal);
    let histories = equal("histories", checks.histories_equal);
    format!(
        "lost {lost}, duplicated {duplicated}, reordered {reordered}, phantom {phantom}, gaps {gaps}, \
         disagreed {disagreed}, other {other}; {digests}, {histories}"
    )
}

/// What is told of each of several runs.
pub const RUN_FIGURES: [&str; 7] =
    ["acked_rate", "delivered_rate", "ack_p50", "ack_p99", "delivery_p50", "delivery_p99", "server_cpu_per_delivery"];

fn runs(summary: &Summary) -> String {
    if summary.runs.is_empty() {
        return String::new();
    }
    let mut table =
        Table::new(["run", "acked/s", "delivered/s", "ack p50", "p99", "delivery p50", "p99", "CPU/delivery"]);
    let cell = |name: &str, value: Option<f64>| match (Figure::named(name), value) {
        (Some(figure), Some(value)) => with_unit(value, figure.unit).trim_end_matches(" /s").to_owned(),
        _ => "-".to_owned(),
    };
    for (number, run) in summary.runs.iter().enumerate() {
        let cells = RUN_FIGURES.map(|name| cell(name, run.figures.get(name).copied()));
        table.row(std::iter::once((number + 1).to_string()).chain(cells));
    }
    let medians = RUN_FIGURES.map(|name| cell(name, summary.figure(name)));
    table.row(std::iter::once("median".to_owned()).chain(medians));
    table.lines()
}
