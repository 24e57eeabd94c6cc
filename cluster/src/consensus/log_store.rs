//! openraft's log storage over [`storage::LogStore`]: translation only.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use chat::codec::{self, Kind};
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use storage::{LogPosition, LogStore};

use crate::repair::LogRepair;

use super::types::{Entry, LogId, Types, Vote, VoteRecord, entry_of, io_error, log_id_of, position_of, record_of};

/// Bytes of log read at once for replication or apply: bounds memory and one rpc.
const READ_BYTES: usize = 1024 * 1024;

#[derive(Clone)]
pub(crate) struct ShardLog {
    log: LogStore,
    repair: Arc<LogRepair>,
    /// At the start nothing is said of what is committed: Raft learns it again from the leader.
    forgets_committed: bool,
}

impl ShardLog {
    pub(crate) fn new(log: LogStore, repair: Arc<LogRepair>, forgets_committed: bool) -> Self {
        Self { log, repair, forgets_committed }
    }

    /// A damaged record is taken from the other members first: Raft takes an error here for the end.
    async fn read(&self, from: u64, to: u64, max_bytes: usize) -> io::Result<Vec<Entry>> {
        loop {
            match self.log.read(from, to, max_bytes) {
                Ok(records) => return records.iter().map(|record| entry_of(record).map_err(io_error)).collect(),
                Err(error) => self.repair.repair_after(error).await.map_err(io_error)?,
            }
        }
    }
}

impl RaftLogReader<Types> for ShardLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let from = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(index) => index + 1,
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        self.read(from, to, usize::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, READ_BYTES).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        let Some(bytes) = self.log.vote().map_err(io_error)? else {
            return Ok(None);
        };
        let record: VoteRecord = codec::decode(Kind::Engine, &bytes).map_err(io_error)?;
        Ok(Some(record.into()))
    }
}

impl RaftLogStorage<Types> for ShardLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let bounds = self.log.bounds();
        let id = |position: Option<LogPosition>| position.map(log_id_of);
        Ok(LogState { last_purged_log_id: id(bounds.purged), last_log_id: id(bounds.last.max(bounds.purged)) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let bytes = codec::encode(Kind::Engine, &VoteRecord::from(vote)).map_err(io_error)?;
        let log = self.log.clone();
        // Waits for the disk: off the runtime's workers, which other shards' heartbeats need.
        blocking(move || log.save_vote(bytes)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.log.save_committed(committed.as_ref().map(position_of)).map_err(io_error)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        if self.forgets_committed {
            return Ok(None);
        }
        Ok(self.log.committed().map_err(io_error)?.map(log_id_of))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let records = entries
            .into_iter()
            .map(|entry| record_of(entry).map(Arc::new).map_err(io_error))
            .collect::<Result<Vec<_>, _>>()?;
        let durable = Box::new(move |result: Result<(), storage::StorageError>| {
            callback.io_completed(result.map_err(io_error));
        });
        self.log.append(records, durable).map_err(io_error)
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let log = self.log.clone();
        loop {
            let (log, last) = (log.clone(), last_log_id.as_ref().map(|id| id.index));
            let truncated = tokio::task::spawn_blocking(move || log.truncate_after(last)).await;
            match truncated.map_err(io::Error::other)? {
                Ok(()) => return Ok(()),
                Err(error) => self.repair.repair_after(error).await.map_err(io_error)?,
            }
        }
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let log = self.log.clone();
        blocking(move || log.purge(position_of(&log_id))).await
    }
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, storage::StorageError> + Send + 'static,
) -> Result<T, io::Error> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?.map_err(io_error)
}
