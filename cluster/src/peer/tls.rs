//! Mutual TLS between nodes: TLS 1.3 only, the cluster's own CA only, and the certificate must name the node.

use std::io;
use std::sync::Arc;

use chat::ids::{NodeId, peer_name};
use rustls::client::WebPkiServerVerifier;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// This node's certificate, its key, and the cluster CA that signed it and every peer's.
pub struct PeerTls {
    pub ca: Vec<CertificateDer<'static>>,
    pub certificate: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

/// Why the material cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the cluster CA is not usable: {0}")]
    Ca(String),
    #[error("the node's certificate and key are not usable")]
    Certificate(#[source] rustls::Error),
}

static VERSIONS: [&rustls::SupportedProtocolVersion; 1] = [&rustls::version::TLS13];

impl PeerTls {
    pub(crate) fn configs(&self) -> Result<(Arc<ClientConfig>, Arc<ServerConfig>), TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in &self.ca {
            roots.add(certificate.clone()).map_err(|error| TlsError::Ca(error.to_string()))?;
        }
        let roots = Arc::new(roots);
        let server_verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| TlsError::Ca(error.to_string()))?;
        let client_verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|error| TlsError::Ca(error.to_string()))?;
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&VERSIONS)
            .map_err(TlsError::Certificate)?
            .with_webpki_verifier(server_verifier)
            .with_client_auth_cert(self.certificate.clone(), self.key.clone_key())
            .map_err(TlsError::Certificate)?;
        let server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&VERSIONS)
            .map_err(TlsError::Certificate)?
            .with_client_cert_verifier(client_verifier)
            .with_single_cert(self.certificate.clone(), self.key.clone_key())
            .map_err(TlsError::Certificate)?;
        Ok((Arc::new(client), Arc::new(server)))
    }
}

/// The name a dialled peer's certificate must carry.
pub(crate) fn server_name(cluster: &str, node: NodeId) -> io::Result<ServerName<'static>> {
    ServerName::try_from(peer_name(cluster, node)).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// Whether the certificate of an accepted connection names `node` of `cluster`.
pub(crate) fn names(certificate: &CertificateDer<'_>, cluster: &str, node: NodeId) -> bool {
    let Ok((_, parsed)) = x509_parser::certificate::X509Certificate::from_der(certificate) else {
        return false;
    };
    let expected = peer_name(cluster, node);
    let Ok(Some(names)) = parsed.subject_alternative_name() else {
        return false;
    };
    names.value.general_names.iter().any(|name| matches!(name, GeneralName::DNSName(name) if *name == expected))
}
