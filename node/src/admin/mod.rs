//! The admin listener: health, status and user administration for operators, and the client that asks it.

mod api;
mod backend;
mod backup;
mod client;
mod server;
mod stream;

pub use api::{AdminProblem, Drain, NewUser, NodeStatus, Readiness, StorageStatus, shard_name};
pub use backend::NodeBackend;
pub use backup::BackupDesk;
pub use client::{AdminClient, AdminError};
pub use server::{Backend, Refused, serve};
pub use stream::FrameStream;
