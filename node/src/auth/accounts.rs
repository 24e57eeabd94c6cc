//! What logins need of the replicated state, behind a trait so that the login can be tested without a cluster.

use std::future::Future;
use std::pin::Pin;

use chat::command::{Command, Outcome, UserCommand};
use chat::errors::ErrorCode;
use chat::ids::{AppId, DeviceId, ShardId, UserId};
use chat::state::record::App;
use chat::state::{apps, query};
use cluster::{Cluster, ProposeError, ShardView};

use crate::apps::room;

/// What a login needs to know of an account. `Debug` shows no hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// PHC string, or none for users the app's tokens vouch for.
    pub password: Option<String>,
    /// Tokens issued before are good for no login, of this device at least. Unix milliseconds.
    pub revoked_ms: u64,
    /// The app lets the user in.
    pub active: bool,
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
    #[error("the app has as many users as it may have")]
    Full,
}

pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, AccountsError>> + Send + 'a>>;

/// Accounts and apps of the cluster, read linearizably.
pub trait Accounts: Send + Sync + 'static {
    fn account<'a>(&'a self, app: &'a AppId, user: &'a UserId, device: &'a DeviceId) -> Answer<'a, Option<Account>>;

    /// Makes an account without a password; one that exists already stays as it is.
    fn provision<'a>(&'a self, app: &'a AppId, user: &'a UserId) -> Answer<'a, ()>;

    /// The app, with the keys that verify its tokens.
    fn app<'a>(&'a self, app: &'a AppId) -> Answer<'a, Option<App>>;
}

impl Accounts for Cluster {
    fn account<'a>(&'a self, app: &'a AppId, user: &'a UserId, device: &'a DeviceId) -> Answer<'a, Option<Account>> {
        Box::pin(async move {
            let view = fresh_view(self, self.home_shard(app, user)).await?;
            account_in(&view, app, user, device).map_err(unreadable)
        })
    }

    fn provision<'a>(&'a self, app: &'a AppId, user: &'a UserId) -> Answer<'a, ()> {
        Box::pin(async move {
            room::for_user(self, app).map_err(no_room)?;
            let command = UserCommand::CreateAccount { password: None };
            let command = Command::User { app: app.clone(), user: user.clone(), command };
            let proposed = self.submit(self.home_shard(app, user), command).await.map_err(unanswered)?;
            match proposed.outcome {
                // Somebody was faster, and gave it a password: it is there, which is all that is asked.
                Outcome::Applied { .. } | Outcome::Rejected(ErrorCode::AccountExists) => Ok(()),
                Outcome::Rejected(code) => {
                    tracing::error!(event = "provision_rejected", code = code.name(), "an account was not made");
                    Err(AccountsError::Internal)
                }
            }
        })
    }

    fn app<'a>(&'a self, app: &'a AppId) -> Answer<'a, Option<App>> {
        Box::pin(async move {
            let view = fresh_view(self, ShardId::META).await?;
            query::app(&view, app).map_err(unreadable)
        })
    }
}

/// The account as `view` has it.
pub(crate) fn account_in(
    view: &ShardView,
    app: &AppId,
    user: &UserId,
    device: &DeviceId,
) -> Result<Option<Account>, storage::StorageError> {
    let Some(account) = query::account(view, app, user)? else { return Ok(None) };
    let device_ms = query::device(view, app, user, device)?.map_or(0, |device| device.revoked_ms);
    let active = !apps::is_deactivated(view, app, user)?;
    Ok(Some(Account { password: account.password, revoked_ms: account.revoked_ms.max(device_ms), active }))
}

/// The local replica, once it has everything that was committed before the question: a password or key that was
/// changed a moment ago on another node does not count any more.
async fn fresh_view(cluster: &Cluster, shard: ShardId) -> Result<ShardView, AccountsError> {
    cluster.read_barrier(shard).await.map_err(unanswered)?;
    cluster.view(shard).ok_or(AccountsError::Internal)
}

fn no_room(error: room::NoRoom) -> AccountsError {
    match error {
        room::NoRoom::Full => AccountsError::Full,
        room::NoRoom::Unreadable(error) => unreadable(error),
    }
}

fn unanswered(error: ProposeError) -> AccountsError {
    match error {
        ProposeError::Overloaded => AccountsError::Overloaded,
        ProposeError::Storage | ProposeError::NotSwitchedOn { .. } => AccountsError::Internal,
        // Not known to be done is as good as not done: making the same account again changes nothing.
        ProposeError::NotLeader { .. } | ProposeError::Unavailable | ProposeError::Unknown => {
            AccountsError::Unavailable
        }
    }
}

fn unreadable(error: storage::StorageError) -> AccountsError {
    tracing::error!(event = "account_unreadable", %error, "an account could not be read");
    if error.is_repairable() { AccountsError::Unavailable } else { AccountsError::Internal }
}
