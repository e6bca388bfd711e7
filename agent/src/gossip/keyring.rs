//! The file of gossip keys: a JSON list of base64 texts, the primary key first, as in Serf.

use crate::files::read_regular;
use kvgossip_membership::{Key, Keyring};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Maximum size of a keyring file, in bytes.
const MAX_LEN: usize = 16 * 1024;

/// The error of reading a keyring file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// The keyring file cannot be read.
    #[error("the keyring {} cannot be read: {error}", path.display())]
    Read {
        /// Path of the keyring file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The file is not a JSON list of one or more base64 keys of 16, 24 or 32 bytes.
    #[error(
        "the keyring {} does not hold a JSON list of one or more base64 keys of 16, 24 or 32 bytes: {reason}",
        path.display()
    )]
    Malformed {
        /// Path of the keyring file.
        path: PathBuf,
        /// What is wrong with the file's content.
        reason: String,
    },
}

/// Reads a keyring file, a JSON list of base64 keys.
pub fn read_keyring(path: &Path) -> Result<Keyring, KeyringError> {
    let failed = |error| KeyringError::Read { path: path.to_owned(), error };
    // Keys that are installed later are written to the same file, so a pipe is rejected.
    let bytes = read_regular(path, MAX_LEN).map_err(failed)?;
    let malformed =
        |reason: &dyn ToString| KeyringError::Malformed { path: path.to_owned(), reason: reason.to_string() };
    let keys: Vec<String> = serde_json::from_slice(&bytes).map_err(|error| malformed(&error))?;
    let mut ring: Option<Keyring> = None;
    for text in keys {
        let key = Key::from_base64(&text).map_err(|error| malformed(&error))?;
        match &mut ring {
            None => ring = Some(Keyring::new(key)),
            Some(ring) => ring.install(key).map_err(|error| malformed(&error))?,
        }
    }
    ring.ok_or_else(|| malformed(&"it is empty"))
}

/// Writes a keyring file atomically, readable by its owner alone.
pub(super) fn write_keyring(path: &Path, ring: &Keyring) -> io::Result<()> {
    let keys: Vec<String> = ring.keys().iter().map(Key::to_base64).collect();
    let mut text = serde_json::to_string_pretty(&keys)?;
    text.push('\n');
    write_private(path, text.as_bytes())
}

/// Writes a file atomically, readable by its owner alone.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    // A file left by an earlier attempt may be readable by others.
    let _ = std::fs::remove_file(&new);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn reads_what_it_writes_and_says_what_is_wrong() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("keyring");
        assert!(matches!(read_keyring(&path), Err(KeyringError::Read { .. })));
        let key = |byte| Key::new(&[byte; 32]).expect("a key");
        let mut ring = Keyring::new(key(1));
        ring.install(key(2)).expect("room");
        write_keyring(&path, &ring).expect("written");
        write_keyring(&path, &ring).expect("written again");
        assert_eq!(read_keyring(&path).expect("a ring"), ring);
        assert_eq!(std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        for bad in ["", "[]", "{}", "[\"x\"]", "[\"MTIz\"]", "[1]"] {
            std::fs::write(&path, bad).expect("written");
            assert!(matches!(read_keyring(&path), Err(KeyringError::Malformed { .. })), "{bad}");
        }
    }
}
