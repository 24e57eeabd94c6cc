//! Three nodes' cores with the connections between them: notes wait until they are delivered or lost, leaders change, and
//! not everybody knows at once.
//!
//! Long because the stage and the stories on it are read together.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chat::ids::AppId;
use chat::limits;
use chat::state::record::Privacy;
use chat::wire::{Appearance, Audience, PresenceState};
use proptest::prelude::*;

use super::super::message::Facts;
use super::*;

const NODES: u64 = 3;
const SHARDS: u16 = 2;
/// When the story begins, for people.
const UNIX_MS: u64 = 1_700_000_000_000;
/// Long enough for everything to come to rest.
const REST_MS: u64 = 30_000;

fn key(name: &str) -> UserKey {
    UserKey { app: AppId::new("main").unwrap(), user: UserId::new(name).unwrap() }
}

fn id(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// A client as it sees the others.
struct Client {
    node: NodeId,
    user: UserId,
    platform: &'static str,
    appearance: Appearance,
    subscribed: BTreeSet<UserId>,
    sees: BTreeMap<UserId, Shown>,
    /// Everything it was told, in order.
    heard: Vec<(UserId, PresenceState)>,
    answers: usize,
}

struct World {
    now_ms: u64,
    incarnations: u64,
    cores: BTreeMap<NodeId, Core>,
    lanes: BTreeMap<(NodeId, NodeId), VecDeque<PresenceNote>>,
    /// What each node takes for the leaders.
    views: BTreeMap<NodeId, Vec<Option<NodeId>>>,
    leaders: Vec<Option<NodeId>>,
    clients: BTreeMap<SessionNumber, Client>,
    sessions: SessionNumber,
    records: BTreeMap<UserKey, Facts>,
    saves: usize,
}

impl World {
    fn new() -> Self {
        let leaders = vec![Some(1); usize::from(SHARDS)];
        let mut world = Self {
            now_ms: 1_000_000,
            incarnations: 0,
            cores: BTreeMap::new(),
            lanes: BTreeMap::new(),
            views: (1..=NODES).map(|node| (node, leaders.clone())).collect(),
            leaders,
            clients: BTreeMap::new(),
            sessions: 0,
            records: BTreeMap::new(),
            saves: 0,
        };
        (1..=NODES).for_each(|node| world.start(node));
        world.run(300);
        world
    }

    fn start(&mut self, node: NodeId) {
        self.incarnations += 1;
        self.cores.entry(node).or_insert_with(|| Core::new(node, SHARDS, self.incarnations));
    }

    fn kill(&mut self, node: NodeId) {
        self.cores.remove(&node);
        self.clients.retain(|_, client| client.node != node);
        for other in 1..=NODES {
            self.cut(node, other);
            self.cut(other, node);
        }
    }

    /// The connection breaks, with what is on it; it is made anew at once if both are there.
    fn cut(&mut self, from: NodeId, to: NodeId) {
        self.lanes.remove(&(from, to));
        if let Some(core) = self.cores.get_mut(&from) {
            core.input(now(self.now_ms), Input::Lost { peer: to });
        }
    }

    fn lead(&mut self, shard: u16, leader: Option<NodeId>) {
        self.leaders[usize::from(shard)] = leader;
    }

    fn lead_all(&mut self, leader: NodeId) {
        self.leaders = vec![Some(leader); usize::from(SHARDS)];
    }

    fn learn(&mut self, node: NodeId) {
        self.views.insert(node, self.leaders.clone());
    }

    fn input(&mut self, node: NodeId, input: Input) {
        let now = now(self.now_ms);
        if let Some(core) = self.cores.get_mut(&node) {
            core.input(now, input);
            self.settle(node);
        }
    }

    fn tick(&mut self, node: NodeId) {
        let nodes = (1..=NODES).map(|other| (other, self.cores.contains_key(&other))).collect();
        let sight = Sight { leaders: self.views[&node].clone(), nodes };
        if let Some(core) = self.cores.get_mut(&node) {
            core.tick(now(self.now_ms), &sight);
            self.settle(node);
        }
    }

    fn settle(&mut self, node: NodeId) {
        let Some(core) = self.cores.get_mut(&node) else { return };
        let effects = core.settle(now(self.now_ms));
        // Looks take their time: what follows from them comes after the rest.
        let (looks, others): (Vec<_>, Vec<_>) =
            effects.into_iter().partition(|effect| matches!(effect, Effect::Look { .. }));
        for effect in others.into_iter().chain(looks) {
            self.act(node, effect);
        }
    }

    fn act(&mut self, node: NodeId, effect: Effect) {
        match effect {
            Effect::Tell { to, note } if self.cores.contains_key(&to) => {
                self.lanes.entry((node, to)).or_default().push_back(note);
            }
            Effect::Tell { to, .. } => self.cut(node, to),
            Effect::Look { key, number, .. } => {
                let facts = Some(self.records.get(&key).copied().unwrap_or_default());
                self.input(node, Input::Looked { key, number, facts });
            }
            Effect::Save { key, at_ms, .. } => {
                self.saves += 1;
                let record = self.records.entry(key).or_default();
                record.last_seen_ms = record.last_seen_ms.max(Some(at_ms));
            }
            Effect::Push { sessions, user, shown } => {
                for session in sessions {
                    self.tell(session, user.clone(), shown.clone());
                }
            }
            Effect::Answer { session, users, .. } => {
                if let Some(client) = self.clients.get_mut(&session) {
                    client.answers += 1;
                }
                users.into_iter().for_each(|(user, shown)| self.tell(session, user, shown));
            }
        }
    }

    fn tell(&mut self, session: SessionNumber, user: UserId, shown: Shown) {
        let Some(client) = self.clients.get_mut(&session) else { return };
        if client.subscribed.contains(&user) {
            client.heard.push((user.clone(), shown.state));
            client.sees.insert(user, shown);
        }
    }

    /// Delivers one note.
    fn deliver(&mut self, from: NodeId, to: NodeId) -> bool {
        let Some(note) = self.lanes.get_mut(&(from, to)).and_then(VecDeque::pop_front) else { return false };
        self.input(to, Input::Told { from, note });
        true
    }

    fn deliver_all(&mut self) {
        loop {
            let lanes: Vec<_> = self.lanes.keys().copied().collect();
            let any = lanes.into_iter().fold(false, |any, (from, to)| self.deliver(from, to) || any);
            if !any {
                return;
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        for node in 1..=NODES {
            self.tick(node);
        }
    }

    /// Time passes, and everything arrives.
    fn run(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(100) {
            self.pass(100);
            self.deliver_all();
        }
    }

    fn come(&mut self, node: NodeId, name: &str, platform: &'static str) -> SessionNumber {
        self.sessions += 1;
        let client = Client {
            node,
            user: id(name),
            platform,
            appearance: Appearance::Online,
            subscribed: BTreeSet::new(),
            sees: BTreeMap::new(),
            heard: Vec::new(),
            answers: 0,
        };
        let session = self.sessions;
        self.clients.insert(session, client);
        self.input(node, Input::Came { session, key: key(name), platform: platform.to_owned() });
        session
    }

    fn go(&mut self, session: SessionNumber) {
        if let Some(client) = self.clients.remove(&session) {
            self.input(client.node, Input::Gone { session });
        }
    }

    fn appear(&mut self, session: SessionNumber, appearance: Appearance) {
        let Some(client) = self.clients.get_mut(&session) else { return };
        client.appearance = appearance;
        let node = client.node;
        self.input(node, Input::Appears { session, appearance });
    }

    fn subscribe(&mut self, session: SessionNumber, names: &[&str]) {
        let users: Vec<UserId> = names.iter().map(|name| id(name)).collect();
        let Some(client) = self.clients.get_mut(&session) else { return };
        client.subscribed.extend(users.iter().cloned());
        let node = client.node;
        self.input(node, Input::Subscribe { session, re: 1, users });
    }

    fn unsubscribe(&mut self, session: SessionNumber, name: &str) {
        let Some(client) = self.clients.get_mut(&session) else { return };
        client.subscribed.remove(&id(name));
        client.sees.remove(&id(name));
        let node = client.node;
        self.input(node, Input::Unsubscribe { session, users: vec![id(name)] });
    }

    fn hide(&mut self, name: &str, online: Audience) {
        self.records.entry(key(name)).or_default().privacy = Privacy { online, ..Privacy::default() };
        for node in 1..=NODES {
            self.input(node, Input::PrivacySet { key: key(name) });
        }
    }

    /// How a user should appear, by the plain rules.
    fn truth(&self, user: &UserId) -> (PresenceState, Vec<String>) {
        let record = self.records.get(&key(user.as_str())).copied().unwrap_or_default();
        let there = || {
            let of_user = self.clients.values().filter(|client| client.user == *user);
            of_user.filter(|client| client.appearance != Appearance::Invisible)
        };
        if record.privacy.online == Audience::Nobody || there().next().is_none() {
            return (PresenceState::Offline, Vec::new());
        }
        let away = there().all(|client| client.appearance == Appearance::Away);
        let platforms: BTreeSet<String> = there().map(|client| client.platform.to_owned()).collect();
        (if away { PresenceState::Away } else { PresenceState::Online }, platforms.into_iter().collect())
    }

    /// Everything is well again and all time has passed that may be needed.
    fn rest(&mut self) {
        for node in 1..=NODES {
            self.start(node);
        }
        for leader in self.leaders.iter_mut() {
            leader.get_or_insert(2);
        }
        for node in 1..=NODES {
            self.learn(node);
        }
        self.run(REST_MS);
    }

    fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (session, client) in &self.clients {
            for user in &client.subscribed {
                let seen = client.sees.get(user).map(|shown| (shown.state, shown.platforms.clone()));
                let truth = self.truth(user);
                if seen.as_ref() != Some(&truth) {
                    wrong.push(format!("session {session} sees {user} as {seen:?}, which is {truth:?}"));
                }
            }
        }
        wrong
    }

    fn heard(&self, session: SessionNumber) -> Vec<PresenceState> {
        self.clients[&session].heard.iter().map(|(_, state)| *state).collect()
    }
}

fn now(ms: u64) -> Now {
    Now { ms, unix_ms: UNIX_MS + ms }
}

use PresenceState::{Away, Offline, Online};

/// Bob, on node 3, hears of Alice; node 1 leads.
fn watched() -> (World, SessionNumber) {
    let mut world = World::new();
    let bob = world.come(3, "bob", "web");
    world.subscribe(bob, &["alice", "nobody"]);
    world.run(500);
    world.clients.get_mut(&bob).unwrap().heard.clear();
    (world, bob)
}

#[test]
fn a_subscription_is_answered_with_all_of_it_and_changes_follow() {
    let mut world = World::new();
    let bob = world.come(3, "bob", "web");
    let alice = world.come(2, "alice", "ios");
    world.run(200);
    world.subscribe(bob, &["alice", "nobody"]);
    assert_eq!(world.clients[&bob].answers, 0, "nothing is known yet");
    world.run(200);
    assert_eq!(world.clients[&bob].answers, 1);
    assert_eq!(world.heard(bob), [Online, Offline]);
    let again = world.come(1, "alice", "web");
    world.run(1_500);
    assert_eq!(world.clients[&bob].sees[&id("alice")].platforms, ["ios", "web"]);
    world.go(again);
    world.appear(alice, Appearance::Away);
    world.run(1_500);
    assert_eq!(world.heard(bob).last(), Some(&Away));
    world.go(alice);
    let gone_ms = UNIX_MS + world.now_ms;
    world.run(limits::PRESENCE_FADE_MS + 2_000);
    let seen = &world.clients[&bob].sees[&id("alice")];
    assert_eq!(seen.state, Offline);
    assert!(seen.last_seen_ms.is_some_and(|at_ms| at_ms.abs_diff(gone_ms) <= 2_000), "{seen:?}");
    assert_eq!((world.saves, world.records[&key("alice")].last_seen_ms), (1, seen.last_seen_ms));
}

#[test]
fn who_comes_back_elsewhere_was_never_gone_and_the_late_goodbye_of_the_old_session_changes_nothing() {
    let (mut world, bob) = watched();
    let old = world.come(2, "alice", "ios");
    world.run(300);
    // The old connection is dead, which nobody knows yet; the new one is on another node.
    let new = world.come(1, "alice", "ios");
    world.run(2_000);
    world.go(old);
    world.run(limits::PRESENCE_FADE_MS * 3);
    assert_eq!(world.heard(bob), [Online]);
    // The other way round: gone first, and back within the time that is given.
    world.go(new);
    world.run(limits::PRESENCE_FADE_MS - 1_500);
    world.come(3, "alice", "ios");
    world.run(limits::PRESENCE_FADE_MS * 3);
    assert_eq!(world.heard(bob), [Online]);
}

#[test]
fn a_new_leader_pulls_and_nobody_is_offline_meanwhile() {
    let (mut world, bob) = watched();
    let alice = world.come(3, "alice", "ios");
    world.run(300);
    world.kill(1);
    world.lead_all(2);
    world.learn(2);
    world.pass(100);
    // The pull is on its way: what happens now is not lost, and neither is it said before all is known.
    world.appear(alice, Appearance::Away);
    world.learn(3);
    world.run(2_000);
    assert_eq!(world.heard(bob), [Online, Away]);
    world.run(limits::PRESENCE_LOST_MS + limits::PRESENCE_FADE_MS * 2);
    assert_eq!(world.heard(bob), [Online, Away]);
    assert_eq!(world.wrong(), Vec::<String>::new());
}

#[test]
fn the_leader_changes_in_the_middle_of_a_pull_and_back_again() {
    let (mut world, bob) = watched();
    world.come(2, "alice", "ios");
    world.run(300);
    for leader in [2, 3, 1, 3] {
        world.lead_all(leader);
        for node in 1..=NODES {
            world.learn(node);
        }
        world.pass(100);
        // The question has arrived, the answer has not.
        (1..=NODES).for_each(|to| _ = world.deliver(leader, to));
    }
    world.run(limits::PRESENCE_FADE_MS * 3);
    assert_eq!(world.heard(bob), [Online]);
    assert_eq!(world.wrong(), Vec::<String>::new());
}

#[test]
fn a_killed_node_takes_its_sessions_with_it_after_a_while_and_no_ghosts_stay() {
    let (mut world, bob) = watched();
    world.come(2, "alice", "ios");
    world.run(300);
    world.kill(2);
    world.run(limits::PRESENCE_LOST_MS - 500);
    assert_eq!(world.heard(bob), [Online]);
    world.run(limits::PRESENCE_FADE_MS + 1_500);
    assert_eq!(world.heard(bob), [Online, Offline]);

    // With the leader: the next one cannot know whom it had.
    world.come(1, "alice", "ios");
    world.run(1_000);
    world.kill(1);
    world.start(2);
    world.lead_all(3);
    (2..=NODES).for_each(|node| world.learn(node));
    world.run(limits::PRESENCE_LOST_MS - 500);
    assert_eq!(world.heard(bob), [Online, Offline, Online]);
    world.run(limits::PRESENCE_FADE_MS + 1_500);
    assert_eq!(world.heard(bob), [Online, Offline, Online, Offline]);
    assert!(world.records[&key("alice")].last_seen_ms > Some(UNIX_MS), "seen by those who heard of her");
}

#[test]
fn a_node_that_restarts_has_none_of_its_old_sessions() {
    let (mut world, bob) = watched();
    world.come(2, "alice", "ios");
    world.run(300);
    world.kill(2);
    world.start(2);
    world.run(limits::PRESENCE_FADE_MS + 1_000);
    assert_eq!(world.heard(bob), [Online, Offline]);
}

#[test]
fn a_goodbye_that_is_lost_on_the_way_is_found_out() {
    let (mut world, bob) = watched();
    let alice = world.come(2, "alice", "ios");
    world.run(1_500);
    world.go(alice);
    world.cut(2, 1);
    world.run(limits::PRESENCE_FADE_MS + 1_000);
    assert_eq!(world.heard(bob), [Online, Offline]);
    // And news that is lost on its way to those who hear of it.
    world.come(2, "alice", "ios");
    world.deliver(2, 1);
    world.cut(1, 3);
    world.run(2_000);
    assert_eq!(world.wrong(), Vec::<String>::new());
}

#[test]
fn a_report_that_is_older_than_what_is_pulled_makes_no_ghost() {
    let (mut world, bob) = watched();
    let phone = world.come(2, "alice", "ios");
    let tablet = world.come(2, "alice", "ios");
    world.run(1_500);
    world.cut(1, 2);
    world.go(phone);
    // The report of one session is on its way when the leader begins to pull anew, and the other one ends.
    world.go(tablet);
    world.run(limits::PRESENCE_FADE_MS * 2);
    assert_eq!(world.heard(bob), [Online, Offline]);
}

#[test]
fn more_users_than_a_page_holds_are_pulled_page_by_page() {
    let (mut world, bob) = watched();
    let names: Vec<String> = (0..2 * limits::PRESENCE_PAGE + 9).map(|n| format!("u{n:04}")).collect();
    for name in &names {
        world.come(2, name, "ios");
    }
    for page in names.chunks(limits::PRESENCE_USERS) {
        world.subscribe(bob, &page.iter().map(String::as_str).collect::<Vec<_>>());
    }
    world.run(500);
    world.clients.get_mut(&bob).unwrap().heard.clear();
    world.lead_all(2);
    (1..=NODES).for_each(|node| world.learn(node));
    world.run(limits::PRESENCE_FADE_MS * 2);
    assert_eq!(world.heard(bob), []);
    assert_eq!(world.wrong(), Vec::<String>::new());
}

#[test]
fn who_hides_appears_as_somebody_who_never_was_there() {
    let (mut world, bob) = watched();
    let alice = world.come(2, "alice", "ios");
    world.run(1_000);
    world.hide("alice", Audience::Nobody);
    world.run(300);
    let sees = |world: &World, user: &str| world.clients[&bob].sees[&id(user)].clone();
    assert_eq!(sees(&world, "alice"), sees(&world, "nobody"));
    world.go(alice);
    world.run(limits::PRESENCE_FADE_MS * 2);
    assert_eq!(sees(&world, "alice"), sees(&world, "nobody"));
    world.hide("alice", Audience::Everyone);
    world.run(300);
    assert!(sees(&world, "alice").last_seen_ms.is_some());
}

#[test]
fn somebody_who_comes_and_goes_is_written_down_once_a_minute() {
    let mut world = World::new();
    for _ in 0..10 {
        let alice = world.come(2, "alice", "ios");
        world.run(1_000);
        world.go(alice);
        world.run(9_000);
    }
    assert!((1..=2).contains(&world.saves), "{}", world.saves);
    world.run(limits::LAST_SEEN_MS);
    let seen = world.records[&key("alice")].last_seen_ms.unwrap();
    assert!(seen + limits::LAST_SEEN_MS + 11_000 > UNIX_MS + world.now_ms, "the last time is written down in the end");
}

#[test]
fn an_answer_comes_though_one_user_cannot_be_known() {
    let mut world = World::new();
    world.lead_all(1);
    world.lead(0, None);
    (1..=NODES).for_each(|node| world.learn(node));
    let bob = world.come(3, "bob", "web");
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    world.subscribe(bob, &names);
    world.run(limits::PRESENCE_ANSWER_MS - 200);
    assert_eq!(world.clients[&bob].answers, 0);
    world.run(300);
    assert_eq!(world.clients[&bob].answers, 1);
    let known = world.clients[&bob].sees.len();
    assert!(known > 0 && known < names.len(), "{known}");
    world.rest();
    assert_eq!(world.clients[&bob].sees.len(), names.len(), "the others follow");
}

#[derive(Debug, Clone)]
enum Step {
    Come(NodeId, usize),
    Go(usize),
    Appear(usize, Appearance),
    Subscribe(usize, usize),
    Unsubscribe(usize, usize),
    Hide(usize, bool),
    Lead(u16, Option<NodeId>),
    Learn(NodeId),
    Kill(NodeId),
    Start(NodeId),
    Cut(NodeId, NodeId),
    Deliver(NodeId, NodeId),
    Pass(u64),
}

const NAMES: [&str; 4] = ["ann", "bob", "cid", "dan"];

fn step() -> impl Strategy<Value = Step> {
    let node = || 1..=NODES;
    let appearance = prop_oneof![Just(Appearance::Online), Just(Appearance::Away), Just(Appearance::Invisible)];
    prop_oneof![
        4 => (node(), 0..NAMES.len()).prop_map(|(node, user)| Step::Come(node, user)),
        3 => (0..8usize).prop_map(Step::Go),
        2 => (0..8usize, appearance).prop_map(|(session, appearance)| Step::Appear(session, appearance)),
        4 => (0..8usize, 0..NAMES.len()).prop_map(|(session, user)| Step::Subscribe(session, user)),
        1 => (0..8usize, 0..NAMES.len()).prop_map(|(session, user)| Step::Unsubscribe(session, user)),
        1 => (0..NAMES.len(), any::<bool>()).prop_map(|(user, hidden)| Step::Hide(user, hidden)),
        2 => (0..SHARDS, proptest::option::weighted(0.8, node())).prop_map(|(shard, leader)| Step::Lead(shard, leader)),
        4 => node().prop_map(Step::Learn),
        1 => node().prop_map(Step::Kill),
        2 => node().prop_map(Step::Start),
        1 => (node(), node()).prop_map(|(from, to)| Step::Cut(from, to)),
        16 => (node(), node()).prop_map(|(from, to)| Step::Deliver(from, to)),
        6 => (1..3_000u64).prop_map(Step::Pass),
    ]
}

fn take(world: &mut World, step: Step) {
    let nth = |world: &World, place: usize| world.clients.keys().nth(place % world.clients.len().max(1)).copied();
    match step {
        Step::Come(node, user) if world.cores.contains_key(&node) => _ = world.come(node, NAMES[user], "web"),
        Step::Come(..) => {}
        Step::Go(place) => nth(world, place).into_iter().for_each(|session| world.go(session)),
        Step::Appear(place, how) => nth(world, place).into_iter().for_each(|session| world.appear(session, how)),
        Step::Subscribe(place, user) => {
            nth(world, place).into_iter().for_each(|session| world.subscribe(session, &[NAMES[user]]));
        }
        Step::Unsubscribe(place, user) => {
            nth(world, place).into_iter().for_each(|session| world.unsubscribe(session, NAMES[user]));
        }
        Step::Hide(user, true) => world.hide(NAMES[user], Audience::Nobody),
        Step::Hide(user, false) => world.hide(NAMES[user], Audience::Everyone),
        Step::Lead(shard, leader) => world.lead(shard, leader),
        Step::Learn(node) => world.learn(node),
        Step::Kill(node) => world.kill(node),
        Step::Start(node) => world.start(node),
        Step::Cut(from, to) => world.cut(from, to),
        Step::Deliver(from, to) => _ = world.deliver(from, to),
        Step::Pass(ms) => world.pass(ms),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Whatever happened on the way: when all is well again, every client sees what is so.
    #[test]
    fn in_the_end_everybody_sees_what_is_so(steps in proptest::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            take(&mut world, step);
        }
        world.rest();
        prop_assert_eq!(world.wrong(), Vec::<String>::new());
    }
}
