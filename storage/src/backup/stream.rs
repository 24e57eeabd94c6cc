//! What a node sends to whoever makes a backup of it. Sealed under the cluster's key, which the one who asks must hold
//! anyhow: the admin token alone reads nothing.

use bytes::Bytes;
use chat::ids::ShardId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{BackupError, chunk_place};
use crate::copy::Cut;
use crate::record::{self, SnapshotChunk};
use crate::seal::{Place, Sealer};
use crate::secret::ClusterKey;

const CONTEXT: &str = "campanile 2026 backup stream v1";

/// One frame of a shard's stream. The order of variants is the format: new ones go last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamFrame {
    /// The first one.
    Cut(Cut),
    Chunk(SnapshotChunk),
    /// The last one: so many chunks came before it. A stream without it was cut short.
    End {
        chunks: u64,
    },
    /// The last one, too.
    Failed {
        reason: String,
    },
}

/// Seals and opens the frames of streams.
#[derive(Clone)]
pub struct StreamSealer(Sealer);

impl StreamSealer {
    pub fn new(key: &ClusterKey) -> Self {
        Self(Sealer::new(&key.derive(CONTEXT)))
    }

    /// The `number`th frame, from 0, of a shard in a backup.
    pub fn seal(&self, backup: Uuid, shard: ShardId, number: u64, frame: &StreamFrame) -> Bytes {
        let place = chunk_place(b"stream", backup, shard, number);
        self.0.seal(&Place::bytes(&place), &record::encode(frame)).into()
    }

    pub fn open(&self, backup: Uuid, shard: ShardId, number: u64, bytes: &[u8]) -> Result<StreamFrame, BackupError> {
        let plain = self.0.open(&Place::bytes(&chunk_place(b"stream", backup, shard, number)), bytes)?;
        record::decode(&plain).map_err(|error| BackupError::Content { shard, what: error.to_string() })
    }
}
