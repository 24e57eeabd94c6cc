//! The load of a worker: begun, phase by phase, measured, ended.

use std::sync::atomic::Ordering;

use rustix::time::{ClockId, clock_gettime};

use super::super::interval::Counters;
use super::super::pacing::Pacing;
use super::super::record::histogram;
use super::super::traffic::Pace;
use super::super::{Load, Loop, Outcome, Phase, Second, WorkerLoad};
use super::Worker;
use crate::protocol::{Ask, Number, Protocol};

/// Users that are tried for a request before it is given up: some have no connection, or nothing to read.
const TRIES: u64 = 8;

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

/// When the things of a phase are due.
#[derive(Debug, Clone, Copy, Default)]
struct Paces {
    sends: Option<Pacing>,
    reads: Option<Pacing>,
    history: Option<Pacing>,
    relogins: Option<Pacing>,
    relogins_from: u32,
}

impl Paces {
    fn next_us(&self) -> Option<u64> {
        let all = [self.sends, self.reads, self.history, self.relogins];
        all.into_iter().flatten().map(|pacing| pacing.next_us()).min()
    }
}

pub(super) struct Running {
    load: Load,
    stage: Stage,
    begin_us: u64,
    from_us: u64,
    until_us: u64,
    lanes: Vec<u32>,
    /// Phases that have begun.
    begun: usize,
    paces: Paces,
    logins: Option<Pacing>,
    /// Those who log in during the load, the last one first.
    late: Vec<u32>,
    from: Snapshot,
    until: Snapshot,
    second: Snapshot,
    next_second_us: u64,
    backlog_peak: u64,
    drained_us: u64,
}

impl Running {
    /// When the next thing is due.
    pub(super) fn next_us(&self) -> Option<u64> {
        match self.stage {
            Stage::Waiting => Some(self.begin_us),
            Stage::WarmUp | Stage::Measuring => {
                let phase = self.load.phases.get(self.begun).map(|phase| self.phase_us(phase));
                let logins = self.logins.as_ref().filter(|_| !self.late.is_empty()).map(Pacing::next_us);
                [phase, self.paces.next_us(), logins].into_iter().flatten().min()
            }
            Stage::Draining | Stage::Ended => None,
        }
    }

    fn phase_us(&self, phase: &Phase) -> u64 {
        if self.begun == 0 { self.begin_us } else { self.from_us + phase.begin.as_micros() as u64 }
    }
}

/// CPU time of this thread.
fn cpu_us() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000
}

/// Well spread numbers from a counter (splitmix64, Steele et al. 2014).
fn spread(place: u64) -> u64 {
    let mut z = place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl<P: Protocol> Worker<P> {
    pub(super) fn begin(&mut self, load: Load, begin_us: u64) {
        let from_us = begin_us + load.warmup.as_micros() as u64;
        let until_us = from_us + load.measured.as_micros() as u64;
        self.traffic.record.measure(from_us, until_us);
        self.traffic.ack_log = load.log_acks.then(Vec::new);
        let late: Vec<u32> = self.users.iter().copied().filter(|user| *user >= self.setup.first).rev().collect();
        let all_late = self.setup.shape.users.saturating_sub(self.setup.first).max(1);
        let share = late.len() as f64 / f64::from(all_late);
        let logins = load.logins_per_s.filter(|_| !late.is_empty());
        self.running = Some(Running {
            stage: Stage::Waiting,
            begin_us,
            from_us,
            until_us,
            lanes: self.traffic.own_lanes(),
            begun: 0,
            paces: Paces::default(),
            logins: logins.map(|per_s| Pacing::new(from_us, per_s * share)),
            late,
            from: Snapshot::default(),
            until: Snapshot::default(),
            second: Snapshot::default(),
            next_second_us: begin_us + 1_000_000,
            backlog_peak: 0,
            drained_us: 0,
            load,
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
        }
        if running.stage == Stage::WarmUp && now_us >= running.from_us {
            running.stage = Stage::Measuring;
            running.from = self.snapshot(now_us);
            self.lag = histogram();
        }
        if matches!(running.stage, Stage::WarmUp | Stage::Measuring) {
            self.begin_phases(&mut running, now_us);
            let last_us = running.until_us - 1;
            self.hand_out(&mut running, now_us.min(last_us));
        }
        if running.stage == Stage::Measuring && now_us >= running.until_us {
            running.stage = Stage::Draining;
            running.until = self.snapshot(now_us);
            self.traffic.close_windows(&running.lanes);
        }
        if running.stage == Stage::Draining {
            let late = now_us >= running.until_us + running.load.drain.as_micros() as u64;
            if late || (self.traffic.outstanding() == 0 && self.traffic.backlog() == 0 && self.asked.is_empty()) {
                running.stage = Stage::Ended;
                running.drained_us = now_us;
                self.traffic.settle();
                self.ends.shared.ended.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.running = Some(running);
    }

    /// Phases whose time has come.
    fn begin_phases(&mut self, running: &mut Running, now_us: u64) {
        while let Some(phase) = running.load.phases.get(running.begun).cloned() {
            let begin_us = running.phase_us(&phase);
            if now_us < begin_us {
                return;
            }
            // What is due until then belongs to the phase before.
            self.hand_out(running, begin_us.saturating_sub(1));
            running.begun += 1;
            running.paces = self.paces(running, &phase, begin_us);
            let pace = match phase.pace {
                Some(Loop::Closed { window }) => Pace::Window(window),
                // A phase without sends still lets out what waits.
                Some(Loop::Open { .. }) | None => Pace::Open,
            };
            self.traffic.open_lanes(&running.lanes, pace);
            self.traffic.effects.lanes.extend(&running.lanes);
            if phase.cut > 0.0 {
                self.cut(phase.cut);
            }
        }
    }

    /// This worker's share of a phase.
    fn paces(&self, running: &Running, phase: &Phase, begin_us: u64) -> Paces {
        let all_lanes = self.setup.shape.lane_users().len().max(1);
        let of_lanes = running.lanes.len() as f64 / all_lanes as f64;
        let of_users = self.users.len() as f64 / f64::from(self.setup.shape.users.max(1));
        let pacing = |per_s: f64| (per_s > 0.0).then(|| Pacing::new(begin_us, per_s));
        let sends = match phase.pace {
            Some(Loop::Open { per_second }) => pacing(per_second * of_lanes),
            Some(Loop::Closed { .. }) | None => None,
        };
        Paces {
            sends,
            reads: pacing(phase.reads_per_s * of_users),
            history: pacing(phase.history_per_s * of_users),
            relogins: pacing(phase.relogins_per_s * of_users),
            relogins_from: phase.relogins_from,
        }
    }

    /// Everything that is due by now.
    fn hand_out(&mut self, running: &mut Running, now_us: u64) {
        let Running { paces, lanes, .. } = running;
        if let Some(pacing) = &mut paces.sends {
            while let Some((place, due_us)) = pacing.due(now_us) {
                self.traffic.due(lanes[place as usize % lanes.len()], due_us);
            }
        }
        while let Some((place, due_us)) = paces.reads.as_mut().and_then(|pacing| pacing.due(now_us)) {
            self.ask_somebody(place, due_us, |seen| match place % 4 {
                0 => Some(Ask::Conversations),
                _ => seen.map(|(group, seq)| Ask::Read { group, seq }),
            });
        }
        while let Some((place, due_us)) = paces.history.as_mut().and_then(|pacing| pacing.due(now_us)) {
            self.ask_somebody(place, due_us, |seen| seen.map(|(group, _)| Ask::History { group }));
        }
        while let Some((place, due_us)) = paces.relogins.as_mut().and_then(|pacing| pacing.due(now_us)) {
            let among = &self.users[self.users.partition_point(|user| *user < paces.relogins_from)..];
            if let Some(user) = among.get(spread(place) as usize % among.len().max(1)) {
                self.log_in_again(*user, due_us);
            }
        }
    }

    fn ask_somebody(&mut self, place: u64, due_us: u64, what: impl Fn(Option<(u32, u64)>) -> Option<Ask>) {
        for attempt in 0..TRIES {
            let chosen = spread(place * TRIES + attempt);
            let user = self.users[(chosen % self.users.len() as u64) as usize];
            let asked = what(self.traffic.seen(user, chosen >> 32)).is_some_and(|ask| self.ask(user, ask, due_us));
            if asked {
                return;
            }
        }
        self.traffic.error("nobody to ask".to_owned());
    }

    /// Who logs in now, and since when that is due.
    pub(super) fn due_logins(&mut self) -> Option<(u32, u64)> {
        let now_us = self.clock.now_us();
        let running = self.running.as_mut().filter(|running| running.stage == Stage::Measuring)?;
        if running.late.is_empty() {
            return None;
        }
        let (_, due_us) = running.logins.as_mut()?.due(now_us)?;
        Some((running.late.pop()?, due_us))
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
        let mut traffic = self.traffic;
        let mut lanes = vec![0; self.setup.shape.lane_users().len()];
        for lane in traffic.own_lanes() {
            lanes[lane as usize] = traffic.sent(lane);
        }
        let mut unanswered: Vec<Number> = Vec::new();
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
            lanes,
            acks: traffic.ack_log.unwrap_or_default(),
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
