//! The parts of a report that are text and tables.

use std::fmt::Write;

use super::charts::class;
use super::escape::escape;
use super::table;
use crate::report::numbers::{bytes, count, duration_ms, percent, significant, with_unit};
use crate::report::terminal::{RUN_FIGURES, generator, in_order, slo_value};
use crate::summary::figures::Figure;
use crate::summary::{Latency, Summary};

/// Those of logins are for runs in which nobody sends.
const TILES: [(&str, &str); 13] = [
    ("acked", "acked_rate"),
    ("delivered", "delivered_rate"),
    ("logins", "login_rate"),
    ("ack p50", "ack_p50"),
    ("ack p99", "ack_p99"),
    ("delivery p50", "delivery_p50"),
    ("delivery p99", "delivery_p99"),
    ("login p99", "login_p99"),
    ("reconnect p99", "reconnect_p99"),
    ("pause after a kill, p99", "pause_p99"),
    ("server CPU per delivery", "server_cpu_per_delivery"),
    ("memory per connection", "rss_per_connection"),
    ("errors", "errors"),
];

const RATES: [&str; 2] = ["acked_rate", "delivered_rate"];

/// The figures that everybody looks for first.
pub(super) fn tiles(summary: &Summary) -> String {
    let mut tiles = Vec::new();
    let sends = |name: &str| if summary.counts.sent > 0 { !name.starts_with("login") } else { !RATES.contains(&name) };
    for (label, name) in TILES.into_iter().filter(|(_, name)| sends(name)) {
        if let (Some(figure), Some(value)) = (Figure::named(name), summary.figure(name)) {
            tiles.push((label, with_unit(value, figure.unit), ""));
        }
    }
    let broken = summary.checks.broken();
    tiles.push(("broken promises", count(broken), if broken == 0 { " good" } else { " bad" }));
    let mut text = String::from("<dl class=\"tiles\">\n");
    for (label, value, class) in tiles {
        let _ = writeln!(text, "<div class=\"tile{class}\"><dt>{label}</dt><dd>{}</dd></div>", escape(&value));
    }
    text += "</dl>\n";
    if !summary.runs.is_empty() {
        let _ = writeln!(
            text,
            "<p class=\"note\">Medians of {} runs; curves and tables below show the run whose rate of acks is the median.\
             \x20Promises and errors are counted over all runs.</p>",
            summary.runs.len()
        );
    }
    text
}

pub(super) fn slos(summary: &Summary) -> String {
    if summary.slos.is_empty() {
        return String::new();
    }
    let rows = summary.slos.iter().map(|result| {
        let (class, word) = if result.passed { ("good", "held") } else { ("bad", "missed") };
        let verdict = format!("<span class=\"{class}\">{word}</span>");
        vec![format!("<code>{}</code>", escape(&result.slo)), escape(&slo_value(&result.slo, result.value)), verdict]
    });
    let rows: Vec<_> = rows.collect();
    format!(
        "<section>\n<h2>Objectives</h2>\n{}</section>\n",
        table("What was asked for, and what was measured", &["objective", "measured", ""], &rows)
    )
}

pub(super) fn latencies(summary: &Summary) -> String {
    let rows = in_order(summary).into_iter().map(|(name, latency)| {
        let Latency { p50_ms, p90_ms, p99_ms, p999_ms, max_ms, mean_ms, .. } = latency;
        let quantiles = [p50_ms, p90_ms, p99_ms, p999_ms, max_ms, mean_ms].map(|ms| duration_ms(*ms));
        [escape(name), count(latency.count)].into_iter().chain(quantiles).collect()
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let (counts, rates) = (&summary.counts, &summary.rates);
    let mut throughput = vec![
        vec!["sent".to_owned(), count(counts.sent), significant(rates.sent_per_s)],
        vec!["acked".to_owned(), count(counts.acked), significant(rates.acked_per_s)],
        vec!["delivered".to_owned(), count(counts.delivered), significant(rates.delivered_per_s)],
        vec!["deliveries due".to_owned(), count(counts.expected_deliveries), String::new()],
        vec!["logins".to_owned(), count(counts.logins), significant(rates.logins_per_s)],
    ];
    if let Some(intended) = rates.intended_per_s {
        throughput.insert(0, vec!["intended".to_owned(), String::new(), significant(intended)]);
        throughput.push(vec!["most due and not yet sent".to_owned(), count(counts.backlog_peak), String::new()]);
    }
    let mut text = String::from("<section>\n<h2>Figures</h2>\n");
    if !rows.is_empty() {
        text += &table(
            "Latency, from when a message was due to be sent (open loop) or was sent (closed loop)",
            &["", "count", "p50", "p90", "p99", "p99.9", "max", "mean"],
            &rows,
        );
    }
    text += &table("Throughput over the measured window", &["", "count", "per second"], &throughput);
    text + "</section>\n"
}

/// More marks than this are shown when asked for.
const MARKS_OPEN: usize = 24;

pub(super) fn marks(summary: &Summary) -> String {
    if summary.marks.is_empty() {
        return String::new();
    }
    let mut list = String::from("<ol class=\"marks\">\n");
    for mark in &summary.marks {
        let (class, at, text) = (class(mark.kind), mark.at_s, escape(&mark.text));
        let _ = writeln!(list, "<li class=\"{class}\"><span class=\"at\">{at:.1} s</span> {text}</li>");
    }
    list += "</ol>\n";
    let count = summary.marks.len();
    let open = if count > MARKS_OPEN { "" } else { " open" };
    format!(
        "<section>\n<h2>What happened</h2>\n<details{open}>\n\
         <summary>{count} marks: kills, leader changes, phases</summary>\n\
         {list}</details>\n</section>\n"
    )
}

pub(super) fn servers(summary: &Summary) -> String {
    let optional =
        |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{} µs", significant(value)));
    let measured_us = summary.window.measured_s * 1e6;
    let share = |cpu_us: u64| if measured_us > 0.0 { percent(cpu_us as f64 / measured_us) } else { String::new() };
    let mut rows: Vec<Vec<String>> = Vec::new();
    for server in &summary.servers {
        let memory = [server.rss_start_bytes, server.rss_end_bytes, server.rss_peak_bytes];
        let memory = memory.map(|size| bytes(size as f64));
        rows.push(
            [escape(&server.name), share(server.cpu_us), String::new(), String::new()]
                .into_iter()
                .chain(memory)
                .collect(),
        );
    }
    let cost = &summary.cost;
    if !summary.servers.is_empty() {
        let all = summary.servers.iter().map(|server| server.cpu_us).sum();
        let each = [cost.server_cpu_us_per_ack, cost.server_cpu_us_per_delivery].map(optional);
        rows.push(
            ["all servers".to_owned(), share(all)]
                .into_iter()
                .chain(each)
                .chain([(); 3].map(|()| String::new()))
                .collect(),
        );
    }
    let workers: f64 = summary.generator.worker_cpu_shares.iter().sum();
    let each = [cost.generator_cpu_us_per_ack, cost.generator_cpu_us_per_delivery].map(optional);
    rows.push(
        ["generator".to_owned(), percent(workers)]
            .into_iter()
            .chain(each)
            .chain([(); 3].map(|()| String::new()))
            .collect(),
    );
    let header = ["", "CPU", "per ack", "per delivery", "memory before", "after", "peak"];
    let mut text = format!(
        "<section>\n<h2>Cost</h2>\n{}",
        table("Processes over the measured window; 100 % is one core", &header, &rows)
    );
    let kept = [
        cost.rss_bytes_per_connection.map(|size| format!("{} of resident server memory per connection", bytes(size))),
        cost.disk_bytes_per_message.map(|size| format!("{} on the servers' disks per message", bytes(size))),
    ];
    for line in kept.into_iter().flatten() {
        let _ = writeln!(text, "<p>{line}.</p>");
    }
    let _ = writeln!(text, "<p>Generator: {}</p>", escape(&generator(summary)));
    text + "</section>\n"
}

pub(super) fn checks(summary: &Summary) -> String {
    let checks = &summary.checks;
    let counted = [
        ("lost: acked and missing at a member or in a history", checks.lost),
        ("duplicated: at a member twice", checks.duplicated),
        ("reordered: at a member before what its order puts before it", checks.reordered),
        ("phantom: never sent, or not so, or to no member", checks.phantom),
        ("gaps: order numbers that a member never saw", checks.gaps),
        ("disagreed: another order number at another member", checks.disagreed),
        ("other", checks.other),
    ];
    let state =
        |good: bool, text: String| format!("<span class=\"{}\">{text}</span>", if good { "good" } else { "bad" });
    let mut rows: Vec<_> =
        counted.iter().map(|(what, number)| vec![(*what).to_owned(), state(*number == 0, count(*number))]).collect();
    for (what, equal) in [("replicas' digests", checks.digests_equal), ("histories read back", checks.histories_equal)]
    {
        let shown = match equal {
            Some(true) => state(true, "equal".to_owned()),
            Some(false) => state(false, "differ".to_owned()),
            None => "not compared".to_owned(),
        };
        rows.push(vec![escape(what), shown]);
    }
    let mut text =
        format!("<section>\n<h2>Promises</h2>\n{}", table("How often each was broken", &["promise", ""], &rows));
    if !checks.notes.is_empty() {
        text += "<ul>\n";
        for note in &checks.notes {
            let _ = writeln!(text, "<li>{}</li>", escape(note));
        }
        text += "</ul>\n";
    }
    if !summary.counts.errors.is_empty() {
        let rows: Vec<_> = summary
            .counts
            .errors
            .iter()
            .map(|(code, number)| vec![format!("<code>{}</code>", escape(code)), count(*number)])
            .collect();
        text += &table("Errors that clients saw", &["code", "count"], &rows);
    }
    text + "</section>\n"
}

pub(super) fn runs(summary: &Summary) -> String {
    if summary.runs.is_empty() {
        return String::new();
    }
    let cell = |name: &str, value: Option<f64>| match (Figure::named(name), value) {
        (Some(figure), Some(value)) => escape(&with_unit(value, figure.unit)),
        _ => "–".to_owned(),
    };
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (number, run) in summary.runs.iter().enumerate() {
        let cells = RUN_FIGURES.map(|name| cell(name, run.figures.get(name).copied()));
        rows.push(std::iter::once((number + 1).to_string()).chain(cells).collect());
    }
    let medians = RUN_FIGURES.map(|name| cell(name, summary.figure(name)));
    rows.push(std::iter::once("median".to_owned()).chain(medians).collect());
    let header =
        ["run", "acked", "delivered", "ack p50", "ack p99", "delivery p50", "delivery p99", "CPU per delivery"];
    format!("<section>\n<h2>Runs</h2>\n{}</section>\n", table("Each run of the same workload", &header, &rows))
}

pub(super) fn setup(summary: &Summary) -> String {
    let (machine, tool, window) = (&summary.machine, &summary.tool, &summary.window);
    let rows = [
        (
            "generator's machine",
            format!(
                "{}, {} cores, {}, {}",
                machine.cpu_model,
                machine.cores,
                bytes(machine.memory_bytes as f64),
                machine.kernel
            ),
        ),
        ("tool", format!("{} {}", tool.name, tool.version)),
        (
            "window",
            format!(
                "{} of warm-up (left out), {} measured; all had arrived {} after the last send",
                duration_ms(window.warmup_s * 1e3),
                duration_ms(window.measured_s * 1e3),
                duration_ms(window.drain_s * 1e3)
            ),
        ),
        ("exit code", summary.exit_code.to_string()),
    ];
    let mut text = String::from("<section>\n<h2>To reproduce</h2>\n");
    let _ = writeln!(text, "<pre><code>{}</code></pre>\n<dl class=\"setup\">", escape(&command(&summary.command)));
    for (name, value) in rows {
        let _ = writeln!(text, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(&value));
    }
    text + "</dl>\n</section>\n"
}

/// As a shell would take it.
pub(super) fn command(words: &[String]) -> String {
    let plain =
        |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c));
    let quoted =
        words.iter().map(|word| if plain(word) { word.clone() } else { format!("'{}'", word.replace('\'', "'\\''")) });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_pasted() {
        let words = ["campanile-bench", "group", "--slo", "ack_p99<50ms", "it's", ""].map(str::to_owned);
        assert_eq!(command(&words), "campanile-bench group --slo 'ack_p99<50ms' 'it'\\''s' ''");
    }
}
