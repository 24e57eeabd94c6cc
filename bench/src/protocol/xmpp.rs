//! XMPP over WebSocket (RFC 7395): one stanza per text message. Groups are persistent multi-user chat rooms (XEP-0045)
//! with an archive (XEP-0313).
//!
//! A room answers no send: its echo to the sender, with the archive's id of the message, is the ack. Stanzas are read
//! by scanning what ejabberd writes, not by an XML parser: a load generator shares the machine with what it measures.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::{Ask, Event, Handshake, NUMBER_DIGITS, Number, Order, Outbox, Protocol};

const OPEN: &[u8] = b"<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='localhost' version='1.0'/>";
const BIND: &[u8] = b"<iq xmlns='jabber:client' type='set' id='bind'>\
    <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>b</resource></bind></iq>";
const ROOMS: &str = "@conference.localhost";
/// Every account's, on a server that listens on loopback and is thrown away after the run.
const PASSWORD: &str = "secret";
/// Servers say `wait` without saying how long.
const RETRY_AFTER_MS: u64 = 100;

/// Shared by all connections of a run.
#[derive(Debug, Clone)]
pub struct Xmpp {
    /// What the names of the run's rooms begin with.
    prefix: String,
}

impl Xmpp {
    pub fn new(prefix: String) -> Self {
        Self { prefix }
    }

    fn group(&self, room: &[u8]) -> Option<u32> {
        let digits = room.strip_prefix(self.prefix.as_bytes())?.strip_suffix(ROOMS.as_bytes())?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    fn push_room(&self, out: &mut Vec<u8>, group: u32) {
        out.extend_from_slice(format!("{}{group}{ROOMS}", self.prefix).as_bytes());
    }
}

/// What is remembered of a connection.
#[derive(Debug)]
pub struct XmppSession {
    user: u32,
    nick: String,
    ready: bool,
}

impl Protocol for Xmpp {
    type Session = XmppSession;

    fn handshake(&self) -> Handshake {
        Handshake { path: "/ws".to_owned(), subprotocol: Some("xmpp".to_owned()) }
    }

    fn order(&self) -> Order {
        // The archive's ids are the room's clock in microseconds.
        Order::Increasing
    }

    fn session(&self, user: u32) -> XmppSession {
        XmppSession { user, nick: format!("u{user}"), ready: false }
    }

    fn opened(&self, session: &mut XmppSession, _have: &[(u32, u64)], out: &mut Outbox<'_>) {
        session.ready = false;
        out.text(|out| out.extend_from_slice(OPEN));
    }

    fn join(&self, session: &mut XmppSession, group: u32, out: &mut Outbox<'_>) {
        out.text(|out| {
            out.extend_from_slice(b"<presence xmlns='jabber:client' to='");
            self.push_room(out, group);
            out.push(b'/');
            out.extend_from_slice(session.nick.as_bytes());
            out.extend_from_slice(b"'><x xmlns='http://jabber.org/protocol/muc'/></presence>");
        });
    }

    fn send(&self, _session: &mut XmppSession, _number: Number, group: u32, text: &str, out: &mut Outbox<'_>) {
        out.text(|out| {
            out.extend_from_slice(b"<message xmlns='jabber:client' type='groupchat' to='");
            self.push_room(out, group);
            out.extend_from_slice(b"' id='");
            out.extend_from_slice(&text.as_bytes()[..NUMBER_DIGITS]);
            out.extend_from_slice(b"'><body>");
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(b"</body></message>");
        });
    }

    fn ask(&self, session: &mut XmppSession, ask: u32, what: Ask, out: &mut Outbox<'_>) -> bool {
        if what != Ask::Ping || !session.ready {
            return false;
        }
        // Whatever a server thinks of this request, it answers with the same id (RFC 6120 §8.2.3).
        let request = format!(
            "<iq xmlns='jabber:client' type='get' to='localhost' id='a{ask}'><ping xmlns='urn:xmpp:ping'/></iq>"
        );
        out.text(|out| out.extend_from_slice(request.as_bytes()));
        true
    }

    fn receive(
        &self,
        session: &mut XmppSession,
        message: &[u8],
        out: &mut Outbox<'_>,
        events: &mut impl FnMut(Event<'_>),
    ) {
        let (name, attributes, content) = split(message);
        match name {
            b"message" => self.groupchat(session, attributes, content, events),
            b"presence" if attribute(attributes, b"type") == Some(b"error") => {
                events(Event::Failed(format!("not let in: {}", String::from_utf8_lossy(message))));
            }
            b"iq" => answered(session, attributes, out, events),
            b"stream:features" => features(session, content, out),
            b"success" => out.text(|out| out.extend_from_slice(OPEN)),
            b"open" | b"presence" => {}
            _ => events(Event::Failed(String::from_utf8_lossy(message).into_owned())),
        }
    }
}

impl Xmpp {
    /// A message of a room: somebody's text, the subject that ends a join, or the refusal of a send.
    fn groupchat(&self, session: &XmppSession, attributes: &[u8], content: &[u8], events: &mut impl FnMut(Event<'_>)) {
        let from = attribute(attributes, b"from").unwrap_or_default();
        let slash = from.iter().position(|byte| *byte == b'/');
        let (room, nick) = slash.map_or((from, &b""[..]), |at| (&from[..at], &from[at + 1..]));
        let Some(group) = self.group(room) else {
            return events(Event::Broken(format!("a message of {}", String::from_utf8_lossy(from))));
        };
        let id = attribute(attributes, b"id").and_then(Number::of_text);
        if attribute(attributes, b"type") == Some(b"error") {
            return refused(id, content, events);
        }
        let Some(text) = between(content, b"<body>", b"</body>") else {
            if between(content, b"<subject", b">").is_some() {
                events(Event::Joined { group, after: None });
            }
            return;
        };
        let Some(number) = Number::of_text(text) else {
            return events(Event::Broken("a message that is not of this run".to_owned()));
        };
        let Some(seq) = archived(content) else {
            return events(Event::Broken("a message that the room did not archive".to_owned()));
        };
        events(Event::Delivered { group, seq: Some(seq), number, text });
        if nick == session.nick.as_bytes() {
            events(Event::Acked { number, seq: Some(seq), duplicate: false });
        }
    }
}

fn refused(number: Option<Number>, content: &[u8], events: &mut impl FnMut(Event<'_>)) {
    let Some(number) = number else {
        return events(Event::Broken("a refusal of something never sent".to_owned()));
    };
    let wait = between(content, b"<error", b">").is_some_and(|error| attribute(error, b"type") == Some(b"wait"));
    let why = between(content, b"<text", b"</text>").unwrap_or_default();
    let retry_after_ms = wait.then_some(RETRY_AFTER_MS);
    events(Event::Refused { number, retry_after_ms, unknown: false, why: &String::from_utf8_lossy(why) });
}

/// What is offered: first to log in, then to bind the connection to an address.
fn features(session: &XmppSession, content: &[u8], out: &mut Outbox<'_>) {
    if contains(content, b"<mechanism>PLAIN</mechanism>") {
        let plain = BASE64_STANDARD.encode(format!("\0{}\0{PASSWORD}", session.nick));
        let auth = format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{plain}</auth>");
        out.text(|out| out.extend_from_slice(auth.as_bytes()));
    } else {
        out.text(|out| out.extend_from_slice(BIND));
    }
}

fn answered(session: &mut XmppSession, attributes: &[u8], out: &mut Outbox<'_>, events: &mut impl FnMut(Event<'_>)) {
    let id = attribute(attributes, b"id").unwrap_or_default();
    let kind = attribute(attributes, b"type").unwrap_or_default();
    let ask = id.strip_prefix(b"a").and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    match (id, kind) {
        (b"bind", b"result") => {
            session.ready = true;
            events(Event::Ready);
        }
        (b"bind", _) => events(Event::Failed(format!("user {} cannot bind", session.user))),
        (_, b"result" | b"error") if let Some(ask) = ask => events(Event::Answered { ask }),
        // A server that asks whether we are there wants any answer (RFC 6120 §8.4).
        (_, b"get") => {
            let id = String::from_utf8_lossy(id);
            let answer = format!("<iq xmlns='jabber:client' type='result' id='{id}'/>");
            out.text(|out| out.extend_from_slice(answer.as_bytes()));
        }
        _ => {}
    }
}

/// The archive's id of a message: microseconds of the room's clock (XEP-0359).
fn archived(content: &[u8]) -> Option<u64> {
    let stanza_id = between(content, b"<stanza-id", b">")?;
    std::str::from_utf8(attribute(stanza_id, b"id")?).ok()?.parse().ok()
}

/// A stanza as the name of its element, the attributes, and what is inside.
fn split(stanza: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let end = stanza.iter().position(|byte| *byte == b'>').unwrap_or(stanza.len());
    let tag = &stanza[usize::from(!stanza.is_empty()).min(end)..end];
    let tag = tag.strip_suffix(b"/").unwrap_or(tag);
    let name = tag.iter().position(|byte| *byte == b' ').unwrap_or(tag.len());
    (&tag[..name], &tag[name..], stanza.get(end + 1..).unwrap_or_default())
}

/// The value of ` name='…'`, in either kind of quotes.
fn attribute<'a>(attributes: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut rest = attributes;
    loop {
        rest = rest.trim_ascii_start();
        let equals = rest.iter().position(|byte| *byte == b'=')?;
        let quote = *rest.get(equals + 1)?;
        let value = &rest[equals + 2..];
        let end = value.iter().position(|byte| *byte == quote)?;
        if &rest[..equals] == name {
            return Some(&value[..end]);
        }
        rest = &value[end + 1..];
    }
}

fn between<'a>(text: &'a [u8], start: &[u8], end: &[u8]) -> Option<&'a [u8]> {
    let from = position(text, start)? + start.len();
    let rest = &text[from..];
    Some(&rest[..position(rest, end)?])
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    position(text, wanted).is_some()
}

/// Looks at each `<` or whatever `wanted` begins with.
fn position(text: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = *wanted.first()?;
    let mut from = 0;
    loop {
        let at = from + text[from..].iter().position(|byte| *byte == first)?;
        if text[at..].starts_with(wanted) {
            return Some(at);
        }
        from = at + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::payload;
    use super::*;

    struct Client {
        xmpp: Xmpp,
        session: XmppSession,
    }

    impl Client {
        fn new() -> Self {
            let xmpp = Xmpp::new("r1-".to_owned());
            Self { session: xmpp.session(7), xmpp }
        }

        fn receive(&mut self, stanza: &str) -> (String, Vec<String>) {
            let (mut bytes, mut events) = (Vec::new(), Vec::new());
            let mut report = |event: Event<'_>| events.push(format!("{event:?}"));
            self.xmpp.receive(&mut self.session, stanza.as_bytes(), &mut Outbox::new(&mut bytes), &mut report);
            (payload(&bytes), events)
        }
    }

    fn written(write: impl FnOnce(&mut Outbox<'_>)) -> String {
        let mut bytes = Vec::new();
        write(&mut Outbox::new(&mut bytes));
        payload(&bytes)
    }

    #[test]
    fn a_client_opens_authenticates_opens_again_and_binds() {
        let mut client = Client::new();
        let opening = written(|out| client.xmpp.opened(&mut client.session, &[], out));
        assert!(opening.starts_with("<open "));
        client.receive("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' id='1' from='localhost'/>");
        let offer = "<stream:features xmlns:stream='s'><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
            <mechanism>SCRAM-SHA-1</mechanism><mechanism>PLAIN</mechanism></mechanisms></stream:features>";
        // "\0u7\0secret"
        assert!(client.receive(offer).0.ends_with(">AHU3AHNlY3JldA==</auth>"));
        assert_eq!(client.receive("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").0, opening);
        let offer = "<stream:features xmlns:stream='s'><bind xmlns='b'/></stream:features>";
        assert!(client.receive(offer).0.contains("<resource>b</resource>"));
        let bound = "<iq xmlns='jabber:client' type='result' id='bind'><bind><jid>u7@localhost/b</jid></bind></iq>";
        assert_eq!(client.receive(bound).1, ["Ready"]);
        assert!(client.receive("<failure xmlns='x'><not-authorized/></failure>").1[0].starts_with("Failed"));
    }

    #[test]
    fn a_room_is_joined_when_its_subject_arrives() {
        let mut client = Client::new();
        let join = written(|out| client.xmpp.join(&mut client.session, 12, out));
        assert!(join.contains(" to='r1-12@conference.localhost/u7'>"), "{join}");
        let presence = "<presence xmlns='jabber:client' from='r1-12@conference.localhost/u7'><x/></presence>";
        assert_eq!(client.receive(presence), (String::new(), vec![]));
        let subject =
            "<message to='u7@localhost/b' from='r1-12@conference.localhost' type='groupchat'><subject/></message>";
        assert_eq!(client.receive(subject).1, ["Joined { group: 12, after: None }"]);
        assert!(
            client.receive("<presence type='error' from='r1-12@conference.localhost'/>").1[0].starts_with("Failed")
        );
    }

    /// As ejabberd 23.01 writes it.
    fn groupchat(nick: &str) -> String {
        format!(
            "<message xmlns='jabber:client' xml:lang='en' to='u7@localhost/b' \
            from='r1-3@conference.localhost/{nick}' type='groupchat' id='0000000300000009'>\
            <archived by='r1-3@conference.localhost' id='1795531842997763' xmlns='urn:xmpp:mam:tmp'/>\
            <stanza-id by='r1-3@conference.localhost' id='1795531842997763' xmlns='urn:xmpp:sid:0'/>\
            <body>0000000300000009 hello</body></message>"
        )
    }

    #[test]
    fn the_echo_of_the_own_message_is_the_ack() {
        let mut client = Client::new();
        let number = Number { lane: 3, place: 9 };
        let sent = written(|out| client.xmpp.send(&mut client.session, number, 3, "0000000300000009 hello", out));
        assert!(sent.contains(" to='r1-3@conference.localhost' id='0000000300000009'><body>0000000300000009 hello<"));

        let (_, events) = client.receive(&groupchat("u8"));
        assert_eq!(events.len(), 1);
        let delivered = "Delivered { group: 3, seq: Some(1795531842997763), number: Number { lane: 3, place: 9 }";
        assert!(events[0].starts_with(delivered), "{events:?}");
        let (_, events) = client.receive(&groupchat("u7"));
        assert!(events[1].starts_with("Acked { number: Number { lane: 3, place: 9 }"), "{events:?}");
    }

    #[test]
    fn a_message_without_an_archive_id_breaks_the_promise() {
        let mut client = Client::new();
        let lost = groupchat("u8").replace("stanza-id", "origin-id");
        assert!(client.receive(&lost).1[0].contains("did not archive"));
        assert!(client.receive(&groupchat("u8").replace("r1-3", "r2-3")).1[0].starts_with("Broken"));
    }

    #[test]
    fn a_refused_message_names_its_number() {
        let mut client = Client::new();
        let refusal = "<message from='r1-3@conference.localhost' type='error' id='0000000300000009'>\
            <error type='wait'><policy-violation/><text xml:lang='en'>too fast</text></error></message>";
        let (_, events) = client.receive(refusal);
        assert!(events[0].contains("retry_after_ms: Some(100)"), "{events:?}");
    }

    #[test]
    fn requests_and_their_answers_share_an_id() {
        let mut client = Client::new();
        client.session.ready = true;
        let ping = written(|out| assert!(client.xmpp.ask(&mut client.session, 5, Ask::Ping, out)));
        assert!(ping.contains(" id='a5'>"));
        assert_eq!(client.receive("<iq type='error' id='a5'><error/></iq>").1, ["Answered { ask: 5 }"]);
        assert!(client.receive("<iq type='get' id='s1'><ping/></iq>").0.contains("type='result' id='s1'"));
    }
}
