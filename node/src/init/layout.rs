//! Where everything of a cluster directory is, and which ports its nodes use.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use chat::ids::NodeId;

/// The app that every new cluster has.
pub const MAIN_APP: &str = "main";

/// The files of a cluster made by `campanile cluster init`. A node's directory is complete in itself: move it
/// to its machine and start the node there.
#[derive(Debug, Clone)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What clients and operators trust.
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    pub fn ca_key(&self) -> PathBuf {
        self.dir.join("ca.key")
    }

    pub fn admin_token(&self) -> PathBuf {
        self.dir.join("admin.token")
    }

    /// The key that signs an app's user tokens; belongs on the app's own servers.
    pub fn app_key(&self, app: &str) -> PathBuf {
        self.dir.join("apps").join(format!("{app}.key"))
    }

    pub fn node_dir(&self, node: NodeId) -> PathBuf {
        self.dir.join(format!("node-{node}"))
    }

    /// The nodes that have a directory here, in order.
    pub fn nodes(&self) -> Vec<NodeId> {
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let node = |entry: std::fs::DirEntry| entry.file_name().to_str()?.strip_prefix("node-")?.parse().ok();
        let mut nodes: Vec<NodeId> = entries.filter_map(node).filter(|node| self.config(*node).is_file()).collect();
        nodes.sort_unstable();
        nodes
    }

    pub fn config(&self, node: NodeId) -> PathBuf {
        self.node_dir(node).join("campanile.toml")
    }

    /// Standard output and error of a node started from here.
    pub fn log(&self, node: NodeId) -> PathBuf {
        self.node_dir(node).join("node.log")
    }
}

/// A node's three listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    pub client: SocketAddr,
    pub peer: SocketAddr,
    pub admin: SocketAddr,
}

impl Addresses {
    /// `base + 10 * node + 1, 2, 3`; none if that is not a port.
    pub fn of(host: IpAddr, base: u16, node: NodeId) -> Option<Self> {
        let first = u64::from(base).checked_add(node.checked_mul(10)?)?;
        Self::from(host, u16::try_from(first).ok()?)
    }

    /// `first + 1, 2, 3`; none if that is not a port.
    pub fn from(host: IpAddr, first: u16) -> Option<Self> {
        let at = |offset| Some(SocketAddr::new(host, first.checked_add(offset)?));
        Some(Self { client: at(1)?, peer: at(2)?, admin: at(3)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_follow_the_node_and_end_at_the_last_port() {
        let host = IpAddr::from([127, 0, 0, 1]);
        let addresses = Addresses::of(host, 7400, 1).unwrap();
        assert_eq!(addresses.client.to_string(), "127.0.0.1:7411");
        assert_eq!(addresses.peer.port(), 7412);
        assert_eq!(Addresses::of(host, 7400, 3).unwrap().admin.port(), 7433);
        assert_eq!(Addresses::of(host, 65_530, 1), None);
        assert_eq!(Addresses::of(host, 7400, u64::MAX), None);
    }
}
