//! Campanile's own protocol (docs/PROTOCOL.md).
//!
//! The frames that make up nearly all of a load, `event` and `ack`, are read by [`fast`] in the form in which a node
//! writes them; whatever has another form is read by serde. Both lead to the same checks.

mod fast;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use chat::ids::GroupId;
use chat::wire::{Body, EventContent, PATH, SUBPROTOCOL, ServerFrame, WireError, WireEvent};

use crate::check::marks::AHEAD;
use crate::target::unix_ms;

use super::{Ask, Event, Handshake, Number, Order, Outbox, Protocol};

/// Ids of requests that are no sends; those are below.
const SETUP: u64 = 1 << 62;
const LOGIN: u64 = SETUP | 1;
const RESUME: u64 = SETUP | 2;
const ASK: u64 = SETUP | 1 << 61;
/// Characters of an id before what tells its message: the time it was made.
const TIME_DIGITS: usize = 13;
/// When an error that may be repeated names no time.
const RETRY_AFTER_MS: u64 = 100;

/// A conversation of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Group(GroupId),
    /// Two users, by number.
    Pair(u32, u32),
}

/// Who takes part in a run, as the driver needs to know it.
pub struct Cast {
    /// Tells this run's ids from those of others.
    pub run: u32,
    /// Unix milliseconds; part of ids.
    pub began_ms: u64,
    /// User ids and tokens, by number.
    pub users: Vec<String>,
    pub tokens: Vec<String>,
    pub places: Vec<Place>,
    /// Of each lane, the user who sends.
    pub lane_users: Vec<u32>,
    pub device: String,
}

pub struct Campanile {
    cast: Cast,
    /// `g:…` or `p:…:…`, by place.
    conversations: Vec<String>,
    pairs: HashMap<String, u32>,
    /// What the ids of all messages have between their time and the lane.
    id_middle: String,
    /// When the newest messages of each lane were made, for their ids: place and milliseconds of the run, by place
    /// modulo [`AHEAD`]. Only the lane's own worker writes there.
    made: Vec<AtomicU64>,
}

/// A connection.
pub struct Session {
    user: u32,
    /// To be resumed from, once the login is answered.
    have: Vec<(u32, u64)>,
}

/// The id of a run's group: a UUIDv7 that ends with the group's number.
pub fn group_id(run: u32, began_ms: u64, group: u32) -> GroupId {
    let mut random = [0; 10];
    random[2..6].copy_from_slice(&run.to_be_bytes());
    random[6..].copy_from_slice(&group.to_be_bytes());
    GroupId(uuid::Builder::from_unix_timestamp_millis(began_ms, &random).into_uuid())
}

impl Campanile {
    pub fn new(cast: Cast) -> Self {
        let name = |place: &Place| match place {
            Place::Group(id) => format!("g:{}", id.0),
            Place::Pair(a, b) => {
                let (a, b) = (&cast.users[*a as usize], &cast.users[*b as usize]);
                if a <= b { format!("p:{a}:{b}") } else { format!("p:{b}:{a}") }
            }
        };
        let conversations: Vec<String> = cast.places.iter().map(name).collect();
        let numbered = conversations.iter().zip(0..).filter(|(name, _)| name.starts_with('p'));
        let pairs = numbered.map(|(name, number)| (name.clone(), number)).collect();
        let id_middle = format!("-7{:03x}-", cast.run & 0xfff);
        let made = (0..cast.lane_users.len() * AHEAD as usize).map(|_| AtomicU64::new(0)).collect();
        Self { conversations, pairs, id_middle, made, cast }
    }

    /// The id of a place: `g:…` or `p:…:…`.
    pub fn conversation(&self, place: u32) -> &str {
        &self.conversations[place as usize]
    }

    /// When a message is sent for the first time, in Unix milliseconds; the same again in every later attempt.
    fn made_ms(&self, number: Number) -> u64 {
        let place = u64::from(number.place);
        let ring = self.made.get(number.lane as usize * AHEAD as usize..).unwrap_or_default();
        let Some(slot) = ring.get((number.place % AHEAD) as usize) else { return self.cast.began_ms };
        let known = slot.load(Ordering::Relaxed);
        if known >> 32 == place {
            return self.cast.began_ms + (known & u64::from(u32::MAX));
        }
        let since_ms = unix_ms().saturating_sub(self.cast.began_ms) & u64::from(u32::MAX);
        slot.store(place << 32 | since_ms, Ordering::Relaxed);
        self.cast.began_ms + since_ms
    }

    /// A message's `client_msg_id`: a UUIDv7 of the moment it was made.
    fn message_id(&self, number: Number, made_ms: u64) -> [u8; 36] {
        let mut digits = [0; super::NUMBER_DIGITS];
        number.write(&mut digits);
        // The variant's two bits stand above the lane's thirty.
        digits[0] = b"89ab"[usize::from(digits[0] - b'0') & 3];
        let mut id = [b'-'; 36];
        for (at, digit) in (0..8).chain(9..13).enumerate() {
            id[digit] = b"0123456789abcdef"[(made_ms >> (44 - 4 * at) & 15) as usize];
        }
        id[TIME_DIGITS..19].copy_from_slice(self.id_middle.as_bytes());
        id[19..23].copy_from_slice(&digits[..4]);
        id[24..].copy_from_slice(&digits[4..]);
        id
    }

    fn place(&self, conversation: &[u8]) -> Option<u32> {
        if conversation.starts_with(b"p:") {
            return self.pairs.get(std::str::from_utf8(conversation).ok()?).copied();
        }
        let digits = conversation.last_chunk::<8>()?;
        let number = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        let name = self.conversations.get(number as usize)?;
        (name.as_bytes() == conversation).then_some(number)
    }

    /// A message that arrived, if everything about it is as it was sent.
    fn delivered<'a>(&self, message: fast::Message<'a>) -> Result<Event<'a>, String> {
        let fast::Message { conversation, seq, from, id, text } = message;
        let told = |what: &str| format!("{what}: {} in {}", lossy(id), lossy(conversation));
        let group =
            self.place(conversation).ok_or_else(|| told("a message of a conversation that is not the run's"))?;
        let number = Number::of_text(text).ok_or_else(|| told("a message that was never sent"))?;
        if self.message_id(number, 0)[TIME_DIGITS..] != id[TIME_DIGITS.min(id.len())..] {
            return Err(told("a message under another id than its text says"));
        }
        let sender =
            self.cast.lane_users.get(number.lane as usize).map(|user| self.cast.users[*user as usize].as_bytes());
        if sender != Some(from) {
            return Err(told("a message from somebody else"));
        }
        Ok(Event::Delivered { group, seq: Some(seq), number, text })
    }

    fn event(&self, event: &WireEvent, events: &mut impl FnMut(Event<'_>)) {
        let conversation = event.conversation.to_string();
        let EventContent::Message { from, client_msg_id, body, .. } = &event.content else {
            match self.place(conversation.as_bytes()) {
                Some(group) => events(Event::Passed { group, seq: event.seq }),
                None => events(Event::Broken(format!("an event of {conversation}, which is not the run's"))),
            }
            return;
        };
        let Some(Body::Text { text } | Body::Action { text }) = body else {
            return events(Event::Broken("a message of a kind that the run does not send".to_owned()));
        };
        let id = client_msg_id.0.to_string();
        let message = fast::Message {
            conversation: conversation.as_bytes(),
            seq: event.seq,
            from: from.as_str().as_bytes(),
            id: id.as_bytes(),
            text: text.as_bytes(),
        };
        events(self.delivered(message).unwrap_or_else(Event::Broken));
    }

    fn frame(
        &self,
        session: &mut Session,
        frame: ServerFrame,
        out: &mut Outbox<'_>,
        events: &mut impl FnMut(Event<'_>),
    ) {
        match frame {
            // A request while the login is being answered would be out of order.
            ServerFrame::Hello { .. } => self.resume(&std::mem::take(&mut session.have), out),
            ServerFrame::Resumed { conversations, .. } => {
                for resumed in conversations.into_iter().filter(|resumed| !resumed.gone) {
                    let name = resumed.conversation.to_string();
                    if let Some(group) = self.place(name.as_bytes()) {
                        events(Event::Joined { group, after: Some(resumed.live_after) });
                    }
                }
                events(Event::Ready);
            }
            ServerFrame::ConversationAdded { conversation, live_after } => {
                if let Some(group) = self.place(conversation.to_string().as_bytes()) {
                    events(Event::Joined { group, after: Some(live_after) });
                }
            }
            ServerFrame::Event { event } => self.event(&event, events),
            ServerFrame::Ack { re, seq, duplicate, .. } => ack(re, seq, duplicate, events),
            ServerFrame::History { re, .. }
            | ServerFrame::Conversations { re, .. }
            | ServerFrame::Members { re, .. }
            | ServerFrame::Group { re, .. }
            | ServerFrame::Refreshed { re, .. }
            | ServerFrame::Devices { re, .. }
            | ServerFrame::Done { re }
            | ServerFrame::JoinRequests { re, .. }
            | ServerFrame::Bans { re, .. }
            | ServerFrame::Pins { re, .. }
            | ServerFrame::Synced { re, .. }
            | ServerFrame::Profiles { re, .. }
            | ServerFrame::Readers { re, .. }
            | ServerFrame::UnreadTotal { re, .. }
            | ServerFrame::Pong { re } => events(Event::Answered { ask: re as u32 }),
            ServerFrame::Error { re, error } => refused(re, &error, events),
            ServerFrame::MustResync { conversation, .. } => {
                events(Event::Broken(format!("{conversation} had to be read anew")));
            }
            ServerFrame::ConversationRemoved { conversation } => {
                events(Event::Broken(format!("a member of {conversation} was removed")));
            }
            // The close that follows a goaway counts as a lost connection.
            ServerFrame::ReadMoved { .. }
            | ServerFrame::DeliveredMoved { .. }
            | ServerFrame::ItemsChanged { .. }
            | ServerFrame::DeletedForMe { .. }
            | ServerFrame::Stream { .. }
            | ServerFrame::JoinAsked { .. }
            | ServerFrame::Goaway { .. } => {}
            // Nothing of the moment is asked for.
            ServerFrame::Presence { .. }
            | ServerFrame::Privacy { .. }
            | ServerFrame::Typing { .. }
            | ServerFrame::Signal { .. } => {}
        }
    }

    fn log_in(&self, session: &Session, out: &mut Outbox<'_>) {
        let token = &self.cast.tokens[session.user as usize];
        let device = &self.cast.device;
        out.text(|frame| {
            push(frame, "{\"id\":");
            push_number(frame, LOGIN);
            push(frame, ",\"type\":\"login\",\"auth\":{\"token\":\"");
            push(frame, token);
            push(frame, "\"},\"device\":{\"id\":\"");
            push(frame, device);
            push(frame, "\",\"platform\":\"server\",\"name\":\"\"}}");
        });
    }

    fn resume(&self, have: &[(u32, u64)], out: &mut Outbox<'_>) {
        out.text(|frame| {
            push(frame, "{\"id\":");
            push_number(frame, RESUME);
            push(frame, ",\"type\":\"resume\",\"have\":[");
            for (at, (group, seq)) in have.iter().enumerate() {
                push(frame, if at == 0 { "{\"conversation\":\"" } else { ",{\"conversation\":\"" });
                push(frame, &self.conversations[*group as usize]);
                push(frame, "\",\"seq\":");
                push_number(frame, *seq);
                push(frame, "}");
            }
            push(frame, "]}");
        });
    }
}

impl Protocol for Campanile {
    type Session = Session;

    fn handshake(&self) -> Handshake {
        Handshake { path: PATH.to_owned(), subprotocol: Some(SUBPROTOCOL.to_owned()) }
    }

    fn order(&self) -> Order {
        Order::Dense
    }

    fn session(&self, user: u32) -> Session {
        Session { user, have: Vec::new() }
    }

    fn opened(&self, session: &mut Session, have: &[(u32, u64)], out: &mut Outbox<'_>) {
        session.have = have.to_vec();
        self.log_in(session, out);
    }

    /// Whoever makes the group makes its members.
    fn join(&self, _session: &mut Session, _group: u32, _out: &mut Outbox<'_>) {}

    fn send(&self, session: &mut Session, number: Number, group: u32, text: &str, out: &mut Outbox<'_>) {
        out.text(|frame| {
            push(frame, "{\"id\":");
            push_number(frame, number.bits());
            match self.cast.places[group as usize] {
                Place::Group(_) => {
                    push(frame, ",\"type\":\"send\",\"to\":{\"group\":\"");
                    push(frame, &self.conversations[group as usize][2..]);
                }
                Place::Pair(a, b) => {
                    push(frame, ",\"type\":\"send\",\"to\":{\"user\":\"");
                    push(frame, &self.cast.users[if session.user == a { b } else { a } as usize]);
                }
            }
            push(frame, "\"},\"client_msg_id\":\"");
            frame.extend_from_slice(&self.message_id(number, self.made_ms(number)));
            push(frame, "\",\"body\":{\"kind\":\"text\",\"text\":\"");
            push(frame, text);
            push(frame, "\"}}");
        });
    }

    fn ask(&self, _session: &mut Session, ask: u32, what: Ask, out: &mut Outbox<'_>) -> bool {
        out.text(|frame| {
            push(frame, "{\"id\":");
            push_number(frame, ASK | u64::from(ask));
            let rest = match what {
                Ask::Read { group, seq } => {
                    let name = &self.conversations[group as usize];
                    format!(",\"type\":\"read\",\"conversation\":\"{name}\",\"seq\":{seq}}}")
                }
                Ask::History { group } => {
                    let name = &self.conversations[group as usize];
                    format!(",\"type\":\"history\",\"conversation\":\"{name}\",\"before\":{},\"limit\":50}}", u32::MAX)
                }
                Ask::Conversations => ",\"type\":\"conversations\",\"limit\":50}".to_owned(),
                Ask::Ping => ",\"type\":\"ping\"}".to_owned(),
            };
            push(frame, &rest);
        });
        true
    }

    fn receive(&self, session: &mut Session, message: &[u8], out: &mut Outbox<'_>, events: &mut impl FnMut(Event<'_>)) {
        match fast::read(message) {
            Some(fast::Frame::Message(message)) => events(self.delivered(message).unwrap_or_else(Event::Broken)),
            Some(fast::Frame::Ack { re, seq, duplicate }) => ack(re, seq, duplicate, events),
            None => match serde_json::from_slice(message) {
                Ok(frame) => self.frame(session, frame, out, events),
                Err(error) => {
                    events(Event::Failed(format!("not a frame of the protocol ({error}): {}", lossy(message))))
                }
            },
        }
    }
}

fn ack(re: u64, seq: u64, duplicate: bool, events: &mut impl FnMut(Event<'_>)) {
    if re & SETUP == 0 {
        events(Event::Acked { number: Number::from_bits(re), seq: Some(seq), duplicate });
    } else {
        events(Event::Answered { ask: re as u32 });
    }
}

fn refused(re: Option<u64>, error: &WireError, events: &mut impl FnMut(Event<'_>)) {
    let why = format!("C{} {}", error.code, error.name);
    match re {
        Some(re) if re & SETUP == 0 => {
            let unknown = error.effect == chat::errors::Effect::Unknown;
            let retry_after_ms = error.retryable.then(|| error.retry_after_ms.unwrap_or(RETRY_AFTER_MS));
            events(Event::Refused { number: Number::from_bits(re), retry_after_ms, unknown, why: &why });
        }
        Some(re) if re & ASK == ASK => events(Event::Declined { ask: re as u32, why: &why }),
        _ => events(Event::Failed(why)),
    }
}

fn push(frame: &mut Vec<u8>, text: &str) {
    frame.extend_from_slice(text.as_bytes());
}

/// Decimal digits, without the formatting machinery.
fn push_number(frame: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    frame.extend_from_slice(&digits[at..]);
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned()
}

#[cfg(test)]
mod tests;
