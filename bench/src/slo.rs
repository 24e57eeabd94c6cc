//! Service level objectives: `ack_p99<50ms`, `acked_rate>10000`, `lost==0`; parsed before a run, judged after it.

mod nearest;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use crate::summary::figures::{Figure, Unit, all};
use crate::summary::latency::QUANTILES;
use crate::summary::{SloResult, Summary};

pub use nearest::nearest;

/// One objective.
#[derive(Debug, Clone, PartialEq)]
pub struct Slo {
    text: String,
    figure: Figure,
    comparison: Comparison,
    /// In the figure's unit.
    limit: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Below,
    AtMost,
    Above,
    AtLeast,
    Equal,
}

/// Longer ones first: `<=` begins with `<`.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("==", Comparison::Equal),
    ("<", Comparison::Below),
    (">", Comparison::Above),
    ("=", Comparison::Equal),
];

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SloError {
    #[error("`{0}` compares nothing: write it like ack_p99<50ms, acked_rate>=10000 or lost==0")]
    Comparison(String),
    #[error("there is no figure `{name}`; the nearest is `{nearest}`. All of them: {}", names().join(", "))]
    Figure { name: String, nearest: String },
    #[error("`{value}` is no number of {of}, which is counted in {}", unit_names(*unit))]
    Value { value: String, of: String, unit: Unit },
}

/// Every figure's name; of the latencies only one each, with the quantiles that each has.
fn names() -> Vec<String> {
    let is_latency = |figure: &Figure| figure.unit == Unit::Ms && figure.name != "timer_lag_p99";
    let (latencies, plain): (Vec<_>, Vec<_>) = all().into_iter().partition(is_latency);
    let firsts = latencies.iter().filter_map(|figure| figure.name.strip_suffix("_p50"));
    let firsts = firsts.map(|name| format!("{name}_{{{}}}", QUANTILES.join(",")));
    plain.into_iter().map(|figure| figure.name).chain(firsts).collect()
}

/// What may stand after a number of this unit, and what it is worth.
fn suffixes(unit: Unit) -> &'static [(&'static str, f64)] {
    match unit {
        Unit::Ms => &[("ms", 1.0), ("us", 1e-3), ("µs", 1e-3), ("s", 1e3), ("", 1.0)],
        Unit::Us => &[("us", 1.0), ("µs", 1.0), ("ms", 1e3), ("", 1.0)],
        Unit::PerSecond => &[("k/s", 1e3), ("M/s", 1e6), ("/s", 1.0), ("k", 1e3), ("M", 1e6), ("", 1.0)],
        Unit::Bytes => &[
            ("KiB", 1024.0),
            ("MiB", 1024.0 * 1024.0),
            ("GiB", 1024.0 * 1024.0 * 1024.0),
            ("KB", 1e3),
            ("MB", 1e6),
            ("GB", 1e9),
            ("B", 1.0),
            ("", 1.0),
        ],
        Unit::Share => &[("%", 0.01), ("", 1.0)],
        Unit::Count => &[("", 1.0)],
    }
}

fn unit_names(unit: Unit) -> String {
    let named: Vec<_> = suffixes(unit).iter().map(|(suffix, _)| *suffix).filter(|suffix| !suffix.is_empty()).collect();
    if named.is_empty() { "plain numbers".to_owned() } else { named.join(", ") }
}

impl FromStr for Slo {
    type Err = SloError;

    fn from_str(text: &str) -> Result<Self, SloError> {
        let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let at = compact.find(['<', '>', '=']).ok_or_else(|| SloError::Comparison(text.to_owned()))?;
        let (name, rest) = compact.split_at(at);
        let found = COMPARISONS.iter().find_map(|(sign, comparison)| Some((rest.strip_prefix(sign)?, *comparison)));
        let (value, comparison) = found.ok_or_else(|| SloError::Comparison(text.to_owned()))?;
        let figure = Figure::named(name).ok_or_else(|| unknown(name))?;
        let limit = number(value, figure.unit).ok_or_else(|| SloError::Value {
            value: value.to_owned(),
            of: figure.name.clone(),
            unit: figure.unit,
        })?;
        Ok(Self { text: text.to_owned(), figure, comparison, limit })
    }
}

fn unknown(name: &str) -> SloError {
    let names = all().into_iter().map(|figure| figure.name);
    let nearest = nearest(name, names).unwrap_or_default();
    SloError::Figure { name: name.to_owned(), nearest }
}

/// In the unit itself; none for what is no number, and for what no measurement can be.
fn number(text: &str, unit: Unit) -> Option<f64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit() && c != '.');
    let (_, factor) = suffixes(unit).iter().find(|(suffix, _)| *suffix == &text[digits.len()..])?;
    let plain = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit() || c == '.');
    plain.then(|| digits.parse::<f64>().ok()).flatten().map(|value| value * factor)
}

impl Slo {
    /// Misses if the run has no such figure: an objective that was not measured is not met.
    pub fn judge(&self, summary: &Summary) -> SloResult {
        let value = summary.figure(&self.figure.name);
        SloResult { slo: self.text.clone(), value, passed: value.is_some_and(|value| self.holds(value)) }
    }

    /// `value` is in the figure's unit.
    pub fn holds(&self, value: f64) -> bool {
        match self.comparison {
            Comparison::Below => value < self.limit,
            Comparison::AtMost => value <= self.limit,
            Comparison::Above => value > self.limit,
            Comparison::AtLeast => value >= self.limit,
            Comparison::Equal => value == self.limit,
        }
    }

    pub fn figure(&self) -> &Figure {
        &self.figure
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Judges all of them, notes the results, and lets a miss decide the exit code of a run that passed otherwise.
pub fn judge_all(slos: &[Slo], summary: &mut Summary) {
    summary.slos = slos.iter().map(|slo| slo.judge(summary)).collect();
    if summary.exit_code <= 1 {
        summary.exit_code = u8::from(summary.slos.iter().any(|result| !result.passed));
    }
}
