//! The process `campanile`: actors, WebSocket and HTTP edges, login, security log, CLI.

pub mod auth;
pub mod config;

