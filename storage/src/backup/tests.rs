//! A backup gives back what went in; whatever happens to its files is found and named.

use std::fs;

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::copy::Cut;
use crate::record::{Applied, LogPayload, LogPosition, LogRecord, SnapshotChunk};
use crate::secret::ClusterKey;
use crate::state::PairHasher;

const SHARDS: u16 = 2;

fn about() -> About {
    About {
        backup: Uuid::from_u128(7),
        cluster: "0190d6a0-0000-7000-8000-000000000001".to_owned(),
        campanile: "0.1.0".to_owned(),
        created: "today".to_owned(),
        node: 2,
        shards: SHARDS,
    }
}

fn key() -> BackupKey {
    BackupKey::from_bytes([5; 32])
}

fn position(index: u64) -> LogPosition {
    LogPosition { term: 3, node: 2, index }
}

/// Some state and some records, more than one chunk file if `bytes` is large.
fn content(seed: u8, pairs: u64, bytes: usize) -> Vec<SnapshotChunk> {
    let pair = |number: u64| (number.to_be_bytes().to_vec().into(), vec![seed.wrapping_add(number as u8); 100].into());
    let record = |index| LogRecord { position: position(index), payload: LogPayload::Batch(vec![seed; bytes].into()) };
    let state = (0..pairs).map(|number| SnapshotChunk::State(vec![pair(number)]));
    state.chain((0..pairs).map(|index| SnapshotChunk::Records(vec![record(index)]))).collect()
}

fn cut(shard: u16, chunks: &[SnapshotChunk], index: u64) -> Cut {
    let mut digest = PairHasher::default();
    for chunk in chunks {
        if let SnapshotChunk::State(pairs) = chunk {
            pairs.iter().for_each(|(key, value)| digest.add(key, value));
        }
    }
    let applied = Applied { position: Some(position(index)), membership: Bytes::new() };
    let digest = digest.finish(None);
    Cut { shard: ShardId(shard), applied, digest: digest.digest, records: digest.records }
}

fn write(dir: &Path, shards: &[Vec<SnapshotChunk>]) -> Result<Manifest, BackupError> {
    let mut writer = BackupWriter::begin(dir, &key(), &ClusterKey::from_bytes([1; 32]), about())?;
    for (shard, chunks) in (0..).zip(shards) {
        let mut into = writer.shard(&cut(shard, chunks, 1_000))?;
        chunks.iter().try_for_each(|chunk| into.add(chunk))?;
        into.finish()?;
    }
    writer.finish()
}

/// Shards of three, one and one chunk files.
fn usual() -> Vec<Vec<SnapshotChunk>> {
    vec![content(1, 150, 60_000), content(2, 3, 10), content(3, 3, 10)]
}

fn read(backup: &Backup, shard: u16) -> Result<Vec<SnapshotChunk>, BackupError> {
    let mut reader = backup.shard(ShardId(shard)).unwrap();
    std::iter::from_fn(|| reader.next_chunk().transpose()).collect()
}

#[test]
fn what_went_in_comes_out() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("backup");
    let manifest = write(&dir, &usual()).unwrap();
    assert_eq!(manifest.cuts[0].chunks.len(), 3);
    let backup = Backup::open(&dir, &key()).unwrap();
    assert_eq!(backup.manifest(), &manifest);
    assert_eq!(backup.cluster_key().unwrap().bytes(), &[1; 32]);
    for (shard, chunks) in (0..).zip(usual()) {
        assert_eq!(read(&backup, shard).unwrap(), chunks);
    }
    assert_eq!(Backup::check_files(&dir).unwrap(), (manifest, Vec::new()));
    assert_eq!(backup.verify().unwrap(), Vec::new());
    // Not a byte of it is to be read without the key.
    let chunk = fs::read(dir.join("shard-0000/000000.chunk")).unwrap();
    assert!(!chunk.windows(40).any(|window| window == [2; 40]));
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn a_backup_is_complete_or_absent() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("backup");
    let left = || fs::read_dir(temp.path()).unwrap().count();
    assert!(write(&dir, &usual()[..2]).is_err(), "a shard is missing");
    let mut short = usual();
    short[1].remove(0);
    let mut writer = BackupWriter::begin(&dir, &key(), &ClusterKey::from_bytes([1; 32]), about()).unwrap();
    let busy = BackupWriter::begin(&dir, &key(), &ClusterKey::from_bytes([1; 32]), about()).err().unwrap();
    assert!(matches!(busy, BackupError::Busy { .. }), "{busy}");
    let mut into = writer.shard(&cut(0, &usual()[0], 1_000)).unwrap();
    short[1].iter().for_each(|chunk| into.add(chunk).unwrap());
    assert!(into.finish().is_err(), "the digest is another one");
    drop(writer);
    assert_eq!(left(), 0);
    // A process that was killed left its part; the next one removes it.
    fs::create_dir(temp.path().join("backup.partial")).unwrap();
    write(&dir, &usual()).unwrap();
    assert_eq!(left(), 1);
    assert!(matches!(write(&dir, &usual()), Err(BackupError::Exists { .. })));
}

type Do<'a> = &'a dyn Fn(&Path);

/// `(damage, the file that is named, what is said)`; the first judge has no key, the second one has.
#[test]
fn every_damage_is_found_and_named() {
    let change = |dir: &Path, file: &str, change: fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(dir.join(file)).unwrap();
        change(&mut bytes);
        fs::write(dir.join(file), bytes).unwrap();
    };
    let flipped: Do<'_> = &|dir| change(dir, "shard-0000/000001.chunk", |bytes| bytes[99] ^= 1);
    let short: Do<'_> = &|dir| change(dir, "shard-0001/000000.chunk", |bytes| bytes.truncate(50));
    let longer: Do<'_> = &|dir| change(dir, "shard-0002/000000.chunk", |bytes| bytes.push(0));
    let missing: Do<'_> = &|dir| fs::remove_file(dir.join("shard-0000/000002.chunk")).unwrap();
    let swapped: Do<'_> = &|dir| {
        let [a, b] = ["shard-0000/000000.chunk", "shard-0000/000001.chunk"].map(|file| dir.join(file));
        let kept = fs::read(&a).unwrap();
        fs::copy(&b, &a).unwrap();
        fs::write(&b, kept).unwrap();
    };
    let of_other_shard: Do<'_> = &|dir| {
        fs::copy(dir.join("shard-0001/000000.chunk"), dir.join("shard-0002/000000.chunk")).unwrap();
    };
    let table: [(Do<'_>, &str, &str); 6] = [
        (flipped, "shard-0000/000001.chunk", "changed"),
        (short, "shard-0001/000000.chunk", "it has 50 bytes"),
        (longer, "shard-0002/000000.chunk", "bytes"),
        (missing, "shard-0000/000002.chunk", "missing"),
        (swapped, "shard-0000/000000.chunk", "it is shard-0000/000001.chunk"),
        (of_other_shard, "shard-0002/000000.chunk", "it is shard-0001/000000.chunk"),
    ];
    for (damage, file, what) in table {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("backup");
        write(&dir, &usual()).unwrap();
        damage(&dir);
        let (_, found) = Backup::check_files(&dir).unwrap();
        assert!(found.iter().any(|found| found.file == file && found.what.contains(what)), "{found:?}");
        let opened = Backup::open(&dir, &key()).unwrap().verify().unwrap();
        assert!(opened.iter().any(|found| found.file == file), "{opened:?}");
    }
}

#[test]
fn a_changed_manifest_another_key_and_a_stray_file_are_found() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("backup");
    write(&dir, &usual()).unwrap();
    let path = dir.join("manifest.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(matches!(Backup::open(&dir, &BackupKey::from_bytes([6; 32])), Err(BackupError::WrongKey)));

    fs::write(&path, text.replace("today", "never")).unwrap();
    assert!(matches!(Backup::check_files(&dir), Err(BackupError::Manifest { .. })));
    // Whoever changes it and mends the checksum has no key to seal it.
    let (body, seal) = text.rsplit_once("# checksum").unwrap();
    let body = body.replace("today", "never");
    let seal = seal.split_once('\n').unwrap().1;
    fs::write(&path, format!("{body}# checksum {}\n{seal}", blake3::hash(body.as_bytes()))).unwrap();
    assert!(Backup::check_files(&dir).is_ok());
    let error = Backup::open(&dir, &key()).err().unwrap();
    assert!(matches!(error, BackupError::Manifest { .. }), "{error}");

    let later = text.replacen("format = 1", "format = 2", 1);
    let (body, seal) = later.rsplit_once("# checksum").unwrap();
    let seal = seal.split_once('\n').unwrap().1;
    fs::write(&path, format!("{body}# checksum {}\n{seal}", blake3::hash(body.as_bytes()))).unwrap();
    assert!(matches!(Backup::check_files(&dir), Err(BackupError::Format { found: 2, known: 1 })));

    fs::write(&path, &text).unwrap();
    fs::write(dir.join("shard-0001/note"), "x").unwrap();
    let (_, found) = Backup::check_files(&dir).unwrap();
    assert_eq!(found[0].file, "shard-0001/note");
    fs::remove_file(&path).unwrap();
    assert!(matches!(Backup::open(&dir, &key()), Err(BackupError::NotABackup { .. })));
}

/// A chunk of another backup under the same key does not open here, whatever the manifest says.
#[test]
fn a_chunk_is_bound_to_its_backup_shard_and_number() {
    let sealer = key().sealer();
    let (backup, shard) = (Uuid::from_u128(1), ShardId(3));
    let sealed = sealer.seal(backup, shard, 4, b"plain");
    assert_eq!(sealer.open(backup, shard, 4, &sealed).unwrap(), b"plain");
    assert!(sealer.open(Uuid::from_u128(2), shard, 4, &sealed).is_err());
    assert!(sealer.open(backup, ShardId(4), 4, &sealed).is_err());
    assert!(sealer.open(backup, shard, 5, &sealed).is_err());
}

#[test]
fn a_stream_is_read_by_whoever_has_the_clusters_key() {
    let frame = StreamFrame::Chunk(content(1, 1, 1).remove(0));
    let (backup, shard) = (Uuid::from_u128(1), ShardId(3));
    let sealer = StreamSealer::new(&ClusterKey::from_bytes([1; 32]));
    let sealed = sealer.seal(backup, shard, 0, &frame);
    assert_eq!(sealer.open(backup, shard, 0, &sealed).unwrap(), frame);
    assert!(sealer.open(backup, shard, 1, &sealed).is_err());
    let stranger = StreamSealer::new(&ClusterKey::from_bytes([2; 32]));
    assert!(stranger.open(backup, shard, 0, &sealed).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any content comes back; any one changed byte anywhere in the directory is found.
    #[test]
    fn any_content_comes_back_and_any_changed_byte_is_found(
        pairs in 0u64..40, bytes in 0usize..5_000, file in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(), bit in 0u8..8,
    ) {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("backup");
        let shards = [content(1, pairs, bytes), content(2, pairs / 2, bytes), Vec::new()];
        write(&dir, &shards).unwrap();
        let backup = Backup::open(&dir, &key()).unwrap();
        for (shard, chunks) in (0..).zip(&shards) {
            prop_assert_eq!(&read(&backup, shard).unwrap(), chunks);
        }
        let mut files = vec![dir.join("manifest.toml")];
        for shard in 0..=SHARDS {
            let chunks = fs::read_dir(dir.join(format!("shard-{shard:04}"))).unwrap();
            files.extend(chunks.map(|entry| entry.unwrap().path()));
        }
        files.sort();
        let path = &files[file.index(files.len())];
        let mut changed = fs::read(path).unwrap();
        let at = at.index(changed.len());
        changed[at] ^= 1 << bit;
        fs::write(path, changed).unwrap();
        let found = Backup::open(&dir, &key()).and_then(|backup| backup.verify());
        prop_assert!(found.is_err() || !found.unwrap().is_empty(), "{} byte {at}", path.display());
    }
}
