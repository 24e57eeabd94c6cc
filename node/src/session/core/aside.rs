//! What a session says and hears beside the log: presence, typing, signals, and its user's wish for privacy.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytestring::ByteString;
use chat::command::UserCommand;
use chat::errors::ErrorCode;
use chat::ids::{ClientMsgId, ConversationId, UserId};
use chat::limits;
use chat::state::record::Privacy;
use chat::wire::{Appearance, ServerFrame, SignalBody};

use super::{Core, Effect, Phase};

/// What is asked of the rest of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::session) enum AsideAsk {
    /// Answered by `Live::PresenceAnswer`.
    Subscribe(Vec<UserId>),
    Unsubscribe(Vec<UserId>),
    Appear(Appearance),
    /// These are answered by `aside_done`, one at a time: so they keep their order.
    Typing(ConversationId),
    Signal(ConversationId, SignalBody),
    SetPrivacy(Privacy),
    Stream(ConversationId, Written),
    /// Something that the user keeps.
    Keep(Box<UserCommand>),
}

/// Part of a message that is being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::session) struct Written {
    pub(in crate::session) id: ClientMsgId,
    pub(in crate::session) offset: u64,
    pub(in crate::session) text: String,
}

/// What of such a message was not told yet, and when it was told last.
struct Untold {
    written: Written,
    told_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum AsideDone {
    Said,
    Privacy(Privacy),
}

#[derive(Default)]
pub(super) struct Asides {
    subscribed: BTreeSet<UserId>,
    /// Subscriptions without an answer.
    subscribing: Vec<u64>,
    /// News of users for which the pipe has no room; the newest of each.
    news: BTreeMap<UserId, ByteString>,
    /// The first one is being done.
    waiting: VecDeque<(u64, AsideAsk)>,
    /// When the user was last said to type where.
    typed_ms: BTreeMap<ConversationId, u64>,
    /// Signals of the second that began then.
    signals: (u64, u32),
    /// At most [`limits::STREAMS`].
    streams: Vec<Untold>,
}

impl Asides {
    pub(super) fn in_flight(&self) -> usize {
        self.subscribing.len() + self.waiting.len()
    }

    pub(super) fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// Whether it is time to say once more that the user is typing.
    fn types(&mut self, now_ms: u64, conversation: &ConversationId) -> bool {
        self.typed_ms.retain(|_, at_ms| now_ms < *at_ms + limits::TYPING_EVERY_MS);
        let first = !self.typed_ms.contains_key(conversation);
        if first {
            self.typed_ms.insert(conversation.clone(), now_ms);
        }
        first
    }

    /// What is to be told now, with what waited; none if it waits. A message of which too many are written at once is refused.
    fn write(&mut self, now_ms: u64, written: Written) -> Result<Option<Written>, ErrorCode> {
        let Some(known) = self.streams.iter_mut().find(|known| known.written.id == written.id) else {
            if self.streams.len() >= limits::STREAMS {
                return Err(ErrorCode::LimitReached);
            }
            let (id, offset) = (written.id, written.offset + written.text.len() as u64);
            let rest = Written { id, offset, text: String::new() };
            self.streams.push(Untold { written: rest, told_ms: now_ms });
            return Ok(Some(written));
        };
        let waits = &mut known.written;
        if waits.offset + waits.text.len() as u64 == written.offset {
            waits.text.push_str(&written.text);
        } else {
            // It was begun anew.
            *waits = written;
        }
        if now_ms < known.told_ms + limits::STREAM_EVERY_MS && waits.text.len() < limits::STREAM_BYTES {
            return Ok(None);
        }
        known.told_ms = now_ms;
        let offset = waits.offset + waits.text.len() as u64;
        let rest = Written { id: waits.id, offset, text: String::new() };
        Ok(Some(std::mem::replace(waits, rest)))
    }

    /// The message is said as a whole.
    pub(super) fn written(&mut self, id: ClientMsgId) {
        self.streams.retain(|known| known.written.id != id);
    }

    fn may_signal(&mut self, now_ms: u64) -> bool {
        let (since_ms, count) = self.signals;
        self.signals = if now_ms < since_ms + 1_000 { (since_ms, count + 1) } else { (now_ms, 1) };
        self.signals.1 <= limits::SIGNALS_PER_S
    }
}

impl Core {
    pub(super) fn aside(&mut self, now_ms: u64, re: u64, ask: AsideAsk) {
        match ask {
            AsideAsk::Subscribe(users) => self.subscribe(re, users),
            AsideAsk::Unsubscribe(ref users) => {
                for user in users {
                    self.asides.subscribed.remove(user);
                    self.asides.news.remove(user);
                }
                self.effects.push(Effect::Aside(re, ask));
                self.write(&ServerFrame::Done { re });
            }
            AsideAsk::Appear(_) => {
                self.effects.push(Effect::Aside(re, ask));
                self.write(&ServerFrame::Done { re });
            }
            // What nobody needs to hear again is taken and said to nobody.
            AsideAsk::Typing(ref conversation) if !self.asides.types(now_ms, conversation) => {
                self.write(&ServerFrame::Done { re });
            }
            AsideAsk::Signal(..) if !self.asides.may_signal(now_ms) => {
                let message = format!("at most {} signals in a second", limits::SIGNALS_PER_S);
                self.error(Some(re), ErrorCode::Overloaded, &message, Some(1_000));
            }
            AsideAsk::Stream(conversation, written) => match self.asides.write(now_ms, written) {
                Ok(Some(written)) => self.wait_aside(re, AsideAsk::Stream(conversation, written)),
                Ok(None) => self.write(&ServerFrame::Done { re }),
                Err(code) => {
                    let message = format!("at most {} messages are written at once", limits::STREAMS);
                    self.error(Some(re), code, &message, None);
                }
            },
            AsideAsk::Typing(_) | AsideAsk::Signal(..) | AsideAsk::SetPrivacy(_) | AsideAsk::Keep(_) => {
                self.wait_aside(re, ask);
            }
        }
    }

    fn wait_aside(&mut self, re: u64, ask: AsideAsk) {
        self.asides.waiting.push_back((re, ask));
        if self.asides.waiting.len() == 1 {
            self.next_aside();
        }
    }

    fn subscribe(&mut self, re: u64, users: Vec<UserId>) {
        if !matches!(self.phase, Phase::Live | Phase::Resuming { .. }) {
            return self.out_of_order(re, "resume first: nothing is pushed before that");
        }
        let all: BTreeSet<UserId> = self.asides.subscribed.iter().chain(&users).cloned().collect();
        if all.len() > limits::PRESENCE_SUBSCRIPTIONS {
            let message = format!("at most {} users", limits::PRESENCE_SUBSCRIPTIONS);
            return self.error(Some(re), ErrorCode::LimitReached, &message, None);
        }
        self.asides.subscribed = all;
        self.asides.subscribing.push(re);
        self.effects.push(Effect::Aside(re, AsideAsk::Subscribe(users)));
    }

    fn next_aside(&mut self) {
        if let Some((re, ask)) = self.asides.waiting.front() {
            self.effects.push(Effect::Aside(*re, ask.clone()));
        }
    }

    pub(in crate::session) fn aside_done(&mut self, done: Result<AsideDone, ErrorCode>) {
        let Some((re, ask)) = self.asides.waiting.pop_front() else { return };
        match done {
            Ok(AsideDone::Said) => self.write(&ServerFrame::Done { re }),
            Ok(AsideDone::Privacy(Privacy { last_seen, online })) => {
                self.write(&ServerFrame::Privacy { re, last_seen, online });
            }
            Err(code) => {
                // It was not said: the next one is the first.
                if let AsideAsk::Typing(conversation) = &ask {
                    self.asides.typed_ms.remove(conversation);
                }
                let message = match code {
                    ErrorCode::NotAMember => "no such conversation, or you are not a member of it",
                    ErrorCode::LimitReached if matches!(ask, AsideAsk::Keep(_)) => "you keep as much as is allowed",
                    ErrorCode::LimitReached => "the group is too large to be told who is typing",
                    ErrorCode::UserNotFound => "no such contact",
                    ErrorCode::NotAccepted => "the other user does not take this from you",
                    _ => "it could not be done",
                };
                self.error(Some(re), code, message, code.retryable().then_some(500));
            }
        }
        self.next_aside();
    }

    // --- what is heard -------------------------------------------------------------------------------------------

    pub(super) fn presence_answer(&mut self, re: u64, frame: &ByteString) {
        let Some(place) = self.asides.subscribing.iter().position(|asked| *asked == re) else { return };
        self.asides.subscribing.swap_remove(place);
        // What waits is older than the answer, or in it.
        self.flush_news();
        self.write_encoded(frame.clone());
    }

    pub(super) fn presence_changed(&mut self, user: &UserId, frame: &ByteString) {
        if !self.asides.subscribed.contains(user) {
            return;
        }
        if self.room() {
            self.write_encoded(frame.clone());
        } else {
            self.asides.news.insert(user.clone(), frame.clone());
        }
    }

    /// Who does not read misses it.
    pub(super) fn overheard(&mut self, conversation: &ConversationId, frame: &ByteString) {
        if self.phase == Phase::Live && self.cursors.has(conversation) && self.room() {
            self.write_encoded(frame.clone());
        }
    }

    pub(super) fn flush_news(&mut self) {
        while self.room() && !self.closing() {
            let Some((_, frame)) = self.asides.news.pop_first() else { return };
            self.write_encoded(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use chat::limits;
    use serde_json::json;

    use super::super::tests::{group, live, ready, told, user};
    use super::*;
    use crate::session::message::Live;

    fn asks(core: &mut Core) -> (Vec<String>, Vec<AsideAsk>) {
        let (written, others) = told(core);
        let asks = others.into_iter().filter_map(|effect| match effect {
            Effect::Aside(_, ask) => Some(ask),
            _ => None,
        });
        (written, asks.collect())
    }

    #[test]
    fn typing_is_said_once_in_a_while_and_a_refusal_does_not_count() {
        let mut core = live(1);
        let frame = |id: u64| json!({"id": id, "type": "typing", "conversation": group(1)}).to_string();
        core.text(0, &frame(3));
        assert_eq!(asks(&mut core), (vec![], vec![AsideAsk::Typing(group(1))]));
        core.aside_done(Err(ErrorCode::NotAMember));
        assert_eq!(asks(&mut core).0, ["error:not_a_member"]);
        core.text(1, &frame(4));
        assert_eq!(asks(&mut core).1.len(), 1);
        core.aside_done(Ok(AsideDone::Said));
        core.text(limits::TYPING_EVERY_MS, &frame(5));
        assert_eq!(asks(&mut core), (vec!["done".to_owned(), "done".to_owned()], vec![]), "taken, and said to nobody");
        core.text(limits::TYPING_EVERY_MS + 1, &frame(6));
        assert_eq!(asks(&mut core).1.len(), 1);
    }

    #[test]
    fn what_is_written_is_told_now_and_then_and_nothing_of_it_is_missing() {
        let mut core = live(1);
        let id = "01936f3e-7c00-7000-8000-000000000045";
        let stream = |re: u64, offset: usize, text: &str| {
            json!({"id": re, "type": "stream", "to": {"user": "bob"}, "client_msg_id": id, "offset": offset, "text": text})
                .to_string()
        };
        let told = |core: &mut Core| {
            let (written, asks) = asks(core);
            let text =
                |ask| if let AsideAsk::Stream(_, written) = ask { (written.offset, written.text) } else { panic!() };
            (written, asks.into_iter().map(text).collect::<Vec<_>>())
        };
        core.text(0, &stream(3, 0, "It "));
        assert_eq!(told(&mut core).1, [(0, "It ".to_owned())]);
        core.aside_done(Ok(AsideDone::Said));
        core.text(10, &stream(4, 3, "is "));
        core.text(20, &stream(5, 6, "no"));
        assert_eq!(told(&mut core), (vec!["done".to_owned(); 3], vec![]), "taken, and told later");
        core.text(limits::STREAM_EVERY_MS, &stream(6, 8, "on"));
        assert_eq!(told(&mut core).1, [(3, "is noon".to_owned())]);
        core.aside_done(Ok(AsideDone::Said));
        core.text(2 * limits::STREAM_EVERY_MS, &stream(7, 0, "Anew"));
        assert_eq!(told(&mut core).1, [(0, "Anew".to_owned())]);
        core.aside_done(Ok(AsideDone::Said));
        for n in 1..limits::STREAMS as u64 {
            core.text(900, &stream(10 + n, 0, "x").replace("045", &format!("{n:03}")));
            core.aside_done(Ok(AsideDone::Said));
        }
        told(&mut core);
        core.text(900, &stream(30, 0, "x").replace("045", "999"));
        assert_eq!(told(&mut core).0, ["error:limit_reached"]);
        let body = json!({"kind": "text", "text": "Anew"});
        core.text(
            900,
            &json!({"id": 31, "type": "send", "to": {"user": "bob"}, "client_msg_id": id, "body": body}).to_string(),
        );
        core.text(900, &stream(32, 0, "x").replace("045", "999"));
        assert_eq!(told(&mut core).1.len(), 1, "what was said makes room");
    }

    #[test]
    fn signals_keep_their_order_and_are_few() {
        let mut core = live(1);
        let frame = |id: u64| json!({"id": id, "type": "signal", "to": {"user": "bob"}, "body": {"n": id}}).to_string();
        for id in 0..u64::from(limits::SIGNALS_PER_S) {
            core.text(0, &frame(id));
        }
        assert_eq!(asks(&mut core).1.len(), 1, "one at a time");
        core.text(999, &frame(99));
        assert_eq!(asks(&mut core).0, ["error:overloaded"]);
        core.aside_done(Ok(AsideDone::Said));
        let (written, next) = asks(&mut core);
        assert_eq!((written.len(), next.len()), (1, 1));
        assert!(matches!(&next[0], AsideAsk::Signal(_, SignalBody::Object(body)) if body["n"] == 1), "{next:?}");
    }

    #[test]
    fn presence_is_subscribed_after_resume_within_its_limit_and_news_waits_for_room() {
        let subscribe = |users: Vec<String>| json!({"id": 3, "type": "subscribe_presence", "users": users}).to_string();
        let mut core = ready();
        core.text(0, &subscribe(vec!["bob".to_owned()]));
        assert_eq!(asks(&mut core).0, ["error:out_of_order"]);

        let mut core = live(1);
        for page in 0..limits::PRESENCE_SUBSCRIPTIONS / limits::PRESENCE_USERS {
            let named = (0..limits::PRESENCE_USERS).map(|n| format!("u{page}-{n}")).collect();
            core.text(0, &subscribe(named));
            assert_eq!(asks(&mut core).1.len(), 1);
            core.live(0, Live::PresenceAnswer { re: 3, frame: &r#"{"type":"presence"}"#.into() });
            assert_eq!(asks(&mut core).0, ["presence"]);
        }
        core.text(0, &subscribe(vec!["bob".to_owned()]));
        assert_eq!(asks(&mut core).0, ["error:limit_reached"]);
        // An answer that nobody waits for, and news of whom nobody asked.
        core.live(0, Live::PresenceAnswer { re: 3, frame: &r#"{"type":"presence"}"#.into() });
        core.live(0, Live::PresenceChanged { user: &user("bob"), frame: &r#"{"type":"presence"}"#.into() });
        assert_eq!(asks(&mut core).0, Vec::<String>::new());

        core.waiting_bytes(limits::SESSION_CREDIT_BYTES);
        for name in ["one", "two"] {
            let frame = json!({"type": "presence", "name": name}).to_string().into();
            core.live(0, Live::PresenceChanged { user: &user("u0-0"), frame: &frame });
        }
        assert!(core.starved());
        assert_eq!(asks(&mut core).0, Vec::<String>::new());
        core.waiting_bytes(0);
        assert_eq!(asks(&mut core).0, ["presence:two"], "the newest");
    }

    #[test]
    fn what_is_said_in_a_conversation_is_heard_while_it_is_followed() {
        let mut core = live(1);
        let frame = r#"{"type":"typing"}"#.into();
        core.live(0, Live::Said { conversation: &group(1), frame: &frame });
        core.live(0, Live::Said { conversation: &group(2), frame: &frame });
        assert_eq!(asks(&mut core).0, ["typing"]);
    }
}
