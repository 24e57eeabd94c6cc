//! The connection to one peer: one task, one queue for all shards. Whatever waits leaves in one bundle.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat::ids::{NodeId, ShardId};
use chat::limits::{PEER_FRAME_BYTES, PEER_QUEUE};
use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::io::{AsyncWrite, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::hello::{GREETING_BYTES, Hello, REMOVED, Versions, Welcome};
use super::message::{Bundle, Message, Request, Response};
use super::{frame, tls};
use crate::level::Level;

/// Messages in one bundle at most; bytes are bounded by [`BUNDLE_BYTES`].
const BUNDLE_MESSAGES: usize = 256;
/// A bundle is closed once it holds this much.
const BUNDLE_BYTES: usize = PEER_FRAME_BYTES / 2;
/// Connecting, handshake and hello together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause after a failed attempt: short, because a returning peer should be found at once.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// Why a call to a peer gave no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The request never left this node.
    #[error("the peer is not connected")]
    Unreachable,
    /// Too many requests wait for the peer; nothing was sent.
    #[error("too many requests wait for the peer")]
    Overloaded,
    /// The connection broke or the deadline passed: it may or may not have been served.
    #[error("no answer from the peer")]
    NoAnswer,
}

enum Outgoing {
    Request { request: Request, reply: oneshot::Sender<Response> },
    Note(Bytes),
    Quiet(Vec<(ShardId, u64)>),
}

/// A handle on the connection to one peer.
#[derive(Clone)]
pub(crate) struct Lane {
    queue: mpsc::Sender<Outgoing>,
    connected: watch::Receiver<bool>,
    reset: Arc<Notify>,
    heard: Arc<Mutex<Heard>>,
}

/// What the peer said of itself, or why it or this node does not want the other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heard {
    /// Of the peer protocol, spoken on the last connection.
    pub(crate) version: Option<u16>,
    pub(crate) release: Option<String>,
    pub(crate) refused: Option<String>,
}

pub(crate) struct LaneOptions {
    pub(crate) versions: Versions,
    pub(crate) cluster: String,
    pub(crate) node: NodeId,
    pub(crate) peer: NodeId,
    /// Tried one after the other.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) level: Arc<Level>,
    /// Told when the peer says that this node was removed from the cluster.
    pub(crate) expelled: Arc<watch::Sender<bool>>,
}

impl Lane {
    pub(crate) fn start(options: LaneOptions) -> Self {
        let (queue, waiting) = mpsc::channel(PEER_QUEUE);
        let (connected_sender, connected) = watch::channel(false);
        let reset = Arc::new(Notify::new());
        let heard = Arc::default();
        tokio::spawn(run(options, waiting, connected_sender, reset.clone(), Arc::clone(&heard)));
        Self { queue, connected, reset, heard }
    }

    /// Gives up the connection, if there is one, and makes another.
    pub(crate) fn reset(&self) {
        self.reset.notify_waiters();
    }

    pub(crate) fn heard(&self) -> Heard {
        self.heard.lock().clone()
    }

    pub(crate) fn connected(&self) -> bool {
        *self.connected.borrow()
    }

    /// Changes when the connection is made or lost.
    pub(crate) fn watch_connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }

    /// Sends a note, which nothing answers.
    pub(crate) fn tell(&self, note: Bytes) -> Result<(), CallError> {
        if !self.connected() {
            return Err(CallError::Unreachable);
        }
        self.push(Outgoing::Note(note))
    }

    /// Says that this node leads these quiet shards. If it cannot be said now, it will be with the next turn of the clock.
    pub(crate) fn speak_for(&self, quiet: Vec<(ShardId, u64)>) {
        if self.connected() {
            let _ = self.push(Outgoing::Quiet(quiet));
        }
    }

    fn push(&self, outgoing: Outgoing) -> Result<(), CallError> {
        self.queue.try_send(outgoing).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CallError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => CallError::Unreachable,
        })
    }

    /// Sends a request and waits for its response.
    pub(crate) async fn call(&self, request: Request, deadline: Duration) -> Result<Response, CallError> {
        if !self.connected() {
            return Err(CallError::Unreachable);
        }
        let (reply, response) = oneshot::channel();
        self.push(Outgoing::Request { request, reply })?;
        match timeout(deadline, response).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(_)) | Err(_) => Err(CallError::NoAnswer),
        }
    }
}

async fn run(
    options: LaneOptions,
    mut waiting: mpsc::Receiver<Outgoing>,
    connected: watch::Sender<bool>,
    reset: Arc<Notify>,
    heard: Arc<Mutex<Heard>>,
) {
    let mut said = false;
    for address in options.addresses.iter().cycle() {
        match timeout(CONNECT_TIMEOUT, connect(&options, *address, &heard))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        {
            Ok(stream) => {
                tracing::info!(peer = options.peer, "peer connected");
                said = false;
                connected.send_replace(true);
                // Also while it waits for room in the socket: a peer that is cut off makes none.
                let ended = tokio::select! {
                    ended = serve(stream, &mut waiting) => ended,
                    () = reset.notified() => Err(io::ErrorKind::TimedOut.into()),
                };
                connected.send_replace(false);
                // Their senders see a closed channel: the outcome of what was sent is unknown.
                while waiting.try_recv().is_ok() {}
                match ended {
                    Ok(()) => return,
                    Err(error) => tracing::info!(peer = options.peer, %error, "peer disconnected"),
                }
            }
            Err(error) if !said => {
                tracing::info!(peer = options.peer, %error, "peer not reached, trying on");
                said = true;
            }
            Err(_) => {}
        }
        if waiting.is_closed() {
            return;
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

async fn connect(options: &LaneOptions, address: SocketAddr, heard: &Mutex<Heard>) -> io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let name = tls::server_name(&options.cluster, options.peer)?;
    let mut stream = TlsConnector::from(options.tls.clone()).connect(name, tcp).await?;
    let hello = Hello::new(options.versions, options.level.greeting(), &options.cluster, options.node);
    frame::write_bytes(&mut stream, &hello.encode()).await?;
    // With TLS 1.3 the connection stands before the peer has judged our certificate: its first answer is the verdict.
    let answer = frame::read_bytes(&mut stream, GREETING_BYTES).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let accepted = accepted(&hello, options, Welcome::decode(&answer));
    let refused = accepted.as_ref().err().cloned();
    let (version, release) = accepted.clone().map_or((None, None), |(version, release)| (Some(version), Some(release)));
    *heard.lock() = Heard { version, release, refused };
    accepted.map(|_| stream).map_err(io::Error::other)
}

/// The version to speak and the peer's release, or why the connection comes to nothing.
fn accepted(own: &Hello, options: &LaneOptions, answer: Option<Welcome>) -> Result<(u16, String), String> {
    let Welcome { by, verdict } = answer.ok_or("it does not greet as this release does: one of the two is too old")?;
    if by.node != options.peer || by.cluster != options.cluster {
        return Err(format!("it is node {} of {}", by.node, by.cluster));
    }
    options.level.needed(by.levels.on);
    if let Some(why) = own.outgrown(&by) {
        return Err(why);
    }
    let version = verdict.map_err(|reason| {
        if reason == REMOVED {
            options.expelled.send_replace(true);
        }
        format!("it refused us: {reason}")
    })?;
    match own.versions.common(by.versions) {
        Some(common) if common == version => Ok((version, by.release)),
        _ => Err(own.no_common(&by)),
    }
}

/// Runs until the connection breaks (error) or every handle is gone (ok).
async fn serve(stream: TlsStream<TcpStream>, waiting: &mut mpsc::Receiver<Outgoing>) -> io::Result<()> {
    let (reader, mut writer) = tokio::io::split(stream);
    let mut pending: HashMap<u64, oneshot::Sender<Response>> = HashMap::new();
    let mut next_id = 0;
    // A frame read must not be dropped half way: it lives in its own task, which ends with this connection.
    let (bundles_sender, mut bundles) = mpsc::channel(64);
    let mut reading = JoinSet::new();
    reading.spawn(read_bundles(BufReader::with_capacity(64 * 1024, reader), bundles_sender));
    loop {
        tokio::select! {
            outgoing = waiting.recv() => match outgoing {
                Some(first) => {
                    if let Err(error) = send(&mut writer, first, waiting, &mut pending, &mut next_id).await {
                        break Err(error);
                    }
                }
                None => break Ok(()),
            },
            bundle = bundles.recv() => match bundle {
                Some(bundle) => settle(bundle?, &mut pending),
                None => break Err(io::ErrorKind::UnexpectedEof.into()),
            },
        }
    }
}

async fn send(
    writer: &mut (impl AsyncWrite + Unpin),
    first: Outgoing,
    waiting: &mut mpsc::Receiver<Outgoing>,
    pending: &mut HashMap<u64, oneshot::Sender<Response>>,
    next_id: &mut u64,
) -> io::Result<()> {
    // Whoever else is ready to run may have something for the same bundle.
    tokio::task::yield_now().await;
    let mut messages = Vec::new();
    let mut bytes = 0;
    let mut next = Some(first);
    while let Some(outgoing) = next {
        messages.push(match outgoing {
            Outgoing::Request { request, reply } => {
                // Callers that gave up leave closed replies behind; forget them once in a while.
                *next_id += 1;
                if next_id.is_multiple_of(1024) {
                    pending.retain(|_, reply| !reply.is_closed());
                }
                bytes += request.size_hint();
                pending.insert(*next_id, reply);
                Message::Request { id: *next_id, request }
            }
            Outgoing::Note(note) => {
                bytes += note.len();
                Message::Note(note)
            }
            Outgoing::Quiet(quiet) => Message::Quiet(quiet),
        });
        next = if messages.len() < BUNDLE_MESSAGES && bytes < BUNDLE_BYTES { waiting.try_recv().ok() } else { None };
    }
    frame::write(writer, &Bundle { messages }).await
}

fn settle(bundle: Bundle, pending: &mut HashMap<u64, oneshot::Sender<Response>>) {
    for message in bundle.messages {
        if let Message::Response { id, response } = message
            && let Some(reply) = pending.remove(&id)
        {
            // The caller may have given up; its answer is then of no use.
            let _ = reply.send(response);
        }
    }
}

async fn read_bundles(mut reader: impl tokio::io::AsyncRead + Unpin, to: mpsc::Sender<io::Result<Bundle>>) {
    loop {
        let next = match frame::read(&mut reader).await {
            Ok(Some(bundle)) => Ok(bundle),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        let failed = next.is_err();
        if to.send(next).await.is_err() || failed {
            return;
        }
    }
}
