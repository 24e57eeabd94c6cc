//! `campanile demo`: three real node processes, users who chat, and a key that kills a node and counts what is lost.
//!
//! - `people`, `excerpt`: users, and a group filled from a real log. `probe`, `ledger`: writers that notice every pause.
//! - `stage`: what the keys do. `report`: what is said about it. `keys`: the terminal.

mod excerpt;
mod keys;
mod ledger;
mod people;
mod probe;
mod report;
mod stage;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chat::limits;
use tempfile::TempDir;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::output::say;
use crate::cli::{Code, DemoArgs, Exit, Failure};
use crate::local::{LocalCluster, LocalError};
use keys::{Key, Keys};
use people::{AnyError, Connector, Sample};
use probe::{Probe, probe_user};
use stage::Stage;

const NODES: u16 = 3;
const READY: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(10);
const KEYS: &str = "keys: k kills a random node (kill -9) · r brings it back · q ends";

pub(crate) async fn run(args: DemoArgs) -> Result<(), Failure> {
    let start = Instant::now();
    let home = Home::of(args.dir.as_deref())?;
    let cluster = open(&home.path, args.port).map_err(|error| failure(&error))?;
    let mut stage = play(cluster, &args, &home, start).await.map_err(|error| failure(error.as_ref()))?;
    let outcome = perform(&mut stage, &args).await;
    say("ending");
    stage.cluster.stop_all(STOP).await;
    if let Some(dir) = &args.dir {
        say(format_args!("the data is in {}\nnext: campanile demo --dir {}", home.path.display(), dir.display()));
    }
    outcome.map_err(|error| failure(error.as_ref()))
}

/// Where the demo's data is: removed with this value if it was not asked for.
struct Home {
    path: PathBuf,
    temporary: Option<TempDir>,
}

impl Home {
    fn of(dir: Option<&Path>) -> Result<Self, Failure> {
        if let Some(dir) = dir {
            return Ok(Self { path: dir.to_owned(), temporary: None });
        }
        let temporary = tempfile::Builder::new().prefix("campanile-demo-").tempdir().map_err(|error| {
            Failure::new(Code::Demo, Exit::Failed, "cannot make a temporary directory")
                .because(&error)
                .next("campanile demo --dir DIR")
        })?;
        Ok(Self { path: temporary.path().join("cluster"), temporary: Some(temporary) })
    }
}

/// The cluster in `dir`, made if there is none.
fn open(dir: &Path, port: u16) -> Result<LocalCluster, LocalError> {
    match LocalCluster::open(dir) {
        Err(LocalError::NotACluster { .. }) => LocalCluster::init(dir, NODES, limits::SHARDS_DEFAULT, port),
        opened => opened,
    }
}

/// Everything up to the moment when the audience may come in.
async fn play(mut cluster: LocalCluster, args: &DemoArgs, home: &Home, start: Instant) -> Result<Stage, AnyError> {
    cluster.start_all()?;
    cluster.wait_all_ready(READY).await?;
    let samples = people::samples(args.users);
    let connector = Connector::new(&cluster)?;
    people::add_samples(&cluster.admin(cluster.nodes()[0])?, &samples).await?;
    let messages = people::fill_group(&connector, &samples).await?;
    let shards = cluster.config(cluster.nodes()[0])?.cluster.shards;
    let probe = Probe::start(&connector.connect(&probe_user()).await?, shards).await?;
    say(programme(&cluster, &samples, messages, home, start)?);
    Ok(Stage::new(cluster, connector, probe))
}

fn programme(
    cluster: &LocalCluster,
    samples: &[Sample],
    messages: usize,
    home: &Home,
    start: Instant,
) -> Result<String, LocalError> {
    let mut lines = vec![
        format!(
            "{} nodes run, each its own process, all connections TLS; ready in {:.1} s",
            cluster.nodes().len(),
            start.elapsed().as_secs_f64()
        ),
        String::new(),
        "chat page, one user a tab:".to_owned(),
    ];
    for (sample, node) in samples.iter().zip(cluster.nodes().into_iter().cycle()) {
        let address = cluster.config(node)?.client.listen;
        let Sample { user, password } = sample;
        lines.push(format!("  https://{address}/#{user}   password {password}   (node {node})"));
    }
    lines.push(format!("  in it: the group of {messages} messages from a real log, and whatever you write"));
    lines.push(
        "  The certificates are the demo's own, so a browser asks once for each node. A tab whose node dies goes"
            .to_owned(),
    );
    lines.push("  on at another node, if the browser has accepted that one's certificate too.".to_owned());
    lines.push(String::new());
    let kept = if home.temporary.is_some() { "removed at the end" } else { "kept" };
    lines.push(format!("data and logs: {} ({kept})", cluster.dir().display()));
    lines.push(format!("status: campanile cluster status --dir {}", cluster.dir().display()));
    Ok(lines.join("\n"))
}

/// Runs until a key or a signal ends it.
async fn perform(stage: &mut Stage, args: &DemoArgs) -> Result<(), AnyError> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    for key in args.keys.chars() {
        let key = match key {
            'k' => Key::Kill,
            'r' => Key::Revive,
            _ => Key::Quit,
        };
        if !act(stage, key, &mut interrupt, &mut terminate).await? {
            return Ok(());
        }
    }
    let keys = if args.no_input { None } else { Keys::open()? };
    let Some(mut keys) = keys else {
        if args.keys.is_empty() {
            say("runs until SIGINT or SIGTERM");
            ended(&mut interrupt, &mut terminate).await;
        }
        return Ok(());
    };
    show(KEYS);
    loop {
        let key = tokio::select! {
            key = keys.next() => key,
            () = ended(&mut interrupt, &mut terminate) => return Ok(()),
        };
        if !act(stage, key, &mut interrupt, &mut terminate).await? {
            return Ok(());
        }
    }
}

/// Does what a key asks, unless a signal comes first. Whether the demo goes on.
async fn act(stage: &mut Stage, key: Key, interrupt: &mut Signal, terminate: &mut Signal) -> Result<bool, AnyError> {
    let done = async {
        match key {
            Key::Quit => Ok(None),
            Key::Other => Ok(Some(KEYS.to_owned())),
            Key::Kill => {
                show("k: one of the nodes, once each of them leads its share of the shards");
                stage.kill().await.map(Some)
            }
            Key::Revive => {
                show("r: bringing it back");
                stage.revive().await.map(Some)
            }
        }
    };
    let said = tokio::select! {
        said = done => said?,
        () = ended(interrupt, terminate) => None,
    };
    if let Some(text) = &said {
        show(text);
    }
    Ok(said.is_some())
}

async fn ended(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Raw mode needs the carriage return; other places do not mind it being there.
fn show(text: &str) {
    say(format_args!("{}\r", text.replace('\n', "\r\n")));
}

fn failure(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::new(Code::Demo, Exit::Failed, "the demo cannot go on").because(error)
}
