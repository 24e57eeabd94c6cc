//! Requests to group actors that have no answer yet, in the order they were made.
//!
//! Where asking again is safe it is done before the client hears of a failure. Requests to one conversation keep their
//! order meanwhile: what was asked after one that is asked again waits for it, and is posted once that one got through.

use chat::ids::{ClientMsgId, ConversationId, NodeId};
use chat::limits;
use chat::wire::ServerFrame;

use super::{Core, Effect};
use crate::group::{GroupAnswer, GroupAsk, GroupFailure};
use crate::router::{ATTEMPT, again, soften};
use crate::session::requests;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Posted,
    /// To be asked again, in its turn.
    Waiting,
    /// Asked again; that answer is the last word.
    Insisted,
}

#[derive(Debug)]
struct Request {
    ticket: u64,
    re: u64,
    conversation: ConversationId,
    ask: GroupAsk,
    since_ms: u64,
    state: State,
    /// Whom it was posted to.
    leader: Option<NodeId>,
    /// An attempt ended without saying what it did.
    maybe_happened: bool,
}

#[derive(Debug, Default)]
pub(super) struct Asked {
    requests: Vec<Request>,
    last_ticket: u64,
}

/// What a request came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) re: u64,
    pub(super) conversation: ConversationId,
    pub(super) answer: GroupAnswer,
}

impl Asked {
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn ask(&mut self, now_ms: u64, re: u64, conversation: ConversationId, ask: GroupAsk) -> Option<Effect> {
        let behind = |other: &Request| other.state != State::Posted && other.conversation == conversation;
        let state = if self.requests.iter().any(behind) { State::Waiting } else { State::Posted };
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        let effect = (state == State::Posted).then(|| {
            let (conversation, ask) = (conversation.clone(), ask.clone());
            Effect::Submit { ticket, conversation, ask }
        });
        let (since_ms, maybe_happened) = (now_ms, false);
        let leader = None;
        self.requests.push(Request { ticket, re, conversation, ask, since_ms, state, leader, maybe_happened });
        effect
    }

    /// Whether the request may be posted to this leader. Not while an older one of its conversation is with another: it
    /// waits for that one's answer then.
    pub(super) fn posting(&mut self, ticket: u64, leader: Option<NodeId>) -> bool {
        let Some(place) = self.place(ticket) else { return false };
        let (older, rest) = self.requests.split_at_mut(place);
        let Some(request) = rest.first_mut() else { return false };
        let elsewhere = |other: &Request| {
            other.conversation == request.conversation && (other.state != State::Posted || other.leader != leader)
        };
        let may = !older.iter().any(elsewhere);
        (request.state, request.leader) = (if may { State::Posted } else { State::Waiting }, leader);
        may
    }

    /// The answer to the first attempt.
    pub(super) fn answered(
        &mut self,
        now_ms: u64,
        ticket: u64,
        answer: GroupAnswer,
        effects: &mut Vec<Effect>,
    ) -> Vec<Settled> {
        let Some(place) = self.place(ticket) else { return Vec::new() };
        let request = &mut self.requests[place];
        match (answer, request.state) {
            (Err(failure), State::Posted) if again(failure, request.ask.idempotent()) => {
                request.state = State::Waiting;
                request.maybe_happened |= failure == GroupFailure::Unknown;
                let conversation = request.conversation.clone();
                self.advance(now_ms, &conversation, effects)
            }
            // It was given up, and is asked again.
            (Err(_), State::Waiting | State::Insisted) => Vec::new(),
            _ => self.settle(now_ms, place, answer, effects),
        }
    }

    /// The last word on a request that was asked again.
    pub(super) fn insisted(
        &mut self,
        now_ms: u64,
        ticket: u64,
        answer: GroupAnswer,
        effects: &mut Vec<Effect>,
    ) -> Vec<Settled> {
        self.place(ticket).map(|place| self.settle(now_ms, place, answer, effects)).unwrap_or_default()
    }

    /// A message of ours was applied here: that is its answer.
    pub(super) fn happened(
        &mut self,
        now_ms: u64,
        conversation: &ConversationId,
        id: ClientMsgId,
        seq: u64,
        effects: &mut Vec<Effect>,
    ) -> Vec<Settled> {
        let same = |request: &Request| {
            matches!(request.ask, GroupAsk::Send { client_msg_id, .. } if client_msg_id == id)
                && request.conversation == *conversation
        };
        let Some(place) = self.requests.iter().position(same) else { return Vec::new() };
        let done = crate::group::message::GroupDone { seq, duplicate: false };
        self.settle(now_ms, place, Ok(done), effects)
    }

    /// First attempts that had no answer for too long.
    pub(super) fn overdue(&mut self, now_ms: u64, effects: &mut Vec<Effect>) -> Vec<Settled> {
        let mut settled = Vec::new();
        let mut to_advance = Vec::new();
        for request in self.requests.iter_mut().filter(|request| request.state == State::Posted) {
            let age_ms = now_ms.saturating_sub(request.since_ms);
            if request.ask.idempotent() && age_ms >= ATTEMPT.as_millis() as u64 || age_ms >= limits::REQUEST_TIMEOUT_MS
            {
                request.state = State::Waiting;
                request.maybe_happened = true;
                to_advance.push(request.conversation.clone());
            }
        }
        for conversation in to_advance {
            settled.extend(self.advance(now_ms, &conversation, effects));
        }
        settled
    }

    fn place(&self, ticket: u64) -> Option<usize> {
        self.requests.iter().position(|request| request.ticket == ticket)
    }

    fn settle(&mut self, now_ms: u64, place: usize, answer: GroupAnswer, effects: &mut Vec<Effect>) -> Vec<Settled> {
        let Request { re, conversation, state, maybe_happened, .. } = self.requests.remove(place);
        let decided = matches!(answer, Ok(_) | Err(GroupFailure::Rejected(_)));
        let answer = answer.map_err(|failure| soften(failure, maybe_happened));
        let mut settled = vec![Settled { re, conversation: conversation.clone(), answer }];
        match state {
            State::Posted
                if self.requests.iter().any(|r| r.conversation == conversation && r.state != State::Waiting) => {}
            // Somebody decides again: whoever waited behind is posted, in order.
            _ if decided => self.post(&conversation, effects),
            _ => settled.extend(self.advance(now_ms, &conversation, effects)),
        }
        settled
    }

    fn post(&mut self, conversation: &ConversationId, effects: &mut Vec<Effect>) {
        let waiting = |request: &&mut Request| {
            request.state == State::Waiting
                && request.conversation == *conversation
                && (request.ask.idempotent() || !request.maybe_happened)
        };
        for request in self.requests.iter_mut().filter(waiting) {
            request.state = State::Posted;
            let (ticket, conversation, ask) = (request.ticket, conversation.clone(), request.ask.clone());
            effects.push(Effect::Submit { ticket, conversation, ask });
        }
    }

    /// Asks again for the first of the conversation that waits, unless another one is being asked for.
    fn advance(&mut self, now_ms: u64, conversation: &ConversationId, effects: &mut Vec<Effect>) -> Vec<Settled> {
        let mut settled = Vec::new();
        let here = |request: &Request| request.state != State::Posted && request.conversation == *conversation;
        while let Some(place) = self.requests.iter().position(here) {
            let request = &mut self.requests[place];
            if request.state == State::Insisted {
                break;
            }
            let within_ms = (request.since_ms + limits::REQUEST_TIMEOUT_MS).saturating_sub(now_ms);
            if within_ms == 0 || request.maybe_happened && !request.ask.idempotent() {
                let Request { re, conversation, maybe_happened, .. } = self.requests.remove(place);
                let answer = Err(soften(GroupFailure::Unavailable, maybe_happened));
                settled.push(Settled { re, conversation, answer });
                continue;
            }
            request.state = State::Insisted;
            let Request { ticket, ask, maybe_happened, .. } = &*request;
            effects.push(Effect::Insist {
                ticket: *ticket,
                conversation: conversation.clone(),
                ask: ask.clone(),
                within_ms,
                maybe_happened: *maybe_happened,
            });
            break;
        }
        settled
    }
}

impl Core {
    /// Whether a request may go to this leader now.
    pub(in crate::session) fn posting(&mut self, ticket: u64, leader: Option<NodeId>) -> bool {
        self.asked.posting(ticket, leader)
    }

    /// The group actor's answer, unless the message's own event came first and was the answer.
    pub(in crate::session) fn submitted(&mut self, now_ms: u64, ticket: u64, answer: GroupAnswer) {
        let settled = self.asked.answered(now_ms, ticket, answer, &mut self.effects);
        self.settle(settled);
    }

    /// The last word on a request that was asked again.
    pub(in crate::session) fn insisted(&mut self, now_ms: u64, ticket: u64, answer: GroupAnswer) {
        let settled = self.asked.insisted(now_ms, ticket, answer, &mut self.effects);
        self.settle(settled);
    }

    /// Tells the client what requests came to.
    pub(super) fn settle(&mut self, settled: Vec<Settled>) {
        for Settled { re, conversation, answer } in settled {
            match answer {
                Ok(done) => self.ack(re, conversation, done.seq, done.duplicate),
                Err(failure) => {
                    let (code, message, retry_after_ms) = requests::failure(failure);
                    self.error(Some(re), code, message, retry_after_ms);
                }
            }
        }
    }

    fn ack(&mut self, re: u64, conversation: ConversationId, seq: u64, duplicate: bool) {
        let epoch = self.service.epoch;
        self.write(&ServerFrame::Ack { re, conversation, seq, epoch, duplicate });
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use chat::errors::ErrorCode;
    use chat::event::BodyKind;
    use chat::ids::GroupId;
    use uuid::Uuid;

    use super::*;
    use crate::group::message::GroupDone;

    fn group(n: u128) -> ConversationId {
        ConversationId::Group(GroupId(Uuid::from_u128(n)))
    }

    fn send(id: u128) -> GroupAsk {
        let client_msg_id = ClientMsgId(Uuid::from_u128(id));
        GroupAsk::Send { client_msg_id, kind: BodyKind::Text, plain: Bytes::from_static(b"hi") }
    }

    const DONE: GroupAnswer = Ok(GroupDone { seq: 1, duplicate: false });
    const NOT_LEADER: GroupAnswer = Err(GroupFailure::NotLeader { leader: None });

    /// Tickets that are asked again by these effects.
    fn insisted(effects: &mut Vec<Effect>) -> Vec<u64> {
        let ticket = |effect: Effect| match effect {
            Effect::Insist { ticket, .. } => ticket,
            other => panic!("{other:?}"),
        };
        std::mem::take(effects).into_iter().map(ticket).collect()
    }

    fn answers(settled: Vec<Settled>) -> Vec<(u64, GroupAnswer)> {
        settled.into_iter().map(|settled| (settled.re, settled.answer)).collect()
    }

    #[test]
    fn requests_of_a_conversation_keep_their_order_while_the_leader_changes() {
        let mut asked = Asked::default();
        let mut effects = Vec::new();
        for re in 1..=3 {
            assert!(asked.ask(0, re, group(1), send(u128::from(re))).is_some());
        }
        assert_eq!(answers(asked.answered(1, 1, NOT_LEADER, &mut effects)), []);
        assert_eq!(insisted(&mut effects), [1]);
        assert_eq!(answers(asked.answered(1, 2, NOT_LEADER, &mut effects)), []);
        assert!(asked.ask(2, 4, group(1), send(4)).is_none(), "it waits behind the others");
        assert!(asked.ask(2, 5, group(2), send(5)).is_some(), "another conversation does not");
        assert_eq!(answers(asked.answered(2, 3, NOT_LEADER, &mut effects)), []);
        assert!(insisted(&mut effects).is_empty());
        assert_eq!(answers(asked.insisted(3, 1, DONE, &mut effects)), [(1, DONE)]);
        let posted = |effect: Effect| match effect {
            Effect::Submit { ticket, .. } => ticket,
            other => panic!("{other:?}"),
        };
        let released: Vec<u64> = std::mem::take(&mut effects).into_iter().map(posted).collect();
        assert_eq!(released, [2, 3, 4], "once one got through the others are posted, in order");
        assert!(asked.ask(4, 6, group(1), send(6)).is_some());
        assert_eq!(answers(asked.answered(5, 3, DONE, &mut effects)), [(3, DONE)]);

        assert_eq!(answers(asked.answered(5, 2, NOT_LEADER, &mut effects)), []);
        assert_eq!(insisted(&mut effects), [2]);
        assert_eq!(answers(asked.answered(5, 4, NOT_LEADER, &mut effects)), []);
        let unavailable = Err(GroupFailure::Unavailable);
        assert_eq!(answers(asked.insisted(6, 2, unavailable, &mut effects)), [(2, unavailable)]);
        assert_eq!(insisted(&mut effects), [4], "without a leader one after the other");
    }

    #[test]
    fn what_another_leader_has_not_answered_is_not_overtaken() {
        let mut asked = Asked::default();
        let mut effects = Vec::new();
        for re in 1..=3 {
            asked.ask(0, re, group(1), send(u128::from(re)));
        }
        assert!(asked.posting(1, Some(1)) && asked.posting(2, Some(1)));
        assert!(!asked.posting(3, Some(2)), "the leader has changed");
        assert_eq!(answers(asked.answered(1, 1, DONE, &mut effects)), [(1, DONE)]);
        assert_eq!(effects, []);
        assert_eq!(answers(asked.answered(1, 2, DONE, &mut effects)), [(2, DONE)]);
        assert!(matches!(effects[..], [Effect::Submit { ticket: 3, .. }]), "{effects:?}");
        assert!(asked.posting(3, Some(2)));
    }

    #[test]
    fn a_doubt_stays_and_what_cannot_be_repeated_is_not() {
        let mut asked = Asked::default();
        let mut effects = Vec::new();
        asked.ask(0, 1, group(1), send(1));
        asked.ask(0, 2, group(2), GroupAsk::Join);
        let unknown = Err(GroupFailure::Unknown);
        assert_eq!(answers(asked.answered(1, 2, unknown, &mut effects)), [(2, unknown)]);
        assert_eq!(answers(asked.answered(1, 1, unknown, &mut effects)), []);
        assert_eq!(insisted(&mut effects), [1]);
        let unavailable = Err(GroupFailure::Unavailable);
        assert_eq!(answers(asked.insisted(2, 1, unavailable, &mut effects)), [(1, unknown)]);
        let rejected = Err(GroupFailure::Rejected(ErrorCode::NotAMember));
        asked.ask(0, 3, group(1), send(3));
        assert_eq!(answers(asked.answered(1, 3, rejected, &mut effects)), [(3, rejected)]);
    }

    #[test]
    fn what_nobody_answers_is_asked_again_or_said_to_be_unknown() {
        let mut asked = Asked::default();
        let mut effects = Vec::new();
        let attempt_ms = ATTEMPT.as_millis() as u64;
        asked.ask(0, 1, group(1), send(1));
        asked.ask(0, 2, group(2), GroupAsk::Join);
        assert_eq!(asked.overdue(attempt_ms - 1, &mut effects), []);
        assert_eq!(asked.overdue(attempt_ms, &mut effects), []);
        assert_eq!(insisted(&mut effects), [1]);
        assert_eq!(answers(asked.answered(attempt_ms, 1, NOT_LEADER, &mut effects)), [], "a late failure says nothing");
        assert_eq!(answers(asked.answered(attempt_ms, 1, DONE, &mut effects)), [(1, DONE)], "a late success does");
        let unknown = Err(GroupFailure::Unknown);
        assert_eq!(answers(asked.overdue(limits::REQUEST_TIMEOUT_MS, &mut effects)), [(2, unknown)]);
        assert_eq!(asked.len(), 0);
    }
}
