//! The data directory of a store: its lock, the creation of a store, and the moving aside of a damaged one.
//!
//! ```text
//! store.lock       locked while a store is open, created, or moved aside
//! store/           the engine's files
//! last-batch       the number of the last batch
//! store.new/       a store that was being created when the process ended; removed at the next opening
//! store.check/     the copy that a check reads; removed at the next opening
//! store.damaged-1/ a store that was moved aside
//! ```

use super::error::at;
use super::last_batch;
use super::layout;
use super::tables::Tables;
use crate::files::{Access, create_own, open_own};
use crate::storage::StorageError;
use kvgossip_grants::ClusterId;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, retry_on_intr};
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Name of the directory of the store's tables and journals, in the data directory.
pub(super) const STORE: &str = "store";
/// Name of the copy of the store that a check reads, in the data directory.
pub(super) const CHECK: &str = "store.check";
const STORE_NEW: &str = "store.new";
/// Name of the lock file in the data directory, which is locked while the store is open.
pub(super) const LOCK: &str = "store.lock";
const PROBE: &str = "room.probe";
/// Maximum number of damaged stores that are kept in a data directory.
const MAX_MOVED_ASIDE: u32 = 1_000;
/// Size in bytes of the probe of [`probe_room`]: enough for the engine to write out its largest memtable.
const PROBE_BYTES: usize = 32 * 1024 * 1024;

/// Exclusive use of a data directory while this value lives.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Creates the data directory if it is missing, and locks it.
    pub(super) fn take(path: &Path) -> Result<Self, StorageError> {
        // Absolute, so that a later change of the working directory has no effect.
        let path = std::path::absolute(path).map_err(at(path))?;
        if !path.is_dir() {
            fs::create_dir_all(&path).map_err(at(&path))?;
            sync_directory(path.parent().unwrap_or(&path))?;
        }
        let lock_path = path.join(LOCK);
        let lock = open_own(&lock_path, Access::Keep).map_err(at(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StorageError::InUse),
            Err(TryLockError::Error(error)) => Err(at(&lock_path)(error)),
        }
    }

    /// Returns the absolute path of the data directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the store, creating it first if there is none. A store is created under another name and then renamed, so
    /// that an existing store is always complete.
    pub(super) fn open_tables(&self, cluster: &ClusterId) -> Result<Tables, StorageError> {
        remove_leftover(&self.path.join(CHECK))?;
        let store = self.path.join(STORE);
        if !store.try_exists().map_err(at(&store))? {
            let fresh = self.path.join(STORE_NEW);
            remove_leftover(&fresh)?;
            Tables::create(&fresh, cluster)?;
            fs::rename(&fresh, &store).map_err(at(&store))?;
            sync_directory(&self.path)?;
        }
        layout::check(&store)?;
        Tables::open(&store, cluster)
    }

    /// Renames the store, as a damaged one. Returns its new path, or `None` if there is no store.
    pub(super) fn move_store_aside(&self) -> Result<Option<PathBuf>, StorageError> {
        let store = self.path.join(STORE);
        let moved = if store.try_exists().map_err(at(&store))? {
            let aside = self.free_name()?;
            fs::rename(&store, &aside).map_err(at(&store))?;
            Some(aside)
        } else {
            None
        };
        // Removed after the rename: if the process ends in between, the missing store is noticed by this file.
        let last = self.path.join(last_batch::FILE_NAME);
        match fs::remove_file(&last) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(at(&last)(error)),
            _ => {}
        }
        sync_directory(&self.path)?;
        Ok(moved)
    }

    fn free_name(&self) -> Result<PathBuf, StorageError> {
        for number in 1..=MAX_MOVED_ASIDE {
            let aside = self.path.join(format!("{STORE}.damaged-{number}"));
            if !aside.try_exists().map_err(at(&aside))? {
                return Ok(aside);
            }
        }
        Err(StorageError::Io(format!("{}: remove some {STORE}.damaged-* first", self.path.display())))
    }
}

/// Checks that the engine can allocate as much disk space as it needs at once, by allocating and freeing it.
pub(super) fn probe_room(dir: &Path) -> Result<(), StorageError> {
    let path = dir.join(PROBE);
    let taken = create_own(&path).and_then(|mut file| {
        let taken = take_room(&mut file);
        taken.and(fs::remove_file(&path))
    });
    taken.map_err(|error| match at(&path)(error) {
        StorageError::Full => StorageError::NoRoom { needed_bytes: PROBE_BYTES as u64 },
        other => other,
    })
}

/// Reserves [`PROBE_BYTES`] for `file`; if the file system cannot reserve space, writes and flushes as much data.
pub(super) fn take_room(file: &mut File) -> io::Result<()> {
    match retry_on_intr(|| fallocate(&*file, FallocateFlags::empty(), 0, PROBE_BYTES as u64)) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
        reserved => return Ok(reserved?),
    }
    write_room(file)
}

/// Allocates [`PROBE_BYTES`] for `file` by writing data and flushing it.
pub(super) fn write_room(file: &mut File) -> io::Result<()> {
    let chunk = [0x5a; 64 * 1024];
    for _ in 0..PROBE_BYTES / chunk.len() {
        file.write_all(&chunk)?;
    }
    file.sync_all()
}

fn remove_leftover(path: &Path) -> Result<(), StorageError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

/// Flushes a directory, so that names in it are durable. Only needed and possible on Unix.
pub(super) fn sync_directory(path: &Path) -> Result<(), StorageError> {
    if cfg!(unix) { File::open(path).and_then(|dir| dir.sync_all()).map_err(at(path)) } else { Ok(()) }
}
