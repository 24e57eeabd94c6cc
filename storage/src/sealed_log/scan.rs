//! Reading a sealed log from its first record, checking the chain on the way.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use super::head::{self, Head};
use super::{ChainError, Files, SealedLogError, TornTail};
use crate::limits::{SEAL_BYTES, SEALED_LOG_RECORD_BYTES};
use crate::seal::Place;

const LENGTH: usize = 4;
/// A tail that ends in so many zeros was allocated and never written: no sealed record looks like that.
const ZEROS: usize = 16;

/// A reader between two records.
pub(super) struct Scan<'a> {
    files: &'a Files,
    reader: BufReader<File>,
    pub(super) at: Head,
}

pub(super) fn next_hash(hash: &[u8; 32], sealed: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new().update(hash).update(sealed).finalize().as_bytes()
}

impl<'a> Scan<'a> {
    pub(super) fn open(files: &'a Files) -> Result<Self, SealedLogError> {
        let file = match File::open(&files.log) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let what = "the log file is missing".to_owned();
                return Err(ChainError { sequence: 0, offset: 0, what }.into());
            }
            other => other.map_err(files.io("opening"))?,
        };
        let at = Head { records: 0, offset: 0, hash: files.first_hash() };
        Ok(Self { files, reader: BufReader::new(file), at })
    }

    pub(super) fn broken(&self, what: &str) -> ChainError {
        ChainError { sequence: self.at.records, offset: self.at.offset, what: what.to_owned() }
    }

    /// The next record, none at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, SealedLogError> {
        let mut length = [0; LENGTH];
        match self.fill(&mut length)? {
            0 => return Ok(None),
            LENGTH => {}
            _ => return Err(self.broken("its length is cut short").into()),
        }
        let length = u32::from_be_bytes(length) as usize;
        if !(SEAL_BYTES..=SEALED_LOG_RECORD_BYTES + SEAL_BYTES).contains(&length) {
            return Err(self.broken(&format!("a length of {length} bytes is not possible")).into());
        }
        let mut sealed = vec![0; length];
        if self.fill(&mut sealed)? < length {
            return Err(self.broken("it is cut short").into());
        }
        let place = self.files.place_key(self.at.records, &self.at.hash);
        let plain = self
            .files
            .sealer
            .open(&Place::bytes(&place), &sealed)
            .map_err(|_| self.broken("changed bytes, a missing record before it, or another key"))?;
        self.at.hash = next_hash(&self.at.hash, &sealed);
        self.at.offset += (LENGTH + length) as u64;
        self.at.records += 1;
        Ok(Some(plain))
    }

    /// Reads until `buffer` is full or the file ends.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, SealedLogError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.files.io("reading")(error)),
            }
        }
        Ok(filled)
    }

    /// What follows the last whole record, if a crash explains it: cut short, or allocated and never written.
    fn torn_tail(&mut self, error: &ChainError) -> io::Result<Option<TornTail>> {
        let end = self.reader.seek(SeekFrom::End(0))?;
        let tail = TornTail { offset: self.at.offset, bytes: end - self.at.offset };
        let ends = (ZEROS as u64).min(tail.bytes);
        self.reader.seek(SeekFrom::Start(end - ends))?;
        let mut last = Vec::new();
        self.reader.read_to_end(&mut last)?;
        let unwritten = last.iter().all(|byte| *byte == 0);
        Ok((unwritten || error.what.ends_with("cut short")).then_some(tail))
    }
}

/// Reads everything: the end of the chain, and what a crash left behind it.
pub(super) fn verify(files: &Files) -> Result<(Head, Option<TornTail>), SealedLogError> {
    let synced = head::read(files)?;
    let mut scan = Scan::open(files)?;
    let torn = loop {
        if scan.at.records == synced.records && scan.at != synced {
            return Err(scan.broken("the records before it are not those that were synced").into());
        }
        match scan.next() {
            Ok(Some(_)) => {}
            Ok(None) => break None,
            // Only what was never synced may be torn.
            Err(SealedLogError::Chain(error)) if scan.at.records >= synced.records => {
                let torn = scan.torn_tail(&error).map_err(files.io("reading"))?;
                break Some(torn.ok_or(error)?);
            }
            Err(error) => return Err(error),
        }
    };
    if scan.at.records < synced.records {
        let missing = synced.records - scan.at.records;
        return Err(scan.broken(&format!("{missing} synced records are missing from here on")).into());
    }
    Ok((scan.at, torn))
}
