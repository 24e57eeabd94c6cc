//! New files and directories that only their owner can read, on disk before the next step.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", path.display())]
pub struct WriteError {
    pub path: PathBuf,
    pub source: std::io::Error,
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> WriteError {
    let path = path.to_owned();
    move |source| WriteError { path, source }
}

/// A file with mode 600 that did not exist before.
pub(super) fn private_file(path: &Path, content: &str) -> Result<(), WriteError> {
    file(path, content, 0o600)
}

/// A file with mode 644 that did not exist before.
pub(super) fn public_file(path: &Path, content: &str) -> Result<(), WriteError> {
    file(path, content, 0o644)
}

fn file(path: &Path, content: &str, mode: u32) -> Result<(), WriteError> {
    let open = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    open.and_then(|mut file| file.write_all(content.as_bytes()).and_then(|()| file.sync_all())).map_err(at(path))
}

/// A directory with mode 700 that did not exist before.
pub(super) fn private_dir(path: &Path) -> Result<(), WriteError> {
    DirBuilder::new().mode(0o700).create(path).map_err(at(path))
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(path: &Path) -> Result<(), WriteError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(at(path))
}

/// Renames, replacing nothing but an empty directory.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), WriteError> {
    std::fs::rename(from, to).map_err(at(to))
}

/// Where something is built before it gets its name: beside it, so that the rename stays within one file system.
pub(super) fn beside(target: &Path, suffix: &str) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_os_string();
    name.push(suffix);
    target.with_file_name(name)
}
