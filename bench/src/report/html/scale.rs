//! Axes: from values to places on paper, and where the ticks are.

/// Places go from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    pub kind: Kind,
    low: f64,
    high: f64,
    /// Values, and what is written there.
    pub ticks: Vec<(f64, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Linear,
    Log,
    /// Shares of all, with as much room from 90 % to 99 % as from 99 % to 99.9 %.
    Percentile,
}

impl Scale {
    /// From 0 (or `low`, if it is below) to a round number that is not below `high`.
    pub fn linear(low: f64, high: f64, label: impl Fn(f64) -> String) -> Self {
        const TICKS: f64 = 5.0;
        let (low, high) = (low.min(0.0), if high > low.min(0.0) { high } else { low.min(0.0) + 1.0 });
        let step = round_up((high - low) / TICKS);
        let (first, last) = ((low / step).floor(), (high / step).ceil());
        let ticks = (0..=(last - first) as u32).map(|n| (first + f64::from(n)) * step);
        Self {
            kind: Kind::Linear,
            low: first * step,
            high: last * step,
            ticks: ticks.map(|tick| (tick, label(tick))).collect(),
        }
    }

    /// The seconds of a run: ticks at round numbers, ends as they are.
    pub fn time(low: f64, high: f64) -> Self {
        const TICKS: f64 = 8.0;
        let high = if high > low { high } else { low + 1.0 };
        let step = [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0]
            .into_iter()
            .find(|step| (high - low) / step <= TICKS)
            .unwrap_or_else(|| round_up((high - low) / TICKS));
        let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
        let ticks = (first..=last).map(|n| n as f64 * step).map(|tick| (tick, format!("{tick:.0}"))).collect();
        Self { kind: Kind::Linear, low, high, ticks }
    }

    /// From and to 1, 2 or 5 times a power of ten.
    pub fn log(low: f64, high: f64, label: impl Fn(f64) -> String) -> Self {
        let low = if low > 0.0 { low } else { 1e-3 };
        let high = high.max(low * 2.0);
        let all: Vec<f64> = (-6..12).flat_map(|power| [1.0, 2.0, 5.0].map(|n| n * 10f64.powi(power))).collect();
        // A little below a tick still counts as that tick: 0.9999999 is 1.
        let first = all.iter().rposition(|tick| *tick <= low * 1.000_001).unwrap_or_default();
        let last = all.iter().position(|tick| *tick >= high * 0.999_999).unwrap_or(all.len() - 1);
        let (low, high) = (all[first], all[last]);
        let decades = (high / low).log10();
        let wanted = |tick: &&f64| decades <= 2.5 || is_power_of_ten(**tick);
        let ticks = all[first..=last].iter().filter(wanted).map(|tick| (*tick, label(*tick))).collect();
        Self { kind: Kind::Log, low, high, ticks }
    }

    /// Up to the last quantile that one of `count` values can have.
    pub fn percentiles(count: u64) -> Self {
        let named = [
            (0.0, "0 %"),
            (0.5, "50 %"),
            (0.9, "90 %"),
            (0.99, "99 %"),
            (0.999, "99.9 %"),
            (0.9999, "99.99 %"),
            (0.99999, "99.999 %"),
            (0.999999, "99.9999 %"),
        ];
        let high = 1.0 - 1.0 / (count.max(10) as f64);
        let nines = |quantile: f64| -(1.0 - quantile).log10();
        let room = |quantile: f64| nines(high) - nines(quantile) > 0.4;
        let ticks = named.into_iter().filter(|(quantile, _)| room(*quantile)).chain([(high, "max")]);
        Self { kind: Kind::Percentile, low: 0.0, high, ticks: ticks.map(|(at, name)| (at, name.to_owned())).collect() }
    }

    /// 0 at the low end, 1 at the high end; what is beyond them is put at the end.
    pub fn place(&self, value: f64) -> f64 {
        let (low, high, value) = (self.spread(self.low), self.spread(self.high), self.spread(value));
        ((value - low) / (high - low)).clamp(0.0, 1.0)
    }

    fn spread(&self, value: f64) -> f64 {
        match self.kind {
            Kind::Linear => value,
            Kind::Log => value.max(self.low).log10(),
            Kind::Percentile => -(1.0 - value.min(self.high)).log10(),
        }
    }

    pub fn ends(&self) -> (f64, f64) {
        (self.low, self.high)
    }
}

/// 1, 2 or 5 times a power of ten, not below `size`.
fn round_up(size: f64) -> f64 {
    let power = 10f64.powf(size.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power).find(|step| *step >= size * 0.999_999).unwrap_or(size)
}

fn is_power_of_ten(value: f64) -> bool {
    (value.log10() - value.log10().round()).abs() < 1e-9
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(scale: &Scale) -> Vec<f64> {
        scale.ticks.iter().map(|tick| tick.0).collect()
    }

    #[test]
    fn linear_axes_begin_at_zero_and_end_round() {
        let scale = Scale::linear(3.0, 508.0, |tick| tick.to_string());
        assert_eq!((scale.ends(), values(&scale)), ((0.0, 600.0), vec![0.0, 200.0, 400.0, 600.0]));
        assert_eq!((scale.place(300.0), scale.place(-5.0), scale.place(9e9)), (0.5, 0.0, 1.0));
        assert_eq!(Scale::linear(0.0, 0.0, |tick| tick.to_string()).ends(), (0.0, 1.0), "nothing happened");
    }

    #[test]
    fn time_keeps_its_ends() {
        let scale = Scale::time(-2.0, 40.0);
        assert_eq!((scale.ends(), values(&scale)), ((-2.0, 40.0), vec![0.0, 10.0, 20.0, 30.0, 40.0]));
        assert_eq!(values(&Scale::time(0.0, 1_800.0)), [0.0, 300.0, 600.0, 900.0, 1_200.0, 1_500.0, 1_800.0]);
        assert_eq!(Scale::time(5.0, 5.0).ends(), (5.0, 6.0));
    }

    #[test]
    fn log_axes_have_few_ticks_and_survive_zero() {
        let scale = Scale::log(1.2, 61.0, |tick| tick.to_string());
        assert_eq!(values(&scale), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
        assert!((scale.place(10.0) - 0.5).abs() < 1e-9 && scale.place(0.0) == 0.0);
        assert_eq!(values(&Scale::log(0.03, 5_000.0, |tick| tick.to_string())), [0.1, 1.0, 10.0, 100.0, 1_000.0]);
        assert_eq!(Scale::log(0.0, 0.0, |tick| tick.to_string()).ends(), (1e-3, 2e-3));
    }

    #[test]
    fn nines_have_the_same_room_each() {
        let scale = Scale::percentiles(10_000);
        assert_eq!(values(&scale), [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999]);
        assert_eq!(scale.ticks[5].1, "max");
        let places = [0.9, 0.99, 0.999, 0.9999, 1.0].map(|quantile| (scale.place(quantile) * 100.0).round());
        assert_eq!(places, [25.0, 50.0, 75.0, 100.0, 100.0]);
    }
}
