//! A faster verdict on a leader whose process is gone: its connection breaks at once, so the survivors stand for
//! election as soon as its lease allows, without waiting out a random timeout. A leader that only falls silent
//! (power loss, a cut cable) is found by openraft's own timeout.
//!
//! Safe whatever the connection says: every attempt starts with a pre-vote, which a leader that is alive refuses.

use std::sync::Arc;
use std::time::Duration;

use chat::ids::{NodeId, ShardId};
use tokio::time::{Instant, sleep};

use crate::Timing;
use crate::cluster::Inner;
use crate::peer::lane::Lane;

/// Between two attempts. The lease ends somewhere within one heartbeat, so the first ones may be early.
const ATTEMPT: Duration = Duration::from_millis(60);
/// How long after the lease the chosen survivor has to itself; then any may stand.
const HEAD_START: Duration = Duration::from_millis(25);

/// Watches the connection to `peer`.
pub(crate) async fn run(inner: Arc<Inner>, peer: NodeId, lane: Lane, timing: Timing) {
    let mut connected = lane.watch_connected();
    loop {
        if connected.wait_for(|connected| *connected).await.is_err() {
            return;
        }
        if connected.wait_for(|connected| !*connected).await.is_err() {
            return;
        }
        let gone = Instant::now();
        sleep(timing.election_max.saturating_sub(timing.heartbeat)).await;
        while !lane.connected() && gone.elapsed() < timing.election_max + timing.election_min {
            for replica in inner.replicas.iter().filter(|replica| replica.leader() == Some(peer)) {
                if !replica.members().voters.contains(&inner.node) {
                    continue;
                }
                if first_to_stand(&inner, replica.shard, peer) || gone.elapsed() > timing.election_max + HEAD_START {
                    // It has ended; the process is about to.
                    let _ = replica.raft.trigger().elect(true).await;
                }
            }
            sleep(ATTEMPT).await;
        }
    }
}

/// Whether this node stands first for `shard` once `gone` is gone: its shards spread over the survivors.
fn first_to_stand(inner: &Inner, shard: ShardId, gone: NodeId) -> bool {
    let voters = inner.replica(shard).map(|replica| replica.members().voters).unwrap_or_default();
    let survivors: Vec<NodeId> =
        voters.iter().copied().filter(|node| *node != gone && inner.connected(*node)).collect();
    // By the shard's turn among those of the node that is gone: neighbours in that order go to different survivors.
    let turn = usize::from(shard.0) / voters.len().max(1);
    survivors.get(turn % survivors.len().max(1)) == Some(&inner.node)
}
