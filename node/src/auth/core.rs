//! Who may log in: decisions only. What they rest on is looked up and computed by the shell in [`super`].

use chat::app::{Registration, is_system};
use chat::limits;
use chat::state::record::App;
use chat::wire::Credentials;

use super::token::{TokenFault, Verified};
use super::{Account, AuthError, Identity, Login, Refusal};

/// argon2id with our parameters over a password nobody knows. Verified against where there is no hash to verify,
/// so that a guess costs the same time whether or not the user exists.
pub(super) const DUMMY_HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$BuZ5ox52dLjK4Ai8SRsFpA$38t4jrspHdgMZJFulvVcV+EhDbsKqe/8GG2eVZS6i4E";

/// The hash that a password is verified against, and what a match is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PasswordCheck<'a> {
    /// The account's own hash.
    Account(&'a str),
    /// No hash to match: the dummy is verified, and the answer is the refusal whatever comes out.
    Dummy(Refusal),
}

impl<'a> PasswordCheck<'a> {
    pub(super) fn hash(self) -> &'a str {
        match self {
            Self::Account(hash) => hash,
            Self::Dummy(_) => DUMMY_HASH,
        }
    }
}

/// A password outside these bounds belongs to no account. Says nothing about whether the user exists.
pub(super) fn password_length(password: &str) -> Result<(), Refusal> {
    let allowed = limits::PASSWORD_BYTES_MIN..=limits::PASSWORD_BYTES_MAX;
    if allowed.contains(&password.len()) { Ok(()) } else { Err(Refusal::PasswordLength) }
}

pub(super) fn password_check(account: Option<&Account>) -> PasswordCheck<'_> {
    match account {
        Some(Account { password: Some(hash), .. }) => PasswordCheck::Account(hash),
        Some(Account { password: None, .. }) => PasswordCheck::Dummy(Refusal::NoPassword),
        None => PasswordCheck::Dummy(Refusal::UnknownUser),
    }
}

/// What is known once everything is computed.
#[derive(Debug)]
pub(super) enum Facts<'a> {
    Password {
        identity: Identity,
        check: PasswordCheck<'a>,
        matched: bool,
        bar: Bar,
    },
    Token {
        verified: Verified,
        account: Option<Account>,
        app: App,
    },
    /// No token of an app of ours, or one that is over.
    Forged(TokenFault),
}

/// What keeps somebody out whose credentials are right. Said to nobody else.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bar {
    pub(super) frozen: bool,
    pub(super) deactivated: bool,
}

impl Bar {
    fn verdict(self, otherwise: Verdict) -> Verdict {
        match self {
            Self { frozen: true, .. } => Verdict::Refuse(AuthError::Frozen),
            Self { deactivated: true, .. } => Verdict::Refuse(AuthError::Deactivated),
            Self { .. } => otherwise,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept(Login),
    /// The app vouches for a user we have not seen: make the account, then accept.
    Provision(Login),
    Refuse(AuthError),
}

pub(super) fn decide(facts: Facts<'_>) -> Verdict {
    match facts {
        Facts::Password { identity, check: PasswordCheck::Account(_), matched: true, bar } => {
            bar.verdict(Verdict::Accept(Login { identity, token: None }))
        }
        Facts::Password { check: PasswordCheck::Account(_), matched: false, .. } => refuse(Refusal::WrongPassword),
        Facts::Password { check: PasswordCheck::Dummy(why), .. } => refuse(why),
        Facts::Token { verified, account, app } => of_token(verified.into(), account, &app),
        Facts::Forged(TokenFault::Expired) => Verdict::Refuse(AuthError::TokenExpired),
        Facts::Forged(fault) => refuse(Refusal::Token(fault)),
    }
}

fn of_token(login: Login, account: Option<Account>, app: &App) -> Verdict {
    let deactivated = account.as_ref().is_some_and(|account| !account.active);
    let bar = Bar { frozen: app.frozen, deactivated };
    bar.verdict(match account {
        // The app itself is nobody who logs in.
        _ if is_system(&login.identity.user) => refuse(Refusal::UnknownUser),
        Some(account) if login.is_revoked_by(&account) => Verdict::Refuse(AuthError::Revoked),
        Some(_) => Verdict::Accept(login),
        None if app.settings.registration == Registration::AppOnly => refuse(Refusal::UnknownUser),
        None => Verdict::Provision(login),
    })
}

fn refuse(why: Refusal) -> Verdict {
    Verdict::Refuse(AuthError::Refused(why))
}

/// Whom the credentials name, for the record of a failed attempt. Proves nothing.
pub(super) fn claimed(credentials: &Credentials) -> Option<Identity> {
    match credentials {
        Credentials::Password { app, user, .. } => Some(Identity { app: app.clone(), user: user.clone() }),
        Credentials::Token(token) => super::token::claimed(token).ok(),
    }
}

#[cfg(test)]
mod tests {
    use chat::app::AppSettings;
    use chat::ids::{AppId, UserId};

    use super::*;
    use crate::auth::TokenTimes;

    fn alice() -> Identity {
        Identity { app: AppId::new("main").unwrap(), user: UserId::new("alice").unwrap() }
    }

    #[test]
    fn only_a_match_with_the_accounts_own_hash_counts() {
        let account = Account { password: Some("$argon2id$stored".to_owned()), revoked_ms: 9, active: true };
        let own = password_check(Some(&account));
        assert_eq!(own.hash(), "$argon2id$stored");
        let decide_password =
            |check, matched| decide(Facts::Password { identity: alice(), check, matched, bar: Bar::default() });
        assert_eq!(decide_password(own, true), Verdict::Accept(Login { identity: alice(), token: None }));
        assert_eq!(decide_password(own, false), refuse(Refusal::WrongPassword));

        let vouched = Account { password: None, revoked_ms: 0, active: true };
        for (account, why) in [(None, Refusal::UnknownUser), (Some(&vouched), Refusal::NoPassword)] {
            let check = password_check(account);
            assert_eq!(check.hash(), DUMMY_HASH);
            // Whoever finds the dummy's password still gets nowhere.
            assert_eq!(decide_password(check, true), refuse(why));
        }
    }

    #[test]
    fn a_token_provisions_once_and_expiry_is_said() {
        let token =
            |verified, account| decide(Facts::Token { verified, account, app: app(false, Registration::FirstLogin) });
        let account = |revoked_ms| Some(Account { password: None, revoked_ms, active: true });
        let verified = || Verified { identity: alice(), issued_s: 100, ends_s: 200 };
        let login = Login { identity: alice(), token: Some(TokenTimes { issued_ms: 100_000, ends_ms: 200_000 }) };
        assert_eq!(token(verified(), None), Verdict::Provision(login.clone()));
        assert_eq!(token(verified(), account(0)), Verdict::Accept(login.clone()));
        assert_eq!(token(verified(), account(99_999)), Verdict::Accept(login));
        assert_eq!(token(verified(), account(100_000)), Verdict::Refuse(AuthError::Revoked));
        assert_eq!(decide(Facts::Forged(TokenFault::Expired)), Verdict::Refuse(AuthError::TokenExpired));
        assert_eq!(decide(Facts::Forged(TokenFault::Signature)), refuse(Refusal::Token(TokenFault::Signature)));
    }

    fn app(frozen: bool, registration: Registration) -> App {
        let settings = AppSettings { registration, ..AppSettings::default() };
        App { name: "Main".to_owned(), created_ms: 1, token_keys: Vec::new(), settings, frozen }
    }

    #[test]
    fn who_is_kept_out_hears_why_only_with_the_right_credentials() {
        let verified = |user: &str| {
            let identity = Identity { user: UserId::new(user).unwrap(), ..alice() };
            Verified { identity, issued_s: 100, ends_s: 200 }
        };
        let account = |active| Some(Account { password: None, revoked_ms: 0, active });
        let token = |user, account, app| decide(Facts::Token { verified: verified(user), account, app });
        let open = || app(false, Registration::FirstLogin);
        assert_eq!(token("alice", account(false), open()), Verdict::Refuse(AuthError::Deactivated));
        let frozen = app(true, Registration::FirstLogin);
        assert_eq!(token("alice", account(true), frozen), Verdict::Refuse(AuthError::Frozen));
        assert_eq!(token("system", account(true), open()), refuse(Refusal::UnknownUser));
        let closed = || app(false, Registration::AppOnly);
        assert_eq!(token("alice", None, closed()), refuse(Refusal::UnknownUser));
        assert!(matches!(token("alice", account(true), closed()), Verdict::Accept(_)));

        let bar = Bar { frozen: false, deactivated: true };
        let password = |matched| {
            decide(Facts::Password { identity: alice(), check: PasswordCheck::Account("hash"), matched, bar })
        };
        assert_eq!(password(true), Verdict::Refuse(AuthError::Deactivated));
        assert_eq!(password(false), refuse(Refusal::WrongPassword));
    }

    #[test]
    fn passwords_are_bounded_in_bytes() {
        assert!(password_length(&"x".repeat(limits::PASSWORD_BYTES_MIN)).is_ok());
        assert!(password_length(&"x".repeat(limits::PASSWORD_BYTES_MAX)).is_ok());
        assert_eq!(password_length(&"x".repeat(limits::PASSWORD_BYTES_MIN - 1)), Err(Refusal::PasswordLength));
        assert_eq!(password_length(&"é".repeat(limits::PASSWORD_BYTES_MAX / 2 + 1)), Err(Refusal::PasswordLength));
    }
}
