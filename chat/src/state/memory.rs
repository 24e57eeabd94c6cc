//! A shard's state in memory: what tests, models and simulations apply entries to.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Bound;

use bytes::Bytes;

use super::{Delta, View, apply};
use crate::command::EntryBatch;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryState {
    values: BTreeMap<Bytes, Bytes>,
}

impl MemoryState {
    /// Applies an entry and keeps what it writes.
    pub fn apply(&mut self, log_index: u64, batch: &EntryBatch) -> Delta {
        let Ok(delta) = apply(self, log_index, batch);
        self.write(delta.writes.clone());
        delta
    }

    pub fn write(&mut self, writes: impl IntoIterator<Item = (Bytes, Option<Bytes>)>) {
        for (key, value) in writes {
            match value {
                Some(value) => self.values.insert(key, value),
                None => self.values.remove(&key),
            };
        }
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

impl View for MemoryState {
    type Error = Infallible;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Infallible> {
        Ok(self.values.get(key).cloned())
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>, Infallible> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let found = self.values.range::<[u8], _>((start, Bound::Unbounded));
        let found = found.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
        Ok(found.map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}
