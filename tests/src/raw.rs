//! A client without manners: sends any text, reads any frame. For what the protocol answers to misuse.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio_rustls::{TlsConnector, rustls};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};

/// Longer than the login timeout of the service.
const PATIENCE: Duration = Duration::from_secs(15);

pub struct Raw {
    socket: WebSocketStream<TlsStream<TcpStream>>,
    packed: bool,
}

/// What came from the service.
#[derive(Debug)]
pub enum Heard {
    Frame(Value),
    Closed(u16),
}

impl Raw {
    /// Connects to `wss://host:port/path` with the service's subprotocol.
    pub async fn connect(url: &str, ca_pem: &[u8]) -> Result<Self> {
        Self::connect_with(TcpSocket::new_v4()?, url, ca_pem).await
    }

    /// Connects with the subprotocol whose frames are MessagePack; [`Self::text`] and [`Self::hear`] speak of them as JSON.
    pub async fn connect_packed(url: &str, ca_pem: &[u8]) -> Result<Self> {
        let raw = Self::dial(TcpSocket::new_v4()?, url, Some(chat::wire::SUBPROTOCOL_PACKED), ca_pem).await??;
        Ok(Self { packed: true, ..raw })
    }

    /// Connects with a socket of the caller's making.
    pub async fn connect_with(tcp: TcpSocket, url: &str, ca_pem: &[u8]) -> Result<Self> {
        Ok(Self::dial(tcp, url, Some(chat::wire::SUBPROTOCOL), ca_pem).await??)
    }

    /// Status and body with which the service refuses a connection that offers `protocol`.
    pub async fn refused(url: &str, protocol: Option<&str>, ca_pem: &[u8]) -> Result<(u16, Vec<u8>)> {
        match Self::dial(TcpSocket::new_v4()?, url, protocol, ca_pem).await? {
            Err(tungstenite::Error::Http(answer)) => {
                let status = answer.status().as_u16();
                Ok((status, answer.into_body().unwrap_or_default()))
            }
            Err(error) => Err(error.into()),
            Ok(_) => bail!("the service took the connection"),
        }
    }

    async fn dial(
        tcp: TcpSocket,
        url: &str,
        protocol: Option<&str>,
        ca_pem: &[u8],
    ) -> Result<Result<Self, tungstenite::Error>> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca_pem) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut request = url.into_client_request()?;
        if let Some(protocol) = protocol {
            request.headers_mut().insert("sec-websocket-protocol", protocol.parse()?);
        }
        let host = request.uri().host().context("a host")?.to_owned();
        let port = request.uri().port_u16().context("a port")?;
        let tcp = tcp.connect(SocketAddr::new(host.parse()?, port)).await?;
        let tls = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(host)?, tcp).await?;
        let connected = tokio_tungstenite::client_async(request, tls).await;
        Ok(connected.map(|(socket, _)| Self { socket, packed: false }))
    }

    pub async fn text(&mut self, text: impl Into<String>) -> Result<()> {
        let text = text.into();
        let message = if self.packed { Message::binary(chat::packed::pack(&text)?) } else { Message::text(text) };
        Ok(self.socket.send(message).await?)
    }

    pub async fn binary(&mut self, bytes: Vec<u8>) -> Result<()> {
        Ok(self.socket.send(Message::binary(bytes)).await?)
    }

    /// The next frame or the end.
    pub async fn hear(&mut self) -> Result<Heard> {
        loop {
            let next = timeout(PATIENCE, self.socket.next()).await.context("nothing was heard in time")?;
            match next {
                Some(Ok(Message::Text(text))) if !self.packed => return Ok(Heard::Frame(serde_json::from_str(&text)?)),
                Some(Ok(Message::Binary(packed))) if self.packed => {
                    return Ok(Heard::Frame(serde_json::from_str(&chat::packed::unpack(&packed)?)?));
                }
                Some(Ok(Message::Close(Some(close)))) => return Ok(Heard::Closed(close.code.into())),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => bail!("an unexpected message: {other:?}"),
                Some(Err(error)) => bail!("the connection broke: {error}"),
                None => bail!("the connection ended without a close frame"),
            }
        }
    }

    /// The next frame, which must be an error: its name and what it answers.
    pub async fn error(&mut self) -> Result<(String, Option<u64>)> {
        let frame = self.frame().await?;
        if frame["type"] != "error" {
            bail!("not an error: {frame}");
        }
        for field in ["code", "message", "retryable", "effect", "trace_id"] {
            frame.get(field).with_context(|| format!("an error says {field}: {frame}"))?;
        }
        Ok((frame["name"].as_str().context("a name")?.to_owned(), frame["re"].as_u64()))
    }

    pub async fn frame(&mut self) -> Result<Value> {
        match self.hear().await? {
            Heard::Frame(frame) => Ok(frame),
            Heard::Closed(code) => bail!("closed with {code}"),
        }
    }

    pub async fn closed(&mut self) -> Result<u16> {
        match self.hear().await? {
            Heard::Closed(code) => Ok(code),
            Heard::Frame(frame) => bail!("not closed but {frame}"),
        }
    }
}
