//! Who is there, who is typing, and signals, on three nodes: also while leaders and nodes die and come back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use campanile_client::{Client, ClientEvent, Events, Privacy, RequestError};
use chat::errors::ErrorCode;
use chat::ids::{ConversationId, GroupId, NodeId, ShardId, UserId};
use chat::limits;
use chat::wire::{Appearance, Audience, EventContent, PresenceState, SignalBody, Target, UserPresence};
use node::admin::AdminClient;
use tests::{DEADLINE, Stage, app, until, user};
use tokio::time::timeout;
use uuid::Uuid;

const SHARDS: u16 = 4;

/// A client that remembers what it was told of others, in order.
struct Watcher {
    client: Client,
    events: Events,
    sees: BTreeMap<UserId, UserPresence>,
    heard: Vec<(UserId, PresenceState)>,
}

impl Watcher {
    async fn connect(stage: &Stage, name: &str, nodes: &[NodeId], whom: &[&str]) -> Result<Self> {
        let (client, events) = stage.connect(name, nodes).await?;
        let users = client.subscribe_presence(whom.iter().map(|name| user(name)).collect()).await?;
        let mut watcher = Self { client, events, sees: BTreeMap::new(), heard: Vec::new() };
        watcher.note(users);
        Ok(watcher)
    }

    fn note(&mut self, users: Vec<UserPresence>) {
        for seen in users {
            self.heard.push((seen.user.clone(), seen.state));
            self.sees.insert(seen.user.clone(), seen);
        }
    }

    fn state(&self, name: &str) -> Option<PresenceState> {
        self.sees.get(&user(name)).map(|seen| seen.state)
    }

    /// The states that somebody was said to have, one after the other.
    fn states(&self, name: &str) -> Vec<PresenceState> {
        let mut states: Vec<_> =
            self.heard.iter().filter(|(heard, _)| *heard == user(name)).map(|(_, state)| *state).collect();
        states.dedup();
        states
    }

    /// Takes what comes until the condition holds.
    async fn see(&mut self, what: &str, condition: impl Fn(&Self) -> bool) -> Result<()> {
        let started = Instant::now();
        while !condition(self) {
            let left = DEADLINE.saturating_sub(started.elapsed());
            let event = timeout(left, self.events.next()).await.with_context(|| format!("{what}: {:?}", self.sees))?;
            match event.context("a client that goes on")? {
                ClientEvent::Presence { users } => self.note(users),
                ClientEvent::Closed { code, why } => bail!("closed with {code}: {why}"),
                _ => {}
            }
        }
        Ok(())
    }

    async fn sees(&mut self, name: &str, state: PresenceState) -> Result<()> {
        self.see(&format!("{name} {state:?}"), |watcher| watcher.state(name) == Some(state)).await
    }
}

fn rejected(result: Result<impl std::fmt::Debug, RequestError>) -> Option<u16> {
    match result {
        Err(RequestError::Rejected { error, .. }) => Some(error.code),
        _ => None,
    }
}

/// Who leads the shard of a user, as node `asked` tells.
async fn home_of(admin: &AdminClient, name: &str) -> Result<NodeId> {
    let home = ShardId::of_user(&app(), &user(name), SHARDS);
    let shards = admin.status().await?.cluster.shards;
    let led = shards.into_iter().find(|shard| shard.shard == home).context("the shard")?;
    led.leader.context("a leader")
}

/// A name like `name` whose home shard is led by `leader`.
async fn at_home_on(admin: &AdminClient, name: &str, leader: NodeId) -> Result<String> {
    for n in 0..1_000 {
        let name = format!("{name}{n}");
        if home_of(admin, &name).await? == leader {
            return Ok(name);
        }
    }
    bail!("node {leader} leads no shard")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_there_is_told_on_all_nodes_and_who_hides_is_not() -> Result<()> {
    let stage = Stage::start(3, SHARDS).await?;
    let (alice, _alices) = stage.connect("alice", &[1]).await?;
    let mut bob = Watcher::connect(&stage, "bob", &[2], &["alice", "carol", "nobody"]).await?;
    assert_eq!(bob.sees.len(), 3, "one answer for all: {:?}", bob.sees);
    bob.sees("alice", PresenceState::Online).await?;
    assert_eq!(bob.sees[&user("alice")].platforms.len(), 1);
    assert_eq!((bob.state("carol"), bob.state("nobody")), (Some(PresenceState::Offline), Some(PresenceState::Offline)));

    let (carol, _carols) = stage.connect("carol", &[3]).await?;
    bob.sees("carol", PresenceState::Online).await?;
    alice.set_presence(Appearance::Away).await?;
    bob.sees("alice", PresenceState::Away).await?;
    alice.set_presence(Appearance::Invisible).await?;
    bob.sees("alice", PresenceState::Offline).await?;
    alice.set_presence(Appearance::Online).await?;
    bob.sees("alice", PresenceState::Online).await?;

    // Who hides looks like a user that does not exist, there or not.
    let hidden = Privacy { last_seen: Audience::Everyone, online: Audience::Nobody };
    assert_eq!(carol.set_privacy(hidden).await?, hidden);
    assert_eq!(carol.privacy().await?, hidden);
    bob.sees("carol", PresenceState::Offline).await?;
    let like = |bob: &Watcher, name: &str| UserPresence { user: user("nobody"), ..bob.sees[&user(name)].clone() };
    assert_eq!(like(&bob, "carol"), like(&bob, "nobody"));
    let dan = Watcher::connect(&stage, "dan", &[1], &["carol", "nobody"]).await?;
    assert_eq!(like(&dan, "carol"), like(&dan, "nobody"));

    // Gone: told after a while, with the time, which other nodes tell too.
    alice.logout().await?;
    bob.sees("alice", PresenceState::Offline).await?;
    let seen = bob.sees[&user("alice")].last_seen_ms.context("when she was last seen")?;
    let erin = Watcher::connect(&stage, "erin", &[3], &["alice"]).await?;
    assert_eq!(erin.sees[&user("alice")].last_seen_ms, Some(seen));

    let many = (0..=limits::PRESENCE_USERS).map(|n| user(&format!("u{n}"))).collect();
    assert_eq!(rejected(bob.client.subscribe_presence(many).await), Some(ErrorCode::LimitReached.number()));
    bob.client.unsubscribe_presence(vec![user("alice")]).await?;
    let (_alice, _alices) = stage.connect("alice", &[2]).await?;
    carol.set_privacy(Privacy { online: Audience::Everyone, ..hidden }).await?;
    let heard = bob.states("alice").len();
    bob.sees("carol", PresenceState::Online).await?;
    assert_eq!(bob.states("alice").len(), heard, "nothing more is heard of alice");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_dies_and_nobody_is_offline_for_it() -> Result<()> {
    let mut stage = Stage::start(3, SHARDS).await?;
    let admin = stage.cluster.admin(2)?;
    until("every node leads something", async || {
        let shards = admin.status().await?.cluster.shards;
        let leads = |node| shards.iter().any(|shard| shard.shard != ShardId::META && shard.leader == Some(node));
        Ok((1..=3).all(leads))
    })
    .await?;
    let (near, far) = (at_home_on(&admin, "near", 1).await?, at_home_on(&admin, "far", 1).await?);
    let (near_client, _nears) = stage.connect(&near, &[2]).await?;
    let (far_client, _fars) = stage.connect(&far, &[3]).await?;
    let mut watcher = Watcher::connect(&stage, "watcher", &[2, 3], &[&near, &far]).await?;
    watcher.sees(&near, PresenceState::Online).await?;
    watcher.sees(&far, PresenceState::Online).await?;
    watcher.heard.clear();

    stage.cluster.kill(1)?;
    until("another node leads", async || {
        let shards = admin.status().await?.cluster.shards;
        Ok(shards.iter().all(|shard| shard.leader.is_some_and(|leader| leader != 1)))
    })
    .await?;
    // What happens after that is told by the new leader, which has pulled what there is.
    far_client.set_presence(Appearance::Away).await?;
    watcher.sees(&far, PresenceState::Away).await?;
    near_client.set_presence(Appearance::Away).await?;
    watcher.sees(&near, PresenceState::Away).await?;
    // Longer than the dead node is waited for: still nobody is taken to be gone with it.
    let (later, mut later_events) = stage.connect("later", &[3]).await?;
    let answered = later.subscribe_presence(vec![user(&near), user(&far), user("nobody")]).await?;
    let mut known = answered.len();
    while known < 3 {
        let event = timeout(DEADLINE, later_events.next()).await?.context("a client that goes on")?;
        if let ClientEvent::Presence { users } = event {
            known += users.len();
        }
    }
    far_client.set_presence(Appearance::Online).await?;
    watcher.sees(&far, PresenceState::Online).await?;
    // What is so already may be told again by the new leader, which does not know what was told before.
    let told = |name: &str| watcher.states(name).into_iter().skip_while(|state| *state == PresenceState::Online);
    assert_eq!(told(&near).collect::<Vec<_>>(), [PresenceState::Away]);
    assert_eq!(told(&far).collect::<Vec<_>>(), [PresenceState::Away, PresenceState::Online]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_takes_whom_it_served_with_it_but_not_who_comes_back() -> Result<()> {
    let mut stage = Stage::start(3, SHARDS).await?;
    let (_stays, _stays_events) = stage.connect("stays", &[1]).await?;
    let (_moves, _moves_events) = stage.connect("moves", &[1, 2]).await?;
    let mut watcher = Watcher::connect(&stage, "watcher", &[3], &["stays", "moves"]).await?;
    watcher.sees("stays", PresenceState::Online).await?;
    watcher.sees("moves", PresenceState::Online).await?;
    watcher.heard.clear();

    stage.cluster.kill(1)?;
    let killed = Instant::now();
    watcher.sees("stays", PresenceState::Offline).await?;
    let took = killed.elapsed();
    ensure!(took < Duration::from_millis(limits::HEARTBEAT_TIMEOUT_MS), "a ghost stayed for {took:?}");
    assert!(watcher.sees[&user("stays")].last_seen_ms.is_some());
    assert_eq!(watcher.states("moves"), [], "gone for no longer than a connection takes");

    // When the node is back, so is who waited for it.
    stage.cluster.start(1)?;
    stage.cluster.wait_ready(1, DEADLINE).await?;
    watcher.sees("stays", PresenceState::Online).await?;
    assert_eq!(watcher.states("moves"), []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_leaves_everybody_seen_as_they_are_and_loses_no_message() -> Result<()> {
    const ROUNDS: u64 = 3;
    let mut stage = Stage::start(3, SHARDS).await?;
    let (alice, _alices) = stage.connect("alice", &[1, 2, 3]).await?;
    let (dan, _dans) = stage.connect("dan", &[2, 3, 1]).await?;
    let (gone, _gones) = stage.connect("gone", &[3, 1, 2]).await?;
    let mut watcher = Watcher::connect(&stage, "watcher", &[1, 2, 3], &["alice", "dan", "gone"]).await?;
    let to = Target::User(user("watcher"));
    alice.send_text(to.clone(), "0").await?;
    dan.set_presence(Appearance::Away).await?;
    watcher.sees("dan", PresenceState::Away).await?;

    for node in 1..=ROUNDS {
        stage.cluster.stop(node, DEADLINE).await?;
        alice.send_text(to.clone(), format!("{node}")).await?;
        stage.cluster.start(node)?;
        stage.cluster.wait_ready(node, DEADLINE).await?;
    }
    gone.logout().await?;
    watcher.see("gone is gone", |watcher| watcher.state("gone") == Some(PresenceState::Offline)).await?;
    watcher.sees("alice", PresenceState::Online).await?;
    watcher.sees("dan", PresenceState::Away).await?;
    // And changes go on to be told.
    alice.set_presence(Appearance::Away).await?;
    watcher.sees("alice", PresenceState::Away).await?;
    let last = alice.send_text(to, "last").await?;
    let page = watcher.client.history(last.conversation, campanile_client::Range::After(0)).await?;
    assert_eq!(page.events.len() as u64, ROUNDS + 2);
    let stats = watcher.client.stats().await.context("a client that goes on")?;
    assert_eq!((stats.gaps, stats.duplicates), (0, 0), "{stats:?}");
    assert!(stats.connections > 1, "the watcher was sent elsewhere");
    Ok(())
}

/// The next thing said beside the log or as a message, whichever comes first.
async fn next_said(events: &mut Events) -> Result<ClientEvent> {
    loop {
        let event = timeout(DEADLINE, events.next()).await.context("an event")?.context("a client that goes on")?;
        match &event {
            ClientEvent::Typing { .. } | ClientEvent::Signal { .. } => return Ok(event),
            ClientEvent::Event(told) if matches!(told.content, EventContent::Message { .. }) => return Ok(event),
            ClientEvent::Closed { code, why } => bail!("closed with {code}: {why}"),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_and_signals_reach_who_follows_on_all_nodes_and_nobody_else() -> Result<()> {
    let stage = Stage::start(3, SHARDS).await?;
    let (alice, mut alices) = stage.connect("alice", &[1]).await?;
    let (bob, mut bobs) = stage.connect("bob", &[2]).await?;
    let (carol, mut carols) = stage.connect("carol", &[3]).await?;
    let (eve, _eves) = stage.connect("eve", &[3]).await?;
    let group = GroupId(Uuid::now_v7());
    let at: ConversationId = group.into();
    alice.create_group(group, "bells", vec![user("bob"), user("carol")]).await?;
    alice.send_text(Target::Group(group), "first").await?;
    for events in [&mut alices, &mut bobs, &mut carols] {
        assert!(matches!(next_said(events).await?, ClientEvent::Event(_)));
    }

    // Said a hundred times, told once, and not to the one who types.
    for _ in 0..100 {
        alice.typing(at.clone()).await?;
    }
    let typing = ClientEvent::Typing { conversation: at.clone(), user: user("alice") };
    assert_eq!(next_said(&mut bobs).await?, typing);
    assert_eq!(next_said(&mut carols).await?, typing);
    let object = serde_json::json!({"call": "ringing", "try": 1});
    let body: SignalBody = serde_json::from_value(object)?;
    bob.signal(Target::Group(group), body.clone()).await?;
    bob.signal(Target::Group(group), SignalBody::Text("knock".to_owned())).await?;
    for events in [&mut alices, &mut carols] {
        for body in [body.clone(), SignalBody::Text("knock".to_owned())] {
            let signal = ClientEvent::Signal { conversation: at.clone(), from: user("bob"), body };
            assert_eq!(next_said(events).await?, signal);
        }
    }

    // Not for others, nor for those who are members no more; nothing of it takes a place in the conversation.
    let not_a_member = Some(ErrorCode::NotAMember.number());
    assert_eq!(rejected(eve.typing(at.clone()).await), not_a_member);
    assert_eq!(rejected(eve.signal(Target::Group(group), body.clone()).await), not_a_member);
    assert_eq!(alice.kick(group, user("carol")).await?.seq, Some(3));
    while !matches!(carols.next().await.context("carol goes on")?, ClientEvent::ConversationRemoved { .. }) {}
    bob.signal(Target::Group(group), body.clone()).await?;
    assert!(matches!(next_said(&mut alices).await?, ClientEvent::Signal { .. }));
    let private = carol.send_text(Target::User(user("carol")), "alone").await?;
    assert!(
        matches!(next_said(&mut carols).await?, ClientEvent::Event(event) if event.conversation == private.conversation)
    );
    let big = SignalBody::Text("x".repeat(limits::SIGNAL_BYTES));
    assert_eq!(rejected(bob.signal(Target::Group(group), big).await), Some(ErrorCode::InvalidField.number()));
    Ok(())
}
