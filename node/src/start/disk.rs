//! A disk that is full, read-only or broken: a node refuses to start on it, or ends on it, and says in one place what
//! failed, where, and what to do.

use std::path::{Path, PathBuf};

use storage::{DISK_OPEN_BYTES, DiskFault, OpenError, StorageError};

use crate::cli::{Code, Exit, Failure, output};
use crate::room::free_bytes;

/// There is not enough room for opening the data directory.
#[derive(Debug, thiserror::Error)]
#[error("{} has {} MiB free, opening it needs {}", dir.display(), free_bytes >> 20, DISK_OPEN_BYTES >> 20)]
pub(crate) struct NoRoom {
    dir: PathBuf,
    free_bytes: u64,
}

/// Opening writes; stopped half way it would have to be repeated, again and again. What cannot be asked is left to it.
pub(super) fn check_room(dir: &Path) -> Result<(), NoRoom> {
    match free_bytes(dir) {
        Ok(free_bytes) if free_bytes < DISK_OPEN_BYTES => Err(NoRoom { dir: dir.to_owned(), free_bytes }),
        _ => Ok(()),
    }
}

/// What is wrong with the disk, if a start failed because of it.
pub(crate) fn fault_of(error: &anyhow::Error) -> Option<DiskFault> {
    error.chain().find_map(|cause| {
        let opening = cause.downcast_ref::<OpenError>().and_then(OpenError::fault);
        opening.or_else(|| cause.is::<NoRoom>().then_some(DiskFault::Full))
    })
}

/// The exit code, and what to do next. `again` is the command that starts the node.
pub(crate) fn advice(fault: DiskFault, dir: &Path, again: &str) -> (Exit, String) {
    let dir = dir.display();
    match fault {
        DiskFault::Full => (Exit::NoRoom, format!("free space on the volume of {dir} (df -h {dir}), then: {again}")),
        DiskFault::ReadOnly => (
            Exit::NoRoom,
            format!("look why (dmesg), mount the volume of {dir} for writing (mount -o remount,rw), then: {again}"),
        ),
        DiskFault::Broken => {
            (Exit::Disk, format!("look at the disk of {dir} (dmesg, smartctl) before you start it again: {again}"))
        }
    }
}

/// Ends the process after a write that failed: what the disk holds of it is judged at the next start.
pub(super) fn end(error: &StorageError, node: u64, dir: &Path, again: &str) -> ! {
    let fault = match error {
        StorageError::Failed { fault, .. } => *fault,
        _ => DiskFault::Broken,
    };
    tracing::error!(event = "storage_failed", %error, ?fault, "nothing can be made durable any more: ending");
    let (exit, next) = advice(fault, dir, again);
    output::complain(Failure::new(Code::Disk, exit, format!("node {node}: {error}")).next(next));
    std::process::exit(i32::from(exit as u8));
}
