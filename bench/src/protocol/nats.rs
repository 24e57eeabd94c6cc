//! NATS JetStream inside WebSocket frames.
//!
//! A group is a subject of a stream with three replicas. A send is a JetStream publish with a `Nats-Msg-Id` (the server
//! drops duplicates by it); its ack says that a majority stored it. The stream republishes what it stored, in its
//! order and with its sequence, and members subscribe to that: the cheapest way in NATS in which all members see the
//! same order, after commit.

pub(crate) mod wire;

use std::collections::VecDeque;

use serde::Deserialize;
use wire::{Malformed, Message, Operation, leading_number, number};

use super::{Ask, Event, Handshake, NUMBER_DIGITS, Number, Order, Outbox, Protocol};

/// The subscription of a connection's own inbox; those of groups follow.
const INBOX: u64 = 1;
const FIRST_GROUP: u64 = 2;
/// A refused publish is tried again after this: streams without a leader get one within seconds.
const RETRY_AFTER_MS: u64 = 100;

pub(crate) const CONNECT: &[u8] = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"protocol\":1,\"echo\":true,\
    \"headers\":true,\"no_responders\":true,\"lang\":\"rust\",\"version\":\"1\",\"name\":\"campanile-bench\"}\r\n";

/// Shared by all connections of a run.
#[derive(Debug, Clone)]
pub struct Nats {
    /// Part of every name: what was deleted by name is not gone at once on all nodes.
    run: u32,
    /// Streams that the run's groups are dealt out to.
    streams: u32,
}

impl Nats {
    pub fn new(run: u32, streams: u32) -> Self {
        Self { run, streams: streams.max(1) }
    }

    pub fn streams(&self) -> u32 {
        self.streams
    }

    /// The name of a stream.
    pub fn stream(&self, stream: u32) -> String {
        format!("R{}B{stream}", self.run)
    }

    /// What creates a stream: the body of the request to `$JS.API.STREAM.CREATE.<name>`.
    pub fn stream_config(&self, stream: u32) -> String {
        let run = self.run;
        let config = serde_json::json!({
            "name": self.stream(stream),
            "subjects": [format!("g.{run}.{stream}.*")],
            "num_replicas": 3,
            "storage": "file",
            "retention": "limits",
            "discard": "old",
            "republish": {
                "src": format!("g.{run}.{stream}.*"),
                "dest": format!("m.{run}.{stream}.{{{{wildcard(1)}}}}"),
            },
        });
        config.to_string()
    }

    /// `g.…` is published to, `m.…` is what members see.
    fn push_subject(&self, out: &mut Vec<u8>, kind: u8, group: u32) {
        out.extend_from_slice(&[kind, b'.']);
        push_number(out, self.run.into());
        out.push(b'.');
        push_number(out, (group % self.streams).into());
        out.push(b'.');
        push_number(out, group.into());
    }
}

/// What is remembered of a connection.
#[derive(Debug)]
pub struct NatsSession {
    user: u32,
    greeted: bool,
    /// Pings on their way, in order: `None` for the one that ends the login.
    pings: VecDeque<Option<u32>>,
    /// The beginning of an operation whose end is in the next frame.
    partial: Vec<u8>,
}

/// The answer to a publish.
#[derive(Deserialize)]
struct PublishAnswer<'a> {
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    #[serde(borrow)]
    error: Option<ApiError<'a>>,
}

#[derive(Deserialize)]
struct ApiError<'a> {
    #[serde(borrow, default)]
    description: std::borrow::Cow<'a, str>,
}

impl Protocol for Nats {
    type Session = NatsSession;

    fn handshake(&self) -> Handshake {
        Handshake { path: "/".to_owned(), subprotocol: None }
    }

    fn order(&self) -> Order {
        // A stream numbers the messages of all its groups together.
        Order::Increasing
    }

    fn session(&self, user: u32) -> NatsSession {
        NatsSession { user, greeted: false, pings: VecDeque::new(), partial: Vec::new() }
    }

    /// The server begins.
    fn opened(&self, session: &mut NatsSession, _have: &[(u32, u64)], _out: &mut Outbox<'_>) {
        *session = self.session(session.user);
    }

    /// Subscribes, then asks the stream's leader for its last sequence. The question follows the subscription on the
    /// way to the leader, so that its answer says that the leader's node knows of the subscription.
    fn join(&self, session: &mut NatsSession, group: u32, out: &mut Outbox<'_>) {
        out.binary(|out| {
            out.extend_from_slice(b"SUB ");
            self.push_subject(out, b'm', group);
            out.push(b' ');
            push_number(out, FIRST_GROUP + u64::from(group));
            out.extend_from_slice(b"\r\nPUB $JS.API.STREAM.INFO.");
            out.extend_from_slice(self.stream(group % self.streams).as_bytes());
            out.push(b' ');
            push_inbox(out, session.user);
            out.push(b'j');
            push_number(out, group.into());
            out.extend_from_slice(b" 0\r\n\r\n");
        });
    }

    fn send(&self, session: &mut NatsSession, _number: Number, group: u32, text: &str, out: &mut Outbox<'_>) {
        const HEADERS: &[u8] = b"NATS/1.0\r\nNats-Msg-Id: ";
        let digits = &text.as_bytes()[..NUMBER_DIGITS];
        let headers = HEADERS.len() + digits.len() + 4;
        out.binary(|out| {
            out.extend_from_slice(b"HPUB ");
            self.push_subject(out, b'g', group);
            out.push(b' ');
            push_inbox(out, session.user);
            out.extend_from_slice(digits);
            out.push(b' ');
            push_number(out, headers as u64);
            out.push(b' ');
            push_number(out, (headers + text.len()) as u64);
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(HEADERS);
            out.extend_from_slice(digits);
            out.extend_from_slice(b"\r\n\r\n");
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(b"\r\n");
        });
    }

    fn ask(&self, session: &mut NatsSession, ask: u32, what: Ask, out: &mut Outbox<'_>) -> bool {
        if what != Ask::Ping {
            return false;
        }
        session.pings.push_back(Some(ask));
        out.binary(|out| out.extend_from_slice(b"PING\r\n"));
        true
    }

    fn receive(
        &self,
        session: &mut NatsSession,
        message: &[u8],
        out: &mut Outbox<'_>,
        events: &mut impl FnMut(Event<'_>),
    ) {
        if session.partial.is_empty() {
            let used = operations(session, message, out, events);
            session.partial.extend_from_slice(&message[used..]);
            return;
        }
        let mut bytes = std::mem::take(&mut session.partial);
        bytes.extend_from_slice(message);
        let used = operations(session, &bytes, out, events);
        if used < bytes.len() {
            bytes.drain(..used);
            session.partial = bytes;
        }
    }
}

/// Acts on every whole operation; how many bytes they were.
fn operations(
    session: &mut NatsSession,
    bytes: &[u8],
    out: &mut Outbox<'_>,
    events: &mut impl FnMut(Event<'_>),
) -> usize {
    let mut used = 0;
    loop {
        match wire::next(&bytes[used..]) {
            Ok(Some((operation, end))) => {
                used += end;
                act(session, operation, out, events);
            }
            Ok(None) => return used,
            Err(Malformed) => {
                events(Event::Failed(Malformed.to_string()));
                return bytes.len();
            }
        }
    }
}

fn act(session: &mut NatsSession, operation: Operation<'_>, out: &mut Outbox<'_>, events: &mut impl FnMut(Event<'_>)) {
    match operation {
        Operation::Message(message) if message.subscription == INBOX => answered(message, events),
        Operation::Message(message) => delivered(message, events),
        Operation::Ping => out.binary(|out| out.extend_from_slice(b"PONG\r\n")),
        Operation::Pong => match session.pings.pop_front() {
            Some(None) => events(Event::Ready),
            Some(Some(ask)) => events(Event::Answered { ask }),
            None => events(Event::Broken("a PONG without a PING".to_owned())),
        },
        // Sent again whenever the cluster changes.
        Operation::Info if session.greeted => {}
        Operation::Info => {
            session.greeted = true;
            session.pings.push_back(None);
            out.binary(|out| {
                out.extend_from_slice(CONNECT);
                out.extend_from_slice(b"SUB ");
                push_inbox(out, session.user);
                out.extend_from_slice(b"* 1\r\nPING\r\n");
            });
        }
        Operation::Ok => {}
        Operation::Error(why) => events(Event::Failed(why.to_owned())),
    }
}

/// A member sees a message.
fn delivered(message: Message<'_>, events: &mut impl FnMut(Event<'_>)) {
    let group = message.subscription.checked_sub(FIRST_GROUP).and_then(|group| u32::try_from(group).ok());
    let (Some(group), Some(number)) = (group, Number::of_text(message.payload)) else {
        return events(Event::Broken("a message that is not of this run".to_owned()));
    };
    let seq = message.header_number(b"Nats-Sequence");
    events(Event::Delivered { group, seq, number, text: message.payload });
}

/// The answer to a publish or to a join, by the last word of the inbox.
fn answered(message: Message<'_>, events: &mut impl FnMut(Event<'_>)) {
    let word = message.subject.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
    if let Some(group) = word.strip_prefix(b"j").and_then(number).and_then(|group| u32::try_from(group).ok()) {
        return match field(message.payload, b"\"last_seq\":") {
            Some(after) => events(Event::Joined { group, after: Some(after) }),
            None => events(Event::Failed(format!("no stream: {}", String::from_utf8_lossy(message.payload)))),
        };
    }
    let Some(number) = Number::of_text(word) else {
        return events(Event::Broken("an answer to no question".to_owned()));
    };
    let refused = |why: &str, events: &mut dyn FnMut(Event<'_>)| {
        // Whether the server took it or not, `Nats-Msg-Id` makes the next try safe.
        events(Event::Refused { number, retry_after_ms: Some(RETRY_AFTER_MS), unknown: true, why });
    };
    if message.status() == Some(503) {
        return refused("no leader", events);
    }
    match serde_json::from_slice::<PublishAnswer<'_>>(message.payload) {
        Ok(PublishAnswer { error: Some(error), .. }) => refused(&error.description, events),
        Ok(answer) => {
            events(Event::Acked { number, seq: Some(answer.seq), duplicate: answer.duplicate });
        }
        Err(_) => events(Event::Broken("an answer that cannot be read".to_owned())),
    }
}

/// The number behind the first `name` in a JSON text.
fn field(json: &[u8], name: &[u8]) -> Option<u64> {
    let at = json.windows(name.len()).position(|window| window == name)?;
    leading_number(json[at + name.len()..].trim_ascii_start())
}

/// `i.<user>.`: one subscription gets every answer.
fn push_inbox(out: &mut Vec<u8>, user: u32) {
    out.extend_from_slice(b"i.");
    push_number(out, user.into());
    out.push(b'.');
}

/// Decimal digits, without the machinery of `write!`: a publish has four numbers.
fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let start = out.len();
    loop {
        out.push(b'0' + (number % 10) as u8);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out[start..].reverse();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a frame makes of a session: what is sent, and what is reported.
    fn receive(nats: &Nats, session: &mut NatsSession, message: &[u8]) -> (String, Vec<String>) {
        let (mut bytes, mut events) = (Vec::new(), Vec::new());
        let mut report = |event: Event<'_>| events.push(format!("{event:?}"));
        nats.receive(session, message, &mut Outbox::new(&mut bytes), &mut report);
        (payload(&bytes), events)
    }

    /// The payload of a single frame shorter than 64 KiB.
    fn payload(frame: &[u8]) -> String {
        let header = match frame.get(1) {
            None => 0,
            Some(0xfe) => 8,
            Some(_) => 6,
        };
        String::from_utf8_lossy(&frame[header..]).into_owned()
    }

    fn ready(nats: &Nats) -> NatsSession {
        let mut session = nats.session(7);
        let (sent, events) = receive(nats, &mut session, b"INFO {\"headers\":true} \r\n");
        assert!(sent.starts_with("CONNECT {") && sent.ends_with("\r\nSUB i.7.* 1\r\nPING\r\n"), "{sent}");
        assert!(events.is_empty());
        assert_eq!(receive(nats, &mut session, b"PONG\r\n").1, ["Ready"]);
        session
    }

    const NUMBER: Number = Number { lane: 3, place: 9 };

    #[test]
    fn a_member_subscribes_and_sees_what_was_stored() {
        let nats = Nats::new(4, 16);
        let mut session = ready(&nats);
        let mut bytes = Vec::new();
        nats.join(&mut session, 21, &mut Outbox::new(&mut bytes));
        assert_eq!(payload(&bytes), "SUB m.4.5.21 23\r\nPUB $JS.API.STREAM.INFO.R4B5 i.7.j21 0\r\n\r\n");
        let info = br#"{"type":"x","state":{"messages":0,"last_seq":40,"consumer_count":0}}"#;
        let answer = [format!("MSG i.7.j21 1 {}\r\n", info.len()).as_bytes(), info, b"\r\n"].concat();
        assert_eq!(receive(&nats, &mut session, &answer).1, ["Joined { group: 21, after: Some(40) }"]);

        // Two messages in a frame and a half.
        let stored = b"HMSG m.4.5.21 23 33 49\r\nNATS/1.0\r\nNats-Sequence: 41\r\n\r\n\r\n0000000300000009\r\n";
        let stream = [&stored[..], b"PING\r\n", &stored[..]].concat();
        let cut = stored.len() + 20;
        let (sent, events) = receive(&nats, &mut session, &stream[..cut]);
        assert_eq!((sent.as_str(), events.len()), ("PONG\r\n", 1));
        assert!(events[0].starts_with("Delivered { group: 21, seq: Some(41), number: Number { lane: 3, place: 9 }"));
        assert_eq!(receive(&nats, &mut session, &stream[cut..]).1, events);
        assert!(session.partial.is_empty());
    }

    #[test]
    fn a_publish_is_acked_or_tried_again() {
        let nats = Nats::new(4, 1);
        let mut session = ready(&nats);
        let mut bytes = Vec::new();
        nats.send(&mut session, NUMBER, 2, "0000000300000009 hello", &mut Outbox::new(&mut bytes));
        let expected = "HPUB g.4.0.2 i.7.0000000300000009 43 65\r\nNATS/1.0\r\n\
            Nats-Msg-Id: 0000000300000009\r\n\r\n0000000300000009 hello\r\n";
        assert_eq!(payload(&bytes), expected);

        let answer = |session: &mut NatsSession, body: &str| {
            let frame = format!("MSG i.7.0000000300000009 1 {}\r\n{body}\r\n", body.len());
            receive(&nats, session, frame.as_bytes()).1.concat()
        };
        let acked = "Acked { number: Number { lane: 3, place: 9 }, seq: Some(5), duplicate: ";
        assert_eq!(answer(&mut session, r#"{"stream":"B0", "seq":5}"#), format!("{acked}false }}"));
        let duplicate = answer(&mut session, r#"{"stream":"B0", "seq":5,"duplicate": true}"#);
        assert_eq!(duplicate, format!("{acked}true }}"));
        let error = r#"{"error":{"code":503,"description":"insufficient \"resources\""},"seq":0}"#;
        assert!(answer(&mut session, error).starts_with("Refused"));
        let nobody = b"HMSG i.7.0000000300000009 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n";
        assert!(receive(&nats, &mut session, nobody).1[0].contains("no leader"));
    }

    #[test]
    fn what_is_not_expected_is_reported() {
        let nats = Nats::new(4, 1);
        let mut session = ready(&nats);
        assert!(receive(&nats, &mut session, b"-ERR 'Stale Connection'\r\n").1[0].starts_with("Failed"));
        assert!(receive(&nats, &mut session, b"PONG\r\n").1[0].starts_with("Broken"));
        assert!(receive(&nats, &mut session, b"MSG m.4.0.0 2 3\r\nabc\r\n").1[0].starts_with("Broken"));
        assert!(receive(&nats, &mut session, b"MSG i.7.x 1 3\r\nabc\r\n").1[0].starts_with("Broken"));
        assert!(receive(&nats, &mut session, b"nonsense\r\n").1[0].starts_with("Failed"));
    }
}
