//! The app's side of a login: signing tokens. What an app's backend does in its own language; here for the CLI,
//! the demo, the load harness and tests.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chat::ids::{AppId, UserId};
use chat::wire::Credentials;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

/// How long a signed token is good for, unless another time is asked for.
const LIFETIME: Duration = Duration::from_secs(12 * 3_600);

#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error("not an Ed25519 private key in PKCS#8 PEM")]
    Key(#[source] jsonwebtoken::errors::Error),
    #[error("the token could not be signed")]
    Sign(#[source] jsonwebtoken::errors::Error),
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
}

/// Holds an app's signing key.
#[derive(Clone)]
pub struct TokenSigner {
    app: AppId,
    key: EncodingKey,
    lifetime: Duration,
}

impl TokenSigner {
    /// `pem` is what `campanile cluster init` writes to `apps/main.key`.
    pub fn new(app: AppId, pem: &str) -> Result<Self, SignError> {
        Ok(Self { app, key: EncodingKey::from_ed_pem(pem.as_bytes()).map_err(SignError::Key)?, lifetime: LIFETIME })
    }

    /// Its tokens are good for `lifetime`; the service takes at most a day.
    pub fn lasting(self, lifetime: Duration) -> Self {
        Self { lifetime, ..self }
    }

    /// Credentials with which `user` can log in from now on, for twelve hours or as [`Self::lasting`] says.
    pub fn credentials(&self, user: &UserId) -> Result<Credentials, SignError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (iat, exp) = (now.as_secs(), (now + self.lifetime).as_secs());
        let claims = Claims { sub: user.as_str(), aud: self.app.as_str(), iat, exp };
        let token =
            jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &self.key).map_err(SignError::Sign)?;
        Ok(Credentials::Token(token))
    }
}
