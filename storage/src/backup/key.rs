//! The key of a backup: a file that the operator keeps apart from it. Without it a backup is noise.

use std::fmt;
use std::io;
use std::path::Path;

use chat::ids::ShardId;
use uuid::Uuid;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::error::SealError;
use crate::key::hex;
use crate::seal::{Place, Sealer};
use crate::secret::{self, ClusterKey};

use super::chunk_place;

const CHUNKS: &str = "campanile 2026 backup chunks v1";
const MANIFEST: &str = "campanile 2026 backup manifest v1";
const CHECK: &str = "campanile 2026 backup key check v1";

/// Seals everything in a backup. 32 bytes, kept by the operator.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct BackupKey([u8; 32]);

impl BackupKey {
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn generate() -> Self {
        Self(secret::random_key())
    }

    /// Reads a key file: 64 hexadecimal digits.
    pub fn load(path: &Path) -> io::Result<Self> {
        secret::load_hex(path).map(Self)
    }

    /// Writes a new key file that only its owner may read. An existing file is left alone and refused.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        secret::save_hex(path, self.0)
    }

    pub(super) fn sealer(&self) -> ChunkSealer {
        ChunkSealer(Sealer::new(&blake3::derive_key(CHUNKS, &self.0)))
    }

    /// What proves that whoever had the key wrote `manifest`.
    pub(super) fn sign(&self, manifest: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&blake3::derive_key(MANIFEST, &self.0), manifest)
    }

    /// Tells another key from damage.
    pub(super) fn check(&self) -> String {
        hex(&blake3::keyed_hash(&blake3::derive_key(CHECK, &self.0), b"campanile").as_bytes()[..16])
    }
}

impl fmt::Debug for BackupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BackupKey(..)")
    }
}

/// Seals and opens what a backup holds.
#[derive(Clone)]
pub(super) struct ChunkSealer(Sealer);

impl ChunkSealer {
    pub(super) fn seal(&self, backup: Uuid, shard: ShardId, number: u64, plain: &[u8]) -> Vec<u8> {
        self.0.seal(&Place::bytes(&chunk_place(b"chunk", backup, shard, number)), plain)
    }

    pub(super) fn open(&self, backup: Uuid, shard: ShardId, number: u64, bytes: &[u8]) -> Result<Vec<u8>, SealError> {
        self.0.open(&Place::bytes(&chunk_place(b"chunk", backup, shard, number)), bytes)
    }

    /// The key of the bodies: they go into a backup as they are.
    pub(super) fn seal_cluster_key(&self, backup: Uuid, key: &ClusterKey) -> Vec<u8> {
        self.0.seal(&Place::bytes(&chunk_place(b"cluster key", backup, ShardId(0), 0)), key.bytes())
    }

    pub(super) fn open_cluster_key(&self, backup: Uuid, sealed: &[u8]) -> Result<ClusterKey, SealError> {
        let place = chunk_place(b"cluster key", backup, ShardId(0), 0);
        let plain = zeroize::Zeroizing::new(self.0.open(&Place::bytes(&place), sealed)?);
        plain.as_slice().try_into().map(ClusterKey::from_bytes).map_err(|_| SealError::Short { len: plain.len() })
    }
}
