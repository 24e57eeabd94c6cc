//! One engine, from outside: logs, states, identity, reopening.

mod support;

use bytes::Bytes;
use chat::ids::ShardId;
use storage::{Engine, EngineOptions, Identity, NodeKey, OpenError, StorageError};
use support::{append, applied, copy, create, indexes, open, options, position, record, records, write};

const SHARD: ShardId = ShardId(3);

#[test]
fn records_are_readable_at_once_and_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let engine = create(dir.path());
    let log = engine.log(SHARD).unwrap();
    assert_eq!(log.bounds(), storage::LogBounds::default());
    append(&log, records(1, 0..10)).unwrap();
    assert_eq!(log.bounds().last, Some(position(1, 9)));
    assert_eq!(indexes(&log.read(2, 5, usize::MAX).unwrap()), [2, 3, 4]);
    assert_eq!(indexes(&log.read(2, 100, 1).unwrap()), [2], "at least one");
    assert_eq!(indexes(&log.read(2, 100, 30).unwrap()), [2, 3, 4], "ten bytes each");
    assert_eq!(log.read(10, 100, usize::MAX).unwrap(), []);
    drop((engine, log));

    let engine = open(dir.path());
    let log = engine.log(SHARD).unwrap();
    assert_eq!(log.bounds().last, Some(position(1, 9)));
    assert_eq!(log.read(0, 100, usize::MAX).unwrap(), records(1, 0..10));
    assert_eq!(indexes(&log.read(2, 100, 30).unwrap()), [2, 3, 4]);
    assert_eq!(log.get(7).unwrap(), Some(record(1, 7)));
    assert_eq!(log.get(10).unwrap(), None);
    // The tail of new records continues what is in sled.
    append(&log, records(2, 10..12)).unwrap();
    assert_eq!(indexes(&log.read(8, 100, usize::MAX).unwrap()), [8, 9, 10, 11]);
    assert_eq!(engine.log(ShardId(4)).unwrap().read(0, 100, usize::MAX).unwrap(), []);
}

#[test]
fn a_log_starts_anywhere_and_has_no_holes() {
    let dir = tempfile::tempdir().unwrap();
    let engine = create(dir.path());
    let log = engine.log(SHARD).unwrap();
    append(&log, records(1, 5..8)).unwrap();
    assert_eq!(indexes(&log.read(0, 100, usize::MAX).unwrap()), [5, 6, 7]);
    for wrong in [7, 9] {
        let error = append(&log, records(1, wrong..wrong + 1)).unwrap_err();
        assert!(matches!(error, StorageError::Order { .. }), "{error}");
    }
    drop((engine, log));
    let log = open(dir.path()).log(SHARD).unwrap();
    assert_eq!(indexes(&log.read(0, 100, usize::MAX).unwrap()), [5, 6, 7]);
}

#[test]
fn truncation_removes_the_end_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let engine = create(dir.path());
    let log = engine.log(SHARD).unwrap();
    append(&log, records(1, 0..10)).unwrap();
    log.truncate_after(Some(11)).unwrap();
    assert_eq!(log.bounds().last, Some(position(1, 9)));
    log.truncate_after(Some(5)).unwrap();
    assert_eq!((log.bounds().last, log.get(6).unwrap()), (Some(position(1, 5)), None));
    append(&log, records(2, 6..8)).unwrap();
    let expected = [records(1, 0..6), records(2, 6..8)].concat();
    assert_eq!(log.read(0, 100, usize::MAX).unwrap(), expected);
    drop((engine, log));

    let engine = open(dir.path());
    let log = engine.log(SHARD).unwrap();
    assert_eq!(log.read(0, 100, usize::MAX).unwrap(), expected);
    log.truncate_after(None).unwrap();
    assert_eq!(log.bounds(), storage::LogBounds::default());
    append(&log, records(3, 0..1)).unwrap();
    drop((engine, log));
    let log = open(dir.path()).log(SHARD).unwrap();
    assert_eq!(log.read(0, 100, usize::MAX).unwrap(), records(3, 0..1));
}

#[test]
fn purging_moves_a_marker_and_messages_stay() {
    let dir = tempfile::tempdir().unwrap();
    let engine = create(dir.path());
    let log = engine.log(SHARD).unwrap();
    append(&log, records(1, 0..10)).unwrap();
    log.purge(position(1, 4)).unwrap();
    assert_eq!(log.bounds().purged, Some(position(1, 4)));
    assert_eq!(indexes(&log.read(0, 7, usize::MAX).unwrap()), [5, 6]);
    assert_eq!(log.get(2).unwrap(), Some(record(1, 2)));
    // A snapshot may have brought the log further than its records go.
    log.purge(position(2, 20)).unwrap();
    assert_eq!((log.bounds().purged, log.bounds().last), (Some(position(2, 20)), Some(position(2, 20))));
    append(&log, records(2, 21..23)).unwrap();
    log.truncate_after(Some(21)).unwrap();
    drop((engine, log));

    let engine = open(dir.path());
    let log = engine.log(SHARD).unwrap();
    assert_eq!(log.bounds().purged, Some(position(2, 20)));
    assert_eq!(indexes(&log.read(0, 100, usize::MAX).unwrap()), [21]);
    assert_eq!(log.get(9).unwrap(), Some(record(1, 9)));
    assert_eq!(log.get(15).unwrap(), None);
    log.truncate_after(None).unwrap();
    assert_eq!(log.bounds().last, Some(position(2, 20)), "what is purged cannot be truncated");
}

#[test]
fn votes_and_committed_positions_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let engine = create(dir.path());
    let log = engine.log(SHARD).unwrap();
    assert_eq!((log.vote().unwrap(), log.committed().unwrap()), (None, None));
    log.save_vote(Bytes::from_static(b"first")).unwrap();
    log.save_vote(Bytes::from_static(b"second")).unwrap();
    log.save_committed(Some(position(1, 3))).unwrap();
    assert_eq!(log.committed().unwrap(), Some(position(1, 3)));
    drop((engine, log));
    let log = open(dir.path()).log(SHARD).unwrap();
    assert_eq!(log.vote().unwrap().as_deref(), Some(&b"second"[..]));
    assert_eq!(log.committed().unwrap(), Some(position(1, 3)));
}

#[test]
fn callbacks_come_in_the_order_of_appends_and_one_commit_serves_many() {
    let dir = tempfile::tempdir().unwrap();
    let engine = create(dir.path());
    let log = engine.log(SHARD).unwrap();
    let before = engine.stats();
    let (sender, receiver) = std::sync::mpsc::channel();
    for index in 0..500 {
        let sender = sender.clone();
        let durable = Box::new(move |result: Result<(), StorageError>| sender.send((index, result.is_ok())).unwrap());
        log.append(records(1, index..index + 1), durable).unwrap();
    }
    for index in 0..500 {
        assert_eq!(receiver.recv_timeout(support::DEADLINE).unwrap(), (index, true));
    }
    let stats = engine.stats();
    assert_eq!(stats.records - before.records, 500);
    assert!(stats.commits - before.commits < 250, "{stats:?}");
}

#[test]
fn the_state_is_seen_at_once_and_comes_back_with_its_marker() {
    let dir = tempfile::tempdir().unwrap();
    let engine = create(dir.path());
    let (log, state) = (engine.log(SHARD).unwrap(), engine.state(SHARD).unwrap());
    append(&log, records(1, 0..3)).unwrap();
    state.apply([write("a/1", Some("x")), write("a/2", Some("y")), write("b", Some("z"))], applied(1, 0)).unwrap();
    state.apply([write("a/1", None), write("a/3", Some("w"))], applied(1, 1)).unwrap();
    state.apply([], applied(1, 2)).unwrap();

    let check = |state: &storage::StateStore| {
        assert_eq!(state.applied(), applied(1, 2));
        assert_eq!(state.get(b"a/1").unwrap(), None);
        assert_eq!(state.get(b"a/2").unwrap().as_deref(), Some(&b"y"[..]));
        let keys = |prefix: &[u8], after: Option<&[u8]>, limit| {
            let pairs = state.scan(prefix, after, limit).unwrap();
            pairs.into_iter().map(|(key, _)| String::from_utf8(key.to_vec()).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(keys(b"a/", None, 9), ["a/2", "a/3"]);
        assert_eq!(keys(b"a/", Some(b"a/2"), 9), ["a/3"]);
        assert_eq!(keys(b"a/", Some(b"b"), 9), Vec::<String>::new());
        assert_eq!(keys(b"b", Some(b"a"), 9), ["b"]);
        assert_eq!(keys(b"", None, 2), ["a/2", "a/3"]);
        assert_eq!(state.digest().unwrap().records, 3);
    };
    check(&state);
    let digest = state.digest().unwrap();
    engine.close();
    assert!(matches!(state.apply([], applied(1, 3)), Err(StorageError::Closed)));
    drop((log, state));

    let engine = open(dir.path());
    let state = engine.state(SHARD).unwrap();
    check(&state);
    assert_eq!(state.digest().unwrap(), digest);
    assert_eq!(engine.state(ShardId(2)).unwrap().digest().unwrap().records, 0);
}

#[test]
fn a_checkpoint_does_not_need_a_close() {
    let dir = tempfile::tempdir().unwrap();
    let engine = create(dir.path());
    let state = engine.state(SHARD).unwrap();
    let large = "v".repeat(60 * 1024);
    // Over the bound in bytes many times, and while a digest keeps coming in between.
    for index in 0..100u64 {
        let key = format!("k/{index:03}");
        append(&engine.log(SHARD).unwrap(), records(1, index..index + 1)).unwrap();
        state.apply([write(&key, Some(&large)), write("hot", Some(&key))], applied(1, index)).unwrap();
        if index % 10 == 0 {
            assert_eq!(state.digest().unwrap().records, index + 2);
        }
    }
    assert_eq!(state.scan(b"k/", None, 1_000).unwrap().len(), 100);
    assert_eq!(state.get(b"hot").unwrap().as_deref(), Some(&b"k/099"[..]));
    let digest = state.digest().unwrap();
    drop(state);
    engine.close();
    assert_eq!(open(dir.path()).state(SHARD).unwrap().digest().unwrap(), digest);
}

/// The storage thread checks the order itself in builds with debug assertions, and fails the engine.
#[test]
fn a_checkpoint_never_overtakes_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let engine = create(dir.path());
    std::thread::scope(|scope| {
        for shard in [1, 2] {
            let (log, state) = (engine.log(ShardId(shard)).unwrap(), engine.state(ShardId(shard)).unwrap());
            // Nobody waits for an acknowledgement, and a checkpoint is due after a few dozen applies.
            scope.spawn(move || {
                let value = "v".repeat(20 * 1024);
                for index in 0..3_000u64 {
                    log.append(records(1, index..index + 1), Box::new(|result| result.unwrap())).unwrap();
                    state.apply([write(&format!("{}", index % 64), Some(&value))], applied(1, index)).unwrap();
                }
            });
        }
    });
    assert_eq!(engine.failed(), None);
    engine.close();
    let engine = open(dir.path());
    assert_eq!(engine.state(ShardId(1)).unwrap().applied(), applied(1, 2_999));
}

#[test]
fn what_is_too_large_is_refused_before_anything_happens() {
    let dir = tempfile::tempdir().unwrap();
    let engine = create(dir.path());
    let (log, state) = (engine.log(SHARD).unwrap(), engine.state(SHARD).unwrap());
    let payload = storage::LogPayload::Batch(Bytes::from(vec![0; 64 * 1024]));
    let large = std::sync::Arc::new(storage::LogRecord { position: position(1, 0), payload });
    assert!(matches!(append(&log, vec![large]), Err(StorageError::TooLarge { .. })));
    assert_eq!(log.bounds().last, None);
    let value = "v".repeat(storage::STATE_VALUE_BYTES + 1);
    assert!(matches!(state.apply([write("k", Some(&value))], applied(1, 0)), Err(StorageError::TooLarge { .. })));
    assert_eq!(state.applied(), storage::Applied::default());
}

fn refusal(options: EngineOptions) -> OpenError {
    Engine::open(options).err().expect("it is refused")
}

#[test]
fn a_data_directory_is_opened_only_by_its_node() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let error = refusal(options(&data));
    assert!(matches!(error, OpenError::Missing { .. }), "{error}");
    let engine = create(&data);

    let error = Engine::create(&options(&data)).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    let error = refusal(options(&data));
    assert!(error.to_string().contains("is in use"), "{error}");
    engine.close();
    let error = Engine::create(&options(&data)).unwrap_err();
    assert!(error.to_string().contains("holds a data directory already"), "{error}");

    let identity = options(&data).identity;
    let other = Identity { cluster: "another".to_owned(), ..identity.clone() };
    let error = refusal(EngineOptions { identity: other, ..options(&data) });
    assert!(error.to_string().ends_with("this node is of cluster another"), "{error}");
    let other = Identity { node: 2, ..identity };
    let error = refusal(EngineOptions { identity: other, ..options(&data) });
    assert!(error.to_string().ends_with("belongs to node 1, this is node 2"), "{error}");
    let error = refusal(EngineOptions { node_key: NodeKey::from_bytes([4; 32]), ..options(&data) });
    assert!(error.to_string().ends_with("another node key than the one given"), "{error}");
    open(&data).close();
}

#[test]
fn a_database_under_another_identity_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    create(&ours).close();
    let mut other = options(&theirs);
    other.identity.node = 2;
    Engine::create(&other).unwrap();
    std::fs::copy(ours.join("identity.toml"), theirs.join("identity.toml")).unwrap();
    let error = refusal(options(&theirs));
    assert!(error.to_string().contains("the database belongs to node 2"), "{error}");

    std::fs::remove_file(theirs.join("identity.toml")).unwrap();
    assert!(matches!(refusal(options(&theirs)), OpenError::Missing { .. }));
    assert!(matches!(Engine::create(&options(&theirs)), Err(OpenError::Unfinished { .. })));
}

#[test]
fn half_a_snapshot_file_of_a_killed_open_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path()).close();
    let leftover = dir.path().join("db/snap.000000000000FFFF.generating");
    std::fs::write(&leftover, b"half").unwrap();
    open(dir.path()).close();
    assert!(!leftover.exists());
}

fn large(index: u64) -> std::sync::Arc<storage::LogRecord> {
    let payload = storage::LogPayload::Batch(Bytes::from(vec![index as u8; 60_000]));
    std::sync::Arc::new(storage::LogRecord { position: position(1, index), payload })
}

#[test]
fn what_was_committed_is_there_after_many_turns_of_the_write_ahead_log() {
    let dir = tempfile::tempdir().unwrap();
    let engine = create(dir.path());
    let log = engine.log(SHARD).unwrap();
    // Three turns of 16 MiB and a piece.
    for index in 0..900 {
        append(&log, vec![large(index)]).unwrap();
        if index % 300 == 299 {
            log.save_vote(Bytes::from(format!("vote {index}"))).unwrap();
            let cut = copy(dir.path());
            let engine = open(cut.path());
            let log = engine.log(SHARD).unwrap();
            assert_eq!(log.bounds().last, Some(position(1, index)));
            assert_eq!(log.vote().unwrap(), Some(Bytes::from(format!("vote {index}"))));
            for index in 0..=index {
                assert_eq!(log.get(index).unwrap(), Some(large(index)), "{index}");
            }
        }
    }
    assert!(engine.stats().bytes_on_disk > 900 * 60_000);
}

#[test]
fn a_write_ahead_log_that_was_emptied_or_removed_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let engine = create(dir.path());
    append(&engine.log(SHARD).unwrap(), records(1, 0..10)).unwrap();
    engine.close();
    let files = ["wal.0", "wal.1"];
    let emptied = copy(dir.path());
    for file in files {
        std::fs::write(emptied.path().join(file), []).unwrap();
    }
    let error = Engine::open(options(emptied.path())).err().unwrap();
    assert!(matches!(&error, OpenError::Corrupt { what, .. } if what.contains("neither holds one")), "{error}");
    for file in files {
        let removed = copy(dir.path());
        std::fs::remove_file(removed.path().join(file)).unwrap();
        let error = Engine::open(options(removed.path())).err().unwrap();
        assert!(matches!(&error, OpenError::Io { place, .. } if place.ends_with(file)), "{error}");
    }
    assert_eq!(open(dir.path()).log(SHARD).unwrap().bounds().last, Some(position(1, 9)));
}
