//! Chunks of a snapshot on their way, in a file: a state may be larger than memory. The file is sealed with a key that
//! only this process has, so that what a crash leaves behind is noise; it is removed after use, and when the engine opens.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::StorageError;
use crate::limits::{SPOOL_BYTES, SPOOL_CHUNK_BYTES};
use crate::record::{self, SnapshotChunk};
use crate::seal::{Place, Sealer};
use crate::secret::random_key;

const DIR: &str = "spool";

/// Where an engine's spools are. Clones are the same place.
#[derive(Debug, Clone)]
pub struct Spools(Arc<Where>);

#[derive(Debug)]
struct Where {
    dir: PathBuf,
    next: AtomicU64,
}

impl Spools {
    /// The place in a data directory, emptied.
    pub(crate) fn open(data: &Path) -> io::Result<Self> {
        let dir = data.join(DIR);
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir(&dir)?;
        Ok(Self(Arc::new(Where { dir, next: AtomicU64::new(1) })))
    }

    /// A new, empty spool.
    pub fn begin(&self) -> Result<SpoolWriter, StorageError> {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let path = self.0.dir.join(format!("{number}.spool"));
        let open = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = open.map_err(failed)?;
        let held = Held { path };
        let sealer = Sealer::new(&random_key());
        Ok(SpoolWriter { file: BufWriter::new(file), held, sealer, chunks: 0, bytes: 0 })
    }
}

/// Removes the file when nobody needs it any more.
struct Held {
    path: PathBuf,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "a spool was not removed; the next start removes it");
        }
    }
}

/// Takes chunks in order.
pub struct SpoolWriter {
    file: BufWriter<File>,
    held: Held,
    sealer: Sealer,
    chunks: u64,
    bytes: u64,
}

impl SpoolWriter {
    /// Chunks taken so far.
    pub fn chunks(&self) -> u64 {
        self.chunks
    }

    /// Bytes of the file so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes the chunk behind the others. For the blocking pool.
    pub fn add(&mut self, chunk: &SnapshotChunk) -> Result<(), StorageError> {
        let sealed = self.sealer.seal(&Place::bytes(&self.chunks.to_be_bytes()), &record::encode(chunk));
        let len = u32::try_from(sealed.len()).map_err(|_| StorageError::TooLarge {
            what: "a snapshot chunk",
            len: sealed.len(),
            max: SPOOL_CHUNK_BYTES,
        })?;
        self.bytes += 4 + u64::from(len);
        if self.bytes > SPOOL_BYTES {
            return Err(StorageError::Source { reason: format!("it has more than {SPOOL_BYTES} bytes") });
        }
        self.file.write_all(&len.to_be_bytes()).and_then(|()| self.file.write_all(&sealed)).map_err(failed)?;
        self.chunks += 1;
        Ok(())
    }

    /// What was taken, to be read from its beginning.
    pub fn finish(self) -> Result<SpoolReader, StorageError> {
        let mut file = self.file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.rewind().map_err(failed)?;
        Ok(SpoolReader {
            file: BufReader::new(file),
            _held: self.held,
            sealer: self.sealer,
            next: 0,
            chunks: self.chunks,
        })
    }
}

/// Gives the chunks back, each as it was taken or an error.
pub struct SpoolReader {
    file: BufReader<File>,
    _held: Held,
    sealer: Sealer,
    next: u64,
    chunks: u64,
}

impl SpoolReader {
    /// The next chunk; none after the last. For the blocking pool.
    pub fn next_chunk(&mut self) -> Result<Option<SnapshotChunk>, StorageError> {
        if self.next == self.chunks {
            return Ok(None);
        }
        let mut len = [0; 4];
        self.file.read_exact(&mut len).map_err(failed)?;
        let len = u32::from_be_bytes(len) as usize;
        if len > SPOOL_CHUNK_BYTES {
            return Err(damaged(self.next, &format!("{len} bytes where {SPOOL_CHUNK_BYTES} are possible")));
        }
        let mut sealed = vec![0; len];
        self.file.read_exact(&mut sealed).map_err(failed)?;
        let place = self.next.to_be_bytes();
        let plain = self.sealer.open(&Place::bytes(&place), &sealed).map_err(|error| damaged(self.next, &error))?;
        let chunk = record::decode(&plain).map_err(|error| damaged(self.next, &error))?;
        self.next += 1;
        Ok(Some(chunk))
    }
}

fn failed(error: io::Error) -> StorageError {
    StorageError::Source { reason: format!("its spool: {error}") }
}

fn damaged(chunk: u64, what: &dyn std::fmt::Display) -> StorageError {
    StorageError::Source { reason: format!("chunk {chunk} of its spool: {what}") }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn chunk(number: u8) -> SnapshotChunk {
        SnapshotChunk::State(vec![(Bytes::from(vec![number]), Bytes::from(vec![number; 100_000]))])
    }

    fn files(dir: &Path) -> Vec<PathBuf> {
        fs::read_dir(dir.join(DIR)).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn chunks_come_back_in_order_and_the_file_goes_with_its_reader() {
        let dir = tempfile::tempdir().unwrap();
        let spools = Spools::open(dir.path()).unwrap();
        let mut writer = spools.begin().unwrap();
        (0..20).for_each(|number| writer.add(&chunk(number)).unwrap());
        assert_eq!((writer.chunks(), files(dir.path()).len()), (20, 1));
        let mut reader = writer.finish().unwrap();
        for number in 0..20 {
            assert_eq!(reader.next_chunk().unwrap(), Some(chunk(number)));
        }
        assert!(reader.next_chunk().unwrap().is_none());
        drop(reader);
        assert_eq!(files(dir.path()), Vec::<PathBuf>::new());
    }

    #[test]
    fn what_a_crash_left_is_removed_and_shows_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Spools::open(dir.path()).unwrap().begin().unwrap();
        writer.add(&chunk(7)).unwrap();
        writer.file.flush().unwrap();
        let bytes = fs::read(&files(dir.path())[0]).unwrap();
        assert!(!bytes.windows(8).any(|window| window == [7; 8]));
        std::mem::forget(writer);
        Spools::open(dir.path()).unwrap();
        assert_eq!(files(dir.path()), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_changed_or_short_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let spools = Spools::open(dir.path()).unwrap();
        for damage in [
            |bytes: &mut Vec<u8>| bytes[50] ^= 1,
            |bytes: &mut Vec<u8>| bytes[0] = 255,
            |bytes: &mut Vec<u8>| bytes.truncate(70_000),
        ] {
            let mut writer = spools.begin().unwrap();
            writer.add(&chunk(1)).unwrap();
            let mut reader = writer.finish().unwrap();
            let path = files(dir.path()).pop().unwrap();
            let mut bytes = fs::read(&path).unwrap();
            damage(&mut bytes);
            fs::write(&path, bytes).unwrap();
            assert!(matches!(reader.next_chunk(), Err(StorageError::Source { .. })));
        }
    }
}
