//! What a connection is, and how the client has fared.

use chat::ids::{AppId, NodeId, UserId};
use chat::wire::Limits;

/// The present or last session, as the node announced it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub user: UserId,
    pub app: AppId,
    pub session: String,
    pub cluster: String,
    pub node: NodeId,
    pub epoch: u32,
    pub limits: Limits,
}

/// Counters since the client was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Completed logins with resume.
    pub connections: u64,
    /// Requests sent again.
    pub retries: u64,
    /// Live events that came a second time on a connection. The client drops them; a correct service sends none.
    pub duplicates: u64,
    /// Live events that came before their predecessors. The client fills the gap; a correct service makes none.
    pub gaps: u64,
    /// History pages the client read by itself.
    pub backfills: u64,
}
