//! Sending: one effect per `client_msg_id`, one place in the order.

use bytes::Bytes;

use super::overlay::{Overlay, Step, Stop, require};
use super::record::{Conversation, Dedupe, Member};
use super::{Scope, View, key, life, list, made, mention, moderation, pair, sequence};
use crate::command::{Original, Outcome};
use crate::errors::ErrorCode;
use crate::event::{Event, Relations, Role, SealedBody};
use crate::ids::{ClientMsgId, ConversationId};
use crate::limits;

/// An id that its author uses for the first time, and where it will be kept.
pub(super) struct FirstUse {
    id: ClientMsgId,
    digest: [u8; 16],
    page_key: Bytes,
    /// The page takes no more: the id gets a record of its own.
    own: bool,
}

/// Looks for an id among those that the actor used here. One that was used for the same has its outcome.
pub(super) fn first_use<V: View>(
    work: &mut Overlay<'_, V>,
    scope: &Scope<'_>,
    id: ClientMsgId,
    digest: [u8; 16],
) -> Step<Result<FirstUse, Outcome>, V> {
    let page_key = key::dedupe_page(scope.app, scope.conversation, scope.actor, id);
    let page = work.ids(&page_key)?;
    let (known, own) = (page.find(id), page.is_full());
    let known = match known {
        None if own => work.load::<Dedupe>(&key::dedupe(scope.app, scope.conversation, scope.actor, id))?,
        known => known,
    };
    let Some(known) = known else { return Ok(Ok(FirstUse { id, digest, page_key, own })) };
    require(known.digest == digest, ErrorCode::IdConflict)?;
    Ok(Err(Outcome::Applied { seq: known.seq, duplicate: true }))
}

impl FirstUse {
    /// The id stands for the event `seq` from now on.
    pub(super) fn keep<V: View>(self, work: &mut Overlay<'_, V>, scope: &Scope<'_>, seq: u64) {
        let used = Dedupe { seq, digest: self.digest };
        if self.own {
            work.store(key::dedupe(scope.app, scope.conversation, scope.actor, self.id), &used);
        } else {
            work.push_id(self.page_key, self.id, &used);
        }
    }
}

pub(super) fn send<V: View>(
    work: &mut Overlay<'_, V>,
    scope: &Scope<'_>,
    client_msg_id: ClientMsgId,
    digest: [u8; 16],
    body: &SealedBody,
    relations: Option<&Relations>,
) -> Step<Outcome, V> {
    // Before the membership: the retry of a send that was applied is told so, even if its author was removed since.
    let id = match first_use(work, scope, client_msg_id, digest)? {
        Ok(id) => id,
        Err(outcome) => return Ok(outcome),
    };
    if let Some(relations) = relations {
        may_relate(work, scope, relations)?;
        life::may_live(work, scope, relations)?;
    }
    let (conversation, mut author) = admit(work, scope)?;
    moderation::may_speak(work, scope, &conversation, &mut author)?;
    author.read = conversation.head + 1;
    sequence::store_member(work, scope, scope.actor, &author);
    let event = Event::Message {
        author: scope.actor.clone(),
        client_msg_id,
        body: Some(body.clone()),
        relations: relations.cloned().map(Box::new),
    };
    let seq = sequence::append(work, scope, conversation, event)?;
    if let Some(relations) = relations {
        mention::note(work, scope, &relations.mentions, seq)?;
        let (author, time_ms, kind) = (scope.actor.clone(), work.time_ms, body.kind);
        let original =
            Original { seq, author, client_msg_id, time_ms, kind, fixed: relations.is_fixed(), window_ms: u64::MAX };
        life::note(work, scope, relations, original)?;
    }
    if matches!(scope.conversation, ConversationId::Private(..)) {
        // Who answers has read what was said before.
        life::burn(work, scope, seq)?;
    }
    id.keep(work, scope, seq);
    Ok(made(seq))
}

/// Whether the actor may speak so of others, in a conversation that exists: its first message can answer nothing.
fn may_relate<V: View>(work: &Overlay<'_, V>, scope: &Scope<'_>, relations: &Relations) -> Step<(), V> {
    let Relations { reply_to, mentions, .. } = relations;
    require(mentions.users.len() <= limits::MENTION_USERS, ErrorCode::LimitReached)?;
    if reply_to.is_none() && !mentions.all {
        return Ok(());
    }
    let (conversation, author) = match sequence::conversation(work, scope)? {
        Some(_) => sequence::of_member(work, scope)?,
        None => return require(reply_to.is_none(), ErrorCode::EventNotFound),
    };
    if mentions.all && conversation.members > limits::MENTION_ALL_MEMBERS {
        require(author.role >= Role::Admin, ErrorCode::Forbidden)?;
    }
    match reply_to {
        Some(seq) => sequence::kept(work, scope, *seq).map(drop),
        None => Ok(()),
    }
}

/// The conversation and the author's membership. A private conversation comes into being here.
fn admit<V: View>(work: &mut Overlay<'_, V>, scope: &Scope<'_>) -> Step<(Conversation, Member), V> {
    let ConversationId::Private(first, second) = scope.conversation else {
        return sequence::of_member(work, scope);
    };
    let peer = scope.conversation.peer_of(scope.actor).ok_or(Stop::Rejected(ErrorCode::NotAMember))?;
    if sequence::conversation(work, scope)?.is_some() {
        return sequence::of_member(work, scope);
    }
    let guarded = pair::is_guarded(work, scope)?;
    if guarded {
        pair::may_write(work, scope)?;
    }
    let member = Member::new(Role::Member, 1, 0);
    if peer != scope.actor {
        sequence::store_member(work, scope, peer, &member);
    }
    list::announce(work, scope, first, 1, true)?;
    if first != second {
        list::announce(work, scope, second, 1, true)?;
    }
    let conversation = Conversation {
        name: None,
        created_by: scope.actor.clone(),
        created_ms: work.time_ms,
        head: 0,
        members: if first == second { 1 } else { 2 },
        digest: [0; 32],
        guarded,
    };
    Ok((conversation, member))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::query::{self, Located};
    use super::super::record::DedupePage;
    use super::super::testing::{Shard, again, app, by, create, group, no, ok, private, send, user};
    use crate::command::{Command, ConversationCommand};
    use crate::errors::ErrorCode;
    use crate::event::{Committed, Event, Mentions, Relations};
    use crate::ids::ClientMsgId;
    use crate::limits;

    #[test]
    fn a_private_conversation_begins_with_its_first_message() {
        let mut shard = Shard::default();
        let talk = private("alice", "bob");
        assert_eq!(shard.act("bob", &talk, send(1, "hi")), ok(1));
        assert_eq!(shard.act("alice", &talk, send(1, "hi")), ok(2), "an id is its author's own");
        assert_eq!(shard.announced(), [(1, "alice".into(), 1, true), (2, "bob".into(), 1, true)]);
        let unread = |name| query::unread(&shard.state, &app(), &talk, &user(name)).unwrap();
        assert_eq!((unread("alice"), unread("bob"), unread("eve")), (Some(0), Some(1), None));
        let record = query::conversation(&shard.state, &app(), &talk).unwrap().unwrap();
        assert_eq!((record.head, record.members, record.name), (2, 2, None));
    }

    #[test]
    fn notes_to_self_have_one_member_listed_once() {
        let mut shard = Shard::default();
        let notes = private("alice", "alice");
        assert_eq!(shard.act("alice", &notes, send(1, "milk")), ok(1));
        assert_eq!(shard.announced(), [(1, "alice".into(), 1, true)]);
        let members = query::members(&shard.state, &app(), &notes, None, 10).unwrap();
        assert_eq!(members.items.len(), 1);
        assert_eq!(query::unread(&shard.state, &app(), &notes, &user("alice")).unwrap(), Some(0));
    }

    #[test]
    fn only_members_send_and_a_stranger_leaves_no_trace() {
        let mut shard = Shard::default();
        let talk = private("alice", "bob");
        assert_eq!(shard.act("eve", &talk, send(1, "hi")), no(ErrorCode::NotAMember));
        assert_eq!(shard.act("eve", &group(1), send(1, "hi")), no(ErrorCode::NotAMember));
        assert!(shard.state.is_empty());
        shard.act("alice", &group(1), create("g", &[]));
        assert_eq!(shard.act("eve", &group(1), send(1, "hi")), no(ErrorCode::NotAMember));
    }

    #[test]
    fn an_id_has_one_effect_even_within_an_entry_and_after_removal() {
        let mut shard = Shard::default();
        let group = group(1);
        shard.act("alice", &group, create("g", &["bob"]));
        let delta = shard.entry(vec![
            by("bob", &group, send(7, "one")),
            by("bob", &group, send(7, "one")),
            by("bob", &group, send(7, "two")),
        ]);
        assert_eq!(delta.outcomes, [ok(2), again(2), no(ErrorCode::IdConflict)]);
        assert_eq!(delta.events.len(), 1);
        assert_eq!(shard.act("alice", &group, ConversationCommand::Kick { user: user("bob") }), ok(3));
        assert_eq!(shard.act("bob", &group, send(7, "one")), again(2));
        assert_eq!(shard.act("bob", &group, send(8, "more")), no(ErrorCode::NotAMember));
        assert_eq!(shard.head(&group), 3);
    }

    #[test]
    fn an_entrys_messages_share_one_index_page_and_are_found_by_seq() {
        let mut shard = Shard::default();
        let group = group(1);
        shard.act("alice", &group, create("g", &[]));
        let sends = |from: u128, count: u128| -> Vec<Command> {
            (from..from + count).map(|n| by("alice", &group, send(n, "x"))).collect()
        };
        let delta = shard.entry(sends(0, 60));
        assert_eq!(delta.writes.len(), 4, "index page, page of ids, member and conversation once");
        shard.entry(sends(100, 10));
        let located = query::locate(&shard.state, &app(), &group, 1, 1_000).unwrap();
        assert_eq!(located.iter().map(Located::seq).collect::<Vec<_>>(), (1..=71).collect::<Vec<_>>());
        assert!(matches!(&located[0], Located::Inline(1, 1_000, Event::GroupCreated { .. })));
        assert_eq!(located[1], Located::Message { seq: 2, log_index: 2, position_in_batch: 0 });
        assert_eq!(located[70], Located::Message { seq: 71, log_index: 3, position_in_batch: 9 });
        let middle = query::locate(&shard.state, &app(), &group, 63, 4).unwrap();
        assert_eq!(middle.iter().map(Located::seq).collect::<Vec<_>>(), [63, 64, 65, 66]);
        assert_eq!(query::locate(&shard.state, &app(), &group, 72, 4).unwrap(), []);
    }

    #[test]
    fn ids_beyond_a_page_and_of_other_times_are_known_too() {
        let mut shard = Shard::default();
        let talk = private("alice", "bob");
        let made_at = |time_ms: u128, n: u128| send(time_ms << 80 | n, "x");
        let many = 3 * DedupePage::IDS as u128;
        let all: Vec<_> = (0..many).map(|n| (1, n)).chain((0..5).map(|n| (300 * n, 7_000 + n))).collect();
        for (seq, (time_ms, n)) in (1..).zip(&all) {
            assert_eq!(shard.act("alice", &talk, made_at(*time_ms, *n)), ok(seq));
        }
        for (seq, (time_ms, n)) in (1..).zip(&all) {
            assert_eq!(shard.act("alice", &talk, made_at(*time_ms, *n)), again(seq));
            assert_eq!(shard.act("alice", &talk, send(time_ms << 80 | n, "y")), no(ErrorCode::IdConflict));
            let id = ClientMsgId(Uuid::from_u128(time_ms << 80 | n));
            assert!(query::was_sent(&shard.state, &app(), &talk, &user("alice"), id).unwrap());
        }
        let other = ClientMsgId(Uuid::from_u128(1 << 80 | many));
        assert!(!query::was_sent(&shard.state, &app(), &talk, &user("alice"), other).unwrap());
    }

    #[test]
    fn the_committed_event_is_the_message_in_its_place() {
        let mut shard = Shard::default();
        let talk = private("alice", "bob");
        let delta = shard.entry(vec![by("alice", &talk, send(1, "hi"))]);
        let [Committed::Sequenced(event)] = delta.events.as_slice() else { panic!("{:?}", delta.events) };
        assert_eq!((event.seq, event.time_ms, &event.conversation), (1, 1_000, &talk));
        let Event::Message { author, body, .. } = &event.event else { panic!("{event:?}") };
        assert_eq!((author, body.as_ref().unwrap().bytes.as_ref()), (&user("alice"), b"hi".as_slice()));
    }

    #[test]
    fn a_message_answers_what_is_there_and_names_everybody_only_where_that_is_few() {
        let mut shard = Shard::default();
        let about = |id: u128, reply_to: Option<u64>, all: bool| {
            let ConversationCommand::Send { client_msg_id, digest, body, .. } = send(id, "x") else { panic!() };
            let mentions = Mentions { users: Vec::new(), all };
            let relations = Relations { reply_to, mentions, ..Relations::default() };
            ConversationCommand::Send { client_msg_id, digest, body, relations: Some(Box::new(relations)) }
        };
        let talk = private("alice", "bob");
        assert_eq!(shard.act("alice", &talk, about(1, Some(1), false)), no(ErrorCode::EventNotFound));
        assert!(shard.state.is_empty());
        assert_eq!(shard.act("alice", &talk, about(1, None, true)), ok(1));
        assert_eq!(shard.act("bob", &talk, about(1, Some(1), false)), ok(2));
        for missing in [0, 3] {
            assert_eq!(shard.act("bob", &talk, about(2, Some(missing), false)), no(ErrorCode::EventNotFound));
        }
        assert_eq!(shard.act("eve", &talk, about(2, Some(1), false)), no(ErrorCode::NotAMember));
        let members: Vec<String> = (0..limits::MENTION_ALL_MEMBERS).map(|n| format!("u{n}")).collect();
        let members: Vec<&str> = members.iter().map(String::as_str).collect();
        shard.act("alice", &group(1), create("g", &members));
        assert_eq!(shard.act("u1", &group(1), about(1, None, true)), no(ErrorCode::Forbidden));
        assert_eq!(shard.act("alice", &group(1), about(1, None, true)), ok(2));
    }

    #[test]
    fn the_digest_tells_histories_apart() {
        let digest = |texts: &[&str]| {
            let mut shard = Shard::default();
            for (n, text) in (0..).zip(texts) {
                shard.act("alice", &private("alice", "bob"), send(n, text));
            }
            query::conversation(&shard.state, &app(), &private("alice", "bob")).unwrap().unwrap().digest
        };
        assert_eq!(digest(&["a", "b"]), digest(&["a", "b"]));
        assert_ne!(digest(&["a", "b"]), digest(&["a", "c"]));
        assert_ne!(digest(&["a", "b"]), digest(&["b", "a"]));
    }

    #[test]
    fn a_full_entry_stays_within_the_value_limit_of_storage() {
        let mut shard = Shard::default();
        let long = |c: &str| c.repeat(limits::ID_BYTES);
        let talk = private(&long("a"), &long("b"));
        let commands = (0..limits::ENTRY_COMMANDS as u128).map(|n| by(&long("a"), &talk, send(n, "x"))).collect();
        let delta = shard.entry(commands);
        let largest = delta.writes.values().flatten().map(bytes::Bytes::len).max().unwrap();
        assert!(largest < 4_096, "{largest}");
    }
}
