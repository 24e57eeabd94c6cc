//! Reads a table of a TOML file key by key. Keys that nobody asked for are unknown; problems are gathered with their
//! lines instead of stopping at the first.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::slo::nearest;

/// What is wrong, and where. Both numbers from 1; the column counts characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub line: usize,
    pub column: usize,
    pub message: String,
}

impl Problem {
    pub(super) fn new(text: &str, offset: usize, message: String) -> Self {
        let before = text.get(..offset.min(text.len())).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
        Self { line, column, message }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)
    }
}

pub(super) struct Table<'a, 'd> {
    text: &'a str,
    table: &'d DeTable<'d>,
    /// ` in [[phase]]`, or empty for the document itself.
    within: String,
    at: usize,
    known: Vec<&'static str>,
    problems: Vec<Problem>,
}

type Value<'d> = &'d Spanned<DeValue<'d>>;

impl<'a, 'd> Table<'a, 'd> {
    pub(super) fn new(text: &'a str, table: &'d DeTable<'d>, within: String, at: usize) -> Self {
        Self { text, table, within, at, known: Vec::new(), problems: Vec::new() }
    }

    /// Where it begins.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Notes a problem; always none.
    pub(super) fn problem<T>(&mut self, at: usize, message: String) -> Option<T> {
        self.problems.push(Problem::new(self.text, at, message));
        None
    }

    /// A key must be there. What is there and wrong has its problem already.
    pub(super) fn missing<T>(&mut self, key: &'static str) -> Option<T> {
        if self.find(key).is_some() {
            return None;
        }
        self.problem(self.at, format!("`{key}` is missing{}", self.within))
    }

    pub(super) fn has_problems(&self) -> bool {
        !self.problems.is_empty()
    }

    /// Of a table inside this one, once it is read.
    pub(super) fn take_problems(&mut self, inner: Table<'_, '_>) {
        self.problems.extend(inner.finish());
    }

    /// Every problem, unknown keys among them, in the order of the file.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        for (key, _) in self.table.iter().filter(|(key, _)| !self.known.contains(&key.get_ref().as_ref())) {
            let (name, within) = (key.get_ref(), &self.within);
            let nearest = nearest(name, self.known.iter().map(|known| (*known).to_owned())).unwrap_or_default();
            let message = format!("unknown key `{name}`{within}; the nearest is `{nearest}`");
            self.problems.push(Problem::new(self.text, key.span().start, message));
        }
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        self.problems
    }

    fn find(&self, key: &str) -> Option<Value<'d>> {
        self.table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    fn value(&mut self, key: &'static str) -> Option<Value<'d>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.find(key)
    }

    fn wrong<T>(&mut self, key: &str, value: Value<'d>, expected: &str) -> Option<T> {
        let found = match value.get_ref() {
            DeValue::String(text) => format!("{text:?}"),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            other => other.type_str().to_owned(),
        };
        self.problem(value.span().start, format!("{key}: expected {expected}, found {found}"))
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::String(text) if !text.trim().is_empty() => Some(text.to_string()),
            _ => self.wrong(key, value, "text in quotes"),
        }
    }

    /// A list of texts, each with its place.
    pub(super) fn texts(&mut self, key: &'static str) -> Vec<(usize, String)> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let DeValue::Array(list) = value.get_ref() else {
            return self.wrong(key, value, "a list of texts").unwrap_or_default();
        };
        let mut texts = Vec::new();
        for entry in list.iter() {
            match entry.get_ref() {
                DeValue::String(text) => texts.push((entry.span().start, text.to_string())),
                _ => self.wrong(key, entry, "text in quotes").unwrap_or_default(),
            }
        }
        texts
    }

    pub(super) fn integer(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let value = self.value(key)?;
        let number = match value.get_ref() {
            DeValue::Integer(number) => u32::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        let expected = || format!("a whole number from {} to {}", range.start(), range.end());
        number.filter(|number| range.contains(number)).or_else(|| self.wrong(key, value, &expected()))
    }

    /// From 0 to `most`.
    pub(super) fn number(&mut self, key: &'static str, most: f64) -> Option<f64> {
        let value = self.value(key)?;
        let number = match value.get_ref() {
            DeValue::Integer(number) => {
                i64::from_str_radix(number.as_str(), number.radix()).ok().map(|whole| whole as f64)
            }
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => None,
        };
        number
            .filter(|number| (0.0..=most).contains(number))
            .or_else(|| self.wrong(key, value, &format!("a number from 0 to {most}")))
    }

    /// `"30%"`, as 0.3.
    pub(super) fn share(&mut self, key: &'static str) -> Option<f64> {
        let value = self.value(key)?;
        let percent = match value.get_ref() {
            DeValue::String(text) => text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok()),
            _ => None,
        };
        let percent = percent.filter(|percent| (0.0..=100.0).contains(percent));
        percent.map(|percent| percent / 100.0).or_else(|| self.wrong(key, value, "a share such as \"30%\""))
    }

    /// `"500ms"`, `"10s"`, `"30m"`, `"2h"`.
    pub(super) fn duration(&mut self, key: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let value = self.value(key)?;
        let time = match value.get_ref() {
            DeValue::String(text) => duration(text),
            _ => None,
        };
        time.filter(|time| range.contains(time)).or_else(|| {
            self.wrong(
                key,
                value,
                &format!("a time from {:?} to {:?}, such as \"500ms\", \"10s\" or \"2h\"", range.start(), range.end()),
            )
        })
    }

    pub(super) fn table(&mut self, key: &'static str) -> Option<Self> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(Self::new(self.text, table, format!(" in [{key}]"), value.span().start)),
            _ => self.wrong(key, value, "a table"),
        }
    }

    /// `[[key]]`, each.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Self> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let DeValue::Array(list) = value.get_ref() else {
            return self.wrong(key, value, &format!("[[{key}]], with two brackets")).unwrap_or_default();
        };
        let mut tables = Vec::new();
        for entry in list.iter() {
            match entry.get_ref() {
                DeValue::Table(table) => {
                    tables.push(Self::new(self.text, table, format!(" in [[{key}]]"), entry.span().start));
                }
                _ => self.wrong(key, entry, "a table").unwrap_or_default(),
            }
        }
        tables
    }
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(ms).map(Duration::from_millis)
}
