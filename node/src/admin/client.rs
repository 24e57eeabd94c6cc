//! Asks a node's admin listener. One connection per request: operators ask rarely, and a status that
//! arrives over a fresh connection also says that new connections are taken.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat::ids::{NodeId, ShardId};
use cluster::{Comparison, ShardDigest};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::api::{AdminProblem, Drain, NewUser, NodeStatus, Readiness};
use super::retention::{IdWindowChange, RetentionChange, RetentionOf, RetentionStatus};
use crate::nodes::api::{Join, Joined, MadeJoinToken, NewJoinToken, Place, Plan, Raise, Rebalance};

/// How long one request may take, from connecting to the last byte.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long comparing one shard's replicas may take, commit and digests together.
const VERIFY_TIMEOUT: Duration =
    Duration::from_millis(chat::limits::REQUEST_TIMEOUT_MS + chat::limits::DIGEST_TIMEOUT_MS);
/// Bytes of an answer.
const ANSWER_BYTES: usize = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("{url:?} is not an address such as https://127.0.0.1:7413")]
    Url { url: String },
    #[error("the CA file holds no certificate")]
    Ca,
    #[error("cannot connect to {address}")]
    Connect { address: String, source: std::io::Error },
    #[error("no answer from {address} within {within:?}")]
    Timeout { address: String, within: Duration },
    #[error("the connection to {address} failed")]
    Http { address: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{address} refused the admin token")]
    Unauthorized { address: String },
    #[error("{}", problem.message)]
    Refused { problem: AdminProblem },
    #[error("{address} answered {status} in a form that this version does not know")]
    Form { address: String, status: u16 },
}

/// A client of one node's admin listener.
#[derive(Clone)]
pub struct AdminClient {
    /// `host:port`.
    authority: String,
    host: ServerName<'static>,
    tls: TlsConnector,
    token: Zeroizing<String>,
}

impl AdminClient {
    /// `url` is `https://host:port`; `ca_pem` is what it must be signed by; `token` may be empty for
    /// [`AdminClient::ready`] alone.
    pub fn new(url: &str, ca_pem: &[u8], token: &str) -> Result<Self, AdminError> {
        let bad = || AdminError::Url { url: url.to_owned() };
        let uri: Uri = url.parse().map_err(|_| bad())?;
        if uri.scheme_str() != Some("https") {
            return Err(bad());
        }
        let host = uri.host().ok_or_else(bad)?.trim_matches(['[', ']']).to_owned();
        let authority = match uri.port_u16() {
            Some(_) => uri.authority().ok_or_else(bad)?.to_string(),
            None => format!("{}:443", uri.authority().ok_or_else(bad)?),
        };
        let host = ServerName::try_from(host).map_err(|_| bad())?;
        Ok(Self { authority, host, tls: connector(ca_pem)?, token: Zeroizing::new(token.to_owned()) })
    }

    /// Whether clients should be sent to this node; needs no token.
    pub async fn ready(&self) -> Result<Readiness, AdminError> {
        let (status, body) = self.request(Method::GET, "/readyz", Bytes::new()).await?;
        self.parse(status, &body)
    }

    pub async fn status(&self) -> Result<NodeStatus, AdminError> {
        self.get("/v1/status").await
    }

    /// The digest of every shard's replica on this node, each at its own applied index.
    pub async fn digests(&self) -> Result<Vec<ShardDigest>, AdminError> {
        self.get("/v1/digests").await
    }

    /// Adds an account, durable when this returns.
    pub async fn add_user(&self, user: &NewUser) -> Result<(), AdminError> {
        self.order(Method::POST, "/v1/users", Some(user)).await
    }

    /// Compares all replicas of a shard: takes as long as reading their states does.
    pub async fn verify(&self, shard: ShardId) -> Result<Comparison, AdminError> {
        let path = format!("/v1/verify/{}", shard.0);
        let (status, body) = self.request_within(VERIFY_TIMEOUT, Method::POST, &path, Bytes::new()).await?;
        self.told(status, &body)
    }

    /// Begins to open every stored record of the node.
    pub async fn scrub(&self) -> Result<(), AdminError> {
        self.order(Method::POST, "/v1/scrub", None::<&()>).await
    }

    /// Begins to give away what the node leads and whom it serves.
    pub async fn drain(&self, drain: &Drain) -> Result<(), AdminError> {
        self.order(Method::POST, "/v1/drain", Some(drain)).await
    }

    /// Ends a drain.
    pub async fn resume(&self) -> Result<(), AdminError> {
        self.order(Method::DELETE, "/v1/drain", None::<&()>).await
    }

    /// Makes what lets nodes join.
    pub async fn join_token(&self, wanted: &NewJoinToken) -> Result<MadeJoinToken, AdminError> {
        self.exact(Method::POST, "/v1/join-tokens", wanted).await
    }

    /// No join token lets anybody in any more.
    pub async fn withdraw_join_tokens(&self) -> Result<(), AdminError> {
        self.order(Method::DELETE, "/v1/join-tokens", None::<&()>).await
    }

    /// Switches feature levels on, for good.
    pub async fn raise(&self, raise: &Raise) -> Result<(), AdminError> {
        self.order(Method::PUT, "/v1/level", Some(raise)).await
    }

    /// Joins, by a token's secret; needs no admin token.
    pub async fn join(&self, join: &Join) -> Result<Joined, AdminError> {
        self.exact(Method::POST, "/v1/join", join).await
    }

    /// Has a node leave for good; the status shows how far it is.
    pub async fn remove_node(&self, node: NodeId) -> Result<(), AdminError> {
        self.order(Method::DELETE, &format!("/v1/nodes/{node}"), None::<&()>).await
    }

    /// What spreading replicas and leaders evenly would change.
    pub async fn plan(&self) -> Result<Plan, AdminError> {
        self.get("/v1/plan").await
    }

    /// Begins to spread replicas and leaders evenly.
    pub async fn rebalance(&self, wanted: &Rebalance) -> Result<(), AdminError> {
        self.order(Method::POST, "/v1/rebalance", Some(wanted)).await
    }

    /// Says who votes in a shard.
    pub async fn place(&self, place: &Place) -> Result<(), AdminError> {
        self.order(Method::POST, "/v1/place", Some(place)).await
    }

    /// Something to do, with something to tell afterwards.
    pub(super) async fn exact<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        what: &impl Serialize,
    ) -> Result<T, AdminError> {
        let body = serde_json::to_vec(what).expect("plain fields serialize");
        let (status, body) = self.request(method, path, body.into()).await?;
        self.told(status, &body)
    }

    /// How long messages are kept.
    pub async fn retention(&self, of: &RetentionOf) -> Result<RetentionStatus, AdminError> {
        let conversation = of.conversation.as_ref().map(|id| format!("&conversation={}", in_query(&id.to_string())));
        let conversation = conversation.unwrap_or_default();
        self.get(&format!("/v1/retention?app={}{conversation}", of.app)).await
    }

    /// Says how long messages are kept from now on. What is older is deleted for good.
    pub async fn set_retention(&self, change: &RetentionChange) -> Result<RetentionStatus, AdminError> {
        self.exact(Method::PUT, "/v1/retention", change).await
    }

    /// Says how long the ids of an app's messages are remembered after those were deleted.
    pub async fn set_id_window(&self, change: &IdWindowChange) -> Result<RetentionStatus, AdminError> {
        self.exact(Method::PUT, "/v1/retention/ids", change).await
    }

    /// Any other resource, as JSON.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, AdminError> {
        let (status, body) = self.request(Method::GET, path, Bytes::new()).await?;
        self.told(status, &body)
    }

    /// Something to do, with nothing to tell afterwards.
    async fn order(&self, method: Method, path: &str, what: Option<&impl Serialize>) -> Result<(), AdminError> {
        let body = what.map(|what| serde_json::to_vec(what).expect("plain fields serialize"));
        let (status, body) = self.request(method, path, body.unwrap_or_default().into()).await?;
        if status.is_success() { Ok(()) } else { Err(self.refusal(status, &body)) }
    }

    fn told<T: DeserializeOwned>(&self, status: StatusCode, body: &Bytes) -> Result<T, AdminError> {
        if status.is_success() { self.parse(status, body) } else { Err(self.refusal(status, body)) }
    }

    pub(super) fn refusal(&self, status: StatusCode, body: &Bytes) -> AdminError {
        if status == StatusCode::UNAUTHORIZED {
            return AdminError::Unauthorized { address: self.authority.clone() };
        }
        self.parse(status, body).map_or_else(|form| form, |problem| AdminError::Refused { problem })
    }

    fn parse<T: DeserializeOwned>(&self, status: StatusCode, body: &Bytes) -> Result<T, AdminError> {
        serde_json::from_slice(body)
            .map_err(|_| AdminError::Form { address: self.authority.clone(), status: status.as_u16() })
    }

    async fn request(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), AdminError> {
        self.request_within(TIMEOUT, method, path, body).await
    }

    async fn request_within(
        &self,
        within: Duration,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), AdminError> {
        match tokio::time::timeout(within, self.exchange(method, path, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.silent(within)),
        }
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), AdminError> {
        let (response, _connection) = self.open(method, path, body).await?;
        let status = response.status();
        Ok((status, self.collect(response).await?))
    }

    /// Asks on a connection of its own; the answer's body is still to be read.
    pub(super) async fn open(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(Response<Incoming>, Connection), AdminError> {
        let connect = |source| AdminError::Connect { address: self.authority.clone(), source };
        let stream = TcpStream::connect(&self.authority).await.map_err(connect)?;
        let stream = self.tls.connect(self.host.clone(), stream).await.map_err(connect)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.http(e))?;
        let connection = Connection(tokio::spawn(connection));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.authority)
            .header(CONTENT_TYPE, "application/json")
            .header(AUTHORIZATION, format!("Bearer {}", *self.token))
            .body(Full::new(body))
            .map_err(|e| self.http(e))?;
        let response = sender.send_request(request).await.map_err(|e| self.http(e))?;
        Ok((response, connection))
    }

    pub(super) async fn collect(&self, response: Response<Incoming>) -> Result<Bytes, AdminError> {
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await.map_err(|e| self.http(e))?;
        Ok(body.to_bytes())
    }

    pub(super) fn silent(&self, within: Duration) -> AdminError {
        AdminError::Timeout { address: self.authority.clone(), within }
    }

    pub(super) fn http(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> AdminError {
        AdminError::Http { address: self.authority.clone(), source: source.into() }
    }
}

/// User ids hold characters that mean something in a query (RFC 3986, 2.1).
fn in_query(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    text.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The connection is driven beside the request and ends with it.
pub(super) struct Connection(JoinHandle<hyper::Result<()>>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn connector(ca_pem: &[u8]) -> Result<TlsConnector, AdminError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem) {
        roots.add(certificate.map_err(|_| AdminError::Ca)?).map_err(|_| AdminError::Ca)?;
    }
    if roots.is_empty() {
        return Err(AdminError::Ca);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
