//! `campanile-bench compare A B`: two runs of one workload side by side, and which differences are more than noise.

mod page;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::report::numbers::with_unit;
use crate::report::table::{Table, paragraph};
use crate::report::terminal;
use crate::summary::Summary;
use crate::summary::figures::{Better, Figure, Unit, all};
use crate::summary::median::median;

/// Two runs of another workload say nothing about each other.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("different workloads say nothing about each other (--force compares them all the same): {}", .0.join("; "))]
pub struct DifferentWorkloads(pub Vec<String>);

/// The second against the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Better,
    Worse,
    /// Within the noise.
    Same,
    /// One of them was not measured.
    Unknown,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub figure: Figure,
    pub first: Option<f64>,
    pub second: Option<f64>,
    /// Of each one's value; differences up to it mean nothing.
    pub noise: f64,
    pub verdict: Verdict,
}

pub struct Comparison<'a> {
    pub first: &'a Summary,
    pub second: &'a Summary,
    pub rows: Vec<Row>,
    /// What a reader should know before believing the rows.
    pub cautions: Vec<String>,
}

/// The second against the first. `force` compares other workloads too, and says so.
pub fn compare<'a>(first: &'a Summary, second: &'a Summary, force: bool) -> Result<Comparison<'a>, DifferentWorkloads> {
    let different = differences(first, second);
    if !different.is_empty() && !force {
        return Err(DifferentWorkloads(different));
    }
    let mut cautions = cautions(first, second);
    cautions.extend(different.into_iter().map(|what| format!("different workloads: {what}")));
    let rows = all().into_iter().filter_map(|figure| Row::of(figure, first, second)).collect();
    Ok(Comparison { first, second, rows, cautions })
}

/// Parameters that say how the system is set up, not what is asked of it: they may differ, and that is told.
const SETTINGS: [&str; 2] = ["shards", "streams"];

/// What is asked of the systems and differs.
fn differences(first: &Summary, second: &Summary) -> Vec<String> {
    let (one, other) = (&first.scenario.name, &second.scenario.name);
    let names = (one != other).then(|| format!("{one} and {other}"));
    names.into_iter().chain(differing(first, second, false)).collect()
}

/// Parameters that differ, in words: those of the workload, or those in [`SETTINGS`].
fn differing(first: &Summary, second: &Summary, settings: bool) -> Vec<String> {
    let (one, other) = (&first.scenario.parameters, &second.scenario.parameters);
    let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let wanted = names.into_iter().filter(|name| SETTINGS.contains(&name.as_str()) == settings);
    let differs =
        wanted.map(|name| (name, one.get(name), other.get(name))).filter(|(_, one, other)| !same(*one, *other));
    differs.map(|(name, one, other)| format!("{name} is {} and {}", shown(one), shown(other))).collect()
}

/// 500 and 500.0 are the same rate.
fn same(one: Option<&Value>, other: Option<&Value>) -> bool {
    match (one.and_then(Value::as_f64), other.and_then(Value::as_f64)) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "not given".to_owned(), terminal::parameter)
}

fn cautions(first: &Summary, second: &Summary) -> Vec<String> {
    let mut found = Vec::new();
    for (name, run) in [("A", first), ("B", second)] {
        if run.generator.bottleneck {
            found.push(format!("in {name} {}", terminal::generator(run)));
        }
        if run.exit_code > 1 {
            found.push(format!("{name} ended with: {}", terminal::verdict(run)));
        }
    }
    if first.machine != second.machine {
        found.push("they ran on different machines".to_owned());
    }
    if first.system.promise != second.system.promise {
        found.push("they do not promise the same".to_owned());
    }
    found.extend(differing(first, second, true));
    if first.runs.is_empty() || second.runs.is_empty() {
        found.push("one run each tells little about noise; --runs 5 measures it".to_owned());
    }
    found
}

/// Differences below this are nothing even where the runs agree better.
const LEAST_NOISE: f64 = 0.02;

impl Row {
    /// None if neither has it, or neither has any of it.
    fn of(figure: Figure, first: &Summary, second: &Summary) -> Option<Self> {
        let (one, other) = (first.figure(&figure.name), second.figure(&figure.name));
        if [one, other].into_iter().flatten().all(|value| value == 0.0) {
            return None;
        }
        let spread = |summary: &Summary| spread(&summary.runs_of(&figure.name));
        let noise = match (spread(first), spread(second)) {
            (Some(one), Some(other)) => one.max(other).max(LEAST_NOISE),
            (one, other) => assumed_noise(&figure).max(one.or(other).unwrap_or_default()),
        };
        let verdict = judge(&figure, one, other, noise);
        Some(Self { figure, first: one, second: other, noise, verdict })
    }

    pub fn ratio(&self) -> Option<f64> {
        let (first, second) = (self.first?, self.second?);
        (first != 0.0).then(|| second / first)
    }
}

/// Half the way from the lowest run to the highest, as a share of the median; none of a single run.
fn spread(runs: &[f64]) -> Option<f64> {
    let low = runs.iter().copied().min_by(f64::total_cmp)?;
    let high = runs.iter().copied().max_by(f64::total_cmp)?;
    let middle = median(runs.to_vec()).filter(|middle| *middle > 0.0)?;
    (runs.len() > 1).then(|| (high - low) / 2.0 / middle)
}

/// What single runs on a quiet machine differ by: tails by more than rates.
fn assumed_noise(figure: &Figure) -> f64 {
    match figure.name.rsplit_once('_').map(|(_, quantile)| quantile) {
        Some("max") => 0.3,
        Some("p99.9") => 0.2,
        Some("p99") => 0.15,
        Some("p50" | "p90" | "mean") => 0.1,
        _ => 0.05,
    }
}

fn judge(figure: &Figure, first: Option<f64>, second: Option<f64>, noise: f64) -> Verdict {
    let (Some(first), Some(second)) = (first, second) else { return Verdict::Unknown };
    // What should never happen has no noise: from none to one is worse.
    let room = if figure.unit == Unit::Count { 0.0 } else { noise * (first.abs() + second.abs()) };
    if (second - first).abs() <= room {
        return Verdict::Same;
    }
    if (second > first) == (figure.better == Better::Higher) { Verdict::Better } else { Verdict::Worse }
}

impl Verdict {
    pub fn word(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Same => "same",
            Self::Unknown => "",
        }
    }
}

impl Comparison<'_> {
    /// Figures that got worse beyond noise.
    pub fn worse(&self) -> usize {
        self.rows.iter().filter(|row| row.verdict == Verdict::Worse).count()
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, run) in [("A", self.first), ("B", self.second)] {
            text += &paragraph(name, &format!("{}: {}", terminal::title(run), terminal::verdict(run)));
            text += &paragraph("promise", &run.system.promise);
        }
        text += &paragraph("workload", &terminal::parameters(self.first));
        for caution in &self.cautions {
            text += &paragraph("beware", caution);
        }
        let mut table = Table::new(["figure", "A", "B", "B / A", "noise", "B is"]);
        for row in &self.rows {
            table.row([row.figure.name.clone()].into_iter().chain(row.cells()));
        }
        text.push('\n');
        text + &table.lines()
    }

    /// A page of its own, with the latency curves of both over each other.
    pub fn html(&self) -> String {
        page::page(self)
    }
}

impl Row {
    /// A, B, ratio, noise, verdict.
    fn cells(&self) -> [String; 5] {
        let value =
            |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| with_unit(value, self.figure.unit));
        let ratio = self.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        let noise =
            if self.figure.unit == Unit::Count { String::new() } else { format!("±{:.0} %", self.noise * 100.0) };
        [value(self.first), value(self.second), ratio, noise, self.verdict.word().to_owned()]
    }
}
