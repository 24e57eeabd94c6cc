//! What nodes do in the background so that neither log nor disk grows with everything that was ever said: how often, and
//! how gently. Each of the three has its file: [`crate::retention`] deletes messages, [`crate::purge`] lets go of the log,
//! [`crate::collect`] removes log records that nothing is read from any more.

use std::time::Duration;

/// Pause between two pieces of background work: the main path comes first.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

/// How often the background work of a node comes round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Housekeeping {
    /// Each shard's conversations are looked through for what is to be deleted once in this time.
    pub sweep_every: Duration,
    /// Each shard's log is let go of once in this time.
    pub purge_every: Duration,
    /// Each shard's records that nothing is read from any more are removed once in this time.
    pub collect_every: Duration,
    /// Log entries of a shard that are kept for a member that is away. One that lacks more gets a copy of the state.
    pub log_keep_entries: u64,
}

impl Default for Housekeeping {
    fn default() -> Self {
        Self {
            sweep_every: Duration::from_secs(60),
            purge_every: Duration::from_secs(30),
            collect_every: Duration::from_secs(900),
            log_keep_entries: 100_000,
        }
    }
}
