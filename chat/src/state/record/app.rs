//! What is stored of apps.

use serde::{Deserialize, Serialize};

use super::Record;
use crate::app::{AppSettings, Scope};
use crate::ids::{AppId, KeyId};

/// An app; its id is in the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    pub name: String,
    pub created_ms: u64,
    /// Any of them may have signed a token. At most [`crate::limits::TOKEN_KEYS`], oldest first.
    pub token_keys: Vec<TokenKey>,
    pub settings: AppSettings,
    /// It lets nobody in.
    pub frozen: bool,
}

/// An Ed25519 public key that verifies tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenKey {
    /// A token's header may name it (`kid`).
    pub id: KeyId,
    pub pem: String,
    pub added_ms: u64,
}

/// A key of an app's backend; its id is in the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    pub app: AppId,
    pub name: String,
    pub scopes: Vec<Scope>,
    pub hash: [u8; 32],
    pub created_ms: u64,
    pub expires_ms: Option<u64>,
    pub last4: String,
}

/// How much of an app there is in one shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppCounts {
    /// Accounts whose home is here.
    pub users: u64,
    /// Groups that were made here.
    pub groups: u64,
}

/// A user who is not let in. There is none as long as the user is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deactivated {
    pub since_ms: u64,
}

impl Record for App {}
impl Record for ApiKey {}
impl Record for AppCounts {}
impl Record for Deactivated {}
