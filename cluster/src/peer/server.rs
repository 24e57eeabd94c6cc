//! Accepting peers: judged by certificate, name, cluster and membership before a request is read.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat::ids::{NodeId, ShardId};
use parking_lot::RwLock;
use rustls::ServerConfig;
use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::hello::{GREETING_BYTES, Hello, REMOVED, Versions, Welcome};
use super::message::{Bundle, Message, Request, Response};
use super::{frame, tls};
use crate::level::Level;
use crate::roster::{Stranger, Table};

/// Connections that have not yet proved who they are.
const HALF_OPEN: usize = 64;
/// Handshake and hello together.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests of one peer served at once; beyond it the connection is not read.
const CONCURRENT: usize = 1024;
/// Responses waiting to be written.
const RESPONSES: usize = 1024;

/// Serves one peer's messages.
pub(crate) trait Handler: Send + Sync + 'static {
    fn handle(self: Arc<Self>, from: NodeId, request: Request) -> Pin<Box<dyn Future<Output = Response> + Send>>;

    /// Called in the order of the notes; must not wait.
    fn told(&self, from: NodeId, note: Bytes);

    /// The peer leads these quiet shards, in these terms; must not wait.
    fn spoken_for(&self, from: NodeId, quiet: &[(ShardId, u64)]);
}

pub(crate) struct ServerOptions {
    pub(crate) versions: Versions,
    pub(crate) level: Arc<Level>,
    pub(crate) cluster: String,
    pub(crate) node: NodeId,
    pub(crate) members: Arc<RwLock<Arc<Table>>>,
    pub(crate) tls: Arc<ServerConfig>,
}

pub(crate) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

pub(crate) async fn accept<H: Handler>(listener: TcpListener, options: ServerOptions, handler: Arc<H>) {
    let options = Arc::new(options);
    let half_open = Arc::new(Semaphore::new(HALF_OPEN));
    loop {
        let Ok(permit) = half_open.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((tcp, address)) => {
                let (options, handler) = (options.clone(), handler.clone());
                tokio::spawn(async move {
                    let greeted = timeout(HELLO_TIMEOUT, greet(tcp, &options)).await;
                    drop(permit);
                    match greeted {
                        Ok(Ok((stream, peer))) => serve(stream, peer, &options, handler).await,
                        Ok(Err(error)) => tracing::warn!(event = "peer_refused", %address, %error, "peer refused"),
                        Err(_) => tracing::warn!(event = "peer_refused", %address, "peer said nothing in time"),
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a peer failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn greet(tcp: TcpStream, options: &ServerOptions) -> io::Result<(TlsStream<TcpStream>, NodeId)> {
    tcp.set_nodelay(true)?;
    let mut stream = TlsAcceptor::from(options.tls.clone()).accept(tcp).await?;
    let words = frame::read_bytes(&mut stream, GREETING_BYTES).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let by = Hello::new(options.versions, options.level.greeting(), &options.cluster, options.node);
    let old = || io::Error::new(io::ErrorKind::InvalidData, "it does not greet as this release does: it is too old");
    let hello = Hello::decode(&words).ok_or_else(old)?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let named = certificate.is_some_and(|certificate| tls::names(certificate, &options.cluster, hello.node));
    let stranger = options.members.read().stranger(hello.node);
    let verdict = judge(&hello, named, stranger, options, &by);
    frame::write_bytes(&mut stream, &Welcome { by, verdict: verdict.clone() }.encode()).await?;
    match verdict {
        Ok(_) => Ok((stream, hello.node)),
        Err(reason) => Err(io::Error::new(io::ErrorKind::PermissionDenied, reason)),
    }
}

/// The version that is spoken with a peer, or why it is refused.
fn judge(
    hello: &Hello,
    named: bool,
    stranger: Option<Stranger>,
    options: &ServerOptions,
    own: &Hello,
) -> Result<u16, String> {
    if hello.cluster != options.cluster {
        return Err(format!("it belongs to cluster {}, this is {}", hello.cluster, options.cluster));
    }
    if named && stranger == Some(Stranger::Removed) {
        return Err(REMOVED.to_owned());
    }
    if stranger.is_some() || hello.node == options.node {
        return Err(format!("node {} is not a peer in this cluster's membership", hello.node));
    }
    if !named {
        return Err(format!("its certificate does not name node {}", hello.node));
    }
    options.level.needed(hello.levels.on);
    if let Some(why) = own.outgrown(hello) {
        return Err(why);
    }
    own.versions.common(hello.versions).ok_or_else(|| own.no_common(hello))
}

async fn serve<H: Handler>(stream: TlsStream<TcpStream>, peer: NodeId, options: &ServerOptions, handler: Arc<H>) {
    let (reader, mut writer) = tokio::io::split(stream);
    let mut reader = BufReader::with_capacity(64 * 1024, reader);
    let (responses, mut written) = mpsc::channel::<Message>(RESPONSES);
    let writing = tokio::spawn(async move {
        while let Some(first) = written.recv().await {
            // Whoever else is ready to run may have an answer for the same bundle.
            tokio::task::yield_now().await;
            let mut messages = vec![first];
            while messages.len() < 256 {
                let Ok(next) = written.try_recv() else { break };
                messages.push(next);
            }
            if frame::write(&mut writer, &Bundle { messages }).await.is_err() {
                return;
            }
        }
    });
    let room = Arc::new(Semaphore::new(CONCURRENT));
    loop {
        let bundle: Bundle = match frame::read(&mut reader).await {
            Ok(Some(bundle)) => bundle,
            Ok(None) => break,
            Err(error) => {
                tracing::info!(peer, %error, "connection from peer ended");
                break;
            }
        };
        if options.members.read().stranger(peer).is_some() {
            tracing::info!(peer, "connection from a node that is no peer any more");
            break;
        }
        for message in bundle.messages {
            let (id, request) = match message {
                Message::Request { id, request } => (id, request),
                Message::Note(note) => {
                    handler.told(peer, note);
                    continue;
                }
                Message::Quiet(quiet) => {
                    handler.spoken_for(peer, &quiet);
                    continue;
                }
                Message::Response { .. } => continue,
            };
            let Ok(permit) = room.clone().acquire_owned().await else { return };
            let (handler, responses) = (handler.clone(), responses.clone());
            tokio::spawn(async move {
                let response = handler.handle(peer, request).await;
                // A broken connection takes its unanswered requests with it; the peer retries.
                let _ = responses.send(Message::Response { id, response }).await;
                drop(permit);
            });
        }
    }
    writing.abort();
}

#[cfg(test)]
mod tests {
    use super::super::hello::Levels;
    use super::*;

    #[test]
    fn only_a_named_member_of_this_cluster_and_version_is_let_in() {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
        let versions = Versions { oldest: 3, newest: 4 };
        let (cluster, members, level) = ("c".to_owned(), Arc::default(), Arc::new(Level::new(2)));
        level.raise(2);
        let levels = level.greeting();
        let options = ServerOptions { versions, level, cluster, node: 1, members, tls: Arc::new(tls) };
        let own = Hello::new(versions, levels, "c", 1);
        let hello = |newest, cluster, node| Hello::new(Versions { oldest: newest, newest }, levels, cluster, node);
        let behind = Hello { levels: Levels { supports: 1, on: 1 }, ..hello(4, "c", 2) };
        assert_eq!(judge(&hello(4, "c", 2), true, None, &options, &own), Ok(4));
        assert_eq!(judge(&hello(3, "c", 2), true, None, &options, &own), Ok(3));
        let removed = judge(&hello(3, "c", 4), true, Some(Stranger::Removed), &options, &own);
        assert_eq!(removed, Err(REMOVED.to_owned()));
        for (bad, named, stranger) in [
            (behind, true, None),
            (hello(5, "c", 2), true, None),
            (hello(2, "c", 2), true, None),
            (hello(3, "d", 2), true, None),
            (hello(3, "c", 4), true, Some(Stranger::Unknown)),
            (hello(3, "c", 4), false, Some(Stranger::Removed)),
            (hello(3, "c", 1), true, None),
            (hello(3, "c", 2), false, None),
        ] {
            assert!(judge(&bad, named, stranger, &options, &own).is_err(), "{bad:?}");
        }
    }
}
