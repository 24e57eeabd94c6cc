//! What a node gives to whoever makes a backup: one shard at a time, sealed, at the pace at which it is taken.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat::errors::ErrorCode;
use chat::ids::ShardId;
use chat::limits::{BACKUP_STALL_MS, BACKUPS};
use storage::backup::{StreamFrame, StreamSealer};
use storage::{ClusterKey, Engine, ShardCopy, StorageError};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use uuid::Uuid;

use super::server::Refused;

/// Sealed frames that wait for the socket.
const FRAMES: usize = 8;
/// Whoever takes nothing for so long gets nothing more.
const STALL: Duration = Duration::from_millis(BACKUP_STALL_MS);

/// Gives copies of shards away.
#[derive(Clone)]
pub struct BackupDesk {
    sealer: StreamSealer,
    free: Arc<Semaphore>,
}

impl BackupDesk {
    pub fn new(key: &ClusterKey) -> Self {
        Self { sealer: StreamSealer::new(key), free: Arc::new(Semaphore::new(BACKUPS)) }
    }

    /// Whether a backup is being made of this node.
    pub fn is_busy(&self) -> bool {
        self.free.available_permits() < BACKUPS
    }

    /// Begins to copy the shard as it is here now. The frames come while it is read.
    pub(super) fn copy(&self, engine: Engine, backup: Uuid, shard: ShardId) -> Result<mpsc::Receiver<Bytes>, Refused> {
        let busy = || Refused::new(ErrorCode::Overloaded, "another backup is being made of this node");
        let permit = self.free.clone().try_acquire_owned().map_err(|_| busy())?;
        let (sender, frames) = mpsc::channel(FRAMES);
        let mut stream =
            Stream { sealer: self.sealer.clone(), backup, shard, number: 0, sender, runtime: Handle::current() };
        tokio::task::spawn_blocking(move || stream.run(&engine, permit));
        Ok(frames)
    }
}

struct Stream {
    sealer: StreamSealer,
    backup: Uuid,
    shard: ShardId,
    number: u64,
    sender: mpsc::Sender<Bytes>,
    runtime: Handle,
}

/// Nobody takes the frames any more.
struct Gone;

impl Stream {
    fn run(&mut self, engine: &Engine, permit: OwnedSemaphorePermit) {
        let copied = engine.state(self.shard).and_then(|state| state.copy(&engine.spools()));
        let sent = match copied {
            Ok(copy) => self.send_all(copy),
            Err(error) => Err(error),
        };
        let last = match sent {
            Ok(Ok(chunks)) => StreamFrame::End { chunks },
            Ok(Err(Gone)) => {
                tracing::warn!(event = "backup_cut_short", shard = %self.shard, "nobody took the rest of a backup");
                return;
            }
            Err(error) => {
                tracing::error!(event = "backup_failed", shard = %self.shard, %error, "a shard cannot be backed up");
                StreamFrame::Failed { reason: error.to_string() }
            }
        };
        // Without the last frame the other side knows that the stream was cut short.
        let _ = self.send(&last);
        drop(permit);
    }

    fn send_all(&mut self, mut copy: ShardCopy) -> Result<Result<u64, Gone>, StorageError> {
        if self.send(&StreamFrame::Cut(copy.cut().clone())).is_err() {
            return Ok(Err(Gone));
        }
        let mut chunks = 0;
        while let Some(chunk) = copy.next_chunk()? {
            if self.send(&StreamFrame::Chunk(chunk)).is_err() {
                return Ok(Err(Gone));
            }
            chunks += 1;
        }
        Ok(Ok(chunks))
    }

    fn send(&mut self, frame: &StreamFrame) -> Result<(), Gone> {
        let sealed = self.sealer.seal(self.backup, self.shard, self.number, frame);
        self.number += 1;
        let mut framed = Vec::with_capacity(4 + sealed.len());
        framed.extend_from_slice(&(sealed.len() as u32).to_be_bytes());
        framed.extend_from_slice(&sealed);
        let sent = self.runtime.block_on(self.sender.send_timeout(framed.into(), STALL));
        sent.map_err(|_| Gone)
    }
}
