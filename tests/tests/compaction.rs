//! Nodes compact their databases by themselves, on real processes: one after the other, each the same process before and
//! after, while people write and nothing is lost.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use chat::ids::{ConversationId, NodeId};
use chat::wire::Target;
use futures_util::future::try_join_all;
use node::admin::{Policy, RetentionChange};
use node::local::LocalCluster;
use serde_json::Value;
use tests::written::Writers;
use tests::{Stage, app, until, user};

/// Databases of tests are small, and what takes an hour otherwise takes seconds.
const HURRIED: &str = r#"
[storage]
compact_min_size = "16 MiB"
compact_pause = "1s"
[retention]
sweep_every = "300ms"
purge_every = "300ms"
collect_every = "500ms"
log_keep_entries = 100
"#;
const SHARDS: u16 = 4;
/// Messages at once, rows of them, and bytes of each: what fills the databases, and is deleted again.
const ROW: usize = 64;
const ROWS_MAX: usize = 2_000;
const TEXT_BYTES: usize = 8_000;
const KEPT: u64 = 20;
/// So large is every database before most of it dies.
const FILLED_BYTES: u64 = 32 << 20;

async fn stage(nodes: u16) -> Result<Stage> {
    Stage::configured(nodes, SHARDS, HURRIED).await
}

/// Somebody says much until every database is large; then nearly nothing of it is kept any more, and most of each is dead.
async fn fill(stage: &Stage) -> Result<()> {
    let (talker, _) = stage.connect("talker", &[1]).await?;
    let (_listener, _) = stage.connect("listener", &[1]).await?;
    let text = "x".repeat(TEXT_BYTES);
    // Each row has its own deadline: a slow machine takes longer for all of them.
    for _ in 0..ROWS_MAX {
        let said = (0..ROW).map(|_| talker.send_text(Target::User(user("listener")), text.clone()));
        try_join_all(said).await?;
        if is_large(&stage.cluster).await? {
            return Ok(());
        }
    }
    bail!("the databases stay small")
}

async fn is_large(cluster: &LocalCluster) -> Result<bool> {
    for node in cluster.nodes() {
        if cluster.admin(node)?.status().await?.storage.database_bytes < FILLED_BYTES {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn keep_little(stage: &Stage) -> Result<()> {
    let conversation = Some(ConversationId::private(user("talker"), user("listener")));
    let policy = Some(Policy { max_age_ms: None, max_count: Some(KEPT) });
    stage.cluster.admin(1)?.set_retention(&RetentionChange { app: app(), conversation, policy }).await?;
    Ok(())
}

/// What a node's log says under one event, oldest first.
fn told(cluster: &LocalCluster, node: NodeId, event: &str) -> Result<Vec<Value>> {
    let log = std::fs::read_to_string(cluster.log(node))?;
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(lines.filter(|line| field(line, "event") == Some(&Value::from(event))).collect())
}

fn field<'v>(line: &'v Value, name: &str) -> Option<&'v Value> {
    line.get("fields").and_then(|fields| fields.get(name)).or_else(|| line.get(name))
}

fn number(line: &Value, name: &str) -> Result<u64> {
    field(line, name).and_then(Value::as_u64).with_context(|| format!("{name} in {line}"))
}

/// Whether all nodes have the same; an error while one of them is away again, whose database has filled up once more.
async fn same(cluster: &LocalCluster) -> Result<bool> {
    let mut all = Vec::new();
    for node in cluster.nodes() {
        all.push(cluster.admin(node)?.digests().await?);
    }
    Ok(all.windows(2).all(|pair| pair[0] == pair[1]))
}

fn time(line: &Value) -> Result<String> {
    Ok(line.get("timestamp").and_then(Value::as_str).with_context(|| format!("a time in {line}"))?.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_compacts_in_its_turn_and_nothing_is_lost() -> Result<()> {
    let mut stage = stage(3).await?;
    let nodes = stage.cluster.nodes();
    let processes: BTreeMap<NodeId, Option<u32>> = nodes.iter().map(|node| (*node, stage.cluster.pid(*node))).collect();
    fill(&stage).await?;
    let writers = Writers::start(&stage, 3).await?;
    writers.more(100).await?;
    keep_little(&stage).await?;
    for node in nodes.clone() {
        let turn = until("every node has had its turn, and given it back", async || {
            ensure!(stage.cluster.is_running(node), "node {node} ended");
            Ok(!told(&stage.cluster, node, "compaction_turn_ended")?.is_empty())
        });
        if let Err(error) = turn.await {
            let storage = stage.cluster.admin(node)?.status().await?.storage;
            return Err(error.context(format!("node {node}: {storage:?}")));
        }
    }
    writers.more(100).await?;
    writers.nothing_is_lost().await?;
    until("all replicas are the same", async || Ok(same(&stage.cluster).await.unwrap_or(false))).await?;

    let mut turns = Vec::new();
    for node in nodes {
        assert_eq!(stage.cluster.pid(node), processes[&node], "the same process");
        let cluster = &stage.cluster;
        let (begun, ended) = (told(cluster, node, "compaction_turn")?, told(cluster, node, "compaction_turn_ended")?);
        for (begun, ended) in begun.iter().zip(&ended) {
            turns.push((time(begun)?, time(ended)?, node));
        }
        let compacted = told(cluster, node, "compacted")?;
        ensure!(!compacted.is_empty(), "node {node} has compacted");
        for done in compacted {
            let (before, after) = (number(&done, "before_bytes")?, number(&done, "after_bytes")?);
            assert!(after < before, "node {node}: {before} bytes became {after}");
        }
    }
    turns.sort();
    for pair in turns.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "two nodes at once: {turns:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_which_no_majority_is_left_says_so_and_goes_on() -> Result<()> {
    let mut stage = stage(1).await?;
    fill(&stage).await?;
    keep_little(&stage).await?;
    let admin = stage.cluster.admin(1)?;
    let mut waits = None;
    until("the node says that it should compact and cannot", async || {
        waits = admin.status().await?.storage.compaction_waits;
        // Right after its start it waits for that.
        Ok(waits.as_deref().is_some_and(|waits| waits.contains("no majority without this node")))
    })
    .await?;
    assert!(stage.cluster.is_running(1));
    assert!(told(&stage.cluster, 1, "compaction_turn")?.is_empty());
    // A restart does it.
    assert!(stage.cluster.stop(1, tests::DEADLINE).await?);
    stage.cluster.start(1)?;
    stage.cluster.wait_ready(1, tests::DEADLINE).await?;
    assert_eq!(told(&stage.cluster, 1, "compacted")?.len(), 1);
    Ok(())
}
