//! One session's requests to one group, over two nodes that lead in turn, refuse, are slow and lose what they had: whatever
//! enters the log enters it in the order in which it was asked for.

use std::collections::VecDeque;

use bytes::Bytes;
use chat::command::Outcome;
use chat::event::BodyKind;
use chat::ids::{ClientMsgId, ConversationId, GroupId, UserId};
use cluster::Fence;
use proptest::prelude::*;
use uuid::Uuid;

use super::core::Effect;
use super::core::asked::Asked;
use crate::group::core::{Asked as Request, Core, Effect as GroupEffect, Local, Proposal};
use crate::group::{GroupAnswer, GroupAsk, GroupFailure, Turn};

const SESSION: Uuid = Uuid::from_u128(1);

fn conversation() -> ConversationId {
    ConversationId::Group(GroupId(Uuid::from_u128(2)))
}

/// What the group actor is told of: the same ticket asked again is a repetition for the log.
#[derive(Debug, Clone, Copy)]
struct Ask {
    turn: Turn,
    number: u128,
}

/// The answer goes to the session's first attempt or to its insistence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    First(u64),
    Insist(u64),
}

/// A group actor with its proposer.
struct Node {
    core: Core<To>,
    inbox: VecDeque<(Ask, To)>,
    checks: VecDeque<u64>,
    queue: VecDeque<(u64, Fence, u128)>,
    fence: u64,
    /// Decided and not yet told to the actor.
    decided: VecDeque<(u64, Result<Outcome, GroupFailure>)>,
    answers: VecDeque<(To, GroupAnswer)>,
}

impl Node {
    fn new() -> Self {
        let (inbox, checks, queue, decided, answers) = Default::default();
        Self { core: Core::new(conversation()), inbox, checks, queue, fence: 0, decided, answers }
    }

    fn act(&mut self, effects: Vec<GroupEffect<To>>, full: bool) {
        for effect in effects {
            match effect {
                GroupEffect::Answer(to, answer) => self.answers.push_back((to, answer)),
                GroupEffect::ConfirmMember { ticket, .. } => self.checks.push_back(ticket),
                GroupEffect::Propose(Proposal { ticket, .. }) if full => {
                    let answers = self.core.proposed(ticket, Err(GroupFailure::Overloaded { retry_after_ms: 1 }));
                    self.act(answers, full);
                }
                GroupEffect::Propose(Proposal { ticket, ask, fence, .. }) => {
                    let GroupAsk::Send { client_msg_id, .. } = ask else { panic!("{ask:?}") };
                    self.queue.push_back((ticket, fence, client_msg_id.0.as_u128()));
                }
                GroupEffect::CheckUsers { .. } | GroupEffect::CheckPeer { .. } => panic!("not in a group"),
                GroupEffect::FindOriginal { .. } => panic!("only messages are sent"),
            }
        }
    }

    fn hear(&mut self, member: bool, full: bool) {
        let Some((Ask { turn, number }, to)) = self.inbox.pop_front() else { return };
        let client_msg_id = ClientMsgId(Uuid::from_u128(number));
        let request = Request {
            actor: UserId::new("alice").unwrap(),
            ask: GroupAsk::Send { client_msg_id, kind: BodyKind::Text, plain: Bytes::new(), relations: None },
            digest: Some([0; 16]),
            local: Local { exists: member, member },
            turn,
            fence: Fence(self.fence),
        };
        let effects = self.core.asked(request, to);
        self.act(effects, full);
    }

    fn check(&mut self, verdict: Result<(), GroupFailure>) {
        if let Some(ticket) = self.checks.pop_front() {
            let effects = self.core.checked(ticket, verdict);
            self.act(effects, false);
        }
    }

    /// Proposes what waits, up to `count`, as one entry.
    fn propose(&mut self, count: usize, refuse: Option<GroupFailure>, log: &mut Vec<u128>) {
        let mut entry = Vec::new();
        while entry.len() < count {
            match self.queue.pop_front() {
                Some((ticket, fence, number)) if fence == Fence(self.fence) => entry.push((ticket, number)),
                Some((ticket, ..)) => self.decided.push_back((ticket, Err(GroupFailure::Unavailable))),
                None => break,
            }
        }
        if entry.is_empty() {
            return;
        }
        self.fence += u64::from(refuse.is_some());
        for (ticket, number) in entry {
            let outcome = match refuse {
                Some(failure) => Err(failure),
                None => {
                    let duplicate = log.contains(&number);
                    if !duplicate {
                        log.push(number);
                    }
                    Ok(Outcome::Applied { seq: 1, duplicate })
                }
            };
            self.decided.push_back((ticket, outcome));
        }
    }

    fn decide(&mut self) {
        if let Some((ticket, outcome)) = self.decided.pop_front() {
            let effects = self.core.proposed(ticket, outcome);
            self.act(effects, false);
        }
    }
}

struct World {
    asked: Asked,
    now_ms: u64,
    made: u64,
    leader: Option<usize>,
    nodes: [Node; 2],
    /// Insisted and not posted yet.
    insisting: VecDeque<u64>,
    /// In the order in which requests entered it.
    log: Vec<u128>,
    /// Requests whose last word was a failure: the client knows.
    failed: Vec<u128>,
}

#[derive(Debug, Clone)]
enum Step {
    Ask,
    Lead(Option<usize>),
    /// A node hears its next request; whether it sees the sender as a member, and whether its proposer's queue is full.
    Hear(usize, bool, bool),
    /// What is on its way to a node is refused before the group actor sees it.
    Lose(usize, GroupFailure),
    Check(usize, Result<(), GroupFailure>),
    Propose(usize, usize, Option<GroupFailure>),
    Decide(usize),
    Answer(usize),
    Insist,
    Wait(u64),
}

impl World {
    fn new() -> Self {
        let (asked, insisting, log, failed) = Default::default();
        let nodes = [Node::new(), Node::new()];
        Self { asked, now_ms: 0, made: 0, leader: Some(0), nodes, insisting, log, failed }
    }

    fn post(&mut self, ask: Ask, to: To) {
        match self.leader {
            Some(node) => self.nodes[node].inbox.push_back((ask, to)),
            None => self.nodes[0].answers.push_back((to, Err(GroupFailure::NotLeader { leader: None }))),
        }
    }

    fn act(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Submit { ticket, after, ask, .. } => {
                    let turn = Turn { session: SESSION, ticket, after };
                    self.post(Ask { turn, number: number(&ask) }, To::First(ticket));
                }
                Effect::Insist { ticket, .. } => self.insisting.push_back(ticket),
                other => panic!("{other:?}"),
            }
        }
    }

    fn answer(&mut self, node: usize) {
        let Some((to, answer)) = self.nodes[node].answers.pop_front() else { return };
        let mut effects = Vec::new();
        let settled = match to {
            To::First(ticket) => self.asked.answered(self.now_ms, ticket, answer, &mut effects),
            To::Insist(ticket) => self.asked.insisted(self.now_ms, ticket, answer, &mut effects),
        };
        self.settle(settled);
        self.act(effects);
    }

    fn settle(&mut self, settled: Vec<super::core::asked::Settled>) {
        self.failed.extend(settled.iter().filter(|s| s.answer.is_err()).map(|s| u128::from(s.re)));
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Ask if self.asked_for() < 64 => {
                self.made += 1;
                let client_msg_id = ClientMsgId(Uuid::from_u128(u128::from(self.made)));
                let ask = GroupAsk::Send { client_msg_id, kind: BodyKind::Text, plain: Bytes::new(), relations: None };
                let effect = self.asked.ask(self.now_ms, self.made, conversation(), ask);
                self.act(effect.into_iter().collect());
            }
            Step::Ask => {}
            Step::Lead(leader) => self.leader = leader,
            Step::Hear(node, member, full) => self.nodes[node].hear(member, full),
            Step::Lose(node, failure) => {
                if let Some((_, to)) = self.nodes[node].inbox.pop_front() {
                    self.nodes[node].answers.push_back((to, Err(failure)));
                }
            }
            Step::Check(node, verdict) => self.nodes[node].check(verdict),
            // Only the leader's entries get into the log.
            Step::Propose(node, count, refuse) => {
                let refuse = refuse.or((self.leader != Some(node)).then_some(GroupFailure::NotLeader { leader: None }));
                self.nodes[node].propose(count, refuse, &mut self.log);
            }
            Step::Decide(node) => self.nodes[node].decide(),
            Step::Answer(node) => self.answer(node),
            Step::Insist => {
                if let Some(ticket) = self.insisting.pop_front() {
                    let turn = Turn { session: SESSION, ticket, after: None };
                    // Tickets are given in the order of the requests, one for each.
                    self.post(Ask { turn, number: u128::from(ticket) }, To::Insist(ticket));
                }
            }
            Step::Wait(ms) => {
                self.now_ms += ms;
                let mut effects = Vec::new();
                let settled = self.asked.overdue(self.now_ms, &mut effects);
                self.settle(settled);
                self.act(effects);
            }
        }
    }

    fn asked_for(&self) -> usize {
        self.asked.len()
    }

    /// Everybody does their work and nothing fails any more.
    fn come_to_rest(&mut self) {
        self.leader = Some(1);
        for _ in 0..10_000 {
            for node in 0..2 {
                self.step(Step::Hear(node, true, false));
                self.step(Step::Check(node, Ok(())));
                self.step(Step::Propose(node, 8, None));
                self.step(Step::Decide(node));
                self.step(Step::Answer(node));
            }
            self.step(Step::Insist);
            if self.asked_for() == 0 {
                return;
            }
        }
        panic!("{} requests have no answer", self.asked_for());
    }
}

fn number(ask: &GroupAsk) -> u128 {
    match ask {
        GroupAsk::Send { client_msg_id, .. } => client_msg_id.0.as_u128(),
        other => panic!("{other:?}"),
    }
}

fn failures() -> impl Strategy<Value = GroupFailure> {
    prop_oneof![
        Just(GroupFailure::NotLeader { leader: None }),
        Just(GroupFailure::Unavailable),
        Just(GroupFailure::Overloaded { retry_after_ms: 1 }),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let node = 0..2_usize;
    prop_oneof![
        8 => Just(Step::Ask),
        1 => prop_oneof![Just(None), Just(Some(0)), Just(Some(1))].prop_map(Step::Lead),
        8 => (node.clone(), prop::bool::weighted(0.9), prop::bool::weighted(0.1)).prop_map(|(n, m, f)| Step::Hear(n, m, f)),
        1 => (node.clone(), failures()).prop_map(|(n, f)| Step::Lose(n, f)),
        2 => (node.clone(), prop_oneof![3 => Just(Ok(())), 1 => Just(Err(GroupFailure::Unavailable))])
            .prop_map(|(n, verdict)| Step::Check(n, verdict)),
        6 => (node.clone(), 1..4_usize, prop::option::weighted(0.2, failures()))
            .prop_map(|(n, count, refuse)| Step::Propose(n, count, refuse)),
        8 => node.clone().prop_map(Step::Decide),
        8 => node.prop_map(Step::Answer),
        3 => Just(Step::Insist),
        1 => prop_oneof![4 => Just(500), 1 => Just(4_500)].prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_log_has_a_sessions_requests_in_their_order(steps in prop::collection::vec(steps(), 1..300)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.come_to_rest();
        // A request that the client was told has failed may still have happened, late.
        let kept: Vec<_> = world.log.iter().filter(|number| !world.failed.contains(number)).collect();
        prop_assert!(kept.is_sorted(), "{:?}", world.log);
        for number in 1..=u128::from(world.made) {
            prop_assert!(world.log.contains(&number) || world.failed.contains(&number), "{number} is lost");
        }
    }
}
