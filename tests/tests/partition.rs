//! Two of three nodes do not reach each other any more: a blackhole route in the network namespace of one of them, which
//! lets what the other says come through. Needs root and `ip`; without them it says that it was skipped.

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use campanile_client::Client;
use chat::ids::NodeId;
use chat::wire::Target;
use futures_util::future::try_join_all;
use node::admin::NewUser;
use node::init::InitOptions;
use node::local::{LocalCluster, find_binary};
use tempfile::TempDir;
use tests::{Stage, app, until, user};
use tokio::time::timeout;

const NODES: u8 = 3;
const FRIENDS: usize = 8;
/// What an operator is promised is ten seconds, measured in docs/BENCHMARKS.md; a test machine may be busy.
const RESUMES_WITHIN: Duration = Duration::from_secs(25);

/// Three network namespaces on one bridge, in a namespace of its own, that this process reaches too.
struct Net {
    name: String,
    subnet: u8,
}

fn ip(arguments: &str) -> Result<()> {
    let done = Command::new("ip").args(arguments.split(' ')).output()?;
    ensure!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

impl Net {
    fn new() -> Result<Self> {
        let process = std::process::id();
        let net = Self { name: format!("cp{process}"), subnet: (process % 250) as u8 };
        let (name, subnet) = (&net.name, net.subnet);
        ip(&format!("netns add {name}-hub"))?;
        ip(&format!("-n {name}-hub link add br0 type bridge"))?;
        ip(&format!("-n {name}-hub link set br0 up"))?;
        for node in 1..=NODES {
            let own = format!("{name}-{node}");
            ip(&format!("netns add {own}"))?;
            ip(&format!("-n {own} link add eth0 type veth peer name v{node} netns {name}-hub"))?;
            ip(&format!("-n {name}-hub link set v{node} master br0 up"))?;
            ip(&format!("-n {own} addr add 10.77.{subnet}.{node}/24 dev eth0"))?;
            ip(&format!("-n {own} link set eth0 up"))?;
            ip(&format!("-n {own} link set lo up"))?;
        }
        ip(&format!("link add {name} type veth peer name outside netns {name}-hub"))?;
        ip(&format!("-n {name}-hub link set outside master br0 up"))?;
        ip(&format!("addr add 10.77.{subnet}.254/24 dev {name}"))?;
        ip(&format!("link set {name} up"))?;
        Ok(net)
    }

    fn hosts(&self) -> Vec<IpAddr> {
        (1..=NODES).map(|node| Ipv4Addr::new(10, 77, self.subnet, node).into()).collect()
    }

    /// A program that runs `campanile` in the namespace of the node whose configuration it is given.
    fn launcher(&self, dir: &Path) -> Result<PathBuf> {
        let (binary, name) = (find_binary().context("no campanile")?, &self.name);
        let path = dir.join("in-its-namespace");
        let script = format!(
            "#!/bin/sh\nfor last; do :; done\nnode=${{last#*/node-}}\nexec ip netns exec {name}-${{node%%/*}} {} \"$@\"\n",
            binary.display()
        );
        std::fs::write(&path, script)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }

    /// What `from` says to `to` gets lost, or no longer does.
    fn blackhole(&self, what: &str, from: NodeId, to: NodeId) -> Result<()> {
        ip(&format!("-n {}-{from} route {what} blackhole 10.77.{}.{to}/32", self.name, self.subnet))
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let name = &self.name;
        // Whatever was made goes; the rest was never there.
        drop(ip(&format!("link del {name}")));
        for part in (1..=NODES).map(|node| node.to_string()).chain(["hub".to_owned()]) {
            drop(ip(&format!("netns del {name}-{part}")));
        }
    }
}

async fn stage(net: &Net) -> Result<Stage> {
    let dir: TempDir = tempfile::tempdir()?;
    let home = dir.path().join("cluster");
    let options = InitOptions { hosts: net.hosts(), ..InitOptions::local(home, u16::from(NODES), 4, 7400) };
    let mut cluster = LocalCluster::create(&options)?;
    cluster.use_binary(net.launcher(dir.path())?);
    Stage::of(cluster, dir).await
}

/// One message to each friend: to every shard. All must be acked.
async fn write(client: &Client, what: &str) -> Result<()> {
    let one = |friend| client.send_text(Target::User(user(&format!("friend{friend}"))), what.to_owned());
    try_join_all((0..FRIENDS).map(one)).await?;
    Ok(())
}

async fn terms(stage: &Stage) -> Result<Vec<u64>> {
    Ok(stage.cluster.admin(3)?.status().await?.cluster.shards.iter().map(|shard| shard.term).collect())
}

async fn leaders(stage: &Stage, asked: NodeId) -> Result<Vec<Option<NodeId>>> {
    Ok(stage.cluster.admin(asked)?.status().await?.cluster.shards.iter().map(|shard| shard.leader).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_that_do_not_reach_each_other_both_serve_on() -> Result<()> {
    let net = match Net::new() {
        Ok(net) => net,
        Err(error) => {
            println!("skipped: no network namespaces here: {error:#}");
            return Ok(());
        }
    };
    let mut stage = stage(&net).await?;
    for friend in 0..FRIENDS {
        let user = NewUser { app: app(), user: user(&format!("friend{friend}")), password: None };
        stage.cluster.admin(1)?.add_user(&user).await?;
    }
    let mut writers = Vec::new();
    for node in 1..=u64::from(NODES) {
        writers.push(stage.connect(&format!("writer{node}"), &[node]).await?.0);
    }
    try_join_all(writers.iter().map(|writer| write(writer, "before"))).await?;
    until("leaders are spread", async || {
        let leaders = leaders(&stage, 3).await?;
        Ok((1..=u64::from(NODES)).all(|node| leaders.contains(&Some(node))))
    })
    .await?;
    let before = terms(&stage).await?;

    net.blackhole("add", 1, 2)?;
    let all = try_join_all(writers.iter().map(|writer| write(writer, "while 1 does not reach 2")));
    timeout(RESUMES_WITHIN, all).await.context("writes resume, from every node to every shard")??;
    let elections: Vec<u64> = terms(&stage).await?.iter().zip(&before).map(|(now, then)| now - then).collect();
    assert!(elections.iter().all(|count| *count <= 3), "elections of each shard: {elections:?}");

    net.blackhole("del", 1, 2)?;
    until("nodes 1 and 2 reach each other and lead again", async || {
        let (one, two) = (leaders(&stage, 1).await?, leaders(&stage, 2).await?);
        Ok(one == two && (1..=u64::from(NODES)).all(|node| one.contains(&Some(node))))
    })
    .await?;
    try_join_all(writers.iter().map(|writer| write(writer, "after"))).await?;
    stage.equal_digests().await
}
