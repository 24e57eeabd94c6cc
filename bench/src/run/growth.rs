//! A cluster that grows and shrinks while a load runs: nodes join by a token, catch up, vote; others leave for good, the
//! ones that founded the cluster among them.

use std::time::{Duration, Instant};

use chat::ids::NodeId;
use tokio::runtime::Handle;

use super::Measured;
use super::watch::{Conductor, Scene, TimeFromWindow};
use crate::spawn::Spawned;
use crate::summary::MarkKind;
use crate::target::TargetOptions;

/// How long a node may take to say how it is.
const ANSWER_WITHIN: Duration = Duration::from_millis(300);
/// Between two looks at how far a change is.
const LOOK_S: f64 = 0.2;
/// How long a change that the load's end found unfinished may take.
const DONE_WITHIN: Duration = Duration::from_secs(60);

/// What happens next, once the change before is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Join,
    Remove(NodeId),
}

/// From one node to three, to five, and back to three, none of which founded the cluster alone.
pub const UP_AND_DOWN: [Change; 6] =
    [Change::Join, Change::Join, Change::Join, Change::Join, Change::Remove(1), Change::Remove(3)];

/// A change that is under way.
#[derive(Debug, Clone, Copy)]
struct Doing {
    change: Change,
    node: NodeId,
    since_s: f64,
    looked_s: f64,
}

pub(super) struct Growth<'a> {
    spawned: &'a mut Spawned,
    runtime: Handle,
    changes: Vec<Change>,
    /// Before the first change, and between one that is complete and the next.
    pause: Duration,
    /// When the next may begin, in seconds of the window.
    next_s: f64,
    done: usize,
    doing: Option<Doing>,
    /// Seconds that each change took.
    pub(super) took: Vec<(Change, f64)>,
    pub(super) troubles: Vec<String>,
}

impl<'a> Growth<'a> {
    pub(super) fn new(spawned: &'a mut Spawned, runtime: Handle, changes: Vec<Change>, pause: Duration) -> Self {
        let (took, troubles) = (Vec::new(), Vec::new());
        let next_s = pause.as_secs_f64();
        Self { spawned, runtime, changes, pause, next_s, done: 0, doing: None, took, troubles }
    }

    fn begin(&mut self, change: Change, at_s: f64, scene: &mut Scene<'_>) -> Result<(), String> {
        let node = match change {
            Change::Join => {
                let joined = self.runtime.block_on(self.spawned.join()).map_err(|error| error.to_string())?;
                self.spawned.processes().iter().for_each(|process| scene.watch.replace(process));
                joined
            }
            Change::Remove(node) => {
                let admin = self.spawned.admin_beside(node).map_err(|error| error.to_string())?;
                self.runtime.block_on(admin.remove_node(node)).map_err(|error| error.to_string())?;
                node
            }
        };
        let said = if change == Change::Join { "joins" } else { "leaves for good" };
        scene.mark(at_s, MarkKind::Restart, format!("node {node} {said}"));
        self.doing = Some(Doing { change, node, since_s: at_s, looked_s: at_s });
        Ok(())
    }

    /// Whether the change is complete: a joined node is active, a removed one is gone, and nothing is left to move.
    fn is_complete(&mut self, doing: Doing) -> bool {
        let Ok(admin) = self.spawned.admin_beside(doing.node) else { return false };
        let asked = async {
            let (status, plan) = (admin.status().await.ok()?, admin.plan().await.ok()?);
            Some((status, plan))
        };
        let answer = self.runtime.block_on(async { tokio::time::timeout(ANSWER_WITHIN, asked).await.ok() });
        let Some((status, plan)) = answer.flatten() else { return false };
        let state = status.cluster.peers.iter().find(|peer| peer.node == doing.node).map(|peer| peer.state.as_str());
        let there = match doing.change {
            Change::Join => state == Some("active"),
            Change::Remove(_) => state.is_none(),
        };
        let placed =
            status.cluster.shards.iter().all(|shard| shard.preferred.is_some_and(|node| shard.voters.contains(&node)));
        there && placed && plan.moves.is_empty()
    }

    fn complete(&mut self, doing: Doing, at_s: f64) {
        if let Change::Remove(node) = doing.change {
            self.runtime.block_on(self.spawned.gone(node, DONE_WITHIN));
            self.spawned.forget(node);
        }
        self.took.push((doing.change, at_s - doing.since_s));
        (self.doing, self.done, self.next_s) = (None, self.done + 1, at_s + self.pause.as_secs_f64());
    }
}

impl Conductor for Growth<'_> {
    fn turn(&mut self, at: TimeFromWindow, scene: &mut Scene<'_>) {
        let TimeFromWindow(at_s) = at;
        if let Some(doing) = self.doing {
            if at_s - doing.looked_s >= LOOK_S {
                self.doing = Some(Doing { looked_s: at_s, ..doing });
                if self.is_complete(doing) {
                    self.complete(doing, at_s);
                }
            }
            return;
        }
        let Some(change) = self.changes.get(self.done).copied().filter(|_| at_s >= self.next_s) else { return };
        if let Err(trouble) = self.begin(change, at_s, scene) {
            self.troubles.push(format!("{change:?} did not happen: {trouble}"));
            self.done = self.changes.len();
        }
    }

    fn finish(&mut self) {
        // A change that the load's end found under way: the final checks ask those that are left.
        let Some(doing) = self.doing else { return };
        let begun = Instant::now();
        while !self.is_complete(doing) {
            if begun.elapsed() >= DONE_WITHIN {
                self.troubles.push(format!("{:?} of node {} did not become complete", doing.change, doing.node));
                return;
            }
            self.runtime.block_on(tokio::time::sleep(ANSWER_WITHIN));
        }
        self.complete(doing, doing.looked_s + begun.elapsed().as_secs_f64());
    }

    fn present(&self) -> Option<TargetOptions> {
        self.spawned.target().ok()
    }
}

/// Writes into the run what its changes came to.
pub(super) fn record(measured: &mut Measured, took: &[(Change, f64)], troubles: Vec<String>, planned: usize) {
    measured.checks.notes.extend(took.iter().map(|(change, s)| format!("{change:?}: complete after {s:.1} s")));
    measured.checks.notes.extend(troubles);
    measured.outcome.acks.sort_unstable();
    let pauses = measured.outcome.acks.windows(2).map(|pair| pair[1].0 - pair[0].0);
    if let Some(longest_us) = pauses.max() {
        measured.checks.notes.push(format!("longest time without any ack: {:.0} ms", longest_us as f64 / 1e3));
    }
    measured.outcome.acks = Vec::new();
    if took.len() < planned {
        measured.unhealthy = Some(format!("{} of {planned} changes were completed", took.len()));
    }
}
