//! The keys of an app's backend: `cak_ID_SECRET`. The id finds the record; the secret is 256 random bits, of which the record has
//! the SHA-256.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chat::ids::KeyId;
use storage::hex;
use zeroize::Zeroizing;

/// So that people and scanners of source code know what it is.
const PREFIX: &str = "cak_";
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;

/// A key as its holder has it.
pub(crate) struct ApiSecret {
    pub(crate) id: KeyId,
    secret: Zeroizing<String>,
}

impl ApiSecret {
    pub(crate) fn make() -> Result<Self, getrandom::Error> {
        let (mut id, mut secret) = ([0; ID_BYTES], Zeroizing::new([0; SECRET_BYTES]));
        getrandom::fill(&mut id)?;
        getrandom::fill(&mut *secret)?;
        let id = KeyId::new(hex(&id)).expect("hexadecimal digits are allowed in a key id");
        Ok(Self { id, secret: Zeroizing::new(URL_SAFE_NO_PAD.encode(*secret)) })
    }

    /// What somebody came with; none if it has not the form of a key.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let wanted = (SECRET_BYTES * 4).div_ceil(3);
        let fits = id.len() == 2 * ID_BYTES && secret.len() == wanted;
        let id = KeyId::new(id).ok().filter(|_| fits)?;
        Some(Self { id, secret: Zeroizing::new(secret.to_owned()) })
    }

    /// For its holder: shown once.
    pub(crate) fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}{}_{}", self.id, *self.secret))
    }

    pub(crate) fn hash(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, self.secret.as_bytes()).as_ref());
        hash
    }

    pub(crate) fn is_of(&self, hash: &[u8; 32]) -> bool {
        verify_slices_are_equal(&self.hash(), hash).is_ok()
    }

    pub(crate) fn last4(&self) -> String {
        self.secret.chars().skip(self.secret.len() - 4).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_recognized_by_its_hash_and_nothing_else_is() {
        let (made, other) = (ApiSecret::make().unwrap(), ApiSecret::make().unwrap());
        let text = made.reveal();
        assert!(text.starts_with("cak_") && text.ends_with(&made.last4()), "{}", *text);
        let parsed = ApiSecret::parse(&text).unwrap();
        assert!(parsed.id == made.id && parsed.is_of(&made.hash()));
        assert!(!other.is_of(&made.hash()));
        // The same bytes, cut and stretched.
        for wrong in ["", "cak_", "cak_0011223344556677_x", &text[4..], &text[..text.len() - 1], &format!("{}x", *text)]
        {
            assert!(ApiSecret::parse(wrong).is_none(), "{wrong}");
        }
    }
}
