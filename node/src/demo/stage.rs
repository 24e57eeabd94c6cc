//! The running demo: a cluster, its probe, and what the keys do to it. Returns what to show.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chat::ids::{NodeId, ShardId};

use super::people::{AnyError, Connector};
use super::probe::Probe;
use super::report::{self, Leaders};
use crate::local::LocalCluster;

/// How long the cluster may take to find new leaders and write again before the report says that it has not.
const RECOVERY: Duration = Duration::from_secs(20);
/// How long a kill waits for leaders to be spread over the nodes.
const SPREAD: Duration = Duration::from_secs(5);
const READY: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(25);

pub(super) struct Stage {
    pub(super) cluster: LocalCluster,
    pub(super) connector: Connector,
    pub(super) probe: Probe,
    dead: Option<NodeId>,
}

impl Stage {
    pub(super) fn new(cluster: LocalCluster, connector: Connector, probe: Probe) -> Self {
        Self { cluster, connector, probe, dead: None }
    }

    /// Waits until every node leads its share: killing one that leads nothing shows little. Not for long, since
    /// everything works meanwhile.
    async fn wait_until_spread(&self) -> Result<(), AnyError> {
        let deadline = Instant::now() + SPREAD;
        let admin = self.cluster.admin(self.cluster.nodes()[0])?;
        while Instant::now() < deadline {
            let shards = admin.status().await?.cluster.shards;
            if shards.iter().all(|shard| shard.leader.is_some() && shard.leader == shard.preferred) {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Kills a random node and reports what that did.
    pub(super) async fn kill(&mut self) -> Result<String, AnyError> {
        if let Some(dead) = self.dead {
            return Ok(format!(
                "node {dead} is down already, and without another one there is no majority\nnext: r brings node {dead} back"
            ));
        }
        let nodes = self.cluster.nodes();
        let killed = nodes[random_below(nodes.len())?];
        self.wait_until_spread().await?;
        let before = self.leaders(None).await?;
        let through_it = self.probe.node() == Some(killed);
        self.probe.watch_closely();
        self.probe.fault();
        let pid = self.cluster.pid(killed).unwrap_or_default();
        self.cluster.kill(killed)?;
        self.dead = Some(killed);
        let after = self.wait_for_leaders(killed).await?;
        self.wait_for_writes().await;
        let pauses = self.probe.pauses();
        self.probe.relax();

        let moved = report::moved(&before, &after, killed);
        let mut lines = vec![format!("node {killed} is dead (kill -9 of process {pid})")];
        lines.push(report::moves(&moved, killed));
        lines.push(report::pauses(&moved, &pauses));
        if through_it {
            lines.push(format!(
                "  (the writers were connected to node {killed}: logging in at another one is part of that)"
            ));
        }
        lines.push(self.count(killed).await?);
        lines.push(format!("next: r brings node {killed} back · q ends"));
        Ok(lines.join("\n  "))
    }

    /// Starts the killed node again.
    pub(super) async fn revive(&mut self) -> Result<String, AnyError> {
        let Some(node) = self.dead else {
            return Ok("all nodes run\nnext: k kills one".to_owned());
        };
        let start = Instant::now();
        if !self.cluster.is_running(node) {
            self.cluster.start(node)?;
        }
        self.cluster.wait_ready(node, READY).await?;
        let missed = self.applied(except(&self.cluster.nodes(), node)).await?;
        while !caught_up(&missed, &self.applied(vec![node]).await?) && start.elapsed() < READY {
            tokio::time::sleep(POLL).await;
        }
        self.dead = None;
        let seconds = start.elapsed().as_secs_f64();
        Ok(format!("node {node} is back, caught up and serving after {seconds:.2} s\nnext: k kills a node · q ends"))
    }

    /// Reads back from every node that lives.
    async fn count(&self, killed: NodeId) -> Result<String, AnyError> {
        let acked = self.probe.acked();
        let mut counted = BTreeMap::new();
        for node in except(&self.cluster.nodes(), killed) {
            let there = self.connector.only(self.cluster.client_url(node)?);
            counted.insert(node, acked.count(&there).await?);
        }
        self.probe.forget(&acked);
        Ok(report::losses(&counted))
    }

    /// Who leads what, as the first node sees it that answers.
    async fn leaders(&self, except: Option<NodeId>) -> Result<Leaders, AnyError> {
        let mut last: Option<AnyError> = None;
        for node in self.cluster.nodes().into_iter().filter(|node| Some(*node) != except) {
            match self.cluster.admin(node)?.status().await {
                Ok(status) => {
                    return Ok(status.cluster.shards.iter().map(|shard| (shard.shard, shard.leader)).collect());
                }
                Err(error) => last = Some(error.into()),
            }
        }
        Err(last.unwrap_or_else(|| "no node is left to ask".into()))
    }

    /// How far each shard's replica is, at the furthest of `nodes`.
    async fn applied(&self, nodes: Vec<NodeId>) -> Result<BTreeMap<ShardId, u64>, AnyError> {
        let mut furthest = BTreeMap::new();
        for node in nodes {
            for shard in self.cluster.admin(node)?.status().await?.cluster.shards {
                let index = furthest.entry(shard.shard).or_insert(0);
                *index = shard.applied.max(*index);
            }
        }
        Ok(furthest)
    }

    async fn wait_for_leaders(&self, killed: NodeId) -> Result<Leaders, AnyError> {
        let deadline = Instant::now() + RECOVERY;
        loop {
            let leaders = self.leaders(Some(killed)).await?;
            if report::settled(&leaders, killed) || Instant::now() >= deadline {
                return Ok(leaders);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn wait_for_writes(&self) {
        let deadline = Instant::now() + RECOVERY;
        while self.probe.pauses().values().any(Option::is_none) && Instant::now() < deadline {
            tokio::time::sleep(POLL).await;
        }
    }
}

fn except(nodes: &[NodeId], node: NodeId) -> Vec<NodeId> {
    nodes.iter().copied().filter(|other| *other != node).collect()
}

fn caught_up(missed: &BTreeMap<ShardId, u64>, has: &BTreeMap<ShardId, u64>) -> bool {
    missed.iter().all(|(shard, index)| has.get(shard).is_some_and(|own| own >= index))
}

fn random_below(bound: usize) -> Result<usize, getrandom::Error> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)?;
    Ok((u64::from_le_bytes(bytes) % bound as u64) as usize)
}
