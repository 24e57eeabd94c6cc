//! Logins from credentials to verdict, over accounts in memory.

use std::collections::BTreeMap;

use accounts::Answer;
use chat::app::AppSettings;
use chat::ids::KeyId;
use chat::limits;
use chat::state::record::{App, TokenKey};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parking_lot::Mutex;
use serde_json::json;

use super::*;

#[derive(Default)]
struct Memory {
    accounts: Mutex<BTreeMap<UserId, Account>>,
    key_pem: Option<String>,
    error: Option<AccountsError>,
}

impl Memory {
    fn answer<T: Send + 'static>(&self, value: T) -> Answer<'static, T> {
        let answer = self.error.map_or(Ok(value), Err);
        Box::pin(std::future::ready(answer))
    }
}

impl Accounts for Memory {
    fn account<'a>(&'a self, _app: &'a AppId, user: &'a UserId, _device: &'a DeviceId) -> Answer<'a, Option<Account>> {
        self.answer(self.accounts.lock().get(user).cloned())
    }

    fn provision<'a>(&'a self, _app: &'a AppId, user: &'a UserId) -> Answer<'a, ()> {
        self.accounts.lock().insert(user.clone(), Account { password: None, revoked_ms: 0, active: true });
        self.answer(())
    }

    fn app<'a>(&'a self, app: &'a AppId) -> Answer<'a, Option<App>> {
        let key = |pem| TokenKey { id: KeyId::new("config").unwrap(), pem, added_ms: 1 };
        let token_keys = self.key_pem.clone().map(key).into_iter().collect();
        let settings = AppSettings::default();
        let record = App { name: "Main".to_owned(), created_ms: 1, token_keys, settings, frozen: false };
        self.answer(Some(record).filter(|_| app.as_str() == "main"))
    }
}

fn device() -> DeviceId {
    DeviceId::new("tab-1").unwrap()
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn password(user_name: &str, password: &str) -> Credentials {
    Credentials::Password { app: AppId::new("main").unwrap(), user: user(user_name), password: password.to_owned() }
}

fn desk(memory: Memory) -> (Authenticator, Arc<Memory>) {
    let memory = Arc::new(memory);
    (Authenticator::new(memory.clone(), Passwords::default()), memory)
}

async fn desk_with_alice() -> (Authenticator, Arc<Memory>) {
    let (desk, memory) = desk(Memory::default());
    let hash = desk.hash_password("correct horse").await.unwrap();
    memory.accounts.lock().insert(user("alice"), Account { password: Some(hash), revoked_ms: 0, active: true });
    memory.accounts.lock().insert(user("vouched"), Account { password: None, revoked_ms: 0, active: true });
    (desk, memory)
}

#[tokio::test]
async fn a_password_logs_in_and_every_failure_looks_alike() {
    let (desk, _) = desk_with_alice().await;
    let identity = desk.login(&password("alice", "correct horse"), &device()).await.unwrap().identity;
    assert_eq!(identity.user, user("alice"));

    let before = desk.observable_state().computed;
    let attempts = [
        ("alice", "wrong horse", Refusal::WrongPassword),
        ("nobody", "correct horse", Refusal::UnknownUser),
        ("vouched", "correct horse", Refusal::NoPassword),
    ];
    for (done, (name, guess, why)) in attempts.into_iter().enumerate() {
        let error = desk.login(&password(name, guess), &device()).await.unwrap_err();
        assert_eq!((error, error.code()), (AuthError::Refused(why), ErrorCode::BadCredentials));
        // The same work for each: one hash.
        assert_eq!(desk.observable_state().computed, before + done as u64 + 1, "{name}");
    }
    let long = "x".repeat(limits::PASSWORD_BYTES_MAX + 1);
    let error = desk.login(&password("alice", &long), &device()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::BadCredentials);
}

#[tokio::test]
async fn a_token_makes_the_account_and_others_do_not() {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let signing = EncodingKey::from_ed_pem(pair.serialize_pem().as_bytes()).unwrap();
    let token = |app: &str, expires_s: u64| {
        let claims = json!({ "sub": "bob", "aud": app, "exp": expires_s });
        Credentials::Token(jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &signing).unwrap())
    };
    let (desk, memory) = desk(Memory { key_pem: Some(pair.public_key_pem()), ..Memory::default() });

    let error = desk.login(&token("main", now_s() - 3_600), &device()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::TokenExpired);
    let error = desk.login(&token("other", now_s() + 60), &device()).await.unwrap_err();
    assert_eq!(error, AuthError::Refused(Refusal::Token(TokenFault::UnknownApp)));
    assert!(memory.accounts.lock().is_empty());

    for _ in 0..2 {
        let login = desk.login(&token("main", now_s() + 60), &device()).await.unwrap();
        assert_eq!(login.identity.user, user("bob"));
        assert!(memory.accounts.lock().contains_key(&user("bob")));
    }
    let bob = Identity { app: AppId::new("main").unwrap(), user: user("bob") };
    let newer = match token("main", now_s() + 600) {
        Credentials::Token(token) => token,
        Credentials::Password { .. } => String::new(),
    };
    let times = desk.refresh(&newer, &bob, &device()).await.unwrap();
    assert!(times.ends_ms > (now_s() + 600) * 1_000);
    let other = Identity { user: user("eve"), ..bob.clone() };
    assert_eq!(desk.refresh(&newer, &other, &device()).await.unwrap_err().code(), ErrorCode::BadCredentials);
    // It says no time of issue, and so may be as old as any.
    memory.accounts.lock().insert(user("bob"), Account { password: None, revoked_ms: now_s() * 1_000, active: true });
    assert_eq!(desk.refresh(&newer, &bob, &device()).await, Err(AuthError::Revoked));
    assert_eq!(desk.login(&token("main", now_s() + 600), &device()).await.unwrap_err().code(), ErrorCode::LoginRevoked);
    let named = Authenticator::claimed(&token("other", 0)).unwrap();
    assert_eq!((named.app.as_str(), named.user.as_str()), ("other", "bob"));
}

#[tokio::test]
async fn a_full_queue_and_a_silent_shard_are_said() {
    let (desk, _) = desk(Memory { error: Some(AccountsError::Unavailable), ..Memory::default() });
    let error = desk.login(&password("alice", "correct horse"), &device()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);

    let desk = Authenticator::new(Arc::new(Memory::default()), Passwords::new(0, 0));
    let error = desk.login(&password("alice", "correct horse"), &device()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Overloaded);
}

#[test]
fn secrets_are_not_shown() {
    let account = Account { password: Some("$argon2id$secret".to_owned()), revoked_ms: 0, active: true };
    let shown =
        format!("{account:?} {:?} {:?}", password("alice", "correct horse"), Credentials::Token("t.o.k".into()));
    assert!(!shown.contains("secret") && !shown.contains("horse") && !shown.contains("t.o.k"), "{shown}");
}
