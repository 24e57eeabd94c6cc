//! `report.html`: one file with everything in it, for people and for paper. It loads nothing: no script, no font, no
//! picture from anywhere (its own content security policy says so).

pub mod chart;
pub mod charts;
pub mod escape;
pub mod scale;
mod sections;
#[cfg(test)]
mod tests;

use std::fmt::Write;

use self::escape::escape;
use super::numbers::utc;
use super::terminal;
use crate::summary::Summary;

const STYLE: &str = include_str!("html/style.css");

/// The whole page.
pub fn page(summary: &Summary) -> String {
    let body = [
        header(summary),
        sections::tiles(summary),
        sections::slos(summary),
        sections::latencies(summary),
        charts::all(summary),
        sections::marks(summary),
        sections::servers(summary),
        sections::checks(summary),
        sections::runs(summary),
        sections::setup(summary),
    ];
    document(&terminal::title(summary), &body.concat())
}

/// `body` is markup, `title` is text.
pub fn document(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )
}

/// A table whose cells are markup. The first column is text, the others are numbers.
pub fn table(caption: &str, header: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!("<div class=\"scroll\"><table>\n<caption>{}</caption>\n<thead><tr>", escape(caption));
    for name in header {
        let _ = write!(text, "<th scope=\"col\">{}</th>", escape(name));
    }
    text += "</tr></thead>\n<tbody>\n";
    for row in rows {
        text += "<tr>";
        for (at, cell) in row.iter().enumerate() {
            let _ =
                if at == 0 { write!(text, "<th scope=\"row\">{cell}</th>") } else { write!(text, "<td>{cell}</td>") };
        }
        text += "</tr>\n";
    }
    text + "</tbody></table></div>\n"
}

fn header(summary: &Summary) -> String {
    let verdict = terminal::verdict(summary);
    let class = if summary.exit_code == 0 { "good" } else { "bad" };
    let when = utc(summary.started_unix_ms);
    let mut text = format!(
        "<header>\n<p class=\"verdict {class}\">{verdict}</p>\n<h1>{}</h1>\n\
         <p class=\"lead\">{} · started <time>{when}</time></p>\n\
         <p class=\"lead\">Promise: {}.</p>\n",
        escape(&terminal::title(summary)),
        escape(&terminal::parameters(summary)),
        escape(summary.system.promise.trim_end_matches('.')),
    );
    if summary.generator.bottleneck {
        let why = escape(&terminal::generator(summary));
        let _ = writeln!(text, "<p class=\"warning\" role=\"note\"><strong>Read with care:</strong> {why}</p>");
    }
    text += "</header>\n";
    text
}
