//! Latencies and pauses of a run, recorded from many tasks.

use chat::ids::ShardId;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::pauses::PauseMeter;

/// Longest latency told apart, in microseconds (ten minutes), with three significant digits.
const LONGEST_US: u64 = 600_000_000;
/// Receivers share this many histograms, so that they do not all wait for one lock.
const STRIPES: usize = 8;

/// A latency distribution, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    pub count: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
}

impl From<&Histogram<u64>> for Latency {
    fn from(histogram: &Histogram<u64>) -> Self {
        let ms = |us: u64| us as f64 / 1_000.0;
        let quantile = |q: f64| ms(histogram.value_at_quantile(q));
        Self {
            count: histogram.len(),
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            p999_ms: quantile(0.999),
            max_ms: ms(histogram.max()),
        }
    }
}

pub struct Meters {
    acks: Mutex<Histogram<u64>>,
    deliveries: Vec<Mutex<Histogram<u64>>>,
    /// All shards together, then shard 1, 2, …
    pauses: Mutex<Vec<PauseMeter>>,
}

impl Meters {
    pub fn new(shards: u16) -> Self {
        Self {
            acks: Mutex::new(histogram()),
            deliveries: (0..STRIPES).map(|_| Mutex::new(histogram())).collect(),
            pauses: Mutex::new(vec![PauseMeter::default(); usize::from(shards) + 1]),
        }
    }

    pub fn sent(&self, shard: ShardId, now_us: u64) {
        self.both(shard, |meter| meter.sent(now_us));
    }

    /// A send ended; with an ack after `latency_us`, or without one.
    pub fn ended(&self, shard: ShardId, latency_us: Option<u64>, now_us: u64) {
        self.both(shard, |meter| meter.ended(latency_us.is_some(), now_us));
        if let Some(latency_us) = latency_us {
            lock(&self.acks).saturating_record(latency_us);
        }
    }

    /// `receiver` is any number that differs between tasks.
    pub fn delivered(&self, receiver: u32, latency_us: u64) {
        lock(&self.deliveries[receiver as usize % STRIPES]).saturating_record(latency_us);
    }

    /// Pauses count from now on.
    pub fn watch_pauses(&self, now_us: u64) {
        lock(&self.pauses).iter_mut().for_each(|meter| meter.start(now_us));
    }

    /// The longest pause of all shards together, and of each.
    pub fn pauses_ms(&self, now_us: u64) -> (u64, Vec<(ShardId, u64)>) {
        let pauses = lock(&self.pauses);
        let longest = |meter: &PauseMeter| meter.longest_us(now_us) / 1_000;
        let shards = pauses.iter().enumerate().skip(1).map(|(n, meter)| (ShardId(n as u16), longest(meter)));
        (pauses.first().map_or(0, longest), shards.collect())
    }

    pub fn ack_latency(&self) -> Latency {
        Latency::from(&*lock(&self.acks))
    }

    pub fn delivery_latency(&self) -> Latency {
        let mut all = histogram();
        for stripe in &self.deliveries {
            all.add(&*lock(stripe)).expect("all stripes have the same bounds");
        }
        Latency::from(&all)
    }

    fn both(&self, shard: ShardId, change: impl Fn(&mut PauseMeter)) {
        let mut pauses = lock(&self.pauses);
        for place in [0, usize::from(shard.0)] {
            if let Some(meter) = pauses.get_mut(place) {
                change(meter);
            }
        }
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds are in order")
}

/// A lock whose data no panic can leave half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripes_add_up_and_pauses_are_kept_per_shard() {
        let meters = Meters::new(2);
        (0..100).for_each(|n| meters.delivered(n, u64::from(n + 1) * 1_000));
        let latency = meters.delivery_latency();
        assert_eq!((latency.count, latency.p50_ms.round()), (100, 50.0));
        meters.watch_pauses(0);
        meters.sent(ShardId(2), 0);
        meters.ended(ShardId(2), Some(2_000_000), 2_000_000);
        assert_eq!(meters.pauses_ms(9_000_000), (2_000, vec![(ShardId(1), 0), (ShardId(2), 2_000)]));
        assert_eq!(meters.ack_latency().count, 1);
    }
}
