//! Who a data directory belongs to: `identity.toml` for people, its sealed twin in the database against mix-ups.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chat::ids::NodeId;
use serde::{Deserialize, Serialize};

use crate::error::OpenError;
use crate::secret::NodeKey;

const FILE: &str = "identity.toml";
const FORMAT: u32 = 1;
const CHECK_CONTEXT: &str = "campanile 2026 storage node key check v1";

/// Who a data directory belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's UUID as text.
    pub cluster: String,
    pub node: NodeId,
    /// For people only.
    pub name: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    format: u32,
    cluster: String,
    node: NodeId,
    name: String,
    /// A digest under the node key: another key is told from damaged records.
    key_check: String,
}

fn key_check(key: &NodeKey) -> String {
    let derived = key.derive(CHECK_CONTEXT);
    blake3::keyed_hash(&derived, b"campanile").to_hex()[..32].to_owned()
}

pub(crate) fn exists(dir: &Path) -> bool {
    dir.join(FILE).exists()
}

/// The last step of creating a data directory: with this file it is one.
pub(crate) fn write(dir: &Path, identity: &Identity, key: &NodeKey) -> Result<(), OpenError> {
    let content = IdentityFile {
        format: FORMAT,
        cluster: identity.cluster.clone(),
        node: identity.node,
        name: identity.name.clone(),
        key_check: key_check(key),
    };
    let text = toml::to_string(&content).map_err(|error| corrupt(dir.join(FILE), error.to_string()))?;
    let staged = dir.join("identity.toml.creating");
    write_synced(&staged, text.as_bytes()).map_err(io_error("writing", &staged))?;
    fs::rename(&staged, dir.join(FILE)).map_err(io_error("naming", &staged))?;
    sync_dir(dir)
}

/// Refuses a directory that is not this node's.
pub(crate) fn check(dir: &Path, expected: &Identity, key: &NodeKey) -> Result<(), OpenError> {
    let path = dir.join(FILE);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(OpenError::Missing { dir: dir.into() }),
        other => other.map_err(io_error("reading", &path))?,
    };
    let found: IdentityFile = toml::from_str(&text).map_err(|error| corrupt(path.clone(), error.to_string()))?;
    if found.format != FORMAT {
        return Err(corrupt(path, format!("format {} is not known here, this build speaks {FORMAT}", found.format)));
    }
    if found.cluster != expected.cluster {
        let expected = expected.cluster.clone();
        return Err(OpenError::OtherCluster { dir: dir.into(), found: found.cluster, expected });
    }
    if found.node != expected.node {
        return Err(OpenError::OtherNode { dir: dir.into(), found: found.node, expected: expected.node });
    }
    if found.key_check != key_check(key) {
        return Err(OpenError::WrongKey { dir: dir.into() });
    }
    Ok(())
}

fn corrupt(place: PathBuf, what: String) -> OpenError {
    OpenError::Corrupt { place, what }
}

pub(crate) fn io_error(what: &'static str, place: &Path) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Io { what, place: place.into(), source }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A name just given survives a power cut only once its directory is synced.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), OpenError> {
    File::open(dir).and_then(|file| file.sync_all()).map_err(io_error("syncing", dir))
}
