//! The files of a replica: its directory, its key, its root and its list of admitted replicas.

use crate::codes;
use crate::commands::key;
use crate::error::{Failure, Result};
use crate::files::{self, Keeper};
use kvgossip_agent::files::read_regular;
use kvgossip_grants::PublicKey;
use kvgossip_transport::{AllowList, AllowListError, MAX_ALLOW_LIST_LEN, ReplicaKey};
use std::path::Path;

/// The public key of the cluster's root, in the data directory.
pub(crate) const ROOT_NAME: &str = "root.pub.pem";

/// What to do about a store that is older than what it acknowledged.
pub(super) const ACCEPT_ROLLBACK: &str = "--accept-rollback goes on from what is left, and peers (--join, --peer) bring the rest; \
                                          what no peer has is lost";

/// What to do about a store that cannot be gone on from.
pub(super) const MOVE_ASIDE: &str = "--move-damaged-aside keeps this store under another name and begins with an empty one, which \
                                     peers fill; what no peer has is lost";

/// Bits of the replica key that is made at the first start.
const REPLICA_KEY_BITS: usize = 2048;

/// The list of a file. An agent reads it again when it is told to: then it has to be a regular file, which the program
/// counts as its own.
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

/// Made for this user alone: it holds the replica's private key.
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

/// The replica's key: the given one, or the one in the data directory, made if it is not there.
pub(super) fn replica_key(given: Option<&Path>, dir: &Path) -> Result<ReplicaKey> {
    if let Some(path) = given {
        return files::replica_key(path, Keeper::Person);
    }
    let path = dir.join("replica.pem");
    if !path.exists() {
        tracing::info!("making the replica's key, {}", path.display());
        let (_, pem) = key::generate(REPLICA_KEY_BITS)?;
        files::create(&path, files::Readers::Owner, pem.as_bytes())?;
    }
    files::replica_key(&path, Keeper::Program)
}

/// Leaves the root's public key beside the store, for commands that work on the directory. It is checked against
/// the store's cluster by whoever reads it.
pub(super) fn remember_root(dir: &Path, root: &PublicKey) {
    let (path, pem) = (dir.join(ROOT_NAME), root.to_pem());
    if read_regular(&path, pem.len()).is_ok_and(|there| there == pem.as_bytes()) {
        return;
    }
    if let Err(error) = std::fs::write(&path, pem) {
        tracing::warn!("{}: {error}", path.display());
    }
}
