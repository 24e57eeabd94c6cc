//! A comparison as a page of its own.

use std::fmt::Write;

use super::{Comparison, Row, Verdict};
use crate::report::html::chart::Stroke;
use crate::report::html::charts::{Curve, percentiles};
use crate::report::html::escape::escape;
use crate::report::html::{document, table};
use crate::report::terminal;
use crate::summary::Summary;

pub(super) fn page(comparison: &Comparison<'_>) -> String {
    let (first, second) = (comparison.first, comparison.second);
    let title = format!("{}: {} and {}", first.scenario.name, terminal::system(first), terminal::system(second));
    let mut body = format!("<header>\n<h1>{}</h1>\n", escape(&title));
    for (letter, run) in [("A", first), ("B", second)] {
        let (title, verdict) = (escape(&terminal::title(run)), terminal::verdict(run));
        let promise = escape(run.system.promise.trim_end_matches('.'));
        let _ =
            writeln!(body, "<p class=\"lead\"><strong>{letter}</strong> {title}: {verdict}. Promise: {promise}.</p>");
    }
    let _ = writeln!(body, "<p class=\"lead\">{}</p>", escape(&terminal::parameters(first)));
    for caution in &comparison.cautions {
        let _ = writeln!(body, "<p class=\"warning\" role=\"note\"><strong>Beware:</strong> {}</p>", escape(caution));
    }
    body += "</header>\n";
    body += &curves(first, second);
    body += &figures(comparison);
    document(&title, &body)
}

/// The same colour is the same latency; B is dashed.
fn curves(first: &Summary, second: &Summary) -> String {
    let mut curves = Vec::new();
    for (at, (latency, of_first)) in terminal::in_order(first).into_iter().enumerate() {
        let curve =
            |letter: &str, latency_of, stroke| Curve::new(format!("{letter} {latency}"), latency_of, at, stroke);
        curves.push(curve("A", of_first, Stroke::Solid));
        if let Some(of_second) = second.latencies.get(latency) {
            curves.push(curve("B", of_second, Stroke::Dashed));
        }
    }
    let chart = percentiles("percentiles", &curves).map(|chart| chart.figure()).unwrap_or_default();
    format!("<section>\n<h2>Latency</h2>\n{chart}</section>\n")
}

fn figures(comparison: &Comparison<'_>) -> String {
    let row = |row: &Row| {
        let [first, second, ratio, noise, verdict] = row.cells().map(|cell| escape(&cell));
        let class = match row.verdict {
            Verdict::Better => "good",
            Verdict::Worse => "bad",
            Verdict::Same | Verdict::Unknown => "",
        };
        let verdict = format!("<span class=\"{class}\">{verdict}</span>");
        vec![escape(&row.figure.name), first, second, ratio, noise, verdict]
    };
    let rows: Vec<_> = comparison.rows.iter().map(row).collect();
    let caption = "Medians; differences within the noise of both are the same";
    let table = table(caption, &["figure", "A", "B", "B / A", "noise", "B is"], &rows);
    format!("<section>\n<h2>Figures</h2>\n{table}</section>\n")
}
