//! The cluster a run goes against: where it is, whom to trust, how to log in.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use campanile_client::chat::ids::{AppId, DeviceId, IdError, UserId};
use campanile_client::{ClientOptions, Tls, TlsError};
use node::admin::AdminClient;
use node::auth::signer::{SignError, TokenSigner};

/// How long a user's token is good for; a replay in real time lasts hours.
const TOKEN_LIFETIME: Duration = Duration::from_secs(20 * 3_600);

/// A cluster that runs already.
#[derive(Clone)]
pub struct TargetOptions {
    /// `wss://…` of every node: histories are compared between them.
    pub urls: Vec<String>,
    pub ca_pem: Vec<u8>,
    /// The Ed25519 key (PKCS#8 PEM) that signs tokens of the app's users.
    pub app_key_pem: String,
    pub app: AppId,
    /// The admin listener of every node, to compare the replicas' digests; may be none.
    pub admins: Vec<AdminClient>,
}

/// Why a cluster cannot be addressed.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the app key: {0}")]
    Sign(#[from] SignError),
    #[error(transparent)]
    Id(#[from] IdError),
}

pub struct Target {
    pub urls: Vec<String>,
    pub app: AppId,
    /// One per node, if the cluster's state may be asked for.
    pub admins: Vec<AdminClient>,
    tls: Tls,
    signer: TokenSigner,
}

impl Target {
    pub fn new(options: TargetOptions) -> Result<Self, TargetError> {
        Ok(Self {
            tls: Tls::from_ca_pem(&options.ca_pem)?,
            signer: TokenSigner::new(options.app.clone(), &options.app_key_pem)?.lasting(TOKEN_LIFETIME),
            admins: options.admins,
            urls: options.urls,
            app: options.app,
        })
    }

    /// How `user` connects: to the node at place `first`, or to the next ones if it fails.
    pub fn client(&self, user: &UserId, device: &str, first: usize) -> Result<ClientOptions, TargetError> {
        let mut urls = self.urls.clone();
        let places = urls.len().max(1);
        urls.rotate_left(first % places);
        self.client_at(urls, user, device)
    }

    /// How `user` connects to one node and no other.
    pub fn client_of_node(&self, user: &UserId, device: &str, node: usize) -> Result<ClientOptions, TargetError> {
        self.client_at(vec![self.urls[node].clone()], user, device)
    }

    fn client_at(&self, urls: Vec<String>, user: &UserId, device: &str) -> Result<ClientOptions, TargetError> {
        let credentials = self.signer.credentials(user)?;
        let mut options = ClientOptions::new(urls, self.tls.clone(), credentials, DeviceId::new(device)?);
        // A cluster under the load of thousands of logins answers late; that is no failure here.
        options.connect_timeout = Duration::from_secs(60);
        Ok(options)
    }
}

/// Unix milliseconds.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
