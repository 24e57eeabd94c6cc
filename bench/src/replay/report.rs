//! What a run came to: numbers, and every promise that was broken.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use campanile_client::Stats;
use serde::Serialize;

use crate::meters::Latency;
use crate::replay::Run;

/// Broken promises that are spelled out; the rest is only counted.
const SPELLED_OUT: usize = 50;

/// Broken promises.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Violations {
    pub found: Vec<String>,
    /// Further ones that are not spelled out.
    pub more: u64,
}

impl Violations {
    pub fn add(&mut self, what: String) {
        if self.found.len() < SPELLED_OUT {
            self.found.push(what);
        } else {
            self.more += 1;
        }
    }

    /// `what` happened `count` times; nothing is added for none.
    pub fn count(&mut self, what: &str, count: u64) {
        if count > 0 {
            self.add(format!("{count} {what}"));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }
}

/// The node killed on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KillReport {
    pub node: u64,
    pub busiest_shard: u16,
    pub after_acks: u64,
    pub moved_shards: usize,
    /// The longest time without an ack on any shard that the node led, or overall.
    pub longest_pause_ms: u64,
    /// The longest time without any ack at all.
    pub pause_ms: u64,
    pub moved_shard_pauses_ms: BTreeMap<u16, u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub users: usize,
    pub groups: usize,
    pub memberships: usize,
    pub messages: usize,
    pub acked: u64,
    /// Acks of an attempt that found an earlier one applied; the earlier one may have been the client's or the node's own.
    pub duplicate_acks: u64,
    /// Sends given up that may exist, and sends that do not.
    pub unknown: u64,
    pub not_sent: u64,
    /// Why sends failed, and how many did so.
    pub failures: BTreeMap<String, u64>,
    pub deliveries: u64,
    pub duration_s: f64,
    pub sends_per_s: f64,
    pub deliveries_per_s: f64,
    pub ack: Latency,
    pub delivery: Latency,
    pub reconnects: u64,
    pub retries: u64,
    pub backfills: u64,
    pub kill: Option<KillReport>,
    pub violations: Violations,
}

impl Report {
    pub(crate) fn of(
        run: &Run,
        duration: Duration,
        stats: Stats,
        kill: Option<KillReport>,
        violations: Violations,
    ) -> Self {
        let failed = run.failed();
        let mut failures = BTreeMap::new();
        for send in &failed {
            *failures.entry(send.kind.clone()).or_default() += 1;
        }
        let unknown = failed.iter().filter(|failed| failed.unknown).count() as u64;
        let acked = run.tallies.acked.load(Ordering::Relaxed);
        let deliveries = run.tallies.deliveries.load(Ordering::Relaxed);
        let duration_s = duration.as_secs_f64();
        Self {
            users: run.plan.users.len(),
            groups: run.plan.groups.len(),
            memberships: run.plan.memberships(),
            messages: run.plan.messages.len(),
            acked,
            duplicate_acks: run.tallies.duplicate_acks.load(Ordering::Relaxed),
            unknown,
            not_sent: failed.len() as u64 - unknown,
            failures,
            deliveries,
            duration_s,
            sends_per_s: acked as f64 / duration_s,
            deliveries_per_s: deliveries as f64 / run.delivering_s().max(duration_s),
            ack: run.meters.ack_latency(),
            delivery: run.meters.delivery_latency(),
            reconnects: run.tallies.disconnects.load(Ordering::Relaxed),
            retries: stats.retries,
            backfills: stats.backfills,
            kill,
            violations,
        }
    }

    /// Every send acked, and no promise broken.
    pub fn passed(&self) -> bool {
        self.violations.is_empty() && self.acked == self.messages as u64
    }

    /// 0 passed, 3 the cluster did not take every send, 4 a promise is broken.
    pub fn exit_code(&self) -> u8 {
        match (self.violations.is_empty(), self.passed()) {
            (false, _) => 4,
            (true, false) => 3,
            (true, true) => 0,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { users, groups, memberships, messages, .. } = self;
        writeln!(
            f,
            "replayed      {messages} messages of {users} users in {groups} groups ({memberships} memberships)"
        )?;
        writeln!(f, "took          {:.1} s", self.duration_s)?;
        writeln!(
            f,
            "acked         {} ({:.0} sends/s), {} of them applied by an earlier attempt",
            self.acked, self.sends_per_s, self.duplicate_acks
        )?;
        writeln!(f, "not acked     {} unknown, {} not sent", self.unknown, self.not_sent)?;
        for (why, count) in &self.failures {
            writeln!(f, "              {count} x {why}")?;
        }
        writeln!(f, "delivered     {} ({:.0} deliveries/s)", self.deliveries, self.deliveries_per_s)?;
        writeln!(f, "latency ms         p50       p99     p99.9       max")?;
        for (name, latency) in [("ack", &self.ack), ("delivery", &self.delivery)] {
            let Latency { p50_ms, p99_ms, p999_ms, max_ms, .. } = latency;
            writeln!(f, "  {name:<10} {p50_ms:>9.1} {p99_ms:>9.1} {p999_ms:>9.1} {max_ms:>9.1}")?;
        }
        writeln!(f, "connections   {} lost and made again, {} requests sent again", self.reconnects, self.retries)?;
        if let Some(kill) = &self.kill {
            let KillReport { node, after_acks, moved_shards, pause_ms, longest_pause_ms, .. } = kill;
            writeln!(
                f,
                "killed        node {node} after {after_acks} acks; the leaders of {moved_shards} shards moved"
            )?;
            writeln!(
                f,
                "              writes paused {pause_ms} ms overall, {longest_pause_ms} ms on the slowest shard"
            )?;
        }
        for violation in &self.violations.found {
            writeln!(f, "BROKEN        {violation}")?;
        }
        if self.violations.more > 0 {
            writeln!(f, "BROKEN        and {} more", self.violations.more)?;
        }
        match self.passed() {
            true => write!(f, "passed        0 lost, 0 duplicated, 0 out of order"),
            false if self.violations.is_empty() => write!(f, "FAILED        not every send was acked"),
            false => write!(f, "FAILED        promises are broken"),
        }
    }
}
