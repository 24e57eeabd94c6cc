//! Systems to compare with, started on this machine: real processes in a temporary directory, by the scripts and
//! configurations in `bench/systems`, which are compiled in so that the binary needs nothing but the packages.

mod bare_server;
mod ejabberd;
mod nats;
mod process;

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

pub use bare_server::serve as serve_bare;
use ejabberd::Ejabberd;
use nats::NatsCluster;
use process::Process;
use tempfile::TempDir;

use crate::protocol::nats::Nats;

const READY_WITHIN: Duration = Duration::from_secs(60);
const FSYNC_STREAMS: u32 = 16;
const ASKED_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// A system to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum System {
    /// NATS JetStream, three replicas, fsync before the ack: what Campanile promises.
    NatsFsync,
    /// NATS JetStream, three replicas, as it is delivered: acked messages are in the page cache of a majority.
    NatsDefault,
    /// Three ejabberd nodes, rooms with an archive in Mnesia: no fsync.
    Ejabberd,
    /// A broadcast server that stores nothing: the limit.
    Bare,
}

impl System {
    /// What an ack says.
    pub fn promise(self) -> &'static str {
        match self {
            Self::NatsFsync => {
                "ack: on the disks of a majority (fsync); order by the stream's leader, delivery after commit"
            }
            Self::NatsDefault => {
                "ack: in the page caches of a majority (fsync every two minutes); order by the stream's leader, \
                delivery after commit"
            }
            Self::Ejabberd => {
                "ack (the room's echo): a Mnesia transaction over three nodes, no fsync; order by the room's process, \
                which lives on one node and dies with it"
            }
            Self::Bare => "ack (the echo): nothing is stored",
        }
    }

    /// The version that is installed; empty if nothing tells it.
    pub fn version(self) -> String {
        let package = match self {
            Self::NatsFsync | Self::NatsDefault => "nats-server",
            Self::Ejabberd => "ejabberd",
            Self::Bare => return env!("CARGO_PKG_VERSION").to_owned(),
        };
        let output = Command::new("dpkg-query").args(["-W", "-f", "${Version}", package]).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    }

    /// NATS: the streams that so many groups are dealt out to, `wanted` or what is best for it (measured, see
    /// bench/systems/README.md). None for systems without streams.
    pub fn streams(self, wanted: Option<u32>, groups: u32) -> Option<u32> {
        let best = match self {
            // Each stream has a log of its own: with several, fsyncs wait for each other less.
            Self::NatsFsync => FSYNC_STREAMS,
            Self::NatsDefault => 1,
            Self::Ejabberd | Self::Bare => return None,
        };
        Some(wanted.unwrap_or(best).clamp(1, groups.max(1)))
    }
}

/// Why a system cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    #[error("cannot run {what}")]
    Run { what: String, source: io::Error },
    #[error("{what} failed: {output}")]
    Failed { what: String, output: String },
    #[error("it did not come up within {} s; its output: {output}", within.as_secs())]
    NotReady { within: Duration, output: String },
    #[error("there is no node {0}")]
    NoSuchNode(u16),
    #[error("the broadcast server has no TLS")]
    NoTls,
    #[error("no free ports on loopback")]
    Ports,
    #[error("cannot write its files")]
    Files(#[from] io::Error),
}

/// How clients connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    Plain,
    Tls,
}

impl Clients {
    /// As the scripts call it.
    fn word(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Tls => "tls",
        }
    }
}

/// A system that runs. Dropping it ends its processes.
pub struct Running {
    kind: Kind,
    clients: Clients,
    /// Whom clients trust; empty without TLS.
    ca_pem: Vec<u8>,
    dir: TempDir,
}

enum Kind {
    Nats(NatsCluster),
    Ejabberd(Ejabberd),
    Bare { server: Process, port: u16 },
}

impl Running {
    /// Ready for clients when this returns. Blocks.
    pub fn start(system: System, clients: Clients) -> Result<Self, SystemError> {
        let dir = tempfile::Builder::new().prefix("campanile-bench-").tempdir()?;
        let path = dir.path();
        let ca_pem = match (clients, system) {
            (Clients::Plain, _) => Vec::new(),
            (Clients::Tls, System::Bare) => return Err(SystemError::NoTls),
            (Clients::Tls, _) => certificate(path)?,
        };
        let kind = match system {
            System::NatsFsync => Kind::Nats(NatsCluster::start(path, clients, "always")?),
            System::NatsDefault => Kind::Nats(NatsCluster::start(path, clients, "2m")?),
            System::Ejabberd => Kind::Ejabberd(Ejabberd::start(path, clients)?),
            System::Bare => start_bare(path)?,
        };
        Ok(Self { kind, clients, ca_pem, dir })
    }

    /// Where its data and output are.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn is_tls(&self) -> bool {
        self.clients == Clients::Tls
    }

    pub fn ca_pem(&self) -> &[u8] {
        &self.ca_pem
    }

    /// `ws://…` or `wss://…` of every node.
    pub fn urls(&self) -> Vec<String> {
        let ports = match &self.kind {
            Kind::Nats(cluster) => cluster.ports(),
            Kind::Ejabberd(cluster) => cluster.ports(),
            Kind::Bare { port, .. } => vec![*port],
        };
        let scheme = if self.is_tls() { "wss" } else { "ws" };
        ports.iter().map(|port| format!("{scheme}://127.0.0.1:{port}")).collect()
    }

    /// Name and process id of every node.
    pub fn processes(&self) -> Vec<(String, u32)> {
        match &self.kind {
            Kind::Nats(cluster) => cluster.processes().map(Process::named).collect(),
            Kind::Ejabberd(cluster) => cluster.processes().map(Process::named).collect(),
            Kind::Bare { server, .. } => vec![server.named()],
        }
    }

    /// Makes what a run with this many users and groups needs, new and empty. `streams` is for NATS alone.
    pub fn prepare(&self, run: u32, users: u32, groups: u32, streams: u32) -> Result<(), SystemError> {
        match &self.kind {
            Kind::Nats(cluster) => cluster.prepare(&Nats::new(run, streams)),
            Kind::Ejabberd(cluster) => cluster.prepare(run, users, groups),
            Kind::Bare { .. } => Ok(()),
        }
    }

    /// What a leader of can be killed, if anything: the streams of NATS.
    pub fn killable(&mut self) -> Option<Killable<'_>> {
        match &mut self.kind {
            Kind::Nats(cluster) => Some(Killable(cluster)),
            Kind::Ejabberd(_) | Kind::Bare { .. } => None,
        }
    }

    /// Ends the processes. The directory goes too, unless it is kept for a look at what went wrong.
    pub fn stop(self, keep: bool) -> Option<PathBuf> {
        let Self { kind, dir, .. } = self;
        drop(kind);
        keep.then(|| dir.keep())
    }
}

/// A system whose nodes may be killed and started again. Nodes are numbered from 1.
pub struct Killable<'a>(&'a mut NatsCluster);

impl Killable<'_> {
    /// Of each stream of a run, the node that leads it. Waits until there is one.
    pub fn leaders(&self, nats: &Nats) -> Result<Vec<u16>, SystemError> {
        self.0.leaders(nats)
    }

    /// SIGKILL.
    pub fn kill(&mut self, node: u16) -> Result<(), SystemError> {
        self.0.kill(node)
    }

    pub fn start_again(&mut self, node: u16) -> Result<(), SystemError> {
        self.0.start_again(node)
    }

    /// Whether a node that was started again has all it missed.
    pub fn is_ready(&self, node: u16) -> bool {
        self.0.is_ready(node)
    }

    /// Name and process id of every node, as they are now.
    pub fn processes(&self) -> Vec<(String, u32)> {
        self.0.processes().map(Process::named).collect()
    }
}

/// The prefix of a run's rooms.
pub fn room_prefix(run: u32) -> String {
    format!("r{run}-")
}

/// Makes the files that the nodes' configurations name; the CA.
fn certificate(dir: &Path) -> Result<Vec<u8>, SystemError> {
    let script = dir.join("certificate.sh");
    std::fs::write(&script, include_str!("../../systems/certificate.sh"))?;
    process::run(&script, &[dir.display().to_string()])?;
    Ok(std::fs::read(dir.join("ca.pem"))?)
}

fn start_bare(dir: &Path) -> Result<Kind, SystemError> {
    let port = free_ports(1)?;
    let program = std::env::current_exe()?;
    let arguments = ["bare-server".to_owned(), format!("127.0.0.1:{port}")];
    let server = Process::start("bare", &program, &arguments, dir)?;
    let mut started = [server];
    wait_ready(&mut started, READY_WITHIN, || std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())?;
    let [server] = started;
    Ok(Kind::Bare { server, port })
}

/// Waits until `ready`, or until one of the processes is gone.
fn wait_ready(processes: &mut [Process], within: Duration, mut ready: impl FnMut() -> bool) -> Result<(), SystemError> {
    let deadline = Instant::now() + within;
    while !ready() {
        let ended = processes.iter_mut().find_map(|process| process.ended().then(|| process.output()));
        if let Some(output) = ended {
            return Err(SystemError::Failed { what: "the server".to_owned(), output });
        }
        if Instant::now() > deadline {
            let output = processes.iter().map(Process::output).collect();
            return Err(SystemError::NotReady { within, output });
        }
        std::thread::sleep(ASKED_AGAIN_AFTER);
    }
    Ok(())
}

/// The first of `count` ports in a row that nobody listens on. Somebody else may take one before it is used.
fn free_ports(count: u16) -> Result<u16, SystemError> {
    const FIRST: u16 = 20_000;
    const STEP: u16 = 16;
    // Below the range of outgoing connections, of which a run makes thousands.
    const LAST: u16 = 32_000;
    let offset = (std::process::id() % 500) as u16 * STEP;
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let candidates = (FIRST + offset..LAST).step_by(STEP.into());
    let mut candidates = candidates.chain((FIRST..FIRST + offset).step_by(STEP.into()));
    candidates.find(|first| (*first..*first + count).all(free)).ok_or(SystemError::Ports)
}
