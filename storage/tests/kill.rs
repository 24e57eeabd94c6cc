//! `kill -9` at random moments: every acknowledged record is there afterwards.

mod support;

use support::crash::{Writer, check, child_role as child, random};
use support::{create, open};

const KILLS: usize = 8;

#[test]
fn child_role() {
    child();
}

#[test]
fn no_acknowledged_record_is_lost_by_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path()).close();
    let mut acknowledged = 0;
    for round in 0..KILLS {
        let mut writer = Writer::start(dir.path());
        writer.wait_for(1 + random(1_500));
        let acks = writer.kill();
        acknowledged += acks.count;
        let engine = open(dir.path());
        check(&engine, &acks);
        let stats = engine.stats();
        println!("kill {round}: {} acknowledgements, {} bytes on disk", acks.count, stats.bytes_on_disk);
        engine.close();
    }
    assert!(acknowledged >= KILLS);
}
