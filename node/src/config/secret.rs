//! Secret files: only the owner may read them, and what they hold must be a key.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("cannot read the secret file {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} can be read by others (mode {mode:03o}); run: chmod 600 {}", path.display(), path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{} holds no 32-byte key in base64", path.display())]
    Form { path: PathBuf },
    #[error("{} holds a key that anyone could guess; make one with: head -c 32 /dev/urandom | base64", path.display())]
    Weak { path: PathBuf },
}

/// A text secret (a token, a password), trimmed, from a file only its owner can read.
pub fn read_secret_text(path: &Path) -> Result<Zeroizing<String>, SecretError> {
    let read = |source| SecretError::Read { path: path.to_owned(), source };
    let mode = std::fs::metadata(path).map_err(read)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Exposed { path: path.to_owned(), mode });
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(read)?);
    match text.trim() {
        "" => Err(SecretError::Weak { path: path.to_owned() }),
        trimmed => Ok(Zeroizing::new(trimmed.to_owned())),
    }
}

/// A 32-byte key, base64, from a file only its owner can read.
pub fn read_secret(path: &Path) -> Result<Zeroizing<[u8; 32]>, SecretError> {
    let text = read_secret_text(path)?;
    let form = || SecretError::Form { path: path.to_owned() };
    let bytes = Zeroizing::new(STANDARD.decode(text.as_bytes()).map_err(|_| form())?);
    let key = Zeroizing::new(<[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| form())?);
    if is_weak(&key) { Err(SecretError::Weak { path: path.to_owned() }) } else { Ok(key) }
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
    fn a_random_key_in_a_private_file_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut key = [0; 32];
        getrandom::fill(&mut key).unwrap();
        let path = file(&dir, &format!("{}\n", STANDARD.encode(key)), 0o600);
        assert_eq!(*read_secret(&path).unwrap(), key);
    }

    #[test]
    fn exposed_missing_and_malformed_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let exposed = file(&dir, "x", 0o640);
        assert!(matches!(read_secret(&exposed), Err(SecretError::Exposed { mode: 0o640, .. })));
        let missing = dir.path().join("none");
        assert!(matches!(read_secret(&missing), Err(SecretError::Read { .. })));
        let short = file(&dir, "c2hvcnQ=", 0o600);
        assert!(matches!(read_secret(&short), Err(SecretError::Form { .. })));
        let empty = file(&dir, "", 0o600);
        assert!(matches!(read_secret(&empty), Err(SecretError::Weak { .. })));
    }

    #[test]
    fn placeholders_are_weak() {
        let counting: [u8; 32] = std::array::from_fn(|i| i as u8);
        for key in [[0; 32], [0xff; 32], counting, *b"change-me-change-me-change-me!!!"] {
            assert!(is_weak(&key), "{key:?}");
        }
    }
}
