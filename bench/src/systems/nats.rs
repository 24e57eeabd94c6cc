//! Three NATS nodes with JetStream.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::process::Process;
use super::{ASKED_AGAIN_AFTER, Clients, READY_WITHIN, SystemError, free_ports, wait_ready};
use crate::protocol::nats::wire::{self, Operation};
use crate::protocol::nats::{CONNECT, Nats};

const NODES: u16 = 3;
/// Of a node: WebSocket, NATS, cluster, monitoring (node.sh).
const PORTS: u16 = 4;
const FORMS_WITHIN: Duration = Duration::from_secs(15);
const ATTEMPTS: u32 = 5;
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Requests before there is a leader are lost.
const PROBE_WITHIN: Duration = Duration::from_secs(1);

const FILES: [(&str, &str); 4] = [
    ("node.sh", include_str!("../../systems/nats/node.sh")),
    ("nats.conf", include_str!("../../systems/nats/nats.conf")),
    ("plain.conf", include_str!("../../systems/nats/plain.conf")),
    ("tls.conf", include_str!("../../systems/nats/tls.conf")),
];

pub(super) struct NatsCluster {
    nodes: Vec<Process>,
    port: u16,
    dir: PathBuf,
    clients: Clients,
    sync_interval: &'static str,
}

#[derive(Deserialize)]
struct Answer {
    error: Option<AnswerError>,
    cluster: Option<ClusterInfo>,
    streams: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct AnswerError {
    description: String,
}

#[derive(Deserialize)]
struct ClusterInfo {
    leader: Option<String>,
}

impl NatsCluster {
    pub(super) fn start(dir: &Path, clients: Clients, sync_interval: &'static str) -> Result<Self, SystemError> {
        for (name, text) in FILES {
            std::fs::write(dir.join(name), text)?;
        }
        let port = free_ports(NODES * PORTS)?;
        let mut cluster = Self { nodes: Vec::new(), port, dir: dir.to_owned(), clients, sync_interval };
        let mut attempts = 1;
        loop {
            match cluster.form() {
                Err(SystemError::NotReady { .. }) if attempts < ATTEMPTS => cluster.clear()?,
                formed => return formed.map(|()| cluster),
            }
            attempts += 1;
        }
    }

    /// Starts the nodes. JetStream takes requests once they have a leader for them, and places replicas once it knows
    /// all three.
    fn form(&mut self) -> Result<(), SystemError> {
        for number in 1..=NODES {
            let node = self.start_node(number)?;
            self.nodes.push(node);
        }
        let port = self.port;
        wait_ready(&mut self.nodes, FORMS_WITHIN, || Self::try_streams(port))
    }

    /// Nodes that start at the same moment sometimes count their peers while one of their routes is being told to lead
    /// to themselves, and then form a cluster of two for good (seen with 2.10.27). They begin anew, with nothing.
    fn clear(&mut self) -> Result<(), SystemError> {
        self.nodes.clear();
        for number in 1..=NODES {
            std::fs::remove_dir_all(self.dir.join(format!("node-{number}")))?;
        }
        Ok(())
    }

    fn start_node(&self, number: u16) -> Result<Process, SystemError> {
        let script = self.dir.join("node.sh").display().to_string();
        let dir = self.dir.display().to_string();
        let (clients, sync_interval) = (self.clients.word().to_owned(), self.sync_interval.to_owned());
        let arguments = [script, number.to_string(), dir, self.port.to_string(), clients, sync_interval];
        Process::start(&format!("node-{number}"), Path::new("sh"), &arguments, &self.dir)
    }

    /// Whether a stream with three replicas can be made.
    fn try_streams(port: u16) -> bool {
        let probe = r#"{"name":"probe","subjects":["probe"],"num_replicas":3,"storage":"file"}"#;
        let made = ask(port, 0, "$JS.API.STREAM.CREATE.probe", probe, PROBE_WITHIN);
        made.is_ok_and(|answer| answer.error.is_none())
    }

    pub(super) fn ports(&self) -> Vec<u16> {
        (0..NODES).map(|node| self.port + node * PORTS).collect()
    }

    pub(super) fn processes(&self) -> impl Iterator<Item = &Process> {
        self.nodes.iter()
    }

    /// Deletes the streams of the run before and makes new ones, so that no run pays for another one's data.
    pub(super) fn prepare(&self, nats: &Nats) -> Result<(), SystemError> {
        for name in self.streams()? {
            // Others' names: one that stays, because its leader is not there, costs disk and nothing else.
            let _ = self.ask(&format!("$JS.API.STREAM.DELETE.{name}"), "");
        }
        for stream in 0..nats.streams() {
            self.persist(&format!("$JS.API.STREAM.CREATE.{}", nats.stream(stream)), &nats.stream_config(stream))?;
        }
        for stream in 0..nats.streams() {
            self.leader(&nats.stream(stream))?;
        }
        Ok(())
    }

    /// Asks until it works: leaders come and go while streams are made.
    fn persist(&self, subject: &str, body: &str) -> Result<Answer, SystemError> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            match self.ask(subject, body) {
                Err(_) if Instant::now() < deadline => std::thread::sleep(ASKED_AGAIN_AFTER),
                answer => return answer,
            }
        }
    }

    fn streams(&self) -> Result<Vec<String>, SystemError> {
        Ok(self.ask("$JS.API.STREAM.NAMES", "")?.streams.unwrap_or_default())
    }

    /// The node that leads a stream, once there is one.
    fn leader(&self, name: &str) -> Result<String, SystemError> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let answer = self.ask(&format!("$JS.API.STREAM.INFO.{name}"), "");
            match answer.map(|answer| answer.cluster.and_then(|cluster| cluster.leader)) {
                Ok(Some(leader)) => return Ok(leader),
                Err(error) if Instant::now() > deadline => return Err(error),
                _ => std::thread::sleep(ASKED_AGAIN_AFTER),
            }
        }
    }

    /// Of each stream, the number of the node that leads it (from 1), once there is one.
    pub(super) fn leaders(&self, nats: &Nats) -> Result<Vec<u16>, SystemError> {
        let number = |name: String| name.rsplit('-').next().and_then(|digits| digits.parse().ok()).unwrap_or_default();
        (0..nats.streams()).map(|stream| Ok(number(self.leader(&nats.stream(stream))?))).collect()
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self, number: u16) -> Result<(), SystemError> {
        match usize::from(number).checked_sub(1).and_then(|place| self.nodes.get_mut(place)) {
            Some(node) => node.kill(),
            None => Err(SystemError::NoSuchNode(number)),
        }
    }

    pub(super) fn start_again(&mut self, number: u16) -> Result<(), SystemError> {
        self.nodes[usize::from(number - 1)] = self.start_node(number)?;
        Ok(())
    }

    /// Whether a node that was started again has caught up (NATS' own `/healthz`).
    pub(super) fn is_ready(&self, number: u16) -> bool {
        let address = (Ipv4Addr::LOCALHOST, self.port + (number - 1) * PORTS + 3);
        let mut answer = String::new();
        let asked = TcpStream::connect(address).and_then(|mut stream| {
            stream.set_read_timeout(Some(PROBE_WITHIN))?;
            stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
            stream.read_to_string(&mut answer)
        });
        asked.is_ok() && answer.lines().next().is_some_and(|status| status.contains(" 200 "))
    }

    /// Asks any node that runs.
    fn ask(&self, subject: &str, body: &str) -> Result<Answer, SystemError> {
        let mut failure = SystemError::Ports;
        for node in 0..NODES {
            match ask(self.port, node, subject, body, ANSWER_WITHIN) {
                Ok(Answer { error: Some(error), .. }) => {
                    return Err(SystemError::Failed { what: subject.to_owned(), output: error.description });
                }
                Ok(answer) => return Ok(answer),
                Err(source) => failure = SystemError::Run { what: subject.to_owned(), source },
            }
        }
        Err(failure)
    }
}

/// A request over the plain TCP port of a node (counted from 0).
fn ask(port: u16, node: u16, subject: &str, body: &str, within: Duration) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port + node * PORTS + 1))?;
    stream.set_read_timeout(Some(within))?;
    let request = format!("SUB i.p 1\r\nPUB {subject} i.p {}\r\n{body}\r\n", body.len());
    stream.write_all(&[CONNECT, request.as_bytes()].concat())?;
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4_096]);
    loop {
        let more = stream.read(&mut chunk)?;
        if more == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&chunk[..more]);
        while let Some((operation, end)) = wire::next(&bytes).map_err(Error::other)? {
            match operation {
                Operation::Message(message) if message.status() == Some(503) => return Err(Error::other("no leader")),
                Operation::Message(message) => return serde_json::from_slice(message.payload).map_err(Error::other),
                Operation::Ping => stream.write_all(b"PONG\r\n")?,
                Operation::Error(why) => return Err(Error::other(why.to_owned())),
                Operation::Info | Operation::Pong | Operation::Ok => {}
            }
            bytes.drain(..end);
        }
    }
}
