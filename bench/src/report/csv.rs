//! The timeline, a line per second, for spreadsheets and scripts (RFC 4180, with plain line feeds).

use std::fmt::Write;

use crate::summary::{Second, Summary};

const COLUMNS: [&str; 12] = [
    "second",
    "sent",
    "acked",
    "delivered",
    "logins",
    "errors",
    "connections",
    "ack_p50_ms",
    "ack_p99_ms",
    "delivery_p50_ms",
    "delivery_p99_ms",
    "generator_cpu_share",
];

pub fn timeline(summary: &Summary) -> String {
    let mut text = COLUMNS.join(",");
    for server in &summary.servers {
        let _ = write!(
            text,
            ",{},{}",
            field(&format!("{}_cpu_share", server.name)),
            field(&format!("{}_rss_bytes", server.name))
        );
    }
    text += ",marks\n";
    for second in &summary.timeline {
        line(&mut text, second, summary);
    }
    text
}

fn line(text: &mut String, of: &Second, summary: &Summary) {
    let Second { second, sent, acked, delivered, logins, errors, connections, .. } = of;
    let _ = write!(text, "{second},{sent},{acked},{delivered},{logins},{errors},{connections}");
    for latency in [of.ack_p50_ms, of.ack_p99_ms, of.delivery_p50_ms, of.delivery_p99_ms] {
        let _ = write!(text, ",{}", optional(latency));
    }
    let _ = write!(text, ",{}", of.generator_cpu_share);
    for number in 0..summary.servers.len() {
        let server = of.servers.get(number).copied().unwrap_or_default();
        let _ = write!(text, ",{},{}", optional(server.cpu_share), optional(server.rss_bytes));
    }
    let here = summary.marks.iter().filter(|mark| mark.at_s.floor() == f64::from(*second));
    let here: Vec<_> = here.map(|mark| mark.text.as_str()).collect();
    let _ = writeln!(text, ",{}", field(&here.join("; ")));
}

fn optional(number: Option<impl ToString>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

fn field(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}
