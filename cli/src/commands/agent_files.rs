//! Files of a replica: directory, replica key, root key and list of admitted replicas.

use crate::codes;
use crate::error::{Failure, Result};
use crate::files::{self, Keeper};
use crate::keys::generate;
use kvgossip_agent::files::{read_own, replace_own};
use kvgossip_grants::PublicKey;
use kvgossip_transport::{AllowList, AllowListError, MAX_ALLOW_LIST_LEN, ReplicaKey};
use std::path::Path;

/// Name of the file of the root's public key in the data directory.
pub(crate) const ROOT_NAME: &str = "root.pub.pem";

/// Size of the generated replica key, in bits.
const REPLICA_KEY_BITS: usize = 2048;

/// Reads a list of admitted replicas. An agent reads it again on SIGHUP; so it has to be a regular file
/// ([`Keeper::Program`]).
pub(super) fn allow_list(path: Option<&Path>, keeper: Keeper) -> Result<AllowList> {
    let Some(path) = path else { return Ok(std::iter::empty().collect()) };
    let fault =
        |why: &AllowListError| Failure::new(codes::ALLOW_LIST, format!("{}: {why}", files::name(path)));
    let read = match keeper {
        Keeper::Person => files::read(path, MAX_ALLOW_LIST_LEN),
        Keeper::Program => files::read_kept(path, MAX_ALLOW_LIST_LEN),
    };
    let read = read.map_err(|failure| Failure::new(codes::ALLOW_LIST, failure.message()))?;
    AllowList::parse(&read.ok_or_else(|| fault(&AllowListError::TooLong))?).map_err(|error| fault(&error))
}

/// Creates a directory for this user alone: it holds the replica's private key.
pub(super) fn make_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| {
        Failure::new(
            codes::FILE_WRITE,
            format!("the data directory {} cannot be made: {error}", files::name(dir)),
        )
    })
}

/// Returns the given replica key, or else the one in the data directory, which is created if missing.
pub(super) fn replica_key(given: Option<&Path>, dir: &Path) -> Result<ReplicaKey> {
    if let Some(path) = given {
        return files::replica_key(path, Keeper::Person);
    }
    let path = dir.join("replica.pem");
    if !files::stands(&path) {
        tracing::info!("making the replica's key, {}", path.display());
        let (_, pem) = generate(REPLICA_KEY_BITS)?;
        files::create(&path, files::Readers::Owner, pem.as_bytes())?;
    }
    files::replica_key(&path, Keeper::Program)
}

/// Writes the root's public key beside the store, for commands that work on the directory. They check it against the
/// store's cluster.
pub(super) fn remember_root(dir: &Path, root: &PublicKey) {
    let (path, pem) = (dir.join(ROOT_NAME), root.to_pem());
    if read_own(&path, pem.len()).is_ok_and(|there| there == pem.as_bytes()) {
        return;
    }
    if let Err(error) = replace_own(&path, pem.as_bytes()) {
        tracing::warn!("{}: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvgossip_grants::Signer;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::time::Duration;

    fn soon<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, wait) = std::sync::mpsc::channel();
        std::thread::spawn(move || done.send(work()));
        wait.recv_timeout(Duration::from_secs(60)).expect("it does not wait for a file")
    }

    /// The root key is always written to a regular file: no pipe blocks it, and no link leads it elsewhere.
    #[test]
    fn the_roots_key_is_left_in_no_other_file() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let root = generate(REPLICA_KEY_BITS).unwrap().0.public().clone();
        let remember = || {
            let (dir, root) = (dir.path().to_owned(), root.clone());
            soon(move || remember_root(&dir, &root));
        };
        std::fs::write(at("other"), "kept").unwrap();
        for target in ["other", "nowhere"] {
            std::os::unix::fs::symlink(at(target), at(ROOT_NAME)).unwrap();
            remember();
            assert!(files::kept_public_key(&at(ROOT_NAME)).is_err(), "a link is none");
            std::fs::remove_file(at(ROOT_NAME)).unwrap();
        }
        assert_eq!(std::fs::read(at("other")).unwrap(), b"kept");
        assert!(!at("nowhere").exists());
        let fifo = |name| mknodat(CWD, at(name), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        fifo(ROOT_NAME);
        remember();
        std::fs::remove_file(at(ROOT_NAME)).unwrap();
        fifo("root.pub.pem.new");
        remember();
        assert_eq!(files::kept_public_key(&at(ROOT_NAME)).unwrap(), root);
    }
}
