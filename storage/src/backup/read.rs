//! Reading a backup's directory, and finding what is wrong with it.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use chat::ids::ShardId;

use super::key::ChunkSealer;
use super::manifest::FILE;
use super::{BackupError, BackupKey, Manifest, ShardManifest, chunk_name, io_error};
use crate::key::hex;
use crate::record::{self, LogPosition, SnapshotChunk};
use crate::secret::ClusterKey;
use crate::state::PairHasher;

/// What is wrong with one file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {what}")]
pub struct Damage {
    /// Within the backup's directory.
    pub file: String,
    pub what: String,
}

/// A backup whose manifest is whole.
pub struct Backup {
    dir: PathBuf,
    manifest: Manifest,
    sealer: ChunkSealer,
}

impl Backup {
    /// Opens a backup; its chunks are checked when they are read.
    pub fn open(dir: &Path, key: &BackupKey) -> Result<Self, BackupError> {
        let manifest = Manifest::load(dir, Some(key))?;
        Ok(Self { dir: dir.into(), manifest, sealer: key.sealer() })
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The key that message bodies are sealed with.
    pub fn cluster_key(&self) -> Result<ClusterKey, BackupError> {
        let what = |what: String| BackupError::Manifest { what };
        let sealed = parse_hex(&self.manifest.cluster_key).ok_or_else(|| what("the cluster key is not hex".into()))?;
        let opened = self.sealer.open_cluster_key(self.manifest.backup, &sealed);
        opened.map_err(|error| what(format!("the cluster key: {error}")))
    }

    /// A stream over one shard, from its beginning; none if there is no such shard.
    pub fn shard(&self, shard: ShardId) -> Option<ShardReader<'_>> {
        let manifest = self.manifest.cuts.get(usize::from(shard.0))?;
        let content = Content::new(shard, manifest.index);
        Some(ShardReader { backup: self, manifest, content, next_chunk: 0, frames: Bytes::new() })
    }

    /// What is wrong with the files, judged without a key: all that are missing, short, changed, swapped or too many.
    pub fn check_files(dir: &Path) -> Result<(Manifest, Vec<Damage>), BackupError> {
        let manifest = Manifest::load(dir, None)?;
        let listed = Listed::of(&manifest)?;
        let mut damages = Vec::new();
        for (file, (hash, len)) in &listed.files {
            damages.extend(listed.judge(dir, file, *hash, *len)?);
        }
        damages.extend(extra(dir, &listed)?);
        damages.sort_by(|a, b| a.file.cmp(&b.file));
        Ok((manifest, damages))
    }

    /// Opens and counts everything: what is wrong, at most one thing of each shard.
    pub fn verify(&self) -> Result<Vec<Damage>, BackupError> {
        self.cluster_key()?;
        let mut damages = Vec::new();
        for shard in (0..=self.manifest.shards).map(ShardId) {
            let Some(mut reader) = self.shard(shard) else { continue };
            loop {
                match reader.next_chunk() {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(BackupError::Damaged(damage)) => {
                        damages.push(damage);
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(damages)
    }
}

/// One shard's chunks, each checked before it is given.
pub struct ShardReader<'b> {
    backup: &'b Backup,
    manifest: &'b ShardManifest,
    content: Content,
    next_chunk: u64,
    /// Of the chunk file at hand.
    frames: Bytes,
}

impl ShardReader<'_> {
    /// The cut that the shard is of.
    pub fn manifest(&self) -> &ShardManifest {
        self.manifest
    }

    /// Where the log was cut.
    pub fn position(&self) -> LogPosition {
        LogPosition { term: self.manifest.term, node: self.manifest.leader, index: self.manifest.index }
    }

    /// The next piece; none once everything was given and is what the manifest says.
    pub fn next_chunk(&mut self) -> Result<Option<SnapshotChunk>, BackupError> {
        if self.frames.is_empty() {
            if self.next_chunk == self.manifest.chunks.len() as u64 {
                self.content.compare(self.manifest).map_err(|what| self.damage(what))?;
                return Ok(None);
            }
            self.frames = self.open_chunk()?;
            self.next_chunk += 1;
        }
        let piece = self.next_frame().ok_or_else(|| self.damage("its pieces have other lengths".to_owned()))?;
        let chunk: SnapshotChunk = record::decode(&piece).map_err(|error| self.damage(error.to_string()))?;
        self.content.take(&chunk).map_err(|what| self.damage(what))?;
        Ok(Some(chunk))
    }

    fn next_frame(&mut self) -> Option<Bytes> {
        let len = u32::from_be_bytes(*self.frames.first_chunk::<4>()?) as usize;
        if self.frames.len() - 4 < len {
            return None;
        }
        let frame = self.frames.slice(4..4 + len);
        self.frames = self.frames.slice(4 + len..);
        Some(frame)
    }

    fn open_chunk(&self) -> Result<Bytes, BackupError> {
        let shard = ShardId(self.manifest.shard);
        let file = chunk_name(shard, self.next_chunk);
        let damage = |what: String| Damage { file: file.clone(), what };
        let (hash, len) = self.manifest.chunks()?[self.next_chunk as usize];
        let bytes = read_chunk(&self.backup.dir, &file, len)?;
        if blake3::hash(&bytes) != hash {
            return Err(damage(CHANGED.to_owned()).into());
        }
        let opened = self.backup.sealer.open(self.backup.manifest.backup, shard, self.next_chunk, &bytes);
        Ok(opened.map_err(|error| damage(error.to_string()))?.into())
    }

    fn damage(&self, what: String) -> BackupError {
        let file = chunk_name(ShardId(self.manifest.shard), self.next_chunk.saturating_sub(1));
        Damage { file, what }.into()
    }
}

const CHANGED: &str = "it was changed: its checksum is another one";

/// The bytes of a chunk file, if they are as many as they were.
fn read_chunk(dir: &Path, file: &str, len: u64) -> Result<Vec<u8>, BackupError> {
    let path = dir.join(file);
    let damage = |what: String| Damage { file: file.to_owned(), what };
    let found = match std::fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(damage("it is missing".to_owned()).into());
        }
        found => found.map_err(io_error("cannot read", &path))?,
    };
    if found.len() != len {
        return Err(damage(format!("it has {} bytes, {len} were written", found.len())).into());
    }
    std::fs::read(&path).map_err(io_error("cannot read", &path))
}

/// The chunk files that a manifest lists.
struct Listed {
    files: Vec<(String, (blake3::Hash, u64))>,
    by_hash: HashMap<blake3::Hash, String>,
}

impl Listed {
    fn of(manifest: &Manifest) -> Result<Self, BackupError> {
        let mut files = Vec::new();
        for cut in &manifest.cuts {
            let chunks = (0..).zip(cut.chunks()?);
            files.extend(chunks.map(|(number, chunk)| (chunk_name(ShardId(cut.shard), number), chunk)));
        }
        let by_hash = files.iter().map(|(file, (hash, _))| (*hash, file.clone())).collect();
        Ok(Self { files, by_hash })
    }

    fn judge(&self, dir: &Path, file: &str, hash: blake3::Hash, len: u64) -> Result<Option<Damage>, BackupError> {
        let damage = |what: String| Some(Damage { file: file.to_owned(), what });
        // One that changed places with another has the other's length, too.
        let found = match read_chunk(dir, file, len) {
            Ok(bytes) => blake3::hash(&bytes),
            Err(BackupError::Damaged(found)) => {
                let path = dir.join(file);
                let other = std::fs::read(&path).ok().and_then(|bytes| self.by_hash.get(&blake3::hash(&bytes)));
                return Ok(other.map_or(Some(found), |other| damage(format!("it is {other}"))));
            }
            Err(error) => return Err(error),
        };
        if found == hash {
            return Ok(None);
        }
        Ok(damage(self.by_hash.get(&found).map_or_else(|| CHANGED.to_owned(), |other| format!("it is {other}"))))
    }
}

/// Files that the manifest does not know.
fn extra(dir: &Path, listed: &Listed) -> Result<Vec<Damage>, BackupError> {
    let known: BTreeSet<&str> = listed.files.iter().map(|(file, _)| file.as_str()).chain([FILE]).collect();
    let mut damages = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(at) = pending.pop() {
        for entry in std::fs::read_dir(&at).map_err(io_error("cannot read", &at))? {
            let path = entry.map_err(io_error("cannot read", &at))?.path();
            if path.is_dir() {
                pending.push(path);
                continue;
            }
            let file = path.strip_prefix(dir).unwrap_or(&path).to_string_lossy().into_owned();
            if !known.contains(file.as_str()) {
                damages.push(Damage { file, what: "the manifest does not know it".to_owned() });
            }
        }
    }
    Ok(damages)
}

/// What the pieces of a shard come to: order, counts, digest.
pub(super) struct Content {
    shard: ShardId,
    /// No record lies behind it.
    index: u64,
    digest: PairHasher,
    last_key: Option<Bytes>,
    next_record: u64,
    log_records: u64,
}

impl Content {
    pub(super) fn new(shard: ShardId, index: u64) -> Self {
        Self { shard, index, digest: PairHasher::default(), last_key: None, next_record: 0, log_records: 0 }
    }

    pub(super) fn log_records(&self) -> u64 {
        self.log_records
    }

    pub(super) fn take(&mut self, chunk: &SnapshotChunk) -> Result<(), String> {
        match chunk {
            SnapshotChunk::State(_) if self.log_records > 0 => Err("state behind log records".to_owned()),
            SnapshotChunk::State(pairs) => pairs.iter().try_for_each(|(key, value)| {
                if self.last_key.as_ref().is_some_and(|last| last >= key) {
                    return Err("state out of order".to_owned());
                }
                self.last_key = Some(key.clone());
                self.digest.add(key, value);
                Ok(())
            }),
            SnapshotChunk::Records(records) => records.iter().try_for_each(|record| {
                let index = record.position.index;
                if index < self.next_record || index > self.index {
                    return Err(format!("log record {index} is out of place"));
                }
                self.next_record = index + 1;
                self.log_records += 1;
                Ok(())
            }),
        }
    }

    pub(super) fn compare(&self, manifest: &ShardManifest) -> Result<(), String> {
        let found = self.digest.finish(None);
        let shard = self.shard;
        if (found.records, self.log_records) != (manifest.records, manifest.log_records) {
            return Err(format!("shard {shard} has {} and {} records", found.records, self.log_records));
        }
        if hex(&found.digest) != manifest.digest {
            return Err(format!("the state of shard {shard} has another digest than the manifest says"));
        }
        Ok(())
    }
}

fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}
