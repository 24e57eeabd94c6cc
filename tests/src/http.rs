//! A backend of an app: asks a node's server API over HTTP.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio_rustls::{TlsConnector, rustls};

/// What a node answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
    /// Seconds.
    pub retry_after: Option<u64>,
}

impl Answer {
    /// The error's name, or nothing.
    pub fn name(&self) -> &str {
        self.body["name"].as_str().unwrap_or_default()
    }

    /// What is told of an error, but for what is another every time.
    pub fn told(&self) -> (u16, Value) {
        let mut body = self.body.clone();
        if let Some(fields) = body.as_object_mut() {
            fields.remove("trace_id");
        }
        (self.status, body)
    }
}

/// Asks one node with one key. A connection of its own for each request.
#[derive(Clone)]
pub struct Backend {
    authority: String,
    tls: TlsConnector,
    key: String,
}

impl Backend {
    /// `client_url` is `wss://host:port/v1/connect`.
    pub fn new(client_url: &str, ca_pem: &[u8], key: &str) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca_pem) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let authority = client_url.strip_prefix("wss://").and_then(|rest| rest.split('/').next());
        let (authority, tls) = (authority.context("a url")?.to_owned(), TlsConnector::from(Arc::new(config)));
        Ok(Self { authority, tls, key: key.to_owned() })
    }

    /// The same node, with another key; an empty one is not sent.
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self.clone() }
    }

    pub async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Result<Answer> {
        self.send(method, path, body.map(|body| body.to_string()).unwrap_or_default()).await
    }

    /// The same with any text as the body.
    pub async fn send(&self, method: &str, path: &str, body: String) -> Result<Answer> {
        let (mut sender, driven) = self.connect().await?;
        let answer = self.on(&mut sender, method, path, body).await;
        driven.abort();
        answer
    }

    /// Asks the same on one connection, again and again, until it is refused.
    pub async fn until_refused(&self, path: &str) -> Result<Answer> {
        let (mut sender, driven) = self.connect().await?;
        loop {
            let answer = self.on(&mut sender, "GET", path, String::new()).await?;
            if answer.status != 200 {
                driven.abort();
                return Ok(answer);
            }
        }
    }

    async fn connect(&self) -> Result<(SendRequest<Full<Bytes>>, JoinHandle<hyper::Result<()>>)> {
        let host = self.authority.split(':').next().context("a host")?.to_owned();
        let tcp = TcpStream::connect(&self.authority).await?;
        let tls = self.tls.connect(ServerName::try_from(host)?, tcp).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await?;
        Ok((sender, tokio::spawn(connection)))
    }

    async fn on(
        &self,
        sender: &mut SendRequest<Full<Bytes>>,
        method: &str,
        path: &str,
        body: String,
    ) -> Result<Answer> {
        let mut request = Request::builder().method(Method::from_bytes(method.as_bytes())?).uri(path);
        request = request.header(HOST, &self.authority).header(CONTENT_TYPE, "application/json");
        if !self.key.is_empty() {
            request = request.header(AUTHORIZATION, format!("Bearer {}", self.key));
        }
        sender.ready().await?;
        let answer = sender.send_request(request.body(Full::new(Bytes::from(body)))?).await?;
        let status = answer.status().as_u16();
        let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let bytes = answer.into_body().collect().await?.to_bytes();
        let body = serde_json::from_slice(&bytes).with_context(|| format!("{method} {path}: {status}: {bytes:?}"))?;
        Ok(Answer { status, body, retry_after })
    }

    pub async fn get(&self, path: &str) -> Result<Value> {
        self.done("GET", path, None).await
    }

    /// It succeeds: what was answered.
    pub async fn done(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value> {
        let answer = self.ask(method, path, body).await?;
        ensure!(answer.status == 200, "{method} {path}: {answer:?}");
        Ok(answer.body)
    }

    /// It is refused with this status and error.
    pub async fn refused(&self, method: &str, path: &str, body: Option<Value>, status: u16, name: &str) -> Result<()> {
        let answer = self.ask(method, path, body).await?;
        ensure!((answer.status, answer.name()) == (status, name), "{method} {path}: not {status} {name}: {answer:?}");
        for field in ["code", "message", "retryable", "effect", "trace_id"] {
            ensure!(answer.body.get(field).is_some(), "an error says {field}: {answer:?}");
        }
        Ok(())
    }
}
