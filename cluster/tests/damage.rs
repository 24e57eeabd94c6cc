//! One replica of three is damaged while its node is down: records of every kind, a state that differs, promises that
//! nobody else can give back. It is repaired from the others, or refused by name; the replicas are equal at the end.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chat::command::{Command, ConversationCommand, RetentionCommand, UserCommand};
use chat::event::{BodyKind, Committed, SealedBody};
use chat::ids::{AppId, ClientMsgId, ConversationId, NodeId, ShardId, UserId, peer_name};
use chat::retention::Retention;
use chat::state::{View, query};
use cluster::{
    Cluster, ClusterOptions, Feed, Housekeeping, Integrity, Peer, PeerService, PeerTls, Scrubbing, ShardStatus,
    StartError, Timing, Versions,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use storage::damage::{Database, StoredRecord};
use storage::{Engine, EngineOptions, Identity, LogPayload, LogPosition, LogRecord, NodeKey, StorageError};
use uuid::Uuid;

const SHARDS: u16 = 2;
/// The third node leads it when all are well.
const SHARD: ShardId = ShardId(2);
const CLUSTER: &str = "0190aaaa-0000-7000-8000-000000000002";
const DEADLINE: Duration = Duration::from_secs(90);
/// Longer than any test takes.
const NEVER: Duration = Duration::from_secs(100_000);
/// The node that is damaged.
const DAMAGED: NodeId = 3;

struct Deaf;

impl Feed for Deaf {
    fn committed(&self, _: ShardId, _: u64, _: Arc<[Committed]>) {}
    fn jumped(&self, _: ShardId, _: u64) {}
    fn leadership(&self, _: ShardId, _: bool) {}
}

impl PeerService for Deaf {
    fn told(&self, _: NodeId, _: Bytes) {}
    fn lost(&self, _: NodeId) {}
}

struct Node {
    cluster: Cluster,
    engine: Engine,
}

/// Three nodes in one process; the third comes and goes.
struct Stage {
    dir: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
    peers: Vec<Peer>,
    nodes: Vec<Node>,
    sent: u128,
    /// The damaged node removes nothing by itself.
    housekeeping: Housekeeping,
}

impl Stage {
    async fn start() -> Self {
        Self::with(Housekeeping::default()).await
    }

    async fn with(housekeeping: Housekeeping) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let listeners: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let address = |listener: &TcpListener| -> SocketAddr { listener.local_addr().unwrap() };
        let peers = listeners.iter().zip(1..).map(|(listener, id)| Peer { id, address: address(listener) }).collect();
        drop(listeners);
        let dir = tempfile::tempdir().unwrap();
        let mut stage = Self { dir, issuer, peers, nodes: Vec::new(), sent: 0, housekeeping };
        for node in 1..=3 {
            Engine::create(&stage.engine_options(node)).unwrap();
            let node = stage.open(node).await.unwrap();
            stage.nodes.push(node);
        }
        let home = ["alice", "bob"].map(user);
        for user in home {
            let command = UserCommand::CreateAccount { password: None };
            stage.nodes[0].cluster.submit(SHARD, Command::User { app: app(), user, command }).await.unwrap();
        }
        stage
    }

    fn data_dir(&self, node: NodeId) -> PathBuf {
        self.dir.path().join(format!("node-{node}"))
    }

    fn engine_options(&self, node: NodeId) -> EngineOptions {
        EngineOptions {
            dir: self.data_dir(node),
            node_key: NodeKey::from_bytes([node as u8; 32]),
            identity: Identity { cluster: CLUSTER.to_owned(), node, name: format!("node-{node}") },
            cache_bytes: 8 * 1024 * 1024,
        }
    }

    async fn open(&self, node: NodeId) -> Result<Node, String> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![peer_name(CLUSTER, node)]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let engine = Engine::open(self.engine_options(node)).map_err(|error| error.to_string())?;
        let options = ClusterOptions {
            node,
            cluster: CLUSTER.to_owned(),
            members: self.peers.clone(),
            joined: false,
            housekeeping: match node {
                DAMAGED => Housekeeping { collect_every: NEVER, ..self.housekeeping },
                _ => self.housekeeping,
            },
            versions: Versions::default(),
            level: chat::level::NEWEST,
            shards: SHARDS,
            listen: self.peers.iter().find(|peer| peer.id == node).unwrap().address,
            tls: PeerTls {
                ca: vec![self.issuer.der().clone()],
                certificate: vec![certificate.der().clone()],
                key: key.serialize_der().try_into().unwrap(),
            },
            timing: Timing::default(),
            engine: engine.clone(),
            scrub: Scrubbing { every: Duration::ZERO, bytes_per_s: u64::MAX },
        };
        match Cluster::start(options, Arc::new(Deaf), Arc::new(Deaf)).await {
            Ok(cluster) => Ok(Node { cluster, engine }),
            Err(error) => {
                close(engine).await;
                Err(match error {
                    StartError::Storage(error) => error.to_string(),
                    error => error.to_string(),
                })
            }
        }
    }

    fn damaged(&self) -> &Cluster {
        &self.nodes[2].cluster
    }

    fn status(&self) -> ShardStatus {
        self.damaged().status().shards.into_iter().find(|shard| shard.shard == SHARD).unwrap()
    }

    fn integrity(&self) -> Integrity {
        self.status().integrity
    }

    async fn stop_damaged(&mut self) {
        let Node { cluster, engine } = self.nodes.pop().unwrap();
        cluster.shutdown().await;
        close(engine).await;
        // What was under way on the cluster's runtime lets go of its files a little later.
        until("the database is let go of", || Database::open(&self.data_dir(DAMAGED)).is_ok()).await;
    }

    async fn start_damaged(&mut self) {
        let node = self.open(DAMAGED).await.unwrap();
        self.nodes.push(node);
    }

    async fn restart(&mut self, node: NodeId) {
        let at = node as usize - 1;
        let Node { cluster, engine } = self.nodes.remove(at);
        cluster.shutdown().await;
        close(engine).await;
        let node = self.open(node).await.unwrap();
        self.nodes.insert(at, node);
    }

    /// Messages through node 1; each must be acknowledged.
    async fn send(&mut self, count: usize) {
        for _ in 0..count {
            self.sent += 1;
            let command = send(self.sent);
            let proposed = self.nodes[0].cluster.submit(SHARD, command).await.unwrap();
            assert!(matches!(proposed.outcome, chat::command::Outcome::Applied { .. }), "{proposed:?}");
        }
    }

    /// Flips a bit in every record of the node that is down for which `pick` holds; which those were.
    fn flip(&self, pick: impl Fn(&StoredRecord) -> bool) -> Vec<StoredRecord> {
        let database = Database::open(&self.data_dir(DAMAGED)).unwrap();
        let picked: Vec<_> = database.records().unwrap().into_iter().filter(|record| pick(record)).collect();
        picked.iter().for_each(|record| database.flip(record).unwrap());
        picked
    }

    /// Every record is looked at, none stays damaged, and all replicas are equal.
    async fn scrubbed_and_equal(&self, what: &str) {
        self.damaged().scrub();
        until(&format!("{what}: the scrub ends"), || self.damaged().status().scrub.at.is_none()).await;
        assert_eq!(self.damaged().status().scrub.failed, None);
        until(&format!("{what}: nothing is damaged any more"), || self.integrity().pending == 0).await;
        for shard in 0..=SHARDS {
            self.equal(ShardId(shard), what).await;
        }
        // All is whole: another scrub finds nothing.
        let found = self.integrity().found;
        self.damaged().scrub();
        until(&format!("{what}: the second scrub ends"), || self.damaged().status().scrub.at.is_none()).await;
        assert_eq!((self.damaged().status().scrub.damaged, self.integrity().found), (0, found), "{what}");
    }
}

impl Stage {
    /// All replicas are compared, once all nodes reach each other, and none differs.
    async fn equal(&self, shard: ShardId, what: &str) {
        let started = Instant::now();
        loop {
            let comparison = self.nodes[0].cluster.verify(shard).await.unwrap();
            assert!(comparison.divergent().is_empty(), "{what}: {comparison:?}");
            if comparison.silent().is_empty() {
                return;
            }
            assert!(started.elapsed() < DEADLINE, "{what}: {comparison:?}");
        }
    }

    async fn stop(self) {
        for Node { cluster, engine } in self.nodes {
            cluster.shutdown().await;
            close(engine).await;
        }
    }
}

async fn close(engine: Engine) {
    tokio::task::spawn_blocking(move || engine.close()).await.unwrap();
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "not in time: {what}");
        looks.tick().await;
    }
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn app() -> AppId {
    AppId::new("main").unwrap()
}

fn conversation() -> ConversationId {
    ConversationId::private(user("alice"), user("bob"))
}

fn send(id: u128) -> Command {
    let body = SealedBody { key_id: 1, kind: BodyKind::Text, bytes: Bytes::from(format!("message {id}")) };
    let command = ConversationCommand::Send {
        client_msg_id: ClientMsgId(Uuid::from_u128(id)),
        digest: [1; 16],
        body,
        relations: None,
    };
    Command::Conversation { app: app(), conversation: conversation(), actor: user("alice"), command }
}

fn is(space: &'static str, key: &'static str) -> impl Fn(&StoredRecord) -> bool {
    move |record| record.shard == SHARD && record.space == space && (key.is_empty() || record.key == key)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_record_is_repaired_from_the_other_members() {
    let mut stage = Stage::start().await;
    stage.send(20).await;
    // And a marker of what Raft no longer needs.
    until("all is applied", || stage.status().applied >= 20).await;
    stage.damaged().compact(SHARD).await.unwrap();
    stage.send(20).await;

    // The space and key of what is damaged, and whether it is found by whoever looks: the rest is found when it is opened.
    let kinds = [("log", "", true), ("log", "5", true), ("state", "", true), ("meta", "committed", false)];
    for (space, key, is_counted) in kinds {
        let what = format!("{space} {key}");
        stage.stop_damaged().await;
        let flipped = stage.flip(is(space, key));
        assert!(!flipped.is_empty(), "{what}: nothing is there");
        // It comes back to a log that went on.
        stage.send(10).await;
        stage.start_damaged().await;
        stage.send(10).await;
        stage.scrubbed_and_equal(&what).await;
        let integrity = stage.integrity();
        assert_eq!(integrity.found > 0, is_counted, "{what}: {integrity:?}");
        assert_eq!((integrity.found, integrity.stuck), (integrity.repaired, None), "{what}");
    }
    // Every kind at once, the metadata group too.
    stage.stop_damaged().await;
    stage.flip(|record| record.space != "meta" || record.key == "committed");
    stage.start_damaged().await;
    stage.send(10).await;
    stage.scrubbed_and_equal("all").await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_promised_and_nobody_can_give_back_is_refused_by_name() {
    let mut stage = Stage::start().await;
    stage.send(5).await;
    until("all is applied", || stage.status().applied >= 5).await;
    stage.damaged().compact(SHARD).await.unwrap();
    stage.stop_damaged().await;
    for name in ["vote", "applied", "purged"] {
        assert_eq!(stage.flip(is("meta", name)).len(), 1, "{name}");
        let refused = stage.open(DAMAGED).await.err().unwrap();
        let expected = format!("corrupt meta record {name} of shard 2: the seal does not open");
        assert!(refused.contains(&expected), "{refused}");
        // The same bit again.
        stage.flip(is("meta", name));
    }
    for name in ["identity", "wal"] {
        stage.flip(|record| record.key == name);
        let refused = stage.open(DAMAGED).await.err().unwrap();
        assert!(refused.contains(&format!("corrupt meta record {name}")), "{refused}");
        stage.flip(|record| record.key == name);
    }
    stage.start_damaged().await;
    stage.send(5).await;
    stage.scrubbed_and_equal("nothing").await;
    stage.stop().await;
}

/// A record at the end of the log, of which nothing else that is stored tells what it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_end_of_the_log_is_decided_by_the_others() {
    let mut stage = Stage::start().await;
    stage.send(10).await;
    until("all is applied", || stage.status().applied >= 10).await;
    stage.stop_damaged().await;
    let last = append_one(stage.engine_options(DAMAGED)).await;
    assert_eq!(stage.flip(|record| is("log", "")(record) && record.key == last.index.to_string()).len(), 1);
    // The others have committed another entry there by now.
    stage.send(10).await;
    stage.start_damaged().await;
    stage.send(10).await;
    stage.scrubbed_and_equal("the end of the log").await;
    let record = stage.nodes[2].engine.log(SHARD).unwrap().get(last.index).unwrap();
    assert_eq!(record, stage.nodes[0].engine.log(SHARD).unwrap().get(last.index).unwrap());
    stage.stop().await;
}

/// What a leader sent just before the node ended.
async fn append_one(options: EngineOptions) -> LogPosition {
    let work = move || {
        let engine = Engine::open(options).unwrap();
        let log = engine.log(SHARD).unwrap();
        let last = log.bounds().last.unwrap();
        let position = LogPosition { index: last.index + 1, ..last };
        let (sender, durable) = std::sync::mpsc::sync_channel(1);
        let record = Arc::new(LogRecord { position, payload: LogPayload::Blank });
        log.append(vec![record], Box::new(move |result| sender.send(result).unwrap())).unwrap();
        durable.recv_timeout(DEADLINE).unwrap().unwrap();
        drop(log);
        engine.close();
        position
    };
    tokio::task::spawn_blocking(work).await.unwrap()
}

const WRONG: &[u8] = b"\xfewrong";

async fn diverge(dir: &Path, options: EngineOptions) {
    assert!(dir.exists());
    let work = move || {
        let engine = Engine::open(options).unwrap();
        let state = engine.state(SHARD).unwrap();
        state.diverge(vec![(Bytes::from(WRONG), Some(Bytes::from("bytes")))]).unwrap();
        drop(state);
        engine.close();
    };
    tokio::task::spawn_blocking(work).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_differs_is_quarantined_and_rebuilt_from_one_that_most_have() {
    let mut stage = Stage::start().await;
    stage.send(20).await;
    until("all is applied", || stage.status().applied >= 20).await;
    stage.stop_damaged().await;
    diverge(&stage.data_dir(DAMAGED), stage.engine_options(DAMAGED)).await;
    stage.start_damaged().await;
    stage.send(5).await;
    // It even leads the shard.
    until("the node leads again", || stage.nodes[0].cluster.leader(SHARD) == Some(DAMAGED)).await;
    let started = Instant::now();
    loop {
        let comparison = stage.nodes[0].cluster.verify(SHARD).await.unwrap();
        match comparison.divergent().as_slice() {
            [DAMAGED] => break,
            // It is not reached yet.
            [] if !comparison.silent().is_empty() => assert!(started.elapsed() < DEADLINE, "{comparison:?}"),
            _ => panic!("{comparison:?}"),
        }
    }

    // From the verdict on nothing of it is shown until it is the others' state.
    let view = stage.damaged().view(SHARD).unwrap();
    until("it is rebuilt", || match view.get(WRONG) {
        Ok(value) => {
            assert_eq!(value, None, "a wrong byte was served");
            true
        }
        Err(StorageError::Quarantined { .. }) => false,
        Err(error) => panic!("{error}"),
    })
    .await;
    assert_ne!(stage.nodes[0].cluster.leader(SHARD), Some(DAMAGED), "whoever applies nothing leads nothing");
    until("nothing is left", || stage.integrity().pending == 0).await;
    let status = stage.status();
    assert_eq!((status.diverged, status.integrity.quarantined), (None, false));
    assert_eq!((status.integrity.found, status.integrity.repaired), (1, 1));
    stage.send(5).await;
    stage.scrubbed_and_equal("a state that differed").await;
    stage.stop().await;
}

/// Retention deleted what was in them, the others removed theirs: nobody can give them back, and nobody needs to.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_that_nobody_needs_any_more_is_removed() {
    let often = Duration::from_millis(100);
    let housekeeping =
        Housekeeping { sweep_every: often, purge_every: NEVER, collect_every: often, ..Housekeeping::default() };
    let mut stage = Stage::with(housekeeping).await;
    stage.send(40).await;
    until("all is applied", || stage.status().applied >= 40).await;
    // It has let go of too little to remove anything when it starts again.
    stage.damaged().compact(SHARD).await.unwrap();
    until("it has let go of them", || stage.status().purged >= 40).await;
    let purged = stage.status().purged;
    assert!(purged < 64, "{purged}");
    let retention = Some(Retention { max_age_ms: None, max_count: Some(20) });
    let keep = RetentionCommand::SetConversation { app: app(), conversation: conversation(), retention };
    stage.nodes[0].cluster.submit(SHARD, Command::Retention(keep)).await.unwrap();
    stage.send(200).await;
    for node in &stage.nodes[..2] {
        let view = node.cluster.view(SHARD).unwrap();
        until("the rest is deleted", || query::oldest_seq(&view, &app(), &conversation()).unwrap() > 200).await;
        node.cluster.compact(SHARD).await.unwrap();
    }
    let first = |node: usize| stage.nodes[node].engine.log(SHARD).unwrap().first_stored().unwrap();
    until("the others have removed theirs", || [0, 1].into_iter().all(|node| first(node) > Some(64))).await;
    assert_eq!((stage.status().purged, first(2) < Some(10)), (purged, true));

    stage.stop_damaged().await;
    let indexes = 10..40u64;
    let among = |record: &StoredRecord| record.key.parse().is_ok_and(|index| indexes.contains(&index));
    let flipped = stage.flip(|record| is("log", "")(record) && among(record)).len() as u64;
    assert_eq!(flipped, 30);
    // What the others remember of the newest records is as good as what is stored: they forget it.
    for node in [1, 2] {
        stage.restart(node).await;
    }
    // And one that a message is read from.
    let view = stage.nodes[0].cluster.view(SHARD).unwrap();
    let last = query::locate(&view, &app(), &conversation(), 240, 1).unwrap().pop();
    let Some(query::Located::Message { log_index, .. }) = last else { panic!("no message is left: {last:?}") };
    let kept = log_index.to_string();
    stage.flip(|record| is("log", "")(record) && record.key == kept);
    stage.start_damaged().await;
    stage.send(5).await;
    stage.scrubbed_and_equal("needless records").await;
    let integrity = stage.integrity();
    // Whoever reads one again before it is gone finds it once more.
    assert!(integrity.dropped >= flipped && integrity.repaired > 0, "{integrity:?}");
    assert_eq!((integrity.dropped + integrity.repaired, integrity.stuck), (integrity.found, None));
    let log = stage.nodes[2].engine.log(SHARD).unwrap();
    assert!(log.get(log_index).unwrap().is_some());
    assert!(indexes.clone().all(|index| log.get(index).unwrap().is_none()));
    stage.stop().await;
}
