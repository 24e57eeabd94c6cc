//! The manifest: TOML for people, with two lines behind it that guard the rest: a checksum that anybody can check, and
//! a seal that only the backup key makes.

use std::path::Path;

use chat::ids::{NodeId, ShardId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{BackupError, BackupKey, io_error};
use crate::limits::MANIFEST_BYTES;

pub(super) const FILE: &str = "manifest.toml";
/// The layout of the directory. A later one has another number.
pub(super) const FORMAT: u32 = 1;
const CHECKSUM: &str = "# checksum ";
const SEAL: &str = "# seal ";

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: u32,
    pub backup: Uuid,
    /// The UUID of the cluster it is of, as text.
    pub cluster: String,
    /// The version of the program that made it.
    pub campanile: String,
    /// When it was begun, for people.
    pub created: String,
    /// The node that was asked.
    pub node: NodeId,
    /// Shards besides the metadata group.
    pub shards: u16,
    /// Tells the backup key from another one.
    pub key_check: String,
    /// The cluster's key, sealed under the backup key; hexadecimal.
    pub cluster_key: String,
    /// By shard, from the metadata group (0) on.
    #[serde(rename = "shard")]
    pub cuts: Vec<ShardManifest>,
}

/// One shard: where it was cut, and its chunks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardManifest {
    pub shard: u16,
    /// The log index that the state is of, its term and that term's leader.
    pub index: u64,
    pub term: u64,
    pub leader: NodeId,
    /// Of the state, as `campanile cluster verify` shows it.
    pub digest: String,
    /// Records of the state.
    pub records: u64,
    /// Records of the log: where the messages are.
    pub log_records: u64,
    /// Bytes of the chunks.
    pub bytes: u64,
    /// For each chunk file in order: BLAKE3 in hexadecimal, a space, bytes.
    pub chunks: Vec<String>,
}

impl ShardManifest {
    /// Checksum and bytes of each chunk.
    pub(super) fn chunks(&self) -> Result<Vec<(blake3::Hash, u64)>, BackupError> {
        let parse = |text: &String| {
            let (hash, len) = text.split_once(' ')?;
            Some((blake3::Hash::from_hex(hash).ok()?, len.parse().ok()?))
        };
        let bad = || damaged(format!("the chunks of shard {} are not listed as they should be", ShardId(self.shard)));
        self.chunks.iter().map(|text| parse(text).ok_or_else(bad)).collect()
    }
}

impl Manifest {
    /// Bytes of all chunks.
    pub fn bytes(&self) -> u64 {
        self.cuts.iter().map(|cut| cut.bytes).sum()
    }

    pub(super) fn to_text(&self, key: &BackupKey) -> Result<String, BackupError> {
        let body = toml::to_string(self).map_err(|error| damaged(error.to_string()))?;
        let (checksum, seal) = (blake3::hash(body.as_bytes()), key.sign(body.as_bytes()));
        Ok(format!("{body}{CHECKSUM}{checksum}\n{SEAL}{seal}\n"))
    }

    /// Reads a manifest; whoever has no key learns that it is as some key's owner wrote it, not who that was.
    pub(super) fn parse(text: &str, key: Option<&BackupKey>) -> Result<Self, BackupError> {
        let (body, seal) = cut_line(text, SEAL)?;
        let (body, checksum) = cut_line(body, CHECKSUM)?;
        if blake3::hash(body.as_bytes()) != checksum {
            return Err(damaged("its checksum is another one".to_owned()));
        }
        let format: FormatOnly = toml::from_str(body).map_err(|error| damaged(error.message().to_owned()))?;
        if format.format != FORMAT {
            return Err(BackupError::Format { found: format.format, known: FORMAT });
        }
        let manifest: Self = toml::from_str(body).map_err(|error| damaged(error.message().to_owned()))?;
        if let Some(key) = key {
            if manifest.key_check != key.check() {
                return Err(BackupError::WrongKey);
            }
            if key.sign(body.as_bytes()) != seal {
                return Err(damaged("its seal is not of the backup key: it was changed".to_owned()));
            }
        }
        manifest.check()?;
        Ok(manifest)
    }

    pub(super) fn load(dir: &Path, key: Option<&BackupKey>) -> Result<Self, BackupError> {
        let path = dir.join(FILE);
        match std::fs::metadata(&path) {
            Ok(found) if found.len() > MANIFEST_BYTES => return Err(damaged(format!("{} bytes", found.len()))),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(BackupError::NotABackup { dir: dir.into() });
            }
            Err(error) => return Err(io_error("cannot read", &path)(error)),
        }
        let bytes = std::fs::read(&path).map_err(io_error("cannot read", &path))?;
        let text = String::from_utf8(bytes).map_err(|_| damaged("it is not text".to_owned()))?;
        Self::parse(&text, key)
    }

    fn check(&self) -> Result<(), BackupError> {
        let listed = self.cuts.iter().map(|cut| cut.shard);
        if !listed.eq(0..=self.shards) {
            return Err(damaged(format!("it does not list the metadata group and {} shards in order", self.shards)));
        }
        self.cuts.iter().try_for_each(|cut| cut.chunks().map(drop))
    }
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

/// The text before the last line, which is `name` and a hash.
fn cut_line<'t>(text: &'t str, name: &str) -> Result<(&'t str, blake3::Hash), BackupError> {
    let cut = || {
        let text = text.strip_suffix('\n')?;
        let (body, line) = text.split_at(text.rfind('\n')? + 1);
        let (digits, hash) = (line.strip_prefix(name)?, blake3::Hash::from_hex(line.strip_prefix(name)?).ok()?);
        // One hash, one spelling: no byte of the file may change unseen.
        (hash.to_hex().as_str() == digits).then_some((body, hash))
    };
    cut().ok_or_else(|| damaged(format!("it does not end with {:?} and a hash", name.trim_end())))
}

fn damaged(what: String) -> BackupError {
    BackupError::Manifest { what }
}
