use std::fs;
use std::path::Path;

use super::{SealedLog, SealedLogError, TornTail, verify};
use crate::NodeKey;

const NAME: &str = "security";

fn key() -> NodeKey {
    NodeKey::from_bytes([5; 32])
}

fn open(dir: &Path) -> Result<SealedLog, SealedLogError> {
    SealedLog::open(dir, &key(), NAME)
}

fn text(sequence: u64) -> Vec<u8> {
    format!("record {sequence}").into_bytes()
}

/// A synced log of `count` records; the offsets at which they begin, and the end.
fn filled(dir: &Path, count: u64) -> Vec<u64> {
    let mut log = open(dir).unwrap();
    for sequence in 0..count {
        assert_eq!(log.append(&text(sequence)).unwrap(), sequence);
    }
    log.sync().unwrap();
    (0..=count).map(|sequence| sequence * (4 + 45 + 8)).collect()
}

fn bytes(dir: &Path) -> Vec<u8> {
    fs::read(dir.join("security.log")).unwrap()
}

fn set(dir: &Path, bytes: &[u8]) {
    fs::write(dir.join("security.log"), bytes).unwrap();
}

/// The error that both opening and verifying end with.
fn refusal(dir: &Path) -> super::ChainError {
    let SealedLogError::Chain(opened) = open(dir).err().expect("it does not open") else { panic!("no chain error") };
    let SealedLogError::Chain(verified) = verify(dir, &key(), NAME).unwrap_err() else { panic!("no chain error") };
    assert_eq!(opened, verified);
    opened
}

#[test]
fn records_come_back_in_order_and_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 5);
    let mut log = open(dir.path()).unwrap();
    assert_eq!((log.records(), log.torn_tail()), (5, None));
    assert_eq!(log.append(&text(5)).unwrap(), 5);
    let read: Vec<_> = log.iter(2).unwrap().map(Result::unwrap).collect();
    assert_eq!(read, (2..6).map(|sequence| (sequence, text(sequence))).collect::<Vec<_>>());
    log.sync().unwrap();
    let before = verify(dir.path(), &key(), NAME).unwrap();
    assert_eq!((before.records, before.torn_tail), (6, None));
    log.append(b"more").unwrap();
    log.sync().unwrap();
    assert_ne!(verify(dir.path(), &key(), NAME).unwrap().head, before.head);
    assert!(matches!(log.append(&vec![0; 64 * 1024 + 1]), Err(SealedLogError::TooLarge { .. })));
}

#[test]
fn every_flipped_bit_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let offsets = filled(dir.path(), 3);
    let whole = bytes(dir.path());
    assert_eq!(whole.len() as u64, offsets[3]);
    for bit in 0..whole.len() * 8 {
        let mut changed = whole.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        set(dir.path(), &changed);
        let error = refusal(dir.path());
        let expected = offsets.iter().rposition(|offset| *offset <= bit as u64 / 8).unwrap() as u64;
        assert_eq!((error.sequence, error.offset), (expected, offsets[expected as usize]), "bit {bit}: {error}");
    }
    set(dir.path(), &whole);
    assert_eq!(open(dir.path()).unwrap().records(), 3);
}

#[test]
fn removed_and_exchanged_records_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let at = filled(dir.path(), 4).into_iter().map(|offset| offset as usize).collect::<Vec<_>>();
    let whole = bytes(dir.path());

    set(dir.path(), &[&whole[..at[1]], &whole[at[2]..]].concat());
    assert_eq!(refusal(dir.path()).sequence, 1, "one from the middle");
    set(dir.path(), &[&whole[..at[1]], &whole[at[2]..at[3]], &whole[at[1]..at[2]], &whole[at[3]..]].concat());
    assert_eq!(refusal(dir.path()).sequence, 1, "two exchanged");
    set(dir.path(), &whole[..at[3]]);
    let error = refusal(dir.path());
    assert_eq!((error.sequence, error.what.as_str()), (3, "1 synced records are missing from here on"));
    set(dir.path(), &[]);
    assert_eq!(refusal(dir.path()).what, "4 synced records are missing from here on");
    fs::remove_file(dir.path().join("security.log")).unwrap();
    assert_eq!(refusal(dir.path()).what, "the log file is missing");
    set(dir.path(), &whole);
    fs::remove_file(dir.path().join("security.head")).unwrap();
    assert_eq!(refusal(dir.path()).what, "the head file is missing");
}

#[test]
fn another_log_or_another_key_is_refused() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    filled(dir.path(), 2);
    filled(other.path(), 3);
    set(dir.path(), &bytes(other.path()));
    assert!(refusal(dir.path()).what.contains("not those that were synced"));
    let error = SealedLog::open(other.path(), &NodeKey::from_bytes([6; 32]), NAME).err().unwrap();
    assert!(error.to_string().contains("changed bytes or another key"), "{error}");
}

/// Three synced records and two that were only written.
fn with_unsynced(dir: &Path) -> Vec<u64> {
    let mut log = open(dir).unwrap();
    (0..3).for_each(|sequence| assert_eq!(log.append(&text(sequence)).unwrap(), sequence));
    log.sync().unwrap();
    log.append(&text(3)).unwrap();
    log.append(&text(4)).unwrap();
    assert_eq!(log.iter(0).unwrap().count(), 5);
    (0..=5).map(|sequence| sequence * (4 + 45 + 8)).collect()
}

#[test]
fn a_torn_tail_is_cut_off_and_reported() {
    for keep in [1, 3, 4, 30, 56] {
        let dir = tempfile::tempdir().unwrap();
        let at = with_unsynced(dir.path());
        let whole = bytes(dir.path());
        set(dir.path(), &whole[..at[4] as usize + keep]);
        let torn = Some(TornTail { offset: at[4], bytes: keep as u64 });
        assert_eq!(verify(dir.path(), &key(), NAME).unwrap().torn_tail, torn);
        let mut log = open(dir.path()).unwrap();
        assert_eq!((log.records(), log.torn_tail()), (4, torn));
        assert_eq!(log.append(&text(4)).unwrap(), 4);
        log.sync().unwrap();
        assert_eq!(open(dir.path()).unwrap().records(), 5);
    }
}

#[test]
fn a_tail_of_zeros_is_torn_and_a_changed_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let at = with_unsynced(dir.path());
    let mut zeroed = bytes(dir.path());
    zeroed[at[3] as usize + 20..].fill(0);
    set(dir.path(), &zeroed);
    let log = open(dir.path()).unwrap();
    assert_eq!((log.records(), log.torn_tail().unwrap().offset), (3, at[3]));
    drop(log);

    let dir = tempfile::tempdir().unwrap();
    with_unsynced(dir.path());
    let mut changed = bytes(dir.path());
    changed[at[4] as usize + 20] ^= 1;
    set(dir.path(), &changed);
    assert_eq!(refusal(dir.path()).sequence, 4);
}
