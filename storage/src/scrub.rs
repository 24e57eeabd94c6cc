//! Looking at every sealed record, whether anybody asks for it or not: damage is found while the other replicas still
//! have what is needed to repair it.

use std::ops::Range;

use chat::ids::ShardId;

use crate::engine::Engine;
use crate::error::StorageError;
use crate::key::{self, ENGINE, Space};
use crate::limits::SCRUB_DAMAGED;
use crate::state::StateShared;

/// Where a scrub goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrubCursor(Vec<u8>);

/// What a piece of a scrub came to.
#[derive(Debug, Default)]
pub struct Scrubbed {
    pub records: u64,
    /// Of sealed values.
    pub bytes: u64,
    /// Each is [`StorageError::Corrupt`] and names its record.
    pub damaged: Vec<StorageError>,
    /// None at the end.
    pub next: Option<ScrubCursor>,
}

impl Engine {
    /// Opens the records of a shard, or with none the engine's own, from the cursor on, until they come to `max_bytes`, or
    /// some hundred of them are damaged.
    /// Reads the disk: for the blocking pool.
    pub fn scrub(
        &self,
        shard: Option<ShardId>,
        from: Option<&ScrubCursor>,
        max_bytes: u64,
    ) -> Result<Scrubbed, StorageError> {
        let state = shard.map(|shard| self.state(shard)).transpose()?;
        let mut range = whole(shard);
        if let Some(ScrubCursor(from)) = from {
            range.start.clone_from(from);
        }
        let mut done = Scrubbed::default();
        for checked in self.shared().disk.check(range) {
            let checked = checked?;
            done.records += 1;
            done.bytes += checked.bytes;
            if let Err(error) = checked.opened {
                let is_read = state.as_ref().is_none_or(|state| is_read(&state.0, &checked.key));
                done.damaged.extend(is_read.then_some(error));
            }
            if done.bytes >= max_bytes || done.damaged.len() >= SCRUB_DAMAGED {
                // The smallest key after it.
                done.next = Some(ScrubCursor([&checked.key[..], &[0]].concat()));
                break;
            }
        }
        Ok(done)
    }
}

/// Whether anybody reads it: not of a state that was replaced or is not there yet.
fn is_read(state: &StateShared, key: &[u8]) -> bool {
    key::space_of(key) != Some(Space::State) || key::generation_of(key) == Some(state.generation())
}

/// Every key of a shard, or of the engine itself.
fn whole(shard: Option<ShardId>) -> Range<Vec<u8>> {
    match shard {
        Some(shard) => key::shard_start(shard)..key::shard_start(ShardId(shard.0 + 1)),
        // Behind every key of the last shard there can be.
        None => key::shard_start(ENGINE)..vec![u8::MAX; 4],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::meta;

    #[test]
    fn the_shards_and_the_engine_cover_every_key_once() {
        let keys = [
            key::named(ShardId(0), meta::VOTE),
            key::log(ShardId(3), 7),
            key::state(ShardId(3), 1, b"a"),
            key::chunk(ShardId(chat::limits::SHARDS_MAX), u32::MAX, u32::MAX),
            key::named(ENGINE, meta::IDENTITY),
        ];
        for key in keys {
            let shard = key::shard_of(&key).filter(|shard| *shard != ENGINE);
            let covering = [None, Some(ShardId(0)), Some(ShardId(3)), Some(ShardId(chat::limits::SHARDS_MAX))];
            let covering: Vec<_> = covering.into_iter().filter(|shard| whole(*shard).contains(&key)).collect();
            assert_eq!(covering, [shard], "{key:?}");
        }
    }
}
