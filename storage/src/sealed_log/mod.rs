//! A sealed append-only file with a hash chain, outside sled: the security log.
//!
//! `NAME.log` holds frames `[length u32][sealed record]`. Each record's associated data binds the log's name, the
//! record's sequence and the hash of everything before it, so that a record cannot be changed, moved, inserted or
//! removed unseen. `NAME.head` says how far the log was synced: a missing end is found too, and only what was never
//! synced may be torn.

mod head;
mod scan;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::limits::SEALED_LOG_RECORD_BYTES;
use crate::seal::{Place, Sealer};
use crate::secret::NodeKey;
use head::{Head, HeadFile};
use scan::Scan;

const CONTEXT: &str = "campanile 2026 storage sealed log v1";

/// Where a chain is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("sealed log record {sequence} at byte {offset}: {what}")]
pub struct ChainError {
    pub sequence: u64,
    pub offset: u64,
    pub what: String,
}

/// Why a sealed log did not open, or did not take or give a record.
#[derive(Debug, thiserror::Error)]
pub enum SealedLogError {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error("{what} {}", place.display())]
    Io { what: &'static str, place: PathBuf, source: io::Error },
    #[error("a record of a sealed log has {len} bytes, at most {max} are allowed")]
    TooLarge { len: usize, max: usize },
    /// A write or fsync failed before: what is on disk is not known, nothing is taken any more.
    #[error("the sealed log {} has failed", place.display())]
    Failed { place: PathBuf },
}

/// Bytes that a crash left behind the last whole record, none of them ever synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TornTail {
    pub offset: u64,
    pub bytes: u64,
}

/// What an unbroken log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    pub records: u64,
    /// The chain's last hash: it stands for the whole content.
    pub head: [u8; 32],
    /// What the next [`SealedLog::open`] will cut off.
    pub torn_tail: Option<TornTail>,
}

/// The two files of a log and what is needed to read them.
struct Files {
    log: PathBuf,
    head: PathBuf,
    name: String,
    sealer: Sealer,
}

impl Files {
    fn new(dir: &Path, key: &NodeKey, name: &str) -> Self {
        Self {
            log: dir.join(format!("{name}.log")),
            head: dir.join(format!("{name}.head")),
            name: name.to_owned(),
            sealer: Sealer::new(&key.derive(CONTEXT)),
        }
    }

    /// The hash before the first record.
    fn first_hash(&self) -> [u8; 32] {
        *blake3::hash(self.name.as_bytes()).as_bytes()
    }

    /// What a record's seal is bound to besides the format.
    fn place_key(&self, sequence: u64, hash: &[u8; 32]) -> Vec<u8> {
        [self.name.as_bytes(), &[0], &sequence.to_be_bytes(), hash].concat()
    }

    fn create(&self) -> io::Result<()> {
        OpenOptions::new().write(true).create_new(true).open(&self.log)?.sync_all()?;
        self.create_head()
    }

    fn create_head(&self) -> io::Result<()> {
        let start = Head { records: 0, offset: 0, hash: self.first_hash() };
        HeadFile::create(self, &start)?;
        match self.log.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => File::open(dir)?.sync_all(),
            _ => Ok(()),
        }
    }

    /// Both files as they must be: made now if there was nothing, completed if making them was cut short.
    fn prepare(&self) -> Result<(), SealedLogError> {
        let io = |source| SealedLogError::Io { what: "creating", place: self.log.clone(), source };
        match (self.log.metadata().map(|metadata| metadata.len()).ok(), self.head.exists()) {
            (None, false) => self.create().map_err(io),
            (Some(0), false) => self.create_head().map_err(io),
            _ => Ok(()),
        }
    }

    fn io(&self, what: &'static str) -> impl FnOnce(io::Error) -> SealedLogError {
        let place = self.log.clone();
        move |source| SealedLogError::Io { what, place, source }
    }
}

/// An open sealed log: one writer.
pub struct SealedLog {
    files: Files,
    file: File,
    head: HeadFile,
    records: u64,
    /// Bytes in the file, without those in `buffer`.
    offset: u64,
    hash: [u8; 32],
    buffer: Vec<u8>,
    torn_tail: Option<TornTail>,
    failed: bool,
}

impl SealedLog {
    /// Opens or creates `dir/name.log`, verifies its whole chain and cuts off a torn tail.
    pub fn open(dir: &Path, key: &NodeKey, name: &str) -> Result<Self, SealedLogError> {
        let files = Files::new(dir, key, name);
        files.prepare()?;
        let (end, torn_tail) = scan::verify(&files)?;
        let file = OpenOptions::new().append(true).open(&files.log).map_err(files.io("opening"))?;
        if torn_tail.is_some() {
            file.set_len(end.offset).and_then(|()| file.sync_all()).map_err(files.io("truncating"))?;
        }
        let head = HeadFile::open(&files)?;
        let Head { records, offset, hash } = end;
        Ok(Self { files, file, head, records, offset, hash, buffer: Vec::new(), torn_tail, failed: false })
    }

    /// What [`SealedLog::open`] cut off.
    pub fn torn_tail(&self) -> Option<TornTail> {
        self.torn_tail
    }

    /// How many records there are, which is the next one's sequence.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Adds a record to the buffer and returns its sequence, dense from 0. It survives a crash once
    /// [`SealedLog::sync`] has returned.
    pub fn append(&mut self, plain: &[u8]) -> Result<u64, SealedLogError> {
        if plain.len() > SEALED_LOG_RECORD_BYTES {
            return Err(SealedLogError::TooLarge { len: plain.len(), max: SEALED_LOG_RECORD_BYTES });
        }
        if self.failed {
            return Err(SealedLogError::Failed { place: self.files.log.clone() });
        }
        let sequence = self.records;
        let place = self.files.place_key(sequence, &self.hash);
        let sealed = self.files.sealer.seal(&Place::bytes(&place), plain);
        self.buffer.extend_from_slice(&(sealed.len() as u32).to_be_bytes());
        self.buffer.extend_from_slice(&sealed);
        self.hash = scan::next_hash(&self.hash, &sealed);
        self.records += 1;
        Ok(sequence)
    }

    /// Everything appended so far survives a power cut once this returns. After an error nothing is taken any more.
    pub fn sync(&mut self) -> Result<(), SealedLogError> {
        if self.failed {
            return Err(SealedLogError::Failed { place: self.files.log.clone() });
        }
        let result = self.try_sync();
        self.failed = result.is_err();
        result.map_err(self.files.io("writing"))
    }

    fn try_sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.sync_data()?;
        // Not synced itself: it is never ahead of the log, and after a power cut an older head is still true.
        self.head.write(&self.files, &Head { records: self.records, offset: self.offset, hash: self.hash })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Records from sequence `from` on, oldest first, those not yet synced included. The chain is checked on the way,
    /// from the first record on.
    pub fn iter(&mut self, from: u64) -> Result<Records<'_>, SealedLogError> {
        if let Err(error) = self.flush() {
            self.failed = true;
            return Err(self.files.io("writing")(error));
        }
        Ok(Records { scan: Scan::open(&self.files)?, end: self.records, from })
    }
}

/// An iterator over a log's records and their sequences.
pub struct Records<'a> {
    scan: Scan<'a>,
    end: u64,
    from: u64,
}

impl Iterator for Records<'_> {
    type Item = Result<(u64, Vec<u8>), SealedLogError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.scan.at.records < self.end {
            let sequence = self.scan.at.records;
            let error = match self.scan.next() {
                Ok(Some(_)) if sequence < self.from => continue,
                Ok(Some(plain)) => return Some(Ok((sequence, plain))),
                Ok(None) => self.scan.broken("it is missing").into(),
                Err(error) => error,
            };
            self.end = 0;
            return Some(Err(error));
        }
        None
    }
}

/// Checks every record of `dir/name.log` and changes nothing.
pub fn verify(dir: &Path, key: &NodeKey, name: &str) -> Result<Verified, SealedLogError> {
    let (end, torn_tail) = scan::verify(&Files::new(dir, key, name))?;
    Ok(Verified { records: end.records, head: end.hash, torn_tail })
}

#[cfg(test)]
mod tests;
