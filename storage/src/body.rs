//! Message bodies: sealed with the cluster's key before they are proposed, so that logs, snapshots and every node's
//! disk hold ciphertext; and the keyed digest by which a repeated `client_msg_id` with other content is found.

use chat::event::{BodyKind, SealedBody};
use chat::ids::{AppId, ClientMsgId, ConversationId, UserId};
use zeroize::Zeroizing;

use crate::error::SealError;
use crate::seal::{KEY_ID, Sealer};
use crate::secret::ClusterKey;

/// The current layout of a sealed body.
const BODY_FORMAT: u8 = 1;
const SEAL_CONTEXT: &str = "campanile 2026 message body seal v1";
const DIGEST_CONTEXT: &str = "campanile 2026 message body digest v1";

/// Which message a body belongs to: a body moved to another message does not open.
#[derive(Debug, Clone, Copy)]
pub struct BodyContext<'a> {
    pub app: &'a AppId,
    pub conversation: &'a ConversationId,
    pub author: &'a UserId,
    pub client_msg_id: ClientMsgId,
}

/// Seals, opens and digests bodies with the cluster's key.
#[derive(Clone)]
pub struct BodySealer {
    sealer: Sealer,
    digest_key: Zeroizing<[u8; 32]>,
}

impl BodySealer {
    pub fn new(key: &ClusterKey) -> Self {
        Self { sealer: Sealer::new(&key.derive(SEAL_CONTEXT)), digest_key: key.derive(DIGEST_CONTEXT) }
    }

    pub fn seal(&self, context: &BodyContext<'_>, kind: BodyKind, plain: &[u8]) -> SealedBody {
        let bytes = self.sealer.seal_body(&associated_data(context, kind, KEY_ID), plain);
        SealedBody { key_id: KEY_ID, kind, bytes: bytes.into() }
    }

    pub fn open(&self, context: &BodyContext<'_>, body: &SealedBody) -> Result<Vec<u8>, SealError> {
        if body.key_id != KEY_ID {
            return Err(SealError::KeyId { found: body.key_id, expected: KEY_ID });
        }
        self.sealer.open_body(&associated_data(context, body.kind, body.key_id), &body.bytes)
    }

    /// The same for the same message with the same content, on every node; it tells nothing without the key. `about` is what
    /// else the message says.
    pub fn digest(&self, context: &BodyContext<'_>, kind: BodyKind, about: &[u8], plain: &[u8]) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new_keyed(&self.digest_key);
        let data = associated_data(context, kind, 0);
        for part in [&data[..], about] {
            hasher.update(&(part.len() as u64).to_be_bytes()).update(part);
        }
        hasher.update(plain);
        let mut digest = [0; 16];
        digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        digest
    }
}

fn kind_number(kind: BodyKind) -> u8 {
    match kind {
        BodyKind::Text => 0,
        BodyKind::Action => 1,
        BodyKind::Custom => 2,
        BodyKind::Location => 3,
        BodyKind::Contact => 4,
        BodyKind::Merged => 5,
    }
}

fn associated_data(context: &BodyContext<'_>, kind: BodyKind, key_id: u32) -> Vec<u8> {
    let mut data = Vec::with_capacity(256);
    data.push(BODY_FORMAT);
    data.extend_from_slice(&key_id.to_be_bytes());
    data.push(kind_number(kind));
    let conversation = context.conversation.to_string();
    let fields = [
        context.app.as_str().as_bytes(),
        conversation.as_bytes(),
        context.author.as_str().as_bytes(),
        context.client_msg_id.0.as_bytes(),
    ];
    for field in fields {
        // Lengths first, so that no two contexts give the same bytes.
        data.extend_from_slice(&(field.len() as u32).to_be_bytes());
        data.extend_from_slice(field);
    }
    data
}

#[cfg(test)]
mod tests {
    use chat::ids::GroupId;
    use uuid::Uuid;

    use super::*;

    struct Names {
        app: AppId,
        conversation: ConversationId,
        author: UserId,
    }

    fn names() -> Names {
        Names {
            app: AppId::new("main").unwrap(),
            conversation: ConversationId::Group(GroupId(Uuid::from_u128(5))),
            author: UserId::new("alice").unwrap(),
        }
    }

    fn context(names: &Names, id: u128) -> BodyContext<'_> {
        BodyContext {
            app: &names.app,
            conversation: &names.conversation,
            author: &names.author,
            client_msg_id: ClientMsgId(Uuid::from_u128(id)),
        }
    }

    #[test]
    fn a_body_opens_only_as_the_message_it_was_sealed_for() {
        let sealer = BodySealer::new(&ClusterKey::from_bytes([1; 32]));
        let names = names();
        let body = sealer.seal(&context(&names, 1), BodyKind::Text, b"hello");
        assert_eq!(sealer.open(&context(&names, 1), &body).unwrap(), b"hello");

        assert_eq!(sealer.open(&context(&names, 2), &body), Err(SealError::Broken));
        let mallory = Names { author: UserId::new("mallory").unwrap(), ..self::names() };
        assert_eq!(sealer.open(&context(&mallory, 1), &body), Err(SealError::Broken));
        let action = SealedBody { kind: BodyKind::Action, ..body.clone() };
        assert_eq!(sealer.open(&context(&names, 1), &action), Err(SealError::Broken));
        let other_key = SealedBody { key_id: 9, ..body.clone() };
        assert_eq!(sealer.open(&context(&names, 1), &other_key), Err(SealError::KeyId { found: 9, expected: KEY_ID }));
        let other_cluster = BodySealer::new(&ClusterKey::from_bytes([2; 32]));
        assert_eq!(other_cluster.open(&context(&names, 1), &body), Err(SealError::Broken));
    }

    #[test]
    fn a_digest_depends_on_message_kind_content_and_key() {
        let sealer = BodySealer::new(&ClusterKey::from_bytes([1; 32]));
        let names = names();
        let digest = |id, kind, plain: &[u8]| sealer.digest(&context(&names, id), kind, b"", plain);
        let first = digest(1, BodyKind::Text, b"hello");
        assert_eq!(first, digest(1, BodyKind::Text, b"hello"));
        assert_ne!(first, digest(1, BodyKind::Text, b"hello!"));
        assert_ne!(first, digest(1, BodyKind::Action, b"hello"));
        assert_ne!(first, digest(2, BodyKind::Text, b"hello"));
        let other = BodySealer::new(&ClusterKey::from_bytes([2; 32]));
        assert_ne!(first, other.digest(&context(&names, 1), BodyKind::Text, b"", b"hello"));
        let answer = sealer.digest(&context(&names, 1), BodyKind::Text, b"hel", b"lo");
        assert!(answer != first && answer != digest(1, BodyKind::Text, b"lo"));
    }
}
