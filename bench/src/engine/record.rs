//! Latencies of a worker: of the second that runs, and of the measured window.

use hdrhistogram::Histogram;

/// Longest latency told apart, in microseconds (ten minutes), with three significant digits.
const LONGEST_US: u64 = 600_000_000;

pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds are in order and three digits fit")
}

/// Latencies of the measured window.
#[derive(Debug, Clone)]
pub struct Latencies {
    /// Due to ack.
    pub ack: Histogram<u64>,
    /// Due to each member has it.
    pub delivery: Histogram<u64>,
    /// Due to the last member has it.
    pub completion: Histogram<u64>,
    /// TCP connect to ready.
    pub login: Histogram<u64>,
    /// Request to answer, for requests that are no sends.
    pub answer: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            ack: histogram(),
            delivery: histogram(),
            completion: histogram(),
            login: histogram(),
            answer: histogram(),
        }
    }
}

impl Latencies {
    pub fn add(&mut self, more: &Self) {
        self.ack += &more.ack;
        self.delivery += &more.delivery;
        self.completion += &more.completion;
        self.login += &more.login;
        self.answer += &more.answer;
    }
}

/// Messages that are due in the window count, whenever they arrive: so a system that stalls at its end does not look
/// better for it.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) window: Latencies,
    pub(crate) second_ack: Option<Histogram<u64>>,
    pub(crate) second_delivery: Option<Histogram<u64>>,
    from_us: u64,
    until_us: u64,
}

impl Record {
    pub(crate) fn measure(&mut self, from_us: u64, until_us: u64) {
        (self.from_us, self.until_us) = (from_us, until_us);
    }

    fn counts(&self, due_us: u64) -> bool {
        (self.from_us..self.until_us).contains(&due_us)
    }

    pub(crate) fn ack(&mut self, due_us: u64, now_us: u64) {
        let latency_us = now_us.saturating_sub(due_us);
        self.second_ack.get_or_insert_with(histogram).saturating_record(latency_us);
        if self.counts(due_us) {
            self.window.ack.saturating_record(latency_us);
        }
    }

    pub(crate) fn delivery(&mut self, due_us: u64, now_us: u64) {
        let latency_us = now_us.saturating_sub(due_us);
        self.second_delivery.get_or_insert_with(histogram).saturating_record(latency_us);
        if self.counts(due_us) {
            self.window.delivery.saturating_record(latency_us);
        }
    }

    pub(crate) fn completion(&mut self, due_us: u64, now_us: u64) {
        if self.counts(due_us) {
            self.window.completion.saturating_record(now_us.saturating_sub(due_us));
        }
    }

    pub(crate) fn login(&mut self, began_us: u64, now_us: u64) {
        self.window.login.saturating_record(now_us.saturating_sub(began_us));
    }

    pub(crate) fn answer(&mut self, asked_us: u64, now_us: u64) {
        if self.counts(asked_us) {
            self.window.answer.saturating_record(now_us.saturating_sub(asked_us));
        }
    }
}
