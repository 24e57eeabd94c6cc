//! Columns of text: the first to the left, the others to the right.

use std::fmt::Write;

/// Nothing that is printed is wider.
pub const WIDTH: usize = 100;

#[derive(Debug, Clone, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<'a>(header: impl IntoIterator<Item = &'a str>) -> Self {
        Self { rows: vec![header.into_iter().map(str::to_owned).collect()] }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Each line behind two spaces.
    pub fn lines(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width_of = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max().unwrap_or_default()
        };
        let widths: Vec<_> = (0..columns).map(width_of).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::from(" ");
            for (column, (cell, room)) in row.iter().zip(&widths).enumerate() {
                let space = " ".repeat(room - width(cell));
                let gap = if column == 0 { " " } else { "  " };
                line += gap;
                line += &if column == 0 { format!("{cell}{space}") } else { format!("{space}{cell}") };
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// `label` and `text` beside it, broken at spaces so that no line is wider than [`WIDTH`] unless a word is.
pub fn paragraph(label: &str, text: &str) -> String {
    const INDENT: usize = 15;
    let mut lines = String::new();
    let mut line = format!("  {label:<width$}", width = INDENT - 2);
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && width(&line) + 1 + width(word) > WIDTH {
            lines += line.trim_end();
            lines.push('\n');
            line = " ".repeat(INDENT);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line += word;
        empty = false;
    }
    let _ = writeln!(lines, "{}", line.trim_end());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_by_letters_and_not_by_bytes() {
        let mut table = Table::new(["cost", "µs/ack", "n"]);
        table.row(["all".to_owned(), "84.3".to_owned(), "1,000".to_owned()]);
        table.row(["a longer name".to_owned(), String::new(), "7".to_owned()]);
        assert_eq!(
            table.lines(),
            "  cost           µs/ack      n\n  all              84.3  1,000\n  a longer name              7\n"
        );
    }

    #[test]
    fn long_text_is_broken_and_stays_under_its_label() {
        let text = paragraph("why", &"word ".repeat(40));
        assert!(text.lines().all(|line| line.len() <= WIDTH) && text.lines().count() == 3, "{text}");
        assert!(text.starts_with("  why          word word"));
        assert!(text.lines().nth(1).unwrap().starts_with("               word"));
        assert_eq!(paragraph("none", ""), "  none\n");
    }
}
