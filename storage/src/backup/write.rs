//! Making a backup's directory.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use chat::ids::{NodeId, ShardId};
use uuid::Uuid;

use super::key::ChunkSealer;
use super::manifest::{FILE, FORMAT};
use super::read::Content;
use super::staging::{self, Staging};
use super::{BackupError, BackupKey, Manifest, ShardManifest, chunk_name, io_error};
use crate::copy::Cut;
use crate::key::hex;
use crate::limits::BACKUP_CHUNK_BYTES;
use crate::record::{self, SnapshotChunk};
use crate::secret::ClusterKey;

/// What a backup is of.
#[derive(Debug, Clone)]
pub struct About {
    pub backup: Uuid,
    /// The cluster's UUID as text.
    pub cluster: String,
    pub campanile: String,
    /// When it is begun, for people.
    pub created: String,
    pub node: NodeId,
    /// Shards besides the metadata group.
    pub shards: u16,
}

/// A backup that is being made: shards in order from the metadata group on. Dropped before the end, it is removed.
pub struct BackupWriter {
    staging: Staging,
    key: BackupKey,
    sealer: ChunkSealer,
    manifest: Manifest,
}

impl BackupWriter {
    /// Begins a backup in `target`, which must be absent or empty.
    pub fn begin(target: &Path, key: &BackupKey, cluster: &ClusterKey, about: About) -> Result<Self, BackupError> {
        let (staging, sealer) = (Staging::begin(target)?, key.sealer());
        let manifest = Manifest {
            format: FORMAT,
            backup: about.backup,
            cluster: about.cluster,
            campanile: about.campanile,
            created: about.created,
            node: about.node,
            shards: about.shards,
            key_check: key.check(),
            cluster_key: hex(&sealer.seal_cluster_key(about.backup, cluster)),
            cuts: Vec::new(),
        };
        Ok(Self { staging, key: key.clone(), sealer, manifest })
    }

    /// Begins the next shard.
    pub fn shard(&mut self, cut: &Cut) -> Result<ShardWriter<'_>, BackupError> {
        let expected = ShardId(self.manifest.cuts.len() as u16);
        let content = |what: &str| BackupError::Content { shard: cut.shard, what: what.to_owned() };
        if cut.shard != expected || expected.0 > self.manifest.shards {
            return Err(content("it is not the next one"));
        }
        let position = cut.applied.position.ok_or_else(|| content("nothing is applied there yet"))?;
        let dir = self.staging.dir().join(format!("shard-{:04}", cut.shard.0));
        DirBuilder::new().mode(0o700).create(&dir).map_err(io_error("cannot make", &dir))?;
        let manifest = ShardManifest {
            shard: cut.shard.0,
            index: position.index,
            term: position.term,
            leader: position.node,
            digest: hex(&cut.digest),
            records: cut.records,
            log_records: 0,
            bytes: 0,
            chunks: Vec::new(),
        };
        let content = Content::new(cut.shard, position.index);
        Ok(ShardWriter { backup: self, manifest, content, plain: Vec::new() })
    }

    /// Writes the manifest and gives the directory its name: the backup is complete on return.
    pub fn finish(self) -> Result<Manifest, BackupError> {
        if self.manifest.cuts.len() != usize::from(self.manifest.shards) + 1 {
            let what = "it is missing at the end".to_owned();
            return Err(BackupError::Content { shard: ShardId(self.manifest.cuts.len() as u16), what });
        }
        write_synced(&self.staging.dir().join(FILE), self.manifest.to_text(&self.key)?.as_bytes())?;
        self.staging.commit()?;
        Ok(self.manifest)
    }
}

/// One shard of a backup that is being made.
pub struct ShardWriter<'b> {
    backup: &'b mut BackupWriter,
    manifest: ShardManifest,
    content: Content,
    /// What goes into the next chunk file.
    plain: Vec<u8>,
}

impl ShardWriter<'_> {
    /// Takes the next piece: state in key order, then log records in index order.
    pub fn add(&mut self, chunk: &SnapshotChunk) -> Result<(), BackupError> {
        let shard = ShardId(self.manifest.shard);
        self.content.take(chunk).map_err(|what| BackupError::Content { shard, what })?;
        let encoded = record::encode(chunk);
        if !self.plain.is_empty() && self.plain.len() + 4 + encoded.len() > BACKUP_CHUNK_BYTES {
            self.write_chunk()?;
        }
        self.plain.extend_from_slice(&(encoded.len() as u32).to_be_bytes());
        self.plain.extend_from_slice(&encoded);
        Ok(())
    }

    /// The shard is complete: what came is what the cut says.
    pub fn finish(mut self) -> Result<(), BackupError> {
        if !self.plain.is_empty() {
            self.write_chunk()?;
        }
        let shard = ShardId(self.manifest.shard);
        self.manifest.log_records = self.content.log_records();
        self.content.compare(&self.manifest).map_err(|what| BackupError::Content { shard, what })?;
        staging::sync_dir(&self.backup.staging.dir().join(format!("shard-{:04}", shard.0)))?;
        self.backup.manifest.cuts.push(self.manifest);
        Ok(())
    }

    fn write_chunk(&mut self) -> Result<(), BackupError> {
        let (shard, number) = (ShardId(self.manifest.shard), self.manifest.chunks.len() as u64);
        let sealed = self.backup.sealer.seal(self.backup.manifest.backup, shard, number, &self.plain);
        self.plain.clear();
        write_synced(&self.backup.staging.dir().join(chunk_name(shard, number)), &sealed)?;
        self.manifest.bytes += sealed.len() as u64;
        self.manifest.chunks.push(format!("{} {}", blake3::hash(&sealed), sealed.len()));
        Ok(())
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), BackupError> {
    let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    open.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(io_error("cannot write", path))
}
