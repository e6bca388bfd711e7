//! A durable store on the LSM engine fjall.
//!
//! Every batch is one journal entry, written with its flush, so that a batch is durable before any of it is visible.
//! `docs/storage.md` describes the files and rows.
//!
//! **Closing.** Dropping the [`FjallStorage`] closes the store. Readers do not keep it open; from then on they return
//! [`StorageError::Stopped`]. Only a read in progress delays the release of the directory, until it ends.
//!
//! **Failing.** After a failed commit the engine accepts no writes. [`Storage::reopen`] closes the engine and opens its
//! files again, as a restart of the process does.
//!
//! **Waiting.** A commit waits while the engine has more to write out than it keeps in memory. The engine does not
//! notice a failed disk during that wait, so the caller should limit how long a commit may take.

mod check;
mod directory;
mod error;
mod files;
pub mod fsck;
mod last_batch;
mod layout;
mod reads;
mod rows;
mod tables;

use crate::storage::{Batch, IndexEntry, Reader, Storage, StorageError, Summary, Write};
use bytes::Bytes;
use directory::Directory;
use error::engine_error;
use files::Files;
use fjall::{OwnedWriteBatch, PersistMode, Snapshot};
use kvgossip_grants::{ClusterId, EntryId, GrantId, Key};
use last_batch::{LastBatch, Seen};
use parking_lot::RwLock;
use reads::Rows;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tables::Tables;

/// Maximum time that [`Storage::reopen`] waits for reads in progress.
const READS_LIMIT: Duration = Duration::from_secs(5);
/// Interval between two checks of [`Storage::reopen`] whether reads are still in progress.
const READS_PAUSE: Duration = Duration::from_millis(1);

/// A store in a directory. One process at a time can have it open.
pub struct FjallStorage {
    /// The open engine; each reader holds it, too, while it reads. `None` while the engine is closed.
    open: Arc<RwLock<Option<Arc<Shared>>>>,
    /// The locked data directory while the engine is closed; `None` while it is open.
    closed: Option<Directory>,
    cluster: ClusterId,
    last_batch: LastBatch,
    files: Files,
    /// Reason why the store accepts no writes; `None` while it accepts them.
    failed: Option<String>,
    /// Number of the last acknowledged batch.
    batch: u64,
}

/// Parts of an open store that readers use. The data directory is dropped, and unlocked, last.
struct Shared {
    tables: Tables,
    directory: Directory,
}

/// Reader of the state of one commit, usable while the store is open.
///
/// The owner of the store takes the snapshot between two commits. A snapshot taken during a commit could show half a
/// batch: when the engine writes out a table in the background, it takes a sequence number after that of the batch in
/// progress and makes everything up to it visible.
struct FjallReader {
    open: Weak<RwLock<Option<Arc<Shared>>>>,
    /// Engine from which the snapshot was taken.
    of: Weak<Shared>,
    snapshot: Snapshot,
}

/// Returns the open engine; an error if it is closed. Waits while the store is being reopened.
fn opened(open: &RwLock<Option<Arc<Shared>>>) -> Result<Arc<Shared>, StorageError> {
    let shared = open.read().clone();
    shared.ok_or_else(not_open)
}

impl FjallStorage {
    /// Opens the store in the data directory `dir`, or creates an empty one there.
    ///
    /// # Errors
    /// - [`StorageError::InUse`]: another process, or another value in this process, has it open.
    /// - [`StorageError::RolledBack`]: acknowledged batches are missing. The operator chooses between
    ///   [`FjallStorage::open_accepting_rollback`] and [`FjallStorage::move_aside`]; peers have the rest.
    /// - [`StorageError::Damaged`]: see [`FjallStorage::move_aside`]. A damaged table may be noticed only when it is
    ///   read.
    /// - [`StorageError::Format`], [`StorageError::ForeignCluster`]: the store is for another version or cluster.
    /// - [`StorageError::Full`], [`StorageError::Io`]: an error of the system.
    pub fn open(dir: &Path, cluster: ClusterId) -> Result<Self, StorageError> {
        Self::open_with(dir, cluster, false)
    }

    /// Like [`FjallStorage::open`], but continues from an earlier batch if the last ones are missing.
    ///
    /// The rest of a journal and the tables written from it may be of different batches. So everything is read and
    /// compared first, which takes seconds per million entries.
    ///
    /// Those of [`FjallStorage::open`] except `RolledBack`; `Damaged` if the rest of the store is not the state of one
    /// batch.
    pub fn open_accepting_rollback(dir: &Path, cluster: ClusterId) -> Result<Self, StorageError> {
        Self::open_with(dir, cluster, true)
    }

    fn open_with(dir: &Path, cluster: ClusterId, accept_rollback: bool) -> Result<Self, StorageError> {
        let directory = Directory::take(dir)?;
        let (last_batch, seen) = LastBatch::open(directory.path())?;
        // Checked before the engine reads files that it may not understand and would report as damaged.
        if let Some(Seen { format: found, .. }) = seen
            && found != rows::FORMAT
        {
            return Err(StorageError::Format { found, supported: rows::FORMAT });
        }
        let tables = directory.open_tables(&cluster)?;
        let path = directory.path().to_path_buf();
        let files = Files::note(&path)?;
        let open = Arc::new(RwLock::new(Some(Arc::new(Shared { tables, directory }))));
        let mut storage = Self { open, closed: None, cluster, last_batch, files, failed: None, batch: 0 };
        let found = storage.summary()?.map_or(0, |summary| summary.batch);
        let expected = seen.map_or(0, |seen| seen.batch);
        if found < expected {
            if !accept_rollback {
                return Err(StorageError::RolledBack { expected, found });
            }
            storage.check()?;
        }
        storage.batch = found;
        storage.last_batch.note(Seen { format: rows::FORMAT, batch: found });
        storage.last_batch.sync()?;
        directory::sync_directory(&path)?;
        Ok(storage)
    }

    /// Renames the store in the data directory `dir`, so that the next opening creates an empty one, which peers fill.
    /// Returns the new path of the old store, or `None` if there was none.
    ///
    /// # Errors
    /// `InUse` while the store is open; `Io` for an error of the system.
    pub fn move_aside(dir: &Path) -> Result<Option<PathBuf>, StorageError> {
        Directory::take(dir)?.move_store_aside()
    }

    /// Reads the whole store and compares records with their ids, the index with the entries, and the counts. Takes
    /// seconds per million entries, and delays the engine's compaction meanwhile.
    ///
    /// # Errors
    /// `Damaged` with the first difference, or the error of the system if a table cannot be read.
    pub fn check(&self) -> Result<(), StorageError> {
        let shared = opened(&self.open)?;
        check::check_rows(&shared.tables, &shared.tables.db.snapshot(), self.cluster)
    }

    /// Replaces `Stopped` by `Full` if the disk has no space: the engine does not keep the cause of failures in its
    /// background threads.
    fn cause_of(&self, error: StorageError) -> StorageError {
        match (&error, self.probe()) {
            (StorageError::Stopped(_), Err(StorageError::NoRoom { .. })) => StorageError::Full,
            _ => error,
        }
    }

    fn try_commit(&mut self, batch: &Batch) -> Result<(), StorageError> {
        self.files.check()?;
        // A batch is written only after the previous number was recorded, so the recorded number is at most one batch
        // behind.
        self.last_batch.settle()?;
        let shared = opened(&self.open)?;
        let tables = &shared.tables;
        // The flush is part of the commit: a separate flush after it would make the batch visible before it is durable.
        let mut writes = OwnedWriteBatch::with_capacity(tables.db.clone(), batch.writes.len() + 1)
            .durability(Some(PersistMode::SyncAll));
        for write in &batch.writes {
            stage(tables, &mut writes, write);
        }
        writes.insert(&tables.meta, rows::META_SUMMARY, rows::encode_summary(&batch.summary));
        writes.commit().map_err(engine_error)?;
        // The batch is durable now: a failure to record its number must not count as a failure of the batch.
        self.batch = batch.summary.batch;
        self.last_batch.note(Seen { format: rows::FORMAT, batch: self.batch });
        Ok(())
    }

    /// Closes the engine, once no read holds it, and opens its files again.
    fn exchange_engine(&mut self, open: &mut Option<Arc<Shared>>) -> Result<(), StorageError> {
        if let Some(shared) = open.take() {
            match alone(shared) {
                Ok(Shared { tables, directory, .. }) => {
                    drop(tables);
                    self.closed = Some(directory);
                }
                Err(shared) => {
                    *open = Some(shared);
                    return Err(StorageError::Stopped("a read of it does not end".into()));
                }
            }
        }
        let Some(directory) = &self.closed else {
            return Err(StorageError::Stopped("its directory was let go".into()));
        };
        let tables = directory.open_tables(&self.cluster)?;
        self.files = Files::note(directory.path())?;
        *open = self.closed.take().map(|directory| Arc::new(Shared { tables, directory }));
        Ok(())
    }
}

/// Waits until only the caller holds the engine. Returns the engine as the error if reads still hold it after
/// [`READS_LIMIT`].
fn alone(mut shared: Arc<Shared>) -> Result<Shared, Arc<Shared>> {
    let mut left = READS_LIMIT;
    loop {
        shared = match Arc::try_unwrap(shared) {
            Ok(shared) => return Ok(shared),
            Err(shared) if left.is_zero() => return Err(shared),
            Err(shared) => shared,
        };
        std::thread::sleep(READS_PAUSE);
        left = left.saturating_sub(READS_PAUSE);
    }
}

/// Adds a write to a batch of the engine. The engine keeps the last of several writes to one row, as [`Batch`]
/// requires.
fn stage(tables: &Tables, writes: &mut OwnedWriteBatch, write: &Write) {
    match write {
        Write::PutAuthority(id, record) => writes.insert(&tables.authority, *id.as_bytes(), record.as_ref()),
        Write::RemoveAuthority(id) => writes.remove(&tables.authority, *id.as_bytes()),
        Write::PutEntry(key, entry, record) => {
            let row = rows::entry_row(key, &entry.id);
            writes.insert(&tables.entries, row.clone(), record.as_ref());
            writes.insert(&tables.index, row, rows::encode_index(entry));
            if let Some(grant) = &entry.grant {
                writes.insert(&tables.by_grant, rows::citation_row(grant, key), []);
            }
        }
        Write::RemoveEntry(key, id) => {
            let row = rows::entry_row(key, id);
            writes.remove(&tables.entries, row.clone());
            writes.remove(&tables.index, row);
        }
        Write::RemoveCitation(grant, key) => writes.remove(&tables.by_grant, rows::citation_row(grant, key)),
    }
}

impl Storage for FjallStorage {
    fn reader(&self) -> Arc<dyn Reader> {
        let Ok(shared) = opened(&self.open) else { return Arc::new(Closed) };
        let (open, of) = (Arc::downgrade(&self.open), Arc::downgrade(&shared));
        Arc::new(FjallReader { open, of, snapshot: shared.tables.db.snapshot() })
    }

    fn summary(&self) -> Result<Option<Summary>, StorageError> {
        let shared = opened(&self.open)?;
        let Some(bytes) = reads::get(&shared.tables.db.snapshot(), &shared.tables.meta, rows::META_SUMMARY)?
        else {
            return Ok(None);
        };
        let damaged = || StorageError::Damaged("the summary does not read".into());
        rows::decode_summary(&bytes).ok_or_else(damaged).map(Some)
    }

    fn load_authority(&self, each: &mut dyn FnMut(Bytes)) -> Result<(), StorageError> {
        let shared = opened(&self.open)?;
        for row in Rows::all(&shared.tables.db.snapshot(), &shared.tables.authority) {
            each(Bytes::copy_from_slice(&row?.1));
        }
        Ok(())
    }

    fn load_index(&self, each: &mut dyn FnMut(Key, IndexEntry)) -> Result<(), StorageError> {
        let shared = opened(&self.open)?;
        for row in Rows::all(&shared.tables.db.snapshot(), &shared.tables.index) {
            let (row, value) = row?;
            let (key, entry) = rows::read_index(&row, &value)?;
            each(key, entry);
        }
        Ok(())
    }

    /// Checks that 32 MiB can be allocated on the disk, and frees them. A store on a full disk opens and reads, and
    /// fails at some later write.
    fn probe(&self) -> Result<(), StorageError> {
        match (opened(&self.open), &self.closed) {
            (Ok(shared), _) => directory::probe_room(shared.directory.path()),
            (Err(_), Some(directory)) => directory::probe_room(directory.path()),
            (Err(error), None) => Err(error),
        }
    }

    fn reopen(&mut self) -> Result<(), StorageError> {
        let open = self.open.clone();
        {
            let mut open = open.write();
            self.exchange_engine(&mut open)?;
        }
        let found = self.summary()?.map_or(0, |summary| summary.batch);
        if found < self.batch {
            return Err(StorageError::RolledBack { expected: self.batch, found });
        }
        self.batch = found;
        self.last_batch.note(Seen { format: rows::FORMAT, batch: found });
        self.failed = None;
        Ok(())
    }

    /// Commits a batch. After a failure, nothing is written until the store is reopened.
    fn commit(&mut self, batch: &Batch) -> Result<(), StorageError> {
        if let Some(cause) = &self.failed {
            return Err(StorageError::Stopped(cause.clone()));
        }
        self.try_commit(batch).map_err(|error| {
            let error = self.cause_of(error);
            self.failed = Some(error.to_string());
            error
        })
    }
}

impl Drop for FjallStorage {
    fn drop(&mut self) {
        // Best effort: the system writes back what is not flushed here.
        let _ = self.last_batch.sync();
    }
}

impl fmt::Debug for FjallStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FjallStorage").field("batch", &self.batch).finish_non_exhaustive()
    }
}

impl FjallReader {
    /// Reads from the snapshot; if the store was reopened since, reads from its current state.
    fn read<T>(
        &self,
        read: impl FnOnce(&Tables, &Snapshot) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let open = self.open.upgrade().ok_or_else(|| StorageError::Stopped("the store was closed".into()))?;
        let shared = opened(&open)?;
        if self.is_of(&shared) {
            return read(&shared.tables, &self.snapshot);
        }
        read(&shared.tables, &shared.tables.db.snapshot())
    }

    fn is_of(&self, shared: &Arc<Shared>) -> bool {
        std::ptr::eq(self.of.as_ptr(), Arc::as_ptr(shared))
    }

    /// Whether the store was reopened since the snapshot was taken.
    fn is_outdated(&self) -> bool {
        let shared = self.open.upgrade().and_then(|open| open.read().clone());
        shared.is_some_and(|shared| !self.is_of(&shared))
    }
}

impl Reader for FjallReader {
    fn entry(&self, key: &Key, id: &EntryId) -> Result<Option<Bytes>, StorageError> {
        let row = rows::entry_row(key, id);
        match self.read(|tables, snapshot| reads::get(snapshot, &tables.entries, row))? {
            Some(record) => Ok(Some(Bytes::copy_from_slice(&record))),
            // The batch whose commit failed may have removed the record.
            None if self.is_outdated() => {
                Err(StorageError::Stopped("it was opened anew meanwhile: ask again".into()))
            }
            None => Ok(None),
        }
    }

    fn keys_citing(&self, grant: &GrantId, each: &mut dyn FnMut(Key)) -> Result<(), StorageError> {
        self.read(|tables, snapshot| {
            for row in Rows::with_prefix(snapshot, &tables.by_grant, grant.as_bytes()) {
                let (row, _) = row?;
                let damaged = || StorageError::Damaged(format!("a citation of grant {grant} does not read"));
                each(rows::cited_key(&row).ok_or_else(damaged)?);
            }
            Ok(())
        })
    }
}

/// Reader of a store that could not be reopened: all reads fail.
struct Closed;

impl Reader for Closed {
    fn entry(&self, _: &Key, _: &EntryId) -> Result<Option<Bytes>, StorageError> {
        Err(not_open())
    }

    fn keys_citing(&self, _: &GrantId, _: &mut dyn FnMut(Key)) -> Result<(), StorageError> {
        Err(not_open())
    }
}

fn not_open() -> StorageError {
    StorageError::Stopped("it could not be opened anew".into())
}

#[cfg(test)]
mod tests;
