//! The Rust client of Campanile: connect, send, receive, and come back after whatever happens to the connection.
//!
//! A core decides (`core/`: requests and their retries, the place in every conversation) and a thin shell
//! carries bytes (`connection`, `socket`). One task per client; every queue is bounded; thousands of clients
//! fit one process. See the crate's README for an example.

mod client;
mod connection;
mod core;
mod error;
mod event;
mod groups;
mod logins;
mod moment;
mod options;
mod session;
mod socket;
mod users;

pub use chat;

pub use crate::client::{Changed, Client, ConversationPage, HistoryPage, MemberPage, Range, Sent};
pub use crate::error::{ConnectError, RequestError, SendError, TlsError};
pub use crate::event::{ClientEvent, Events};
pub use crate::moment::Privacy;
pub use crate::options::{Auth, ClientOptions, CredentialsFuture, Encoding, Tls};
pub use crate::session::{Session, Stats};
pub use crate::users::{Mark, Readers, Synced, UnreadTotal};
