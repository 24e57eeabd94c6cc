//! TLS of the listeners that clients, browsers and operators connect to. Peers have their own, in `cluster`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    #[error("{} holds no certificate in PEM: {source}", path.display())]
    Certificate { path: PathBuf, source: rustls_pki_types::pem::Error },
    #[error("{} holds no private key in PEM: {source}", path.display())]
    PrivateKey { path: PathBuf, source: rustls_pki_types::pem::Error },
    #[error("the certificate {} and its private key do not fit: {source}", path.display())]
    Pair { path: PathBuf, source: rustls::Error },
}

/// TLS 1.3 only. No resumption tickets are kept for the next process: a restarted node asks for a full handshake.
pub fn server_config(certificate: &Path, private_key: &Path) -> Result<ServerConfig, TlsFileError> {
    let bad_certificate = |source| TlsFileError::Certificate { path: certificate.to_owned(), source };
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect).map_err(bad_certificate)?;
    if chain.is_empty() {
        return Err(bad_certificate(rustls_pki_types::pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_file(private_key)
        .map_err(|source| TlsFileError::PrivateKey { path: private_key.to_owned(), source })?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|source| TlsFileError::Pair { path: certificate.to_owned(), source })
}
