//! A chat system as the engine sees it: messages over one WebSocket per user, in and out, without any I/O.
//!
//! A driver writes frames into an [`Outbox`] and turns received ones into [`Event`]s. Sockets, TLS, WebSocket framing,
//! time, windows, latencies and every check are the engine's. The engine is compiled once per driver, so nothing here
//! is called through a pointer.

pub mod bare;
pub mod campanile;
pub mod nats;
mod outbox;
pub mod xmpp;

pub use outbox::Outbox;

use std::fmt;

/// One message of the run: the lane (a sender's stream into a group) and its place in that lane, from 1.
/// It travels in every message, in a field of the protocol or in the text, and leads back to the message's slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Number {
    /// Below 2^30.
    pub lane: u32,
    pub place: u32,
}

/// Lanes of a run; more do not fit beside the variant bits of a UUID.
pub const LANES_MAX: u32 = 1 << 30;

impl Number {
    /// As one integer, below 2^62.
    pub fn bits(self) -> u64 {
        u64::from(self.lane) << 32 | u64::from(self.place)
    }

    pub fn from_bits(bits: u64) -> Self {
        Self { lane: (bits >> 32) as u32, place: bits as u32 }
    }

    /// The number that a message's text begins with: [`NUMBER_DIGITS`] hexadecimal digits.
    pub fn of_text(text: &[u8]) -> Option<Self> {
        let digits = text.get(..NUMBER_DIGITS)?;
        let mut bits = 0;
        for digit in digits {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            bits = bits << 4 | u64::from(value);
        }
        Some(Self::from_bits(bits))
    }

    /// Writes the digits that [`Number::of_text`] reads.
    pub fn write(self, text: &mut [u8; NUMBER_DIGITS]) {
        let bits = self.bits();
        for (at, digit) in text.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(bits >> (60 - 4 * at) & 15) as usize];
        }
    }
}

/// Digits at the beginning of every message's text.
pub const NUMBER_DIGITS: usize = 16;

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.lane, self.place)
    }
}

/// What a system says about the order in which the members of a group see its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Every event has a number: 1 more than the one before, the same for all members.
    Dense,
    /// Every event has a number, larger than the one before, the same for all members.
    Increasing,
    /// No numbers: only each sender's own order is checked, and that every member saw the same sequence.
    Unnumbered,
}

/// How a connection becomes a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// Such as `/v1/connect`.
    pub path: String,
    /// What is offered as `Sec-WebSocket-Protocol`, if anything.
    pub subprotocol: Option<String>,
}

/// What a received message means. A driver may report several for one WebSocket message, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// Logged in; groups may be joined, messages sent.
    Ready,
    /// What is sent to the group from now on is delivered here. `after` is the order number of the last event that
    /// will not come, if the system numbers events. Reported once per connection and group.
    Joined { group: u32, after: Option<u64> },
    /// The system promised whatever it promises about this message.
    Acked { number: Number, seq: Option<u64>, duplicate: bool },
    /// A send failed. Without `retry_after_ms` for good. `unknown`: the message may exist.
    Refused { number: Number, retry_after_ms: Option<u64>, unknown: bool, why: &'a str },
    /// A message arrived, our own too. `text` is checked against what was sent.
    Delivered { group: u32, seq: Option<u64>, number: Number, text: &'a [u8] },
    /// An event of the group that is no message but has a place in its order.
    Passed { group: u32, seq: u64 },
    /// The answer to [`Protocol::ask`].
    Answered { ask: u32 },
    /// A request by [`Protocol::ask`] was refused: an error, no broken promise.
    Declined { ask: u32, why: &'a str },
    /// Something that must not happen: counted, named in the report, and the run fails.
    Broken(String),
    /// This connection cannot go on, and why; the engine closes it and counts it as lost.
    Failed(String),
}

/// Requests besides sending that a realistic load makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Everything up to this order number of the group is read.
    Read { group: u32, seq: u64 },
    /// The last page of the group's history.
    History { group: u32 },
    /// The first page of the user's conversations.
    Conversations,
    /// Whether the service is there.
    Ping,
}

/// A driver. Shared by all connections of the run; what differs is in the session.
pub trait Protocol: Send + Sync + 'static {
    /// What the driver remembers of one connection. Small: there are tens of thousands.
    type Session: Send;

    fn handshake(&self) -> Handshake;

    fn order(&self) -> Order;

    /// The state of a new connection of the user with this number (from 0).
    fn session(&self, user: u32) -> Self::Session;

    /// The WebSocket is open: log in, if it is the client who begins. `have` is empty, or after a lost connection
    /// the order number of the last event received of each group, for systems that can go on from there.
    fn opened(&self, session: &mut Self::Session, have: &[(u32, u64)], out: &mut Outbox<'_>);

    /// Called once per group after everybody is ready and the groups exist, if the client itself has to join; ends
    /// with [`Event::Joined`]. Systems that join by themselves do nothing here.
    fn join(&self, session: &mut Self::Session, group: u32, out: &mut Outbox<'_>);

    /// Sends a message. `text` begins with the number's digits and is plain ASCII without `"`, `\`, `<` and `&`.
    /// After a lost connection or a refusal it may be called again with the same number.
    fn send(&self, session: &mut Self::Session, number: Number, group: u32, text: &str, out: &mut Outbox<'_>);

    /// Makes another request; [`Event::Answered`] follows with the same `ask`. False if the system has none such.
    fn ask(&self, _session: &mut Self::Session, _ask: u32, _what: Ask, _out: &mut Outbox<'_>) -> bool {
        false
    }

    /// One WebSocket message, text or binary, whole.
    fn receive(
        &self,
        session: &mut Self::Session,
        message: &[u8],
        out: &mut Outbox<'_>,
        events: &mut impl FnMut(Event<'_>),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_travels_as_text() {
        let number = Number { lane: LANES_MAX - 1, place: u32::MAX };
        let mut text = [0; NUMBER_DIGITS];
        number.write(&mut text);
        assert_eq!(&text, b"3fffffffffffffff");
        assert_eq!(Number::of_text(b"3fffffffffffffff and more"), Some(number));
        assert_eq!(Number::of_text(b"0000000000000102"), Some(Number { lane: 0, place: 258 }));
        assert_eq!((Number::of_text(b"000000000000010"), Number::of_text(b"000000000000010g")), (None, None));
    }
}

#[cfg(test)]
mod testing {
    /// The payload of a single frame shorter than 64 KiB.
    pub(super) fn payload(frame: &[u8]) -> String {
        let header = match frame.get(1) {
            None => 0,
            Some(0xfe) => 8,
            Some(_) => 6,
        };
        String::from_utf8_lossy(&frame[header..]).into_owned()
    }
}
