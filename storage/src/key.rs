//! Where records live in sled: one tree, keys `shard u16 | space u8 | rest`, numbers big-endian so that order is kept.

use std::ops::Range;

use chat::ids::ShardId;

/// The engine's own records stand beside those of the shards, under a number no shard can have.
pub(crate) const ENGINE: ShardId = ShardId(u16::MAX);

const _: () = assert!(chat::limits::SHARDS_MAX < u16::MAX);

/// What kind of record a key leads to. Numbers are stored and never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Space {
    /// Named records: vote, markers, identity.
    Meta = 1,
    /// Log records by index.
    Log = 2,
    /// State by generation and the state machine's own key.
    State = 3,
    /// Chunks of a copy of the state by generation and number.
    Snapshot = 4,
}

impl Space {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Log => "log",
            Self::State => "state",
            Self::Snapshot => "snapshot",
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        [Self::Meta, Self::Log, Self::State, Self::Snapshot].into_iter().find(|space| *space as u8 == number)
    }
}

/// Names of the meta records.
pub(crate) mod meta {
    pub(crate) const IDENTITY: &str = "identity";
    pub(crate) const VOTE: &str = "vote";
    pub(crate) const COMMITTED: &str = "committed";
    pub(crate) const PURGED: &str = "purged";
    pub(crate) const APPLIED: &str = "applied";
    pub(crate) const INSTALLING: &str = "installing";
    pub(crate) const WAL: &str = "wal";
    pub(crate) const LIVE: &str = "live";
    pub(crate) const FRESH: &str = "fresh";
}

const HEAD: usize = 3;

fn head(shard: ShardId, space: Space, rest: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(HEAD + rest);
    key.extend_from_slice(&shard.0.to_be_bytes());
    key.push(space as u8);
    key
}

fn with(shard: ShardId, space: Space, rest: &[&[u8]]) -> Vec<u8> {
    let mut key = head(shard, space, rest.iter().map(|part| part.len()).sum());
    for part in rest {
        key.extend_from_slice(part);
    }
    key
}

pub(crate) fn named(shard: ShardId, name: &str) -> Vec<u8> {
    with(shard, Space::Meta, &[name.as_bytes()])
}

pub(crate) fn log(shard: ShardId, index: u64) -> Vec<u8> {
    with(shard, Space::Log, &[&index.to_be_bytes()])
}

/// Keys of log records with index `from..to`.
pub(crate) fn log_range(shard: ShardId, range: Range<u64>) -> Range<Vec<u8>> {
    log(shard, range.start)..log(shard, range.end)
}

/// The index in a log record's key.
pub(crate) fn log_index(key: &[u8]) -> Option<u64> {
    key.get(HEAD..)?.try_into().ok().map(u64::from_be_bytes)
}

pub(crate) fn state(shard: ShardId, generation: u32, key: &[u8]) -> Vec<u8> {
    with(shard, Space::State, &[&generation.to_be_bytes(), key])
}

/// The state machine's own part of a state record's key.
pub(crate) fn state_rest(key: &[u8]) -> &[u8] {
    key.get(HEAD + 4..).unwrap_or_default()
}

pub(crate) fn chunk(shard: ShardId, generation: u32, number: u32) -> Vec<u8> {
    with(shard, Space::Snapshot, &[&generation.to_be_bytes(), &number.to_be_bytes()])
}

/// What every key of a generation of `space` begins with.
pub(crate) fn generation(shard: ShardId, space: Space, generation: u32) -> Vec<u8> {
    with(shard, space, &[&generation.to_be_bytes()])
}

/// The first key after every key of a generation of `space`.
pub(crate) fn after_generation(shard: ShardId, space: Space, generation: u32) -> Vec<u8> {
    match generation.checked_add(1) {
        Some(next) => self::generation(shard, space, next),
        None => after_space(shard, space),
    }
}

/// Every key of a generation of `space`.
pub(crate) fn generation_range(shard: ShardId, space: Space, generation: u32) -> Range<Vec<u8>> {
    self::generation(shard, space, generation)..after_generation(shard, space, generation)
}

/// Every key of `space`.
pub(crate) fn space_range(shard: ShardId, space: Space) -> Range<Vec<u8>> {
    head(shard, space, 0)..after_space(shard, space)
}

fn after_space(shard: ShardId, space: Space) -> Vec<u8> {
    let mut key = head(shard, space, 0);
    key[HEAD - 1] += 1;
    key
}

/// The first key of `shard` or a later one.
pub(crate) fn shard_start(shard: ShardId) -> Vec<u8> {
    shard.0.to_be_bytes().to_vec()
}

/// The first key greater than every key that begins with `prefix`, if there is one.
pub(crate) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut after = prefix[..=last].to_vec();
    after[last] += 1;
    Some(after)
}

/// The generation in the key of a state record or a snapshot chunk.
pub(crate) fn generation_of(key: &[u8]) -> Option<u32> {
    key.get(HEAD..HEAD + 4)?.try_into().ok().map(u32::from_be_bytes)
}

pub(crate) fn shard_of(key: &[u8]) -> Option<ShardId> {
    key.get(..2)?.try_into().ok().map(|bytes| ShardId(u16::from_be_bytes(bytes)))
}

pub(crate) fn space_of(key: &[u8]) -> Option<Space> {
    key.get(2).copied().and_then(Space::from_number)
}

/// A key's rest as people read it in an error.
pub(crate) fn display(key: &[u8]) -> String {
    let rest = key.get(HEAD..).unwrap_or_default();
    match space_of(key) {
        Some(Space::Meta) => String::from_utf8_lossy(rest).into_owned(),
        Some(Space::Log) => log_index(key).map_or_else(|| hex(rest), |index| index.to_string()),
        _ => hex(rest),
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_by_shard_then_space_then_number() {
        let keys = [
            named(ShardId(1), meta::APPLIED),
            log(ShardId(1), 9),
            log(ShardId(1), 256),
            state(ShardId(1), 1, b"z"),
            state(ShardId(1), 2, b"a"),
            chunk(ShardId(1), 1, 3),
            named(ShardId(256), meta::VOTE),
            named(ENGINE, meta::IDENTITY),
        ];
        assert!(keys.is_sorted());
        assert_eq!(log_index(&keys[2]), Some(256));
        assert_eq!((shard_of(&keys[6]), space_of(&keys[5])), (Some(ShardId(256)), Some(Space::Snapshot)));
        assert_eq!((generation_of(&keys[4]), state_rest(&keys[4])), (Some(2), &b"a"[..]));
    }

    #[test]
    fn the_end_of_a_prefix_is_the_next_one() {
        assert_eq!(after_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(after_prefix(&[1, 255, 255]), Some(vec![2]));
        assert_eq!((after_prefix(&[]), after_prefix(&[255])), (None, None));
        let range = generation_range(ShardId(1), Space::State, u32::MAX);
        assert!(range.contains(&state(ShardId(1), u32::MAX, &[255; 9])));
        assert!(!range.contains(&chunk(ShardId(1), 0, 0)));
    }

    #[test]
    fn errors_name_keys_in_words() {
        assert_eq!(display(&named(ShardId(1), meta::VOTE)), "vote");
        assert_eq!(display(&log(ShardId(1), 77)), "77");
        assert_eq!(display(&state(ShardId(1), 1, b"a")), "0000000161");
    }
}
