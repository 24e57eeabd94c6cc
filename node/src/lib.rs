//! The process `campanile`: actors, WebSocket and HTTP edges, login, security log, CLI.

pub mod admin;
pub mod auth;
pub mod security;
pub mod config;
pub mod init;
pub mod local;
