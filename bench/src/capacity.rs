//! Finds the highest rate that holds the objectives. Pure: it says which rate to try next and is told how that went.
//!
//! From the first rate it doubles while the objectives hold (or halves until they do), then bisects. One bad probe
//! decides nothing: a miss counts once a second probe confirms it, two against one, and the answer is a rate that held
//! twice.

#[cfg(test)]
mod tests;

/// What a search may do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Tried first.
    pub first: f64,
    pub lowest: f64,
    pub highest: f64,
    /// The search ends when the lowest rate that missed is at most this share above the highest that held: 0.05 is 5 %.
    pub tolerance: f64,
    pub probes_max: u32,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BoundsError {
    #[error("the rates must be more than 0, in order: lowest, first, highest")]
    Rates,
    #[error("the tolerance must be from 0.5 % to 100 %")]
    Tolerance,
    #[error("at least 4 probes are needed")]
    Probes,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Run at this rate, then [`Search::record`] whether the objectives held.
    Probe(f64),
    Done(Capacity),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Capacity {
    /// The highest rate that held; none if none did.
    pub rate: Option<f64>,
    /// It held in two probes.
    pub confirmed: bool,
    /// The lowest rate above it that missed, in two probes.
    pub missed_at: Option<f64>,
    pub ended: Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Held and missed rates are as near as asked for.
    Found,
    /// Even the highest rate held.
    Highest,
    /// Not even the lowest rate held.
    Lowest,
    /// No more probes were allowed.
    Probes,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    pub rate: f64,
    pub held: bool,
}

#[derive(Debug, Clone)]
pub struct Search {
    bounds: Bounds,
    probes: Vec<Probe>,
}

/// What is known about a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Held,
    HeldTwice,
    /// Once missed, or once each: another probe decides.
    Undecided,
    Missed,
}

impl Search {
    pub fn new(bounds: Bounds) -> Result<Self, BoundsError> {
        let Bounds { first, lowest, highest, tolerance, probes_max } = bounds;
        let finite = highest.is_finite() && lowest > 0.0;
        if !(finite && lowest <= first && first <= highest) {
            return Err(BoundsError::Rates);
        }
        if !(0.005..=1.0).contains(&tolerance) {
            return Err(BoundsError::Tolerance);
        }
        if probes_max < 4 {
            return Err(BoundsError::Probes);
        }
        Ok(Self { bounds, probes: Vec::new() })
    }

    pub fn record(&mut self, rate: f64, held: bool) {
        self.probes.push(Probe { rate, held });
    }

    /// In the order in which they were made.
    pub fn probes(&self) -> &[Probe] {
        &self.probes
    }

    pub fn next(&self) -> Step {
        let ended = match self.wanted() {
            Ok(rate) if self.probes.len() < self.bounds.probes_max as usize => return Step::Probe(rate),
            Ok(_) => Ended::Probes,
            Err(ended) => ended,
        };
        let missed_at = self.lowest_missed();
        let rate = self.highest_held();
        let confirmed = rate.is_some_and(|rate| self.known(rate) == Known::HeldTwice);
        Step::Done(Capacity { rate, confirmed, missed_at, ended })
    }

    /// The rate that would tell most, or why there is none.
    fn wanted(&self) -> Result<f64, Ended> {
        let Bounds { first, lowest, highest, tolerance, .. } = self.bounds;
        let undecided = self.probes.iter().find(|probe| self.known(probe.rate) == Known::Undecided);
        if let Some(probe) = undecided {
            return Ok(probe.rate);
        }
        match (self.highest_held(), self.lowest_missed()) {
            (None, None) => Ok(first),
            (None, Some(missed)) if missed <= lowest => Err(Ended::Lowest),
            (None, Some(missed)) => Ok((missed / 2.0).max(lowest)),
            (Some(held), None) if held < highest => Ok((held * 2.0).min(highest)),
            (Some(held), None) => self.confirm(held, Ended::Highest),
            (Some(held), Some(missed)) if missed / held <= 1.0 + tolerance => self.confirm(held, Ended::Found),
            // In the middle as people hear it: as many times above the one as below the other.
            (Some(held), Some(missed)) => Ok((held * missed).sqrt()),
        }
    }

    fn confirm(&self, rate: f64, ended: Ended) -> Result<f64, Ended> {
        if self.known(rate) == Known::HeldTwice { Err(ended) } else { Ok(rate) }
    }

    fn known(&self, rate: f64) -> Known {
        let results = || self.probes.iter().filter(|probe| probe.rate == rate);
        let held = results().filter(|probe| probe.held).count();
        match (held, results().count() - held) {
            (1, 0) => Known::Held,
            (held, missed) if held >= 2 && held > missed => Known::HeldTwice,
            (held, missed) if missed >= 2 && missed > held => Known::Missed,
            _ => Known::Undecided,
        }
    }

    fn lowest_missed(&self) -> Option<f64> {
        let missed = self.probes.iter().map(|probe| probe.rate).filter(|rate| self.known(*rate) == Known::Missed);
        missed.min_by(f64::total_cmp)
    }

    /// Below every rate that missed: one that held above it was luck.
    fn highest_held(&self) -> Option<f64> {
        let limit = self.lowest_missed().unwrap_or(f64::INFINITY);
        let held = |rate: &f64| matches!(self.known(*rate), Known::Held | Known::HeldTwice) && *rate < limit;
        self.probes.iter().map(|probe| probe.rate).filter(held).max_by(f64::total_cmp)
    }
}
