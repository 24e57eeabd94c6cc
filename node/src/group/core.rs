//! What a group actor decides. `R` is where an answer goes; the shell has channels, tests have numbers.
//!
//! It is a cache in front of the log: the state machine decides the same again when the command is applied. Rejecting early
//! only saves the log from commands that come to nothing, so it is done on confirmed knowledge alone.

use std::collections::HashMap;

use chat::command::{Original, Outcome};
use chat::errors::ErrorCode;
use chat::ids::{ClientMsgId, ConversationId, UserId};
use chat::limits;
use cluster::Fence;
use uuid::Uuid;

use super::message::{GroupAnswer, GroupAsk, GroupDone, GroupFailure, Turn};
use super::turns::Turns;

mod gate;

use gate::Gate;

/// One request while it is decided.
pub(crate) type Ticket = u64;

/// Digest of a message's plain body; none for other requests.
pub(crate) type Digest = Option<[u8; 16]>;

/// A request, with what the shell knows about it.
pub(crate) struct Asked {
    pub(crate) actor: UserId,
    pub(crate) ask: GroupAsk,
    pub(crate) digest: Digest,
    pub(crate) local: Local,
    pub(crate) turn: Turn,
    /// The proposer's, as it is now.
    pub(crate) fence: Fence,
}

/// Answered by `proposed`. Proposals leave in the order of their effects.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub(crate) ticket: Ticket,
    pub(crate) actor: UserId,
    pub(crate) ask: GroupAsk,
    pub(crate) digest: Digest,
    /// The message that it changes, if it changes one.
    pub(crate) original: Option<Original>,
    pub(crate) fence: Fence,
}

/// What the shell is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect<R> {
    Answer(R, GroupAnswer),
    /// Answered by `checked`: an error if one of the users has no account.
    CheckUsers {
        ticket: Ticket,
        users: Vec<UserId>,
    },
    /// Answered by `checked`: an error if `peer` has no account, or does not take it from `user`: a first message, or
    /// (`asks`) to be asked to be a contact.
    CheckPeer {
        ticket: Ticket,
        user: UserId,
        peer: UserId,
        asks: bool,
    },
    /// Answered by `checked`, after a read barrier.
    ConfirmMember {
        ticket: Ticket,
        user: UserId,
        /// If it is a message: its author may have been removed since it was applied, and is told its place then.
        message: Option<ClientMsgId>,
    },
    /// Answered by `found`: the message at `seq`, for a member, or for a repetition of what one did with `id`.
    FindOriginal {
        ticket: Ticket,
        user: UserId,
        seq: u64,
        id: Option<ClientMsgId>,
    },
    Propose(Proposal),
}

/// What this replica shows at the moment; it may be a little behind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Local {
    pub(crate) exists: bool,
    pub(crate) member: bool,
}

struct Pending<R> {
    actor: UserId,
    /// Taken when it is proposed.
    ask: Option<GroupAsk>,
    digest: Digest,
    original: Option<Original>,
    /// Whether it may change who is a member.
    membership: bool,
    message: Option<ClientMsgId>,
    session: Uuid,
    fence: Fence,
    /// The request's own and those of its repetitions.
    replies: Vec<R>,
}

/// A request that is not proposed yet: a check of it is under way, or of one that its session made before it.
struct Held {
    ticket: Ticket,
    session: Uuid,
    verdict: Option<Result<(), GroupFailure>>,
}

pub(crate) struct Core<R> {
    conversation: ConversationId,
    /// Of a private conversation: the other side has an account.
    peer_known: bool,
    /// First messages to a peer that is being looked up: the answer is one for all of them.
    waiting_for_peer: Vec<Ticket>,
    /// In the order they came.
    held: Vec<Held>,
    pending: HashMap<Ticket, Pending<R>>,
    messages: HashMap<(UserId, ClientMsgId), Ticket>,
    turns: Turns,
    last_ticket: Ticket,
    pub(crate) proposed: u64,
    pub(crate) joined_in_flight: u64,
}

impl<R> Core<R> {
    pub(crate) fn new(conversation: ConversationId) -> Self {
        Self {
            conversation,
            peer_known: false,
            waiting_for_peer: Vec::new(),
            held: Vec::new(),
            pending: HashMap::new(),
            messages: HashMap::new(),
            turns: Turns::default(),
            last_ticket: 0,
            proposed: 0,
            joined_in_flight: 0,
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// Called now and then: what was long not needed is forgotten.
    pub(crate) fn age(&mut self) {
        self.turns.age();
    }

    pub(crate) fn asked(&mut self, asked: Asked, reply: R) -> Vec<Effect<R>> {
        let Asked { actor, ask, digest, local, turn, fence } = asked;
        let message = ask.id();
        let reply = match self.join_repetition(&actor, message, digest, turn, reply) {
            Ok(reply) => reply,
            Err(effects) => return effects,
        };
        if self.pending.len() >= limits::GROUP_MAILBOX {
            return vec![Effect::Answer(
                reply,
                Err(GroupFailure::Overloaded { retry_after_ms: limits::FULL_RETRY_MS }),
            )];
        }
        let Some(fence) = self.turns.admit(turn, fence) else {
            return vec![Effect::Answer(reply, Err(GroupFailure::OutOfTurn))];
        };
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        let gate = self.gate(ticket, &actor, &ask, local);
        if let Some(id) = message {
            self.messages.insert((actor.clone(), id), ticket);
        }
        let membership = ask.changes_members();
        let (ask, original, session, replies) = (Some(ask), None, turn.session, vec![reply]);
        let pending = Pending { actor, ask, digest, original, membership, message, session, fence, replies };
        self.pending.insert(ticket, pending);
        let (verdict, check) = match gate {
            Gate::Open if !self.held.iter().any(|held| held.session == session) => return self.propose(ticket),
            Gate::Open => (Some(Ok(())), None),
            Gate::Check(check) => (None, Some(check)),
            Gate::Queued => (None, None),
        };
        self.held.push(Held { ticket, session, verdict });
        check.into_iter().collect()
    }

    /// The same message while its first copy is under way waits for the same outcome.
    fn join_repetition(
        &mut self,
        actor: &UserId,
        message: Option<ClientMsgId>,
        digest: Digest,
        turn: Turn,
        reply: R,
    ) -> Result<R, Vec<Effect<R>>> {
        let Some(id) = message else { return Ok(reply) };
        let first = self.messages.get(&(actor.clone(), id)).and_then(|ticket| self.pending.get_mut(ticket));
        match first {
            None => Ok(reply),
            Some(first) if first.digest == digest => {
                first.replies.push(reply);
                self.turns.joined(turn, first.fence);
                self.joined_in_flight += 1;
                Err(Vec::new())
            }
            Some(_) => Err(vec![Effect::Answer(reply, Err(GroupFailure::Rejected(ErrorCode::IdConflict)))]),
        }
    }

    /// The answer to the question for a message that is to be changed.
    pub(crate) fn found(&mut self, ticket: Ticket, found: Result<Original, GroupFailure>) -> Vec<Effect<R>> {
        let verdict = found.map(|original| {
            if let Some(pending) = self.pending.get_mut(&ticket) {
                pending.original = Some(original);
            }
        });
        self.checked(ticket, verdict)
    }

    /// The answer to a check.
    pub(crate) fn checked(&mut self, ticket: Ticket, verdict: Result<(), GroupFailure>) -> Vec<Effect<R>> {
        let mut decided = vec![ticket];
        if self.waiting_for_peer.first() == Some(&ticket) {
            self.peer_known |= verdict.is_ok();
            decided = std::mem::take(&mut self.waiting_for_peer);
        }
        for held in self.held.iter_mut().filter(|held| decided.contains(&held.ticket)) {
            held.verdict = Some(verdict);
        }
        self.release()
    }

    /// What is held goes on in the order it came, but nothing of a session before its earlier ones, nor after one of them
    /// that could not be decided.
    fn release(&mut self) -> Vec<Effect<R>> {
        let mut effects = Vec::new();
        // Sessions that go no further: they wait, or are refused.
        let (mut waiting, mut refused) = (Vec::new(), Vec::new());
        for held in std::mem::take(&mut self.held) {
            if refused.contains(&held.session) {
                effects.extend(self.answer(held.ticket, Err(GroupFailure::OutOfTurn)));
                continue;
            }
            match held.verdict.filter(|_| !waiting.contains(&held.session)) {
                None => {
                    waiting.push(held.session);
                    self.held.push(held);
                }
                Some(Ok(())) => effects.extend(self.propose(held.ticket)),
                Some(Err(failure)) => {
                    if !failure.is_decided() {
                        refused.push(held.session);
                    }
                    effects.extend(self.answer(held.ticket, Err(failure)));
                }
            }
        }
        effects
    }

    fn propose(&mut self, ticket: Ticket) -> Vec<Effect<R>> {
        let Some(pending) = self.pending.get_mut(&ticket) else { return Vec::new() };
        let Some(ask) = pending.ask.take() else { return Vec::new() };
        self.proposed += 1;
        let (original, actor) = (pending.original.take(), pending.actor.clone());
        let Pending { digest, fence, .. } = *pending;
        vec![Effect::Propose(Proposal { ticket, actor, ask, digest, original, fence })]
    }

    /// The log's verdict.
    pub(crate) fn proposed(&mut self, ticket: Ticket, outcome: Result<Outcome, GroupFailure>) -> Vec<Effect<R>> {
        let answer = match outcome {
            Ok(Outcome::Applied { seq, duplicate }) => Ok(GroupDone { seq, duplicate }),
            Ok(Outcome::Rejected(code)) => Err(GroupFailure::Rejected(code)),
            Err(failure) => Err(failure),
        };
        self.answer(ticket, answer)
    }

    fn answer(&mut self, ticket: Ticket, answer: GroupAnswer) -> Vec<Effect<R>> {
        let Some(pending) = self.pending.remove(&ticket) else { return Vec::new() };
        if answer.is_err_and(|failure| !failure.is_decided()) {
            self.turns.broken(pending.session, pending.fence);
        }
        if let Some(id) = pending.message {
            self.messages.remove(&(pending.actor, id));
        }
        let repeated = answer.map(|done| GroupDone { duplicate: true, ..done });
        let answers = std::iter::once(answer).chain(std::iter::repeat(repeated));
        pending.replies.into_iter().zip(answers).map(|(reply, answer)| Effect::Answer(reply, answer)).collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use chat::event::BodyKind;
    use chat::ids::GroupId;
    use uuid::Uuid;

    use super::*;

    const MEMBER: Local = Local { exists: true, member: true };
    const STRANGER: Local = Local { exists: true, member: false };
    const NOTHING: Local = Local { exists: false, member: false };

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn group() -> Core<u32> {
        Core::new(ConversationId::Group(GroupId(Uuid::from_u128(1))))
    }

    fn private() -> Core<u32> {
        Core::new(ConversationId::private(user("alice"), user("bob")))
    }

    const FENCE: Fence = Fence(1);

    /// One that alice's session makes while no other of it waits for an answer.
    fn asked(ask: GroupAsk, digest: Digest, local: Local) -> Asked {
        let turn = Turn { session: Uuid::from_u128(77), ticket: 0, after: None };
        Asked { actor: user("alice"), ask, digest, local, turn, fence: FENCE }
    }

    fn message(id: u128, digest: u8, local: Local) -> Asked {
        let client_msg_id = ClientMsgId(Uuid::from_u128(id));
        let ask =
            GroupAsk::Send { client_msg_id, kind: BodyKind::Text, plain: Bytes::from_static(b"hi"), relations: None };
        asked(ask, Some([digest; 16]), local)
    }

    fn send(core: &mut Core<u32>, id: u128, digest: u8, local: Local, reply: u32) -> Vec<Effect<u32>> {
        core.asked(message(id, digest, local), reply)
    }

    fn proposed(effects: &[Effect<u32>]) -> Vec<Ticket> {
        let ticket = |effect: &Effect<u32>| match effect {
            Effect::Propose(Proposal { ticket, .. }) => *ticket,
            other => panic!("{other:?}"),
        };
        effects.iter().map(ticket).collect()
    }

    const APPLIED: Result<Outcome, GroupFailure> = Ok(Outcome::Applied { seq: 7, duplicate: false });

    #[test]
    fn a_repetition_in_flight_waits_for_the_first_ones_outcome() {
        let mut core = group();
        let ticket = proposed(&send(&mut core, 1, 9, MEMBER, 100))[0];
        assert_eq!(send(&mut core, 1, 9, MEMBER, 101), []);
        let conflict = Err(GroupFailure::Rejected(ErrorCode::IdConflict));
        assert_eq!(send(&mut core, 1, 8, MEMBER, 102), [Effect::Answer(102, conflict)]);
        let done = |duplicate| Ok(GroupDone { seq: 7, duplicate });
        assert_eq!(core.proposed(ticket, APPLIED), [Effect::Answer(100, done(false)), Effect::Answer(101, done(true))]);
        assert_eq!(core.in_flight(), 0);
        assert_eq!(proposed(&send(&mut core, 1, 9, MEMBER, 103)).len(), 1, "later the log knows it");
    }

    #[test]
    fn what_changes_a_message_is_proposed_with_it_or_not_at_all() {
        let mut core = group();
        let effects = core.asked(asked(GroupAsk::Recall { seq: 4 }, None, MEMBER), 100);
        assert_eq!(effects, [Effect::FindOriginal { ticket: 1, user: user("alice"), seq: 4, id: None }]);
        let (client_msg_id, kind) = (ClientMsgId(Uuid::from_u128(1)), BodyKind::Text);
        let original =
            Original { seq: 4, author: user("bob"), client_msg_id, time_ms: 9, kind, fixed: false, window_ms: 9 };
        let effects = core.found(1, Ok(original.clone()));
        assert!(
            matches!(&effects[..], [Effect::Propose(Proposal { original: Some(found), .. })] if *found == original)
        );
        core.asked(asked(GroupAsk::Recall { seq: 5 }, None, MEMBER), 101);
        let missing = GroupFailure::Rejected(ErrorCode::EventNotFound);
        assert_eq!(core.found(2, Err(missing)), [Effect::Answer(101, Err(missing))]);
    }

    #[test]
    fn a_stranger_is_rejected_only_once_it_is_confirmed() {
        let mut core = group();
        let effects = send(&mut core, 1, 1, STRANGER, 1);
        let [Effect::ConfirmMember { ticket, .. }] = effects[..] else { panic!("{effects:?}") };
        let no = GroupFailure::Rejected(ErrorCode::NotAMember);
        assert_eq!(core.checked(ticket, Err(no)), [Effect::Answer(1, Err(no))]);

        let effects = send(&mut core, 2, 1, STRANGER, 2);
        let [Effect::ConfirmMember { ticket, .. }] = effects[..] else { panic!("{effects:?}") };
        assert_eq!(proposed(&core.checked(ticket, Ok(()))), [ticket]);
    }

    #[test]
    fn after_a_join_in_flight_the_log_decides() {
        let mut core = group();
        let join = GroupAsk::Join { invite: None, text: String::new() };
        assert_eq!(proposed(&core.asked(asked(join, None, STRANGER), 1)).len(), 1);
        assert_eq!(proposed(&send(&mut core, 1, 1, STRANGER, 2)).len(), 1);
    }

    #[test]
    fn first_messages_wait_for_the_peers_account_and_keep_their_order() {
        let mut core = private();
        let effects = send(&mut core, 1, 1, NOTHING, 1);
        let (user, peer, asks) = (user("alice"), user("bob"), false);
        assert_eq!(effects, [Effect::CheckPeer { ticket: 1, user, peer, asks }]);
        assert_eq!(send(&mut core, 2, 1, NOTHING, 2), []);
        assert_eq!(send(&mut core, 3, 1, MEMBER, 3), [], "not even when the first is in the log by now");
        assert_eq!(proposed(&core.checked(1, Ok(()))), [1, 2, 3]);
        assert_eq!(proposed(&send(&mut core, 4, 1, NOTHING, 4)), [4]);
    }

    #[test]
    fn a_peer_that_does_not_exist_is_not_remembered() {
        let mut core = private();
        send(&mut core, 1, 1, NOTHING, 1);
        let no = GroupFailure::Rejected(ErrorCode::UserNotFound);
        assert_eq!(core.checked(1, Err(no)), [Effect::Answer(1, Err(no))]);
        assert!(matches!(send(&mut core, 2, 1, NOTHING, 2)[..], [Effect::CheckPeer { ticket: 2, .. }]));
    }

    #[test]
    fn what_is_checked_is_not_overtaken_by_its_own_session() {
        let mut core = group();
        let effects = send(&mut core, 1, 1, STRANGER, 1);
        let [Effect::ConfirmMember { ticket, .. }] = effects[..] else { panic!("{effects:?}") };
        assert_eq!(send(&mut core, 2, 1, MEMBER, 2), []);
        let mut other = message(3, 1, MEMBER);
        other.turn.session = Uuid::from_u128(78);
        assert_eq!(proposed(&core.asked(other, 3)).len(), 1, "another session does not wait");
        assert_eq!(proposed(&core.checked(ticket, Ok(()))), [1, 2]);

        let effects = send(&mut core, 4, 1, STRANGER, 4);
        let [Effect::ConfirmMember { ticket, .. }] = effects[..] else { panic!("{effects:?}") };
        assert_eq!(send(&mut core, 5, 1, MEMBER, 5), []);
        let (no, behind) = (Err(GroupFailure::Unavailable), Err(GroupFailure::OutOfTurn));
        assert_eq!(core.checked(ticket, no.map(|_: GroupDone| ())), [Effect::Answer(4, no), Effect::Answer(5, behind)]);
    }

    #[test]
    fn nothing_enters_the_log_after_one_that_did_not() {
        let mut core = group();
        let in_row = |id: u128, after| {
            let mut asked = message(id, 1, MEMBER);
            asked.turn = Turn { session: Uuid::from_u128(77), ticket: id as u64, after };
            asked
        };
        let first = proposed(&core.asked(in_row(1, None), 1))[0];
        assert_eq!(proposed(&core.asked(in_row(2, Some(1)), 2)).len(), 1);
        let no = Err(GroupFailure::NotLeader { leader: None });
        assert_eq!(
            core.proposed(first, no.map(|_: GroupDone| Outcome::Applied { seq: 0, duplicate: false })),
            [Effect::Answer(1, no)]
        );
        let behind = Err(GroupFailure::OutOfTurn);
        assert_eq!(core.asked(in_row(3, Some(2)), 3), [Effect::Answer(3, behind)]);
        let mut again = in_row(1, None);
        again.fence = Fence(2);
        let effects = core.asked(again, 1);
        assert!(matches!(effects[..], [Effect::Propose(Proposal { fence: Fence(2), .. })]), "{effects:?}");
    }

    #[test]
    fn more_than_the_limit_in_flight_is_overload() {
        let mut core = group();
        for n in 0..limits::GROUP_MAILBOX {
            assert_eq!(proposed(&send(&mut core, n as u128, 1, MEMBER, n as u32)).len(), 1);
        }
        let effects = send(&mut core, u128::MAX, 1, MEMBER, 0);
        assert!(matches!(effects[..], [Effect::Answer(0, Err(GroupFailure::Overloaded { .. }))]));
    }
}
