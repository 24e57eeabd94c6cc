//! The write-ahead log of a node: what a commit makes durable before sled has it. docs/adr/0011 says why.
//!
//! One frame and one fdatasync per commit, for all shards. Two files take turns: while one is written, what the other
//! holds is made durable in sled on a thread of its own, and then that file is free. Opening replays what sled may lack.
//!
//! **Invariant:** whatever is in a frame goes to sled only after the frame is durable, and in the same order, so sled is
//! never ahead of the log and replaying it again and again changes nothing. Checkpoints of a state are not in the log;
//! they touch no key that is.

mod frame;
mod replay;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use crate::disk::{Disk, Write};
use crate::fault::{Faults, Point, WriteError};
use crate::limits::{WAL_BYTES, WAL_KEPT_BUFFER_BYTES, WAL_MAX_BYTES};
use crate::shared::Shared;
use frame::{Builder, Head};

const NAMES: [&str; 2] = ["wal.0", "wal.1"];

/// Why a write-ahead log does not open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WalError {
    #[error("{}", .0.display())]
    Io(PathBuf, #[source] io::Error),
    /// A file, or the directory of both, and what is wrong where.
    #[error("{}: {what}", place.display())]
    Corrupt { place: PathBuf, what: String },
    #[error(transparent)]
    Write(#[from] WriteError),
}

pub(crate) struct Wal {
    files: [File; 2],
    paths: [PathBuf; 2],
    faults: Faults,
    active: usize,
    /// Where the next frame goes.
    offset: u64,
    lengths: [u64; 2],
    /// The next frame's head.
    head: Head,
    frame: Builder,
    /// The other file's writes are on their way into sled.
    settling: Option<mpsc::Receiver<Result<(), WriteError>>>,
}

impl Wal {
    /// Makes the two files of a new data directory.
    pub(crate) fn create(dir: &Path) -> Result<(), WalError> {
        for path in NAMES.map(|name| dir.join(name)) {
            File::create(&path).and_then(|file| file.sync_all()).map_err(|error| WalError::Io(path, error))?;
        }
        Ok(())
    }

    /// Opens the files in `dir`, and brings sled up to what they hold.
    pub(crate) fn open(dir: &Path, disk: &Disk) -> Result<Self, WalError> {
        let open = |name| {
            let path = dir.join(name);
            let file = OpenOptions::new().read(true).write(true).open(&path);
            let read = std::fs::read(&path);
            file.and_then(|file| Ok((file, read?))).map_err(|error| WalError::Io(path, error))
        };
        let [(first, first_bytes), (second, second_bytes)] = [open(NAMES[0])?, open(NAMES[1])?];
        let replay = replay::read([&first_bytes, &second_bytes])
            .map_err(|replay::Damage { file, what }| WalError::Corrupt { place: dir.join(NAMES[file]), what })?;
        let last = replay.last.map(|(head, _)| head);
        check_turn(dir, disk, last)?;
        let replayed = replay.writes.len();
        for writes in replay.writes {
            disk.write(writes)?;
        }
        if replayed > 0 {
            tracing::info!(event = "wal_replayed", frames = replayed, "what was committed last is in sled again");
        }
        // The newest frames stay whole until the new turn has begun.
        let active = replay.last.map_or(0, |(_, file)| 1 - file);
        let head = Head { epoch: 0, oldest: 0, seq: last.map_or(1, |last| last.seq + 1) };
        let lengths = [first_bytes.len() as u64, second_bytes.len() as u64];
        let frame = Builder::new();
        let (files, paths, faults) = ([first, second], NAMES.map(|name| dir.join(name)), disk.faults.clone());
        let mut wal = Self { files, paths, faults, active, offset: 0, lengths, head, frame, settling: None };
        wal.begin(disk, last.map_or(1, |last| last.epoch + 1))?;
        disk.save_turn(wal.head.epoch)?;
        Ok(wal)
    }

    /// Everything the log holds is made durable in sled, and a turn begins that needs none of it.
    fn begin(&mut self, disk: &Disk, epoch: u64) -> Result<(), WriteError> {
        disk.commit()?;
        self.head.epoch = epoch;
        self.head.oldest = epoch;
        self.offset = 0;
        self.commit()
    }

    /// The next commit makes `write` durable.
    pub(crate) fn add(&mut self, write: &Write) {
        self.frame.add(write);
    }

    /// Bytes that wait for the next commit.
    pub(crate) fn waiting(&self) -> usize {
        if self.frame.is_empty() { 0 } else { self.frame.len() }
    }

    /// Everything added survives a power cut once this returns. Never repeated after an error.
    pub(crate) fn commit(&mut self) -> Result<(), WriteError> {
        let (file, path) = (&self.files[self.active], &self.paths[self.active]);
        let bytes = self.frame.seal(self.head);
        let written = self.faults.check(Point::WalWrite).and_then(|()| file.write_all_at(bytes, self.offset));
        written.map_err(WriteError::file("writing to", path))?;
        let synced = self.faults.check(Point::WalSync).and_then(|()| file.sync_data());
        synced.map_err(WriteError::file("fdatasync of", path))?;
        self.offset += bytes.len() as u64;
        self.lengths[self.active] = self.lengths[self.active].max(self.offset);
        self.head.seq += 1;
        self.frame.clear(WAL_KEPT_BUFFER_BYTES);
        Ok(())
    }

    /// Everything is in sled, durably, and the log needs none of it. For what sled must hold by itself, and at the end.
    pub(crate) fn settle(&mut self, disk: &Disk) -> Result<(), WriteError> {
        self.settled(true)?;
        self.active = 1 - self.active;
        self.begin(disk, self.head.epoch + 1)
    }

    /// Changes files when the active one is full and the other is free. Everything committed must be in sled by now.
    pub(crate) fn turn(&mut self, shared: &Arc<Shared>) -> Result<(), WriteError> {
        if self.settling.is_some() {
            self.settled(self.offset >= WAL_MAX_BYTES)?;
        }
        if self.offset < WAL_BYTES || self.settling.is_some() {
            return Ok(());
        }
        self.active = 1 - self.active;
        self.offset = 0;
        self.head.epoch += 1;
        let (sender, receiver) = mpsc::sync_channel(1);
        let shared = shared.clone();
        let settling = std::thread::Builder::new().name("settle".to_owned()).spawn(move || {
            // Whoever ended meanwhile makes sled durable by itself.
            let _ = sender.send(shared.disk.commit());
        });
        settling.map_err(WriteError::file("starting a thread for", &self.paths[self.active]))?;
        self.settling = Some(receiver);
        Ok(())
    }

    /// Looks whether the file that is not active is in sled, or waits for it.
    fn settled(&mut self, wait: bool) -> Result<(), WriteError> {
        let Some(settling) = &self.settling else { return Ok(()) };
        let ended = || {
            let error = io::Error::other("the thread that makes sled durable ended");
            WriteError::file("settling", &self.paths[1 - self.active])(error)
        };
        let settled = if wait {
            settling.recv().map_err(|_| ended())?
        } else {
            match settling.try_recv() {
                Ok(settled) => settled,
                Err(mpsc::TryRecvError::Empty) => return Ok(()),
                Err(mpsc::TryRecvError::Disconnected) => return Err(ended()),
            }
        };
        self.settling = None;
        settled?;
        self.head.oldest = self.head.epoch;
        Ok(())
    }

    pub(crate) fn bytes_on_disk(&self) -> u64 {
        self.lengths.iter().sum()
    }
}

/// Emptied files, or those of an older copy, are noticed: sled knows which turn had begun.
fn check_turn(dir: &Path, disk: &Disk, last: Option<Head>) -> Result<(), WalError> {
    let corrupt = |what: String| Err(WalError::Corrupt { place: dir.to_owned(), what });
    let begun = match disk.turn() {
        Ok(begun) => begun,
        Err(error) => return corrupt(error.to_string()),
    };
    let [this, other] = NAMES;
    match (begun, last.map(|last| last.epoch)) {
        (Some(begun), Some(found)) if found < begun => corrupt(format!(
            "a frame of turn {begun} was expected in {this} or {other}, as the database knows; the newest is of turn {found}"
        )),
        (Some(begun), None) => corrupt(format!(
            "a frame of turn {begun} was expected at byte 0 of {this} or {other}, as the database knows; neither holds one"
        )),
        _ => Ok(()),
    }
}
