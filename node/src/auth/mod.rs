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
use chat::ids::{AppId, UserId};
use chat::wire::Credentials;

pub use accounts::{Account, Accounts, AccountsError};
use core::{Facts, PasswordCheck, Verdict};
pub use password::{PasswordError, Passwords};
pub use token::TokenFault;

/// A user of an app.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    pub app: AppId,
    pub user: UserId,
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
    #[error("too many logins at once")]
    Overloaded,
    #[error("accounts cannot be read now")]
    Unavailable,
    #[error("the login could not be checked")]
    Internal,
}

impl AuthError {
    /// What the client is told.
    pub fn code(self) -> ErrorCode {
        match self {
            Self::Refused(_) => ErrorCode::BadCredentials,
            Self::TokenExpired => ErrorCode::TokenExpired,
            Self::Overloaded => ErrorCode::Overloaded,
            Self::Unavailable => ErrorCode::Unavailable,
            Self::Internal => ErrorCode::Internal,
        }
    }
}

impl From<AccountsError> for AuthError {
    fn from(error: AccountsError) -> Self {
        match error {
            AccountsError::Overloaded => Self::Overloaded,
            AccountsError::Unavailable => Self::Unavailable,
            AccountsError::Internal => Self::Internal,
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
    pub async fn login(&self, credentials: &Credentials) -> Result<Identity, AuthError> {
        let verdict = match credentials {
            Credentials::Password { app, user, password } => {
                let identity = Identity { app: app.clone(), user: user.clone() };
                self.judge_password(identity, password).await?
            }
            Credentials::Token(token) => self.judge_token(token).await?,
        };
        match verdict {
            Verdict::Accept(identity) => Ok(identity),
            Verdict::Provision(identity) => {
                self.accounts.provision(&identity.app, &identity.user).await?;
                Ok(identity)
            }
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

    async fn judge_password(&self, identity: Identity, password: &str) -> Result<Verdict, AuthError> {
        core::password_length(password).map_err(AuthError::Refused)?;
        let account = self.accounts.account(&identity.app, &identity.user).await?;
        let check: PasswordCheck<'_> = core::password_check(account.as_ref());
        let matched = self.passwords.verify(password, check.hash()).await?;
        Ok(core::decide(Facts::Password { identity, check, matched }))
    }

    async fn judge_token(&self, token: &str) -> Result<Verdict, AuthError> {
        let verified = self.verify_token(token).await?;
        let account_exists = match &verified {
            Ok(identity) => self.accounts.account(&identity.app, &identity.user).await?.is_some(),
            Err(_) => false,
        };
        Ok(core::decide(Facts::Token { verified, account_exists }))
    }

    async fn verify_token(&self, token: &str) -> Result<Result<Identity, TokenFault>, AuthError> {
        let app = match token::claimed(token) {
            Ok(claimed) => claimed.app,
            Err(fault) => return Ok(Err(fault)),
        };
        Ok(match self.accounts.app_key(&app).await? {
            Some(key_pem) => token::verify(token, &app, &key_pem, now_s()),
            None => Err(TokenFault::UnknownApp),
        })
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
#[path = "login_tests.rs"]
mod tests;
