//! Password hashes: argon2id, 19 MiB and two passes each (OWASP's first choice of parameters), in PHC string form.
//! One takes tens of milliseconds of a core, so few run at once, on the blocking pool, and few more may wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use chat::limits;
use serde::Serialize;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    #[error("a password has {min} to {max} bytes", min = limits::PASSWORD_BYTES_MIN, max = limits::PASSWORD_BYTES_MAX)]
    Length,
    #[error("too many passwords are being checked")]
    Overloaded,
    #[error("the password could not be hashed")]
    Internal,
}

/// The node's hashing capacity. Clones share it.
#[derive(Clone)]
pub struct Passwords {
    shared: Arc<Shared>,
}

struct Shared {
    capacity: usize,
    /// Held from asking to answer: those running and those waiting.
    admitted: Arc<Semaphore>,
    /// Held while a hash is computed.
    running: Arc<Semaphore>,
    computed: AtomicU64,
    refused: AtomicU64,
}

/// For the node's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PasswordsState {
    /// Hashes computed since the node started.
    pub computed: u64,
    /// Requests refused because too many waited.
    pub refused: u64,
    /// Requests running or waiting now.
    pub admitted: usize,
}

impl Default for Passwords {
    fn default() -> Self {
        Self::new(limits::PASSWORD_HASHES, limits::PASSWORD_QUEUE)
    }
}

impl Passwords {
    /// At most `running` hashes at once and `waiting` more in line.
    pub fn new(running: usize, waiting: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                capacity: running + waiting,
                admitted: Arc::new(Semaphore::new(running + waiting)),
                running: Arc::new(Semaphore::new(running)),
                computed: AtomicU64::new(0),
                refused: AtomicU64::new(0),
            }),
        }
    }

    /// The PHC string to store for a new password.
    pub async fn hash(&self, password: &str) -> Result<String, PasswordError> {
        super::core::password_length(password).map_err(|_| PasswordError::Length)?;
        self.compute(password, hash_now).await?
    }

    /// Whether `password` is the one behind `hash`. Costs the same either way.
    pub async fn verify(&self, password: &str, hash: &str) -> Result<bool, PasswordError> {
        let hash = hash.to_owned();
        self.compute(password, move |password| verify_now(password, &hash)).await
    }

    /// Runs on the blocking pool. The permits move into the work: a caller that gives up does not let
    /// another hash start beside the one that is still being computed for it.
    async fn compute<T, F>(&self, password: &str, work: F) -> Result<T, PasswordError>
    where
        T: Send + 'static,
        F: FnOnce(&[u8]) -> T + Send + 'static,
    {
        let Ok(admitted) = self.shared.admitted.clone().try_acquire_owned() else {
            self.shared.refused.fetch_add(1, Ordering::Relaxed);
            return Err(PasswordError::Overloaded);
        };
        let password = Zeroizing::new(password.as_bytes().to_vec());
        let running = self.shared.running.clone().acquire_owned().await.map_err(|_| PasswordError::Internal)?;
        let shared = self.shared.clone();
        let task = tokio::task::spawn_blocking(move || {
            let answer = work(&password);
            shared.computed.fetch_add(1, Ordering::Relaxed);
            drop((running, admitted));
            answer
        });
        task.await.map_err(|_| PasswordError::Internal)
    }

    pub fn observable_state(&self) -> PasswordsState {
        PasswordsState {
            computed: self.shared.computed.load(Ordering::Relaxed),
            refused: self.shared.refused.load(Ordering::Relaxed),
            admitted: self.shared.capacity - self.shared.admitted.available_permits(),
        }
    }
}

fn argon2id() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the parameters are within argon2's bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hash_now(password: &[u8]) -> Result<String, PasswordError> {
    argon2id().hash_password(password).map(|hash| hash.to_string()).map_err(|_| PasswordError::Internal)
}

/// A hash that does not parse matches nothing; the state machine stores only what [`hash_now`] made.
fn verify_now(password: &[u8], hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| argon2id().verify_password(password, &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::super::core::DUMMY_HASH;
    use super::*;

    #[tokio::test]
    async fn a_hash_is_salted_argon2id_and_matches_its_password_only() {
        let passwords = Passwords::default();
        let first = passwords.hash("correct horse").await.unwrap();
        let second = passwords.hash("correct horse").await.unwrap();
        assert!(first.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{first}");
        assert_ne!(first, second);
        assert_eq!(passwords.verify("correct horse", &first).await, Ok(true));
        assert_eq!(passwords.verify("correct horsf", &first).await, Ok(false));
        assert_eq!(passwords.verify("correct horse", "no PHC string").await, Ok(false));
        assert_eq!(passwords.hash("short").await, Err(PasswordError::Length));
    }

    #[test]
    fn the_dummy_costs_what_a_real_hash_costs() {
        let real = hash_now(b"correct horse").unwrap();
        let cost = |hash: &str| {
            let hash = PasswordHash::new(hash).expect("a PHC string");
            (hash.algorithm.to_string(), hash.version, hash.params.to_string(), hash.hash.map(|h| h.len()))
        };
        assert_eq!(cost(DUMMY_HASH), cost(&real));
    }

    #[tokio::test]
    async fn one_too_many_is_refused_and_capacity_comes_back() {
        let passwords = Passwords::new(1, 1);
        let (release, blocked) = std::sync::mpsc::sync_channel::<()>(0);
        let (started, running) = tokio::sync::oneshot::channel();
        let pool = passwords.clone();
        let first = tokio::spawn(async move {
            pool.compute("long enough", move |_| {
                started.send(()).unwrap();
                blocked.recv().unwrap();
            })
            .await
        });
        running.await.unwrap();
        let pool = passwords.clone();
        let second = tokio::spawn(async move { pool.compute("long enough", |_| ()).await });
        while passwords.observable_state().admitted < 2 {
            tokio::task::yield_now().await;
        }

        assert_eq!(passwords.verify("long enough", DUMMY_HASH).await, Err(PasswordError::Overloaded));
        // A caller that gave up still occupies its place until the work is done.
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        assert_eq!(passwords.observable_state().admitted, 2);

        release.send(()).unwrap();
        second.await.unwrap().unwrap();
        assert_eq!(passwords.verify("long enough", DUMMY_HASH).await, Ok(false));
        assert_eq!(passwords.observable_state(), PasswordsState { computed: 3, refused: 1, admitted: 0 });
    }
}
