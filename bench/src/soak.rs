//! Many messages into a cluster that keeps few of them: memory and disk of the nodes must not grow with what was said. The
//! nodes compact their databases by themselves meanwhile, in turn; the clients of one that does so go elsewhere and come back.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use campanile_client::{Client, ClientEvent, ClientOptions, Events, Tls};
use chat::ids::{AppId, DeviceId, GroupId, UserId};
use chat::wire::Target;
use futures_util::{StreamExt, stream};
use node::admin::{IdWindowChange, Policy, RetentionChange, RetentionOf, RetentionStatus};
use node::auth::signer::TokenSigner;
use node::local::LocalCluster;
use serde::Serialize;
use uuid::Uuid;

use crate::progress::Progress;
use crate::run::machine::bytes_below;
use crate::usage::Process;

const READY_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(200);
/// What grew by less than this is flat, however little there was: 64 MiB for each of three nodes.
const SLACK_BYTES: u64 = 192 << 20;
/// After the last message, until what is kept no longer must be gone.
const SETTLE_WITHIN: Duration = Duration::from_secs(120);

#[derive(Debug, Clone)]
pub struct SoakOptions {
    pub nodes: u16,
    pub shards: u16,
    /// Groups, each with a member who sends and one who listens.
    pub groups: u16,
    pub messages: u64,
    /// Events that each group keeps.
    pub keep: u64,
    /// Unanswered sends of each sender.
    pub window: usize,
    pub text_bytes: usize,
    /// How long ids are remembered after their message was deleted, in milliseconds.
    pub id_window_ms: u64,
    pub samples: u64,
}

/// The nodes together, after so many messages.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    pub messages: u64,
    pub elapsed_ms: u64,
    pub resident_bytes: u64,
    pub disk_bytes: u64,
    /// Of the databases: keys and values in them. Without those of a node that is away to compact its own.
    pub live_bytes: u64,
    /// Of all groups.
    pub kept_events: u64,
    /// Turns to compact that the nodes have had so far.
    pub turns: u64,
}

/// What the samples say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Flat {
    pub memory: bool,
    pub disk: bool,
    /// No more events are kept at the end than there should be.
    pub kept: bool,
}

impl Flat {
    /// From the second third of the run to the last nothing may grow by more than a quarter. A database grows until it is
    /// compacted: so the peaks are compared, which are alike however the nodes' turns fall. `keep`: events of all groups.
    pub fn of(samples: &[Sample], keep: u64) -> Option<Self> {
        let last = samples.last()?;
        let third = samples.len() / 3;
        let (middle, end) = (&samples[third..samples.len() - third], &samples[samples.len() - third..]);
        let peak = |samples: &[Sample], of: fn(&Sample) -> u64| samples.iter().map(of).max();
        let flat = |of: fn(&Sample) -> u64| {
            let (before, after) = (peak(middle, of)?, peak(end, of)?);
            Some(after <= before + (before / 4).max(SLACK_BYTES))
        };
        Some(Self {
            memory: flat(|sample| sample.resident_bytes)?,
            disk: flat(|sample| sample.disk_bytes)?,
            kept: last.kept_events <= keep,
        })
    }
}

/// Sends everything, looking at the nodes on the way. A send that fails ends the run.
pub async fn run(options: &SoakOptions, progress: Progress) -> Result<Vec<Sample>> {
    let dir = tempfile::tempdir()?;
    let mut cluster = LocalCluster::init(&dir.path().join("cluster"), options.nodes, options.shards, 0)?;
    for node in cluster.nodes() {
        let config = cluster.dir().join(format!("node-{node}/campanile.toml"));
        OpenOptions::new().append(true).open(config)?.write_all(often().as_bytes())?;
    }
    cluster.start_all()?;
    cluster.wait_all_ready(READY_WITHIN).await?;
    let samples = load(&cluster, options, progress).await;
    cluster.stop_all(STOP_WITHIN).await;
    samples
}

/// The nodes look as often as suits a run of minutes.
fn often() -> &'static str {
    "\n[storage]\ncompact_pause = \"1m\"\n\
     [retention]\nsweep_every = \"2s\"\npurge_every = \"2s\"\ncollect_every = \"3s\"\nlog_keep_entries = 20000\n"
}

async fn load(cluster: &LocalCluster, options: &SoakOptions, progress: Progress) -> Result<Vec<Sample>> {
    let app = AppId::new(node::init::MAIN_APP)?;
    let admin = cluster.admin(1)?;
    let policy = Some(Policy { max_age_ms: None, max_count: Some(options.keep) });
    admin.set_retention(&RetentionChange { app: app.clone(), conversation: None, policy }).await?;
    admin.set_id_window(&IdWindowChange { app: app.clone(), window_ms: options.id_window_ms }).await?;
    let connect =
        Connect { signer: TokenSigner::new(app, cluster.app_key_pem())?, tls: Tls::from_ca_pem(cluster.ca_pem())? };
    let (sent, taken, begun) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Instant::now());
    let mut senders = tokio::task::JoinSet::new();
    let mut listeners = tokio::task::JoinSet::new();
    let mut groups = Vec::new();
    for n in 0..options.groups {
        let node = u64::from(n % options.nodes) + 1;
        let (listener, events) = connect.client(cluster, node, &format!("listener{n}")).await?;
        let (sender, own) = connect.client(cluster, node, &format!("sender{n}")).await?;
        let group = GroupId(Uuid::now_v7());
        sender.create_group(group, "soak", vec![UserId::new(format!("listener{n}"))?]).await?;
        groups.push(group);
        listeners.spawn(listen(listener, events));
        listeners.spawn(listen(sender.clone(), own));
        senders.spawn(send(sender, group, options.clone(), taken.clone(), sent.clone()));
    }
    let mut samples = Vec::new();
    let step = (options.messages / options.samples.max(1)).max(1);
    loop {
        let messages = sent.load(Ordering::Relaxed);
        let all = messages >= options.messages;
        if all {
            settle(cluster, &groups, options.keep * groups.len() as u64).await?;
        }
        if messages >= step * (samples.len() as u64 + 1) || all {
            let sample = sample(cluster, &groups, messages, begun).await?;
            progress.say(&sample.to_string());
            samples.push(sample);
        }
        while let Some(done) = senders.try_join_next() {
            done.context("a sender ended")??;
        }
        if let Some(ended) = listeners.try_join_next() {
            ended.context("a listener ended")??;
        }
        if all {
            return Ok(samples);
        }
        ensure!(!senders.is_empty(), "the senders ended before everything was sent");
        tokio::time::sleep(LOOK).await;
    }
}

struct Connect {
    signer: TokenSigner,
    tls: Tls,
}

impl Connect {
    async fn client(&self, cluster: &LocalCluster, node: u64, name: &str) -> Result<(Client, Events)> {
        let credentials = self.signer.credentials(&UserId::new(name)?)?;
        // Its own node first; the next one while that is away.
        let mut urls = cluster.client_urls();
        urls.rotate_left(cluster.nodes().iter().position(|other| *other == node).unwrap_or(0));
        let options = ClientOptions::new(urls, self.tls.clone(), credentials, DeviceId::new(format!("{name}-1"))?);
        Ok(Client::connect(options).await?)
    }
}

async fn send(
    client: Client,
    group: GroupId,
    options: SoakOptions,
    taken: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
) -> Result<()> {
    let text = "x".repeat(options.text_bytes.max(1));
    let more = || taken.fetch_add(1, Ordering::Relaxed) < options.messages;
    let mut sends = stream::iter(std::iter::from_fn(|| more().then_some(())))
        .map(|()| client.send_text(Target::Group(group), text.clone()))
        .buffer_unordered(options.window);
    while let Some(done) = sends.next().await {
        done?;
        sent.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Takes everything, each event in its place, or after the node said what is gone.
async fn listen(client: Client, mut events: Events) -> Result<()> {
    let mut next = 0;
    while let Some(event) = events.next().await {
        match event {
            ClientEvent::Event(event) => {
                ensure!(next == 0 || event.seq == next, "event {} where {next} follows", event.seq);
                next = event.seq + 1;
            }
            ClientEvent::MustResync { next_seq, .. } => next = next_seq,
            _ => {}
        }
    }
    drop(client);
    Ok(())
}

/// Events that the groups have.
async fn kept(cluster: &LocalCluster, groups: &[GroupId]) -> Result<u64> {
    let mut kept = 0;
    for group in groups {
        let of = RetentionOf { app: AppId::new(node::init::MAIN_APP)?, conversation: Some((*group).into()) };
        let status = ask(cluster, &of).await?;
        kept += (status.head.unwrap_or(0) + 1).saturating_sub(status.oldest_seq.unwrap_or(1));
    }
    Ok(kept)
}

/// Asks one node after the other until one answers: one of them may be away, and a shard between two leaders.
async fn ask(cluster: &LocalCluster, of: &RetentionOf) -> Result<RetentionStatus> {
    let begun = Instant::now();
    loop {
        for node in cluster.nodes() {
            match cluster.admin(node)?.retention(of).await {
                Ok(status) => return Ok(status),
                Err(error) => ensure!(begun.elapsed() < READY_WITHIN, "no node answers: {error}"),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until nothing is left that is kept no longer; whether that was in time is for the last sample to say.
async fn settle(cluster: &LocalCluster, groups: &[GroupId], keep: u64) -> Result<()> {
    let begun = Instant::now();
    while kept(cluster, groups).await? > keep && begun.elapsed() < SETTLE_WITHIN {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

async fn sample(cluster: &LocalCluster, groups: &[GroupId], messages: u64, begun: Instant) -> Result<Sample> {
    let (mut resident_bytes, mut live_bytes, mut turns) = (0, 0, 0);
    for node in cluster.nodes() {
        let pid = cluster.pid(node).with_context(|| format!("node {node} runs"))?;
        resident_bytes += Process { name: format!("node {node}"), pid }.usage()?.resident_bytes;
        if let Ok(status) = cluster.admin(node)?.status().await {
            live_bytes += status.storage.live_bytes;
        }
        let log = std::fs::read_to_string(cluster.log(node)).unwrap_or_default();
        turns += log.matches("compaction_turn\"").count() as u64;
    }
    Ok(Sample {
        messages,
        elapsed_ms: begun.elapsed().as_millis() as u64,
        resident_bytes,
        disk_bytes: bytes_below(cluster.dir()),
        live_bytes,
        kept_events: kept(cluster, groups).await?,
        turns,
    })
}

impl std::fmt::Display for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { messages, elapsed_ms, resident_bytes, disk_bytes, live_bytes, kept_events, turns } = self;
        let (resident, disk, live) = (resident_bytes >> 20, disk_bytes >> 20, live_bytes >> 20);
        let seconds = elapsed_ms / 1_000;
        write!(f, "{messages:>10} messages {seconds:>5} s {resident:>6} MiB memory {disk:>6} MiB disk ")?;
        write!(f, "{live:>6} MiB live {kept_events:>7} kept {turns:>3} turns")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(resident_mib: u64, disk_mib: u64, kept_events: u64) -> Sample {
        let (resident_bytes, disk_bytes) = (resident_mib << 20, disk_mib << 20);
        Sample { messages: 0, elapsed_ms: 0, resident_bytes, disk_bytes, live_bytes: 0, kept_events, turns: 0 }
    }

    #[test]
    fn what_is_compacted_in_turn_is_flat_and_what_grows_is_not() {
        let disk = |of: &dyn Fn(u64) -> u64| {
            let samples: Vec<Sample> = (0..20).map(|n| sample(1, of(n), 1)).collect();
            Flat::of(&samples, 1).map(|flat| flat.disk)
        };
        assert_eq!(disk(&|n| 1_000 + n % 7 * 500), Some(true), "a saw");
        assert_eq!(disk(&|n| 1_000 + n % 7 * 500 + n * 1_000), Some(false), "a saw on a slope");
        assert_eq!(disk(&|n| n * 500), Some(false), "a slope");
    }

    #[test]
    fn a_quarter_more_in_the_last_third_is_growth() {
        let flat = |last| Flat::of(&[sample(1, 1, 1), sample(1_000, 1_000, 10_000), last], 500);
        let all = Flat { memory: true, disk: true, kept: true };
        assert_eq!(flat(sample(1_250, 1_250, 500)), Some(all));
        assert_eq!(flat(sample(1_251, 1_250, 500)), Some(Flat { memory: false, ..all }));
        assert_eq!(flat(sample(1_250, 1_300, 501)), Some(Flat { disk: false, kept: false, ..all }));
        assert_eq!(Flat::of(&[], 1), None);
    }
}
