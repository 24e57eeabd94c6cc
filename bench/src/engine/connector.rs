//! Where connections go: the nodes' addresses, and how TLS is spoken with them.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::connection::Connection;

#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    #[error("{url:?} is not ws://host:port or wss://host:port")]
    Url { url: String },
    #[error("{url} leads nowhere")]
    Address { url: String, source: io::Error },
    #[error("there is no CA to trust: give --ca")]
    NoCa,
    #[error("the CA: {0}")]
    Ca(String),
}

/// One node.
#[derive(Debug, Clone)]
struct Place {
    address: SocketAddr,
    /// `host:port`, for the upgrade.
    host: String,
    name: Option<ServerName<'static>>,
}

#[derive(Clone)]
pub struct Connector {
    places: Vec<Place>,
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl Connector {
    /// One place per URL; all of them with TLS or all without.
    pub fn new(urls: &[String], ca_pem: &[u8]) -> Result<Self, ConnectorError> {
        let places = urls.iter().map(|url| place(url)).collect::<Result<Vec<_>, _>>()?;
        let tls = places.iter().any(|place| place.name.is_some()).then(|| config(ca_pem)).transpose()?;
        Ok(Self { places, tls })
    }

    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    pub fn nodes(&self) -> usize {
        self.places.len()
    }

    pub(super) fn host(&self, node: usize) -> &str {
        &self.places[node % self.places.len()].host
    }

    pub(super) fn connect(&self, node: usize) -> io::Result<Connection> {
        let place = &self.places[node % self.places.len()];
        let socket = TcpStream::connect(place.address)?;
        let tls = match (&place.name, &self.tls) {
            (Some(name), Some(config)) => {
                Some(rustls::ClientConnection::new(config.clone(), name.clone()).map_err(io::Error::other)?)
            }
            _ => None,
        };
        Ok(Connection::new(socket, tls))
    }
}

fn place(url: &str) -> Result<Place, ConnectorError> {
    let wrong = || ConnectorError::Url { url: url.to_owned() };
    let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
    let tls = match scheme {
        "ws" => false,
        "wss" => true,
        _ => return Err(wrong()),
    };
    let host = rest.split('/').next().unwrap_or_default();
    let (name, _) = host.rsplit_once(':').ok_or_else(wrong)?;
    let addresses = host.to_socket_addrs();
    let mut addresses = addresses.map_err(|source| ConnectorError::Address { url: url.to_owned(), source })?;
    let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(Place {
        address: addresses.next().ok_or_else(wrong)?,
        host: host.to_owned(),
        name: tls.then(|| ServerName::try_from(name)).transpose().map_err(|_| wrong())?,
    })
}

fn config(ca_pem: &[u8]) -> Result<Arc<rustls::ClientConfig>, ConnectorError> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem) {
        let certificate = certificate.map_err(|error| ConnectorError::Ca(format!("{error:?}")))?;
        roots.add(certificate).map_err(|error| ConnectorError::Ca(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(ConnectorError::NoCa);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConnectorError::Ca(error.to_string()))?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lead_to_places() {
        let urls = ["ws://127.0.0.1:7411/v1/connect".to_owned(), "ws://[::1]:1".to_owned()];
        let connector = Connector::new(&urls, b"").unwrap();
        assert_eq!((connector.is_tls(), connector.nodes(), connector.host(2)), (false, 2, "127.0.0.1:7411"));
        assert!(matches!(Connector::new(&["http://a:1".to_owned()], b""), Err(ConnectorError::Url { .. })));
        assert!(matches!(Connector::new(&["wss://127.0.0.1:1".to_owned()], b""), Err(ConnectorError::NoCa)));
    }
}
