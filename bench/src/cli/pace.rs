//! How messages are paced and how long, and how large they are.

use std::time::Duration;

use bench::engine::{Load, Loop};
use clap::Args;

use super::args;

#[derive(Args)]
pub(super) struct PaceArgs {
    /// Closed loop: each sender has so many messages on their way; one is through when its sender has the ack and
    /// every member the message [default: 1, without --rate].
    #[arg(long, value_name = "COUNT", conflicts_with = "rate", value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub(super) window: Option<u32>,
    /// Open loop: so many messages a second over all senders, whatever becomes of them; latencies count from the moment
    /// at which a message was due.
    #[arg(long, value_name = "PER_SECOND", value_parser = args::rate)]
    pub(super) rate: Option<f64>,
    /// Bytes of a message's text.
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = args::payload)]
    pub(super) payload: usize,
    /// How long is measured.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = args::duration)]
    pub(super) duration: Duration,
    /// How long the load runs before it is measured.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = args::duration)]
    pub(super) warmup: Duration,
    /// How long what is on its way may take after the last send.
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = args::duration)]
    pub(super) drain: Duration,
}

impl PaceArgs {
    pub(super) fn pace(&self) -> Loop {
        match (self.rate, self.window) {
            (Some(per_second), _) => Loop::Open { per_second },
            (None, window) => Loop::Closed { window: window.unwrap_or(1) },
        }
    }

    pub(super) fn load(&self) -> Load {
        let pace = self.pace();
        Load::steady(Some(pace), self.warmup, self.duration, self.drain)
    }
}
