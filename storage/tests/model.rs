//! Random operations on one shard, against maps in memory; reopening is one of the operations.

#![allow(clippy::unwrap_used, reason = "helpers of tests are test code too")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use chat::ids::ShardId;
use proptest::prelude::{Just, Strategy, any, proptest};
use proptest::test_runner::Config;
use proptest::{collection, prop_assert_eq, prop_oneof};
use storage::{Applied, Engine, LogPosition, LogStore, SnapshotSource, StateStore};
use support::{append, create, indexes, open, position, record};

const SHARD: ShardId = ShardId(7);

#[derive(Debug, Clone)]
enum Operation {
    Append {
        count: u64,
        new_term: bool,
    },
    /// Keeps that share of the records that are neither applied nor purged.
    Truncate {
        keep_percent: u64,
    },
    /// Applies up to that many records that are not applied yet, each with these writes.
    Apply {
        count: u64,
        writes: Vec<(u8, Option<u8>)>,
    },
    Purge {
        percent: u64,
    },
    Vote(u8),
    Snapshot,
    /// Installs the last snapshot of another node that is this far ahead.
    Install {
        ahead: u64,
    },
    Scan {
        prefix: Vec<u8>,
        after: Option<u8>,
        limit: usize,
    },
    Reopen,
}

fn operation() -> impl Strategy<Value = Operation> {
    let write = (0..40u8, any::<Option<u8>>());
    prop_oneof![
        6 => (1..20u64, any::<bool>()).prop_map(|(count, new_term)| Operation::Append { count, new_term }),
        1 => (0..100u64).prop_map(|keep_percent| Operation::Truncate { keep_percent }),
        6 => (1..10u64, collection::vec(write, 0..8)).prop_map(|(count, writes)| Operation::Apply { count, writes }),
        1 => (0..=100u64).prop_map(|percent| Operation::Purge { percent }),
        1 => any::<u8>().prop_map(Operation::Vote),
        1 => Just(Operation::Snapshot),
        1 => (1..30u64).prop_map(|ahead| Operation::Install { ahead }),
        3 => (collection::vec(0..40u8, 0..2), any::<Option<u8>>(), 1..10usize)
            .prop_map(|(prefix, after, limit)| Operation::Scan { prefix, after, limit }),
        1 => Just(Operation::Reopen),
    ]
}

/// What the engine should hold.
#[derive(Debug, Clone, Default)]
struct Twin {
    log: BTreeMap<u64, LogPosition>,
    last: Option<LogPosition>,
    purged: Option<LogPosition>,
    state: BTreeMap<Vec<u8>, Vec<u8>>,
    applied: Option<LogPosition>,
    vote: Option<u8>,
    term: u64,
}

fn next_index(position: Option<LogPosition>) -> u64 {
    position.map_or(0, |position| position.index + 1)
}

struct Real {
    engine: Engine,
    log: LogStore,
    state: StateStore,
}

impl Real {
    fn of(engine: Engine) -> Self {
        Self { log: engine.log(SHARD).unwrap(), state: engine.state(SHARD).unwrap(), engine }
    }

    fn reopened(self, dir: &Path) -> Self {
        let Self { engine, log, state } = self;
        engine.close();
        drop((log, state));
        Self::of(open(dir))
    }
}

fn marker(position: Option<LogPosition>) -> Applied {
    Applied { position, membership: Bytes::from_static(b"m") }
}

fn state_writes(writes: &[(u8, Option<u8>)]) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
    // Two bytes of key, so that prefixes mean something.
    writes.iter().map(|(key, value)| (vec![key / 4, *key], value.map(|value| vec![value; 3]))).collect()
}

fn apply(twin: &mut Twin, state: &StateStore, at: LogPosition, writes: &[(u8, Option<u8>)]) {
    let writes = state_writes(writes);
    for (key, value) in &writes {
        match value {
            Some(value) => twin.state.insert(key.clone(), value.clone()),
            None => twin.state.remove(key),
        };
    }
    twin.applied = Some(at);
    let writes = writes.into_iter().map(|(key, value)| (Bytes::from(key), value.map(Bytes::from)));
    state.apply(writes, marker(Some(at))).unwrap();
}

fn append_some(twin: &mut Twin, log: &LogStore, count: u64, new_term: bool) {
    twin.term += u64::from(new_term || twin.term == 0);
    let first = next_index(twin.last);
    let records: Vec<_> = (first..first + count).map(|index| record(twin.term, index)).collect();
    twin.log.extend(records.iter().map(|record| (record.position.index, record.position)));
    twin.last = records.last().map(|record| record.position);
    append(log, records).unwrap();
}

/// A node that has applied this twin's applied records and `ahead` more, all of them in a later term.
fn install(twin: &mut Twin, real: &Real, ahead: u64) {
    let dir = tempfile::tempdir().unwrap();
    let other = Real::of(create(dir.path()));
    let mut theirs = Twin { term: twin.term + 1, ..Twin::default() };
    let ours = next_index(twin.applied);
    for index in 0..ours + ahead {
        let position = match twin.log.get(&index) {
            Some(position) if index < ours => *position,
            _ => position(theirs.term, index),
        };
        append(&other.log, vec![record(position.term, index)]).unwrap();
        theirs.log.insert(index, position);
        let key = (index % 40) as u8;
        apply(&mut theirs, &other.state, position, &[(key, Some(index as u8))]);
    }
    // What the taker has already need not be among what is sent.
    let mut snapshot = other.state.snapshot();
    if let Some(applied) = twin.applied {
        snapshot.has_records(applied.index);
    }
    real.state.install(&mut snapshot).unwrap();

    let through = theirs.applied.unwrap();
    let agrees = twin.log.get(&through.index).is_none_or(|position| *position == through);
    let conflict = twin.log.iter().find(|(index, position)| theirs.log.get(*index).is_some_and(|p| p != *position));
    if let Some(first) = conflict.map(|(index, _)| *index) {
        twin.log.retain(|index, _| *index < first);
    } else {
        assert!(agrees);
    }
    twin.log.extend(theirs.log);
    let last = twin.log.last_key_value().map(|(_, position)| *position);
    *twin = Twin {
        log: std::mem::take(&mut twin.log),
        last,
        purged: Some(through),
        state: theirs.state,
        applied: Some(through),
        term: theirs.term,
        vote: twin.vote,
    };
}

fn step(twin: &mut Twin, mut real: Real, dir: &Path, operation: Operation) -> Real {
    match operation {
        Operation::Append { count, new_term } => append_some(twin, &real.log, count, new_term),
        Operation::Truncate { keep_percent } => {
            let first = next_index(twin.applied).max(next_index(twin.purged));
            let keep = first + (next_index(twin.last).saturating_sub(first)) * keep_percent / 100;
            real.log.truncate_after(keep.checked_sub(1)).unwrap();
            twin.log.retain(|index, _| *index < keep);
            let last = twin.log.last_key_value().map(|(_, position)| *position);
            twin.last = last.max(twin.purged);
        }
        Operation::Apply { count, writes } => {
            let first = next_index(twin.applied);
            for index in first..first + count {
                let Some(at) = twin.log.get(&index).copied() else { break };
                apply(twin, &real.state, at, &writes);
            }
        }
        Operation::Purge { percent } => {
            let through = twin.applied.map(|applied| applied.index * percent / 100);
            if let Some(position) = through.and_then(|index| twin.log.get(&index)).copied() {
                real.log.purge(position).unwrap();
                twin.purged = twin.purged.max(Some(position));
            }
        }
        Operation::Vote(vote) => {
            real.log.save_vote(Bytes::from(vec![vote])).unwrap();
            twin.vote = Some(vote);
        }
        Operation::Snapshot => {
            if twin.applied.is_some() {
                let mut snapshot = real.state.snapshot();
                assert_eq!(snapshot.meta().applied.position, twin.applied);
                while snapshot.next().unwrap().is_some() {}
            }
        }
        Operation::Install { ahead } => install(twin, &real, ahead),
        Operation::Scan { prefix, after, limit } => scan(twin, &real.state, &prefix, after, limit),
        Operation::Reopen => real = real.reopened(dir),
    }
    real
}

fn scan(twin: &Twin, state: &StateStore, prefix: &[u8], after: Option<u8>, limit: usize) {
    let after = after.map(|after| vec![after / 4, after]);
    let found = state.scan(prefix, after.as_deref(), limit).unwrap();
    let matching = twin.state.iter().filter(|(key, _)| key.starts_with(prefix) && after.as_ref() < Some(key));
    let expected: Vec<_> = matching.take(limit).collect();
    let found: Vec<_> = found.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
    assert_eq!(found.iter().map(|(key, value)| (key, value)).collect::<Vec<_>>(), expected);
}

fn check(twin: &Twin, real: &Real) -> Result<(), proptest::test_runner::TestCaseError> {
    let bounds = real.log.bounds();
    prop_assert_eq!((bounds.purged, bounds.last), (twin.purged, twin.last));
    let read = real.log.read(0, u64::MAX, usize::MAX).unwrap();
    prop_assert_eq!(indexes(&read), (next_index(twin.purged)..next_index(twin.last)).collect::<Vec<_>>());
    for (index, position) in &twin.log {
        let found = real.log.get(*index).unwrap();
        prop_assert_eq!(found, Some(record(position.term, *index)));
    }
    prop_assert_eq!(real.log.vote().unwrap(), twin.vote.map(|vote| Bytes::from(vec![vote])));
    prop_assert_eq!(real.state.applied().position, twin.applied);
    let pairs = real.state.scan(b"", None, 1_000).unwrap();
    let pairs: BTreeMap<_, _> = pairs.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
    prop_assert_eq!(&pairs, &twin.state);
    prop_assert_eq!(real.state.digest().unwrap().records, twin.state.len() as u64);
    Ok(())
}

proptest! {
    #![proptest_config(Config { cases: 32, ..Config::default() })]

    #[test]
    fn the_engine_is_what_its_twin_is(operations in collection::vec(operation(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let mut twin = Twin::default();
        let mut real = Real::of(create(dir.path()));
        for operation in operations {
            real = step(&mut twin, real, dir.path(), operation);
            check(&twin, &real)?;
        }
        check(&twin, &real.reopened(dir.path()))?;
    }
}
