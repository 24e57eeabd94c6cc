//! What logins need of the replicated state, behind a trait so that the login can be tested without a cluster.

use std::future::Future;
use std::pin::Pin;

use chat::ids::{AppId, UserId};

/// What a login needs to know of an account. `Debug` shows no hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// PHC string, or none for users the app's tokens vouch for.
    pub password: Option<String>,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Account(password: {})", self.password.is_some())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccountsError {
    #[error("too many requests wait for the shard")]
    Overloaded,
    /// No leader, or no answer in time. A login may be repeated whatever became of it.
    #[error("the shard does not answer")]
    Unavailable,
    #[error("the account cannot be read")]
    Internal,
}

pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, AccountsError>> + Send + 'a>>;

/// Accounts and apps of the cluster, read linearizably.
pub trait Accounts: Send + Sync + 'static {
    fn account<'a>(&'a self, app: &'a AppId, user: &'a UserId) -> Answer<'a, Option<Account>>;

    /// Makes an account without a password; one that exists already stays as it is.
    fn provision<'a>(&'a self, app: &'a AppId, user: &'a UserId) -> Answer<'a, ()>;

    /// The app's Ed25519 public key, PEM.
    fn app_key<'a>(&'a self, app: &'a AppId) -> Answer<'a, Option<String>>;
}
