//! `campanile-bench connect` and `reconnect`: connections themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use bench::engine::{Load, Loop, Phase};
use bench::workload::{GroupShape, Shape};
use clap::Args;
use serde_json::json;

use super::common::CommonArgs;
use super::pace::PaceArgs;
use super::{Failure, args};

/// Members of a group of the probe.
const PROBE_MEMBERS: u32 = 10;

#[derive(Args)]
pub(super) struct Connect {
    /// Connections that are idle, or log in as a storm.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// Everybody connects, and nothing happens for so long: memory for each connection.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = args::duration, conflicts_with = "login_rate")]
    idle: Duration,
    /// Logins a second, beside a probe of users who are connected already and send messages.
    #[arg(long, value_name = "PER_SECOND", value_parser = args::rate)]
    login_rate: Option<f64>,
    /// The logins are of users who close their connection and open it again, known to the servers already; otherwise each
    /// is of a new user.
    #[arg(long, requires = "login_rate")]
    returning: bool,
    /// Users of the probe, in groups of ten.
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    probe: u32,
    /// Messages a second of the probe.
    #[arg(long, value_name = "PER_SECOND", default_value = "100", value_parser = args::rate)]
    probe_rate: f64,
    /// Bytes of a message's text.
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = args::payload)]
    payload: usize,
    #[command(flatten)]
    common: CommonArgs,
}

impl Connect {
    pub(super) fn run(self) -> Result<u8, Failure> {
        match self.login_rate {
            Some(rate) => self.storm(rate),
            None => self.idle(),
        }
    }

    fn idle(&self) -> Result<u8, Failure> {
        let load = Load::steady(None, Duration::ZERO, self.idle, Duration::from_secs(1));
        let parameters = BTreeMap::from([
            ("connections".to_owned(), json!(self.connections)),
            ("idle_s".to_owned(), json!(self.idle.as_secs_f64())),
        ]);
        let mut plan = self.common.plan_of("connect", parameters, Shape::idle(self.connections), load, self.payload);
        plan.accounts_first = self.common.system.is_none();
        self.common.run(&plan, None)
    }

    /// The probe's groups come first; the storm's users have none.
    fn storm(&self, rate: f64) -> Result<u8, Failure> {
        let groups = self.probe / PROBE_MEMBERS;
        let mut shape = Shape::groups(groups, PROBE_MEMBERS, 1);
        let first = shape.users;
        shape.users += self.connections;
        let storm = Duration::from_secs_f64(f64::from(self.connections) / rate);
        let probe = Loop::Open { per_second: self.probe_rate };
        let load = Load::steady(Some(probe), Duration::from_secs(2), storm, Duration::from_secs(15));
        let mut load = Load { logins_per_s: (!self.returning).then_some(rate), ..load };
        if self.returning {
            for phase in &mut load.phases {
                (phase.relogins_per_s, phase.relogins_from) = (rate, first);
            }
        }
        let parameters = BTreeMap::from([
            ("connections".to_owned(), json!(self.connections)),
            ("login_rate".to_owned(), json!(rate)),
            ("returning".to_owned(), json!(self.returning)),
            ("probe".to_owned(), json!(first)),
            ("probe_rate".to_owned(), json!(self.probe_rate)),
        ]);
        let mut plan = self.common.plan_of("connect", parameters, shape, load, self.payload);
        if !self.returning {
            plan.first = first;
        }
        plan.accounts_first = self.common.system.is_none();
        self.common.run(&plan, None)
    }
}

#[derive(Args)]
pub(super) struct Reconnect {
    /// Groups; no user is in two of them.
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    groups: u32,
    /// Members of each group.
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    members: u32,
    /// The share of all connections that is cut at once.
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = share)]
    cut: f64,
    /// How often it is cut, evenly over the measured time.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    times: u32,
    #[command(flatten)]
    pace: PaceArgs,
    #[command(flatten)]
    common: CommonArgs,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share: &f64| *share > 0.0 && *share <= 1.0);
    share.ok_or_else(|| "expected a share from 0 to 1, such as 0.5".to_owned())
}

impl Reconnect {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let shape = Shape::groups(self.groups, self.members, 1);
        let parameters = [
            ("groups", json!(self.groups)),
            ("members", json!(self.members)),
            ("cut", json!(self.cut)),
            ("times", json!(self.times)),
        ];
        let mut plan = self.common.plan("reconnect", &parameters, shape, &self.pace);
        let phase = Phase::of(Some(self.pace.pace()));
        plan.load.phases = (0..=self.times)
            .map(|number| Phase {
                begin: self.pace.duration * number / (self.times + 1),
                cut: if number == 0 { 0.0 } else { self.cut },
                ..phase.clone()
            })
            .collect();
        plan.phase_names = (0..=self.times).map(|number| if number == 0 { "calm" } else { "cut" }.to_owned()).collect();
        // A herd does not queue.
        plan.logins = plan.shape.users as usize;
        self.common.run(&plan, None)
    }
}

#[derive(Args)]
pub(super) struct Mixed {
    /// Users, in groups of many sizes and in private pairs.
    #[arg(long, value_name = "COUNT", default_value_t = 500, value_parser = clap::value_parser!(u32).range(20..=100_000))]
    users: u32,
    /// Reads a second: moved positions, and lists of conversations.
    #[arg(long, value_name = "PER_SECOND", default_value = "200", value_parser = args::rate)]
    reads: f64,
    /// Pages of history a second.
    #[arg(long, value_name = "PER_SECOND", default_value = "20", value_parser = args::rate)]
    history: f64,
    /// Users a second who close the app and open it again.
    #[arg(long, value_name = "PER_SECOND", default_value = "10", value_parser = args::rate)]
    logins_per_s: f64,
    #[command(flatten)]
    pace: PaceArgs,
    #[command(flatten)]
    common: CommonArgs,
}

impl Mixed {
    pub(super) fn run(self) -> Result<u8, Failure> {
        if self.common.system.is_some() {
            return Err(anyhow::anyhow!("mixed: the other systems have no reads, positions and lists like ours").into());
        }
        let parameters = [
            ("users", json!(self.users)),
            ("reads", json!(self.reads)),
            ("history", json!(self.history)),
            ("logins_per_s", json!(self.logins_per_s)),
        ];
        let mut plan = self.common.plan("mixed", &parameters, everyday(self.users), &self.pace);
        for phase in &mut plan.load.phases {
            phase.reads_per_s = self.reads;
            phase.history_per_s = self.history;
            phase.relogins_per_s = self.logins_per_s;
        }
        self.common.run(&plan, None)
    }
}

/// Groups whose sizes halve as their number doubles, a third of the members of each sending; and everybody in a pair.
fn everyday(users: u32) -> Shape {
    let mut shape = Shape::pairs(users / 2);
    let mut size = (users / 4).max(3);
    let mut next = 0;
    while size >= 3 {
        let count = (users / 4 / size).max(1);
        for _ in 0..count {
            let members: Vec<u32> = (0..size).map(|place| (next + place) % shape.users).collect();
            next = (next + size) % shape.users;
            let senders = members.iter().copied().step_by(3).take(10).collect();
            shape.groups.push(GroupShape { members, senders, private: false });
        }
        size /= 2;
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_everyday_shape_has_groups_of_many_sizes() {
        let shape = everyday(200);
        assert_eq!(shape.users, 200);
        let sizes: Vec<usize> = shape.groups.iter().map(|group| group.members.len()).collect();
        assert!(sizes.contains(&2) && sizes.contains(&50) && sizes.contains(&3));
        for group in &shape.groups {
            let mut members = group.members.clone();
            members.sort_unstable();
            members.dedup();
            assert_eq!(members.len(), group.members.len(), "nobody twice");
            assert!(group.members.iter().all(|member| *member < 200));
        }
    }
}
