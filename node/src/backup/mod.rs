//! Backups of a cluster, and clusters made from them. The format is [`storage::backup`]'s; the CLI asks ([`create`]) a
//! running node for its shards, and makes ([`restore`]) the directory of a new cluster, as `campanile cluster init` does.

mod create;
mod restore;

pub use create::{CreateError, create};
pub use restore::{RestoreError, RestoreOptions, Restored, restore};
