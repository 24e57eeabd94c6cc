//! What only a test inside the crate can do: change bytes below the seals, and make a commit fail.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use chat::ids::ShardId;

use crate::fault::Point;
use crate::key::{self, Space, meta};
use crate::{
    Applied, Damage, DiskFault, Engine, EngineOptions, Identity, LogPayload, LogPosition, LogRecord, LogStore, NodeKey,
    OpenError, SnapshotChunk, SnapshotMeta, SnapshotSource, StorageError,
};

const SHARD: ShardId = ShardId(2);
const DEADLINE: Duration = Duration::from_secs(30);

fn options(dir: &Path) -> EngineOptions {
    EngineOptions {
        dir: dir.to_owned(),
        node_key: NodeKey::from_bytes([3; 32]),
        identity: Identity { cluster: "test".to_owned(), node: 1, name: "node-1".to_owned() },
        cache_bytes: 16 * 1024 * 1024,
    }
}

fn create(dir: &Path) -> Engine {
    Engine::create(&options(dir)).unwrap();
    Engine::open(options(dir)).unwrap()
}

fn position(index: u64) -> LogPosition {
    LogPosition { term: 1, node: 1, index }
}

fn records(indexes: std::ops::Range<u64>) -> Vec<Arc<LogRecord>> {
    let record = |index| LogRecord { position: position(index), payload: LogPayload::Batch(Bytes::from("text")) };
    indexes.map(|index| Arc::new(record(index))).collect()
}

fn append(log: &LogStore, records: Vec<Arc<LogRecord>>) -> Result<(), StorageError> {
    let (sender, receiver) = mpsc::channel();
    log.append(records, Box::new(move |result| sender.send(result).unwrap()))?;
    receiver.recv_timeout(DEADLINE).unwrap()
}

/// Ten log records and two state records, closed; then the raw database is damaged.
fn damaged(dir: &Path, damage: impl FnOnce(&sled::Db)) -> Result<Engine, OpenError> {
    let engine = create(dir);
    append(&engine.log(SHARD).unwrap(), records(0..10)).unwrap();
    let writes = ["one", "two"].map(|key| (Bytes::from(key), Some(Bytes::from("value"))));
    let applied = Applied { position: Some(position(9)), membership: Bytes::new() };
    engine.state(SHARD).unwrap().apply(writes, applied).unwrap();
    engine.close();
    let engine = Engine::open(options(dir)).unwrap();
    damage(engine.shared().disk.raw());
    engine.close();
    Engine::open(options(dir))
}

fn flip_bit(db: &sled::Db, key: &[u8]) {
    let mut value = db.get(key).unwrap().unwrap().to_vec();
    let middle = value.len() / 2;
    value[middle] ^= 1;
    db.insert(key, value).unwrap();
}

fn swap(db: &sled::Db, one: &[u8], other: &[u8]) {
    let (first, second) = (db.get(one).unwrap().unwrap(), db.get(other).unwrap().unwrap());
    db.insert(one, second).unwrap();
    db.insert(other, first).unwrap();
}

#[test]
fn a_flipped_bit_is_never_served_and_the_error_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let engine = damaged(dir.path(), |db| {
        flip_bit(db, &key::log(SHARD, 4));
        flip_bit(db, &key::state(SHARD, 0, b"one"));
    })
    .unwrap();
    let log = engine.log(SHARD).unwrap();
    assert_eq!(log.read(0, 4, usize::MAX).unwrap(), records(0..4));
    let error = log.read(0, 10, usize::MAX).unwrap_err().to_string();
    assert!(error.starts_with("corrupt log record 4 of shard 2: the seal does not open"), "{error}");
    let state = engine.state(SHARD).unwrap();
    let error = state.get(b"one").unwrap_err().to_string();
    assert!(error.starts_with("corrupt state record 000000006f6e65 of shard 2: the seal"), "{error}");
    assert!(state.digest().is_err() && state.scan(b"", None, 9).is_err() && state.snapshot().next().is_err());
    assert_eq!(state.get(b"two").unwrap().as_deref(), Some(&b"value"[..]));
}

#[test]
fn values_that_change_places_do_not_open() {
    let dir = tempfile::tempdir().unwrap();
    let engine = damaged(dir.path(), |db| {
        swap(db, &key::log(SHARD, 1), &key::log(SHARD, 2));
        swap(db, &key::state(SHARD, 0, b"one"), &key::state(SHARD, 0, b"two"));
    })
    .unwrap();
    let error = engine.log(SHARD).unwrap().get(1).unwrap_err().to_string();
    assert!(error.starts_with("corrupt log record 1 of shard 2: the seal does not open"), "{error}");
    assert!(engine.state(SHARD).unwrap().get(b"one").is_err());
}

#[test]
fn a_missing_record_is_found_when_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let engine = damaged(dir.path(), |db| {
        db.remove(key::log(SHARD, 5)).unwrap();
    })
    .unwrap();
    let log = engine.log(SHARD).unwrap();
    let error = log.read(3, 10, usize::MAX).unwrap_err().to_string();
    assert!(error.starts_with("corrupt log record 5 of shard 2: the record is missing"), "{error}");
    let error = log.read(3, 6, usize::MAX).unwrap_err().to_string();
    assert!(error.starts_with("corrupt log record 5 of shard 2: the record is missing"), "{error}");
}

#[test]
fn a_damaged_marker_or_a_state_ahead_of_its_log_is_refused_at_open() {
    let dir = tempfile::tempdir().unwrap();
    let marker = damaged(dir.path(), |db| flip_bit(db, &key::named(SHARD, meta::APPLIED)));
    let error = marker.err().unwrap().to_string();
    assert!(error.contains("db is corrupt: corrupt meta record applied of shard 2: the seal"), "{error}");

    let dir = tempfile::tempdir().unwrap();
    let ahead = damaged(dir.path(), |db| {
        db.remove(key::log(SHARD, 9)).unwrap();
    });
    let error = ahead.err().unwrap().to_string();
    assert!(error.contains("corrupt log record 9 of shard 2: it is missing, but the state has it applied"), "{error}");
}

/// Ends the installation the way a crash does: nothing is undone.
struct Crashing {
    source: Box<dyn SnapshotSource + Send>,
    chunks_left: usize,
}

impl SnapshotSource for Crashing {
    fn meta(&self) -> &SnapshotMeta {
        self.source.meta()
    }

    fn next(&mut self) -> Result<Option<SnapshotChunk>, StorageError> {
        assert!(self.chunks_left > 0, "crash");
        self.chunks_left -= 1;
        self.source.next()
    }
}

fn count(engine: &Engine, range: std::ops::Range<Vec<u8>>) -> usize {
    engine.shared().disk.raw().range(range).count()
}

#[test]
fn a_crash_in_the_middle_of_an_installation_leaves_the_old_state() {
    let (leader_dir, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let leader = create(leader_dir.path());
    append(&leader.log(SHARD).unwrap(), records(0..50)).unwrap();
    let applied = Applied { position: Some(position(49)), membership: Bytes::new() };
    let write = (Bytes::from("new"), Some(Bytes::from("value")));
    leader.state(SHARD).unwrap().apply([write], applied).unwrap();
    let leader_state = leader.state(SHARD).unwrap();

    let engine = damaged(dir.path(), |_| {}).unwrap();
    let (log, state) = (engine.log(SHARD).unwrap(), engine.state(SHARD).unwrap());
    let digest = state.digest().unwrap();
    let mut source = Crashing { source: Box::new(leader_state.snapshot()), chunks_left: 2 };
    let crash = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| state.install(&mut source)));
    assert!(crash.is_err());
    drop((log, state));
    engine.close();

    // What was staged is on disk before the next opening, and gone after it.
    let disk = crate::disk::Disk::open(&dir.path().join("db"), 1 << 20, crate::seal::Sealer::new(&[0; 32])).unwrap();
    let staged = disk.raw().range(key::generation_range(SHARD, Space::State, 1)).count();
    assert_eq!((staged, disk.raw().range(key::log_range(SHARD, 0..u64::MAX)).count()), (1, 50));
    drop(disk);
    let engine = Engine::open(options(dir.path())).unwrap();
    assert_eq!(count(&engine, key::generation_range(SHARD, Space::State, 1)), 0);
    assert_eq!(count(&engine, key::log_range(SHARD, 0..u64::MAX)), 10);
    let (log, state) = (engine.log(SHARD).unwrap(), engine.state(SHARD).unwrap());
    assert_eq!(state.digest().unwrap(), digest);
    assert_eq!(log.read(0, 100, usize::MAX).unwrap(), records(0..10));
    state.install(&mut leader_state.snapshot()).unwrap();
    assert_eq!(state.digest().unwrap(), leader.state(SHARD).unwrap().digest().unwrap());
    // The old generation went with the flip.
    assert_eq!(count(&engine, key::generation_range(SHARD, Space::State, 0)), 0);
}

#[test]
fn chunks_of_a_snapshot_that_was_never_finished_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let engine = damaged(dir.path(), |db| {
        db.insert(key::chunk(SHARD, 9, 0), b"half").unwrap();
        db.insert(key::state(SHARD, 9, b"left"), b"over").unwrap();
    })
    .unwrap();
    assert_eq!(count(&engine, key::space_range(SHARD, Space::Snapshot)), 0);
    assert_eq!(count(&engine, key::space_range(SHARD, Space::State)), 2);
}

/// Errors of the operating system as Linux numbers them.
const ERRORS: [(i32, DiskFault); 4] =
    [(28, DiskFault::Full), (122, DiskFault::Full), (30, DiskFault::ReadOnly), (5, DiskFault::Broken)];

#[test]
fn a_write_that_fails_anywhere_is_the_last_one_and_says_where_and_why() {
    let at_once = [Point::WalWrite, Point::WalSync, Point::Insert];
    let points = at_once.into_iter().chain([Point::Flush, Point::Sync]);
    for (point, (errno, fault)) in points.flat_map(|point| ERRORS.map(|error| (point, error))) {
        let dir = tempfile::tempdir().unwrap();
        let engine = create(dir.path());
        let log = engine.log(SHARD).unwrap();
        append(&log, records(0..1)).unwrap();
        let (sender, hooked) = mpsc::channel();
        engine.on_failure(Box::new(move |error| sender.send(error.clone()).unwrap()));
        engine.shared().disk.faults.plan(point, errno);
        let first = append(&log, records(1..2));
        if at_once.contains(&point) {
            assert!(matches!(first, Err(StorageError::Failed { .. })), "{point:?}: {first:?}");
        } else {
            // sled is made durable behind the acknowledgement, by a checkpoint at the latest.
            first.unwrap();
            let state = engine.state(SHARD).unwrap();
            state.apply([], Applied::default()).unwrap();
            let failed = state.checkpoint().err();
            assert!(matches!(failed, Some(StorageError::Failed { .. })), "{point:?}: {failed:?}");
        }
        let StorageError::Failed { reason, fault: found } = hooked.recv_timeout(DEADLINE).unwrap() else {
            panic!("another error");
        };
        assert_eq!(found, fault, "{point:?} {errno}: {reason}");
        let place = if matches!(point, Point::WalWrite | Point::WalSync) { "wal." } else { "db/db" };
        assert!(reason.contains(place) && reason.contains("os error"), "{point:?}: {reason}");
        let after = append(&log, records(2..3));
        assert!(matches!(after, Err(StorageError::Failed { .. })), "{point:?}: {after:?}");
        engine.close();
        drop(log);
    }
}

#[test]
fn after_a_failed_commit_nothing_is_answered_and_the_hook_is_called_once() {
    let dir = tempfile::tempdir().unwrap();
    let engine = create(dir.path());
    let log = engine.log(SHARD).unwrap();
    append(&log, records(0..1)).unwrap();
    let (sender, hooked) = mpsc::channel();
    engine.on_failure(Box::new(move |error| sender.send(error.to_string()).unwrap()));
    assert_eq!(engine.failed(), None);

    engine.shared().disk.faults.plan(Point::WalSync, 5);
    let error = append(&log, records(1..2)).unwrap_err();
    assert!(matches!(error, StorageError::Failed { .. }), "{error}");
    let said = hooked.recv_timeout(DEADLINE).unwrap();
    assert!(said.contains("fdatasync of") && said.contains("wal.0"), "{said}");
    assert_eq!(engine.failed(), Some(said));
    // The fault is gone, the verdict stays.
    for refused in [append(&log, records(2..3)), log.save_vote(Bytes::new()), log.truncate_after(None)] {
        assert!(matches!(refused, Err(StorageError::Failed { .. })), "{refused:?}");
    }
    let state = engine.state(SHARD).unwrap();
    assert!(matches!(state.apply([], Applied::default()), Err(StorageError::Failed { .. })));
    assert!(matches!(state.snapshot().next(), Err(StorageError::Failed { .. })));
    let (sender, late) = mpsc::channel();
    engine.on_failure(Box::new(move |_| sender.send(()).unwrap()));
    late.try_recv().expect("a late hook is called at once");
    engine.close();
}

fn flip_all(db: &sled::Db, range: std::ops::Range<Vec<u8>>) {
    let keys: Vec<_> = db.range(range).keys().map(|key| key.unwrap()).collect();
    keys.iter().for_each(|key| flip_bit(db, key));
}

#[test]
fn a_damaged_log_record_is_written_again_in_its_place_the_last_one_too() {
    let dir = tempfile::tempdir().unwrap();
    let engine = damaged(dir.path(), |db| flip_all(db, key::log_range(SHARD, 4..10))).unwrap();
    let log = engine.log(SHARD).unwrap();
    // The state was applied through the last one: its position is known.
    assert_eq!((log.bounds().last, log.unsure()), (Some(position(9)), vec![]));
    for record in records(4..10) {
        let damage = log.get(record.position.index).unwrap_err().damage();
        assert_eq!(damage, Some(Damage::Log { index: record.position.index }));
        log.rewrite(&record).unwrap();
    }
    assert_eq!(log.read(0, 10, usize::MAX).unwrap(), records(0..10));
    assert!(log.rewrite(&records(10..11)[0]).is_err(), "behind the end is not in place of anything");
}

#[test]
fn damaged_records_behind_the_last_known_one_wait_for_a_decision() {
    let dir = tempfile::tempdir().unwrap();
    let engine = damaged(dir.path(), |_| {}).unwrap();
    append(&engine.log(SHARD).unwrap(), records(10..13)).unwrap();
    engine.close();
    let engine = Engine::open(options(dir.path())).unwrap();
    flip_all(engine.shared().disk.raw(), key::log_range(SHARD, 11..13));
    engine.close();

    let engine = Engine::open(options(dir.path())).unwrap();
    let log = engine.log(SHARD).unwrap();
    assert_eq!((log.bounds().last, log.unsure()), (Some(position(10)), vec![11, 12]));
    assert!(log.rewrite(&records(12..13)[0]).is_err(), "the first of them comes first");
    records(11..13).iter().for_each(|record| log.rewrite(record).unwrap());
    assert_eq!((log.bounds().last, log.unsure()), (Some(position(12)), vec![]));
    append(&log, records(13..14)).unwrap();
    assert_eq!(log.read(0, 14, usize::MAX).unwrap(), records(0..14));
}

#[test]
fn what_raft_learns_again_is_forgotten_when_it_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let engine = damaged(dir.path(), |_| {}).unwrap();
    engine.log(SHARD).unwrap().save_committed(Some(position(7))).unwrap();
    engine.close();
    let engine = Engine::open(options(dir.path())).unwrap();
    let raw = engine.shared().disk.raw();
    flip_bit(raw, &key::named(SHARD, meta::COMMITTED));
    engine.close();

    let engine = Engine::open(options(dir.path())).unwrap();
    assert_eq!(engine.log(SHARD).unwrap().committed().unwrap(), None);
}

fn state_of(engine: &Engine) -> (Applied, Vec<(Bytes, Bytes)>) {
    let state = engine.state(SHARD).unwrap();
    (state.applied(), state.scan(b"", None, 100).unwrap())
}

#[test]
fn a_state_is_replaced_as_a_whole_while_the_log_stays() {
    let (source_dir, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = damaged(source_dir.path(), |_| {}).unwrap();
    let (applied, pairs) = state_of(&source);
    let digest = source.state(SHARD).unwrap().digest().unwrap();
    let engine = damaged(dir.path(), |db| flip_all(db, key::space_range(SHARD, Space::State))).unwrap();
    let (log, state) = (engine.log(SHARD).unwrap(), engine.state(SHARD).unwrap());
    assert!(state.digest().is_err());

    let stage =
        |pieces: Vec<Result<Vec<(Bytes, Bytes)>, StorageError>>| state.stage(applied.clone(), pieces.into_iter());
    let cut_short = StorageError::Source { reason: "gone".to_owned() };
    assert!(stage(vec![Ok(pairs.clone()), Err(cut_short)]).is_err());
    assert!(stage(vec![Ok(pairs.iter().rev().cloned().collect())]).is_err(), "out of order");
    // One that is compared and not taken.
    drop(stage(vec![Ok(pairs.clone())]).unwrap());
    assert_eq!(count(&engine, key::generation_range(SHARD, Space::State, 1)), 0);

    let staged = stage(pairs.iter().map(|pair| Ok(vec![pair.clone()])).collect()).unwrap();
    assert_eq!(staged.digest(), digest);
    staged.replace().unwrap();
    assert_eq!((state.digest().unwrap(), state_of(&engine)), (digest, (applied, pairs)));
    assert_eq!(count(&engine, key::generation_range(SHARD, Space::State, 0)), 0);
    assert_eq!((log.bounds().purged, log.read(0, 10, usize::MAX).unwrap()), (None, records(0..10)));
    drop((log, state));
    engine.close();
    let engine = Engine::open(options(dir.path())).unwrap();
    assert_eq!(engine.state(SHARD).unwrap().digest().unwrap(), digest);
    assert_eq!(engine.log(SHARD).unwrap().bounds().last, Some(position(9)));
}

/// Looks at everything, a few records at a time.
fn scrub(engine: &Engine, shard: Option<ShardId>) -> (u64, Vec<Damage>) {
    let (mut records, mut damaged, mut cursor) = (0, Vec::new(), None);
    loop {
        let step = engine.scrub(shard, cursor.as_ref(), 200).unwrap();
        records += step.records;
        damaged.extend(step.damaged.iter().map(|error| error.damage().unwrap()));
        if step.next.is_none() {
            return (records, damaged);
        }
        cursor = step.next;
    }
}

#[test]
fn a_scrub_finds_every_damaged_record_and_named_ones_are_written_again_from_memory() {
    let dir = tempfile::tempdir().unwrap();
    let engine = damaged(dir.path(), |_| {}).unwrap();
    let (log, state) = (engine.log(SHARD).unwrap(), engine.state(SHARD).unwrap());
    log.save_vote(Bytes::from("a vote")).unwrap();
    log.purge(position(3)).unwrap();
    state.checkpoint().unwrap();
    let all = count(&engine, key::shard_start(SHARD)..key::shard_start(ShardId(SHARD.0 + 1)));
    assert_eq!((scrub(&engine, Some(SHARD)), scrub(&engine, None).1), ((all as u64, vec![]), vec![]));

    let raw = engine.shared().disk.raw();
    let named = [meta::VOTE, meta::PURGED, meta::APPLIED];
    named.iter().for_each(|name| flip_bit(raw, &key::named(SHARD, name)));
    [meta::IDENTITY, meta::WAL].iter().for_each(|name| flip_bit(raw, &key::named(key::ENGINE, name)));
    flip_bit(raw, &key::log(SHARD, 6));
    // Of a generation that nobody reads.
    raw.insert(key::state(SHARD, 7, b"old"), b"garbage").unwrap();
    let (_, mut found) = scrub(&engine, Some(SHARD));
    found.sort();
    let meta = Damage::Meta;
    assert_eq!(found, [Damage::Log { index: 6 }, meta, meta, meta]);
    assert_eq!(scrub(&engine, None), (3, vec![meta, meta]));

    state.rewrite_meta().unwrap();
    engine.rewrite_own().unwrap();
    log.rewrite(&records(6..7)[0]).unwrap();
    assert_eq!((scrub(&engine, Some(SHARD)).1, scrub(&engine, None).1), (vec![], vec![]));
    flip_bit(engine.shared().disk.raw(), &key::state(SHARD, 0, b"two"));
    assert_eq!(scrub(&engine, Some(SHARD)).1, [Damage::State]);
    drop((log, state));
    engine.close();
    let engine = Engine::open(options(dir.path())).unwrap();
    assert_eq!(engine.log(SHARD).unwrap().vote().unwrap(), Some(Bytes::from("a vote")));
    assert_eq!(engine.log(SHARD).unwrap().bounds().purged, Some(position(3)));
}
