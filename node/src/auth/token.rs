//! Tokens that an app signs for its users: JWT (RFC 7519), EdDSA over Ed25519 (RFC 8037), and nothing else of JOSE.
//! The key comes from the cluster's own record of the app, never from the token. Pure: the time comes in.

use chat::ids::{AppId, UserId};
use chat::limits;
use chat::state::record::TokenKey;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde::Deserialize;

use super::Identity;

/// Why a token is refused: for the security log. A client is told `bad_credentials`, or `token_expired`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    #[error("the token is too long")]
    TooLong,
    #[error("the token is not a JWT with sub, aud and exp")]
    Form,
    #[error("the token's algorithm is not EdDSA")]
    Algorithm,
    #[error("the token's header names keys or extensions of its own")]
    Header,
    #[error("the token's audience is not one app id")]
    Audience,
    #[error("the token's subject is not a user id")]
    Subject,
    #[error("no such app")]
    UnknownApp,
    #[error("the app has no key of that id")]
    UnknownKey,
    #[error("the signature is not the app's")]
    Signature,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYetValid,
    #[error("the token is valid for longer than a day")]
    TooFarAhead,
}

/// What we read of a token. Other claims are the app's own business.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    aud: Audience,
    /// Unix seconds.
    exp: u64,
    #[serde(default)]
    nbf: Option<u64>,
    #[serde(default)]
    iat: Option<u64>,
}

/// RFC 7519 allows a list; a token for several apps at once is not ours.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    List(Vec<String>),
}

impl Claims {
    fn identity(&self) -> Result<Identity, TokenFault> {
        let audience = match &self.aud {
            Audience::One(app) => app,
            Audience::List(apps) if apps.len() == 1 => &apps[0],
            Audience::List(_) => return Err(TokenFault::Audience),
        };
        let app = AppId::new(audience.as_str()).map_err(|_| TokenFault::Audience)?;
        let user = UserId::new(self.sub.as_str()).map_err(|_| TokenFault::Subject)?;
        Ok(Identity { app, user })
    }

    fn check_time(&self, now_s: u64) -> Result<(), TokenFault> {
        if self.exp.saturating_add(limits::TOKEN_LEEWAY_S) <= now_s {
            return Err(TokenFault::Expired);
        }
        if self.exp > now_s.saturating_add(limits::TOKEN_LIFETIME_S + limits::TOKEN_LEEWAY_S) {
            return Err(TokenFault::TooFarAhead);
        }
        if self.nbf.is_some_and(|not_before| not_before > now_s.saturating_add(limits::TOKEN_LEEWAY_S)) {
            return Err(TokenFault::NotYetValid);
        }
        Ok(())
    }
}

/// Whom the token speaks of, before any signature is checked: only good for finding the app's key.
pub(super) fn claimed(token: &str) -> Result<Identity, TokenFault> {
    check_header(token)?;
    let claims: Claims = jsonwebtoken::dangerous::insecure_decode_claims(token).map_err(|_| TokenFault::Form)?;
    claims.identity()
}

/// The user that the app with these public keys vouches for. The signature comes first:
/// nothing is said about the content of a token that the app did not sign.
pub(super) fn verify(token: &str, app: &AppId, keys: &[TokenKey], now_s: u64) -> Result<Verified, TokenFault> {
    let claims = signed(token, &check_header(token)?, keys)?;
    let identity = claims.identity()?;
    if identity.app != *app {
        return Err(TokenFault::Audience);
    }
    claims.check_time(now_s)?;
    // One that does not say when it was issued may be as old as any.
    let issued_s = claims.iat.unwrap_or(claims.exp.saturating_sub(limits::TOKEN_LIFETIME_S)).min(now_s);
    Ok(Verified { identity, issued_s, ends_s: claims.exp.saturating_add(limits::TOKEN_LEEWAY_S) })
}

/// What the token claims, if one of the keys signed it: the one that its header names, or any if it names none.
fn signed(token: &str, header: &Header, keys: &[TokenKey]) -> Result<Claims, TokenFault> {
    let named = |key: &&TokenKey| header.kid.as_ref().is_none_or(|kid| kid == key.id.as_str());
    let mut refused = TokenFault::UnknownKey;
    for key in keys.iter().filter(named) {
        let Ok(key) = DecodingKey::from_ed_pem(key.pem.as_bytes()) else { continue };
        match jsonwebtoken::decode::<Claims>(token, &key, &signature_only()) {
            Ok(decoded) => return Ok(decoded.claims),
            Err(error) => refused = fault(error),
        }
    }
    Err(refused)
}

/// What a token says whose signature is the app's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verified {
    pub(super) identity: Identity,
    pub(super) issued_s: u64,
    /// When it is good for nothing any more, Unix seconds.
    pub(super) ends_s: u64,
}

/// The library checks algorithm, form and signature; claims are ours, against the time that comes in.
fn signature_only() -> Validation {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

fn fault(error: jsonwebtoken::errors::Error) -> TokenFault {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidSignature => TokenFault::Signature,
        ErrorKind::InvalidAlgorithm => TokenFault::Algorithm,
        _ => TokenFault::Form,
    }
}

/// EdDSA, and no header that asks a verifier to fetch, trust or understand something else.
fn check_header(token: &str) -> Result<Header, TokenFault> {
    if token.len() > limits::TOKEN_BYTES {
        return Err(TokenFault::TooLong);
    }
    // `none` and unknown algorithms do not even parse; they are told apart for the security log only.
    let header = jsonwebtoken::decode_header(token).map_err(|_| TokenFault::Form)?;
    if header.alg != Algorithm::EdDSA {
        return Err(TokenFault::Algorithm);
    }
    if names_keys_or_extensions(&header) { Err(TokenFault::Header) } else { Ok(header) }
}

fn names_keys_or_extensions(header: &Header) -> bool {
    header.jku.is_some()
        || header.jwk.is_some()
        || header.x5u.is_some()
        || header.x5c.is_some()
        || header.crit.is_some()
        || header.enc.is_some()
        || header.zip.is_some()
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
