//! The composition root: opens what is stored, starts the replicas, the actors and the listeners, and stops them in order.

mod compacted;
pub(crate) mod disk;
mod founding;
mod signals;
mod standing;

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix::{Arbiter, ArbiterHandle};
use actix_web::dev::{Server, ServerHandle};
use actix_web::web;
use anyhow::Context;
use chat::limits;
use cluster::{Cluster, ClusterOptions, Housekeeping, Peer, PeerTls, Scrubbing, StartError, Timing, Versions};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use storage::{BodySealer, Engine, EngineOptions};
use tokio::task::AbortHandle;

use crate::admin::{self, BackupDesk, NodeBackend};
use crate::auth::{Authenticator, Passwords};
use crate::cli::Exit;
use crate::compaction::{self, Around, CompactionOptions, CompactionWatch};
use crate::config::{self, Compact, Keys, NodeConfig};
use crate::directory::{Directory, Sessions};
use crate::duty::Duty;
use crate::fanout::{FanOutHandle, NodeFeed};
use crate::history::{EventEncoder, History};
use crate::nodes::{self, NodesDesk};
use crate::presence::PresenceHandle;
use crate::rates::Rates;
use crate::room::{Marks, RoomWatch};
use crate::router::{Desk, Router, frame_presence};
use crate::security::{self, SecurityLog, SecurityOptions};
use crate::session::{Floor, Pages, Services};
use crate::{socket, tls};
use signals::StopSignals;
use standing::Standing;

/// Clients are asked to reconnect elsewhere, spread over this, before a planned stop.
const GOODBYE: Duration = Duration::from_secs(2);
/// Between two looks for a replica that can no longer work.
const WATCH: Duration = Duration::from_secs(1);

/// Runs a node until it is told to stop. `again` is the command that starts it, for whoever has to.
pub fn run(config: NodeConfig, again: &str) -> anyhow::Result<()> {
    match actix::System::new().block_on(serve(config, again.to_owned()))? {
        Ended::Stopped => Ok(()),
        Ended::ToCompact => Err(compacted::compact()).context("the program cannot begin anew to compact its database"),
    }
}

/// What a node ends for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Stopped,
    /// It begins again, with a compaction.
    ToCompact,
}

/// Everything of a node that has an end.
struct Node {
    engine: Engine,
    cluster: Cluster,
    fan_out: FanOutHandle,
    security: SecurityLog,
    sessions: Sessions,
    backups: BackupDesk,
    duty: Duty,
    presence: PresenceHandle,
    room: RoomWatch,
    compaction: CompactionWatch,
    /// Looks for replicas that cannot go on: not for those that are stopped.
    watch: AbortHandle,
    /// The client listener is open.
    serving: Arc<AtomicBool>,
    /// When this program began.
    started: Instant,
}

/// Puts the node together, and takes it apart. Long because it names every part once, in the order in which they need each other.
async fn serve(config: NodeConfig, again: String) -> anyhow::Result<Ended> {
    let started = Instant::now();
    let keys = config.load_keys().context("a key cannot be used")?;
    let options = config.storage_options(&keys);
    let (engine, room) = open(&config, options, again).await?;
    let sealer = BodySealer::new(&keys.cluster);
    let backups = BackupDesk::new(&keys.cluster);
    let security =
        SecurityOptions { dir: config.node.data_dir.join("security"), node: config.node.id, key: keys.node.clone() };
    let security = security::open(security).context("the security log does not open")?;

    let arbiters: Vec<ArbiterHandle> = (0..threads()).map(|_| Arbiter::new().handle()).collect();
    let encoder = EventEncoder::new(sealer.clone());
    let fan_out = FanOutHandle::default();
    let beside = Arbiter::new().handle();
    let rates = Arc::new(Rates::new(&config.rates));
    let directory = Directory::new(arbiters, sealer, rates.clone());
    let (sessions, presence) = (Sessions::default(), PresenceHandle::default());
    let feed = NodeFeed::new(fan_out.clone(), directory.clone(), sessions.clone(), presence.clone());
    let feed = Arc::new(feed);
    let desk = Arc::new(Desk::new(directory.clone(), fan_out.clone(), presence.clone()));
    let cluster = Cluster::start(cluster_options(&config, &engine)?, feed, desk.clone())
        .await
        .context("the replicas do not start")?;
    directory.attach(cluster.clone());
    presence.start(&beside, cluster.clone(), fan_out.clone(), frame_presence);
    let watch = tokio::spawn(watch_replicas(cluster.clone(), security.clone())).abort_handle();

    let passwords = Passwords::new(limits::PASSWORD_HASHES, limits::PASSWORD_QUEUE);
    let authenticator = Authenticator::new(Arc::new(cluster.clone()), passwords.clone());
    let duty = Duty::new(cluster.clone(), fan_out.clone(), sessions.clone());
    actix::spawn(room.clone().run(duty.clone()));
    let (compaction, serving) = (CompactionWatch::new(compaction_options(&config)), Arc::default());
    let node = Node {
        engine,
        cluster,
        fan_out,
        security,
        sessions,
        backups,
        duty,
        presence,
        room,
        compaction,
        watch,
        serving,
        started,
    };
    let admin = start_admin(&config, keys, &node, passwords)?;
    let mut signals = StopSignals::listen();

    let epoch = tokio::select! {
        founded = founding::found(&node.cluster, &config) => founded?,
        () = node.cluster.expelled() => return removed(node, vec![admin]).await,
        level = node.cluster.outgrown() => return outgrown(node, vec![admin], level).await,
        () = signals.told() => return stop(node, vec![admin]).await,
    };
    let history = History::new(node.cluster.clone(), encoder);
    let services = Arc::new(Services {
        cluster: node.cluster.clone(),
        router: Router::new(node.cluster.clone(), desk),
        history: history.clone(),
        authenticator,
        security: node.security.clone(),
        sessions: node.sessions.clone(),
        pages: Pages::default(),
        presence: node.presence.clone(),
        rates: rates.clone(),
        epoch,
    });
    let fan_out = node.fan_out.clone();
    let floor = move || Floor::open(&fan_out, history.clone());
    let clients = spawn(socket::serve_clients(&config, threads(), services, floor)?);
    node.serving.store(true, Ordering::Relaxed);
    say_ready(&config);
    tokio::spawn(async move { rates.forget().await });
    tokio::spawn(nodes::describe_build(node.cluster.clone(), config.node.id));
    tokio::spawn(nodes::describe(node.cluster.clone(), config.node.id, nodes::facts_of(&config)));
    tokio::spawn(compaction::give_back(node.cluster.clone()));
    end(node, vec![clients, admin], signals).await
}

/// Serves until there is a reason to end, and ends.
async fn end(node: Node, listeners: Vec<ServerHandle>, mut signals: StopSignals) -> anyhow::Result<Ended> {
    let Node { cluster, engine, duty, backups, room, started, .. } = &node;
    let around = Around { cluster, engine, duty, backups, room, up_since: *started };
    tokio::select! {
        () = signals.told() => stop(node, listeners).await,
        () = leave(&node) => removed(node, listeners).await,
        level = node.cluster.outgrown() => outgrown(node, listeners, level).await,
        () = node.compaction.turn(&around) => {
            stop(node, listeners).await?;
            // Who was told to stop meanwhile does not come back.
            Ok(if signals.is_told() { Ended::Stopped } else { Ended::ToCompact })
        }
    }
}

fn compaction_options(config: &NodeConfig) -> CompactionOptions {
    CompactionOptions {
        when: config.compaction(),
        by_itself: config.storage.compact == Compact::Auto,
        pause: config.storage.compact_pause,
        stop_below: config.storage.stop_below_bytes,
    }
}

/// Returns once this node was removed from the cluster. Before that, when it is told to leave, its clients go elsewhere.
async fn leave(node: &Node) {
    tokio::select! {
        () = node.cluster.told_to_leave() => node.duty.drain(GOODBYE).await,
        // It was not there when it was told.
        () = node.cluster.expelled() => return,
    }
    node.cluster.expelled().await;
}

async fn removed(node: Node, listeners: Vec<ServerHandle>) -> anyhow::Result<Ended> {
    let id = node.cluster.node();
    tracing::warn!(event = "node_expelled", node = id, "this node was removed from the cluster");
    stop(node, listeners).await?;
    anyhow::bail!(
        "node {id} was removed from the cluster: its directory is of no use any more, and its id is never used again; \
         campanile cluster join-token and campanile node join make this machine another node"
    )
}

/// The cluster has switched on what this build does not know.
async fn outgrown(node: Node, listeners: Vec<ServerHandle>, level: u16) -> anyhow::Result<Ended> {
    let (id, supports) = (node.cluster.node(), chat::level::NEWEST);
    tracing::error!(event = "node_outgrown", node = id, supports, level, "this release is too old for the cluster");
    stop(node, listeners).await?;
    Err(StartError::Outgrown { node: id, supports, level }.into())
}

/// Opens what is stored, and begins to watch the disk that it is on.
async fn open(config: &NodeConfig, options: EngineOptions, again: String) -> anyhow::Result<(Engine, RoomWatch)> {
    const FAILED: &str = "the data directory does not open";
    let (node, dir) = (config.node.id, config.node.data_dir.clone());
    disk::check_room(&dir).context(FAILED)?;
    // Opening replays sled's log: seconds of blocking work.
    let (again_options, compaction) = (options.clone(), compacted::wanted(config.compaction()));
    let (engine, compacted) = web::block(move || Engine::open_compacted(options, compaction)).await?.context(FAILED)?;
    let engine = match compacted {
        Some(_) => compacted::begin_anew(engine, again_options).await?,
        None => engine,
    };
    let marks = Marks { warn_below: config.storage.warn_below_bytes, stop_below: config.storage.stop_below_bytes };
    let room = RoomWatch::new(&dir, marks).context("the free space of the data directory cannot be read")?;
    engine.on_failure(Box::new(move |error| disk::end(error, node, &dir, &again)));
    Ok((engine, room))
}

/// Worker threads for clients, and arbiters for group actors: half the cores each. The replicas and storage have their
/// own threads, and fewer threads wake each other less.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get).div_ceil(2)
}

fn cluster_options(config: &NodeConfig, engine: &Engine) -> anyhow::Result<ClusterOptions> {
    let certificates = |path: &std::path::Path| -> anyhow::Result<Vec<CertificateDer<'static>>> {
        let chain = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
        chain.with_context(|| format!("{} holds no certificate", path.display()))
    };
    let tls = PeerTls {
        ca: certificates(&config.peer.ca)?,
        certificate: certificates(&config.peer.certificate)?,
        key: PrivateKeyDer::from_pem_file(&config.peer.private_key)
            .with_context(|| format!("{} holds no private key", config.peer.private_key.display()))?,
    };
    Ok(ClusterOptions {
        node: config.node.id,
        cluster: config.cluster.id.clone(),
        members: config.members().iter().map(|member| Peer { id: member.id, address: member.peer }).collect(),
        joined: config.cluster.joined,
        shards: config.cluster.shards,
        listen: config.peer.listen,
        tls,
        timing: Timing {
            heartbeat: config.cluster.heartbeat,
            election_min: config.cluster.election_min,
            election_max: config.cluster.election_max,
        },
        housekeeping: Housekeeping {
            sweep_every: config.retention.sweep_every,
            purge_every: config.retention.purge_every,
            collect_every: config.retention.collect_every,
            log_keep_entries: config.retention.log_keep_entries,
        },
        level: chat::level::NEWEST,
        versions: Versions::default(),
        engine: engine.clone(),
        scrub: Scrubbing { every: config.storage.scrub_every, bytes_per_s: config.storage.scrub_bytes_per_s },
    })
}

fn start_admin(config: &NodeConfig, keys: Keys, node: &Node, passwords: Passwords) -> anyhow::Result<ServerHandle> {
    let token = config::read_secret_text(&config.admin.token_file).context("the admin token cannot be used")?;
    let backend = Arc::new(NodeBackend {
        cluster: node.cluster.clone(),
        engine: node.engine.clone(),
        passwords,
        security: node.security.clone(),
        duty: node.duty.clone(),
        presence: node.presence.clone(),
        backups: node.backups.clone(),
        compaction: node.compaction.clone(),
        room: node.room.clone(),
        serving: node.serving.clone(),
        started: node.started,
    });
    let tls = tls::server_config(&config.client.certificate, &config.client.private_key)?;
    let nodes = NodesDesk::new(node.cluster.clone(), config, keys, &token);
    let server = admin::serve(config.admin.listen, tls, &token, backend, Some(nodes))
        .with_context(|| format!("cannot listen for operators on {}", config.admin.listen))?;
    Ok(spawn(server))
}

fn spawn(server: Server) -> ServerHandle {
    let handle = server.handle();
    actix::spawn(server);
    handle
}

/// One line for whoever started the process; everything else is in the log.
#[expect(clippy::print_stdout, reason = "the line is this command's output")]
fn say_ready(config: &NodeConfig) {
    let (node, client, admin) = (config.node.id, config.client.listen, config.admin.listen);
    let scheme = config.client_scheme();
    println!("ready node={node} client={scheme}://{client}{} admin=https://{admin}", chat::wire::PATH);
    tracing::info!(event = "node_ready", node, %client, %admin, "serving");
}

/// Notes who comes and goes. A replica whose consensus has ended cannot be revived inside the process.
async fn watch_replicas(cluster: Cluster, security: SecurityLog) {
    let mut standing = Standing::default();
    loop {
        tokio::time::sleep(WATCH).await;
        let status = cluster.status();
        for (node, state) in standing.look(&status.peers) {
            security.membership(node, state);
        }
        if let Some(failed) = status.shards.into_iter().find_map(|shard| Some((shard.shard, shard.failed?))) {
            let (shard, why) = failed;
            tracing::error!(event = "replica_failed", %shard, why, "a replica cannot go on: ending");
            std::process::exit(i32::from(Exit::Replica as u8));
        }
    }
}

async fn stop(node: Node, listeners: Vec<ServerHandle>) -> anyhow::Result<Ended> {
    tracing::info!(event = "node_stopping", "stopping");
    node.duty.drain(GOODBYE).await;
    for listener in listeners {
        listener.stop(true).await;
    }
    if node.security.flush().await.is_err() {
        tracing::warn!(event = "security_log_failed", "the security log's last records may be missing");
    }
    node.watch.abort();
    node.cluster.shutdown().await;
    web::block(move || node.engine.close()).await?;
    tracing::info!(event = "node_stopped", "stopped");
    Ok(Ended::Stopped)
}
