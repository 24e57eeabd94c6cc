//! One node of three has damaged records, or a state that differs, while clients write to and read from it: nothing wrong
//! is served, nothing acked is lost, and all replicas are equal again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use campanile_client::{Client, Range};
use chat::ids::{ClientMsgId, ConversationId, NodeId, ShardId};
use chat::wire::{Body, EventContent, Target};
use node::admin::NodeStatus;
use storage::Engine;
use storage::damage::{Database, StoredRecord};
use tests::{DEADLINE, Stage, until, user};
use uuid::Uuid;

const SHARDS: u16 = 3;
/// The node that is damaged.
const DAMAGED: NodeId = 3;
const PEOPLE: usize = 4;

/// What was acked, by conversation: seq → id and text.
type Acked = BTreeMap<ConversationId, BTreeMap<u64, (ClientMsgId, String)>>;

/// Somebody who sends without end, and reads everything back again and again.
async fn write(client: Client, to: Target, name: String, stop: Arc<AtomicBool>, count: Arc<AtomicUsize>) -> Acked {
    let mut acked = Acked::new();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let (id, text) = (ClientMsgId(Uuid::now_v7()), format!("{name} says {number}"));
        // What is not acked is not promised.
        if let Ok(sent) = client.send_with_id(to.clone(), id, Body::Text { text: text.clone() }).await {
            let others = acked.entry(sent.conversation).or_default();
            assert!(others.insert(sent.seq, (id, text)).is_none(), "a seq was given twice");
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
    acked
}

/// Everything in a conversation, as this client is shown it; each seq once.
async fn history(client: &Client, conversation: &ConversationId) -> Result<BTreeMap<u64, (ClientMsgId, String)>> {
    let started = Instant::now();
    let mut all = BTreeMap::new();
    let mut after = 0;
    loop {
        let page = match client.history(conversation.clone(), Range::After(after)).await {
            Ok(page) => page,
            // Being repaired is said, and asked again.
            Err(_) if started.elapsed() < DEADLINE => continue,
            Err(error) => return Err(error.into()),
        };
        for event in &page.events {
            ensure!(event.seq == after + 1, "a gap before {}", event.seq);
            after = event.seq;
            if let EventContent::Message { client_msg_id, body: Some(Body::Text { text }), .. } = &event.content {
                all.insert(event.seq, (*client_msg_id, text.clone()));
            }
        }
        if !page.more {
            return Ok(all);
        }
    }
}

/// People who write to each other through all nodes while `during` happens; then everything acked is read back from the
/// damaged node.
struct Load {
    clients: Vec<Client>,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    writers: Vec<tokio::task::JoinHandle<Acked>>,
}

impl Load {
    async fn start(stage: &Stage) -> Result<Self> {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut clients = Vec::new();
        for number in 0..PEOPLE {
            let home = (number % 3 + 1) as u64;
            let nodes = [home, home % 3 + 1, (home + 1) % 3 + 1];
            clients.push(stage.connect(&format!("person{number}"), &nodes).await?.0);
        }
        let writer = |number: usize| {
            let to = Target::User(user(&format!("person{}", (number + 1) % PEOPLE)));
            let (name, client) = (format!("person{number}"), clients[number].clone());
            tokio::spawn(write(client, to, name, stop.clone(), count.clone()))
        };
        let writers = (0..PEOPLE).map(writer).collect();
        Ok(Self { clients, stop, count, writers })
    }

    async fn goes_on(&self, messages: usize) -> Result<()> {
        let before = self.count.load(Ordering::Relaxed);
        until("messages are acked", async || Ok(self.count.load(Ordering::Relaxed) > before + messages)).await
    }

    /// Ends it, and compares what was acked with what the nodes show.
    async fn check(self, stage: &Stage) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let mut acked = Acked::new();
        for writer in self.writers {
            for (conversation, messages) in writer.await? {
                acked.entry(conversation).or_default().extend(messages);
            }
        }
        drop(self.clients);
        for number in 0..PEOPLE {
            let name = format!("person{number}");
            let (reader, _events) = stage.connect(&name, &[DAMAGED]).await?;
            let own = acked.iter().filter(|(conversation, _)| conversation.to_string().contains(&name));
            for (conversation, messages) in own {
                let found = history(&reader, conversation).await?;
                let ids: BTreeSet<_> = found.values().map(|(id, _)| *id).collect();
                ensure!(ids.len() == found.len(), "a message is there twice in {conversation}");
                for (seq, message) in messages {
                    ensure!(found.get(seq) == Some(message), "{conversation} {seq}: {message:?}, {:?}", found.get(seq));
                }
            }
        }
        Ok(())
    }
}

fn data_dir(stage: &Stage) -> Result<PathBuf> {
    Ok(stage.cluster.config(DAMAGED)?.node.data_dir.clone())
}

/// Flips a bit in every record of the stopped node for which `pick` holds; how many those were.
fn flip(stage: &Stage, pick: impl Fn(&StoredRecord) -> bool) -> Result<usize> {
    let database = Database::open(&data_dir(stage)?).map_err(|error| anyhow!(error))?;
    let records = database.records().map_err(|error| anyhow!(error))?;
    let picked: Vec<_> = records.into_iter().filter(pick).collect();
    picked.iter().try_for_each(|record| database.flip(record)).map_err(|error| anyhow!(error))?;
    Ok(picked.len())
}

async fn status(stage: &Stage) -> Result<NodeStatus> {
    Ok(stage.cluster.admin(DAMAGED)?.status().await?)
}

/// Records found damaged on the node since it started, those repaired, and those left.
fn damage(status: &NodeStatus) -> (u64, u64, u64) {
    status.cluster.shards.iter().map(|shard| &shard.integrity).fold((0, 0, 0), |sum, integrity| {
        (sum.0 + integrity.found, sum.1 + integrity.repaired, sum.2 + integrity.pending)
    })
}

/// Looks at every record of the damaged node; all it finds is repaired.
async fn scrubbed(stage: &Stage) -> Result<NodeStatus> {
    stage.cluster.admin(DAMAGED)?.scrub().await?;
    until("the scrub has ended and nothing is damaged", async || {
        let status = status(stage).await?;
        Ok(status.cluster.scrub.at.is_none() && damage(&status).2 == 0)
    })
    .await?;
    status(stage).await
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_records_are_repaired_under_load_and_no_wrong_byte_is_served() -> Result<()> {
    let mut stage = Stage::start(3, SHARDS).await?;
    let load = Load::start(&stage).await?;
    load.goes_on(300).await?;

    // Some of each kind, then all there are: of every shard, the metadata group among them.
    let some: fn(&StoredRecord) -> bool = |record| record.space == "log" && record.key.ends_with('7');
    let state: fn(&StoredRecord) -> bool = |record| record.space == "state";
    let all: fn(&StoredRecord) -> bool = |record| record.space != "meta" || record.key == "committed";
    for (what, pick) in [("log records", some), ("the state", state), ("everything", all)] {
        stage.cluster.stop(DAMAGED, DEADLINE).await?;
        let flipped = flip(&stage, pick)?;
        ensure!(flipped > 5, "{what}: only {flipped} records");
        stage.cluster.start(DAMAGED)?;
        stage.cluster.wait_ready(DAMAGED, DEADLINE).await?;
        load.goes_on(100).await?;
        let status = scrubbed(&stage).await.context(what)?;
        let (found, repaired, _) = damage(&status);
        ensure!(found > 0 && found == repaired, "{what}: {found} found, {repaired} repaired");
        let log = std::fs::read_to_string(stage.cluster.log(DAMAGED))?;
        ensure!(log.contains("record_damaged") && log.contains("the seal does not open"), "{what} is named in the log");
    }
    load.goes_on(100).await?;
    load.check(&stage).await?;
    stage.equal_digests().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_differs_is_found_by_a_comparison_and_rebuilt_under_load() -> Result<()> {
    let mut stage = Stage::start(3, SHARDS).await?;
    let load = Load::start(&stage).await?;
    load.goes_on(100).await?;
    stage.cluster.stop(DAMAGED, DEADLINE).await?;
    let options = {
        let config = stage.cluster.config(DAMAGED)?;
        config.storage_options(&config.load_keys()?)
    };
    let engine = Engine::open(options)?;
    let state = engine.state(ShardId(1))?;
    // One record is gone, and one is there that no entry made.
    let first = state.scan(b"", None, 1)?.into_iter().next().context("the state is empty")?;
    state.diverge(vec![(first.0, None), (b"\xfewrong".as_slice().into(), Some(b"bytes".as_slice().into()))])?;
    drop(state);
    engine.close();
    stage.cluster.start(DAMAGED)?;
    stage.cluster.wait_ready(DAMAGED, DEADLINE).await?;

    let admin = stage.cluster.admin(1)?;
    until("a comparison finds it", async || {
        Ok(admin.verify(ShardId(1)).await.is_ok_and(|comparison| comparison.divergent() == [DAMAGED]))
    })
    .await?;
    until("it is rebuilt", async || {
        let status = status(&stage).await?;
        Ok(damage(&status) == (1, 1, 0) && status.cluster.shards.iter().all(|shard| shard.diverged.is_none()))
    })
    .await?;
    let comparison = admin.verify(ShardId(1)).await?;
    ensure!(comparison.divergent().is_empty() && comparison.silent().is_empty(), "{comparison:?}");
    load.goes_on(100).await?;
    load.check(&stage).await?;
    stage.equal_digests().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_vote_is_damaged_does_not_start_and_says_why() -> Result<()> {
    let mut stage = Stage::start(3, SHARDS).await?;
    for name in ["vote", "applied", "identity"] {
        stage.cluster.stop(DAMAGED, DEADLINE).await?;
        let pick = |record: &StoredRecord| record.key == name && record.space == "meta";
        ensure!(flip(&stage, pick)? > 0, "{name} is not there");
        stage.cluster.start(DAMAGED)?;
        let running = Instant::now();
        let log = stage.cluster.log(DAMAGED);
        until("it ends and says why", async || {
            let said = std::fs::read_to_string(&log)?;
            Ok(said.contains(&format!("corrupt meta record {name}")) && said.contains("Damaged records"))
        })
        .await?;
        ensure!(running.elapsed() < Duration::from_secs(30), "it took {:?}", running.elapsed());
        until("the process is gone", async || Ok(!stage.cluster.is_running(DAMAGED))).await?;
        // The same bit again.
        flip(&stage, pick)?;
        stage.cluster.start(DAMAGED)?;
        stage.cluster.wait_ready(DAMAGED, DEADLINE).await?;
    }
    stage.equal_digests().await
}
