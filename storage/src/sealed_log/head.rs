//! How far a sealed log was synced.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;

use super::{ChainError, Files, SealedLogError};
use crate::seal::Place;

/// A place in the chain: so many records, which end at `offset`, and their hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) records: u64,
    pub(super) offset: u64,
    pub(super) hash: [u8; 32],
}

/// Two slots a disk sector apart, written in turn: a torn write leaves the other one.
pub(super) struct HeadFile {
    file: File,
    next_slot: u64,
}

const SLOT: u64 = 512;
const PLAIN: usize = 8 + 8 + 32;
const SEALED: usize = PLAIN + crate::limits::SEAL_BYTES;

impl Head {
    fn encode(&self) -> Vec<u8> {
        [&self.records.to_be_bytes()[..], &self.offset.to_be_bytes(), &self.hash].concat()
    }

    fn decode(plain: &[u8]) -> Option<Self> {
        let (records, rest) = plain.split_first_chunk::<8>()?;
        let (offset, rest) = rest.split_first_chunk::<8>()?;
        let hash = rest.try_into().ok()?;
        Some(Self { records: u64::from_be_bytes(*records), offset: u64::from_be_bytes(*offset), hash })
    }
}

fn place_key(files: &Files) -> String {
    format!("{}.head", files.name)
}

impl HeadFile {
    pub(super) fn create(files: &Files, head: &Head) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&files.head)?;
        let mut created = Self { file, next_slot: 0 };
        created.write(files, head)?;
        created.file.sync_all()
    }

    pub(super) fn open(files: &Files) -> Result<Self, SealedLogError> {
        let file =
            OpenOptions::new().read(true).write(true).open(&files.head).map_err(files.io("opening the head of"))?;
        // The older slot is the next to be written.
        let newest = slots(files, &file).map_err(files.io("reading the head of"))?;
        let next_slot = match newest {
            [Some(first), Some(second)] if first.records > second.records => 1,
            [Some(_), None] => 1,
            _ => 0,
        };
        Ok(Self { file, next_slot })
    }

    pub(super) fn write(&mut self, files: &Files, head: &Head) -> io::Result<()> {
        let sealed = files.sealer.seal(&Place::named(&place_key(files)), &head.encode());
        self.file.write_all_at(&sealed, self.next_slot * SLOT)?;
        self.next_slot = 1 - self.next_slot;
        Ok(())
    }
}

/// The newest head that opens.
pub(super) fn read(files: &Files) -> Result<Head, SealedLogError> {
    let broken = |what: &str| ChainError { sequence: 0, offset: 0, what: what.to_owned() };
    let file = match File::open(&files.head) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(broken("the head file is missing").into());
        }
        other => other.map_err(files.io("opening the head of"))?,
    };
    let slots = slots(files, &file).map_err(files.io("reading the head of"))?;
    let newest = slots.into_iter().flatten().max_by_key(|head| head.records);
    newest.ok_or_else(|| broken("the head file does not open: changed bytes or another key").into())
}

fn slots(files: &Files, file: &File) -> io::Result<[Option<Head>; 2]> {
    let mut heads = [None; 2];
    for (number, head) in heads.iter_mut().enumerate() {
        let mut sealed = [0; SEALED];
        match file.read_exact_at(&mut sealed, number as u64 * SLOT) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
            other => other?,
        }
        let opened = files.sealer.open(&Place::named(&place_key(files)), &sealed);
        *head = opened.ok().and_then(|plain| Head::decode(&plain));
    }
    Ok(heads)
}
