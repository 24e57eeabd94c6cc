//! Requests to group actors that have no answer yet, in the order they were made.
//!
//! Where asking again is safe it is done before the client hears of a failure. Requests to one conversation keep their
//! order meanwhile: each is posted as coming after the one before it, so that the group actor refuses whatever follows
//! one that it did not take; those wait for it, and are posted once it got through.

use std::collections::VecDeque;

use chat::ids::{ClientMsgId, ConversationId};
use chat::limits;
use chat::wire::ServerFrame;

use super::{Core, Effect};
use crate::group::{GroupAnswer, GroupAsk, GroupFailure};
use crate::router::{ATTEMPT, again, soften};
use crate::session::requests;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Posted,
    /// Posted, and one before it has failed so: unless it was decided before that, it will be refused.
    Doomed(GroupFailure),
    /// To be asked again, in its turn.
    Waiting,
    /// Asked again; that answer is the last word.
    Insisted,
}

impl State {
    /// Its first attempt has no answer yet.
    fn is_under_way(self) -> bool {
        matches!(self, Self::Posted | Self::Doomed(_))
    }
}

#[derive(Debug)]
struct Request {
    ticket: u64,
    re: u64,
    conversation: ConversationId,
    ask: GroupAsk,
    since_ms: u64,
    state: State,
    /// An attempt ended without saying what it did.
    maybe_happened: bool,
}

impl Request {
    fn submit(&self, after: Option<u64>) -> Effect {
        let (ticket, conversation, ask) = (self.ticket, self.conversation.clone(), self.ask.clone());
        Effect::Submit { ticket, after, conversation, ask }
    }
}

#[derive(Debug, Default)]
pub(in crate::session) struct Asked {
    requests: Vec<Request>,
    last_ticket: u64,
    /// Messages that the group actor has answered before their events came here, the newest last: what is asked again meanwhile
    /// is a repetition, which those events do not answer.
    ahead: VecDeque<ClientMsgId>,
}

/// What a request came to.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::session) struct Settled {
    pub(in crate::session) re: u64,
    pub(in crate::session) conversation: ConversationId,
    pub(in crate::session) answer: GroupAnswer,
}

impl Asked {
    pub(in crate::session) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(in crate::session) fn ask(
        &mut self,
        now_ms: u64,
        re: u64,
        conversation: ConversationId,
        ask: GroupAsk,
    ) -> Option<Effect> {
        let mut before = self.requests.iter().filter(|other| other.conversation == conversation);
        let after = before.clone().next_back().map(|other| other.ticket);
        let state = if before.all(|other| other.state == State::Posted) { State::Posted } else { State::Waiting };
        self.last_ticket += 1;
        let (ticket, since_ms, maybe_happened) = (self.last_ticket, now_ms, false);
        let request = Request { ticket, re, conversation, ask, since_ms, state, maybe_happened };
        let effect = (state == State::Posted).then(|| request.submit(after));
        self.requests.push(request);
        effect
    }

    /// The answer to the first attempt.
    pub(in crate::session) fn answered(
        &mut self,
        now_ms: u64,
        ticket: u64,
        answer: GroupAnswer,
        effects: &mut Vec<Effect>,
    ) -> Vec<Settled> {
        let Some(place) = self.place(ticket) else { return Vec::new() };
        let request = &self.requests[place];
        let failure = match answer {
            // It was given up, and is asked again.
            Err(_) if !request.state.is_under_way() => return Vec::new(),
            Err(failure) if !failure.is_decided() => failure,
            _ => {
                self.went_ahead(place, answer);
                return self.settle(now_ms, place, answer, effects);
            }
        };
        let failure = match (failure, request.state) {
            // What is behind a request that was turned away is turned away with it.
            (
                GroupFailure::OutOfTurn,
                State::Doomed(why @ (GroupFailure::Overloaded { .. } | GroupFailure::TooOften { .. })),
            ) => why,
            (failure, _) => failure,
        };
        self.failed(now_ms, place, failure, effects)
    }

    fn went_ahead(&mut self, place: usize, answer: GroupAnswer) {
        let (Ok(done), GroupAsk::Send { client_msg_id, .. }) = (answer, &self.requests[place].ask) else { return };
        if done.duplicate {
            return;
        }
        if self.ahead.len() == limits::SESSION_IN_FLIGHT {
            self.ahead.pop_front();
        }
        self.ahead.push_back(*client_msg_id);
    }

    /// The last word on a request that was asked again.
    pub(in crate::session) fn insisted(
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
        if let Some(place) = self.ahead.iter().position(|known| *known == id) {
            self.ahead.remove(place);
            return Vec::new();
        }
        let Some(place) = self.requests.iter().position(same) else { return Vec::new() };
        let done = crate::group::message::GroupDone { seq, duplicate: false };
        self.settle(now_ms, place, Ok(done), effects)
    }

    /// First attempts that had no answer for too long.
    pub(in crate::session) fn overdue(&mut self, now_ms: u64, effects: &mut Vec<Effect>) -> Vec<Settled> {
        let mut settled = Vec::new();
        let mut place = 0;
        while let Some(request) = self.requests.get_mut(place) {
            let age_ms = now_ms.saturating_sub(request.since_ms);
            let patience_ms =
                if request.ask.idempotent() { ATTEMPT.as_millis() as u64 } else { limits::REQUEST_TIMEOUT_MS };
            if !request.state.is_under_way() || age_ms < patience_ms {
                place += 1;
                continue;
            }
            settled.extend(if age_ms >= limits::REQUEST_TIMEOUT_MS {
                self.give_up(now_ms, place, GroupFailure::Unknown, effects)
            } else {
                self.failed(now_ms, place, GroupFailure::Unknown, effects)
            });
            // What it leads to may be anywhere.
            place = 0;
        }
        settled
    }

    /// A first attempt came to nothing: it is asked again in its turn, if that is safe.
    fn failed(&mut self, now_ms: u64, place: usize, failure: GroupFailure, effects: &mut Vec<Effect>) -> Vec<Settled> {
        let request = &mut self.requests[place];
        if !again(failure, request.ask.idempotent()) {
            return self.give_up(now_ms, place, failure, effects);
        }
        request.state = State::Waiting;
        request.maybe_happened |= failure == GroupFailure::Unknown;
        let conversation = request.conversation.clone();
        self.doom(place, failure);
        self.go_on(now_ms, &conversation, failure == GroupFailure::OutOfTurn, effects)
    }

    fn give_up(&mut self, now_ms: u64, place: usize, failure: GroupFailure, effects: &mut Vec<Effect>) -> Vec<Settled> {
        self.doom(place, failure);
        self.settle(now_ms, place, Err(failure), effects)
    }

    fn place(&self, ticket: u64) -> Option<usize> {
        self.requests.iter().position(|request| request.ticket == ticket)
    }

    /// The group actor takes nothing that it was to take after this one.
    fn doom(&mut self, place: usize, why: GroupFailure) {
        let (before, rest) = self.requests.split_at_mut(place + 1);
        let Some(failed) = before.last() else { return };
        for behind in rest.iter_mut().filter(|behind| behind.conversation == failed.conversation) {
            if behind.state == State::Posted {
                behind.state = State::Doomed(why);
            }
        }
    }

    fn settle(&mut self, now_ms: u64, place: usize, answer: GroupAnswer, effects: &mut Vec<Effect>) -> Vec<Settled> {
        let Request { re, conversation, maybe_happened, .. } = self.requests.remove(place);
        let decided = answer.map_or_else(GroupFailure::is_decided, |_| true);
        let answer = answer.map_err(|failure| soften(failure, maybe_happened));
        let mut settled = vec![Settled { re, conversation: conversation.clone(), answer }];
        settled.extend(self.go_on(now_ms, &conversation, decided, effects));
        settled
    }

    /// If the first request of the conversation waits, it is asked again. `decided`: there is somebody who decides, so it
    /// is posted with those that wait behind it; without a leader one goes after the other.
    fn go_on(
        &mut self,
        now_ms: u64,
        conversation: &ConversationId,
        decided: bool,
        effects: &mut Vec<Effect>,
    ) -> Vec<Settled> {
        let mut settled = Vec::new();
        while let Some(place) = self.requests.iter().position(|request| request.conversation == *conversation) {
            let request = &mut self.requests[place];
            let within_ms = (request.since_ms + limits::REQUEST_TIMEOUT_MS).saturating_sub(now_ms);
            if request.state != State::Waiting {
                break;
            }
            if within_ms == 0 {
                let Request { re, conversation, maybe_happened, .. } = self.requests.remove(place);
                let answer = Err(soften(GroupFailure::Unavailable, maybe_happened));
                settled.push(Settled { re, conversation, answer });
                continue;
            }
            if decided {
                self.post(conversation, effects);
                break;
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

    /// Posts those that wait, up to one that is about to be refused: what came after it would be, too.
    fn post(&mut self, conversation: &ConversationId, effects: &mut Vec<Effect>) {
        let mut after = None;
        for request in self.requests.iter_mut().filter(|request| request.conversation == *conversation) {
            if request.state != State::Waiting {
                break;
            }
            request.state = State::Posted;
            effects.push(request.submit(after));
            after = Some(request.ticket);
        }
    }
}

impl Core {
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
        GroupAsk::Send { client_msg_id, kind: BodyKind::Text, plain: Bytes::from_static(b"hi"), relations: None }
    }

    const DONE: GroupAnswer = Ok(GroupDone { seq: 1, duplicate: false });
    const OUT_OF_TURN: GroupAnswer = Err(GroupFailure::OutOfTurn);
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

    /// Tickets that are posted by these effects, each with the one it comes after.
    fn posted(effects: &mut Vec<Effect>) -> Vec<(u64, Option<u64>)> {
        let ticket = |effect: Effect| match effect {
            Effect::Submit { ticket, after, .. } => (ticket, after),
            other => panic!("{other:?}"),
        };
        std::mem::take(effects).into_iter().map(ticket).collect()
    }

    #[test]
    fn requests_of_a_conversation_keep_their_order_while_the_leader_changes() {
        let mut asked = Asked::default();
        let mut effects = Vec::new();
        for re in 1..=3 {
            effects.extend(asked.ask(0, re, group(1), send(u128::from(re))));
        }
        assert_eq!(posted(&mut effects), [(1, None), (2, Some(1)), (3, Some(2))]);
        assert_eq!(answers(asked.answered(1, 1, NOT_LEADER, &mut effects)), []);
        assert_eq!(insisted(&mut effects), [1]);
        assert_eq!(answers(asked.answered(1, 2, OUT_OF_TURN, &mut effects)), []);
        assert!(asked.ask(2, 4, group(1), send(4)).is_none(), "it waits behind the others");
        assert!(asked.ask(2, 5, group(2), send(5)).is_some(), "another conversation does not");
        assert_eq!(answers(asked.answered(2, 3, OUT_OF_TURN, &mut effects)), []);
        assert!(insisted(&mut effects).is_empty());
        assert_eq!(answers(asked.insisted(3, 1, DONE, &mut effects)), [(1, DONE)]);
        assert_eq!(posted(&mut effects), [(2, None), (3, Some(2)), (4, Some(3))], "once one got through");
        assert!(asked.ask(4, 6, group(1), send(6)).is_some());
        assert_eq!(answers(asked.answered(5, 2, NOT_LEADER, &mut effects)), []);
        assert_eq!(insisted(&mut effects), [2]);
        assert_eq!(answers(asked.answered(5, 3, NOT_LEADER, &mut effects)), []);
        let unavailable = Err(GroupFailure::Unavailable);
        assert_eq!(answers(asked.insisted(6, 2, unavailable, &mut effects)), [(2, unavailable)]);
        assert_eq!(insisted(&mut effects), [3], "without a leader one after the other");
    }

    #[test]
    fn what_is_behind_a_failure_waits_for_its_own_answer_too() {
        let mut asked = Asked::default();
        let mut effects = Vec::new();
        for re in 1..=2 {
            asked.ask(0, re, group(1), send(u128::from(re)));
        }
        assert_eq!(answers(asked.answered(1, 1, NOT_LEADER, &mut effects)), []);
        assert_eq!(insisted(&mut effects), [1]);
        assert_eq!(answers(asked.insisted(2, 1, DONE, &mut effects)), [(1, DONE)]);
        assert!(asked.ask(2, 3, group(1), send(3)).is_none(), "the second is about to be refused");
        assert_eq!(effects, []);
        assert_eq!(answers(asked.answered(3, 2, OUT_OF_TURN, &mut effects)), []);
        assert_eq!(posted(&mut effects), [(2, None), (3, Some(2))]);
    }

    #[test]
    fn what_comes_after_an_overload_is_turned_away_with_it() {
        let mut asked = Asked::default();
        let mut effects = Vec::new();
        for re in 1..=3 {
            asked.ask(0, re, group(1), send(u128::from(re)));
        }
        let overloaded = Err(GroupFailure::Overloaded { retry_after_ms: 200 });
        assert_eq!(answers(asked.answered(1, 1, overloaded, &mut effects)), [(1, overloaded)]);
        assert_eq!(answers(asked.answered(1, 2, OUT_OF_TURN, &mut effects)), [(2, overloaded)]);
        assert!(asked.ask(2, 4, group(1), send(4)).is_none());
        assert_eq!(answers(asked.answered(1, 3, OUT_OF_TURN, &mut effects)), [(3, overloaded)]);
        assert_eq!(insisted(&mut effects), [4]);
    }

    #[test]
    fn a_doubt_stays_and_what_cannot_be_repeated_is_not() {
        let mut asked = Asked::default();
        let mut effects = Vec::new();
        asked.ask(0, 1, group(1), send(1));
        asked.ask(0, 2, group(2), GroupAsk::Join { invite: None, text: String::new() });
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
        asked.ask(0, 2, group(2), GroupAsk::Join { invite: None, text: String::new() });
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
