//! Secret files: only the owner may read them, and what they hold must be a key.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use storage::{ClusterKey, NodeKey};
use zeroize::Zeroizing;

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("cannot read the secret file {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} can be read by others (mode {mode:03o}); run: chmod 600 {}", path.display(), path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{} holds no key: 64 hexadecimal digits are expected", path.display())]
    Form { path: PathBuf },
    #[error("{} holds a key that anyone could guess; `campanile cluster init` makes random ones", path.display())]
    Weak { path: PathBuf },
}

/// Refuses a file that anyone but its owner may read or write.
fn exposure(path: &Path) -> Result<(), SecretError> {
    let metadata = std::fs::metadata(path).map_err(|source| SecretError::Read { path: path.to_owned(), source })?;
    match metadata.permissions().mode() & 0o777 {
        mode if mode & 0o077 == 0 => Ok(()),
        mode => Err(SecretError::Exposed { path: path.to_owned(), mode }),
    }
}

/// A text secret (a token, a password), trimmed, from a file only its owner can read.
pub fn read_secret_text(path: &Path) -> Result<Zeroizing<String>, SecretError> {
    exposure(path)?;
    let read = |source| SecretError::Read { path: path.to_owned(), source };
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(read)?);
    match text.trim() {
        "" => Err(SecretError::Weak { path: path.to_owned() }),
        trimmed => Ok(Zeroizing::new(trimmed.to_owned())),
    }
}

/// The key that seals everything this node stores: 64 hexadecimal digits in a file only its owner can read.
pub(super) fn node_key(path: &Path) -> Result<NodeKey, SecretError> {
    let text = read_secret_text(path)?;
    let form = || SecretError::Form { path: path.to_owned() };
    let key = Zeroizing::new(*blake3::Hash::from_hex(text.as_bytes()).map_err(|_| form())?.as_bytes());
    if is_weak(&key) { Err(SecretError::Weak { path: path.to_owned() }) } else { Ok(NodeKey::from_bytes(*key)) }
}

/// The key that seals message bodies: a file only its owner can read, sealed with the node's key.
pub(super) fn cluster_key(path: &Path, node_key: &NodeKey) -> Result<ClusterKey, SecretError> {
    exposure(path)?;
    ClusterKey::load(path, node_key).map_err(|source| SecretError::Read { path: path.to_owned(), source })
}

/// Keys that are placeholders rather than random: few distinct bytes, counting bytes, or plain text.
/// A random key is taken for one of these with a probability below 2^-40.
fn is_weak(key: &[u8; 32]) -> bool {
    let distinct = key.iter().collect::<std::collections::BTreeSet<_>>().len();
    let steady = key.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) == key[1].wrapping_sub(key[0]));
    let text = key.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    distinct < 12 || steady || text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &tempfile::TempDir, content: &str, mode: u32) -> PathBuf {
        let path = dir.path().join(format!("secret-{mode:o}-{}", content.len()));
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn random_keys_in_private_files_are_read_and_exposed_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let (node_path, cluster_path) = (dir.path().join("node"), dir.path().join("cluster"));
        let node = NodeKey::generate();
        node.save(&node_path).unwrap();
        ClusterKey::generate().save(&cluster_path, &node).unwrap();
        let read = node_key(&node_path).unwrap();
        assert!(cluster_key(&cluster_path, &read).is_ok());
        assert!(cluster_key(&cluster_path, &NodeKey::generate()).is_err());
        std::fs::set_permissions(&cluster_path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(cluster_key(&cluster_path, &read), Err(SecretError::Exposed { mode: 0o644, .. })));
    }

    #[test]
    fn exposed_missing_and_malformed_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let exposed = file(&dir, "x", 0o640);
        assert!(matches!(node_key(&exposed), Err(SecretError::Exposed { mode: 0o640, .. })));
        let missing = dir.path().join("none");
        assert!(matches!(node_key(&missing), Err(SecretError::Read { .. })));
        let short = file(&dir, "abcdef", 0o600);
        assert!(matches!(node_key(&short), Err(SecretError::Form { .. })));
        let empty = file(&dir, "", 0o600);
        assert!(matches!(node_key(&empty), Err(SecretError::Weak { .. })));
        let zeros = file(&dir, &"0".repeat(64), 0o600);
        assert!(matches!(node_key(&zeros), Err(SecretError::Weak { .. })));
    }

    #[test]
    fn placeholders_are_weak() {
        let counting: [u8; 32] = std::array::from_fn(|i| i as u8);
        for key in [[0; 32], [0xff; 32], counting, *b"change-me-change-me-change-me!!!"] {
            assert!(is_weak(&key), "{key:?}");
        }
    }
}
