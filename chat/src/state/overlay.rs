//! The working set of one entry: the view below, the writes of the entry's earlier commands on top.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::record::{Dedupe, DedupePage, IndexPage, Record, Slot};
use super::{Delta, View};
use crate::command::Outcome;
use crate::errors::ErrorCode;
use crate::event::Committed;
use crate::ids::ClientMsgId;

/// Why a command went no further. Commands check first and write after, so that a rejected one leaves nothing behind.
#[derive(Debug)]
pub(super) enum Stop<E> {
    Rejected(ErrorCode),
    /// The storage below failed: the whole entry is abandoned.
    View(E),
}

/// What a command's handler gives.
pub(super) type Step<T, V> = Result<T, Stop<<V as View>::Error>>;

/// Refuses the command unless `condition` holds.
pub(super) fn require<E>(condition: bool, otherwise: ErrorCode) -> Result<(), Stop<E>> {
    if condition { Ok(()) } else { Err(Stop::Rejected(otherwise)) }
}

/// A page of ids, decoded.
#[derive(Default)]
struct Ids {
    page: DedupePage,
    changed: bool,
}

pub(super) struct Overlay<'v, V> {
    view: &'v V,
    writes: BTreeMap<Bytes, Option<Bytes>>,
    /// Index pages in their decoded form: hundreds of messages of one entry append to the same one.
    pages: BTreeMap<Bytes, IndexPage>,
    /// Pages of ids that were looked at, for the same reason.
    ids: BTreeMap<Bytes, Ids>,
    events: Vec<Committed>,
    pub(super) time_ms: u64,
    pub(super) log_index: u64,
    /// Of the command at hand within the entry.
    pub(super) position: u32,
}

impl<'v, V: View> Overlay<'v, V> {
    pub(super) fn new(view: &'v V, log_index: u64, time_ms: u64) -> Self {
        let (writes, pages, ids, events) = Default::default();
        Self { view, writes, pages, ids, events, time_ms, log_index, position: 0 }
    }

    pub(super) fn load<T: Record>(&self, key: &[u8]) -> Step<Option<T>, V> {
        match self.writes.get(key) {
            Some(written) => Ok(written.as_deref().map(T::from_bytes)),
            None => Ok(self.view.get(key).map_err(Stop::View)?.as_deref().map(T::from_bytes)),
        }
    }

    pub(super) fn store<T: Record>(&mut self, key: Bytes, record: &T) {
        self.writes.insert(key, Some(record.to_bytes()));
    }

    pub(super) fn remove(&mut self, key: Bytes) {
        self.writes.insert(key, None);
    }

    /// The index page under `key`, to append to; a new one if there is none.
    pub(super) fn page(&mut self, key: Bytes) -> Step<&mut IndexPage, V> {
        if !self.pages.contains_key(&key) {
            let page = self.load(&key)?.unwrap_or_default();
            self.pages.insert(key.clone(), page);
        }
        Ok(self.pages.entry(key).or_default())
    }

    /// A slot of the index page under `key`, to look at.
    pub(super) fn slot(&self, key: &[u8], place: usize) -> Step<Option<Slot>, V> {
        match self.pages.get(key) {
            Some(page) => Ok(page.slots.get(place).copied()),
            None => Ok(self.load::<IndexPage>(key)?.and_then(|page| page.slots.get(place).copied())),
        }
    }

    /// The page of ids under `key`, to look at; an empty one if there is none.
    pub(super) fn ids(&mut self, key: &Bytes) -> Step<&DedupePage, V> {
        if !self.ids.contains_key(key) {
            let page = self.load(key)?.unwrap_or_default();
            self.ids.insert(key.clone(), Ids { page, changed: false });
        }
        Ok(&self.ids.entry(key.clone()).or_default().page)
    }

    /// Adds an id to the page under `key`.
    pub(super) fn push_id(&mut self, key: Bytes, id: ClientMsgId, used: &Dedupe) {
        let ids = self.ids.entry(key).or_default();
        ids.page.push(id, used);
        ids.changed = true;
    }

    /// Removes the index page under `key`, whatever this entry did to it.
    pub(super) fn remove_page(&mut self, key: Bytes) {
        self.pages.remove(&key);
        self.remove(key);
    }

    /// Removes the page of ids under `key`, whatever this entry did to it.
    pub(super) fn remove_ids(&mut self, key: Bytes) {
        self.ids.remove(&key);
        self.remove(key);
    }

    /// The newest seq in the page of ids under `key`, with what this entry added.
    pub(super) fn newest_id(&mut self, key: &Bytes) -> Step<u64, V> {
        Ok(self.ids(key)?.newest_seq())
    }

    /// As [`View::scan`], with this entry's writes.
    pub(super) fn scan(&self, prefix: &[u8], limit: usize) -> Step<Vec<(Bytes, Bytes)>, V> {
        View::scan(self, prefix, None, limit).map_err(Stop::View)
    }

    pub(super) fn emit(&mut self, event: Committed) {
        self.events.push(event);
    }

    pub(super) fn finish(self, outcomes: Vec<Outcome>) -> Delta {
        let mut writes = self.writes;
        writes.extend(self.pages.into_iter().map(|(key, page)| (key, Some(page.to_bytes()))));
        let ids = self.ids.into_iter().filter(|(_, ids)| ids.changed);
        writes.extend(ids.map(|(key, ids)| (key, Some(ids.page.to_bytes()))));
        Delta { writes, events: self.events, outcomes }
    }
}

/// What the view shows, with this entry's writes; not with pages that are still open.
impl<V: View> View for Overlay<'_, V> {
    type Error = V::Error;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, V::Error> {
        self.writes.get(key).map_or_else(|| self.view.get(key), |written| Ok(written.clone()))
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>, V::Error> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let written = self.writes.range::<[u8], _>((start, Bound::Unbounded));
        let written: Vec<_> = written.take_while(|(key, _)| key.starts_with(prefix)).collect();
        let removed = written.iter().filter(|(_, value)| value.is_none()).count();
        // Asking for as many more as may turn out removed, the first `limit` of the rest are the right ones.
        let below = self.view.scan(prefix, after, limit.saturating_add(removed))?;
        let mut merged: BTreeMap<Bytes, Option<Bytes>> = below.into_iter().map(|(k, v)| (k, Some(v))).collect();
        merged.extend(written.into_iter().map(|(key, value)| (key.clone(), value.clone())));
        Ok(merged.into_iter().filter_map(|(key, value)| value.map(|value| (key, value))).take(limit).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::memory::MemoryState;
    use crate::state::record::Account;

    fn account(created_ms: u64) -> Account {
        Account { created_ms, password: None, revoked_ms: 0 }
    }

    fn below(keys: &[&'static [u8]]) -> MemoryState {
        let mut state = MemoryState::default();
        state.write(keys.iter().map(|key| (Bytes::from_static(key), Some(account(1).to_bytes()))));
        state
    }

    #[test]
    fn a_scan_sees_this_entrys_writes_and_removals() {
        let state = below(&[b"a1", b"a2", b"a3", b"a4", b"b1"]);
        let mut overlay = Overlay::new(&state, 1, 0);
        overlay.remove(Bytes::from_static(b"a1"));
        overlay.remove(Bytes::from_static(b"a3"));
        overlay.store(Bytes::from_static(b"a0"), &account(2));
        let keys = |limit| {
            let pairs = Overlay::scan(&overlay, b"a", limit).unwrap();
            pairs.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        assert_eq!(keys(9), [b"a0".as_slice(), b"a2", b"a4"]);
        assert_eq!(keys(2), [b"a0".as_slice(), b"a2"]);
        assert_eq!(overlay.load::<Account>(b"a0").unwrap(), Some(account(2)));
        assert_eq!(overlay.load::<Account>(b"a1").unwrap(), None);
    }

    #[test]
    fn a_key_is_written_once_however_often_it_was_stored() {
        let state = below(&[b"a1"]);
        let mut overlay = Overlay::new(&state, 1, 0);
        overlay.store(Bytes::from_static(b"a1"), &account(2));
        overlay.store(Bytes::from_static(b"a1"), &account(3));
        let delta = overlay.finish(Vec::new());
        assert_eq!(delta.writes.len(), 1);
        assert_eq!(delta.writes[b"a1".as_slice()].as_deref().map(Account::from_bytes), Some(account(3)));
    }
}
