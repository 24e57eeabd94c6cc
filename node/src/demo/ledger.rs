//! What was acknowledged, when, and how long nothing was: one ledger per shard. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use chat::ids::ClientMsgId;

/// Acks kept for the next count of losses; older ones are forgotten uncounted.
const KEPT: usize = 10_000;

/// A message that the service called stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Acked {
    pub(super) seq: u64,
    pub(super) id: ClientMsgId,
}

#[derive(Debug)]
pub(super) struct Ledger {
    acked: VecDeque<Acked>,
    /// The fault whose effect is being measured.
    fault: Option<Instant>,
    last_ack: Instant,
    longest: Duration,
    recovered: bool,
}

impl Ledger {
    pub(super) fn new(now: Instant) -> Self {
        Self { acked: VecDeque::new(), fault: None, last_ack: now, longest: Duration::ZERO, recovered: true }
    }

    /// From here on pauses count.
    pub(super) fn fault(&mut self, now: Instant) {
        self.fault = Some(now);
        self.last_ack = now;
        self.longest = Duration::ZERO;
        self.recovered = false;
    }

    /// A send that began at `began` was acknowledged.
    pub(super) fn ack(&mut self, acked: Acked, began: Instant, now: Instant) {
        if self.acked.len() == KEPT {
            self.acked.pop_front();
        }
        self.acked.push_back(acked);
        self.longest = self.longest.max(now.saturating_duration_since(self.last_ack));
        self.last_ack = now;
        // Only a send that began after the fault shows that writing goes on after it.
        self.recovered |= self.fault.is_none_or(|fault| began >= fault);
    }

    /// The longest time without an ack since the fault: none while it lasts.
    pub(super) fn pause(&self) -> Option<Duration> {
        self.recovered.then_some(self.longest)
    }

    /// Everything acknowledged, in order of seq, for a count of losses.
    pub(super) fn acked(&self) -> Vec<Acked> {
        let mut acked: Vec<Acked> = self.acked.iter().copied().collect();
        acked.sort_unstable_by_key(|acked| acked.seq);
        acked
    }

    /// Those up to `seq` have been counted.
    pub(super) fn forget_through(&mut self, seq: u64) {
        self.acked.retain(|acked| acked.seq > seq);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn acked(seq: u64) -> Acked {
        Acked { seq, id: ClientMsgId(Uuid::from_u128(seq.into())) }
    }

    #[test]
    fn the_pause_is_the_longest_time_without_an_ack_and_ends_with_a_send_begun_after_the_fault() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut ledger = Ledger::new(start);
        ledger.ack(acked(1), at(0), at(1));
        ledger.fault(at(100));
        assert_eq!(ledger.pause(), None);
        ledger.ack(acked(2), at(90), at(110));
        assert_eq!(ledger.pause(), None, "that one was under way already");
        ledger.ack(acked(3), at(120), at(910));
        ledger.ack(acked(4), at(920), at(930));
        assert_eq!(ledger.pause(), Some(Duration::from_millis(800)));
    }

    #[test]
    fn what_was_counted_is_forgotten() {
        let now = Instant::now();
        let mut ledger = Ledger::new(now);
        [3, 1, 2].into_iter().for_each(|seq| ledger.ack(acked(seq), now, now));
        assert_eq!(ledger.acked().iter().map(|a| a.seq).collect::<Vec<_>>(), [1, 2, 3]);
        ledger.forget_through(2);
        assert_eq!(ledger.acked(), [acked(3)]);
    }
}
