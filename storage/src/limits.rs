//! Limits of the storage engine, each with its unit. What the whole service shares is in [`chat::limits`].

use std::time::Duration;

use chat::limits::{ENTRY_BYTES, VALUE_BYTES};

/// Bytes that sealing adds to a value: format, key id, nonce, tag.
pub(crate) const SEAL_BYTES: usize = 1 + 4 + 24 + 16;
/// Bytes of a plain value that may be handed to sled.
pub(crate) const PLAIN_BYTES: usize = VALUE_BYTES - SEAL_BYTES;
/// Bytes of a log record's payload.
pub(crate) const PAYLOAD_BYTES: usize = PLAIN_BYTES - 64;
/// Bytes of a key of the state machine.
pub const STATE_KEY_BYTES: usize = 1024;
/// Bytes of a value of the state machine: with its key it fits one snapshot chunk.
pub const STATE_VALUE_BYTES: usize = 62 * 1024;
/// Bytes of the pairs in one stored snapshot chunk, unless a single pair is larger.
pub(crate) const CHUNK_BYTES: usize = 48 * 1024;
/// Chunks of a snapshot being built that may wait for the storage thread.
pub(crate) const CHUNKS_IN_QUEUE: u32 = 16;
/// Log records that one step of collecting looks at.
pub(crate) const COLLECT_RECORDS: usize = 512;
/// Bytes of log records in one streamed snapshot chunk, unless a single record is larger.
pub(crate) const RECORDS_CHUNK_BYTES: usize = 48 * 1024;

/// Bytes of one sealed chunk in a spool: a streamed chunk, and room.
pub(crate) const SPOOL_CHUNK_BYTES: usize = 512 * 1024;
/// Bytes of a snapshot on its way that are spooled, on disk.
pub(crate) const SPOOL_BYTES: u64 = 64 * 1024 * 1024 * 1024;

/// Bytes of a backup's chunk before it is sealed, unless a single streamed chunk is larger.
pub(crate) const BACKUP_CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of a backup's manifest: about a hundred for each chunk.
pub(crate) const MANIFEST_BYTES: u64 = 256 * 1024 * 1024;
/// Bytes of one sealed frame between a node and whoever makes a backup.
pub const BACKUP_FRAME_BYTES: usize = 512 * 1024;

/// A smaller database is not compacted unless it is asked for, or a node is set to do otherwise, in bytes.
pub const COMPACT_MIN_BYTES: u64 = 256 * 1024 * 1024;
/// No compaction is begun by itself that would win less, in percent of the database.
pub(crate) const COMPACT_GAIN_PERCENT: u8 = 10;
/// A compaction tells how far it is after so many bytes.
pub(crate) const COMPACT_TELL_BYTES: u64 = 256 * 1024 * 1024;

/// sled's segments. A page over a quarter of it would go to a file that is never fsynced.
pub(crate) const SEGMENT_BYTES: usize = 8 * 1024 * 1024;
/// Interval of sled's own flusher, in milliseconds: it also collects free segments, so it is never off.
pub(crate) const SLED_FLUSH_MS: u64 = 500;

/// Requests that wait for the storage thread, and their bytes. A caller past either waits.
pub(crate) const QUEUE_JOBS: usize = 4_096;
pub(crate) const QUEUE_BYTES: usize = 32 * 1024 * 1024;
/// A file of the write-ahead log takes its turn's end from here on, and no more than this.
pub(crate) const WAL_BYTES: u64 = 16 * 1024 * 1024;
pub(crate) const WAL_MAX_BYTES: u64 = 128 * 1024 * 1024;
/// Bytes that wait for a commit nobody asked for, before there is one.
pub(crate) const WAL_WAITING_BYTES: usize = 1024 * 1024;
/// Bytes of memory that a commit's frame leaves for the next one.
pub(crate) const WAL_KEPT_BUFFER_BYTES: usize = 1024 * 1024;
/// A commit that had this many log records or more is followed by one that waits for company, as long as so many of the
/// last one took and no longer than [`GATHER_MAX`]. Meanwhile the proposers gather too: a shard has one entry on its way,
/// and what comes until it is durable goes into the next. So on a busy machine, where a commit takes long, entries and
/// commits, which cost as much as dozens of messages, carry more; where it takes little, so does the wait.
pub(crate) const GATHER_RECORDS: u64 = 6;
pub(crate) const GATHER_COMMITS: u32 = 4;
pub(crate) const GATHER_MAX: Duration = Duration::from_millis(8);
/// Requests for which nobody waits longer.
pub(crate) const GATHER_ENOUGH: usize = 12;
/// Bytes of one shard's newest log records kept in memory.
pub(crate) const LOG_TAIL_BYTES: usize = 1024 * 1024;
/// Damaged records at the end of a log that are asked of other members; more are no accident.
pub(crate) const UNSURE_RECORDS: usize = 64;
/// Damaged records in one piece of a scrub: whoever repairs them takes no more than a thousand at once.
pub(crate) const SCRUB_DAMAGED: usize = 256;
/// Bytes of state pairs that are given out at once, unless a single pair is larger.
pub const STATE_PIECE_BYTES: usize = 128 * 1024;
/// Applied state waits this long at most before it is checkpointed, in milliseconds.
pub(crate) const CHECKPOINT_MS: u64 = 3_000;
/// Bytes of applied state that are checkpointed without waiting for [`CHECKPOINT_MS`].
pub(crate) const CHECKPOINT_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of one shard's state that was read or written lately and is kept in memory.
pub(crate) const STATE_CACHE_BYTES: usize = 2 * 1024 * 1024;
/// Bytes of applied state not yet checkpointed, past which `apply` waits.
pub(crate) const OVERLAY_BYTES: usize = 64 * 1024 * 1024;
/// Bytes of one record of a sealed log.
pub const SEALED_LOG_RECORD_BYTES: usize = 64 * 1024;

/// Bytes free on the disk below which a node says so, and below which it leads nothing, unless configured otherwise.
pub const DISK_WARN_BYTES: u64 = 2 * 1024 * 1024 * 1024;
pub const DISK_STOP_BYTES: u64 = 512 * 1024 * 1024;
/// Bytes free that opening a data directory needs: sled's segments, a turn of the write-ahead log.
pub const DISK_OPEN_BYTES: u64 = 32 * 1024 * 1024;

const _: () = {
    assert!(DISK_OPEN_BYTES >= 2 * SEGMENT_BYTES as u64 && DISK_OPEN_BYTES * 4 <= DISK_STOP_BYTES);
    assert!(DISK_STOP_BYTES < DISK_WARN_BYTES);
    assert!(ENTRY_BYTES < PAYLOAD_BYTES, "an entry with its position and seal must fit a value");
    assert!(STATE_KEY_BYTES + STATE_VALUE_BYTES + 64 < PLAIN_BYTES, "a pair must fit a snapshot chunk");
    assert!(CHUNK_BYTES < PLAIN_BYTES);
    assert!(SCRUB_DAMAGED < chat::limits::REPAIR_DAMAGES / 2);
    assert!(RECORDS_CHUNK_BYTES + VALUE_BYTES <= 256 * 1024, "a streamed chunk fits a frame between nodes");
    assert!(STATE_PIECE_BYTES + VALUE_BYTES <= 256 * 1024, "a piece of a state does too");
    assert!(VALUE_BYTES * 4 < SEGMENT_BYTES, "no value may leave sled's segments");
    assert!(CHECKPOINT_BYTES < OVERLAY_BYTES && GATHER_ENOUGH < QUEUE_JOBS);
    assert!(WAL_BYTES + (QUEUE_BYTES as u64) < WAL_MAX_BYTES);
    assert!(VALUE_BYTES < QUEUE_BYTES && VALUE_BYTES < LOG_TAIL_BYTES);
};
