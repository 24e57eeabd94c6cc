//! A backup that is taken while real channel logs are replayed on three processes becomes a cluster of one node and one
//! of five: the same histories, the same digests, messages go on, and clients of the old cluster begin anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result, bail, ensure};
use bench::logs::{ChannelLog, parse_log, user_id};
use campanile_client::{Client, ClientEvent, Events, Range, Tls};
use chat::ids::{ConversationId, GroupId, NodeId, ShardId, UserId};
use chat::wire::{Body, ResyncReason, Target};
use node::auth::signer::TokenSigner;
use node::local::{LocalCluster, find_binary};
use serde_json::Value;
use tests::{DEADLINE, Stage, app, until};
use uuid::Uuid;

const GROUPS: usize = 3;
/// Those of a channel who speak in this test.
const SPEAKERS: usize = 4;

/// The logs beside the checkout, or the excerpt inside it.
fn logs() -> Result<Vec<ChannelLog>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let beside = here.join("../../shared/data/ubuntu-irc");
    let dir = if beside.is_dir() { beside } else { here.join("../bench/tests/data") };
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|ext| ext == "txt"));
    paths.sort();
    let parse = |path: &PathBuf| Ok(parse_log(&path.to_string_lossy(), &std::fs::read(path)?));
    paths.iter().cycle().take(GROUPS).map(parse).collect()
}

/// Runs `campanile` to its end: what it printed, or what it complained of.
async fn campanile(arguments: &[&str]) -> Result<std::result::Result<Value, String>> {
    let binary = find_binary().context("cargo build -p node")?;
    let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    let output = tokio::task::spawn_blocking(move || std::process::Command::new(binary).args(arguments).output());
    let output = output.await??;
    if output.status.success() {
        return Ok(Ok(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)));
    }
    Ok(Err(String::from_utf8_lossy(&output.stderr).into_owned()))
}

async fn done(arguments: &[&str]) -> Result<Value> {
    campanile(arguments).await?.map_err(|complaint| anyhow::anyhow!("{arguments:?}: {complaint}"))
}

async fn refused(arguments: &[&str], why: &str) -> Result<()> {
    match campanile(arguments).await? {
        Ok(told) => bail!("{arguments:?} did it: {told}"),
        Err(complaint) => ensure!(complaint.contains(why), "{arguments:?} does not say {why:?}: {complaint}"),
    }
    Ok(())
}

/// The events of a conversation as one user sees them, as text.
async fn history(client: &Client, group: GroupId) -> Result<Vec<String>> {
    let mut all = Vec::new();
    loop {
        let page = client.history(ConversationId::Group(group), Range::After(all.len() as u64)).await?;
        all.extend(page.events.iter().map(|event| format!("{event:?}")));
        if !page.more {
            return Ok(all);
        }
    }
}

/// Says a channel's lines in a group again and again, each by who said it.
async fn replay(log: ChannelLog, clients: Vec<(UserId, Client)>, group: GroupId, shared: Arc<Load>) -> Result<()> {
    for said in log.messages.iter().cycle() {
        if shared.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let speaker = clients.iter().find(|(user, _)| user_id(&said.nick) == *user);
        let (_, client) = speaker.unwrap_or(&clients[said.text.len() % clients.len()]);
        let text = said.text.chars().take(300).collect();
        client.send(Target::Group(group), Body::Text { text }).await?;
        shared.acked.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

#[derive(Default)]
struct Load {
    stop: AtomicBool,
    acked: AtomicUsize,
}

/// Groups with the name of somebody who is in each.
type Groups = Vec<(GroupId, UserId)>;

struct Channels {
    load: Arc<Load>,
    groups: Groups,
    replays: Vec<tokio::task::JoinHandle<Result<()>>>,
    _events: Vec<Events>,
}

async fn speak(stage: &Stage) -> Result<Channels> {
    let load = Arc::new(Load::default());
    let (mut groups, mut replays, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    for (number, log) in logs()?.into_iter().enumerate() {
        let mut clients: Vec<(UserId, Client)> = Vec::new();
        for said in &log.messages {
            let user = user_id(&said.nick);
            if clients.len() < SPEAKERS && clients.iter().all(|(known, _)| *known != user) {
                let (client, events) = stage.connect(user.as_str(), &[1, 2, 3]).await?;
                clients.push((user, client));
                kept.push(events);
            }
        }
        let (group, users) = (GroupId(Uuid::now_v7()), clients.iter().skip(1).map(|(user, _)| user.clone()).collect());
        clients[0].1.create_group(group, format!("channel {number}"), users).await?;
        groups.push((group, clients[0].0.clone()));
        replays.push(tokio::spawn(replay(log, clients, group, load.clone())));
    }
    Ok(Channels { load, groups, replays, _events: kept })
}

impl Channels {
    async fn acked(&self, more: usize) -> Result<()> {
        let before = self.load.acked.load(Ordering::Relaxed);
        until("messages are acked", async || Ok(self.load.acked.load(Ordering::Relaxed) >= before + more)).await
    }

    /// Stops and says what each group's history is.
    async fn end(self, stage: &Stage) -> Result<BTreeMap<GroupId, Vec<String>>> {
        self.load.stop.store(true, Ordering::Relaxed);
        for replay in self.replays {
            replay.await??;
        }
        let mut histories = BTreeMap::new();
        for (group, user) in &self.groups {
            let (client, _events) = stage.connect(user.as_str(), &[1, 2, 3]).await?;
            histories.insert(*group, history(&client, *group).await?);
        }
        Ok(histories)
    }
}

/// The restored cluster, its nodes running.
async fn open(dir: &Path, app_key: &str) -> Result<LocalCluster> {
    std::fs::write(dir.join("apps/main.key"), app_key)?;
    let mut cluster = LocalCluster::open(dir)?;
    cluster.start_all()?;
    cluster.wait_all_ready(DEADLINE).await?;
    Ok(cluster)
}

async fn connect(cluster: &LocalCluster, user: &UserId, urls: Vec<String>, ca: &[u8]) -> Result<(Client, Events)> {
    let credentials = TokenSigner::new(app(), cluster.app_key_pem())?.credentials(user)?;
    let device = chat::ids::DeviceId::new(format!("{user}-1"))?;
    let mut options = campanile_client::ClientOptions::new(urls, Tls::from_ca_pem(ca)?, credentials, device);
    options.connect_timeout = DEADLINE;
    options.request_timeout = DEADLINE;
    Ok(Client::connect(options).await?)
}

/// All nodes have what the manifest says, all histories are beginnings of what they became, and messages go on.
async fn check(
    stage: LocalCluster,
    made: &Value,
    groups: &Groups,
    old: &BTreeMap<GroupId, Vec<String>>,
    acked_before: usize,
) -> Result<()> {
    let nodes: Vec<NodeId> = stage.nodes();
    let cuts = made["backup"]["shards"].as_array().context("the cuts")?;
    for node in &nodes {
        for digest in stage.admin(*node)?.digests().await? {
            let cut = cuts.iter().find(|cut| cut["shard"] == digest.shard.0).context("the cut")?;
            // The metadata group has learnt that it is restored.
            ensure!(digest.shard == ShardId::META || cut["digest"] == digest.digest, "{node}: {digest:?} is not {cut}");
        }
    }
    let mut restored = 0;
    for (group, user) in groups {
        let url = stage.client_url(*nodes.last().context("a node")?)?;
        let (client, _events) = connect(&stage, user, vec![url], stage.ca_pem()).await?;
        let session = client.session().context("a session")?;
        ensure!(made["epoch"] == session.epoch && made["cluster"] == *session.cluster, "{session:?}, {made}");
        let listed = client.conversations(None).await?;
        ensure!(format!("{listed:?}").contains(&group.0.to_string()), "{user}'s list lacks {group:?}: {listed:?}");
        let found = history(&client, *group).await?;
        ensure!(old[group].starts_with(&found), "the history of {group:?} became another one");
        restored += found.len() - 1;
        let sent = client.send_text(Target::Group(*group), "on we go").await?;
        ensure!(sent.seq == found.len() as u64 + 1, "{sent:?} after {} events", found.len());
    }
    ensure!(restored >= acked_before, "{restored} messages of {acked_before} that were acked before the backup");
    for shard in 0..cuts.len() as u16 {
        let compared = stage.admin(1)?.verify(ShardId(shard)).await?;
        ensure!(compared.agreed.is_some() && compared.divergent().is_empty(), "{compared:?}");
    }
    compacted(stage, &groups[0], cuts.len() as u16).await
}

/// A node that is stopped is compacted, and comes back as it was.
async fn compacted(mut stage: LocalCluster, (group, user): &(GroupId, UserId), shards: u16) -> Result<()> {
    let config = stage.dir().join("node-1/campanile.toml").to_string_lossy().into_owned();
    let url = stage.client_url(1)?;
    let (client, events) = connect(&stage, user, vec![url.clone()], stage.ca_pem()).await?;
    let before = history(&client, *group).await?;
    drop((client, events));
    refused(&["node", "compact", "--config", &config], "stop the node first").await?;
    ensure!(stage.stop_all(DEADLINE).await, "a node did not stop by itself");
    let done = done(&["node", "compact", "--config", &config, "--json"]).await?;
    ensure!(done["after_bytes"].as_u64() <= done["before_bytes"].as_u64(), "{done}");
    stage.start_all()?;
    stage.wait_all_ready(DEADLINE).await?;
    let storage = stage.admin(1)?.status().await?.storage;
    ensure!(storage.live_bytes > 0 && storage.live_bytes < storage.database_bytes, "{storage:?}");
    let (client, _events) = connect(&stage, user, vec![url], stage.ca_pem()).await?;
    ensure!(history(&client, *group).await? == before, "the history is another one");
    for shard in 0..shards {
        let compared = stage.admin(1)?.verify(ShardId(shard)).await?;
        ensure!(compared.agreed.is_some() && compared.divergent().is_empty(), "{compared:?}");
    }
    ensure!(stage.stop_all(DEADLINE).await, "a node did not stop by itself");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_becomes_clusters_of_other_sizes() -> Result<()> {
    let mut stage = Stage::start(3, 4).await?;
    let temp = tempfile::tempdir()?;
    let path = |name: &str| temp.path().join(name).to_string_lossy().into_owned();
    let (key, backup, dir) = (path("key"), path("backup"), stage.cluster.dir().to_string_lossy().into_owned());
    let channels = speak(&stage).await?;
    channels.acked(200).await?;
    let acked_before = channels.load.acked.load(Ordering::Relaxed);
    refused(&["backup", "create", "--dir", &dir, "--key", &key, "--to", &backup], "backup key new").await?;
    done(&["backup", "key", "new", &key]).await?;
    done(&["backup", "create", "--dir", &dir, "--key", &key, "--to", &backup, "--json"]).await?;
    channels.acked(100).await?;
    let groups = channels.groups.clone();
    let old = channels.end(&stage).await?;
    stage.equal_digests().await?;

    let other = path("other.key");
    done(&["backup", "key", "new", &other]).await?;
    refused(&["backup", "verify", &backup, "--key", &other], "not the key").await?;
    done(&["backup", "verify", &backup, "--key", &key]).await?;
    let (one, five) = (path("one"), path("five"));
    let port = LocalCluster::free_port(1)?.to_string();
    let restore =
        ["backup", "restore", &backup, "--key", &key, "--to", &one, "--nodes", "1", "--port", &port, "--json"];
    refused(&[&restore[..], &["--shards", "8"]].concat(), "has 4 shards").await?;
    done(&[&restore[..], &["--dry-run"]].concat()).await?;
    ensure!(!Path::new(&one).exists(), "a dry run makes nothing");
    let made = done(&restore).await?;
    refused(&restore, "not empty").await?;

    // Somebody who was online when the old cluster went away, and knows both.
    let (_, watcher) = &groups[0];
    let (single, app_key) = (LocalCluster::open(Path::new(&one))?, stage.cluster.app_key_pem().to_owned());
    let urls = vec![stage.cluster.client_url(1)?, single.client_url(1)?];
    let both = [stage.cluster.ca_pem(), single.ca_pem()].concat();
    let (_client, mut events) = connect(&stage.cluster, watcher, urls, &both).await?;
    for node in stage.cluster.nodes() {
        stage.cluster.kill(node)?;
    }
    let single = open(Path::new(&one), &app_key).await?;
    let resynced = async {
        loop {
            match events.next().await.context("the client ended")? {
                ClientEvent::MustResync { reason: ResyncReason::Epoch, .. } => return Ok::<_, anyhow::Error>(()),
                _ => continue,
            }
        }
    };
    tokio::time::timeout(DEADLINE, resynced).await.context("the watcher begins anew")??;
    check(single, &made, &groups, &old, acked_before).await?;

    let port = LocalCluster::free_port(5)?.to_string();
    let restore =
        ["backup", "restore", &backup, "--key", &key, "--to", &five, "--nodes", "5", "--port", &port, "--json"];
    let made = done(&restore).await?;
    let cluster = open(Path::new(&five), &app_key).await?;
    check(cluster, &made, &groups, &old, acked_before).await?;
    Ok(())
}
