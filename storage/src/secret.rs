//! Keys in memory and in files. Zeroized when dropped, never printed.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::seal::{Place, Sealer};

/// The key that seals everything a node stores. Held outside the data directory.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct NodeKey([u8; 32]);

/// The key that seals message bodies, the same on every node of a cluster. Stored sealed with each node's key.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ClusterKey([u8; 32]);

const SECRET_CONTEXT: &str = "campanile 2026 storage secret file v1";
const CLUSTER_KEY_CONTEXT: &str = "campanile 2026 storage cluster key file v1";

pub(crate) fn random_key() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

impl NodeKey {
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn generate() -> Self {
        Self(random_key())
    }

    /// Reads a key file: 64 hexadecimal digits.
    pub fn load(path: &Path) -> io::Result<Self> {
        load_hex(path).map(Self)
    }

    /// Writes a new key file that only its owner may read. An existing file is left alone and refused.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        save_hex(path, self.0)
    }

    /// A key of its own for one use, so that no two uses share a cipher key.
    pub(crate) fn derive(&self, context: &str) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake3::derive_key(context, &self.0))
    }
}

impl NodeKey {
    /// Writes a secret to a new file, sealed under this key and bound to its `name`. An existing file is left alone and refused.
    pub fn save_secret(&self, path: &Path, name: &str, secret: &[u8]) -> io::Result<()> {
        write_private(path, &Sealer::new(&self.derive(SECRET_CONTEXT)).seal(&Place::named(name), secret))
    }

    /// Reads a file written by [`NodeKey::save_secret`] under the same key and name.
    pub fn load_secret(&self, path: &Path, name: &str) -> io::Result<Zeroizing<Vec<u8>>> {
        let opened = Sealer::new(&self.derive(SECRET_CONTEXT)).open(&Place::named(name), &fs::read(path)?);
        opened.map(Zeroizing::new).map_err(|error| invalid(path, &error.to_string()))
    }
}

impl ClusterKey {
    /// As text, to be handed to a node that joins: never logged, never stored like this.
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(blake3::Hash::from_bytes(self.0).to_hex().to_string())
    }

    /// What [`ClusterKey::reveal`] gave; none if it is not that.
    pub fn revealed(text: &str) -> Option<Self> {
        parse_hex(text).map(Self)
    }

    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn generate() -> Self {
        Self(random_key())
    }

    /// Reads a file written by [`ClusterKey::save`] with the same node key.
    pub fn load(path: &Path, node_key: &NodeKey) -> io::Result<Self> {
        let sealed = fs::read(path)?;
        let plain = Zeroizing::new(
            Sealer::new(&node_key.derive(CLUSTER_KEY_CONTEXT))
                .open(&Place::named("cluster key"), &sealed)
                .map_err(|error| invalid(path, &error.to_string()))?,
        );
        plain.as_slice().try_into().map(Self).map_err(|_| invalid(path, "does not hold 32 bytes"))
    }

    /// Writes a new file, sealed with the node's key. An existing file is left alone and refused.
    pub fn save(&self, path: &Path, node_key: &NodeKey) -> io::Result<()> {
        let sealed = Sealer::new(&node_key.derive(CLUSTER_KEY_CONTEXT)).seal(&Place::named("cluster key"), &self.0);
        write_private(path, &sealed)
    }

    pub(crate) fn derive(&self, context: &str) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake3::derive_key(context, &self.0))
    }

    /// For sealing it under another key.
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKey(..)")
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey(..)")
    }
}

/// Reads 64 hexadecimal digits.
pub(crate) fn load_hex(path: &Path) -> io::Result<[u8; 32]> {
    let text = Zeroizing::new(fs::read_to_string(path)?);
    parse_hex(text.trim()).ok_or_else(|| invalid(path, "is not 64 hexadecimal digits"))
}

/// Writes what [`load_hex`] reads to a new file.
pub(crate) fn save_hex(path: &Path, key: [u8; 32]) -> io::Result<()> {
    let mut text = Zeroizing::new(blake3::Hash::from_bytes(key).to_hex().to_string());
    text.push('\n');
    write_private(path, text.as_bytes())
}

fn parse_hex(text: &str) -> Option<[u8; 32]> {
    blake3::Hash::from_hex(text).ok().map(|hash| *hash.as_bytes())
}

fn invalid(path: &Path, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{} {what}", path.display()))
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_from_their_files_and_are_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let (node_path, cluster_path) = (dir.path().join("node.key"), dir.path().join("cluster.key"));
        let (node, cluster) = (NodeKey::generate(), ClusterKey::generate());
        node.save(&node_path).unwrap();
        cluster.save(&cluster_path, &node).unwrap();

        assert_eq!(NodeKey::load(&node_path).unwrap().0, node.0);
        assert_eq!(ClusterKey::load(&cluster_path, &node).unwrap().0, cluster.0);
        assert_eq!(node.save(&node_path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(format!("{node:?} {cluster:?}"), "NodeKey(..) ClusterKey(..)");
    }

    #[test]
    fn a_secret_opens_under_its_own_key_and_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.secret");
        let node = NodeKey::generate();
        node.save_secret(&path, "ca key", b"secret").unwrap();
        assert_eq!(*node.load_secret(&path, "ca key").unwrap(), b"secret");
        assert!(node.load_secret(&path, "cluster key").is_err());
        assert!(NodeKey::generate().load_secret(&path, "ca key").is_err());
    }

    #[test]
    fn a_revealed_cluster_key_is_the_same() {
        let key = ClusterKey::generate();
        assert_eq!(ClusterKey::revealed(&key.reveal()).unwrap().0, key.0);
        assert!(ClusterKey::revealed("abc").is_none());
    }

    #[test]
    fn a_cluster_key_does_not_open_with_another_node_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.key");
        ClusterKey::generate().save(&path, &NodeKey::generate()).unwrap();
        let error = ClusterKey::load(&path, &NodeKey::generate()).unwrap_err();
        assert!(error.to_string().contains("the seal does not open"), "{error}");
    }
}
