//! Three NATS nodes with JetStream.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::process::Process;
use super::{ASKED_AGAIN_AFTER, READY_WITHIN, SystemError, free_ports, wait_ready};
use crate::protocol::nats::wire::{self, Operation};
use crate::protocol::nats::{CONNECT, Nats};

const NODES: u16 = 3;
/// Of a node: WebSocket, NATS, cluster, monitoring (node.sh).
const PORTS: u16 = 4;
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Requests before there is a leader are lost.
const PROBE_WITHIN: Duration = Duration::from_secs(1);

const FILES: [(&str, &str); 2] = [
    ("node.sh", include_str!("../../systems/nats/node.sh")),
    ("nats.conf", include_str!("../../systems/nats/nats.conf")),
];

pub(super) struct NatsCluster {
    nodes: Vec<Process>,
    port: u16,
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
    pub(super) fn start(dir: &Path, sync_interval: &str) -> Result<Self, SystemError> {
        for (name, text) in FILES {
            std::fs::write(dir.join(name), text)?;
        }
        let port = free_ports(NODES * PORTS)?;
        let node = |number: u16| {
            let script = dir.join("node.sh").display().to_string();
            let arguments =
                [script, number.to_string(), dir.display().to_string(), port.to_string(), sync_interval.to_owned()];
            Process::start(&format!("node-{number}"), Path::new("sh"), &arguments, dir)
        };
        let nodes = (1..=NODES).map(node).collect::<Result<_, _>>()?;
        let mut cluster = Self { nodes, port };
        // JetStream takes requests once the nodes have a leader for them, and places replicas once it knows all three.
        wait_ready(&mut cluster.nodes, || Self::try_streams(port))?;
        Ok(cluster)
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

    /// SIGKILL to the leader of the most streams; its name.
    pub(super) fn kill_leader(&mut self) -> Result<String, SystemError> {
        let mut led = BTreeMap::new();
        for name in self.streams()? {
            *led.entry(self.leader(&name)?).or_insert(0) += 1;
        }
        let leader = led.into_iter().max_by_key(|(_, streams)| *streams).map(|(leader, _)| leader).unwrap_or_default();
        if let Some(node) = self.nodes.iter_mut().find(|node| node.name() == leader) {
            node.kill()?;
        }
        Ok(leader)
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
