//! Runs against other systems: the same loads and checks as against ours, by other drivers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chat::ids::ShardId;

use super::failover::{self, Kill, Killed, Kills, Victim};
use super::watch::{Conductor, Quiet, Scene, TimeFromWindow};
use super::{Measured, Plan, RunError, Stage};
use crate::engine::Connector;
use crate::ledger::new_run;
use crate::progress::Progress;
use crate::protocol::Protocol;
use crate::protocol::bare::Bare;
use crate::protocol::nats::Nats;
use crate::protocol::xmpp::Xmpp;
use crate::summary::MarkKind;
use crate::systems::{Killable, Running, System, SystemError, room_prefix};
use crate::usage::Process;

/// How long a node that was killed last may take to come back, so that the next run finds all three.
const BACK_WITHIN: Duration = Duration::from_secs(60);
const LOOKED_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// A rival that runs.
pub struct Rival {
    pub system: System,
    pub running: Running,
    /// NATS: streams that the groups are dealt out to, if not as many as is best for it.
    pub streams: Option<u32>,
}

impl Rival {
    /// As on the command line.
    pub fn name(&self) -> String {
        let value = clap::ValueEnum::to_possible_value(&self.system);
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    pub fn run(&self, plan: &Plan, progress: Progress) -> Result<Measured, RunError> {
        let run = new_run();
        let streams = self.prepare(run, plan)?;
        match self.system {
            System::NatsFsync | System::NatsDefault => self.play(Nats::new(run, streams), plan, progress),
            System::Ejabberd => self.play(Xmpp::new(room_prefix(run)), plan, progress),
            System::Bare => self.play(Bare, plan, progress),
        }
    }

    /// Makes what the plan needs; how many streams, if the system has any.
    fn prepare(&self, run: u32, plan: &Plan) -> Result<u32, RunError> {
        let groups = plan.shape.groups.len() as u32;
        let streams = self.system.streams(self.streams, groups).unwrap_or_default();
        self.running.prepare(run, plan.shape.users, groups, streams)?;
        Ok(streams)
    }

    fn play<P: Protocol>(&self, protocol: P, plan: &Plan, progress: Progress) -> Result<Measured, RunError> {
        let connector = Connector::new(&self.running.urls(), self.running.ca_pem())?;
        let processes = processes(self.running.processes());
        play(protocol, plan, connector, &processes, &mut Quiet, progress)
    }

    /// A run in which leaders of streams are killed. The groups of a stream are to NATS what those of a shard are to us.
    pub fn failover(&mut self, plan: &Plan, kills: &Kills, progress: Progress) -> Result<Measured, RunError> {
        let run = new_run();
        let streams = self.prepare(run, plan)?;
        let connector = Connector::new(&self.running.urls(), self.running.ca_pem())?;
        let processes = processes(self.running.processes());
        let nodes = self.running.killable().ok_or_else(|| {
            RunError::Usage(
                "only NATS and ours are killed: rooms and connections of others die with their node".to_owned(),
            )
        })?;
        let nats = Nats::new(run, streams);
        let groups = plan.shape.groups.len() as u32;
        let shards: Vec<ShardId> = (0..groups).map(|group| ShardId((group % streams) as u16)).collect();
        let mut failover = RivalFailover {
            nodes,
            nats: nats.clone(),
            kills: kills.clone(),
            groups,
            done: 0,
            down: None,
            killed: Vec::new(),
            troubles: Vec::new(),
        };
        let mut measured = play(nats, plan, connector, &processes, &mut failover, progress)?;
        failover::record(&mut measured, &failover.killed, failover.troubles, &shards, kills.len());
        Ok(measured)
    }
}

fn play<P: Protocol>(
    protocol: P,
    plan: &Plan,
    connector: Connector,
    processes: &[Process],
    conductor: &mut dyn Conductor,
    progress: Progress,
) -> Result<Measured, RunError> {
    let stage =
        Stage { plan, connector, processes, joining: plan.shape.memberships(), progress, gate: super::open_gate };
    let mut measured = stage.play(&Arc::new(protocol), || Ok(()), conductor)?;
    measured.checks.notes.push("what its nodes hold was not read back: only deliveries were checked".to_owned());
    Ok(measured)
}

fn processes(named: Vec<(String, u32)>) -> Vec<Process> {
    named.into_iter().map(|(name, pid)| Process { name, pid }).collect()
}

/// Kills of leaders of streams, one after the other.
struct RivalFailover<'a> {
    nodes: Killable<'a>,
    nats: Nats,
    kills: Kills,
    groups: u32,
    done: usize,
    /// The dead node, when it is to come back (seconds of the window), and whether it was started.
    down: Option<(u16, f64, bool)>,
    killed: Vec<Killed>,
    troubles: Vec<String>,
}

impl RivalFailover<'_> {
    fn kill(&mut self, kill: Kill, at_s: f64, scene: &mut Scene<'_>) -> Result<(), SystemError> {
        let leaders = self.nodes.leaders(&self.nats)?;
        let node = match kill.victim {
            Victim::Node(node) => u16::try_from(node).unwrap_or_default(),
            Victim::Leader => busiest(&leaders),
        };
        self.nodes.kill(node)?;
        let led = (0..self.groups).map(|group| leaders[group as usize % leaders.len()] == node).collect();
        self.killed.push(Killed { node: node.into(), at_us: scene.engine.now_us(), led });
        scene.mark(at_s, MarkKind::Kill, format!("node {node} killed"));
        self.down = Some((node, at_s + kill.restart_after.as_secs_f64(), false));
        Ok(())
    }

    /// Starts the dead node when its time has come, and looks whether it has caught up.
    fn revive(&mut self, at_s: f64, scene: &mut Scene<'_>) -> Result<(), SystemError> {
        let Some((node, back_s, started)) = self.down.filter(|down| at_s >= down.1) else { return Ok(()) };
        if !started {
            self.nodes.start_again(node)?;
            scene.mark(at_s, MarkKind::Restart, format!("node {node} started again"));
            processes(self.nodes.processes()).iter().for_each(|process| scene.watch.replace(process));
            self.down = Some((node, back_s, true));
        } else if self.nodes.is_ready(node) {
            self.down = None;
        }
        Ok(())
    }
}

impl Conductor for RivalFailover<'_> {
    fn turn(&mut self, at: TimeFromWindow, scene: &mut Scene<'_>) {
        let TimeFromWindow(at_s) = at;
        if let Err(trouble) = self.revive(at_s, scene) {
            self.troubles.push(trouble.to_string());
            self.down = None;
        }
        let due = self.kills.get(self.done).copied().filter(|kill| at_s >= kill.at.as_secs_f64());
        // Two dead nodes are no majority of three: a kill waits until the last victim is back.
        let Some(kill) = due.filter(|_| self.down.is_none()) else { return };
        self.done += 1;
        if let Err(trouble) = self.kill(kill, at_s, scene) {
            self.troubles.push(format!("the kill due at {} s did not happen: {trouble}", kill.at.as_secs()));
        }
    }

    fn finish(&mut self) {
        let Some((node, _, started)) = self.down.take() else { return };
        if !started && let Err(error) = self.nodes.start_again(node) {
            return self.troubles.push(format!("node {node} did not start again: {error}"));
        }
        let deadline = Instant::now() + BACK_WITHIN;
        while !self.nodes.is_ready(node) {
            if Instant::now() > deadline {
                return self.troubles.push(format!("node {node} did not come back"));
            }
            std::thread::sleep(LOOKED_AGAIN_AFTER);
        }
    }
}

/// The node that leads the most streams; of several, the first.
fn busiest(leaders: &[u16]) -> u16 {
    let led = |node: &u16| leaders.iter().filter(|leader| *leader == node).count();
    let most = leaders.iter().copied().max_by_key(|node| (led(node), std::cmp::Reverse(*node)));
    most.unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_that_leads_most_streams_is_found() {
        assert_eq!(busiest(&[1, 2, 2, 3]), 2);
        assert_eq!(busiest(&[3, 2]), 2);
        assert_eq!(busiest(&[]), 1);
    }
}
