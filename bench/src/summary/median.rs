//! Several runs of one workload as one summary.

use super::{Checks, RunFigures, Summary};

/// The middle one, or the mean of the two in the middle.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = values.len() / 2;
    let lower = values.len().checked_sub(1)? / 2;
    Some((values.get(lower)? + values.get(upper)?) / 2.0)
}

impl Summary {
    /// Shows the run whose rate of acks is the median (the lower one of two), with every run's figures beside it.
    /// Broken promises and errors of all runs are added up: a good run does not hide a bad one. None of no runs.
    pub fn of_runs(runs: Vec<Self>) -> Option<Self> {
        let figures: Vec<_> = runs.iter().map(RunFigures::of).collect();
        let mut checks = Checks::default();
        let mut errors = std::collections::BTreeMap::new();
        for (number, run) in runs.iter().enumerate() {
            checks.add(&run.checks, number + 1);
            for (code, count) in &run.counts.errors {
                *errors.entry(code.clone()).or_default() += count;
            }
        }
        let exit_code = runs.iter().map(|run| run.exit_code).max()?;
        let started_unix_ms = runs.iter().map(|run| run.started_unix_ms).min()?;
        let mut by_rate = runs;
        by_rate.sort_by(|one, other| one.rates.acked_per_s.total_cmp(&other.rates.acked_per_s));
        let middle = (by_rate.len() - 1) / 2;
        let mut shown = by_rate.swap_remove(middle);
        if figures.len() > 1 {
            shown.runs = figures;
            shown.checks = checks;
            shown.counts.errors = errors;
        }
        shown.exit_code = exit_code;
        shown.started_unix_ms = started_unix_ms;
        Some(shown)
    }
}

impl RunFigures {
    fn of(run: &Summary) -> Self {
        Self { started_unix_ms: run.started_unix_ms, figures: run.figures_of_shown_run() }
    }
}

impl Checks {
    fn add(&mut self, run: &Self, number: usize) {
        self.lost += run.lost;
        self.duplicated += run.duplicated;
        self.reordered += run.reordered;
        self.phantom += run.phantom;
        self.gaps += run.gaps;
        self.disagreed += run.disagreed;
        self.other += run.other;
        let both = |one: Option<bool>, other: Option<bool>| match (one, other) {
            (Some(one), Some(other)) => Some(one && other),
            (one, other) => one.or(other),
        };
        self.digests_equal = both(self.digests_equal, run.digests_equal);
        self.histories_equal = both(self.histories_equal, run.histories_equal);
        self.notes.extend(run.notes.iter().map(|note| format!("run {number}: {note}")));
    }
}
