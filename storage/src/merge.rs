//! The state as it is seen: what was applied since the last checkpoint, over what is in sled.

use std::collections::BTreeMap;
use std::iter::Peekable;

use bytes::Bytes;

use crate::error::StorageError;

pub(crate) type Writes = BTreeMap<Bytes, Option<Bytes>>;
pub(crate) type StatePair = (Bytes, Bytes);

/// Pairs in key order: those of `newer`, its removals left out, and those of `older` that `newer` says nothing of.
pub(crate) struct Merge<I: Iterator<Item = Result<StatePair, StorageError>>> {
    newer: Peekable<std::collections::btree_map::IntoIter<Bytes, Option<Bytes>>>,
    older: Peekable<I>,
}

impl<I: Iterator<Item = Result<StatePair, StorageError>>> Merge<I> {
    pub(crate) fn new(newer: Writes, older: I) -> Self {
        Self { newer: newer.into_iter().peekable(), older: older.peekable() }
    }
}

impl<I: Iterator<Item = Result<StatePair, StorageError>>> Iterator for Merge<I> {
    type Item = Result<StatePair, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((key, _)) = self.newer.peek() else { return self.older.next() };
            match self.older.peek() {
                Some(Err(_)) => return self.older.next(),
                Some(Ok((older, _))) if older < key => return self.older.next(),
                Some(Ok((older, _))) if older == key => {
                    self.older.next();
                }
                Some(Ok(_)) | None => {}
            }
            if let Some((key, Some(value))) = self.newer.next() {
                return Some(Ok((key, value)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &'static str, value: &'static str) -> StatePair {
        (Bytes::from(key), Bytes::from(value))
    }

    #[test]
    fn newer_values_and_removals_win_and_order_is_kept() {
        let newer = [("a", Some("1")), ("c", None), ("d", Some("2")), ("z", None)];
        let newer = newer.map(|(key, value)| (Bytes::from(key), value.map(Bytes::from))).into();
        let older = [pair("b", "old"), pair("c", "old"), pair("d", "old"), pair("e", "old")];
        let merged: Vec<_> = Merge::new(newer, older.into_iter().map(Ok)).map(Result::unwrap).collect();
        assert_eq!(merged, [pair("a", "1"), pair("b", "old"), pair("d", "2"), pair("e", "old")]);
    }
}
