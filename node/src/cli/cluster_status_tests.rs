//! What an operator reads.

use cluster::{ClusterStatus, PeerStatus, ShardStatus};

use super::*;
use crate::admin::StorageStatus;

fn node(id: NodeId, applied: u64) -> Answer {
    let peers = [(1, true), (2, false)].map(|(node, connected)| PeerStatus {
        node,
        address: format!("127.0.0.1:{node}"),
        connected,
        leaving: false,
        version: connected.then_some(3),
        release: None,
        refused: (!connected).then(|| "it speaks another version".to_owned()),
    });
    let shard = |shard, leader| ShardStatus {
        shard: ShardId(shard),
        leader,
        preferred: None,
        term: 4,
        last: 10,
        applied,
        failed: None,
        diverged: None,
    };
    let status = NodeStatus {
        version: "1.0".into(),
        uptime_ms: 61_000,
        sessions: 3,
        draining: false,
        storage: StorageStatus { bytes_on_disk: 3 << 20, ..StorageStatus::default() },
        cluster: ClusterStatus {
            cluster: "c".into(),
            node: id,
            peers: peers.to_vec(),
            shards: vec![shard(0, Some(1)), shard(1, None)],
        },
    };
    Answer { admin: format!("https://{id}"), status: Some(status), digests: None, error: None }
}

fn digest(applied: u64, digest: &str) -> ShardDigest {
    ShardDigest { shard: ShardId(1), applied, digest: digest.into(), records: 5 }
}

#[test]
fn nodes_shards_and_lag_are_shown_and_a_silent_node_is_named() {
    let silent = Answer { admin: "https://3".into(), status: None, digests: None, error: Some("refused".into()) };
    let text = report(&[node(1, 10), node(2, 7), silent]);
    let expected = "\
cluster c, as node 1 sees it (campanile 1.0)

node  peers at     reachable  sessions  on disk  up
1     127.0.0.1:1  yes        3         3.0 MiB  61 s
2     127.0.0.1:2  no         3         3.0 MiB  61 s
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
