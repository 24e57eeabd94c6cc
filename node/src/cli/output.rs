//! The one place that writes to the terminal. A reader who has gone away (`| head`) is no error.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

/// A line, or several, to standard output.
pub(crate) fn say(text: impl Display) {
    let mut out = io::stdout().lock();
    drop(writeln!(out, "{text}").and_then(|()| out.flush()));
}

/// Text to standard output as it is.
pub(crate) fn put(text: &str) {
    let mut out = io::stdout().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// A value as indented JSON.
pub(crate) fn json(value: &impl Serialize) {
    say(serde_json::to_string_pretty(value).expect("what we print serializes"));
}

/// A value as JSON on one line.
pub(crate) fn json_line(value: &impl Serialize) {
    say(serde_json::to_string(value).expect("what we print serializes"));
}

/// A line, or several, to standard error.
pub(crate) fn complain(text: impl Display) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// Whether whoever sits at the terminal answers the question with `expected`; without a terminal, nobody does.
pub(crate) fn confirm(question: &str, expected: &str) -> bool {
    if !io::stdin().is_terminal() {
        return false;
    }
    drop(write!(io::stderr().lock(), "{question}"));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).is_ok() && answer.trim() == expected
}

/// Text from outside, fit for a terminal: control and direction characters are shown, not obeyed.
pub(crate) fn printable(text: &str) -> String {
    let unsafe_here = |c: char| {
        c.is_control() && c != '\n' && c != '\t'
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        if unsafe_here(c) {
            shown.extend(c.escape_unicode())
        } else {
            shown.push(c)
        }
        shown
    })
}

/// Columns padded to the widest cell, two spaces apart.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_command_the_terminal() {
        assert_eq!(printable("ünï \u{1b}[2J\u{202e}x\n"), "ünï \\u{1b}[2J\\u{202e}x\n");
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["shard".into(), "leader".into()], vec!["1".into(), "node 2".into()], vec!["meta".into()]];
        assert_eq!(table(&rows), "shard  leader\n1      node 2\nmeta");
    }
}
