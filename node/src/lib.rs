//! The process `campanile`: actors, WebSocket and HTTP edges, login, security log, CLI.

pub mod admin;
pub mod auth;
pub mod backup;
pub mod cli;
pub mod compaction;
pub mod config;
mod demo;
pub mod directory;
pub mod duty;
pub mod fanout;
mod group;
pub mod history;
pub mod init;
pub mod local;
pub mod nodes;
pub mod page;
pub mod presence;
pub mod room;
pub mod router;
pub mod security;
pub mod session;
pub mod socket;
pub mod start;
mod started;
pub mod tls;
