//! What is seen of a load while it runs: seconds of all workers put together, the servers' CPU and memory, a line of
//! progress.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::Stage;
use crate::engine::interval::Counters;
use crate::engine::{Engine, Second};
use crate::progress::Progress;
use crate::summary::{Mark, MarkKind};
use crate::target::TargetOptions;
use crate::usage::{Span, Watch};

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
    /// The generator's.
    pub cpu_us: u64,
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
        self.sum.cpu_us += second.cpu_us;
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
            cpu_us: self.sum.cpu_us,
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

/// Does something to the system, or to the load, while it runs.
pub trait Conductor {
    /// Called every few milliseconds; `at` counts from the beginning of the measured window.
    fn turn(&mut self, at: TimeFromWindow, scene: &mut Scene<'_>);

    /// The load is over; whatever was broken is mended before the final checks.
    fn finish(&mut self) {}

    /// Whom the final checks are to ask, if that has changed.
    fn present(&self) -> Option<TargetOptions> {
        None
    }
}

/// What a conductor may touch.
pub struct Scene<'a> {
    pub engine: &'a Engine,
    pub watch: &'a mut Watch,
    pub marks: &'a mut Vec<Mark>,
    pub progress: Progress,
}

impl Scene<'_> {
    /// Something worth showing beside the curves.
    pub fn mark(&mut self, at_s: f64, kind: MarkKind, text: String) {
        self.progress.say(&text);
        self.marks.push(Mark { at_s, kind, text });
    }
}

/// Seconds, negative during the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct TimeFromWindow(pub f64);

/// Nothing happens but the load.
pub struct Quiet;

impl Conductor for Quiet {
    fn turn(&mut self, _at: TimeFromWindow, _scene: &mut Scene<'_>) {}
}

/// Begins the load and follows it to its end.
pub(super) fn watch(
    engine: &Engine,
    stage: &Stage<'_>,
    conductor: &mut dyn Conductor,
    marks: &mut Vec<Mark>,
) -> (Vec<Moment>, Vec<Span>) {
    let (load, progress) = (&stage.plan.load, stage.progress);
    let mut watch = Watch::new(stage.processes, Instant::now());
    let from = engine.begin(load);
    let until = from + load.measured;
    let (mut begun, mut ended) = (false, false);
    // More than one phase is worth a mark each.
    let named = stage.plan.phase_names.iter().zip(&load.phases).skip(usize::from(load.phases.len() == 1));
    for (name, phase) in named {
        marks.push(Mark { at_s: phase.begin.as_secs_f64(), kind: MarkKind::Phase, text: name.clone() });
    }
    let mut next_look = from - load.warmup + Duration::from_secs(1);
    let mut gathered = Gathered::default();
    while !engine.ended() {
        if let Some(second) = engine.next_second(Instant::now() + super::LOOK_EVERY) {
            gathered.add(second, engine.workers(), progress);
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
        let at = TimeFromWindow(signed_seconds(from, now));
        conductor.turn(at, &mut Scene { engine, watch: &mut watch, marks, progress });
    }
    while let Some(second) = engine.next_second(Instant::now()) {
        gathered.add(second, engine.workers(), progress);
    }
    progress.live("");
    conductor.finish();
    (gathered.timeline, watch.spans())
}

fn signed_seconds(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() - from.saturating_duration_since(to).as_secs_f64()
}

/// Seconds of all workers, put together as they come.
#[derive(Default)]
struct Gathered {
    open: BTreeMap<i64, Gathering>,
    timeline: Vec<Moment>,
}

impl Gathered {
    fn add(&mut self, second: Second, workers: usize, progress: Progress) {
        self.open.entry(second.second).or_default().add(second);
        while let Some(entry) = self.open.first_entry().filter(|entry| entry.get().told >= workers) {
            let moment = entry.remove().moment();
            progress.live(&line(&moment));
            self.timeline.push(moment);
        }
    }
}

fn line(moment: &Moment) -> String {
    let ms =
        |latency: Option<(u64, u64)>| latency.map_or("-".to_owned(), |(_, p99)| format!("{:.1}", p99 as f64 / 1e3));
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
