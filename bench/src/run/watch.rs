//! What is seen of a load while it runs: seconds of all workers put together, the servers' CPU and memory, a line of
//! progress.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::engine::interval::Counters;
use crate::engine::{Engine, Load, Second};
use crate::progress::Progress;
use crate::usage::{Process, Span, Watch};

/// A second of the run.
#[derive(Debug, Clone, Default)]
pub struct Moment {
    pub second: i64,
    pub counters: Counters,
    /// p50 and p99 in microseconds; none where there was nothing.
    pub ack_us: Option<(u64, u64)>,
    pub delivery_us: Option<(u64, u64)>,
    pub connections: u64,
    pub backlog: u64,
}

/// A second that not all workers have told of yet.
#[derive(Default)]
struct Gathering {
    told: usize,
    sum: Second,
}

impl Gathering {
    fn add(&mut self, second: Second) {
        self.told += 1;
        self.sum.second = second.second;
        self.sum.counters.add(&second.counters);
        self.sum.connections += second.connections;
        self.sum.backlog += second.backlog;
        merge(&mut self.sum.ack, second.ack);
        merge(&mut self.sum.delivery, second.delivery);
    }

    fn moment(self) -> Moment {
        let quantiles = |histogram: Option<Histogram<u64>>| {
            histogram.map(|h| (h.value_at_quantile(0.5), h.value_at_quantile(0.99)))
        };
        Moment {
            second: self.sum.second,
            counters: self.sum.counters,
            ack_us: quantiles(self.sum.ack),
            delivery_us: quantiles(self.sum.delivery),
            connections: self.sum.connections,
            backlog: self.sum.backlog,
        }
    }
}

fn merge(sum: &mut Option<Histogram<u64>>, more: Option<Histogram<u64>>) {
    match (sum.as_mut(), more) {
        (Some(sum), Some(more)) => *sum += more,
        (None, more) => *sum = more,
        (Some(_), None) => {}
    }
}

/// Begins the load and follows it to its end.
pub(super) fn watch(
    engine: &Engine,
    load: Load,
    processes: &[Process],
    progress: Progress,
) -> (Vec<Moment>, Vec<Span>) {
    let from = engine.begin(load);
    let until = from + load.measured;
    let begin = from - load.warmup;
    let mut watch = Watch::new(processes, Instant::now());
    let (mut begun, mut ended) = (false, false);
    let mut next_look = begin + Duration::from_secs(1);
    let mut gathering: BTreeMap<i64, Gathering> = BTreeMap::new();
    let mut timeline = Vec::new();
    while !engine.ended() {
        let next = if begun { until } else { from };
        let deadline = if ended { next_look } else { next.min(next_look) };
        if let Some(second) = engine.next_second(deadline.min(Instant::now() + super::LOOK_EVERY)) {
            gathering.entry(second.second).or_default().add(second);
            while let Some(entry) = gathering.first_entry().filter(|entry| entry.get().told >= engine.workers()) {
                let moment = entry.remove().moment();
                progress.live(&line(&moment));
                timeline.push(moment);
            }
        }
        let now = Instant::now();
        if !begun && now >= from {
            watch.begin();
            begun = true;
        }
        if begun && !ended && now >= until {
            watch.end();
            ended = true;
        }
        if now >= next_look && !ended {
            watch.second(now);
            next_look += Duration::from_secs(1);
        }
    }
    progress.live("");
    (timeline, watch.spans())
}

fn line(moment: &Moment) -> String {
    let ms = |latency: Option<(u64, u64)>| latency.map_or("-".to_owned(), |(_, p99)| format!("{:.1}", p99 as f64 / 1e3));
    let phase = if moment.second < 0 { "warm-up" } else { "" };
    let Counters { acked, delivered, errors, .. } = moment.counters;
    format!(
        "{:>4} s {phase:<8}{acked:>8} acked/s {delivered:>9} deliveries/s  p99 ack {} ms, delivery {} ms, {errors} errors, {} waiting",
        moment.second,
        ms(moment.ack_us),
        ms(moment.delivery_us),
        moment.backlog,
    )
}
