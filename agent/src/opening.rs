//! Opening of the store in a data directory, and its recovery on an operator's request.

use kvgossip_engine::{FjallStorage, Replica, StorageError};
use kvgossip_grants::PublicKey;
use std::path::{Path, PathBuf};

/// Name of the file in a data directory that remembers whether its store was ever compared with a peer's.
pub const SYNC_STATE_NAME: &str = "sync-state";

/// Permitted recoveries of a store that is not in the state it was left in; none by default. Each loses writes that
/// had not reached a peer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recovery {
    /// Whether to continue from an earlier batch if the last ones are missing and the rest passes a check.
    pub accept_rollback: bool,
    /// Whether to rename a damaged or older store, and start with an empty one.
    pub move_damaged_aside: bool,
}

/// An opened store, and the replica loaded from it.
#[derive(Debug)]
pub struct Opened {
    /// The replica loaded from the store.
    pub replica: Replica,
    /// The opened store of the replica.
    pub storage: FjallStorage,
    /// New path of the damaged or older store; `None`: no store was moved aside.
    pub moved_aside: Option<PathBuf>,
}

/// Opens the store in a data directory, or creates one, and loads the replica. Logs each recovery.
///
/// # Errors
/// Those of [`FjallStorage::open`] and [`Replica::load`] that `recovery` does not cover.
pub fn open_store(dir: &Path, root: &PublicKey, recovery: Recovery) -> Result<Opened, StorageError> {
    let loaded = load(dir, root, recovery.accept_rollback).and_then(|(replica, storage)| {
        if recovery.move_damaged_aside {
            // Damaged values do not make opening fail.
            storage.check()?;
        }
        Ok((replica, storage))
    });
    let refused = match loaded {
        Ok((replica, storage)) => return Ok(Opened { replica, storage, moved_aside: None }),
        Err(error) => error,
    };
    let may_move = matches!(refused, StorageError::Damaged(_) | StorageError::RolledBack { .. });
    if !(may_move && recovery.move_damaged_aside) {
        return Err(refused);
    }
    tracing::warn!(code = refused.code(), "{refused}");
    forget_sync_state(dir)?;
    let moved_aside = FjallStorage::move_aside(dir)?;
    if let Some(path) = &moved_aside {
        tracing::warn!("that store is now {}; beginning with an empty one, which peers fill", path.display());
    }
    let (replica, storage) = load(dir, root, false)?;
    Ok(Opened { replica, storage, moved_aside })
}

/// Removes the sync state file: the store is no longer the one that was compared with a peer, so the replica counts as
/// new.
fn forget_sync_state(dir: &Path) -> Result<(), StorageError> {
    let path = dir.join(SYNC_STATE_NAME);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StorageError::Io(format!("{} cannot be removed: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

fn load(
    dir: &Path,
    root: &PublicKey,
    accept_rollback: bool,
) -> Result<(Replica, FjallStorage), StorageError> {
    let cluster = root.cluster();
    let storage = match FjallStorage::open(dir, cluster) {
        Err(StorageError::RolledBack { expected, found }) if accept_rollback => {
            tracing::warn!(expected, found, "the last batches are gone; checking what is left");
            forget_sync_state(dir)?;
            let storage = FjallStorage::open_accepting_rollback(dir, cluster)?;
            tracing::warn!("what is left is whole; peers bring the rest");
            storage
        }
        opened => opened?,
    };
    let replica = Replica::load(root.clone(), &storage)?;
    Ok((replica, storage))
}
