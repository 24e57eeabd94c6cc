//! Between the form that is stored and committed and the form that clients see. Pure; sealing is the caller's.

use crate::event::{Event, Relations, SealedBody, SequencedEvent};
pub use crate::parse::{ParseError, Problem, frame_id, parse_frame};
use crate::text::{self, TextError};
use crate::wire::{Body, EventContent, Recalled, WireEvent};

/// A message was to be shown without its opened body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message has no opened body")]
pub struct BodyMissing;

/// The event as clients see it. What has a sealed body needs it opened (`crate::body::open_body`); other events have none.
pub fn wire_event(event: &SequencedEvent, body: Option<Body>) -> Result<WireEvent, BodyMissing> {
    let shown = |sealed: Option<SealedBody>| match sealed {
        Some(_) => body.ok_or(BodyMissing).map(Some),
        None => Ok(None),
    };
    let content = match event.event.clone() {
        Event::Message { author, client_msg_id, body, relations } => {
            let relations = relations.map(|relations| *relations).unwrap_or_default();
            let expires_ms = relations.expires_ms(event.time_ms);
            let Relations { reply_to, mentions, forwarded, only_to, life } = relations;
            let recalled = body.is_none().then_some(Recalled { by: None, expired: false });
            EventContent::Message {
                from: author,
                client_msg_id,
                body: shown(body)?,
                reply_to,
                mentions,
                forwarded,
                edited_seq: None,
                recalled,
                reactions: Vec::new(),
                pinned: false,
                only_to,
                expires_ms,
                burn: life.burn,
            }
        }
        Event::GroupCreated { by, name, members } => EventContent::GroupCreated { by, name, members },
        Event::Joined { users, by } => EventContent::Joined { users, by },
        Event::Left { user } => EventContent::Left { user },
        Event::Kicked { user, by } => EventContent::Kicked { user, by },
        Event::RoleChanged { user, role, by } => EventContent::RoleChanged { user, role, by },
        Event::GroupChanged { change, by } => EventContent::GroupChanged { change, by },
        Event::Banned { user, until_ms, by } => EventContent::Banned { user, until_ms, by },
        Event::Unbanned { user, by } => EventContent::Unbanned { user, by },
        Event::Muted { user, until_ms, by } => EventContent::Muted { user, until_ms, by },
        Event::Unmuted { user, by } => EventContent::Unmuted { user, by },
        Event::NicknameChanged { user, nickname } => EventContent::NicknameChanged { user, nickname },
        Event::Dissolved { by } => EventContent::Dissolved { by },
        Event::Edited { target, by, client_msg_id, body } => {
            EventContent::Edited { target, by, client_msg_id, body: shown(body)? }
        }
        Event::Recalled { target, by } => EventContent::Recalled { target, by },
        Event::Reacted { target, by, reaction, on } => EventContent::Reacted { target, by, reaction, on },
        Event::Pinned { target, by } => EventContent::Pinned { target, by },
        Event::Unpinned { target, by } => EventContent::Unpinned { target, by },
        Event::Expired { target } => EventContent::Expired { target },
    };
    let SequencedEvent { conversation, seq, time_ms, .. } = event;
    Ok(WireEvent { conversation: conversation.clone(), seq: *seq, time_ms: *time_ms, content })
}

/// Whether a group may have this name: see [`text::check_name`].
pub fn check_group_name(name: &str) -> Result<(), TextError> {
    text::check_name(name)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use crate::event::{BodyKind, SealedBody};
    use crate::ids::{AppId, ClientMsgId, ConversationId, GroupId, UserId};

    fn sequenced(event: Event) -> SequencedEvent {
        let conversation = ConversationId::Group(GroupId(Uuid::from_u128(1)));
        SequencedEvent { app: AppId::new("main").unwrap(), conversation, seq: 7, time_ms: 9, event }
    }

    #[test]
    fn a_message_shows_its_body_and_never_goes_without() {
        let (author, client_msg_id) = (UserId::new("bob").unwrap(), ClientMsgId(Uuid::from_u128(2)));
        let sealed = SealedBody { key_id: 1, kind: BodyKind::Text, bytes: Bytes::from_static(b"sealed") };
        let message =
            sequenced(Event::Message { author: author.clone(), client_msg_id, body: Some(sealed), relations: None });
        let body = Body::Text { text: "hi".into() };
        let shown = wire_event(&message, Some(body.clone())).unwrap();
        assert_eq!((shown.seq, shown.time_ms), (7, 9));
        assert_eq!(shown.content, EventContent::message(author.clone(), client_msg_id, body.clone()));
        assert_eq!(wire_event(&message, None), Err(BodyMissing));
        // Once it is recalled there is nothing to show, even if somebody still has it opened.
        let recalled = sequenced(Event::Message { author, client_msg_id, body: None, relations: None });
        let shown = wire_event(&recalled, Some(body)).unwrap();
        assert!(matches!(shown.content, EventContent::Message { body: None, recalled: Some(_), .. }));
    }

    #[test]
    fn other_events_keep_their_fields() {
        let user = UserId::new("bob").unwrap();
        let shown = wire_event(&sequenced(Event::Left { user: user.clone() }), None).unwrap();
        assert_eq!(shown.content, EventContent::Left { user });
    }
}
