//! The storage trait of a replica: atomic batches that are durable when acknowledged, and a few reads.
//!
//! One committer owns the [`Storage`]; any number of threads hold its [`Reader`]s.

use bytes::Bytes;
use kvgossip_grants::{Digest, EntryId, FactId, GrantId, Key, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// Failure of a call to a store. A failed call affects nothing that was acknowledged.
///
/// The text says what happened. The advice is in the catalogue of codes, under [`StorageError::code`].
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The disk has no space left.
    #[error("the disk is full")]
    Full,
    /// The disk has less space than the store may need at once. Nothing has failed yet.
    #[error("less than {} MiB are free on the disk of the store", .needed_bytes >> 20)]
    NoRoom {
        /// Space that must be free on the disk of the store, in bytes.
        needed_bytes: u64,
    },
    /// The weight of the stored facts has reached the limit that the operator set, or the offered facts would exceed
    /// it.
    #[error("{left_bytes} bytes are left of the store's limit of {limit_bytes}, and this needs more")]
    Quota {
        /// Limit of the weight in bytes.
        limit_bytes: u64,
        /// Part of the limit that is unused, in bytes.
        left_bytes: u64,
    },
    /// A commit has not ended within the time limit of the caller.
    #[error("the disk has been writing a batch for more than {} s", .after.as_secs())]
    Stalled {
        /// Time that was waited for the commit.
        after: Duration,
    },
    /// The store accepts no calls, because an earlier one failed or because it is closed; the text says why.
    #[error("the store takes nothing in after an earlier failure: {0}")]
    Stopped(String),
    /// Stored bytes differ from what was written; the text says where.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The store lost batches that were acknowledged last.
    #[error("the store went back from batch {expected} to batch {found}: its last batches are lost")]
    RolledBack {
        /// Number of the last batch that was acknowledged.
        expected: u64,
        /// Number of the last batch in the store.
        found: u64,
    },
    /// The data directory, which the text names, contains no store.
    #[error("{0} holds no store")]
    Missing(String),
    /// Another process, or another part of this one, has the store open.
    #[error("the data directory is in use by another process")]
    InUse,
    /// The store has another format than this program supports, older or newer.
    #[error("the store has format {found}, and this program reads format {supported}")]
    Format {
        /// Version of the format of the store.
        found: u32,
        /// Version of the format that this program supports.
        supported: u32,
    },
    /// The store belongs to another cluster, whose id the text is.
    #[error("the data directory belongs to cluster {0}")]
    ForeignCluster(String),
    /// A file that the store's engine did not write lies among the engine's files. The string is its path.
    #[error("{0} does not belong to the store")]
    ForeignFile(String),
    /// An error of the system that none of the other variants names; the text is its message.
    #[error("input or output failed: {0}")]
    Io(String),
}

impl StorageError {
    /// Returns the stable code of the failure.
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
            Self::ForeignFile(_) => "store.foreign_file",
            Self::Io(_) => "store.io",
        }
    }
}

/// A row of the index: the properties of a live entry without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Id of the entry.
    pub id: EntryId,
    /// Timestamp of the entry, by its writer's clock.
    pub timestamp: Timestamp,
    /// Id of the grant that the entry cites; `None` if root signed it.
    pub grant: Option<GrantId>,
    /// Whether the entry deletes the key's value.
    pub is_delete: bool,
    /// Length of the value in bytes; `None` for a delete, and in rows that older programs wrote.
    pub value_bytes: Option<u32>,
}

/// One change within a [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Stores the record of a grant, revocation or floor under its id.
    PutAuthority(FactId, Bytes),
    /// Removes the record of the grant, revocation or floor with this id.
    RemoveAuthority(FactId),
    /// Stores the record of an entry of the key, its row of the index, and its citation of a grant, if it cites one.
    PutEntry(Key, IndexEntry, Bytes),
    /// Removes the record of the key's entry with this id, and its row of the index.
    RemoveEntry(Key, EntryId),
    /// Removes the citation of the grant by the key: no entry of the key cites the grant any more.
    RemoveCitation(GrantId, Key),
}

/// Summary of the state after a batch, stored with the batch and compared when the store is opened. Rows that wait for
/// a sweep are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Number of the batch, counted from 1 since the store was created.
    pub batch: u64,
    /// Number of grants, revocations and floors in the normal form.
    pub authority_facts: u64,
    /// Number of keys with entries.
    pub keys: u64,
    /// Root digest, over the tree of authority facts and the tree of entries.
    pub root: Digest,
    /// Whether rows of ended facts may still be stored; see [`Replica::next_sweep`](crate::Replica::next_sweep).
    pub sweep_pending: bool,
}

/// Changes that become visible and durable together or not at all. A later write overrides an earlier one to the same
/// row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Changes of rows, in order.
    pub writes: Vec<Write>,
    /// Summary of the state after all changes of the batch.
    pub summary: Summary,
}

/// Reads of one committed state, callable from any thread.
///
/// Later commits do not change what it reads: the store keeps the rows that they overwrite or remove. So hold a reader
/// only as long as one answer takes, never as long as a peer is connected.
pub trait Reader: Send + Sync {
    /// Returns the record of the key's entry with this id; `None` if it is not stored.
    fn entry(&self, key: &Key, id: &EntryId) -> Result<Option<Bytes>, StorageError>;

    /// Calls `each` with every key that has an entry citing `grant`, in ascending order. It may also be called with
    /// keys whose entries no longer cite that grant.
    fn keys_citing(&self, grant: &GrantId, each: &mut dyn FnMut(Key)) -> Result<(), StorageError>;
}

/// A store of a replica's facts. One committer owns it.
pub trait Storage: Send {
    /// Returns a reader of the state of the last commit.
    fn reader(&self) -> Arc<dyn Reader>;

    /// Returns the summary of the last batch; `None` if no batch was committed yet.
    fn summary(&self) -> Result<Option<Summary>, StorageError>;

    /// Calls `each` with the record of every stored grant, revocation and floor, in any order.
    fn load_authority(&self, each: &mut dyn FnMut(Bytes)) -> Result<(), StorageError>;

    /// Calls `each` with every index row, in ascending order of keys; rows of one key are in any order.
    fn load_index(&self, each: &mut dyn FnMut(Key, IndexEntry)) -> Result<(), StorageError>;

    /// Checks that the store has the space that it may need at once. Called before the agent reports "ready".
    ///
    /// # Errors
    /// [`StorageError::NoRoom`], or an error of the system.
    fn probe(&self) -> Result<(), StorageError> {
        Ok(())
    }

    /// Reopens a store that has failed, with its durable state. Readers wait for it. The batch whose commit failed may
    /// be in that state or not, so the caller loads the replica again.
    ///
    /// # Errors
    /// Those of the first opening. [`StorageError::Stopped`] if the store cannot be reopened.
    fn reopen(&mut self) -> Result<(), StorageError> {
        Err(StorageError::Stopped("it can be opened anew only with the agent".into()))
    }

    /// Applies all changes of a batch or none. The batch is durable on return.
    fn commit(&mut self, batch: &Batch) -> Result<(), StorageError>;
}
