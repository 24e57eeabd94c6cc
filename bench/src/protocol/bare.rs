//! The limit: a broadcast server that stores nothing and promises nothing (`systems::bare_server`). A frame in is the
//! same frame out to every member of the group, the sender too, whose echo is the ack.
//!
//! ```text
//! join     0, group (4 bytes)              answered with the same frame
//! message  1, group (4), sender (4), text  sent to all members as it is
//! ```

use super::{Event, Handshake, Number, Order, Outbox, Protocol};

pub(crate) const JOIN: u8 = 0;
pub(crate) const MESSAGE: u8 = 1;
/// Kind, group, sender.
const TEXT_AT: usize = 9;

/// Shared by all connections of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bare;

/// The user's number.
#[derive(Debug)]
pub struct BareSession(u32);

impl Protocol for Bare {
    type Session = BareSession;

    fn handshake(&self) -> Handshake {
        Handshake { path: "/".to_owned(), subprotocol: None }
    }

    fn order(&self) -> Order {
        Order::Unnumbered
    }

    fn session(&self, user: u32) -> BareSession {
        BareSession(user)
    }

    /// There is no login. A join of no group has an answer, which says that the connection works.
    fn opened(&self, _session: &mut BareSession, _have: &[(u32, u64)], out: &mut Outbox<'_>) {
        out.binary(|out| push(out, JOIN, NOBODY));
    }

    fn join(&self, _session: &mut BareSession, group: u32, out: &mut Outbox<'_>) {
        out.binary(|out| push(out, JOIN, group));
    }

    fn send(&self, session: &mut BareSession, _number: Number, group: u32, text: &str, out: &mut Outbox<'_>) {
        out.binary(|out| {
            push(out, MESSAGE, group);
            out.extend_from_slice(&session.0.to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        });
    }

    fn receive(
        &self,
        session: &mut BareSession,
        message: &[u8],
        _out: &mut Outbox<'_>,
        events: &mut impl FnMut(Event<'_>),
    ) {
        let broken = || Event::Broken("a frame that cannot be read".to_owned());
        let Some((kind, group)) = kind_and_group(message) else { return events(broken()) };
        match kind {
            JOIN if group == NOBODY => events(Event::Ready),
            JOIN => events(Event::Joined { group, after: None }),
            MESSAGE => {
                let sender = message.get(5..TEXT_AT);
                let text = message.get(TEXT_AT..).unwrap_or_default();
                let (Some(sender), Some(number)) = (sender, Number::of_text(text)) else { return events(broken()) };
                events(Event::Delivered { group, seq: None, number, text });
                if sender == session.0.to_be_bytes() {
                    events(Event::Acked { number, seq: None, duplicate: false });
                }
            }
            _ => events(broken()),
        }
    }
}

/// The group that has no members.
pub(crate) const NOBODY: u32 = u32::MAX;

fn push(out: &mut Vec<u8>, kind: u8, group: u32) {
    out.push(kind);
    out.extend_from_slice(&group.to_be_bytes());
}

/// What a frame is, and of which group.
pub(crate) fn kind_and_group(frame: &[u8]) -> Option<(u8, u32)> {
    let (kind, rest) = frame.split_first()?;
    Some((*kind, u32::from_be_bytes(*rest.first_chunk()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(session: &mut BareSession, frame: &[u8]) -> Vec<String> {
        let (mut bytes, mut events) = (Vec::new(), Vec::new());
        let mut report = |event: Event<'_>| events.push(format!("{event:?}"));
        Bare.receive(session, frame, &mut Outbox::new(&mut bytes), &mut report);
        events
    }

    #[test]
    fn the_own_frame_is_the_ack() {
        let (mut sender, mut member) = (Bare.session(1), Bare.session(2));
        let mut bytes = Vec::new();
        let number = Number { lane: 3, place: 9 };
        Bare.send(&mut sender, number, 7, "0000000300000009 hello", &mut Outbox::new(&mut bytes));
        let frame = &bytes[6..];
        assert_eq!(receive(&mut member, frame).len(), 1);
        let events = receive(&mut sender, frame);
        assert!(events[0].starts_with("Delivered { group: 7, seq: None, number: Number { lane: 3, place: 9 }"));
        assert_eq!(events[1], "Acked { number: Number { lane: 3, place: 9 }, seq: None, duplicate: false }");
    }

    #[test]
    fn joins_are_answered() {
        let mut session = Bare.session(1);
        assert_eq!(receive(&mut session, &[JOIN, 255, 255, 255, 255]), ["Ready"]);
        assert_eq!(receive(&mut session, &[JOIN, 0, 0, 0, 7]), ["Joined { group: 7, after: None }"]);
        for frame in [&[MESSAGE, 0, 0, 0, 7][..], &[9, 0, 0, 0, 7], &[JOIN]] {
            assert!(receive(&mut session, frame)[0].starts_with("Broken"));
        }
    }
}
