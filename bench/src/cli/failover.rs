//! `campanile-bench failover`: kills of leaders under a steady load.

use std::time::Duration;

use bench::run::failover::{leaders, rolling};
use clap::Args;
use serde_json::json;

use super::common::CommonArgs;
use super::groups::GroupsArgs;
use super::{Failure, args};
use bench::engine::{Load, Loop};

#[derive(Args)]
pub(super) struct Failover {
    /// Messages a second over all senders.
    #[arg(long, value_name = "PER_SECOND", default_value = "500", value_parser = args::rate)]
    rate: f64,
    /// Kills (SIGKILL), each of the node that leads most groups at that moment.
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    kills: u32,
    /// Time between two kills; a kill waits until the last victim is ready again.
    #[arg(long, value_name = "TIME", default_value = "8s", value_parser = args::duration)]
    every: Duration,
    /// Instead of kills: the nodes are stopped (SIGTERM) and started again, one after the other.
    #[arg(long)]
    rolling: bool,
    /// How long a killed or stopped node stays away.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = args::duration)]
    restart_after: Duration,
    #[command(flatten)]
    groups: GroupsArgs,
    /// Bytes of a message's text.
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = args::payload)]
    payload: usize,
    #[command(flatten)]
    common: CommonArgs,
}

impl Failover {
    pub(super) fn run(self) -> Result<u8, Failure> {
        if self.common.system.is_none() && self.common.cluster.spawn.is_none_or(|nodes| nodes < 3) {
            return Err(anyhow::anyhow!("failover kills nodes: it needs --spawn with at least 3 of them").into());
        }
        let parameters = [
            ("rate", json!(self.rate)),
            ("kills", json!(self.kills)),
            ("rolling", json!(self.rolling)),
            ("every_s", json!(self.every.as_secs_f64())),
            ("restart_after_s", json!(self.restart_after.as_secs_f64())),
        ];
        let parameters = parameters.into_iter().chain(self.groups.parameters());
        let pace = Loop::Open { per_second: self.rate };
        let load =
            Load::steady(Some(pace), Duration::from_secs(2), self.every * (self.kills + 1), Duration::from_secs(60));
        let load = Load { log_acks: true, ..load };
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value)).collect();
        let mut plan = self.common.plan_of("failover", parameters, self.groups.shape()?, load, self.payload);
        // Whoever lost a connection does not queue.
        plan.logins = plan.shape.users as usize;
        let kills = match self.common.cluster.spawn {
            Some(nodes) if self.rolling => rolling(u64::from(nodes), self.kills, self.every, self.restart_after),
            _ => leaders(self.kills, self.every, self.restart_after),
        };
        self.common.run(&plan, Some(&kills))
    }
}
