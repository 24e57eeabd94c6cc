//! A node that gives away what it leads and whom it serves, before it stops or to rest, and takes it back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cluster::Cluster;

use crate::directory::Sessions;
use crate::fanout::FanOutHandle;

/// How long handing over leadership may take. What is left then moves by election, after its lease.
const RESIGN: Duration = Duration::from_secs(3);
/// How long connections may take to end once they were told to.
const CLOSING: Duration = Duration::from_millis(1_300);

/// Why nobody is let in; either is enough.
#[derive(Default)]
struct Shut {
    /// An operator drained the node, or it stops.
    drained: AtomicBool,
    /// It cannot follow the other nodes.
    behind: AtomicBool,
}

/// The parts of a node that its duties lie with.
#[derive(Clone)]
pub struct Duty {
    pub cluster: Cluster,
    pub fan_out: FanOutHandle,
    pub sessions: Sessions,
    shut: Arc<Shut>,
}

impl Duty {
    pub fn new(cluster: Cluster, fan_out: FanOutHandle, sessions: Sessions) -> Self {
        Self { cluster, fan_out, sessions, shut: Arc::default() }
    }

    /// Takes no new connections, hands over leadership, and has the clients connect elsewhere, spread over `spread`.
    pub async fn drain(&self, spread: Duration) {
        tracing::info!(event = "node_draining", "giving away what this node leads and whom it serves");
        self.shut.drained.store(true, Ordering::Relaxed);
        self.sessions.close();
        let shards = self.cluster.resign(RESIGN).await;
        if self.sessions.connections() > 0 {
            self.fan_out.say_goodbye(spread).await;
            let _ = tokio::time::timeout(CLOSING, self.sessions.all_gone()).await;
        }
        // What could not be given away: shards that no other node could lead, and who did not go.
        let connections = self.sessions.connections();
        tracing::info!(event = "node_drained", shards, connections, "drained");
    }

    /// Serves and leads again.
    pub async fn resume(&self) {
        tracing::info!(event = "node_resumed", "this node serves and leads again");
        self.shut.drained.store(false, Ordering::Relaxed);
        self.open();
        self.cluster.return_to_duty().await;
    }

    /// Sends clients elsewhere, once, and lets nobody in as long as `behind` holds; lets them in when it ends.
    pub(crate) fn turn_away(&self, behind: bool, spread: Duration) {
        if self.shut.behind.swap(behind, Ordering::Relaxed) == behind {
            return;
        }
        if !behind {
            return self.open();
        }
        tracing::warn!(event = "clients_sent_elsewhere", "this node cannot follow the others: its clients leave");
        self.sessions.close();
        let fan_out = self.fan_out.clone();
        actix::spawn(async move { fan_out.say_goodbye(spread).await });
    }

    fn open(&self) {
        if !self.shut.drained.load(Ordering::Relaxed) && !self.shut.behind.load(Ordering::Relaxed) {
            self.sessions.open();
        }
    }

    pub fn is_draining(&self) -> bool {
        self.shut.drained.load(Ordering::Relaxed)
    }
}
