//! `campanile-bench soak`.

use bench::progress::Progress;
use bench::soak::{self, Flat, SoakOptions};
use clap::Args;

use super::{Failure, print};

/// A cluster of the run's own that keeps the newest messages only.
#[derive(Args)]
pub(super) struct Soak {
    /// Nodes of the cluster.
    #[arg(long, value_name = "NODES", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=7))]
    spawn: u16,
    /// Shards of the cluster.
    #[arg(long, default_value_t = chat::limits::SHARDS_DEFAULT, value_parser = clap::value_parser!(u16).range(1..=1024))]
    shards: u16,
    /// Groups, each with one who sends and one who listens.
    #[arg(long, value_name = "COUNT", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    groups: u16,
    /// Messages altogether.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,
    /// Events that each group keeps.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    keep: u64,
    /// Unanswered sends of each sender.
    #[arg(long, value_name = "COUNT", default_value_t = 32, value_parser = clap::value_parser!(u8).range(1..=64))]
    window: u8,
    /// Bytes of a message's text.
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=16_384))]
    text: u16,
    /// Minutes for which ids are remembered after their message was deleted (7 days unless an operator shortens it).
    #[arg(long, value_name = "MINUTES", default_value_t = 5, value_parser = clap::value_parser!(u64).range(5..=10_080))]
    ids: u64,
    /// Looks at memory and disk.
    #[arg(long, value_name = "COUNT", default_value_t = 60, value_parser = clap::value_parser!(u64).range(3..=1_000))]
    samples: u64,
    /// Print the samples as JSON.
    #[arg(long)]
    json: bool,
}

impl Soak {
    pub(super) fn run(&self) -> Result<u8, Failure> {
        let options = SoakOptions {
            nodes: self.spawn,
            shards: self.shards,
            groups: self.groups,
            messages: self.messages,
            keep: self.keep,
            window: usize::from(self.window),
            text_bytes: usize::from(self.text),
            id_window_ms: self.ids * 60_000,
            samples: self.samples,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(anyhow::Error::from)?;
        let samples = runtime.block_on(soak::run(&options, Progress::Lines));
        let samples = samples.map_err(|error| Failure { code: 3, error })?;
        let flat = Flat::of(&samples, self.keep * u64::from(self.groups));
        if self.json {
            print(&serde_json::json!({ "samples": samples, "flat": flat }));
        } else {
            samples.iter().for_each(print);
        }
        let grew = |what: &str| print(&format!("{what} grew with what was said"));
        match flat {
            Some(Flat { memory: true, disk: true, kept: true }) => Ok(0),
            Some(Flat { memory, disk, kept }) => {
                [(memory, "memory"), (disk, "disk"), (kept, "what is kept")]
                    .iter()
                    .filter(|(flat, _)| !flat)
                    .for_each(|(_, what)| grew(what));
                Ok(1)
            }
            None => Ok(1),
        }
    }
}
