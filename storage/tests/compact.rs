//! Compaction: smaller and the same, whatever it is interrupted by.

#![allow(clippy::unwrap_used, reason = "helpers of tests are test code too")]

mod support;

use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use chat::ids::ShardId;
use storage::{Compaction, Engine, LogStore, OpenError, StateStore};
use support::crash::{COMPACT, Writer, check, child_role as child, random};
use support::{DEADLINE, append, applied, copy, create, open, options, position, records, write};

const SHARD: ShardId = ShardId(1);
const KILLS: usize = 6;

#[test]
fn child_role() {
    child();
}

fn stores(engine: &Engine) -> (LogStore, StateStore) {
    (engine.log(SHARD).unwrap(), engine.state(SHARD).unwrap())
}

/// Much is written, little of it stays.
fn churn(engine: &Engine, rounds: std::ops::Range<u64>) {
    let (log, state) = stores(engine);
    for round in rounds {
        append(&log, records(1, round * 10..round * 10 + 10)).unwrap();
        for key in 0..200 {
            let value = format!("{round}:{key}:").repeat(200);
            state.apply([write(&format!("key/{key:04}"), Some(&value))], applied(1, round * 10 + 9)).unwrap();
        }
        state.checkpoint().unwrap();
    }
}

#[test]
fn a_compacted_database_is_smaller_and_holds_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let engine = create(dir.path());
    churn(&engine, 0..40);
    let (log, state) = stores(&engine);
    log.save_vote(Bytes::from_static(b"vote")).unwrap();
    log.purge(position(1, 200)).unwrap();
    let (digest, all) = (state.digest().unwrap(), log.read(0, u64::MAX, usize::MAX).unwrap());
    drop((log, state));
    engine.close();

    let begun = Instant::now();
    let (engine, compacted) = Engine::open_compacted(options(dir.path()), Compaction::Now).unwrap();
    let compacted = compacted.unwrap();
    println!("{compacted:?} in {:?}", begun.elapsed());
    assert!(compacted.before.dead_percent() > 50, "{compacted:?}");
    assert!(compacted.after.disk_bytes * 2 < compacted.before.disk_bytes, "{compacted:?}");
    // What is said to live is what was counted when every record was read.
    let (counted, estimated) = (compacted.after.live_bytes, compacted.before.live_bytes);
    assert!(counted.abs_diff(estimated) < 1_000, "{compacted:?}");
    let (log, state) = stores(&engine);
    assert_eq!((state.digest().unwrap(), log.read(0, u64::MAX, usize::MAX).unwrap()), (digest, all));
    assert_eq!(log.vote().unwrap().unwrap(), "vote");
    assert_eq!(log.bounds().purged, Some(position(1, 200)));
    assert!(log.get(5).unwrap().is_some(), "messages before the purge are there");
    churn(&engine, 40..42);
    let digest = state.digest().unwrap();
    drop((log, state));
    engine.close();
    // A crash right behind it, and opening it as usual.
    let copied = copy(dir.path());
    for path in [dir.path(), copied.path()] {
        assert_eq!(open(path).state(SHARD).unwrap().digest().unwrap(), digest);
    }
}

#[test]
fn a_small_or_full_database_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let engine = create(dir.path());
    churn(&engine, 0..2);
    engine.close();
    let automatic = Compaction::WhenDead { percent: 0, min_bytes: storage::COMPACT_MIN_BYTES };
    assert_eq!(Engine::open_compacted(options(dir.path()), automatic).unwrap().1, None);
}

#[test]
fn a_damaged_record_is_not_copied_away() {
    let dir = tempfile::tempdir().unwrap();
    let engine = create(dir.path());
    append(&engine.log(SHARD).unwrap(), records(1, 0..3)).unwrap();
    engine.close();
    let db = sled::Config::new().path(dir.path().join("db")).segment_size(8 << 20).open().unwrap();
    let key = [&[0, 1, 2][..], &1u64.to_be_bytes()].concat();
    let mut sealed = db.get(&key).unwrap().unwrap().to_vec();
    sealed[40] ^= 1;
    db.insert(&key, sealed).unwrap();
    db.flush().unwrap();
    drop(db);
    let refused = Engine::open_compacted(options(dir.path()), Compaction::Now).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::Compact { .. }), "{refused}");
    // It is as it was, with nothing beside it.
    assert!(!dir.path().join("db.compacting").exists());
    assert_eq!(*open(dir.path()).log(SHARD).unwrap().get(2).unwrap().unwrap(), *support::record(1, 2));
}

/// Where a compaction is when it is killed.
fn reached(dir: &Path, moment: usize) -> bool {
    let copy = dir.join("db.compacting");
    let bytes = || std::fs::metadata(copy.join("db")).map_or(0, |file| file.len());
    match moment {
        0 => copy.exists(),
        1 => bytes() > 0,
        2 => bytes() > 8 << 20,
        3 => dir.join("db.old").exists(),
        // It is done, and appends are acknowledged.
        _ => false,
    }
}

#[test]
fn a_compaction_killed_at_any_moment_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path()).close();
    let mut writer = Writer::start(dir.path());
    writer.wait_for(4_000);
    let mut acks = writer.kill();
    for kill in 0..KILLS {
        let writer = Writer::start_with(dir.path(), &[(COMPACT, "1")]);
        // It begins to copy, or is done with it, before the moment is looked for.
        let deadline = Instant::now() + DEADLINE;
        let moment = kill % 5;
        while !reached(dir.path(), moment) && writer.acks().count == 0 {
            assert!(Instant::now() < deadline, "moment {moment} is not reached");
            (0..random(2_000)).for_each(|_| std::hint::spin_loop());
        }
        let more = writer.kill();
        for (shard, last) in more.last {
            let known = acks.last.entry(shard).or_default();
            *known = last.max(*known);
        }
        let engine = open(dir.path());
        check(&engine, &acks);
        engine.close();
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("db.")), "{left:?}");
        println!("kill {kill}: moment {moment}, {} acknowledgements", more.count);
    }
}
