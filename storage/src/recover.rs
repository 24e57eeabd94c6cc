//! What is put right and checked when a database is opened, before anything is served from it.

use std::ops::Range;
use std::path::Path;

use chat::ids::ShardId;
use serde::de::DeserializeOwned;

use crate::disk::{Disk, corrupt};
use crate::error::StorageError;
use crate::fault::WriteError;
use crate::install::{remove_range, staged_records};
use crate::key::{self, ENGINE, Space, meta};
use crate::record::{Installing, LogPosition, LogRecord, StateMarker};

#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoverError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A kill while sled opens leaves half a snapshot file, with which it then refuses to open.
pub(crate) fn remove_unfinished_files(dir: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Every shard with records: leftovers removed, the state's marker compared with the log.
pub(crate) fn recover(disk: &Disk) -> Result<(), RecoverError> {
    let mut shard = ShardId(0);
    let mut changed = false;
    while let Some(first) = disk.first_key(key::shard_start(shard)..key::shard_start(ENGINE))? {
        shard = key::shard_of(&first).unwrap_or(ENGINE);
        changed |= recover_shard(disk, shard)?;
        shard = ShardId(shard.0.saturating_add(1));
    }
    if changed {
        disk.commit()?;
    }
    Ok(())
}

fn recover_shard(disk: &Disk, shard: ShardId) -> Result<bool, RecoverError> {
    let marker: StateMarker = disk.load(&key::named(shard, meta::APPLIED))?.unwrap_or_default();
    // Raft learns again what is committed.
    let mut changed = forget_if_damaged::<Option<LogPosition>>(disk, shard, meta::COMMITTED)?;
    changed |= remove_other_generations(disk, shard, Space::State, Some(marker.generation))?;
    changed |= remove_other_generations(disk, shard, Space::Snapshot, None)?;

    let installing_key = key::named(shard, meta::INSTALLING);
    if let Some(installing) = disk.load::<Installing>(&installing_key)? {
        remove(disk, staged_records(shard, installing.last))?;
        disk.write(vec![crate::disk::Write::remove(installing_key)])?;
        changed = true;
    }
    check_marker(disk, shard, &marker)?;
    Ok(changed)
}

/// Removes a damaged record that the shard can do without. Its vote, what is applied and what is purged it cannot.
fn forget_if_damaged<T: DeserializeOwned>(disk: &Disk, shard: ShardId, name: &str) -> Result<bool, RecoverError> {
    let key = key::named(shard, name);
    match disk.load::<T>(&key) {
        Ok(_) => Ok(false),
        Err(error) if error.damage().is_some() => {
            tracing::error!(event = "record_damaged", %error, "the record is removed: the shard does without it");
            disk.write(vec![crate::disk::Write::remove(key)])?;
            Ok(true)
        }
        Err(error) => Err(error.into()),
    }
}

fn remove(disk: &Disk, range: Range<Vec<u8>>) -> Result<(), RecoverError> {
    remove_range(disk, range, |writes| disk.write(writes).map_err(RecoverError::from))
}

/// Generations of an installation that was not finished or was replaced and not yet removed, and of copies.
fn remove_other_generations(
    disk: &Disk,
    shard: ShardId,
    space: Space,
    keep: Option<u32>,
) -> Result<bool, RecoverError> {
    let mut changed = false;
    let mut rest = key::space_range(shard, space);
    while let Some(first) = disk.first_key(rest.clone())? {
        let Some(generation) = key::generation_of(&first) else {
            return Err(corrupt(&first, "its key names no generation".to_owned()).into());
        };
        if Some(generation) != keep {
            remove(disk, key::generation_range(shard, space, generation))?;
            changed = true;
        }
        rest.start = key::after_generation(shard, space, generation);
    }
    Ok(changed)
}

/// A state ahead of its log would count as applied what the cluster may yet decide otherwise.
fn check_marker(disk: &Disk, shard: ShardId, marker: &StateMarker) -> Result<(), StorageError> {
    let Some(applied) = marker.applied.position else { return Ok(()) };
    let purged: Option<LogPosition> = disk.load(&key::named(shard, meta::PURGED))?;
    if purged.is_some_and(|purged| purged.index >= applied.index) {
        return Ok(());
    }
    let key = key::log(shard, applied.index);
    let found = match disk.load::<LogRecord>(&key) {
        // Which one it was is known: other members have it.
        Err(error) if error.damage().is_some() => return Ok(()),
        found => found?,
    };
    match found {
        Some(record) if record.position == applied => Ok(()),
        Some(_) => Err(corrupt(&key, "the state was applied from another record".to_owned())),
        None => Err(corrupt(&key, "it is missing, but the state has it applied".to_owned())),
    }
}
