//! What an operator reads.

use cluster::{PeerStatus, ScrubProgress, ShardStatus};

use super::*;
use crate::admin::StorageStatus;
use crate::presence::PresenceInfo;

fn node(id: NodeId, applied: u64) -> Answer {
    let peers = [(1, true), (2, false)].map(|(node, connected)| PeerStatus {
        node,
        address: format!("127.0.0.1:{node}"),
        connected,
        leaving: false,
        state: "active".into(),
        zone: String::new(),
        client: String::new(),
        admin: String::new(),
        version: connected.then_some(3),
        release: None,
        supports: Some(2),
        refused: (!connected).then(|| "it speaks another version".to_owned()),
    });
    let shard = |shard, leader| ShardStatus {
        shard: ShardId(shard),
        leader,
        voters: Vec::new(),
        learners: Vec::new(),
        preferred: None,
        term: 4,
        last: 10,
        applied,
        failed: None,
        diverged: None,
        integrity: Integrity::default(),
        purged: 0,
    };
    let status = NodeStatus {
        version: "1.0".into(),
        uptime_ms: 61_000,
        sessions: 3,
        draining: false,
        storage: StorageStatus { bytes_on_disk: 3 << 20, ..StorageStatus::default() },
        presence: PresenceInfo::default(),
        cluster: ClusterStatus {
            cluster: "c".into(),
            node: id,
            level: 1,
            supported: 1,
            peers: peers.to_vec(),
            shards: vec![shard(0, Some(1)), shard(1, None)],
            scrub: ScrubProgress::default(),
        },
    };
    Answer { admin: format!("https://{id}"), status: Some(status), digests: None, error: None }
}

#[test]
fn an_upgrade_that_every_node_supports_is_announced() {
    let mut answer = node(1, 10);
    answer.status.as_mut().unwrap().cluster.supported = 2;
    let text = report(&[answer]);
    let line = "upgrade available, to feature level 2: run campanile cluster upgrade";
    assert_eq!(text.lines().nth(1), Some(line), "{text}");
}

fn digest(applied: u64, digest: &str) -> ShardDigest {
    ShardDigest { shard: ShardId(1), applied, digest: digest.into(), records: 5 }
}

#[test]
fn nodes_shards_and_lag_are_shown_and_a_silent_node_is_named() {
    let silent = Answer { admin: "https://3".into(), status: None, digests: None, error: Some("refused".into()) };
    let text = report(&[node(1, 10), node(2, 7), silent]);
    let expected = "\
cluster c, as node 1 sees it (campanile 1.0), feature level 1

node  peers at     zone  state   reachable  sessions  on disk  up
1     127.0.0.1:1  -     active  yes        3         3.0 MiB  61 s
2     127.0.0.1:2  -     active  no         3         3.0 MiB  61 s
node 2 is not understood: it speaks another version
no status from https://3: refused

shard  leader  term  applied  lag on 1  lag on 2
meta   1       4     10       0         3
1      none    4     10       0         3";
    assert_eq!(text, expected);
}

#[test]
fn replicas_are_equal_different_or_not_comparable() {
    let (a, b, later) = (digest(9, "aa"), digest(9, "bb"), digest(11, "cc"));
    assert_eq!(verdict(&[(1, &a), (2, &a)]), "2 equal");
    assert_eq!(verdict(&[(1, &a), (2, &b)]), "DIFFERENT at the same index: 1: aa, 2: bb");
    assert!(verdict(&[(1, &a), (2, &later)]).starts_with("at different indexes"));
    assert_eq!(verdict(&[(1, &a)]), "one asked");
}

#[test]
fn damage_and_scrubs_are_shown_once_there_are_any() {
    let mut answer = node(2, 10);
    let status = answer.status.as_mut().unwrap();
    status.cluster.shards[1].integrity = Integrity {
        found: 3,
        repaired: 2,
        dropped: 0,
        pending: 1,
        quarantined: false,
        last: Some("corrupt log record 4 of shard 1".to_owned()),
        stuck: Some("nobody answers".to_owned()),
    };
    status.cluster.scrub = ScrubProgress {
        at: Some(ShardId(1)),
        began_ms: 1,
        records: 50,
        bytes: 2_048,
        damaged: 3,
        ..Default::default()
    };
    let status = answer.status.clone().unwrap();
    let expected = "\
DAMAGE on node 2, shard 1: 3 found, 2 repaired, 1 being repaired; last: corrupt log record 4 of shard 1; \
not repaired yet: nobody answers
scrub on node 2: at shard 1, 50 records (2.0 KiB), 3 damaged";
    assert_eq!(damage(&[(&answer, &status)]).as_deref(), Some(expected));
    let whole = node(1, 10);
    let status = whole.status.clone().unwrap();
    assert_eq!(damage(&[(&whole, &status)]), None);
}

#[test]
fn a_database_that_should_be_compacted_says_what_it_waits_for() {
    let mut answer = node(2, 10);
    let storage = &mut answer.status.as_mut().unwrap().storage;
    (storage.compaction_due, storage.dead_percent) = (true, 91);
    let status = answer.status.clone().unwrap();
    let told = |status: &NodeStatus| compactions(&[(&answer, status)]);
    assert_eq!(told(&status).as_deref(), Some("node 2 is to compact its database, and does so next"));
    let mut waiting = status.clone();
    waiting.storage.compaction_waits = Some("node 3 cannot be reached".to_owned());
    let expected = "node 2 is to compact its database, and waits: node 3 cannot be reached";
    assert_eq!(told(&waiting).as_deref(), Some(expected));
    assert_eq!(on_disk(&waiting.storage), "3.0 MiB, 91 % dead");
    assert_eq!(told(node(1, 10).status.as_ref().unwrap()), None);
}
