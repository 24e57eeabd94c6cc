//! What goes on by itself while a node runs, and what starts with each connection to a peer.

use std::sync::Arc;

use chat::ids::{NodeId, ShardId};
use openraft::async_runtime::watch::WatchReceiver;
use storage::Engine;
use tokio::task::AbortHandle;

use crate::cluster::Inner;
use crate::peer::PEER_TIMEOUT;
use crate::peer::lane::Lane;
use crate::peer::message::Request;
use crate::scrub::Scrubbing;
use crate::{
    Housekeeping, balance, collect, election, failover, heartbeat, outbox, placement, purge, reach, repair, retention,
    roster, scrub, verify,
};

/// Starts everything that goes on by itself.
pub(crate) fn begin(inner: &Arc<Inner>, housekeeping: Housekeeping, engine: Engine, scrubbing: Scrubbing) {
    for shard in (0..=inner.shards).map(ShardId) {
        tokio::spawn(outbox::run(inner.clone(), shard));
        tokio::spawn(repair::run(inner.clone(), shard));
        tokio::spawn(watch_leadership(inner.clone(), shard));
    }
    tokio::spawn(heartbeat::run(inner.clone(), inner.timing.heartbeat));
    tokio::spawn(election::run(inner.clone(), inner.timing));
    inner.watch_peers();
    tokio::spawn(roster::run(inner.clone()));
    tokio::spawn(placement::run(inner.clone()));
    tokio::spawn(balance::run(inner.clone()));
    tokio::spawn(verify::run(inner.clone()));
    tokio::spawn(scrub::run(inner.clone(), engine, scrubbing));
    tokio::spawn(retention::run(inner.clone(), housekeeping));
    tokio::spawn(purge::run(inner.clone(), housekeeping));
    tokio::spawn(collect::run(inner.clone(), housekeeping));
}

impl Inner {
    /// Watches the connections that nothing watches yet.
    pub(crate) fn watch_peers(self: &Arc<Self>) {
        let alone = self.lanes.is_empty();
        self.replicas.iter().for_each(|replica| replica.health.peers(!alone));
        self.lanes.watched_by(|peer, lane| {
            let watchers: [AbortHandle; 3] = [
                tokio::spawn(watch_connection(self.clone(), peer, lane.clone())).abort_handle(),
                tokio::spawn(failover::run(self.clone(), peer, lane.clone(), self.timing)).abort_handle(),
                tokio::spawn(reach::run(self.clone(), peer, lane)).abort_handle(),
            ];
            watchers.into()
        });
    }
}

/// Tells the node above when this replica begins and ceases to lead.
async fn watch_leadership(inner: Arc<Inner>, shard: ShardId) {
    let Some(replica) = inner.replica(shard) else { return };
    let mut metrics = replica.raft.server_metrics();
    let mut leading = false;
    loop {
        let now = metrics.borrow_watched().current_leader == Some(inner.node);
        if now != leading {
            leading = now;
            tracing::info!(event = "leadership", %shard, leading, "this node {}", if now { "leads" } else { "follows" });
            inner.feed.leadership(shard, leading);
            // What the leader before left undelivered is now ours to deliver.
            replica.outbox_filled.notify_one();
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

/// Tells the node above when notes to `peer` may have been lost.
async fn watch_connection(inner: Arc<Inner>, peer: NodeId, lane: Lane) {
    let mut connected = lane.watch_connected();
    while connected.wait_for(|connected| *connected).await.is_ok() {
        // A process that has just started leads as it should; one that rests still says so.
        inner.leaving.set(peer, false);
        if inner.leaving.contains(inner.node) {
            let _ = lane.call(Request::Leaving { leaving: true }, PEER_TIMEOUT).await;
        }
        if connected.wait_for(|connected| !*connected).await.is_err() {
            return;
        }
        inner.service.lost(peer);
    }
}
