//! A directory that is complete or absent: built beside its place under another name, and renamed at the end.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::{BackupError, io_error};

const LOCK: &str = "lock";

/// The directory while it is built. Dropped without [`Staging::commit`], it is removed; what a killed process left is
/// removed by the next one that builds the same.
pub struct Staging {
    target: PathBuf,
    dir: PathBuf,
    lock: Option<File>,
}

impl Staging {
    /// Begins; `target` must not exist, or be an empty directory.
    pub fn begin(target: &Path) -> Result<Self, BackupError> {
        let occupied = fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_some());
        if occupied || target.is_file() {
            return Err(BackupError::Exists { dir: target.into() });
        }
        if let Some(parent) = parent(target) {
            fs::create_dir_all(parent).map_err(io_error("cannot make", parent))?;
        }
        let mut name = target.file_name().unwrap_or_default().to_os_string();
        name.push(".partial");
        let dir = target.with_file_name(name);
        if dir.exists() {
            let _left = lock(&dir, target)?;
            fs::remove_dir_all(&dir).map_err(io_error("cannot remove", &dir))?;
        }
        DirBuilder::new().mode(0o700).create(&dir).map_err(io_error("cannot make", &dir))?;
        let mut staging = Self { target: target.into(), dir, lock: None };
        staging.lock = Some(lock(&staging.dir, target)?);
        Ok(staging)
    }

    /// Where to build.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Gives the directory its name. Files in it must be synced already.
    pub fn commit(mut self) -> Result<(), BackupError> {
        let path = self.dir.join(LOCK);
        fs::remove_file(&path).map_err(io_error("cannot remove", &path))?;
        sync_dir(&self.dir)?;
        fs::rename(&self.dir, &self.target).map_err(io_error("cannot name", &self.target))?;
        self.lock = None;
        match parent(&self.target) {
            Some(parent) => sync_dir(parent),
            None => sync_dir(Path::new(".")),
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.lock.take().is_some()
            && let Err(error) = fs::remove_dir_all(&self.dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %self.dir.display(), "half a directory was not removed");
        }
    }
}

fn parent(path: &Path) -> Option<&Path> {
    path.parent().filter(|parent| !parent.as_os_str().is_empty())
}

fn lock(dir: &Path, target: &Path) -> Result<File, BackupError> {
    let path = dir.join(LOCK);
    let file = File::create(&path).map_err(io_error("cannot make", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(BackupError::Busy { dir: target.into() }),
        Err(TryLockError::Error(source)) => Err(io_error("cannot lock", &path)(source)),
    }
}

pub(super) fn sync_dir(dir: &Path) -> Result<(), BackupError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error("cannot sync", dir))
}
