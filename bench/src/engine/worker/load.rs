//! The load of a worker: begun, paced, measured, ended.

use std::sync::atomic::Ordering;

use rustix::time::{ClockId, clock_gettime};

use super::super::interval::Counters;
use super::super::pacing::Pacing;
use super::super::record::histogram;
use super::super::traffic::Pace;
use super::super::{Load, Loop, Outcome, Second, WorkerLoad};
use super::Worker;
use crate::protocol::{Number, Protocol};

/// Counters and CPU at one moment.
#[derive(Debug, Clone, Copy, Default)]
struct Snapshot {
    at_us: u64,
    counters: Counters,
    cpu_us: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Stage {
    Waiting,
    WarmUp,
    Measuring,
    Draining,
    Ended,
}

pub(super) struct Running {
    load: Load,
    stage: Stage,
    begin_us: u64,
    from_us: u64,
    until_us: u64,
    lanes: Vec<u32>,
    pacing: Option<Pacing>,
    from: Snapshot,
    until: Snapshot,
    second: Snapshot,
    next_second_us: u64,
    backlog_peak: u64,
    drained_us: u64,
}

impl Running {
    /// When the next message is due, or the load begins.
    pub(super) fn next_us(&self) -> Option<u64> {
        match self.stage {
            Stage::Waiting => Some(self.begin_us),
            Stage::WarmUp | Stage::Measuring => self.pacing.as_ref().map(Pacing::next_us),
            Stage::Draining | Stage::Ended => None,
        }
    }
}

/// CPU time of this thread.
fn cpu_us() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000
}

impl<P: Protocol> Worker<P> {
    pub(super) fn begin(&mut self, load: Load, begin_us: u64) {
        let lanes = self.traffic.own_lanes();
        let all = self.setup.shape.lane_users().len().max(1);
        let pacing = match load.pace {
            Loop::Open { per_second } if !lanes.is_empty() => {
                Some(Pacing::new(begin_us, per_second * lanes.len() as f64 / all as f64))
            }
            _ => None,
        };
        let from_us = begin_us + load.warmup.as_micros() as u64;
        let until_us = from_us + load.measured.as_micros() as u64;
        self.traffic.record.measure(from_us, until_us);
        self.running = Some(Running {
            load,
            stage: Stage::Waiting,
            begin_us,
            from_us,
            until_us,
            lanes,
            pacing,
            from: Snapshot::default(),
            until: Snapshot::default(),
            second: Snapshot::default(),
            next_second_us: begin_us + 1_000_000,
            backlog_peak: 0,
            drained_us: 0,
        });
    }

    fn snapshot(&self, at_us: u64) -> Snapshot {
        Snapshot { at_us, counters: self.traffic.counters, cpu_us: cpu_us() }
    }

    /// Moves the load on to its next stage when the time has come, and hands out what is due.
    pub(super) fn pace(&mut self, now_us: u64) {
        let Some(mut running) = self.running.take() else { return };
        if running.stage == Stage::Waiting && now_us >= running.begin_us {
            running.stage = Stage::WarmUp;
            running.second = self.snapshot(now_us);
            let pace = match running.load.pace {
                Loop::Closed { window } => Pace::Window(window),
                Loop::Open { .. } => Pace::Open,
            };
            self.traffic.open_lanes(&running.lanes, pace);
            if running.pacing.is_none() {
                self.traffic.effects.lanes.extend(&running.lanes);
            }
        }
        if running.stage == Stage::WarmUp && now_us >= running.from_us {
            running.stage = Stage::Measuring;
            running.from = self.snapshot(now_us);
            self.lag = histogram();
        }
        if let Some(pacing) = &mut running.pacing {
            while let Some((place, due_us)) = pacing.due(now_us.min(running.until_us - 1)) {
                self.traffic.due(running.lanes[place as usize % running.lanes.len()], due_us);
            }
        }
        if running.stage == Stage::Measuring && now_us >= running.until_us {
            running.stage = Stage::Draining;
            running.until = self.snapshot(now_us);
            if running.pacing.is_none() {
                self.traffic.open_lanes(&running.lanes, Pace::Closed);
            }
        }
        if running.stage == Stage::Draining {
            let late = now_us >= running.until_us + running.load.drain.as_micros() as u64;
            if late || (self.traffic.outstanding() == 0 && self.traffic.backlog() == 0) {
                running.stage = Stage::Ended;
                running.drained_us = now_us;
                self.traffic.settle();
                self.ends.shared.ended.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.running = Some(running);
    }

    /// Tells of the second that has passed.
    pub(super) fn progress(&mut self, now_us: u64) {
        let backlog = self.traffic.backlog();
        let Some(mut running) = self.running.take() else { return };
        running.backlog_peak = running.backlog_peak.max(backlog);
        if running.stage > Stage::Waiting && running.stage < Stage::Ended && now_us >= running.next_second_us {
            let began_us = running.next_second_us - 1_000_000;
            let now = self.snapshot(now_us);
            let second = Second {
                second: (began_us as i64 - running.from_us as i64).div_euclid(1_000_000),
                counters: now.counters.since(&running.second.counters),
                ack: self.traffic.record.second_ack.take(),
                delivery: self.traffic.record.second_delivery.take(),
                connections: self.ready,
                backlog,
                cpu_us: now.cpu_us - running.second.cpu_us,
            };
            running.second = now;
            running.next_second_us += 1_000_000;
            // Nobody listens any more, or too slowly: the second is then missing from the timeline alone.
            let _ = self.ends.seconds.try_send(second);
        }
        self.running = Some(running);
    }

    pub(super) fn outcome(self) -> Outcome {
        let lanes = self.traffic.own_lanes();
        let mut sent = vec![0; self.setup.shape.lane_users().len()];
        let mut unanswered: Vec<Number> = Vec::new();
        let mut traffic = self.traffic;
        for lane in &lanes {
            sent[*lane as usize] = traffic.sent(*lane);
        }
        for user in &self.users {
            unanswered.extend(traffic.unacked(*user));
        }
        let mut outcome = Outcome {
            total: traffic.counters,
            latencies: std::mem::take(&mut traffic.record.window),
            broken: traffic.broken,
            told: traffic.told,
            errors: traffic.errors,
            unanswered,
            lanes: sent,
            ..Outcome::default()
        };
        if let Some(running) = self.running {
            let measured_us = running.until.at_us.saturating_sub(running.from.at_us);
            outcome.counters = running.until.counters.since(&running.from.counters);
            outcome.measured_us = measured_us;
            outcome.drain_us = running.drained_us.saturating_sub(running.until.at_us);
            outcome.backlog_peak = running.backlog_peak;
            let cpu_us = running.until.cpu_us.saturating_sub(running.from.cpu_us);
            outcome.generator.push(WorkerLoad { cpu_us, measured_us, lag: self.lag });
        }
        outcome
    }
}
