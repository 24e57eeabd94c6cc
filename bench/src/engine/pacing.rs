//! When messages of an open loop are due: evenly, from the beginning, whatever has become of those before. Pure.

/// Hands out due times of one worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pacing {
    begin_us: u64,
    per_second: f64,
    handed: u64,
}

impl Pacing {
    pub(crate) fn new(begin_us: u64, per_second: f64) -> Self {
        Self { begin_us, per_second, handed: 0 }
    }

    /// When the next message is due.
    pub(crate) fn next_us(&self) -> u64 {
        self.begin_us + (self.handed as f64 * 1e6 / self.per_second) as u64
    }

    /// The place and the due time of the next message, if it is due by now.
    pub(crate) fn due(&mut self, now_us: u64) -> Option<(u64, u64)> {
        let due_us = self.next_us();
        (due_us <= now_us).then(|| {
            self.handed += 1;
            (self.handed - 1, due_us)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_without_drift_though_nobody_looked_for_a_while() {
        let mut pacing = Pacing::new(1_000_000, 3_000.0);
        assert_eq!(pacing.due(999_999), None);
        assert_eq!(pacing.due(1_000_000), Some((0, 1_000_000)));
        assert_eq!((pacing.due(1_000_332), pacing.next_us()), (None, 1_000_333));
        let mut last = (0, 0);
        while let Some(due) = pacing.due(11_000_000) {
            last = due;
        }
        assert_eq!(last, (30_000, 11_000_000));
    }
}
