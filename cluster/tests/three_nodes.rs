//! Some replicas of everything in one process, over real TLS on loopback, on real storage. Long because all of its stories
//! are told with the same nodes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use chat::command::{ClusterCommand, Command, ConversationCommand, NodeFacts, Outcome, UserCommand};
use chat::errors::ErrorCode;
use chat::event::{BodyKind, Committed, SealedBody};
use chat::ids::{AppId, ClientMsgId, ConversationId, NodeId, ShardId, UserId, peer_name};
use cluster::{
    Cluster, ClusterOptions, Feed, Housekeeping, Peer, PeerService, PeerTls, ProposeError, Scrubbing, ShardStatus,
    StartError, Timing, Versions,
};
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use storage::{Engine, EngineOptions, Identity, NodeKey};
use uuid::Uuid;

const SHARDS: u16 = 4;
const CLUSTER: &str = "0190aaaa-0000-7000-8000-000000000001";
const DEADLINE: Duration = Duration::from_secs(30);

/// Remembers every message seq it was told, per conversation.
#[derive(Default)]
struct Heard(Mutex<Vec<(ConversationId, u64)>>);

impl Feed for Heard {
    fn committed(&self, _: ShardId, _: u64, events: Arc<[Committed]>) {
        let mut heard = self.0.lock();
        for event in events.iter() {
            if let Committed::Sequenced(event) = event {
                heard.push((event.conversation.clone(), event.seq));
            }
        }
    }
    fn jumped(&self, _: ShardId, _: u64) {}
    fn leadership(&self, _: ShardId, _: bool) {}
}

/// Remembers the notes it was told, and whom it lost.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl PeerService for Notes {
    fn told(&self, from: NodeId, note: Bytes) {
        self.0.lock().push(format!("{from}: {}", String::from_utf8_lossy(&note)));
    }
    fn lost(&self, peer: NodeId) {
        self.0.lock().push(format!("lost {peer}"));
    }
}

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    fn tls(&self, node: NodeId) -> PeerTls {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![peer_name(CLUSTER, node)]).unwrap().signed_by(&key, &self.issuer).unwrap();
        PeerTls {
            ca: vec![self.issuer.der().clone()],
            certificate: vec![certificate.der().clone()],
            key: key.serialize_der().try_into().unwrap(),
        }
    }
}

fn engine_options(dir: &Path, node: NodeId) -> EngineOptions {
    EngineOptions {
        dir: dir.join(format!("node-{node}")),
        node_key: NodeKey::from_bytes([node as u8; 32]),
        identity: Identity { cluster: CLUSTER.to_owned(), node, name: format!("node-{node}") },
        cache_bytes: 8 * 1024 * 1024,
    }
}

/// What is unlike others about a node.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Founder,
    Joiner,
    Speaking(Versions),
    /// Of a build that supports feature levels up to this one.
    Supporting(u16),
}

struct Node {
    cluster: Cluster,
    engine: Engine,
    heard: Arc<Heard>,
    notes: Arc<Notes>,
}

impl Node {
    async fn start(dir: &Path, authority: &Authority, peers: &[Peer], node: NodeId) -> Self {
        Self::start_with(dir, authority, peers, node, Timing::default()).await
    }

    async fn start_with(dir: &Path, authority: &Authority, peers: &[Peer], node: NodeId, timing: Timing) -> Self {
        Self::begin(dir, authority, peers, node, timing, Kind::Founder).await
    }

    async fn start_speaking(
        dir: &Path,
        authority: &Authority,
        peers: &[Peer],
        node: NodeId,
        versions: Versions,
    ) -> Self {
        Self::begin(dir, authority, peers, node, Timing::default(), Kind::Speaking(versions)).await
    }

    /// A node that came later than the cluster.
    async fn join(dir: &Path, authority: &Authority, peers: &[Peer], node: NodeId) -> Self {
        Self::begin(dir, authority, peers, node, Timing::default(), Kind::Joiner).await
    }

    async fn begin(
        dir: &Path,
        authority: &Authority,
        peers: &[Peer],
        node: NodeId,
        timing: Timing,
        kind: Kind,
    ) -> Self {
        Self::try_begin(dir, authority, peers, node, timing, kind).await.unwrap()
    }

    async fn try_begin(
        dir: &Path,
        authority: &Authority,
        peers: &[Peer],
        node: NodeId,
        timing: Timing,
        kind: Kind,
    ) -> Result<Self, StartError> {
        if !dir.join(format!("node-{node}")).exists() {
            Engine::create(&engine_options(dir, node)).unwrap();
        }
        let engine = Engine::open(engine_options(dir, node)).unwrap();
        let heard = Arc::new(Heard::default());
        let options = ClusterOptions {
            node,
            cluster: CLUSTER.to_owned(),
            members: peers.to_vec(),
            joined: kind == Kind::Joiner,
            shards: SHARDS,
            listen: peers.iter().find(|peer| peer.id == node).unwrap().address,
            tls: authority.tls(node),
            timing,
            housekeeping: Housekeeping::default(),
            versions: if let Kind::Speaking(versions) = kind { versions } else { Versions::default() },
            level: if let Kind::Supporting(level) = kind { level } else { chat::level::NEWEST },
            engine: engine.clone(),
            scrub: Scrubbing::default(),
        };
        let notes = Arc::new(Notes::default());
        match Cluster::start(options, heard.clone(), notes.clone()).await {
            Ok(cluster) => Ok(Self { cluster, engine, heard, notes }),
            Err(error) => {
                tokio::task::spawn_blocking(move || engine.close()).await.unwrap();
                Err(error)
            }
        }
    }

    async fn stop(self) {
        self.cluster.shutdown().await;
        tokio::task::spawn_blocking(move || self.engine.close()).await.unwrap();
    }
}

fn free_peers(count: u64) -> Vec<Peer> {
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let address = |listener: &TcpListener| -> SocketAddr { listener.local_addr().unwrap() };
    listeners.iter().zip(1..).map(|(listener, id)| Peer { id, address: address(listener) }).collect()
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn app() -> AppId {
    AppId::new("main").unwrap()
}

fn send(author: &str, peer: &str, id: u128) -> (ConversationId, Command) {
    let conversation = ConversationId::private(user(author), user(peer));
    let body = SealedBody { key_id: 1, kind: BodyKind::Text, bytes: Bytes::from(format!("message {id}")) };
    let command = ConversationCommand::Send {
        client_msg_id: ClientMsgId(Uuid::from_u128(id)),
        digest: [1; 16],
        body,
        relations: None,
    };
    let command =
        Command::Conversation { app: app(), conversation: conversation.clone(), actor: user(author), command };
    (conversation, command)
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn leaders_known(nodes: &[&Node]) -> bool {
    nodes.iter().all(|node| node.cluster.status().shards.iter().all(|shard| shard.leader.is_some()))
}

/// All three, once every shard has a leader.
async fn three(dir: &Path, authority: &Authority, peers: &[Peer], timing: Timing) -> Vec<Node> {
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(Node::start_with(dir, authority, peers, id, timing).await);
    }
    until("leaders", || leaders_known(&nodes.iter().collect::<Vec<_>>())).await;
    nodes
}

async fn equal_digests(nodes: &[&Node]) {
    for shard in (0..=SHARDS).map(ShardId) {
        for node in nodes {
            node.cluster.read_barrier(shard).await.unwrap();
        }
        let mut digests = Vec::new();
        for node in nodes {
            digests.push(node.cluster.digest(shard).await.unwrap());
        }
        assert!(digests.iter().all(|digest| digest == &digests[0]), "{digests:?}");
    }
}

/// Long because it is one story in phases: what one phase wrote is what the next one looks for.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_acked_survives_a_node_and_reaches_every_replica_once() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let peers = free_peers(3);
    let mut nodes = three(dir.path(), &authority, &peers, Timing::default()).await;
    let connected = |cluster: &Cluster| cluster.status().peers.iter().all(|peer| peer.connected);
    until("connections", || connected(&nodes[0].cluster)).await;
    let sent: Vec<String> = (0..300).map(|n| format!("1: {n}")).collect();
    for n in 0..300 {
        nodes[0].cluster.tell(3, Bytes::from(n.to_string())).unwrap();
    }
    until("notes, in order", || *nodes[2].notes.0.lock() == sent).await;

    // Every node takes commands for every shard, and the same id has one effect.
    let mut acked = Vec::new();
    for id in 0..60u128 {
        let (conversation, command) = send("alice", &format!("bob{}", id % 7), id);
        let node = &nodes[(id % 3) as usize];
        let shard = node.cluster.conversation_shard(&app(), &conversation);
        let first = node.cluster.submit(shard, command.clone()).await.unwrap();
        let again = nodes[((id + 1) % 3) as usize].cluster.submit(shard, command).await.unwrap();
        let Outcome::Applied { seq, duplicate: false } = first.outcome else { panic!("{first:?}") };
        assert_eq!(again.outcome, Outcome::Applied { seq, duplicate: true });
        acked.push((conversation, seq));
    }
    equal_digests(&nodes.iter().collect::<Vec<_>>()).await;

    // One node leaves; the other two go on.
    nodes.remove(0).stop().await;
    for id in 100..130u128 {
        let (conversation, command) = send("alice", &format!("bob{}", id % 7), id);
        let shard = nodes[0].cluster.conversation_shard(&app(), &conversation);
        let proposed = nodes[(id % 2) as usize].cluster.submit(shard, command).await.unwrap();
        let Outcome::Applied { seq, duplicate: false } = proposed.outcome else { panic!("{proposed:?}") };
        acked.push((conversation, seq));
    }
    // The node's absence is compacted away on the others: it must catch up by snapshot.
    for shard in (0..=SHARDS).map(ShardId) {
        for node in &nodes {
            node.cluster.read_barrier(shard).await.unwrap();
            node.cluster.compact(shard).await.unwrap();
        }
    }
    let back = Node::start(dir.path(), &authority, &peers, 1).await;
    let all = [&back, &nodes[0], &nodes[1]];
    until("leaders again", || leaders_known(&all)).await;
    equal_digests(&all).await;

    // A node that was there all the time heard each event once, in order.
    let mut heard = nodes[1].heard.0.lock().clone();
    for (conversation, seq) in &acked {
        assert_eq!(heard.iter().filter(|event| *event == &(conversation.clone(), *seq)).count(), 1);
    }
    heard.retain(|(conversation, _)| conversation == &acked[0].0);
    let seqs: Vec<u64> = heard.iter().map(|(_, seq)| *seq).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());

    // The message bodies are in every replica's log, also below what the snapshot replaced.
    let conversation = &acked[0].0;
    let shard = back.cluster.conversation_shard(&app(), conversation);
    let view = back.cluster.view(shard).unwrap();
    let located = chat::state::query::locate(&view, &app(), conversation, 1, 10).unwrap();
    let chat::state::query::Located::Message { log_index, .. } = &located[0] else { panic!("{located:?}") };
    assert!(back.cluster.entry(shard, *log_index).unwrap().is_some());

    // Lists were carried to the home shards.
    let home = back.cluster.home_shard(&app(), &user("bob1"));
    back.cluster
        .submit(
            home,
            Command::User { app: app(), user: user("bob1"), command: UserCommand::CreateAccount { password: None } },
        )
        .await
        .unwrap();
    let view = back.cluster.view(home).unwrap();
    until("bob1 has a conversation", || {
        !chat::state::query::conversations(&view, &app(), &user("bob1"), None, 10).unwrap().items.is_empty()
    })
    .await;
    back.stop().await;
    for node in nodes {
        node.stop().await;
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What the other two committed and the leader's own disk did not have yet when its process was killed: back at once, in a
/// term that nobody has ended, it must not give those places to other entries.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_comes_back_without_its_newest_entries_does_not_go_on_as_leader() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let peers = free_peers(3);
    // Nobody else stands for election before the old leader is back.
    let slow = Timing {
        heartbeat: Duration::from_millis(200),
        election_min: Duration::from_secs(2),
        election_max: Duration::from_secs(3),
    };
    let mut nodes = three(dir.path(), &authority, &peers, slow).await;
    let (conversation, first) = send("alice", "bob", 1);
    let shard = nodes[0].cluster.conversation_shard(&app(), &conversation);
    nodes[1].cluster.submit(shard, first).await.unwrap();
    equal_digests(&nodes.iter().collect::<Vec<_>>()).await;
    let leader = nodes[1].cluster.leader(shard).unwrap();
    let place = nodes.iter().position(|node| node.cluster.node() == leader).unwrap();

    // Nothing is being written: this is what a power cut would leave.
    let (home, image) = (dir.path().join(format!("node-{leader}")), dir.path().join("image"));
    copy(&home, &image);
    for seq in 2..=20 {
        let (_, command) = send("alice", "bob", u128::from(seq));
        let proposed = nodes[place].cluster.submit(shard, command).await.unwrap();
        assert_eq!(proposed.outcome, Outcome::Applied { seq, duplicate: false });
    }
    equal_digests(&nodes.iter().collect::<Vec<_>>()).await;
    nodes.remove(place).stop().await;
    std::fs::remove_dir_all(&home).unwrap();
    std::fs::rename(&image, &home).unwrap();
    let back = Node::start_with(dir.path(), &authority, &peers, leader, slow).await;

    let (_, command) = send("alice", "bob", 21);
    let proposed = back.cluster.submit(shard, command).await.unwrap();
    assert_eq!(proposed.outcome, Outcome::Applied { seq: 21, duplicate: false }, "twenty were acked before it");
    let all = [&back, &nodes[0], &nodes[1]];
    equal_digests(&all).await;
    back.stop().await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_state_differs_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let peers = free_peers(3);
    let mut nodes = three(dir.path(), &authority, &peers, Timing::default()).await;
    let (conversation, command) = send("alice", "bob", 1);
    let shard = nodes[0].cluster.conversation_shard(&app(), &conversation);
    nodes[0].cluster.submit(shard, command).await.unwrap();
    let equal = nodes[0].cluster.verify(shard).await.unwrap();
    assert_eq!((equal.divergent(), equal.silent(), equal.replicas.len()), (vec![], vec![], 3), "{equal:?}");

    // Something changes one replica's state behind the log's back, in a way that every seal still holds.
    nodes.pop().unwrap().stop().await;
    let silent = nodes[0].cluster.verify(shard).await.unwrap();
    assert_eq!((silent.divergent(), silent.silent()), (vec![], vec![3]));
    let engine = Engine::open(engine_options(dir.path(), 3)).unwrap();
    let state = engine.state(shard).unwrap();
    let forged = (Bytes::from_static(b"\xffforged"), Some(Bytes::from_static(b"what nobody proposed")));
    state.apply([forged], state.applied()).unwrap();
    drop(state);
    tokio::task::spawn_blocking(move || engine.close()).await.unwrap();
    nodes.push(Node::start(dir.path(), &authority, &peers, 3).await);
    until("leaders again", || leaders_known(&nodes.iter().collect::<Vec<_>>())).await;
    // It may know its leaders before the one that asks has found it again.
    until("node 3 is reached", || nodes[0].cluster.status().peers.iter().all(|peer| peer.connected)).await;

    let comparison = nodes[0].cluster.verify(shard).await.unwrap();
    assert_eq!((comparison.divergent(), comparison.silent()), (vec![3], vec![]), "{comparison:?}");
    let diverged = |node: &Node| node.cluster.status().shards[usize::from(shard.0)].diverged;
    assert_eq!(diverged(&nodes[2]), Some(comparison.index));
    assert_eq!((diverged(&nodes[0]), diverged(&nodes[1])), (None, None));
    for node in nodes {
        node.stop().await;
    }
}

async fn of_cluster(node: &Node, command: ClusterCommand) -> Outcome {
    node.cluster.submit(ShardId::META, Command::Cluster(command)).await.unwrap().outcome
}

/// Every node sees these and no others vote, in every shard, and these lead.
async fn held_by(what: &str, nodes: &[&Node], voters: &[NodeId]) {
    until(what, || {
        nodes.iter().all(|node| {
            let status = node.cluster.status();
            let led = |shard: &ShardStatus| shard.leader.is_some_and(|leader| voters.contains(&leader));
            status.shards.iter().all(|shard| shard.voters == voters && shard.learners.is_empty() && led(shard))
                && status.peers.iter().all(|peer| peer.state == "active")
        })
    })
    .await;
}

/// One client that writes on, whoever leads; how many of its messages were acked, without a hole.
async fn write_until(clusters: Vec<Cluster>, stop: Arc<AtomicBool>) -> u64 {
    let mut acked = 0;
    while !stop.load(Ordering::Relaxed) {
        let (conversation, command) = send("alice", "bob", u128::from(acked) + 1);
        let via = &clusters[acked as usize % clusters.len()];
        let shard = via.conversation_shard(&app(), &conversation);
        let outcome = via.submit(shard, command).await.map(|proposed| proposed.outcome).unwrap();
        acked += 1;
        // The first attempt may have been the one that counted.
        assert!(matches!(outcome, Outcome::Applied { seq, .. } if seq == acked), "lost or doubled: {outcome:?}");
    }
    acked
}

/// Long because it is one story: from one node to three, and back to two others.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_one_grows_and_its_first_node_leaves_while_it_is_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let peers = free_peers(3);
    let first = Node::start(dir.path(), &authority, &peers[..1], 1).await;
    until("leaders", || leaders_known(&[&first])).await;
    let nodes = vec![(1, peers[0].address.to_string())];
    let found = ClusterCommand::Found { cluster: CLUSTER.to_owned(), shards: SHARDS, stream_epoch: 1, nodes };
    of_cluster(&first, found).await;
    let expires_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64 + 60_000;
    of_cluster(&first, ClusterCommand::AddJoinToken { secret: [1; 32], expires_ms, uses: 2 }).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn(write_until(vec![first.cluster.clone()], stop.clone()));

    let mut nodes = vec![first];
    for id in [2u64, 3] {
        let facts = NodeFacts { peer: peers[id as usize - 1].address.to_string(), ..NodeFacts::default() };
        let join = ClusterCommand::JoinNode { secret: [1; 32], key: [id as u8; 32], facts };
        assert_eq!(of_cluster(&nodes[0], join).await, Outcome::Applied { seq: id, duplicate: false });
        nodes.push(Node::join(dir.path(), &authority, &peers[..id as usize], id).await);
        let all: Vec<NodeId> = (1..=id).collect();
        held_by(&format!("{id} nodes"), &nodes.iter().collect::<Vec<_>>(), &all).await;
    }
    stop.store(true, Ordering::Relaxed);
    let acked = writing.await.unwrap();
    assert!(acked > 50, "{acked}");
    equal_digests(&nodes.iter().collect::<Vec<_>>()).await;

    // The one that founded it leaves for good.
    let (again, first) = (nodes[1].cluster.clone(), nodes.remove(0));
    assert_eq!(
        of_cluster(&nodes[0], ClusterCommand::RemoveNode { node: 1 }).await,
        Outcome::Applied { seq: 0, duplicate: false }
    );
    held_by("two others", &nodes.iter().collect::<Vec<_>>(), &[2, 3]).await;
    tokio::time::timeout(DEADLINE, first.cluster.expelled()).await.expect("node 1 heard that it was removed");
    first.stop().await;
    let (conversation, command) = send("alice", "bob", u128::from(acked) + 1);
    let shard = again.conversation_shard(&app(), &conversation);
    let proposed = again.submit(shard, command).await.unwrap();
    assert_eq!(proposed.outcome, Outcome::Applied { seq: acked + 1, duplicate: false });
    equal_digests(&nodes.iter().collect::<Vec<_>>()).await;
    drop(again);
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_two_releases_speak_what_both_know_or_say_who_is_to_be_upgraded() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, peers) = (Authority::new(), free_peers(2));
    let start = |node, oldest, newest| {
        let versions = Versions { oldest, newest };
        Node::start_speaking(dir.path(), &authority, &peers, node, versions)
    };
    let seen = |by: &Node, node: NodeId| by.cluster.status().peers.into_iter().find(|peer| peer.node == node).unwrap();
    let (old, new) = (start(1, 3, 4).await, start(2, 3, 5).await);
    until("both are connected", || seen(&old, 2).connected && seen(&new, 1).connected).await;
    assert_eq!((seen(&old, 2).version, seen(&new, 1).version), (Some(4), Some(4)));
    until("leaders", || leaders_known(&[&old, &new])).await;
    new.stop().await;

    let newer = start(2, 5, 6).await;
    until("both say why not", || seen(&old, 2).refused.is_some() && seen(&newer, 1).refused.is_some()).await;
    for why in [seen(&old, 2), seen(&newer, 1)].map(|peer| peer.refused.unwrap()) {
        assert!(why.contains("upgrade node 1 to a release that speaks version 5"), "{why}");
    }
    assert!(!seen(&old, 2).connected && !seen(&newer, 1).connected);
    old.stop().await;
    newer.stop().await;
}

/// One of three nodes runs an earlier release: the level waits for it, and once it is on there is no way back.
#[tokio::test(flavor = "multi_thread")]
async fn a_feature_level_waits_for_every_release_and_lets_none_go_back() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, peers) = (Authority::new(), free_peers(3));
    let start =
        |node, level| Node::try_begin(dir.path(), &authority, &peers, node, Timing::default(), Kind::Supporting(level));
    let mut nodes = Vec::new();
    for (node, level) in [(1, 2), (2, 2), (3, 1)] {
        nodes.push(start(node, level).await.unwrap());
    }
    until("leaders", || leaders_known(&nodes.iter().collect::<Vec<_>>())).await;
    let founders = peers.iter().map(|peer| (peer.id, peer.address.to_string())).collect();
    let found = ClusterCommand::Found { cluster: CLUSTER.to_owned(), shards: SHARDS, stream_epoch: 1, nodes: founders };
    of_cluster(&nodes[0], found).await;
    let describe = async |by: &Node, node, level| {
        of_cluster(by, ClusterCommand::DescribeBuild { node, level, version: format!("0.{level}.0") }).await
    };
    for (node, level) in [(1, 2), (2, 2), (3, 1)] {
        describe(&nodes[0], node, level).await;
    }
    let withdraw = async |by: &Node| {
        let command = Command::Cluster(ClusterCommand::WithdrawJoinTokens);
        by.cluster.submit(ShardId::META, command).await.map(|proposed| proposed.outcome)
    };
    for node in &nodes {
        assert_eq!(withdraw(node).await, Err(ProposeError::NotSwitchedOn { level: 2 }));
    }
    let raise = ClusterCommand::SetLevel { level: 2 };
    assert_eq!(of_cluster(&nodes[1], raise.clone()).await, Outcome::Rejected(ErrorCode::Forbidden));
    assert_eq!(nodes[0].cluster.status().supported, 1);

    // The third is upgraded, says so, and is gone when the level rises.
    describe(&nodes[0], 3, 2).await;
    nodes.pop().unwrap().stop().await;
    assert_eq!(of_cluster(&nodes[0], raise.clone()).await, Outcome::Applied { seq: 0, duplicate: false });
    until("both have heard", || nodes.iter().all(|node| node.cluster.level() == 2)).await;

    // It comes back with the earlier release, and knows nothing of it: the others tell it.
    let behind = start(3, 1).await.unwrap();
    let outgrown = tokio::time::timeout(DEADLINE, behind.cluster.outgrown()).await;
    assert_eq!(outgrown.unwrap(), 2);
    let refused = || nodes[0].cluster.status().peers.into_iter().find_map(|peer| peer.refused);
    until("it is refused", || refused().is_some()).await;
    let why = refused().unwrap();
    assert!(why.contains("supports feature level 1, the cluster is at 2; upgrade node 3"), "{why}");
    behind.stop().await;

    // With the later one it is one of them; then there is no way back at all.
    nodes.push(start(3, 2).await.unwrap());
    until("the third has heard", || nodes[2].cluster.level() == 2).await;
    for node in &nodes {
        assert!(matches!(withdraw(node).await, Ok(Outcome::Applied { .. })));
    }
    equal_digests(&nodes.iter().collect::<Vec<_>>()).await;
    nodes.pop().unwrap().stop().await;
    let refused = start(3, 1).await.err().unwrap();
    assert!(matches!(refused, StartError::Outgrown { node: 3, supports: 1, level: 2 }), "{refused}");
    for node in nodes {
        node.stop().await;
    }
}
