//! The admin listener: health, status and user administration for operators, and the client that asks it.

mod acts;
mod api;
mod apps;
mod apps_client;
mod backend;
mod backup;
mod client;
mod retention;
mod server;
mod stream;

pub(crate) use acts::recorded;
pub use api::{AdminProblem, Drain, NewUser, NodeStatus, Readiness, StorageStatus, shard_name};
pub use apps::{ApiKeyInfo, AppInfo, MadeApiKey, NewApp, NewTokenKey, Settings, TokenKeyInfo, WantedApiKey};
pub use backend::NodeBackend;
pub(crate) use backend::not_proposed;
pub use backup::BackupDesk;
pub use client::{AdminClient, AdminError};
pub use retention::{IdWindowChange, Policy, RetentionChange, RetentionOf, RetentionStatus};
pub(crate) use server::answer;
pub use server::{Backend, Refused, serve};
pub use stream::FrameStream;
