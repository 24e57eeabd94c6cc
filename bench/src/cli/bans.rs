//! `campanile-bench bans`.

use bench::barrier;
use bench::spawn::Spawned;
use bench::target::Target;
use clap::Args;

use super::cluster::ClusterArgs;
use super::{Failure, print};

#[derive(Args)]
pub(super) struct Bans {
    /// How often the user is banned and let in again.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    #[command(flatten)]
    cluster: ClusterArgs,
    #[arg(long)]
    json: bool,
}

impl Bans {
    pub(super) fn run(&self) -> Result<u8, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(anyhow::Error::from)?;
        let bans = runtime.block_on(self.bans()).map_err(|error| Failure { code: 3, error })?;
        if self.json {
            print(&serde_json::json!(bans));
        } else {
            let barrier::Bans { rounds, sent, received, leaked, early } = bans;
            print(&format!(
                "{rounds} bans, {sent} messages sent, {received} received by the banned user, {leaked} after a ban, \
                 {early} from before an invitation"
            ));
        }
        Ok(if bans.leaked + bans.early > 0 { 4 } else { 0 })
    }

    async fn bans(&self) -> anyhow::Result<barrier::Bans> {
        match self.cluster.spawn(true) {
            Some(options) => {
                let cluster = Spawned::start(options).await?;
                let bans = barrier::run(&Target::new(cluster.target()?)?, self.rounds).await;
                cluster.stop(false).await;
                bans
            }
            None => barrier::run(&Target::new(self.cluster.target()?)?, self.rounds).await,
        }
    }
}
