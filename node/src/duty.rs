//! A node that gives away what it leads and whom it serves, before it stops or to rest, and takes it back.

use std::time::Duration;

use cluster::Cluster;

use crate::directory::Sessions;
use crate::fanout::FanOutHandle;

/// How long handing over leadership may take. What is left then moves by election, after its lease.
const RESIGN: Duration = Duration::from_secs(3);
/// How long connections may take to end once they were told to.
const CLOSING: Duration = Duration::from_millis(1_300);

/// The parts of a node that its duties lie with.
#[derive(Clone)]
pub struct Duty {
    pub cluster: Cluster,
    pub fan_out: FanOutHandle,
    pub sessions: Sessions,
}

impl Duty {
    /// Takes no new connections, hands over leadership, and has the clients connect elsewhere, spread over `spread`.
    pub async fn drain(&self, spread: Duration) {
        tracing::info!(event = "node_draining", "giving away what this node leads and whom it serves");
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
        self.sessions.open();
        self.cluster.return_to_duty().await;
    }

    pub fn is_draining(&self) -> bool {
        self.sessions.are_closed()
    }
}
