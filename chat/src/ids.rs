//! Names of things. Every one is checked when it is made, so that a value of the type is valid.

use std::fmt;
use std::str::FromStr;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::limits;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("{what} is empty")]
    Empty { what: &'static str },
    #[error("{what} has {len} bytes, at most {max} are allowed")]
    TooLong { what: &'static str, len: usize, max: usize },
    #[error("{what} has the character {found:?}, which is not allowed there")]
    Character { what: &'static str, found: char },
    #[error("{text:?} is not a {what}: {expected}")]
    Form { what: &'static str, text: String, expected: &'static str },
}

fn check(what: &'static str, text: &str, max: usize, allowed: fn(char) -> bool) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty { what });
    }
    if text.len() > max {
        return Err(IdError::TooLong { what, len: text.len(), max });
    }
    match text.chars().find(|c| !allowed(*c)) {
        Some(found) => Err(IdError::Character { what, found }),
        None => Ok(()),
    }
}

/// Visible ASCII without the characters that separate ids, quote text or open markup.
/// IRC nicknames (`|QuaD-`, `` `anthony ``, `[x]`) are valid; control, bidi, zero-width
/// and look-alike characters cannot appear.
fn user_character(c: char) -> bool {
    c.is_ascii_graphic() && !matches!(c, ':' | '/' | '"' | '\'' | '<' | '>' | '&' | ',' | '@' | '#' | '%')
}

/// What names keys in files, addresses and tokens.
fn key_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

fn slug_character(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_'
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:expr, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                check($what, &text, $max, $allowed)?;
                Ok(Self(text))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        text_serde!($name, id => id.as_str(), text => $name::new(text));
    };
}

/// Serialized as its text everywhere, in JSON and in bincode. Ids are in everything that is stored and sent, several
/// times per message: no text is made twice.
macro_rules! text_serde {
    ($name:ident, $text:ident => $as_str:expr, $owned:ident => $from_owned:expr) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let $text = self;
                serializer.serialize_str($as_str)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;

                impl Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a string")
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }

                    fn visit_string<E: serde::de::Error>(self, $owned: String) -> Result<$name, E> {
                        $from_owned.map_err(E::custom)
                    }
                }

                deserializer.deserialize_string(Text)
            }
        }
    };
}

text_id! {
    /// A tenant: one app that embeds Campanile.
    AppId, "an app id", limits::ID_BYTES, slug_character
}
text_id! {
    /// A user within an app.
    UserId, "a user id", limits::ID_BYTES, user_character
}
text_id! {
    /// One installation of a client, chosen by the client and kept over restarts.
    DeviceId, "a device id", limits::ID_BYTES, user_character
}

text_id! {
    /// A key of an app: one that verifies tokens (a token's `kid`), or one of its backend's.
    KeyId, "a key id", limits::ID_BYTES, key_character
}

/// A group, named by the client that creates it (UUIDv7), so that a retried creation is the same group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupId(pub Uuid);

/// One logical send. Made once by the client (UUIDv7) and repeated in every retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClientMsgId(pub Uuid);

/// A conversation: a private pair (notes to self if both are the same) or a group.
///
/// Text form: `p:alice:bob` with the two users in byte order, or `g:` and the group's UUID.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConversationId {
    Private(UserId, UserId),
    Group(GroupId),
}

impl ConversationId {
    /// The private conversation of two users, the same whoever asks.
    pub fn private(a: UserId, b: UserId) -> Self {
        if a <= b { Self::Private(a, b) } else { Self::Private(b, a) }
    }

    /// The other side of a private conversation, if `user` is one of its two sides.
    pub fn peer_of(&self, user: &UserId) -> Option<&UserId> {
        match self {
            Self::Private(a, b) if a == user => Some(b),
            Self::Private(a, b) if b == user => Some(a),
            _ => None,
        }
    }
}

impl fmt::Display for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

impl FromStr for ConversationId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let form = || IdError::Form {
            what: "conversation id",
            text: text.chars().take(2 * limits::ID_BYTES).collect(),
            expected: "p:USER:USER with the users in byte order, or g:UUID",
        };
        if let Some(pair) = text.strip_prefix("p:") {
            let (a, b) = pair.split_once(':').ok_or_else(form)?;
            let (a, b) = (UserId::new(a)?, UserId::new(b)?);
            return if a <= b { Ok(Self::Private(a, b)) } else { Err(form()) };
        }
        let group = text.strip_prefix("g:").ok_or_else(form)?;
        group.parse().map(|uuid| Self::Group(GroupId(uuid))).map_err(|_| form())
    }
}

text_serde!(ConversationId, id => id.text().as_str(), text => text.parse::<ConversationId>());

/// Bytes of the longest text of a conversation id: `p:`, two users and the colon between them.
const CONVERSATION_BYTES: usize = 2 + limits::ID_BYTES + 1 + limits::ID_BYTES;

/// A conversation id's text, made without an allocation.
pub struct ConversationText {
    bytes: [u8; CONVERSATION_BYTES],
    length: usize,
}

impl ConversationText {
    fn push(&mut self, text: &str) {
        self.bytes[self.length..][..text.len()].copy_from_slice(text.as_bytes());
        self.length += text.len();
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).expect("ids are ASCII")
    }
}

impl ConversationId {
    /// What `to_string` gives.
    pub fn text(&self) -> ConversationText {
        let mut text = ConversationText { bytes: [0; CONVERSATION_BYTES], length: 0 };
        match self {
            Self::Private(a, b) => {
                for part in ["p:", a.as_str(), ":", b.as_str()] {
                    text.push(part);
                }
            }
            Self::Group(group) => {
                let mut uuid = [0; uuid::fmt::Hyphenated::LENGTH];
                text.push("g:");
                text.push(group.0.hyphenated().encode_lower(&mut uuid));
            }
        }
        text
    }
}

/// A Raft group of the cluster. 0 is the metadata group, 1 to N hold users and conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShardId(pub u16);

impl ShardId {
    pub const META: Self = Self(0);

    /// The shard of a conversation. `shards` is fixed when the cluster is created.
    pub fn of_conversation(app: &AppId, conversation: &ConversationId, shards: u16) -> Self {
        Self::of(&[b"conversation", app.as_str().as_bytes(), conversation.text().as_str().as_bytes()], shards)
    }

    /// A user's home shard: account, devices, conversation list.
    pub fn of_user(app: &AppId, user: &UserId, shards: u16) -> Self {
        Self::of(&[b"user", app.as_str().as_bytes(), user.as_str().as_bytes()], shards)
    }

    fn of(parts: &[&[u8]], shards: u16) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_be_bytes()).update(part);
        }
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        let slot = u64::from_be_bytes(first) % u64::from(shards.max(1));
        Self(slot as u16 + 1)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::META { f.write_str("meta") } else { write!(f, "{}", self.0) }
    }
}

/// A node of the cluster. Never reused.
pub type NodeId = u64;

/// The DNS name that a node's certificate carries towards its peers (RFC 5280 SAN `dNSName`).
/// It names the cluster too, so that a node of another cluster under the same CA is refused.
pub fn peer_name(cluster: &str, node: NodeId) -> String {
    format!("node-{node}.{cluster}.campanile")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn irc_nicknames_are_users_and_separators_are_not() {
        for nick in ["|QuaD-", "`anthony", "[x]", "L0sT", "a^_^"] {
            assert!(UserId::new(nick).is_ok(), "{nick}");
        }
        for bad in ["", "a:b", "a b", "a\u{202e}b", "é", "<b>"] {
            assert!(UserId::new(bad).is_err(), "{bad:?}");
        }
        assert!(UserId::new("x".repeat(limits::ID_BYTES + 1)).is_err());
    }

    #[test]
    fn conversation_ids_round_trip_and_have_one_form() {
        let (a, b) = (UserId::new("bob").unwrap(), UserId::new("alice").unwrap());
        let private = ConversationId::private(a.clone(), b.clone());
        assert_eq!(private.to_string(), "p:alice:bob");
        assert_eq!("p:alice:bob".parse(), Ok(private));
        assert!("p:bob:alice".parse::<ConversationId>().is_err());
        assert!("g:nonsense".parse::<ConversationId>().is_err());
        let group = ConversationId::Group(GroupId(Uuid::from_u128(7)));
        assert_eq!(group.to_string().parse(), Ok(group));
    }

    #[test]
    fn every_shard_gets_its_share_and_none_is_the_metadata_group() {
        let app = AppId::new("main").unwrap();
        let mut counts = [0u32; 17];
        for n in 0..16_000 {
            let user = UserId::new(format!("u{n}")).unwrap();
            counts[ShardId::of_user(&app, &user, 16).0 as usize] += 1;
        }
        assert_eq!(counts[0], 0);
        assert!(counts[1..].iter().all(|c| (800..1_200).contains(c)), "{counts:?}");
    }
}
