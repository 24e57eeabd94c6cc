//! NATS JetStream inside WebSocket frames.
//!
//! A group is a subject of a stream with three replicas. A send is a JetStream publish with a `Nats-Msg-Id` (the server
//! drops duplicates by it); its ack says that a majority stored it. The stream republishes what it stored, in its
//! order and with its sequence, and members subscribe to that: the cheapest way in NATS in which all members see the
//! same order, after commit. [`session`] has what a client does about what is lost or repeated when a leader dies.

mod session;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

use std::borrow::Cow;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use wire::{Malformed, Message, Operation, leading_number, number};

pub use self::session::NatsSession;
use self::session::{Look, Seat};
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

    fn stream_of(&self, group: u32) -> u32 {
        group % self.streams
    }

    /// `g.…` is published to, `m.…` is what members see.
    fn push_subject(&self, out: &mut Vec<u8>, kind: u8, group: u32) {
        out.extend_from_slice(&[kind, b'.']);
        push_number(out, self.run.into());
        out.push(b'.');
        push_number(out, self.stream_of(group).into());
        out.push(b'.');
        push_number(out, group.into());
    }

    fn push_subscription(&self, out: &mut Vec<u8>, group: u32) {
        out.extend_from_slice(b"SUB ");
        self.push_subject(out, b'm', group);
        out.push(b' ');
        push_number(out, FIRST_GROUP + u64::from(group));
        out.extend_from_slice(b"\r\n");
    }

    /// Asks the stream's leader for the first message of a group behind those that were seen.
    fn push_question(&self, out: &mut Vec<u8>, user: u32, seat: &Seat) {
        let mut question = format!("{{\"seq\":{},\"next_by_subj\":\"", seat.last + 1).into_bytes();
        self.push_subject(&mut question, b'g', seat.group);
        question.extend_from_slice(b"\"}");
        self.push_request(out, "STREAM.MSG.GET", user, b'g', seat.group, &question);
    }

    /// A request about a group's stream, to be answered to the inbox `i.<user>.<kind><group>`.
    fn push_request(&self, out: &mut Vec<u8>, api: &str, user: u32, kind: u8, group: u32, body: &[u8]) {
        let stream = self.stream(self.stream_of(group));
        out.extend_from_slice(format!("PUB $JS.API.{api}.{stream} ").as_bytes());
        push_inbox(out, user);
        out.push(kind);
        push_number(out, group.into());
        out.push(b' ');
        push_number(out, body.len() as u64);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body);
        out.extend_from_slice(b"\r\n");
    }
}

/// The answer to a publish, or to a question for a message.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    #[serde(borrow)]
    message: Option<Stored<'a>>,
    #[serde(borrow)]
    error: Option<ApiError<'a>>,
}

#[derive(Deserialize)]
struct ApiError<'a> {
    code: u16,
    #[serde(borrow, default)]
    description: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Stored<'a> {
    seq: u64,
    /// The payload in base64.
    #[serde(borrow, default)]
    data: Cow<'a, str>,
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
        NatsSession::new(user)
    }

    /// The server begins; what to go on from is asked for after that.
    fn opened(&self, session: &mut NatsSession, have: &[(u32, u64)], _out: &mut Outbox<'_>) {
        *session = NatsSession::new(session.user);
        session.seats.extend(have.iter().map(|(group, last)| Seat::after_a_loss(*group, *last)));
    }

    /// Subscribes, then asks the stream's leader for its last sequence. The question follows the subscription on the
    /// way to the leader, so that its answer says that the leader's node knows of the subscription.
    fn join(&self, session: &mut NatsSession, group: u32, out: &mut Outbox<'_>) {
        session.seats.push(Seat::new(group));
        out.binary(|out| {
            self.push_subscription(out, group);
            self.push_request(out, "STREAM.INFO", session.user, b'j', group, b"");
        });
    }

    fn send(&self, session: &mut NatsSession, number: Number, group: u32, text: &str, out: &mut Outbox<'_>) {
        const HEADERS: &[u8] = b"NATS/1.0\r\nNats-Msg-Id: ";
        let digits = &text.as_bytes()[..NUMBER_DIGITS];
        let headers = HEADERS.len() + digits.len() + 4;
        session.publishes.sent(number, self.stream_of(group));
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
            let used = self.operations(session, message, out, events);
            session.partial.extend_from_slice(&message[used..]);
            return;
        }
        let mut bytes = std::mem::take(&mut session.partial);
        bytes.extend_from_slice(message);
        let used = self.operations(session, &bytes, out, events);
        if used < bytes.len() {
            bytes.drain(..used);
            session.partial = bytes;
        }
    }
}

impl Nats {
    /// Acts on every whole operation; how many bytes they were.
    fn operations(
        &self,
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
                    self.act(session, operation, out, events);
                }
                Ok(None) => return used,
                Err(Malformed) => {
                    events(Event::Failed(Malformed.to_string()));
                    return bytes.len();
                }
            }
        }
    }

    fn act(
        &self,
        session: &mut NatsSession,
        operation: Operation<'_>,
        out: &mut Outbox<'_>,
        events: &mut impl FnMut(Event<'_>),
    ) {
        match operation {
            Operation::Message(message) if message.subscription == INBOX => {
                self.answered(session, message, out, events);
            }
            Operation::Message(message) => self.delivered(session, message, out, events),
            Operation::Ping => out.binary(|out| out.extend_from_slice(b"PONG\r\n")),
            Operation::Pong => match session.pings.pop_front() {
                Some(None) => events(Event::Ready),
                Some(Some(ask)) => events(Event::Answered { ask }),
                None => events(Event::Broken("a PONG without a PING".to_owned())),
            },
            // Sent again whenever the cluster changes.
            Operation::Info if session.greeted => {}
            Operation::Info => self.greet(session, out),
            Operation::Ok => {}
            Operation::Error(why) => events(Event::Failed(why.to_owned())),
        }
    }

    fn greet(&self, session: &mut NatsSession, out: &mut Outbox<'_>) {
        session.greeted = true;
        session.pings.push_back(None);
        out.binary(|out| {
            out.extend_from_slice(CONNECT);
            out.extend_from_slice(b"SUB ");
            push_inbox(out, session.user);
            out.extend_from_slice(b"* 1\r\n");
            for seat in &session.seats {
                self.push_subscription(out, seat.group);
                self.push_question(out, session.user, seat);
            }
            out.extend_from_slice(b"PING\r\n");
        });
    }

    /// A member sees a message.
    fn delivered(
        &self,
        session: &mut NatsSession,
        message: Message<'_>,
        out: &mut Outbox<'_>,
        events: &mut impl FnMut(Event<'_>),
    ) {
        let user = session.user;
        let group = message.subscription.wrapping_sub(FIRST_GROUP) as u32;
        let seat = session.seats.iter_mut().find(|seat| seat.group == group);
        let (Some(seat), Some(seq)) = (seat, message.header_number(b"Nats-Sequence")) else {
            return events(Event::Broken("a message that no stream republished to a member".to_owned()));
        };
        // Without this header it is the subject's first message.
        let before = message.header_number(b"Nats-Last-Sequence").unwrap_or_default();
        match seat.look(seq, before) {
            Look::Take => report(group, seq, message.payload, events),
            Look::Drop => {}
            Look::Ask => out.binary(|out| self.push_question(out, user, seat)),
        }
    }

    /// The answer to a publish, a join or a question, by the last word of the inbox.
    fn answered(
        &self,
        session: &mut NatsSession,
        message: Message<'_>,
        out: &mut Outbox<'_>,
        events: &mut impl FnMut(Event<'_>),
    ) {
        let word = message.subject.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
        let group = |digits| number(digits).and_then(|group| u32::try_from(group).ok());
        match word.split_first() {
            Some((b'j', digits)) => joined(session, group(digits), message, events),
            Some((b'g', digits)) => self.found(session, group(digits), message, out, events),
            _ => published(session, Number::of_text(word), message, events),
        }
    }

    /// A message that was missing, or that there is none.
    fn found(
        &self,
        session: &mut NatsSession,
        group: Option<u32>,
        message: Message<'_>,
        out: &mut Outbox<'_>,
        events: &mut impl FnMut(Event<'_>),
    ) {
        let user = session.user;
        let seat = session.seats.iter_mut().find(|seat| Some(seat.group) == group);
        let answer = serde_json::from_slice::<Answer<'_>>(message.payload);
        let (Some(seat), Ok(answer)) = (seat, answer) else { return };
        let (seq, text) = match (answer.message, answer.error) {
            (Some(stored), _) => (Some(stored.seq), BASE64_STANDARD.decode(stored.data.as_bytes()).unwrap_or_default()),
            (None, Some(ApiError { code: 404, .. })) => (None, Vec::new()),
            // Nobody leads: messages that come later lead to the next question.
            (None, _) => return,
        };
        if let Some(seq) = seq.filter(|seq| *seq > seat.last) {
            report(seat.group, seq, &text, events);
        }
        if seat.found(seq) {
            out.binary(|out| self.push_question(out, user, seat));
        }
    }
}

fn report(group: u32, seq: u64, text: &[u8], events: &mut impl FnMut(Event<'_>)) {
    match Number::of_text(text) {
        Some(number) => events(Event::Delivered { group, seq: Some(seq), number, text }),
        None => events(Event::Broken("a message that is not of this run".to_owned())),
    }
}

fn joined(session: &mut NatsSession, group: Option<u32>, message: Message<'_>, events: &mut impl FnMut(Event<'_>)) {
    let seat = session.seats.iter_mut().find(|seat| Some(seat.group) == group);
    let (Some(seat), Some(last)) = (seat, field(message.payload, b"\"last_seq\":")) else {
        return events(Event::Failed(format!("no stream: {}", String::from_utf8_lossy(message.payload))));
    };
    seat.last = seat.last.max(last);
    events(Event::Joined { group: seat.group, after: Some(seat.last) });
}

fn published(
    session: &mut NatsSession,
    number: Option<Number>,
    message: Message<'_>,
    events: &mut impl FnMut(Event<'_>),
) {
    let Some(number) = number else {
        return events(Event::Broken("an answer to no question".to_owned()));
    };
    let mut refused = |number: Number, why: &str| {
        // Whether the server took it or not, `Nats-Msg-Id` makes the next try safe.
        events(Event::Refused { number, retry_after_ms: Some(RETRY_AFTER_MS), unknown: true, why });
    };
    let answer = serde_json::from_slice::<Answer<'_>>(message.payload);
    // A new leader may answer what the old one answered.
    if !session.publishes.answered(number, |lost| refused(lost, "no answer")) {
        return;
    }
    match answer {
        _ if message.status() == Some(503) => refused(number, "no leader"),
        Ok(Answer { error: Some(error), .. }) => refused(number, &error.description),
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
