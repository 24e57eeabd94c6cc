//! Bodies as bytes: what is sealed of a message, and back; and which bodies may be sent.

use bytes::Bytes;

use crate::event::BodyKind;
use crate::limits;
use crate::text::{self, TextError};
use crate::wire::Body;

/// Why opened bytes are not a message's body.
#[derive(Debug, thiserror::Error)]
pub enum BodyUnreadable {
    #[error("the opened body is not UTF-8")]
    NotUtf8(#[from] std::str::Utf8Error),
    #[error("the opened body is not the JSON of a body")]
    NotJson(#[from] serde_json::Error),
    #[error("the opened body is of another kind than {expected:?}")]
    OtherKind { expected: BodyKind },
}

/// Why a body may not be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyRefused {
    #[error(transparent)]
    Text(#[from] TextError),
    #[error("{part}: {problem}")]
    Part { part: &'static str, problem: TextError },
    #[error("latitude: it is between -90 and 90")]
    Latitude,
    #[error("items: there are {len}, between 1 and {max} are allowed")]
    Items { len: usize, max: usize },
    #[error("it has {len} bytes as JSON, at most {max} are allowed")]
    TooLong { len: usize, max: usize },
}

pub fn kind_of(body: &Body) -> BodyKind {
    match body {
        Body::Text { .. } => BodyKind::Text,
        Body::Action { .. } => BodyKind::Action,
        Body::Custom { .. } => BodyKind::Custom,
        Body::Location { .. } => BodyKind::Location,
        Body::Contact { .. } => BodyKind::Contact,
        Body::Merged { .. } => BodyKind::Merged,
    }
}

/// What is sealed of a body: the text itself, or the body's JSON.
pub fn plain_body(body: Body) -> (BodyKind, Bytes) {
    let kind = kind_of(&body);
    match body {
        Body::Text { text } | Body::Action { text } => (kind, text.into()),
        other => (kind, json(&other).into()),
    }
}

/// A body from what was sealed.
pub fn open_body(kind: BodyKind, plain: &[u8]) -> Result<Body, BodyUnreadable> {
    let text = || std::str::from_utf8(plain).map(str::to_owned);
    match kind {
        BodyKind::Text => Ok(Body::Text { text: text()? }),
        BodyKind::Action => Ok(Body::Action { text: text()? }),
        expected => {
            let body = serde_json::from_slice(plain)?;
            if kind_of(&body) == expected { Ok(body) } else { Err(BodyUnreadable::OtherKind { expected }) }
        }
    }
}

/// Whether a client may send this body. Texts: see [`text::check_message`]; an action is one line.
pub fn check_body(body: &Body) -> Result<(), BodyRefused> {
    match body {
        Body::Text { .. } | Body::Action { .. } => check_parts(body),
        _ => {
            let (len, max) = (json(body).len(), limits::BODY_BYTES);
            if len > max { Err(BodyRefused::TooLong { len, max }) } else { check_parts(body) }
        }
    }
}

/// How deep merged bodies lie in each other is bounded by the frame's depth.
fn check_parts(body: &Body) -> Result<(), BodyRefused> {
    let named = |part, checked: Result<(), TextError>| checked.map_err(|problem| BodyRefused::Part { part, problem });
    match body {
        Body::Text { text } => text::check_message(text)?,
        Body::Action { text } => {
            text::check_message(text)?;
            if text.contains('\n') {
                return Err(TextError::Control { found: '\n' }.into());
            }
        }
        Body::Custom { .. } => {}
        Body::Location { latitude, label, .. } => {
            if !latitude.is_latitude() {
                return Err(BodyRefused::Latitude);
            }
            named("label", text::check_label(label))?;
        }
        Body::Contact { name, .. } => named("name", text::check_name(name))?,
        Body::Merged { title, items } => {
            named("title", text::check_name(title))?;
            let (len, max) = (items.len(), limits::MERGED_ITEMS);
            if len == 0 || len > max {
                return Err(BodyRefused::Items { len, max });
            }
            items.iter().try_for_each(|item| check_parts(&item.body))?;
        }
    }
    Ok(())
}

fn json(body: &Body) -> Vec<u8> {
    serde_json::to_vec(body).expect("a body has only texts for keys, and no numbers that JSON has not")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ids::UserId;
    use crate::wire::{Degrees, MergedItem};

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn location(latitude: f64, label: &str) -> Body {
        let degrees = |degrees| Degrees::new(degrees).unwrap();
        Body::Location { latitude: degrees(latitude), longitude: degrees(13.377722), label: label.to_owned() }
    }

    fn merged(body: Body, count: usize) -> Body {
        let item = MergedItem { from: user("bob"), time_ms: 5, body };
        Body::Merged { title: "Yesterday".into(), items: vec![item; count] }
    }

    #[test]
    fn a_body_comes_back_from_its_plain_bytes() {
        let text = Body::Text { text: "grüße".into() };
        assert_eq!(plain_body(text.clone()), (BodyKind::Text, "grüße".into()));
        let custom = Body::Custom { data: json!({"poll": [1, 2.5, null]}) };
        let contact = Body::Contact { user: user("bob"), name: "Bob".into() };
        let all = [text, Body::Action { text: "waves".into() }, custom, contact, location(52.5163, "Here")];
        for body in all.iter().cloned().chain(all.iter().map(|body| merged(body.clone(), 2))) {
            assert_eq!(check_body(&body), Ok(()));
            let (kind, plain) = plain_body(body.clone());
            assert_eq!(open_body(kind, &plain).unwrap(), body);
        }
        assert!(matches!(open_body(BodyKind::Text, &[0xff]), Err(BodyUnreadable::NotUtf8(_))));
        assert!(matches!(open_body(BodyKind::Custom, b"{"), Err(BodyUnreadable::NotJson(_))));
        let (_, plain) = plain_body(location(0.0, ""));
        assert!(matches!(open_body(BodyKind::Contact, &plain), Err(BodyUnreadable::OtherKind { .. })));
    }

    #[test]
    fn an_action_is_one_line_and_a_text_may_be_many() {
        assert!(check_body(&Body::Text { text: "a\nb".into() }).is_ok());
        assert!(check_body(&Body::Action { text: "a\nb".into() }).is_err());
        assert!(check_body(&Body::Action { text: "waves".into() }).is_ok());
    }

    #[test]
    fn a_refusal_names_the_part() {
        let said = |body: Body| check_body(&body).unwrap_err().to_string();
        assert_eq!(said(location(90.5, "")), "latitude: it is between -90 and 90");
        assert_eq!(said(Body::Contact { user: user("bob"), name: " ".into() }), "name: it is empty");
        assert_eq!(
            said(merged(Body::Action { text: "x".into() }, 0)),
            "items: there are 0, between 1 and 100 are allowed"
        );
        let hidden = merged(merged(Body::Text { text: String::new() }, 1), 1);
        assert_eq!(said(hidden), "it is empty");
        let large = Body::Custom { data: json!("x".repeat(limits::BODY_BYTES)) };
        assert!(said(large).contains("at most 32768"));
    }
}
