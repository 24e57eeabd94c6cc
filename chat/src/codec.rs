//! The one file that touches bincode.
//!
//! Everything stored or sent between nodes is an envelope `[format u8][kind u8][payload]`. The payload is bincode 2
//! (standard configuration, serde) under a byte limit: without one, nine forged bytes can claim a length that aborts
//! the process. Enum order and field order are the format: new variants go last, a changed struct gets a new format
//! number and keeps its old decoder, and golden files hold every layout that was ever written.

use std::cell::RefCell;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The current layout of every envelope.
pub const FORMAT: u8 = 1;

/// What an envelope carries. Numbers are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A log entry: [`crate::command::EntryBatch`].
    Entry = 1,
    /// A value of the replicated state.
    State = 2,
    /// A message between nodes.
    Peer = 3,
    /// A record of the storage engine itself: vote, markers, identity, snapshot metadata.
    Engine = 4,
    /// A membership of a Raft group.
    Membership = 5,
    /// A record of the security log.
    Security = 6,
}

#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("{len} bytes are too few for an envelope")]
    Short { len: usize },
    #[error("format {found} is not known here, this build speaks up to {FORMAT}")]
    Format { found: u8 },
    #[error("kind {found} where {expected:?} was expected")]
    Kind { found: u8, expected: Kind },
    #[error("{len} bytes are over the limit of {max}")]
    TooLarge { len: usize, max: usize },
    #[error("{rest} bytes are left over after the value")]
    Trailing { rest: usize },
    #[error("the payload does not decode")]
    Decode(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the value does not encode")]
    Encode(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// No envelope is larger than a frame between nodes.
const LIMIT: usize = crate::limits::PEER_FRAME_BYTES;
/// A larger buffer is not kept for the next value.
const KEPT: usize = 256 * 1024;

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<LIMIT>()
}

/// Encodes `value` in an envelope.
pub fn encode<T: Serialize>(kind: Kind, value: &T) -> Result<Bytes, CodecError> {
    encode_with(kind, value, Bytes::copy_from_slice)
}

/// Encodes `value` in an envelope that `take` sees before it is forgotten.
pub fn encode_with<T: Serialize, R>(kind: Kind, value: &T, take: impl FnOnce(&[u8]) -> R) -> Result<R, CodecError> {
    thread_local! {
        // Written here first: no value's bytes move while they grow, and none is kept with room to spare.
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    // Taken, not borrowed: a value that encodes another one on its way gets a buffer of its own.
    let mut buffer = BUFFER.take();
    buffer.clear();
    buffer.extend_from_slice(&[FORMAT, kind as u8]);
    let written = bincode::serde::encode_into_std_write(value, &mut buffer, config());
    let taken = match written {
        Err(error) => Err(CodecError::Encode(Box::new(error))),
        Ok(_) if buffer.len() > LIMIT => Err(CodecError::TooLarge { len: buffer.len(), max: LIMIT }),
        Ok(_) => Ok(take(&buffer)),
    };
    if buffer.capacity() <= KEPT {
        BUFFER.set(buffer);
    }
    taken
}

/// Decodes an envelope of `kind`; every byte must be used.
pub fn decode<T: DeserializeOwned>(kind: Kind, bytes: &[u8]) -> Result<T, CodecError> {
    let [format, found, payload @ ..] = bytes else {
        return Err(CodecError::Short { len: bytes.len() });
    };
    if bytes.len() > LIMIT {
        return Err(CodecError::TooLarge { len: bytes.len(), max: LIMIT });
    }
    if *format != FORMAT {
        return Err(CodecError::Format { found: *format });
    }
    if *found != kind as u8 {
        return Err(CodecError::Kind { found: *found, expected: kind });
    }
    let (value, used) =
        bincode::serde::decode_from_slice(payload, config()).map_err(|error| CodecError::Decode(Box::new(error)))?;
    match payload.len() - used {
        0 => Ok(value),
        rest => Err(CodecError::Trailing { rest }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_and_nothing_else_does() {
        let bytes = encode(Kind::State, &("hello", 7u64)).unwrap();
        assert_eq!(decode::<(String, u64)>(Kind::State, &bytes).unwrap(), ("hello".to_owned(), 7));
        assert!(matches!(decode::<(String, u64)>(Kind::Entry, &bytes), Err(CodecError::Kind { found: 2, .. })));
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(matches!(decode::<(String, u64)>(Kind::State, &longer), Err(CodecError::Trailing { rest: 1 })));
        longer[0] = 9;
        assert!(matches!(decode::<(String, u64)>(Kind::State, &longer), Err(CodecError::Format { found: 9 })));
        assert!(matches!(decode::<()>(Kind::State, &[1]), Err(CodecError::Short { len: 1 })));
    }

    #[test]
    fn a_forged_length_is_an_error() {
        let forged = [FORMAT, Kind::State as u8, 253, 255, 255, 255, 255, 255, 255, 255, 255];
        assert!(matches!(decode::<Vec<u8>>(Kind::State, &forged), Err(CodecError::Decode(_))));
        assert!(matches!(decode::<String>(Kind::State, &forged), Err(CodecError::Decode(_))));
    }
}
