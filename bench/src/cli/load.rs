//! `campanile-bench group`, `private` and `community`: a shape of conversations and a load on it.

use bench::workload::Shape;
use clap::Args;
use serde_json::json;

use super::Failure;
use super::common::CommonArgs;
use super::groups::{GroupsArgs, check_senders};
use super::pace::PaceArgs;

#[derive(Args)]
pub(super) struct Group {
    #[command(flatten)]
    groups: GroupsArgs,
    #[command(flatten)]
    pace: PaceArgs,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Args)]
pub(super) struct Private {
    /// Pairs of users.
    #[arg(long, value_name = "COUNT", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pairs: u32,
    #[command(flatten)]
    pace: PaceArgs,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Args)]
pub(super) struct Community {
    /// Members of the one group.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    members: u32,
    /// Members that send.
    #[arg(long, value_name = "COUNT", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    senders: u32,
    #[command(flatten)]
    pace: PaceArgs,
    #[command(flatten)]
    common: CommonArgs,
}

impl Group {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let plan = self.common.plan("group", &self.groups.parameters(), self.groups.shape()?, &self.pace);
        self.common.run(&plan, None)
    }
}

impl Private {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let plan = self.common.plan("private", &[("pairs", json!(self.pairs))], Shape::pairs(self.pairs), &self.pace);
        self.common.run(&plan, None)
    }
}

impl Community {
    pub(super) fn run(self) -> Result<u8, Failure> {
        check_senders(self.senders, self.members)?;
        let parameters = [("members", json!(self.members)), ("senders", json!(self.senders))];
        let shape = Shape::groups(1, self.members, self.senders);
        let plan = self.common.plan("community", &parameters, shape, &self.pace);
        self.common.run(&plan, None)
    }
}
