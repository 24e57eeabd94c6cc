//! How long writes paused: the longest time without an ack while somebody was waiting for one. Pure.

/// Acks of one shard, or of all.
#[derive(Debug, Clone, Default)]
pub struct PauseMeter {
    outstanding: u64,
    /// Since when there was somebody waiting and no ack.
    quiet_since_us: u64,
    /// Pauses that end before this do not count.
    from_us: Option<u64>,
    longest_us: u64,
}

impl PauseMeter {
    pub fn sent(&mut self, now_us: u64) {
        if self.outstanding == 0 {
            self.quiet_since_us = now_us;
        }
        self.outstanding += 1;
    }

    /// A send ended, with or without an ack.
    pub fn ended(&mut self, acked: bool, now_us: u64) {
        self.outstanding = self.outstanding.saturating_sub(1);
        if !acked {
            return;
        }
        if let Some(from_us) = self.from_us {
            let since_us = self.quiet_since_us.max(from_us);
            self.longest_us = self.longest_us.max(now_us.saturating_sub(since_us));
        }
        self.quiet_since_us = now_us;
    }

    /// Counts from here on: the moment of the kill.
    pub fn start(&mut self, now_us: u64) {
        self.from_us = Some(now_us);
    }

    /// The longest pause since [`Self::start`]; one that has not ended yet counts up to `now_us`.
    pub fn longest_us(&self, now_us: u64) -> u64 {
        let open_us = match self.from_us {
            Some(from_us) if self.outstanding > 0 => now_us.saturating_sub(self.quiet_since_us.max(from_us)),
            _ => 0,
        };
        self.longest_us.max(open_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_runs_from_the_kill_to_the_next_ack() {
        let mut meter = PauseMeter::default();
        meter.sent(0);
        meter.ended(true, 900);
        meter.sent(1_000);
        meter.start(5_000);
        meter.sent(6_000);
        meter.ended(true, 8_000);
        meter.ended(true, 8_500);
        assert_eq!(meter.longest_us(9_000), 3_000);
    }

    #[test]
    fn quiet_times_without_anybody_waiting_are_no_pause() {
        let mut meter = PauseMeter::default();
        meter.start(0);
        meter.sent(1_000);
        meter.ended(true, 1_010);
        meter.sent(90_000);
        meter.ended(true, 90_020);
        assert_eq!(meter.longest_us(500_000), 20);
    }

    #[test]
    fn a_failed_send_ends_no_pause_and_an_open_one_counts() {
        let mut meter = PauseMeter::default();
        meter.start(0);
        meter.sent(10);
        meter.sent(20);
        meter.ended(false, 500);
        assert_eq!(meter.longest_us(700), 690);
    }
}
