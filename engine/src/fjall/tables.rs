//! The engine under a store: its keyspaces and their settings.

use super::error::engine_error;
use super::reads::{self, guarded};
use super::rows;
use crate::storage::StorageError;
use fjall::config::{BlockSizePolicy, CompressionPolicy, FilterPolicy};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use kvgossip_grants::ClusterId;
use std::path::Path;

const KIB: u32 = 1024;
const MIB: u64 = 1024 * 1024;

/// Bytes of full journals above which the engine writes out the keyspaces that hold the oldest of them back. This
/// much, and the journal in use (64 to 70 MiB), is read again at opening at worst.
const MAX_JOURNAL_BYTES: u64 = 128 * MIB;
/// Open table files; twice as many and a thousand sockets reach the usual limit of 1,024 descriptors.
const MAX_CACHED_FILES: usize = 256;
const BLOCK_CACHE_BYTES: u64 = 32 * MIB;

/// Memory for rows that are not in tables yet, per keyspace. A put of 700 bytes takes about 850 bytes of `entries`,
/// 200 of `index` and 150 of `by_grant`: with these sizes none of them holds a journal back for long.
const ENTRIES_MEMTABLE_BYTES: u64 = 32 * MIB;
const INDEX_MEMTABLE_BYTES: u64 = 8 * MIB;
const SMALL_MEMTABLE_BYTES: u64 = 4 * MIB;

/// All of the store's keyspaces, and the database that they are in.
pub(super) struct Tables {
    /// `key ‖ 0x00 ‖ id` → record.
    pub(super) entries: Keyspace,
    /// `key ‖ 0x00 ‖ id` → what the index says of the entry.
    pub(super) index: Keyspace,
    /// Id → record.
    pub(super) authority: Keyspace,
    /// `grant id ‖ key` → nothing.
    pub(super) by_grant: Keyspace,
    /// What the store says of itself; written in every batch.
    pub(super) meta: Keyspace,
    pub(super) db: Database,
}

impl Tables {
    /// Makes an empty store in `path`, which must not exist, and closes it again.
    pub(super) fn create(path: &Path, cluster: &ClusterId) -> Result<(), StorageError> {
        let db = open_database(path)?;
        let tables =
            Self::with(db, &|db, name, options| db.keyspace(name, || options).map_err(engine_error))?;
        let mut batch = tables.db.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&tables.meta, rows::META_FORMAT, rows::FORMAT.to_le_bytes());
        batch.insert(&tables.meta, rows::META_CLUSTER, *cluster.as_bytes());
        batch.commit().map_err(engine_error)
    }

    /// Opens a store of `cluster`.
    pub(super) fn open(path: &Path, cluster: &ClusterId) -> Result<Self, StorageError> {
        let db = open_database(path)?;
        // First of all, as a newer format may have other keyspaces.
        let meta = open_keyspace(&db, "meta")?;
        check_identity(&meta, cluster)?;
        Self::with(db, &|db, name, _| open_keyspace(db, name))
    }

    fn with(
        db: Database,
        get: &dyn Fn(&Database, &str, KeyspaceCreateOptions) -> Result<Keyspace, StorageError>,
    ) -> Result<Self, StorageError> {
        Ok(Self {
            entries: get(&db, "entries", point_reads(ENTRIES_MEMTABLE_BYTES))?,
            index: get(&db, "index", scans(INDEX_MEMTABLE_BYTES))?,
            authority: get(&db, "authority", scans(SMALL_MEMTABLE_BYTES))?,
            by_grant: get(&db, "by_grant", scans(SMALL_MEMTABLE_BYTES))?,
            meta: get(&db, "meta", point_reads(MIB))?,
            db,
        })
    }
}

fn open_database(path: &Path) -> Result<Database, StorageError> {
    let database = Database::builder(path)
        .max_journaling_size(MAX_JOURNAL_BYTES)
        .max_cached_files(Some(MAX_CACHED_FILES))
        .cache_size(BLOCK_CACHE_BYTES);
    guarded(|| database.open())
}

fn open_keyspace(db: &Database, name: &str) -> Result<Keyspace, StorageError> {
    if !db.keyspace_exists(name) {
        return Err(StorageError::Damaged(format!("its keyspace {name:?} is missing")));
    }
    // The settings are those that the keyspace was made with.
    guarded(|| db.keyspace(name, KeyspaceCreateOptions::default))
}

fn check_identity(meta: &Keyspace, cluster: &ClusterId) -> Result<(), StorageError> {
    let missing = |what: &str| StorageError::Damaged(format!("it does not say its {what}"));
    let format = reads::get(meta, rows::META_FORMAT)?;
    let format = format.and_then(|bytes| bytes.as_ref().try_into().ok().map(u32::from_le_bytes));
    match format {
        Some(rows::FORMAT) => {}
        Some(found) => return Err(StorageError::Format { found, supported: rows::FORMAT }),
        None => return Err(missing("format")),
    }
    let found = reads::get(meta, rows::META_CLUSTER)?;
    let found = found.and_then(|bytes| bytes.as_ref().try_into().ok().map(ClusterId));
    match found {
        Some(found) if found == *cluster => Ok(()),
        Some(found) => Err(StorageError::ForeignCluster(found.to_string())),
        None => Err(missing("cluster")),
    }
}

/// Rows that are asked for one by one, and of which those that are asked for are nearly always there.
fn point_reads(memtable_bytes: u64) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().max_memtable_size(memtable_bytes).expect_point_read_hits(true)
}

/// Rows that are only ever read in runs: larger blocks, no filters; hashes do not compress.
fn scans(memtable_bytes: u64) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(memtable_bytes)
        .data_block_size_policy(BlockSizePolicy::all(32 * KIB))
        .data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
        .filter_policy(FilterPolicy::disabled())
}
