//! The admin listener: health, status and user administration for operators, and the client that asks it.

mod api;
mod client;

pub use api::{AdminProblem, NewUser, NodeStatus, Readiness, StorageStatus, shard_name};
pub use client::{AdminClient, AdminError};
