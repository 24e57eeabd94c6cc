//! Between the form that is stored and committed and the form that clients see. Pure; sealing is the caller's.

use crate::event::{BodyKind, Event, SequencedEvent};
pub use crate::parse::{ParseError, Problem, parse_frame};
use crate::text::{self, TextError};
use crate::wire::{Body, EventContent, WireEvent};

/// A message was to be shown without its opened body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message has no opened body")]
pub struct BodyMissing;

/// Why opened bytes are not a message's body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the opened body is not UTF-8")]
pub struct BodyNotText(#[from] std::str::Utf8Error);

/// The event as clients see it. A message needs its opened `body` ([`open_body`]); other events have none.
pub fn wire_event(event: &SequencedEvent, body: Option<Body>) -> Result<WireEvent, BodyMissing> {
    let content = match event.event.clone() {
        Event::Message { author, client_msg_id, body: _ } => {
            EventContent::Message { from: author, client_msg_id, body: body.ok_or(BodyMissing)? }
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
    };
    let SequencedEvent { conversation, seq, time_ms, .. } = event;
    Ok(WireEvent { conversation: conversation.clone(), seq: *seq, time_ms: *time_ms, content })
}

/// A body as it is before sealing: its kind and its plain bytes.
pub fn plain_body(body: &Body) -> (BodyKind, &[u8]) {
    match body {
        Body::Text { text } => (BodyKind::Text, text.as_bytes()),
        Body::Action { text } => (BodyKind::Action, text.as_bytes()),
    }
}

/// A body from what was sealed.
pub fn open_body(kind: BodyKind, plain: &[u8]) -> Result<Body, BodyNotText> {
    let text = std::str::from_utf8(plain)?.to_owned();
    Ok(match kind {
        BodyKind::Text => Body::Text { text },
        BodyKind::Action => Body::Action { text },
    })
}

/// Whether a client may send this body: see [`text::check_message`]. An action is one line.
pub fn check_body(body: &Body) -> Result<(), TextError> {
    let (Body::Text { text } | Body::Action { text }) = body;
    text::check_message(text)?;
    match text.chars().find(|c| *c == '\n' && matches!(body, Body::Action { .. })) {
        Some(found) => Err(TextError::Control { found }),
        None => Ok(()),
    }
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
    use crate::event::SealedBody;
    use crate::ids::{AppId, ClientMsgId, ConversationId, GroupId, UserId};

    fn sequenced(event: Event) -> SequencedEvent {
        let conversation = ConversationId::Group(GroupId(Uuid::from_u128(1)));
        SequencedEvent { app: AppId::new("main").unwrap(), conversation, seq: 7, time_ms: 9, event }
    }

    #[test]
    fn a_body_comes_back_from_its_plain_bytes() {
        for body in [Body::Text { text: "grüße".into() }, Body::Action { text: "waves".into() }] {
            let (kind, plain) = plain_body(&body);
            assert_eq!(open_body(kind, plain), Ok(body.clone()));
        }
        assert!(open_body(BodyKind::Text, &[0xff]).is_err());
    }

    #[test]
    fn a_message_shows_its_body_and_never_goes_without() {
        let (author, client_msg_id) = (UserId::new("bob").unwrap(), ClientMsgId(Uuid::from_u128(2)));
        let sealed = SealedBody { key_id: 1, kind: BodyKind::Text, bytes: Bytes::from_static(b"sealed") };
        let message = sequenced(Event::Message { author: author.clone(), client_msg_id, body: sealed });
        let body = Body::Text { text: "hi".into() };
        let shown = wire_event(&message, Some(body.clone())).unwrap();
        assert_eq!((shown.seq, shown.time_ms), (7, 9));
        assert_eq!(shown.content, EventContent::Message { from: author, client_msg_id, body });
        assert_eq!(wire_event(&message, None), Err(BodyMissing));
    }

    #[test]
    fn other_events_keep_their_fields() {
        let user = UserId::new("bob").unwrap();
        let shown = wire_event(&sequenced(Event::Left { user: user.clone() }), None).unwrap();
        assert_eq!(shown.content, EventContent::Left { user });
    }

    #[test]
    fn an_action_is_one_line_and_a_text_may_be_many() {
        assert!(check_body(&Body::Text { text: "a\nb".into() }).is_ok());
        assert!(check_body(&Body::Action { text: "a\nb".into() }).is_err());
        assert!(check_body(&Body::Action { text: "waves".into() }).is_ok());
    }
}
