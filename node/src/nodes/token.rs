//! What an operator carries from a cluster to a node that is to join it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// What every token begins with: so that it is recognised wherever it turns up.
const PREFIX: &str = "campanile-join-1.";
/// Bytes of a PEM line.
const PEM_LINE: usize = 64;

/// Whom to ask, by what to know them, and what lets the node in. The authority's certificate is in it as a whole: it is
/// hardly longer than its hash in text would be, and nothing needs to be fetched from somebody not yet known.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinToken {
    /// Admin listeners, `host:port`, tried in this order.
    pub admin: Vec<String>,
    /// The authority's certificate, DER in base64.
    ca: String,
    /// Hexadecimal.
    pub secret: Zeroizing<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("this is no join token: one begins with {PREFIX}")]
    Prefix,
    #[error("the join token is cut short or changed: copy all of it")]
    Form,
    #[error("the authority's certificate cannot be read")]
    Ca,
}

impl JoinToken {
    pub fn new(admin: Vec<String>, ca_pem: &[u8], secret: Zeroizing<String>) -> Result<Self, TokenError> {
        let ca = CertificateDer::from_pem_slice(ca_pem).map_err(|_| TokenError::Ca)?;
        Ok(Self { admin, ca: STANDARD.encode(ca), secret })
    }

    pub fn encode(&self) -> Zeroizing<String> {
        let json = Zeroizing::new(serde_json::to_vec(self).expect("plain fields serialize"));
        Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json.as_slice())))
    }

    pub fn decode(text: &str) -> Result<Self, TokenError> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        let json = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TokenError::Form)?);
        let token: Self = serde_json::from_slice(&json).map_err(|_| TokenError::Form)?;
        if token.admin.is_empty() || CertificateDer::from_pem_slice(token.ca_pem().as_bytes()).is_err() {
            return Err(TokenError::Form);
        }
        Ok(token)
    }

    /// What the cluster's listeners must be signed by.
    pub fn ca_pem(&self) -> String {
        let lines: Vec<&str> =
            self.ca.as_bytes().chunks(PEM_LINE).filter_map(|line| str::from_utf8(line).ok()).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::certificates::Authority;

    #[test]
    fn a_token_comes_back_as_it_was_and_says_what_is_wrong_with_another_text() {
        let authority = Authority::new("c").unwrap();
        let secret = Zeroizing::new("ab".repeat(32));
        let token = JoinToken::new(vec!["10.0.0.1:7413".into()], authority.pem.as_bytes(), secret.clone()).unwrap();
        let text = token.encode();
        let back = JoinToken::decode(&format!("  {}\n", *text)).unwrap();
        assert_eq!((back.admin, &back.secret), (token.admin, &secret));
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        assert_eq!(der(&JoinToken::decode(&text).unwrap().ca_pem()), der(&authority.pem));
        assert_eq!(JoinToken::decode("hello").err(), Some(TokenError::Prefix));
        assert_eq!(JoinToken::decode(&text[..text.len() - 5]).err(), Some(TokenError::Form));
        assert_eq!(JoinToken::decode(PREFIX).err(), Some(TokenError::Form));
    }
}
