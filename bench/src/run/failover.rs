//! Kills while a load runs: `kill -9` of the node that leads the most groups of the run, again and again, and how long
//! nothing was acked after each.

use std::collections::BTreeMap;
use std::time::Duration;

use chat::ids::{NodeId, ShardId};

use super::Measured;
use super::watch::{Conductor, Scene, TimeFromWindow};
use crate::spawn::Spawned;
use crate::summary::MarkKind;
use node::admin::{AdminClient, NodeStatus};
use tokio::runtime::Handle;

/// How long a node may take to say how it is.
const ANSWER_WITHIN: Duration = Duration::from_millis(300);

/// A kill that is to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kill {
    /// From the beginning of the measured window.
    pub at: Duration,
    pub victim: Victim,
    pub how: How,
    /// Until the node is started again.
    pub restart_after: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// SIGKILL.
    Kill,
    /// SIGTERM, and the node takes the time it needs.
    Stop,
}

/// In order of time.
pub type Kills = Vec<Kill>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// Whoever leads most of the run's groups.
    Leader,
    Node(NodeId),
}

/// `count` kills of leaders, `every` so often; the first after half of that.
pub fn leaders(count: u32, every: Duration, restart_after: Duration) -> Kills {
    at(count, every, |_| (Victim::Leader, How::Kill), restart_after)
}

/// `count` restarts in good order, of one node after the other.
pub fn rolling(nodes: u64, count: u32, every: Duration, restart_after: Duration) -> Kills {
    at(count, every, |number| (Victim::Node(u64::from(number) % nodes + 1), How::Stop), restart_after)
}

fn at(count: u32, every: Duration, who: impl Fn(u32) -> (Victim, How), restart_after: Duration) -> Kills {
    let kill = |number| {
        let (victim, how) = who(number);
        Kill { at: every / 2 + every * number, victim, how, restart_after }
    };
    (0..count).map(kill).collect()
}

/// A kill that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Killed {
    pub node: NodeId,
    /// On the engine's clock.
    pub at_us: u64,
    /// Of each group, whether the node led its shard.
    pub led: Vec<bool>,
}

pub(super) struct Failover<'a> {
    spawned: &'a mut Spawned,
    admins: BTreeMap<NodeId, AdminClient>,
    runtime: Handle,
    kills: Kills,
    /// Of each group, its shard.
    shards: Vec<ShardId>,
    /// The end of the measured window, after which nothing is killed.
    until_s: f64,
    done: usize,
    /// The dead node, when it is to come back (seconds of the window), and whether it was started.
    down: Option<(NodeId, f64, bool)>,
    pub(super) killed: Vec<Killed>,
    pub(super) troubles: Vec<String>,
}

impl<'a> Failover<'a> {
    pub(super) fn new(
        spawned: &'a mut Spawned,
        admins: Vec<AdminClient>,
        runtime: Handle,
        kills: Kills,
        shards: Vec<ShardId>,
        until: Duration,
    ) -> Self {
        let admins = spawned.nodes().into_iter().zip(admins).collect();
        let until_s = until.as_secs_f64();
        let (killed, troubles) = (Vec::new(), Vec::new());
        Self { spawned, admins, runtime, kills, shards, until_s, done: 0, down: None, killed, troubles }
    }

    fn status(&self) -> Option<NodeStatus> {
        // A dead node does not answer; any other knows.
        self.admins.values().find_map(|admin| self.within(admin.status())?.ok())
    }

    /// An answer of a node, if it comes soon: the run goes on meanwhile and is watched from here.
    fn within<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        self.runtime.block_on(async { tokio::time::timeout(ANSWER_WITHIN, answer).await.ok() })
    }

    fn kill(&mut self, kill: Kill, at_s: f64, scene: &mut Scene<'_>) -> Result<(), String> {
        let status = self.status().ok_or("no node tells who leads")?;
        let leaders: BTreeMap<ShardId, NodeId> =
            status.cluster.shards.iter().filter_map(|shard| Some((shard.shard, shard.leader?))).collect();
        let node = match kill.victim {
            Victim::Node(node) => node,
            Victim::Leader => busiest(&self.shards, &leaders).ok_or("no shard has a leader")?,
        };
        let led: Vec<bool> = self.shards.iter().map(|shard| leaders.get(shard) == Some(&node)).collect();
        let (ended, said) = match kill.how {
            How::Kill => (self.spawned.kill(node), "killed"),
            How::Stop => (self.spawned.terminate(node), "told to stop"),
        };
        ended.map_err(|error| error.to_string())?;
        self.killed.push(Killed { node, at_us: scene.engine.now_us(), led });
        scene.mark(at_s, MarkKind::Kill, format!("node {node} {said}"));
        self.down = Some((node, at_s + kill.restart_after.as_secs_f64(), false));
        Ok(())
    }

    /// Starts the dead node when its time has come, and looks whether it is ready.
    fn revive(&mut self, at_s: f64, scene: &mut Scene<'_>) -> Result<(), String> {
        let Some((node, back_s, started)) = self.down.filter(|down| at_s >= down.1) else { return Ok(()) };
        if !started && self.spawned.is_running(node) {
            return Ok(());
        }
        if !started {
            self.spawned.start_again(node).map_err(|error| error.to_string())?;
            scene.mark(at_s, MarkKind::Restart, format!("node {node} started again"));
            self.spawned.processes().iter().for_each(|process| scene.watch.replace(process));
            self.down = Some((node, back_s, true));
        }
        let ready = self.admins.get(&node).and_then(|admin| self.within(admin.ready())?.ok());
        if ready.is_some_and(|readiness| readiness.ready) {
            self.down = None;
        }
        Ok(())
    }
}

impl Conductor for Failover<'_> {
    fn turn(&mut self, at: TimeFromWindow, scene: &mut Scene<'_>) {
        let TimeFromWindow(at_s) = at;
        if let Err(trouble) = self.revive(at_s, scene) {
            self.troubles.push(trouble);
            self.down = None;
        }
        let Some(kill) = self.kills.get(self.done).copied().filter(|kill| at_s >= kill.at.as_secs_f64()) else {
            return;
        };
        // Two dead nodes are no majority of three: the kill waits until the last victim is ready again.
        if self.down.is_some() || at_s >= self.until_s {
            return;
        }
        self.done += 1;
        if let Err(trouble) = self.kill(kill, at_s, scene) {
            self.troubles.push(format!("the kill due at {} s did not happen: {trouble}", kill.at.as_secs()));
        }
    }

    fn finish(&mut self) {
        let Some((node, _, started)) = self.down.take() else { return };
        let ready = self.runtime.block_on(async {
            if !started {
                self.spawned.gone(node, BACK_WITHIN).await;
                self.spawned.start_again(node)?;
            }
            self.spawned.ready(node, BACK_WITHIN).await
        });
        if let Err(error) = ready {
            self.troubles.push(format!("node {node} did not come back: {error}"));
        }
    }
}

/// How long a node that was killed last may take to be ready for the final checks.
const BACK_WITHIN: Duration = Duration::from_secs(60);

/// The node that leads the shards of the most groups.
fn busiest(shards: &[ShardId], leaders: &BTreeMap<ShardId, NodeId>) -> Option<NodeId> {
    let mut led: BTreeMap<NodeId, usize> = BTreeMap::new();
    for leader in shards.iter().filter_map(|shard| leaders.get(shard)) {
        *led.entry(*leader).or_default() += 1;
    }
    led.into_iter().max_by_key(|(_, groups)| *groups).map(|(node, _)| node)
}

/// What a kill did to acks, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// The longest time without an ack of any one shard that the dead node led.
    pub moved_us: u64,
    /// The longest time without any ack at all.
    pub overall_us: u64,
}

/// Of each kill, the longest pauses from then until the next one (or the end). `acks` is in order of time.
pub fn pauses(killed: &[Killed], acks: &[(u64, u32)], shards: &[ShardId], end_us: u64) -> Vec<Pause> {
    let pause = |(number, kill): (usize, &Killed)| {
        let until_us = killed.get(number + 1).map_or(end_us, |next| next.at_us);
        let from = acks.partition_point(|(at_us, _)| *at_us < kill.at_us);
        let window = acks[from..].iter().take_while(|(at_us, _)| *at_us < until_us);
        let mut overall = Longest::from(kill.at_us);
        let mut moved: BTreeMap<ShardId, Longest> = BTreeMap::new();
        let led = shards.iter().zip(&kill.led).filter(|(_, led)| **led);
        led.for_each(|(shard, _)| {
            moved.entry(*shard).or_insert(Longest::from(kill.at_us));
        });
        for (at_us, group) in window {
            overall.ack(*at_us);
            if let Some(shard) = moved.get_mut(&shards[*group as usize]) {
                shard.ack(*at_us);
            }
        }
        overall.ack(until_us.max(kill.at_us));
        let moved_us = moved.into_values().map(|mut shard| {
            shard.ack(until_us.max(kill.at_us));
            shard.longest_us
        });
        Pause { moved_us: moved_us.max().unwrap_or_default(), overall_us: overall.longest_us }
    };
    killed.iter().enumerate().map(pause).collect()
}

/// The longest stretch between acks.
#[derive(Debug, Clone, Copy)]
struct Longest {
    last_us: u64,
    longest_us: u64,
}

impl Longest {
    fn from(at_us: u64) -> Self {
        Self { last_us: at_us, longest_us: 0 }
    }

    fn ack(&mut self, at_us: u64) {
        self.longest_us = self.longest_us.max(at_us.saturating_sub(self.last_us));
        self.last_us = at_us;
    }
}

/// Writes into the run what its kills came to.
pub(super) fn record(
    measured: &mut Measured,
    killed: &[Killed],
    troubles: Vec<String>,
    shards: &[ShardId],
    planned: usize,
) {
    measured.outcome.acks.sort_unstable();
    let end_us = measured.outcome.acks.last().map_or(0, |(at_us, _)| *at_us);
    for (kill, pause) in killed.iter().zip(pauses(killed, &measured.outcome.acks, shards, end_us)) {
        measured.outcome.latencies.pause.saturating_record(pause.moved_us);
        let led = kill.led.iter().filter(|led| **led).count();
        let ms = |us: u64| us as f64 / 1e3;
        measured.checks.notes.push(format!(
            "end of node {}, leader of {led} groups: {:.0} ms without an ack of a shard it led, {:.0} ms without any",
            kill.node,
            ms(pause.moved_us),
            ms(pause.overall_us)
        ));
    }
    measured.checks.notes.extend(troubles);
    measured.outcome.acks = Vec::new();
    if killed.len() < planned {
        let text = format!("{} of {planned} kills happened: nodes did not come back in time", killed.len());
        measured.unhealthy = Some(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_that_leads_most_groups_is_found() {
        let leaders = BTreeMap::from([(ShardId(1), 1), (ShardId(2), 2), (ShardId(3), 2)]);
        let shards = [ShardId(1), ShardId(1), ShardId(1), ShardId(2), ShardId(3)];
        assert_eq!(busiest(&shards, &leaders), Some(1));
        assert_eq!(busiest(&shards[3..], &leaders), Some(2));
        assert_eq!(busiest(&[], &leaders), None);
    }

    #[test]
    fn a_pause_is_the_longest_silence_of_a_shard_that_moved() {
        let shards = [ShardId(1), ShardId(2), ShardId(3)];
        let killed = [
            Killed { node: 1, at_us: 1_000, led: vec![true, true, false] },
            Killed { node: 2, at_us: 10_000, led: vec![false, false, true] },
        ];
        let mut acks =
            vec![(900, 0), (1_100, 2), (1_900, 0), (2_000, 2), (5_000, 1), (6_000, 0), (9_900, 1), (9_950, 0)];
        acks.extend([(10_100, 0), (10_200, 2), (10_900, 2)]);
        let pauses = pauses(&killed, &acks, &shards, 11_000);
        assert_eq!(pauses[0], Pause { moved_us: 4_900, overall_us: 3_900 });
        assert_eq!(pauses[1], Pause { moved_us: 700, overall_us: 700 });
    }

    #[test]
    fn kills_are_spread_over_the_run() {
        let kills = leaders(2, Duration::from_secs(8), Duration::from_secs(1));
        assert_eq!((kills[0].at, kills[0].victim), (Duration::from_secs(4), Victim::Leader));
        assert_eq!(kills[1].at, Duration::from_secs(12));
    }
}
