//! What a group actor decides. `R` is where an answer goes; the shell has channels, tests have numbers.
//!
//! It is a cache in front of the log: everything it knows it may forget, because the state machine decides the same
//! again when the command is applied. Rejecting early only saves the log from commands that come to nothing, so it is
//! done on confirmed knowledge alone.

use std::collections::HashMap;

use chat::command::Outcome;
use chat::errors::ErrorCode;
use chat::ids::{ClientMsgId, ConversationId, UserId};
use chat::limits;

use super::message::{GroupAnswer, GroupAsk, GroupDone, GroupFailure};

/// One request while it is decided.
pub(super) type Ticket = u64;

/// Digest of a message's plain body; none for other requests.
pub(super) type Digest = Option<[u8; 16]>;

/// What the shell is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect<R> {
    Answer(R, GroupAnswer),
    /// Answered by `checked`: an error if one of the users has no account.
    CheckUsers {
        ticket: Ticket,
        users: Vec<UserId>,
    },
    /// Answered by `checked`, after a read barrier.
    ConfirmMember {
        ticket: Ticket,
        user: UserId,
        /// If it is a message: its author may have been removed since it was applied, and is told its place then.
        message: Option<ClientMsgId>,
    },
    /// Answered by `proposed`. Proposals leave in this order.
    Propose {
        ticket: Ticket,
        actor: UserId,
        ask: GroupAsk,
        digest: Digest,
    },
}

/// What this replica shows at the moment; it may be a little behind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Local {
    pub(super) exists: bool,
    pub(super) member: bool,
}

struct Pending<R> {
    actor: UserId,
    /// Taken when it is proposed.
    ask: Option<GroupAsk>,
    digest: Digest,
    /// Whether it may change who is a member.
    membership: bool,
    message: Option<ClientMsgId>,
    /// The request's own and those of its repetitions.
    replies: Vec<R>,
}

pub(super) struct Core<R> {
    conversation: ConversationId,
    /// Of a private conversation: the other side has an account.
    peer_known: bool,
    /// First messages to a peer that is being looked up, in order.
    waiting_for_peer: Vec<Ticket>,
    pending: HashMap<Ticket, Pending<R>>,
    messages: HashMap<(UserId, ClientMsgId), Ticket>,
    last_ticket: Ticket,
    pub(super) proposed: u64,
    pub(super) joined_in_flight: u64,
}

impl<R> Core<R> {
    pub(super) fn new(conversation: ConversationId) -> Self {
        Self {
            conversation,
            peer_known: false,
            waiting_for_peer: Vec::new(),
            pending: HashMap::new(),
            messages: HashMap::new(),
            last_ticket: 0,
            proposed: 0,
            joined_in_flight: 0,
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn asked(
        &mut self,
        actor: UserId,
        ask: GroupAsk,
        digest: Digest,
        local: Local,
        reply: R,
    ) -> Vec<Effect<R>> {
        let message = match &ask {
            GroupAsk::Send { client_msg_id, .. } => Some(*client_msg_id),
            _ => None,
        };
        let reply = match self.join_repetition(&actor, message, digest, reply) {
            Ok(reply) => reply,
            Err(effects) => return effects,
        };
        if self.pending.len() >= limits::GROUP_MAILBOX {
            return vec![Effect::Answer(reply, Err(GroupFailure::Overloaded { retry_after_ms: 200 }))];
        }
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        let gate = self.gate(ticket, &actor, &ask, local);
        if let Some(id) = message {
            self.messages.insert((actor.clone(), id), ticket);
        }
        let membership = !matches!(ask, GroupAsk::Send { .. } | GroupAsk::MarkRead { .. });
        let ask = Some(ask);
        self.pending.insert(ticket, Pending { actor, ask, digest, membership, message, replies: vec![reply] });
        match gate {
            Gate::Open => self.propose(ticket),
            Gate::Check(check) => vec![check],
            Gate::Queued => Vec::new(),
        }
    }

    /// The same message while its first copy is under way waits for the same outcome.
    fn join_repetition(
        &mut self,
        actor: &UserId,
        message: Option<ClientMsgId>,
        digest: Digest,
        reply: R,
    ) -> Result<R, Vec<Effect<R>>> {
        let Some(id) = message else { return Ok(reply) };
        let first = self.messages.get(&(actor.clone(), id)).and_then(|ticket| self.pending.get_mut(ticket));
        match first {
            None => Ok(reply),
            Some(first) if first.digest == digest => {
                first.replies.push(reply);
                self.joined_in_flight += 1;
                Err(Vec::new())
            }
            Some(_) => Err(vec![Effect::Answer(reply, Err(GroupFailure::Rejected(ErrorCode::IdConflict)))]),
        }
    }

    /// What has to be known before the request may enter the log.
    fn gate(&mut self, ticket: Ticket, actor: &UserId, ask: &GroupAsk, local: Local) -> Gate<R> {
        if !ask.names().is_empty() {
            return Gate::Check(Effect::CheckUsers { ticket, users: ask.names().to_vec() });
        }
        if let (GroupAsk::Send { .. }, Some(peer)) = (ask, self.conversation.peer_of(actor)) {
            return self.peer_gate(ticket, peer.clone(), local);
        }
        let open_to_all = matches!(ask, GroupAsk::CreateGroup { .. } | GroupAsk::Join);
        // While a membership change is under way the log decides: it may be the actor's own joining.
        let changing = self.pending.values().any(|pending| pending.membership);
        if local.member || open_to_all || changing {
            return Gate::Open;
        }
        let message = match ask {
            GroupAsk::Send { client_msg_id, .. } => Some(*client_msg_id),
            _ => None,
        };
        Gate::Check(Effect::ConfirmMember { ticket, user: actor.clone(), message })
    }

    /// A conversation that exists has two users who exist; the first message has to wait for the peer's account.
    fn peer_gate(&mut self, ticket: Ticket, peer: UserId, local: Local) -> Gate<R> {
        self.peer_known |= local.exists;
        if self.peer_known && self.waiting_for_peer.is_empty() {
            return Gate::Open;
        }
        self.waiting_for_peer.push(ticket);
        if self.waiting_for_peer.len() > 1 {
            return Gate::Queued;
        }
        Gate::Check(Effect::CheckUsers { ticket, users: vec![peer] })
    }

    /// The answer to a check.
    pub(super) fn checked(&mut self, ticket: Ticket, verdict: Result<(), GroupFailure>) -> Vec<Effect<R>> {
        if self.waiting_for_peer.first() != Some(&ticket) {
            return self.pass(ticket, verdict);
        }
        self.peer_known |= verdict.is_ok();
        let waiting = std::mem::take(&mut self.waiting_for_peer);
        waiting.into_iter().flat_map(|ticket| self.pass(ticket, verdict)).collect()
    }

    fn pass(&mut self, ticket: Ticket, verdict: Result<(), GroupFailure>) -> Vec<Effect<R>> {
        match verdict {
            Ok(()) => self.propose(ticket),
            Err(failure) => self.answer(ticket, Err(failure)),
        }
    }

    fn propose(&mut self, ticket: Ticket) -> Vec<Effect<R>> {
        let Some(pending) = self.pending.get_mut(&ticket) else { return Vec::new() };
        let Some(ask) = pending.ask.take() else { return Vec::new() };
        self.proposed += 1;
        vec![Effect::Propose { ticket, actor: pending.actor.clone(), ask, digest: pending.digest }]
    }

    /// The log's verdict.
    pub(super) fn proposed(&mut self, ticket: Ticket, outcome: Result<Outcome, GroupFailure>) -> Vec<Effect<R>> {
        let answer = match outcome {
            Ok(Outcome::Applied { seq, duplicate }) => Ok(GroupDone { seq, duplicate }),
            Ok(Outcome::Rejected(code)) => Err(GroupFailure::Rejected(code)),
            Err(failure) => Err(failure),
        };
        self.answer(ticket, answer)
    }

    fn answer(&mut self, ticket: Ticket, answer: GroupAnswer) -> Vec<Effect<R>> {
        let Some(pending) = self.pending.remove(&ticket) else { return Vec::new() };
        if let Some(id) = pending.message {
            self.messages.remove(&(pending.actor, id));
        }
        let repeated = answer.map(|done| GroupDone { duplicate: true, ..done });
        let answers = std::iter::once(answer).chain(std::iter::repeat(repeated));
        pending.replies.into_iter().zip(answers).map(|(reply, answer)| Effect::Answer(reply, answer)).collect()
    }
}

enum Gate<R> {
    Open,
    Check(Effect<R>),
    /// Behind another request's check.
    Queued,
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

    fn send(core: &mut Core<u32>, id: u128, digest: u8, local: Local, reply: u32) -> Vec<Effect<u32>> {
        let client_msg_id = ClientMsgId(Uuid::from_u128(id));
        let ask = GroupAsk::Send { client_msg_id, kind: BodyKind::Text, plain: Bytes::from_static(b"hi") };
        core.asked(user("alice"), ask, Some([digest; 16]), local, reply)
    }

    fn proposed(effects: &[Effect<u32>]) -> Vec<Ticket> {
        let ticket = |effect: &Effect<u32>| match effect {
            Effect::Propose { ticket, .. } => *ticket,
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
        assert_eq!(proposed(&core.asked(user("alice"), GroupAsk::Join, None, STRANGER, 1)).len(), 1);
        assert_eq!(proposed(&send(&mut core, 1, 1, STRANGER, 2)).len(), 1);
    }

    #[test]
    fn first_messages_wait_for_the_peers_account_and_keep_their_order() {
        let mut core = private();
        let effects = send(&mut core, 1, 1, NOTHING, 1);
        assert_eq!(effects, [Effect::CheckUsers { ticket: 1, users: vec![user("bob")] }]);
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
        assert!(matches!(send(&mut core, 2, 1, NOTHING, 2)[..], [Effect::CheckUsers { ticket: 2, .. }]));
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
