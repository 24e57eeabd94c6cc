//! Removing log records that are needed no more: they no longer belong to Raft, and no message is read from them.

use crate::disk::Write;
use crate::error::StorageError;
use crate::key;
use crate::limits::COLLECT_RECORDS;
use crate::log::LogStore;

/// What one step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collected {
    pub removed: usize,
    /// Where to go on; none at the end.
    pub next: Option<u64>,
}

impl LogStore {
    /// Index of the first record that is stored, purged or not.
    pub fn first_stored(&self) -> Result<Option<u64>, StorageError> {
        let first = self.0.shared.disk.first_key(key::log_range(self.0.shard, 0..u64::MAX))?;
        Ok(first.and_then(|key| key::log_index(&key)))
    }

    /// Removes the records from `from` up to `through` that are purged and that `keep` does not name, looking at a bounded
    /// number of them. The caller has made durable the state by which it judges: after a crash nothing may be looked for
    /// that is removed. Reads keys of storage: for the blocking pool.
    pub fn collect(&self, from: u64, through: u64, keep: impl Fn(u64) -> bool) -> Result<Collected, StorageError> {
        let log = &self.0;
        let Some(purged) = log.bounds().purged else { return Ok(Collected { removed: 0, next: None }) };
        let range = key::log_range(log.shard, from..through.min(purged.index).saturating_add(1));
        if range.start >= range.end {
            return Ok(Collected { removed: 0, next: None });
        }
        let keys = log.shared.disk.keys(range, COLLECT_RECORDS)?;
        let next = (keys.len() == COLLECT_RECORDS).then(|| keys.last().and_then(|key| key::log_index(key))).flatten();
        let dead = |key: &Vec<u8>| key::log_index(key).is_some_and(|index| !keep(index));
        let removes: Vec<Write> = keys.into_iter().filter(dead).map(Write::remove).collect();
        let removed = removes.len();
        if removed > 0 {
            log.shared.write(removes)?;
        }
        Ok(Collected { removed, next: next.map(|last| last + 1) })
    }
}
