//! Groups that share nobody: the shape that several commands load.

use bench::workload::Shape;
use clap::Args;
use serde_json::{Value, json};

#[derive(Args)]
pub(super) struct GroupsArgs {
    /// Groups; no user is in two of them.
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    groups: u32,
    /// Members of each group.
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    members: u32,
    /// Members of each group that send.
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    senders: u32,
}

impl GroupsArgs {
    pub(super) fn shape(&self) -> anyhow::Result<Shape> {
        check_senders(self.senders, self.members)?;
        Ok(Shape::groups(self.groups, self.members, self.senders))
    }

    pub(super) fn parameters(&self) -> [(&'static str, Value); 3] {
        [("groups", json!(self.groups)), ("members", json!(self.members)), ("senders", json!(self.senders))]
    }
}

pub(super) fn check_senders(senders: u32, members: u32) -> anyhow::Result<()> {
    anyhow::ensure!(senders <= members, "--senders: {members} members are not {senders} senders");
    Ok(())
}
