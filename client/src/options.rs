//! How to connect.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chat::ids::DeviceId;
use chat::wire::{Credentials, Device, Position};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::error::TlsError;

/// Credentials on their way, or why there are none.
pub type CredentialsFuture = Pin<Box<dyn Future<Output = Result<Credentials, String>> + Send>>;

/// Where credentials come from. Asked before every connection.
#[derive(Clone)]
pub enum Auth {
    Fixed(Credentials),
    /// For tokens that expire: asked anew for each login.
    Refreshed(Arc<dyn Fn() -> CredentialsFuture + Send + Sync>),
}

impl From<Credentials> for Auth {
    fn from(credentials: Credentials) -> Self {
        Self::Fixed(credentials)
    }
}

/// Whom to trust: TLS 1.3 with the roots of the service's CA. Cheap to clone, meant to be shared by many clients.
#[derive(Clone)]
pub struct Tls(pub(crate) Arc<rustls::ClientConfig>);

impl Tls {
    /// Trusts the certificates of a PEM file.
    pub fn from_ca_pem(pem: &[u8]) -> Result<Self, TlsError> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate.map_err(|e| TlsError::Pem(e.to_string()))?)?;
        }
        Self::from_roots(roots)
    }

    /// Trusts the given roots.
    pub fn from_roots(roots: rustls::RootCertStore) -> Result<Self, TlsError> {
        if roots.is_empty() {
            return Err(TlsError::Empty);
        }
        // Given explicitly: an embedding program may have installed another provider, or none.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }
}

/// Everything a client needs. [`ClientOptions::new`] fills in what is usual.
#[derive(Clone)]
pub struct ClientOptions {
    /// `wss://host:port[/v1/connect]` of one or more nodes; the next one is tried when one fails. `ws://` is taken for
    /// a loopback address only.
    pub urls: Vec<String>,
    pub tls: Tls,
    pub auth: Auth,
    pub device: Device,
    /// What the user holds from an earlier run: events after it follow. Other conversations start at their head.
    pub have: Vec<Position>,
    /// How long [`crate::Client::connect`] tries.
    pub connect_timeout: Duration,
    /// How long a request is tried, over reconnects.
    pub request_timeout: Duration,
    pub encoding: Encoding,
}

/// How frames are written on the wire. They say the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Encoding {
    #[default]
    Json,
    /// A fifth to a third fewer bytes.
    MessagePack,
}

impl ClientOptions {
    pub fn new(urls: Vec<String>, tls: Tls, auth: impl Into<Auth>, device: DeviceId) -> Self {
        Self {
            urls,
            tls,
            auth: auth.into(),
            device: Device { id: device, platform: "server".to_owned(), name: String::new() },
            have: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            encoding: Encoding::default(),
        }
    }
}
