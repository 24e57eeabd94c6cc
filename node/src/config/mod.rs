//! The configuration of a node: TOML, with `CAMPANILE_SECTION__KEY` over it.
//!
//! `campanile config default` prints the manual: `golden/default.toml`. Unknown keys are refused with the
//! nearest right one, all problems are reported at once, and secrets are only ever named by their file.

mod files;
mod nearest;
mod parse;
mod problem;
mod reader;
mod secret;
mod units;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chat::ids::{AppId, NodeId};
use chat::limits;

pub use problem::{Place, Problem};
pub use secret::{SecretError, read_secret_text};

/// The commented default configuration, as `campanile config default` prints it.
pub const DEFAULT: &str = include_str!("../../golden/default.toml");

/// Everything a node is told. All paths are usable as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    pub node: NodeSection,
    pub cluster: ClusterSection,
    pub client: ListenerSection,
    pub peer: PeerSection,
    pub admin: AdminSection,
    pub storage: StorageSection,
    pub retention: RetentionSection,
    pub rates: RatesSection,
    pub keys: KeysSection,
    pub log: LogSection,
    pub apps: Vec<AppSection>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSection {
    pub id: NodeId,
    pub name: String,
    pub data_dir: PathBuf,
    /// What fails together with this node: a rack, a room, a provider's zone. Empty if there is nothing to say.
    pub zone: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSection {
    /// The cluster's UUID; empty until `campanile cluster init` has made one.
    pub id: String,
    pub shards: u16,
    pub heartbeat: Duration,
    pub election_min: Duration,
    pub election_max: Duration,
    /// Every node of the cluster, this one included. Empty means this node alone.
    pub members: Vec<MemberSection>,
    /// The feature level that the cluster is founded at.
    pub level: u16,
    /// This node came later than the cluster: written by `campanile node join`.
    pub joined: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberSection {
    pub id: NodeId,
    /// Where the other nodes reach it.
    pub peer: SocketAddr,
    /// Where clients reach it (`host:port`), told to them so that they can go elsewhere.
    pub client: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerSection {
    pub listen: SocketAddr,
    /// Off is for loopback addresses alone.
    pub tls: bool,
    pub certificate: PathBuf,
    pub private_key: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSection {
    pub listen: SocketAddr,
    pub certificate: PathBuf,
    pub private_key: PathBuf,
    /// The cluster's own certificate authority, which signs nothing but its nodes.
    pub ca: PathBuf,
}

/// The admin listener uses the client listener's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminSection {
    pub listen: SocketAddr,
    pub token_file: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageSection {
    pub cache_bytes: u64,
    /// Zero: only when asked for.
    pub scrub_every: Duration,
    pub scrub_bytes_per_s: u64,
    pub compact: Compact,
    /// The database is to be compacted if at least this share of it is dead, and it has so many bytes.
    pub compact_dead_percent: u8,
    pub compact_min_bytes: u64,
    /// A node that has started compacts by itself so much later at the soonest.
    pub compact_pause: Duration,
    /// Bytes free below which the node says so, and below which it leads nothing.
    pub warn_below_bytes: u64,
    pub stop_below_bytes: u64,
}

/// When a database of which enough is dead is compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compact {
    /// When the node starts, and while it runs: it begins again by itself when its turn comes.
    Auto,
    Start,
    Never,
}

/// How often what is not needed any more is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionSection {
    pub sweep_every: Duration,
    pub purge_every: Duration,
    pub collect_every: Duration,
    pub log_keep_entries: u64,
}

/// How often somebody may ask on this node, a second; 0 is as often as they like. A burst of two seconds' worth passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RatesSection {
    pub connections_per_ip: u32,
    pub logins_per_ip: u32,
    pub requests_per_user: u32,
    pub requests_per_device: u32,
    pub messages_per_conversation: u32,
    pub messages_per_app: u32,
}

impl RatesSection {
    /// No limits.
    pub fn none() -> Self {
        Self {
            connections_per_ip: 0,
            logins_per_ip: 0,
            requests_per_user: 0,
            requests_per_device: 0,
            messages_per_conversation: 0,
            messages_per_app: 0,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysSection {
    pub node_key: PathBuf,
    pub cluster_key: PathBuf,
    /// The authority's key, sealed; absent where nodes are not to let others join.
    pub ca_key: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSection {
    /// A level, or a filter such as `info,cluster=debug`.
    pub level: String,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people on a terminal, JSON elsewhere.
    Auto,
    Text,
    Json,
}

/// An app whose users log in with tokens it signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppSection {
    pub id: AppId,
    /// An Ed25519 public key, PEM.
    pub token_public_key: PathBuf,
}

impl Default for NodeConfig {
    fn default() -> Self {
        let listen = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            node: NodeSection { id: 1, name: "node-1".into(), data_dir: "data".into(), zone: String::new() },
            cluster: ClusterSection {
                id: String::new(),
                shards: limits::SHARDS_DEFAULT,
                heartbeat: Duration::from_millis(200),
                election_min: Duration::from_millis(600),
                election_max: Duration::from_millis(750),
                members: Vec::new(),
                level: chat::level::NEWEST,
                joined: false,
            },
            client: ListenerSection {
                listen: listen(7411),
                tls: true,
                certificate: "node.pem".into(),
                private_key: "node.key".into(),
            },
            peer: PeerSection {
                listen: listen(7412),
                certificate: "node.pem".into(),
                private_key: "node.key".into(),
                ca: "ca.pem".into(),
            },
            admin: AdminSection { listen: listen(7413), token_file: "keys/admin.token".into() },
            storage: StorageSection {
                cache_bytes: 64 << 20,
                scrub_every: Duration::from_millis(limits::SCRUB_EVERY_MS),
                scrub_bytes_per_s: limits::SCRUB_BYTES_PER_S,
                compact: Compact::Auto,
                compact_dead_percent: 80,
                compact_min_bytes: storage::COMPACT_MIN_BYTES,
                compact_pause: Duration::from_secs(3_600),
                warn_below_bytes: storage::DISK_WARN_BYTES,
                stop_below_bytes: storage::DISK_STOP_BYTES,
            },
            retention: RetentionSection {
                sweep_every: Duration::from_secs(60),
                purge_every: Duration::from_secs(30),
                collect_every: Duration::from_secs(900),
                log_keep_entries: 100_000,
            },
            rates: RatesSection {
                connections_per_ip: 2_000,
                logins_per_ip: 2_000,
                requests_per_user: 5_000,
                requests_per_device: 5_000,
                messages_per_conversation: 20_000,
                messages_per_app: 0,
            },
            keys: KeysSection {
                node_key: "keys/node.secret".into(),
                cluster_key: "keys/cluster.secret".into(),
                ca_key: "keys/ca.secret".into(),
            },
            log: LogSection { level: "info,openraft=error,actix_server=warn".into(), format: LogFormat::Auto },
            apps: Vec::new(),
        }
    }
}

/// The keys of a node, in memory.
pub struct Keys {
    pub node: storage::NodeKey,
    pub cluster: storage::ClusterKey,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} has {} problem(s)", path.display(), problems.len())]
    Invalid { path: PathBuf, problems: Vec<Problem> },
}

impl NodeConfig {
    /// Reads `path` with this process's environment over it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let base = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, &environment, base)
            .map_err(|problems| ConfigError::Invalid { path: path.to_owned(), problems })
    }

    /// Reads a document; relative paths in it start at `base`.
    pub fn parse(text: &str, environment: &BTreeMap<String, String>, base: &Path) -> Result<Self, Vec<Problem>> {
        parse::parse(text, environment, base)
    }

    /// Whether what the configuration names is there and fit to use, without opening the data.
    pub fn check_files(&self) -> Vec<Problem> {
        files::check(self)
    }

    /// Reads the keys from their files; refuses files others can read and keys anyone could guess.
    pub fn load_keys(&self) -> Result<Keys, SecretError> {
        let node = secret::node_key(&self.keys.node_key)?;
        let cluster = secret::cluster_key(&self.keys.cluster_key, &node)?;
        Ok(Keys { node, cluster })
    }

    /// What the storage engine is opened with.
    pub fn storage_options(&self, keys: &Keys) -> storage::EngineOptions {
        storage::EngineOptions {
            dir: self.node.data_dir.clone(),
            node_key: keys.node.clone(),
            identity: storage::Identity {
                cluster: self.cluster.id.clone(),
                node: self.node.id,
                name: self.node.name.clone(),
            },
            cache_bytes: self.storage.cache_bytes,
        }
    }

    /// When the database is to be compacted: while the node opens it, and perhaps while it runs.
    pub fn compaction(&self) -> storage::Compaction {
        let StorageSection { compact_dead_percent: percent, compact_min_bytes: min_bytes, .. } = self.storage;
        match self.storage.compact {
            Compact::Never => storage::Compaction::Never,
            Compact::Auto | Compact::Start => storage::Compaction::WhenDead { percent, min_bytes },
        }
    }

    /// `wss` or `ws`: how clients reach the nodes of this cluster.
    pub fn client_scheme(&self) -> &'static str {
        if self.client.tls { "wss" } else { "ws" }
    }

    /// Every node of the cluster; this node alone where none is listed.
    pub fn members(&self) -> Vec<MemberSection> {
        if self.cluster.members.is_empty() {
            let client = Some(self.client.listen.to_string());
            return vec![MemberSection { id: self.node.id, peer: self.peer.listen, client }];
        }
        self.cluster.members.clone()
    }
}

#[cfg(test)]
mod tests;
