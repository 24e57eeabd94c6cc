//! Why a write failed, by what an operator can do about it; and where tests make one fail.

use std::io;
use std::path::{Path, PathBuf};

/// What is wrong with the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFault {
    /// No room is left, or the quota is used up.
    Full,
    /// The volume is mounted read-only: by an operator, or by the kernel after an error.
    ReadOnly,
    /// It does not do what it is told: what it holds of the last writes is not known.
    Broken,
}

impl DiskFault {
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            _ => Self::Broken,
        }
    }
}

/// Why the storage thread's work failed. Its text is one line that names the path.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("{what} {}: {source}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    /// sled's own complaint, for instance that it found something damaged.
    #[error("{what} {}: {source}", path.display())]
    Sled { what: &'static str, path: PathBuf, source: sled::Error },
}

impl WriteError {
    pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { what, path: path.into(), source }
    }

    pub(crate) fn sled(what: &'static str, path: &Path) -> impl FnOnce(sled::Error) -> Self {
        move |source| match source {
            sled::Error::Io(source) => Self::File { what, path: path.into(), source },
            source => Self::Sled { what, path: path.into(), source },
        }
    }

    pub(crate) fn fault(&self) -> DiskFault {
        match self {
            Self::File { source, .. } => DiskFault::of(source),
            Self::Sled { .. } => DiskFault::Broken,
        }
    }
}

/// Where the storage thread's writes can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    WalWrite,
    WalSync,
    Insert,
    Flush,
    Sync,
}

/// The failure that a test has planned; nothing at all elsewhere.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    #[cfg(test)]
    planned: std::sync::Arc<parking_lot::Mutex<Option<(Point, i32)>>>,
}

impl Faults {
    /// The next pass through `point` fails once with this error of the operating system.
    #[cfg(test)]
    pub(crate) fn plan(&self, point: Point, errno: i32) {
        *self.planned.lock() = Some((point, errno));
    }

    pub(crate) fn check(&self, point: Point) -> io::Result<()> {
        #[cfg(test)]
        if let Some((_, errno)) = self.planned.lock().take_if(|(planned, _)| *planned == point) {
            return Err(io::Error::from_raw_os_error(errno));
        }
        // Nothing is planned outside tests.
        let _ = point;
        Ok(())
    }
}
