//! Latencies of a worker: of the second that runs, and of the measured window.

use hdrhistogram::Histogram;

use crate::protocol::Ask;

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
    /// Asked to answered: positions and lists.
    pub read: Histogram<u64>,
    /// Asked to answered: a page of history.
    pub history: Histogram<u64>,
    /// Connection lost to ready again.
    pub reconnect: Histogram<u64>,
    /// No acks at all, after a kill.
    pub pause: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        let [ack, delivery, completion, login, read, history, reconnect, pause] = std::array::from_fn(|_| histogram());
        Self { ack, delivery, completion, login, read, history, reconnect, pause }
    }
}

impl Latencies {
    /// By the names of a summary's latencies.
    pub fn named(&self) -> [(&'static str, &Histogram<u64>); 8] {
        [
            ("ack", &self.ack),
            ("delivery", &self.delivery),
            ("completion", &self.completion),
            ("login", &self.login),
            ("read", &self.read),
            ("history", &self.history),
            ("reconnect", &self.reconnect),
            ("pause", &self.pause),
        ]
    }

    fn named_mut(&mut self) -> [&mut Histogram<u64>; 8] {
        let Self { ack, delivery, completion, login, read, history, reconnect, pause } = self;
        [ack, delivery, completion, login, read, history, reconnect, pause]
    }

    pub fn add(&mut self, more: &Self) {
        for (sum, (_, more)) in self.named_mut().into_iter().zip(more.named()) {
            *sum += more;
        }
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

    /// A request that is no send was answered.
    pub(crate) fn answer(&mut self, what: Ask, asked_us: u64, now_us: u64) {
        if self.counts(asked_us) {
            let histogram = match what {
                Ask::History { .. } => &mut self.window.history,
                Ask::Read { .. } | Ask::Conversations | Ask::Ping => &mut self.window.read,
            };
            histogram.saturating_record(now_us.saturating_sub(asked_us));
        }
    }

    pub(crate) fn reconnect(&mut self, lost_us: u64, now_us: u64) {
        self.window.reconnect.saturating_record(now_us.saturating_sub(lost_us));
    }
}
