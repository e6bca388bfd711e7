//! What a replica asks of the store behind it: atomic batches that are durable when acknowledged, and few reads.
//!
//! One committer owns the [`Storage`]; any number of threads hold its [`Reader`].

use bytes::Bytes;
use kvgossip_grants::{Digest, EntryId, FactId, GrantId, Key, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// Why a store failed. Nothing that was acknowledged is affected by a failed call.
///
/// The texts say what happened. What to do about it stands in the catalogue of codes, under [`StorageError::code`].
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// No room is left.
    #[error("the disk is full")]
    Full,
    /// Less room is left than the store may need at once. Nothing has failed yet.
    #[error("less than {} MiB are free on the disk of the store", .needed_bytes >> 20)]
    NoRoom {
        /// What must be free.
        needed_bytes: u64,
    },
    /// What is stored has reached the limit that the operator set.
    #[error("{left_bytes} bytes are left of the store's limit of {limit_bytes}, and this needs more")]
    Quota {
        /// The limit.
        limit_bytes: u64,
        /// What is left of it.
        left_bytes: u64,
    },
    /// A commit does not end.
    #[error("the disk has been writing a batch for more than {} s", .after.as_secs())]
    Stalled {
        /// How long was waited.
        after: Duration,
    },
    /// The store refuses to go on after an earlier failure.
    #[error("the store takes nothing in after an earlier failure: {0}")]
    Stopped(String),
    /// Stored bytes are not what was written.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The store lost its last batches.
    #[error("the store went back from batch {expected} to batch {found}: its last batches are lost")]
    RolledBack {
        /// The last batch that was acknowledged.
        expected: u64,
        /// The last batch that is there.
        found: u64,
    },
    /// There is no store.
    #[error("{0} holds no store")]
    Missing(String),
    /// Another process has the store open.
    #[error("the data directory is in use by another process")]
    InUse,
    /// The format is another one than this program's, older or newer.
    #[error("the store has format {found}, and this program reads format {supported}")]
    Format {
        /// What the store says.
        found: u32,
        /// What this program knows.
        supported: u32,
    },
    /// The store belongs to another cluster.
    #[error("the data directory belongs to cluster {0}")]
    ForeignCluster(String),
    /// Any other failure of the system.
    #[error("input or output failed: {0}")]
    Io(String),
}

impl StorageError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Full => "store.full",
            Self::NoRoom { .. } => "store.no_room",
            Self::Quota { .. } => "store.quota",
            Self::Stalled { .. } => "store.stalled",
            Self::Stopped(_) => "store.stopped",
            Self::Damaged(_) => "store.damaged",
            Self::RolledBack { .. } => "store.rolled_back",
            Self::Missing(_) => "store.missing",
            Self::InUse => "store.in_use",
            Self::Format { .. } => "store.format",
            Self::ForeignCluster(_) => "store.foreign_cluster",
            Self::Io(_) => "store.io",
        }
    }
}

/// One row of the compact index: an entry that stands, without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The entry.
    pub id: EntryId,
    /// When it was written.
    pub timestamp: Timestamp,
    /// The grant it cites; `None` for root.
    pub grant: Option<GrantId>,
    /// Whether it unsets the key.
    pub is_delete: bool,
    /// Bytes of its value. None for a delete, and in rows of programs that did not note it.
    pub value_bytes: Option<u32>,
}

/// One change of a [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Stores a grant, revocation or floor.
    PutAuthority(FactId, Bytes),
    /// Forgets one.
    RemoveAuthority(FactId),
    /// Stores an entry: its record, its row of the index, and that it cites its grant.
    PutEntry(Key, IndexEntry, Bytes),
    /// Forgets its record and its row of the index.
    RemoveEntry(Key, EntryId),
    /// Nothing of the key stands on the grant any more.
    RemoveCitation(GrantId, Key),
}

/// The state that a batch leads to; stored with it, and compared at opening. What is still to be swept is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Counts batches from 1.
    pub batch: u64,
    /// How many grants, revocations and floors stand.
    pub authority_facts: u64,
    /// How many keys have entries.
    pub keys: u64,
    /// Digest over both trees.
    pub root: Digest,
    /// Whether rows of what ended may still be stored; see [`Replica::next_sweep`](crate::Replica::next_sweep).
    pub sweep_pending: bool,
}

/// Changes that become visible and durable together or not at all. Later writes win over earlier ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The changes, in order.
    pub writes: Vec<Write>,
    /// The state they lead to.
    pub summary: Summary,
}

/// Reads of one committed state; callable from any thread.
///
/// A commit that follows changes nothing of what it reads. The store keeps for it what is overwritten or removed meanwhile, so
/// hold one for as long as one answer takes, not for as long as a peer does.
pub trait Reader: Send + Sync {
    /// The record of an entry, if it is stored.
    fn entry(&self, key: &Key, id: &EntryId) -> Result<Option<Bytes>, StorageError>;

    /// Hands every key with an entry that cites `grant` to `each`, in ascending order. There may be keys among them whose
    /// entries do not cite it any more.
    fn keys_citing(&self, grant: &GrantId, each: &mut dyn FnMut(Key)) -> Result<(), StorageError>;
}

/// A store, owned by its one committer.
pub trait Storage: Send {
    /// Reads of the state of the last commit.
    fn reader(&self) -> Arc<dyn Reader>;

    /// The state of the last batch; `None` for an empty store.
    fn summary(&self) -> Result<Option<Summary>, StorageError>;

    /// Hands out every authority record, in any order.
    fn load_authority(&self, each: &mut dyn FnMut(Bytes)) -> Result<(), StorageError>;

    /// Hands out every index row, in ascending order of the keys; those of one key in any order.
    fn load_index(&self, each: &mut dyn FnMut(Key, IndexEntry)) -> Result<(), StorageError>;

    /// Whether the store has the room that it may need at once. Asked before anybody is told "ready".
    ///
    /// # Errors
    /// [`StorageError::NoRoom`], or what the system says.
    fn probe(&self) -> Result<(), StorageError> {
        Ok(())
    }

    /// Opens the store anew in place of one that has failed, with what is durable. Readers wait for it. The last batch,
    /// whose commit failed, is there or not: whoever commits loads the replica again.
    ///
    /// # Errors
    /// Those of the first opening. [`StorageError::Stopped`] where a store cannot do that.
    fn reopen(&mut self) -> Result<(), StorageError> {
        Err(StorageError::Stopped("it can be opened anew only with the agent".into()))
    }

    /// Applies a batch: atomic, and durable on return.
    fn commit(&mut self, batch: &Batch) -> Result<(), StorageError>;
}
