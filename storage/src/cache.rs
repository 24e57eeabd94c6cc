//! Values of the state that were read or written lately, in memory: what is in sled is sealed, and opening it costs
//! more than everything else that a command does.

use std::collections::HashMap;

use bytes::Bytes;

/// What an entry weighs besides its key and value.
const ENTRY_BYTES: usize = 96;

type Values = HashMap<Bytes, Option<Bytes>>;

/// Two generations: when the young one is full it becomes the old one, and what nobody asks for meanwhile is forgotten.
#[derive(Default)]
pub(crate) struct Cache {
    young: Values,
    young_bytes: usize,
    old: Values,
    max_bytes: usize,
}

impl Cache {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, ..Self::default() }
    }

    /// What is known of `key`; an inner none is known to be absent.
    pub(crate) fn get(&mut self, key: &[u8]) -> Option<Option<Bytes>> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.put(key, value.clone());
        Some(value)
    }

    pub(crate) fn put(&mut self, key: Bytes, value: Option<Bytes>) {
        self.young_bytes += ENTRY_BYTES + key.len() + value.as_ref().map_or(0, Bytes::len);
        self.young.insert(key, value);
        if self.young_bytes > self.max_bytes / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.max_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> Bytes {
        Bytes::from(n.to_be_bytes().to_vec())
    }

    #[test]
    fn what_is_asked_for_stays_and_the_rest_is_forgotten_within_the_bound() {
        let mut cache = Cache::new(20_000);
        cache.put(key(0), None);
        for n in 1..10_000 {
            cache.put(key(n), Some(key(n)));
            assert_eq!(cache.get(&key(0)), Some(None), "{n}");
            assert!((cache.young.len() + cache.old.len()) * ENTRY_BYTES <= 20_000);
        }
        assert_eq!(cache.get(&key(9_999)), Some(Some(key(9_999))));
        assert_eq!(cache.get(&key(1)), None);
        cache.clear();
        assert_eq!(cache.get(&key(0)), None);
    }

    #[test]
    fn the_newest_value_counts_in_whichever_generation_the_older_one_is() {
        let mut cache = Cache::new(400);
        cache.put(key(1), Some(key(1)));
        cache.put(key(2), Some(key(2)));
        cache.put(key(1), Some(key(3)));
        assert_eq!(cache.get(&key(1)), Some(Some(key(3))));
    }
}
