//! Snapshots: built on one engine, installed on another.

#![allow(clippy::unwrap_used, reason = "helpers of tests are test code too")]

mod support;

use bytes::Bytes;
use chat::ids::ShardId;
use storage::{Collected, Engine, LogStore, SnapshotChunk, SnapshotMeta, SnapshotSource, StateStore, StorageError};
use support::{append, applied, create, open, position, record, records, write};

const SHARD: ShardId = ShardId(1);

fn stores(engine: &Engine) -> (LogStore, StateStore) {
    (engine.log(SHARD).unwrap(), engine.state(SHARD).unwrap())
}

/// `count` log records of `term`, each applied as one state record with a large value.
fn fill(engine: &Engine, term: u64, indexes: std::ops::Range<u64>) {
    let (log, state) = stores(engine);
    append(&log, records(term, indexes.clone())).unwrap();
    for index in indexes {
        let value = format!("{index}:").repeat(1_000);
        state.apply([write(&format!("key/{index:06}"), Some(&value))], applied(term, index)).unwrap();
    }
}

/// Passes on a source's first chunks, then ends the way a broken connection does.
struct Broken {
    source: Box<dyn SnapshotSource + Send>,
    chunks_left: usize,
}

impl SnapshotSource for Broken {
    fn meta(&self) -> &SnapshotMeta {
        self.source.meta()
    }

    fn next(&mut self) -> Result<Option<SnapshotChunk>, StorageError> {
        if self.chunks_left == 0 {
            return Err(StorageError::Source { reason: "the connection was lost".to_owned() });
        }
        self.chunks_left -= 1;
        self.source.next()
    }
}

#[test]
fn a_snapshot_carries_state_and_messages_to_an_empty_node() {
    let dir = tempfile::tempdir().unwrap();
    let leader = create(&dir.path().join("leader"));
    let (log, state) = stores(&leader);
    fill(&leader, 1, 0..300);
    log.purge(position(1, 250)).unwrap();
    let mut snapshot = state.snapshot();
    // What comes after it is not in it.
    fill(&leader, 1, 300..310);
    assert_eq!(snapshot.meta().applied, applied(1, 299));

    let follower = create(&dir.path().join("follower"));
    let (follower_log, follower_state) = stores(&follower);
    follower_state.install(&mut snapshot).unwrap();
    assert_eq!(follower_state.applied(), applied(1, 299));
    let bounds = follower_log.bounds();
    assert_eq!((bounds.purged, bounds.last), (Some(position(1, 299)), Some(position(1, 299))));
    assert_eq!(follower_log.get(0).unwrap(), Some(record(1, 0)), "old messages are there");
    assert_eq!(follower_log.get(299).unwrap(), Some(record(1, 299)));
    assert_eq!(follower_log.read(0, 400, usize::MAX).unwrap(), [], "and Raft does not see them");
    fill(&follower, 1, 300..310);
    assert_eq!(follower_state.digest().unwrap(), state.digest().unwrap());
    drop((follower_log, follower_state, follower));

    let follower = open(&dir.path().join("follower"));
    let (follower_log, follower_state) = stores(&follower);
    assert_eq!(follower_state.digest().unwrap(), state.digest().unwrap());
    assert_eq!(follower_log.read(0, 400, usize::MAX).unwrap(), records(1, 300..310));
}

#[test]
fn a_copy_leaves_out_what_the_other_has_and_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let engine = create(dir.path());
    fill(&engine, 1, 0..200);
    let (log, state) = stores(&engine);
    let (mut older, mut newer) = (state.snapshot(), state.snapshot());
    newer.has_records(149);
    fill(&engine, 1, 200..400);
    assert_ne!(older.meta().id, newer.meta().id);
    let counted = |source: &mut dyn SnapshotSource| {
        let (mut pairs, mut log_records) = (0, 0);
        while let Some(chunk) = source.next().unwrap() {
            match chunk {
                SnapshotChunk::State(chunk) => pairs += chunk.len(),
                SnapshotChunk::Records(chunk) => log_records += chunk.len(),
            }
        }
        (pairs, log_records)
    };
    assert_eq!((counted(&mut newer), counted(&mut older)), ((200, 200 - 150), (200, 200)));
    assert!(state.is_copied());
    drop((older, newer));
    assert!(!state.is_copied());
    drop((log, state, engine));
    let (_, state) = stores(&open(dir.path()));
    assert_eq!(state.applied(), applied(1, 399));
}

#[test]
fn records_are_collected_below_the_purge_marker_and_what_is_kept_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let engine = create(dir.path());
    fill(&engine, 1, 0..2_000);
    let (log, state) = stores(&engine);
    let tenth = |index: u64| index.is_multiple_of(10);
    assert_eq!(log.collect(0, u64::MAX, tenth).unwrap(), Collected { removed: 0, next: None }, "Raft may ask for all");
    log.purge(position(1, 1_499)).unwrap();
    state.checkpoint().unwrap();
    let (mut from, mut removed) = (Some(0), 0);
    while let Some(at) = from {
        let step = log.collect(at, u64::MAX, tenth).unwrap();
        (from, removed) = (step.next, removed + step.removed);
    }
    assert_eq!(removed, 1_500 - 150);
    let check = |log: &LogStore| {
        let kept: Vec<u64> = (0..2_000).filter(|index| log.get(*index).unwrap().is_some()).collect();
        assert_eq!(kept, (0..2_000).filter(|index| tenth(*index) || *index >= 1_500).collect::<Vec<_>>());
        assert_eq!(log.read(0, 2_000, usize::MAX).unwrap(), records(1, 1_500..2_000));
        assert_eq!(log.bounds().last, Some(position(1, 1_999)));
    };
    // Also what is in memory is not found any more once it is opened anew.
    drop((log, state, engine));
    let engine = open(dir.path());
    let (log, state) = stores(&engine);
    check(&log);
    // And it is carried to another node, with its holes.
    let follower = create(&dir.path().join("follower"));
    let (other_log, other_state) = stores(&follower);
    other_state.install(&mut state.snapshot()).unwrap();
    assert_eq!((other_log.get(10).unwrap(), other_log.get(11).unwrap()), (Some(record(1, 10)), None));
    append(&other_log, records(1, 2_000..2_001)).unwrap();
}

#[test]
fn an_installation_replaces_an_old_state_and_an_uncommitted_end_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let leader = create(&dir.path().join("leader"));
    fill(&leader, 1, 0..50);
    fill(&leader, 3, 50..120);
    let leader_state = leader.state(SHARD).unwrap();

    let follower = create(&dir.path().join("follower"));
    fill(&follower, 1, 0..40);
    let (log, state) = stores(&follower);
    append(&log, records(1, 40..50)).unwrap();
    append(&log, records(2, 50..200)).unwrap();
    state.apply([write("gone", Some("old"))], applied(1, 40)).unwrap();
    state.install(&mut leader_state.snapshot()).unwrap();
    assert_eq!(state.get(b"gone").unwrap(), None);
    assert_eq!(state.digest().unwrap(), leader.state(SHARD).unwrap().digest().unwrap());
    assert_eq!(log.bounds().last, Some(position(3, 119)));
    assert_eq!(log.get(60).unwrap(), Some(record(3, 60)));
    append(&log, records(3, 120..121)).unwrap();
    drop((log, state, follower));
    let (log, state) = stores(&open(&dir.path().join("follower")));
    assert_eq!(log.bounds().last, Some(position(3, 120)));
    assert_eq!(state.scan(b"key/", None, 1_000).unwrap().len(), 120);
}

#[test]
fn a_log_that_agrees_and_is_longer_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let leader = create(&dir.path().join("leader"));
    fill(&leader, 1, 0..50);
    let leader_state = leader.state(SHARD).unwrap();
    let follower = create(&dir.path().join("follower"));
    let (log, state) = stores(&follower);
    append(&log, records(1, 0..60)).unwrap();
    state.install(&mut leader_state.snapshot()).unwrap();
    assert_eq!(log.bounds().last, Some(position(1, 59)));
    assert_eq!(log.read(0, 100, usize::MAX).unwrap(), records(1, 50..60));
}

#[test]
fn an_installation_cut_short_leaves_everything_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let leader = create(&dir.path().join("leader"));
    fill(&leader, 1, 0..300);
    let leader_state = leader.state(SHARD).unwrap();
    let follower_dir = dir.path().join("follower");
    let mut follower = create(&follower_dir);
    fill(&follower, 1, 0..10);
    let digest = follower.state(SHARD).unwrap().digest().unwrap();

    let mut source = leader_state.snapshot();
    let mut chunks = 0;
    while source.next().unwrap().is_some() {
        chunks += 1;
    }
    assert!(chunks > 20, "{chunks}");
    for chunks_left in [0, 1, chunks - 1, chunks] {
        let (log, state) = stores(&follower);
        let error = state.install(&mut Broken { source: Box::new(leader_state.snapshot()), chunks_left }).unwrap_err();
        assert!(matches!(error, StorageError::Source { .. }), "{error}");
        assert_eq!(state.digest().unwrap(), digest);
        assert_eq!((log.bounds().last, log.get(10).unwrap()), (Some(position(1, 9)), None));
        drop((log, state, follower));
        follower = open(&follower_dir);
        let (log, state) = stores(&follower);
        assert_eq!(state.digest().unwrap(), digest);
        assert_eq!(log.read(0, 400, usize::MAX).unwrap(), records(1, 0..10));
    }
    // And it works when it is not cut short.
    let state = follower.state(SHARD).unwrap();
    state.install(&mut leader_state.snapshot()).unwrap();
    assert_eq!(state.digest().unwrap(), leader.state(SHARD).unwrap().digest().unwrap());
}

/// Wrong content from a peer: refused, nothing changed.
struct Forged(SnapshotMeta, Vec<SnapshotChunk>);

impl SnapshotSource for Forged {
    fn meta(&self) -> &SnapshotMeta {
        &self.0
    }

    fn next(&mut self) -> Result<Option<SnapshotChunk>, StorageError> {
        Ok(self.1.pop())
    }
}

#[test]
fn records_out_of_place_and_oversize_values_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let engine = create(dir.path());
    let state = engine.state(SHARD).unwrap();
    let meta = SnapshotMeta { applied: applied(1, 5), id: "forged".to_owned() };
    let plain = |index| record(1, index).as_ref().clone();
    let large = vec![(Bytes::from("k"), Bytes::from(vec![0; storage::STATE_VALUE_BYTES + 1]))];
    for chunk in [
        SnapshotChunk::Records(vec![plain(6)]),
        SnapshotChunk::Records(vec![plain(3), plain(2)]),
        SnapshotChunk::State(large),
    ] {
        let error = state.install(&mut Forged(meta.clone(), vec![chunk])).unwrap_err();
        assert!(matches!(error, StorageError::Source { .. }), "{error}");
        assert_eq!((state.applied(), state.digest().unwrap().records), (storage::Applied::default(), 0));
    }
}

#[test]
fn a_digest_is_of_one_instant_while_the_state_moves() {
    let dir = tempfile::tempdir().unwrap();
    let engine = create(dir.path());
    let (log, state) = stores(&engine);
    append(&log, records(1, 0..2_000)).unwrap();
    // Every apply moves two keys together: a mixture of two instants would have an unknown digest.
    let mut digests = std::collections::HashSet::new();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for index in 0..2_000u64 {
                let value = format!("{index}");
                let pair = [write("a", Some(&value)), write("z", Some(&value))];
                state.apply(pair, applied(1, index)).unwrap();
            }
        });
        while !writer.is_finished() {
            let digest = state.digest().unwrap();
            digests.insert((digest.applied.map(|position| position.index), digest.digest));
        }
    });
    for (index, digest) in digests {
        let Some(index) = index else { continue };
        let mut expected = blake3::Hasher::new();
        for part in ["a", &index.to_string(), "z", &index.to_string()] {
            expected.update(&(part.len() as u64).to_be_bytes()).update(part.as_bytes());
        }
        assert_eq!(digest, *expected.finalize().as_bytes(), "at {index}");
    }
}
