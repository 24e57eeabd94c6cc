//! Sealing of everything that reaches a disk: XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03). A nonce is 16 random
//! bytes that a sealer draws when it is made, and a count: never the same twice, and no system call for each value.
//!
//! A sealed value is `[format u8][key id u32][nonce 24][ciphertext][tag 16]`. The associated data binds format, key id
//! and the place the value belongs to, so that a value moved to another key does not open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chacha20poly1305::aead::{Aead, AeadInOut, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use crate::error::SealError;
use crate::key::Space;
use crate::limits::SEAL_BYTES;

/// The current layout of a sealed value.
pub(crate) const SEAL_FORMAT: u8 = 1;
/// The one key id until keys rotate.
pub(crate) const KEY_ID: u32 = 1;

const NONCE: usize = 24;
const TAG: usize = 16;
const HEADER: usize = 1 + 4;

/// Where a sealed value belongs: its key space and its full key.
pub(crate) struct Place<'a> {
    space: u8,
    key: &'a [u8],
}

impl<'a> Place<'a> {
    pub(crate) fn record(space: Space, key: &'a [u8]) -> Self {
        Self { space: space as u8, key }
    }

    /// A place outside sled.
    pub(crate) fn named(name: &'a str) -> Self {
        Self { space: 0, key: name.as_bytes() }
    }

    /// A place outside sled whose name is not text.
    pub(crate) fn bytes(key: &'a [u8]) -> Self {
        Self { space: 0, key }
    }

    fn associated_data(&self, key_id: u32) -> Vec<u8> {
        let mut data = Vec::with_capacity(HEADER + 1 + self.key.len());
        data.push(SEAL_FORMAT);
        data.extend_from_slice(&key_id.to_be_bytes());
        data.push(self.space);
        data.extend_from_slice(self.key);
        data
    }
}

/// Where nonces come from: a prefix and a count, or a fixed one so that a test's bytes stay the same.
#[derive(Clone)]
enum Nonces {
    Counted(Arc<Counted>),
    #[cfg(test)]
    Fixed([u8; NONCE]),
}

/// One per sealer and its clones.
struct Counted {
    prefix: [u8; 16],
    next: AtomicU64,
}

impl Nonces {
    fn counted() -> Self {
        let mut prefix = [0; 16];
        getrandom::fill(&mut prefix).expect("the operating system gives random bytes");
        Self::Counted(Arc::new(Counted { prefix, next: AtomicU64::new(0) }))
    }

    fn next(&self) -> [u8; NONCE] {
        match self {
            Self::Counted(counted) => {
                let mut nonce = [0; NONCE];
                nonce[..16].copy_from_slice(&counted.prefix);
                nonce[16..].copy_from_slice(&counted.next.fetch_add(1, Ordering::Relaxed).to_be_bytes());
                nonce
            }
            #[cfg(test)]
            Self::Fixed(nonce) => *nonce,
        }
    }
}

/// Seals and opens values with one key.
#[derive(Clone)]
pub(crate) struct Sealer {
    cipher: XChaCha20Poly1305,
    nonces: Nonces,
}

impl Sealer {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self { cipher: XChaCha20Poly1305::new(key.into()), nonces: Nonces::counted() }
    }

    #[cfg(test)]
    pub(crate) fn with_fixed_nonce(key: &[u8; 32], nonce: [u8; NONCE]) -> Self {
        Self { nonces: Nonces::Fixed(nonce), ..Self::new(key) }
    }

    pub(crate) fn seal(&self, place: &Place<'_>, plain: &[u8]) -> Vec<u8> {
        let mut header = [SEAL_FORMAT; HEADER];
        header[1..].copy_from_slice(&KEY_ID.to_be_bytes());
        self.seal_behind(&header, &place.associated_data(KEY_ID), plain)
    }

    pub(crate) fn open(&self, place: &Place<'_>, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        if sealed.len() < SEAL_BYTES {
            return Err(SealError::Short { len: sealed.len() });
        }
        let (header, body) = sealed.split_at(HEADER);
        if header[0] != SEAL_FORMAT {
            return Err(SealError::Format { found: header[0] });
        }
        let key_id = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        if key_id != KEY_ID {
            return Err(SealError::KeyId { found: key_id, expected: KEY_ID });
        }
        self.open_body(&place.associated_data(key_id), body)
    }

    /// Nonce, ciphertext and tag, for a container that holds format and key id itself.
    pub(crate) fn seal_body(&self, associated_data: &[u8], plain: &[u8]) -> Vec<u8> {
        self.seal_behind(&[], associated_data, plain)
    }

    fn seal_behind(&self, header: &[u8], associated_data: &[u8], plain: &[u8]) -> Vec<u8> {
        let nonce = self.nonces.next();
        let mut sealed = Vec::with_capacity(header.len() + NONCE + plain.len() + TAG);
        sealed.extend_from_slice(header);
        sealed.extend_from_slice(&nonce);
        let start = sealed.len();
        sealed.extend_from_slice(plain);
        let tag = self
            .cipher
            .encrypt_inout_detached(&XNonce::from(nonce), associated_data, (&mut sealed[start..]).into())
            .expect("a value is far below the cipher's 256 GiB");
        sealed.extend_from_slice(&tag);
        sealed
    }

    pub(crate) fn open_body(&self, associated_data: &[u8], body: &[u8]) -> Result<Vec<u8>, SealError> {
        let Some((nonce, sealed)) = body.split_first_chunk::<NONCE>() else {
            return Err(SealError::Short { len: body.len() });
        };
        let payload = Payload { msg: sealed, aad: associated_data };
        self.cipher.decrypt(&XNonce::from(*nonce), payload).map_err(|_| SealError::Broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_only_at_its_place_and_unchanged() {
        let sealer = Sealer::new(&[7; 32]);
        let place = Place::record(Space::State, b"key");
        let sealed = sealer.seal(&place, b"plain");
        assert_eq!(sealed.len(), SEAL_BYTES + 5);
        assert_eq!(sealer.open(&place, &sealed).unwrap(), b"plain");

        assert_eq!(sealer.open(&Place::record(Space::State, b"kez"), &sealed), Err(SealError::Broken));
        assert_eq!(sealer.open(&Place::record(Space::Log, b"key"), &sealed), Err(SealError::Broken));
        assert_eq!(Sealer::new(&[8; 32]).open(&place, &sealed), Err(SealError::Broken));
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(sealer.open(&place, &changed).is_err(), "bit {bit}");
        }
        assert_eq!(sealer.open(&place, &sealed[..44]), Err(SealError::Short { len: 44 }));
    }

    #[test]
    fn the_same_value_never_looks_the_same_twice() {
        let sealer = Sealer::new(&[7; 32]);
        let place = Place::named("x");
        assert_ne!(sealer.seal(&place, b"plain"), sealer.seal(&place, b"plain"));
    }
}
