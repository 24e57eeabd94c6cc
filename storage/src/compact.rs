//! Compaction: everything that is in the database, copied into a fresh one that takes its place. What was overwritten or
//! removed stays in sled's file, and its page table in memory, until then.
//!
//! It happens while the engine opens: the write-ahead log is in the database by then and nobody writes. The copy is made
//! beside the database, read back and compared, and gets the name last. **Invariant:** `db` is whole whenever it is
//! there; where it is missing, `db.compacting` is. [`settle`] puts right what a crash left, before anything is opened.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::disk::{Disk, RawRecord, raw_bytes};
use crate::error::StorageError;
use crate::fault::WriteError;
use crate::limits::{COMPACT_GAIN_PERCENT, COMPACT_TELL_BYTES};

pub(crate) const DATABASE: &str = "db";
const COPY: &str = "db.compacting";
const OLD: &str = "db.old";

/// Whether opening an engine compacts it first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compaction {
    Never,
    /// If at least this share of the database is dead, in percent, and its files are not smaller than that.
    WhenDead {
        percent: u8,
        min_bytes: u64,
    },
    /// Whatever the gauge says. If it does not come about, the database is opened as it is.
    Attempt,
    /// Whatever the gauge says.
    Now,
}

/// How full a database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Space {
    /// Bytes of its files.
    pub disk_bytes: u64,
    /// Bytes of the keys and values in it: an estimate after a crash, exact after a compaction.
    pub live_bytes: u64,
    /// The dead share right after the last compaction, in percent, if it was not small then: less cannot be had.
    pub fresh_dead_percent: u8,
}

impl Space {
    /// The share that no key leads to, in percent.
    pub fn dead_percent(&self) -> u8 {
        if self.disk_bytes == 0 {
            return 0;
        }
        let live = self.live_bytes.min(self.disk_bytes);
        u8::try_from(100 - u128::from(live) * 100 / u128::from(self.disk_bytes)).unwrap_or(100)
    }

    /// Whether a compaction is worth its while.
    pub fn wants(&self, compaction: Compaction) -> bool {
        match compaction {
            Compaction::Never => false,
            Compaction::Attempt | Compaction::Now => true,
            Compaction::WhenDead { percent, min_bytes } => {
                let worth = self.fresh_dead_percent.saturating_add(COMPACT_GAIN_PERCENT);
                self.disk_bytes >= min_bytes && self.dead_percent() >= percent.max(worth)
            }
        }
    }
}

/// What a compaction came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    pub before: Space,
    pub after: Space,
    pub records: u64,
    pub elapsed: Duration,
}

/// Why a database was not compacted. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    #[error("writing the copy: {0}")]
    Write(String),
    #[error("{what} {}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("the copy is not what was copied")]
    Differs,
}

impl From<WriteError> for CompactError {
    fn from(error: WriteError) -> Self {
        Self::Write(error.to_string())
    }
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CompactError {
    move |source| CompactError::Io { what, path: path.into(), source }
}

/// Leaves one whole database under its name, whatever a compaction was at when the process ended.
pub(crate) fn settle(dir: &Path) -> Result<(), CompactError> {
    let [database, copy, old] = [DATABASE, COPY, OLD].map(|name| dir.join(name));
    if !database.exists() {
        // The old one was taken away, which happens only once the copy is complete.
        let whole = [&copy, &old].into_iter().find(|path| path.exists());
        let Some(whole) = whole.filter(|_| old.exists()) else { return Ok(()) };
        fs::rename(whole, &database).map_err(io_error("naming", whole))?;
        sync(dir)?;
    }
    for left in [copy, old] {
        if left.exists() {
            fs::remove_dir_all(&left).map_err(io_error("removing", &left))?;
        }
    }
    Ok(())
}

/// A verified copy that waits for the database's name.
pub(crate) struct Copied {
    dir: PathBuf,
    pub(crate) records: u64,
}

/// Makes the copy; `open` opens a database for it.
pub(crate) fn copy(
    dir: &Path,
    from: &Disk,
    open: impl Fn(&Path) -> Result<Disk, WriteError>,
) -> Result<Copied, CompactError> {
    let path = dir.join(COPY);
    let copied = copy_to(&path, from, open);
    if copied.is_err() && path.exists() {
        // What removing it fails with matters less; the next start removes it.
        drop(fs::remove_dir_all(&path));
    }
    copied.map(|records| Copied { dir: dir.into(), records })
}

fn copy_to(path: &Path, from: &Disk, open: impl Fn(&Path) -> Result<Disk, WriteError>) -> Result<u64, CompactError> {
    let to = open(path)?;
    let (mut content, mut written, mut told) = (Content::default(), 0, 0);
    // A leaf of sled's tree that grows at its end is cut in half when it is full, and stays half full. So every other
    // record goes first, and the rest fills what they leave: half the pages, and most of what is written stays.
    for turn in 0..2 {
        for (number, record) in (0_u64..).zip(from.raw_records()) {
            let record = record?;
            if turn == 0 {
                content.add(&record);
            }
            if number % 2 == turn {
                to.write_raw(&record)?;
                written += raw_bytes(&record);
            }
            if written - told >= COMPACT_TELL_BYTES {
                told = written;
                tracing::info!(event = "compacting", bytes = told, live_bytes = from.space().live_bytes, "copying");
            }
        }
    }
    to.set_live(content.bytes);
    to.commit()?;
    drop(to);
    tracing::info!(event = "compacting", bytes = content.bytes, "copied; reading it back");
    // Opened anew: what is compared is what is on the disk.
    let to = open(path)?;
    let mut found = Content::default();
    for record in to.raw_records() {
        let record = record?;
        to.check_raw(&record)?;
        found.add(&record);
    }
    if found.finish() != content.finish() {
        return Err(CompactError::Differs);
    }
    Ok(content.records)
}

impl Copied {
    /// Gives the copy the name. The database must be closed.
    pub(crate) fn swap(self) -> Result<(), CompactError> {
        let [database, copy, old] = [DATABASE, COPY, OLD].map(|name| self.dir.join(name));
        fs::rename(&database, &old).map_err(io_error("naming", &database))?;
        sync(&self.dir)?;
        fs::rename(&copy, &database).map_err(io_error("naming", &copy))?;
        sync(&self.dir)?;
        fs::remove_dir_all(&old).map_err(io_error("removing", &old))
    }
}

fn sync(dir: &Path) -> Result<(), CompactError> {
    fs::File::open(dir).and_then(|file| file.sync_all()).map_err(io_error("syncing", dir))
}

/// Count and digest of records in order.
#[derive(Default)]
struct Content {
    hasher: blake3::Hasher,
    records: u64,
    bytes: u64,
}

impl Content {
    /// How full the database is counts in it, and differs.
    fn add(&mut self, record: &RawRecord) {
        self.bytes += raw_bytes(record);
        if crate::disk::is_live_record(&record.0) {
            return;
        }
        for part in [&record.0, &record.1] {
            self.hasher.update(&(part.len() as u64).to_be_bytes()).update(part);
        }
        self.records += 1;
    }

    fn finish(&self) -> (blake3::Hash, u64) {
        (self.hasher.finalize(), self.records)
    }
}

/// Tells of a compaction in the log.
pub(crate) fn tell(compacted: &Compacted) {
    let Compacted { before, after, records, elapsed } = compacted;
    tracing::info!(
        event = "compacted",
        records,
        before_bytes = before.disk_bytes,
        after_bytes = after.disk_bytes,
        elapsed_ms = elapsed.as_millis() as u64,
        "the database is compacted"
    );
}

/// What it took.
pub(crate) fn compacted(before: Space, after: Space, records: u64, begun: Instant) -> Compacted {
    Compacted { before, after, records, elapsed: begun.elapsed() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::COMPACT_MIN_BYTES;

    #[test]
    fn a_compaction_is_wanted_when_enough_is_dead_and_the_database_is_not_small() {
        let space = |disk_bytes, live_bytes| Space { disk_bytes, live_bytes, fresh_dead_percent: 0 };
        let large = 10 * COMPACT_MIN_BYTES;
        let half = Compaction::WhenDead { percent: 50, min_bytes: COMPACT_MIN_BYTES };
        assert_eq!(
            [space(0, 0), space(100, 200), space(100, 25), space(100, 0)].map(|s| s.dead_percent()),
            [0, 0, 75, 100]
        );
        assert!(space(large, large / 2).wants(half) && !space(large, large / 2 + large / 50).wants(half));
        assert!(!space(COMPACT_MIN_BYTES - 1, 0).wants(half));
        assert!(space(100, 0).wants(Compaction::WhenDead { percent: 50, min_bytes: 100 }));
        let fresh = Space { fresh_dead_percent: 55, ..space(large, large / 5 * 2) };
        assert!(!fresh.wants(half), "60 % dead where a fresh one has 55 % is not worth it");
        assert!(Space { live_bytes: large / 10, ..fresh }.wants(half));
        assert!(
            space(1, 1).wants(Compaction::Now)
                && space(1, 1).wants(Compaction::Attempt)
                && !space(large, 0).wants(Compaction::Never)
        );
    }

    #[test]
    fn whatever_a_crash_leaves_one_whole_database_has_the_name() {
        // `(what is there before, whose content has the name afterwards)`
        for (before, whole) in [
            (&["db"][..], "db"),
            (&["db", "db.compacting"], "db"),
            (&["db.old", "db.compacting"], "db.compacting"),
            (&["db", "db.old"], "db"),
            (&["db.old"], "db.old"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            for name in before {
                fs::create_dir(dir.path().join(name)).unwrap();
                fs::write(dir.path().join(name).join("was"), name).unwrap();
            }
            settle(dir.path()).unwrap();
            assert_eq!(fs::read_to_string(dir.path().join("db/was")).unwrap(), whole, "{before:?}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "{before:?}");
        }
    }
}
