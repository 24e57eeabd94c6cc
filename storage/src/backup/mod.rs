//! Backups: every shard of a cluster as it was at one index of its log, in a directory that leaves the machine.
//!
//! ```text
//! D/manifest.toml            what it is, for people too: cluster, cuts, digests, chunks; sealed as a whole
//! D/shard-0000/000000.chunk  pieces of 4 MiB, each sealed under the backup key and bound to backup, shard and number
//! ```
//!
//! Where things are: [`key`] the backup key, [`manifest`] the manifest, [`write`] and [`read`] the directory, [`stream`]
//! what a node sends to whoever makes one, [`staging`] directories that are complete or absent. docs/adr/0018 says why.

mod key;
mod manifest;
mod read;
mod staging;
mod stream;
mod write;

use std::path::{Path, PathBuf};

use chat::ids::ShardId;

use crate::error::SealError;

pub use key::BackupKey;
pub use manifest::{Manifest, ShardManifest};
pub use read::{Backup, Damage, ShardReader};
pub use staging::Staging;
pub use stream::{StreamFrame, StreamSealer};
pub use write::{About, BackupWriter, ShardWriter};

/// Why a backup was not made or does not open.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{} exists already and is not empty", dir.display())]
    Exists { dir: PathBuf },
    #[error("{} is being made by another process", dir.display())]
    Busy { dir: PathBuf },
    #[error("{what} {}", path.display())]
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{} is not a backup: it has no manifest.toml", dir.display())]
    NotABackup { dir: PathBuf },
    #[error("the manifest is of format {found}, this version reads format {known}")]
    Format { found: u32, known: u32 },
    #[error("the manifest is damaged: {what}")]
    Manifest { what: String },
    #[error("this is not the key that the backup was made with")]
    WrongKey,
    /// A file of the backup is not what was written.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// What came from the node does not fit together.
    #[error("shard {shard}: {what}")]
    Content { shard: ShardId, what: String },
    #[error("what the node sent does not open")]
    Sealed(#[from] SealError),
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> BackupError {
    move |source| BackupError::Io { what, path: path.into(), source }
}

/// `shard-0003/000017.chunk`.
fn chunk_name(shard: ShardId, number: u64) -> String {
    format!("shard-{:04}/{number:06}.chunk", shard.0)
}

/// What a chunk is bound to.
fn chunk_place(what: &[u8], backup: uuid::Uuid, shard: ShardId, number: u64) -> Vec<u8> {
    [what, backup.as_bytes(), &shard.0.to_be_bytes(), &number.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests;
