//! One clock for the heartbeats of every shard this node leads: they meet in the peers' queues and leave as one bundle
//! each, so that what an idle cluster costs grows with its nodes and not with its shards.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::cluster::Inner;

pub(crate) async fn run(inner: Arc<Inner>, every: Duration) {
    let mut clock = interval(every);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        for replica in inner.replicas.iter().filter(|replica| replica.leader() == Some(inner.node)) {
            if replica.raft.trigger().heartbeat().await.is_err() {
                // This replica has ended; the process is about to.
                return;
            }
        }
    }
}
