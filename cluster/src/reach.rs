//! Who reaches whom. Each peer is asked again and again whom it reaches: that finds a connection on which nothing comes
//! back any more, long before TCP gives up, and tells who is fit to lead.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chat::ids::NodeId;
use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};

use crate::cluster::Inner;
use crate::peer::lane::{CallError, Lane};
use crate::peer::message::{Request, Response};

/// Between two questions.
const EVERY: Duration = Duration::from_secs(1);
/// A peer that does not answer within this does not, and is connected to anew.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whom each peer said it reaches; those that this node does not reach are not there.
#[derive(Debug, Default)]
pub(crate) struct Reach(Mutex<BTreeMap<NodeId, BTreeSet<NodeId>>>);

impl Reach {
    /// How many members each node reaches, itself included: this node, and those that it reaches.
    pub(crate) fn counts(&self, inner: &Inner) -> BTreeMap<NodeId, usize> {
        let mut counts: BTreeMap<NodeId, usize> =
            self.0.lock().iter().map(|(node, reached)| (*node, reached.len())).collect();
        counts.retain(|node, _| inner.connected(*node) && !inner.leaving.contains(*node));
        counts.insert(inner.node, reached(inner).len());
        counts
    }

    fn set(&self, peer: NodeId, reached: Option<BTreeSet<NodeId>>) {
        let mut all = self.0.lock();
        match reached {
            Some(reached) => all.insert(peer, reached),
            None => all.remove(&peer),
        };
    }
}

/// The members that this node reaches, itself included.
pub(crate) fn reached(inner: &Inner) -> BTreeSet<NodeId> {
    inner.table().ids().filter(|node| inner.connected(*node)).collect()
}

/// Watches one peer.
pub(crate) async fn run(inner: Arc<Inner>, peer: NodeId, lane: Lane) {
    let mut clock = interval(EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        if !lane.connected() {
            inner.reach.set(peer, None);
            continue;
        }
        match lane.call(Request::Reach, PATIENCE).await {
            Ok(Response::Reach(nodes)) => inner.reach.set(peer, Some(nodes)),
            // It has more to do than it can, but it is there.
            Ok(_) | Err(CallError::Overloaded | CallError::Unreachable) => {}
            Err(CallError::NoAnswer) => {
                tracing::warn!(event = "peer_silent", peer, "nothing comes back from a peer: connecting anew");
                inner.reach.set(peer, None);
                lane.reset();
            }
        }
    }
}
