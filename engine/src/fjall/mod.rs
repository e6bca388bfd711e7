//! A durable store on the LSM engine fjall.
//!
//! Every batch goes into one journal entry with its flush, so that it is durable before any of it can be seen.
//! `docs/storage.md` describes the files and rows.
//!
//! **Closing.** Whoever drops the [`FjallStorage`] closes the store; readers do not keep it open and say
//! [`StorageError::Stopped`] from then on. Only a read that is under way at that moment delays the release of the
//! directory until it ends.
//!
//! **Failing.** After a failed commit the engine takes nothing any more. [`Storage::reopen`] closes it and opens its files
//! anew, as a restart of the process does.
//!
//! **Waiting.** A commit waits while the engine has more to write out than it keeps in memory, and the engine does
//! not notice a failed disk there: whoever commits should watch how long it takes.

mod check;
mod directory;
mod error;
mod files;
pub mod fsck;
mod last_batch;
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

/// How long [`Storage::reopen`] waits for reads that are under way.
const READS_LIMIT: Duration = Duration::from_secs(5);
/// The pause between two looks at them.
const READS_PAUSE: Duration = Duration::from_millis(1);

/// A store in a directory, for one process at a time.
pub struct FjallStorage {
    /// The engine; held by readers, too, while they read.
    open: Arc<RwLock<Option<Arc<Shared>>>>,
    /// The directory, while the engine is closed.
    closed: Option<Directory>,
    cluster: ClusterId,
    last_batch: LastBatch,
    files: Files,
    /// Why nothing is written any more.
    failed: Option<String>,
    /// The last batch that was acknowledged.
    batch: u64,
}

/// What readers use too. The directory is released last.
struct Shared {
    tables: Tables,
    directory: Directory,
}

/// Reads of the state of one commit, while the store is open.
///
/// The store's owner takes the snapshot, between two commits. Taken beside a commit it could show half a batch: writing out a
/// table, in the background, takes a number after that of the batch under way and makes everything up to it visible.
struct FjallReader {
    open: Weak<RwLock<Option<Arc<Shared>>>>,
    /// The engine that the snapshot is of.
    of: Weak<Shared>,
    snapshot: Snapshot,
}

/// Waits while the store is being opened anew.
fn opened(open: &RwLock<Option<Arc<Shared>>>) -> Result<Arc<Shared>, StorageError> {
    let shared = open.read().clone();
    shared.ok_or_else(not_open)
}

impl FjallStorage {
    /// Opens the store in the data directory `dir`, or makes an empty one there.
    ///
    /// # Errors
    /// - [`StorageError::InUse`]: another process, or another value in this one, has it open.
    /// - [`StorageError::RolledBack`]: acknowledged batches are gone. The operator decides between
    ///   [`FjallStorage::open_accepting_rollback`] and [`FjallStorage::move_aside`]; peers have the rest.
    /// - [`StorageError::Damaged`]: see [`FjallStorage::move_aside`]. A damaged table may show only when it is read.
    /// - [`StorageError::Format`], [`StorageError::ForeignCluster`]: not a store for this program or cluster.
    /// - [`StorageError::Full`], [`StorageError::Io`]: the system refused.
    pub fn open(dir: &Path, cluster: ClusterId) -> Result<Self, StorageError> {
        Self::open_with(dir, cluster, false)
    }

    /// Like [`FjallStorage::open`], but goes on from an earlier batch if the last ones are gone.
    ///
    /// What is left of a journal and the tables written from it need not be of one batch. So everything is read and
    /// compared first, which takes seconds per million entries.
    ///
    /// # Errors
    /// Those of [`FjallStorage::open`] but `RolledBack`; `Damaged` if what is left is not of one batch.
    pub fn open_accepting_rollback(dir: &Path, cluster: ClusterId) -> Result<Self, StorageError> {
        Self::open_with(dir, cluster, true)
    }

    fn open_with(dir: &Path, cluster: ClusterId, accept_rollback: bool) -> Result<Self, StorageError> {
        let directory = Directory::take(dir)?;
        let (last_batch, seen) = LastBatch::open(directory.path())?;
        // Before the engine looks at files that it may not understand, and before anything calls them damaged.
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

    /// Renames the store in `dir` out of the way, so that the next opening makes an empty one, to be filled by
    /// peers. Returns where the old one is now, or `None` if there was none.
    ///
    /// # Errors
    /// `InUse` while a store is open there; `Io` if the system refuses.
    pub fn move_aside(dir: &Path) -> Result<Option<PathBuf>, StorageError> {
        Directory::take(dir)?.move_store_aside()
    }

    /// Reads everything, and compares records with their ids, the index with the entries, and the counts. Takes
    /// seconds per million entries, and holds back the engine's clearing up meanwhile.
    ///
    /// # Errors
    /// `Damaged`, with what does not fit; what the system says where a table cannot be read.
    pub fn check(&self) -> Result<(), StorageError> {
        let shared = opened(&self.open)?;
        check::check_rows(&shared.tables, &shared.tables.db.snapshot(), self.cluster)
    }

    /// The engine forgets why its background threads stopped; nearly always the disk is full.
    fn cause_of(&self, error: StorageError) -> StorageError {
        match (&error, self.probe()) {
            (StorageError::Stopped(_), Err(StorageError::NoRoom { .. })) => StorageError::Full,
            _ => error,
        }
    }

    fn try_commit(&mut self, batch: &Batch) -> Result<(), StorageError> {
        self.files.check()?;
        // What cannot be noted is not written: the number is one batch behind at most.
        self.last_batch.settle()?;
        let shared = opened(&self.open)?;
        let tables = &shared.tables;
        // With the flush inside: committing first and flushing then would show what is not durable yet.
        let mut writes = OwnedWriteBatch::with_capacity(tables.db.clone(), batch.writes.len() + 1)
            .durability(Some(PersistMode::SyncAll));
        for write in &batch.writes {
            stage(tables, &mut writes, write);
        }
        writes.insert(&tables.meta, rows::META_SUMMARY, rows::encode_summary(&batch.summary));
        writes.commit().map_err(engine_error)?;
        // The batch is durable now: a failure to note it must not be told as a failure of the batch.
        self.batch = batch.summary.batch;
        self.last_batch.note(Seen { format: rows::FORMAT, batch: self.batch });
        Ok(())
    }

    /// Closes the engine, when no read holds it any more, and opens it again.
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

/// Waits until nobody else holds it; gives it back if that takes too long.
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

/// Of several writes to one row in a batch the engine keeps the last, as [`Batch`] wants it.
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

    /// Takes 32 MiB and gives them back. A store on a full disk opens and reads, and stops at some later write.
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

    /// After a failure nothing is written any more until the store is opened anew.
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
        // Best effort: what is not flushed here the system writes back by itself.
        let _ = self.last_batch.sync();
    }
}

impl fmt::Debug for FjallStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FjallStorage").field("batch", &self.batch).finish_non_exhaustive()
    }
}

impl FjallReader {
    /// Reads from the snapshot; after the store was opened anew, from its state since then.
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

    /// Whether the store was opened anew since the snapshot was taken.
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
            // The batch whose commit failed may have removed it.
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

/// Reads of a store that could not be opened anew.
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
