//! Who is logging in. The shell: looks up accounts and keys, computes hashes, asks the core, and acts on its verdict.
//!
//! - `core`: the decision, pure.
//! - [`token`]: tokens signed by apps. [`password`]: argon2id on the blocking pool.
//! - [`accounts`]: what is needed of the cluster, behind a trait.
//!
//! **Invariant:** a client learns `bad_credentials` whether the user, the password or the token is wrong, in the same
//! time whether or not the user exists. The reason is for the security log alone.

pub mod accounts;
mod core;
pub mod password;
pub mod signer;
pub mod token;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use chat::errors::ErrorCode;
use chat::ids::{AppId, DeviceId, UserId};
use chat::wire::Credentials;

pub(crate) use accounts::account_in;
pub use accounts::{Account, Accounts, AccountsError};
use core::{Bar, Facts, PasswordCheck, Verdict};
pub use password::{PasswordError, Passwords};
pub use token::TokenFault;
use token::Verified;

/// A user of an app.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    pub app: AppId,
    pub user: UserId,
}

/// A login that is in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub identity: Identity,
    /// None for a password.
    pub token: Option<TokenTimes>,
}

/// Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenTimes {
    pub issued_ms: u64,
    /// When it is good for nothing any more.
    pub ends_ms: u64,
}

/// What exactly was wrong with the credentials: for the security log, never for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no such user")]
    UnknownUser,
    #[error("the account has no password")]
    NoPassword,
    #[error("wrong password")]
    WrongPassword,
    #[error("a password of a length that none has")]
    PasswordLength,
    #[error(transparent)]
    Token(TokenFault),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("the credentials are wrong: {0}")]
    Refused(Refusal),
    #[error("the token has expired")]
    TokenExpired,
    #[error("the token is older than the revocation of the user's logins")]
    Revoked,
    #[error("too many logins at once")]
    Overloaded,
    #[error("accounts cannot be read now")]
    Unavailable,
    #[error("the login could not be checked")]
    Internal,
    #[error("the app is frozen")]
    Frozen,
    #[error("the user is deactivated")]
    Deactivated,
    #[error("the app has as many users as it may have")]
    Full,
}

impl AuthError {
    /// What the client is told.
    pub fn code(self) -> ErrorCode {
        match self {
            Self::Refused(_) => ErrorCode::BadCredentials,
            Self::TokenExpired => ErrorCode::TokenExpired,
            Self::Revoked => ErrorCode::LoginRevoked,
            Self::Overloaded => ErrorCode::Overloaded,
            Self::Unavailable => ErrorCode::Unavailable,
            Self::Internal => ErrorCode::Internal,
            Self::Frozen => ErrorCode::AppFrozen,
            Self::Deactivated => ErrorCode::UserDeactivated,
            Self::Full => ErrorCode::LimitReached,
        }
    }
}

impl From<AccountsError> for AuthError {
    fn from(error: AccountsError) -> Self {
        match error {
            AccountsError::Overloaded => Self::Overloaded,
            AccountsError::Unavailable => Self::Unavailable,
            AccountsError::Internal => Self::Internal,
            AccountsError::Full => Self::Full,
        }
    }
}

impl From<PasswordError> for AuthError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Overloaded => Self::Overloaded,
            PasswordError::Length => Self::Refused(Refusal::PasswordLength),
            PasswordError::Internal => Self::Internal,
        }
    }
}

/// The node's login desk. Clones share accounts and hashing capacity.
#[derive(Clone)]
pub struct Authenticator {
    accounts: Arc<dyn Accounts>,
    passwords: Passwords,
}

impl Authenticator {
    pub fn new(accounts: Arc<dyn Accounts>, passwords: Passwords) -> Self {
        Self { accounts, passwords }
    }

    /// The user these credentials belong to. A token for a user without an account makes the account.
    pub async fn login(&self, credentials: &Credentials, device: &DeviceId) -> Result<Login, AuthError> {
        let verdict = match credentials {
            Credentials::Password { app, user, password } => {
                let identity = Identity { app: app.clone(), user: user.clone() };
                self.judge_password(identity, password, device).await?
            }
            Credentials::Token(token) => self.judge_token(token, device).await?,
        };
        match verdict {
            Verdict::Accept(login) => Ok(login),
            Verdict::Provision(login) => {
                self.accounts.provision(&login.identity.app, &login.identity.user).await?;
                Ok(login)
            }
            Verdict::Refuse(error) => Err(error),
        }
    }

    /// A newer token of somebody who is logged in.
    pub async fn refresh(&self, token: &str, who: &Identity, device: &DeviceId) -> Result<TokenTimes, AuthError> {
        match self.judge_token(token, device).await? {
            Verdict::Accept(Login { identity, token: Some(times) }) if identity == *who => Ok(times),
            Verdict::Accept(_) | Verdict::Provision(_) => Err(AuthError::Refused(Refusal::Token(TokenFault::Subject))),
            Verdict::Refuse(error) => Err(error),
        }
    }

    /// Whom the credentials name, for the record of a failed attempt. Proves nothing.
    pub fn claimed(credentials: &Credentials) -> Option<Identity> {
        core::claimed(credentials)
    }

    /// The hash to store for a new password, within the length rules.
    pub async fn hash_password(&self, password: &str) -> Result<String, PasswordError> {
        self.passwords.hash(password).await
    }

    pub fn observable_state(&self) -> password::PasswordsState {
        self.passwords.observable_state()
    }

    async fn judge_password(
        &self,
        identity: Identity,
        password: &str,
        device: &DeviceId,
    ) -> Result<Verdict, AuthError> {
        core::password_length(password).map_err(AuthError::Refused)?;
        let app = self.accounts.app(&identity.app).await?;
        let account = self.accounts.account(&identity.app, &identity.user, device).await?.filter(|_| app.is_some());
        let check: PasswordCheck<'_> = core::password_check(account.as_ref());
        let matched = self.passwords.verify(password, check.hash()).await?;
        let bar = Bar {
            frozen: app.is_some_and(|app| app.frozen),
            deactivated: account.as_ref().is_some_and(|account| !account.active),
        };
        Ok(core::decide(Facts::Password { identity, check, matched, bar }))
    }

    async fn judge_token(&self, token: &str, device: &DeviceId) -> Result<Verdict, AuthError> {
        let refused = |fault| Ok(core::decide(Facts::Forged(fault)));
        let claimed = match token::claimed(token) {
            Ok(claimed) => claimed.app,
            Err(fault) => return refused(fault),
        };
        let Some(app) = self.accounts.app(&claimed).await? else { return refused(TokenFault::UnknownApp) };
        let verified = match token::verify(token, &claimed, &app.token_keys, now_s()) {
            Ok(verified) => verified,
            Err(fault) => return refused(fault),
        };
        let Identity { app: id, user } = &verified.identity;
        let account = self.accounts.account(id, user, device).await?;
        Ok(core::decide(Facts::Token { verified, account, app }))
    }
}

impl Login {
    /// Whether `account` says that a token like this one's is good for nothing any more.
    pub(crate) fn is_revoked_by(&self, account: &Account) -> bool {
        self.token.is_some_and(|token| account.revoked_ms > 0 && token.issued_ms <= account.revoked_ms)
    }
}

impl From<Verified> for Login {
    fn from(verified: Verified) -> Self {
        let Verified { identity, issued_s, ends_s } = verified;
        let ms = |seconds: u64| seconds.saturating_mul(1_000);
        Self { identity, token: Some(TokenTimes { issued_ms: ms(issued_s), ends_ms: ms(ends_s) }) }
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
#[path = "login_tests.rs"]
mod tests;
