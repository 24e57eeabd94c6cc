//! A replica that keeps new values above its store and writes them down now and then, as `storage` does.

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;
use chat::command::EntryBatch;
use chat::state::memory::MemoryState;
use chat::state::{Delta, View, apply};

#[derive(Default)]
pub(crate) struct Cached {
    pub(crate) below: MemoryState,
    above: BTreeMap<Bytes, Option<Bytes>>,
}

impl Cached {
    pub(crate) fn apply(&mut self, log_index: u64, batch: &EntryBatch) -> Delta {
        let delta = apply(self, log_index, batch).unwrap();
        self.above.extend(delta.writes.clone());
        delta
    }

    pub(crate) fn checkpoint(&mut self) {
        self.below.write(std::mem::take(&mut self.above));
    }
}

impl View for Cached {
    type Error = Infallible;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Infallible> {
        self.above.get(key).map_or_else(|| self.below.get(key), |value| Ok(value.clone()))
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>, Infallible> {
        let mut all: BTreeMap<Bytes, Option<Bytes>> =
            self.below.scan(prefix, after, usize::MAX)?.into_iter().map(|(key, value)| (key, Some(value))).collect();
        let within = |key: &Bytes| key.starts_with(prefix) && after.is_none_or(|after| key.as_ref() > after);
        all.extend(self.above.iter().filter(|(key, _)| within(key)).map(|(key, value)| (key.clone(), value.clone())));
        Ok(all.into_iter().filter_map(|(key, value)| Some((key, value?))).take(limit).collect())
    }
}
