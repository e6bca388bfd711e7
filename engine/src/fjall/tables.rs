//! The tables of the engine under a store: its keyspaces and their settings.

use super::error::engine_error;
use super::reads::{self, guarded};
use super::rows;
use crate::storage::StorageError;
use fjall::config::{BlockSizePolicy, CompressionPolicy, FilterPolicy};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Snapshot};
use kvgossip_grants::ClusterId;
use std::path::Path;

const KIB: u32 = 1024;
const MIB: u64 = 1024 * 1024;

/// Total size of full journals, in bytes, above which the engine writes out the keyspaces that keep the oldest journals
/// alive. At most these and the current journal (64 to 70 MiB) are replayed at opening.
const MAX_JOURNAL_BYTES: u64 = 128 * MIB;
/// Maximum number of open table files. Twice as many, together with the sockets of a thousand connections, would reach
/// the usual limit of 1,024 descriptors.
const MAX_CACHED_FILES: usize = 256;
const BLOCK_CACHE_BYTES: u64 = 32 * MIB;

/// Size of each keyspace's memtable in bytes. A put of 700 bytes takes about 850 bytes of `entries`, 200 of `index` and
/// 150 of `by_grant`: with these sizes no keyspace keeps a journal alive for long.
const ENTRIES_MEMTABLE_BYTES: u64 = 32 * MIB;
const INDEX_MEMTABLE_BYTES: u64 = 8 * MIB;
const SMALL_MEMTABLE_BYTES: u64 = 4 * MIB;

/// All keyspaces of the store, and their database.
pub(super) struct Tables {
    /// Records of entries: `key ‖ 0x00 ‖ id` → record.
    pub(super) entries: Keyspace,
    /// Index of entries: `key ‖ 0x00 ‖ id` → index row.
    pub(super) index: Keyspace,
    /// Authority facts: id → record.
    pub(super) authority: Keyspace,
    /// Citations of grants: `grant id ‖ key` → empty value.
    pub(super) by_grant: Keyspace,
    /// Format, cluster id and summary of the store; the summary is written in every batch.
    pub(super) meta: Keyspace,
    pub(super) db: Database,
}

impl Tables {
    /// Creates an empty store at `path`, which must not exist, and closes it again.
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
        // Checked first, as a newer format may have other keyspaces.
        let meta = open_keyspace(&db, "meta")?;
        check_identity(&db.snapshot(), &meta, cluster)?;
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
    // The keyspace keeps the settings with which it was created.
    guarded(|| db.keyspace(name, KeyspaceCreateOptions::default))
}

fn check_identity(snapshot: &Snapshot, meta: &Keyspace, cluster: &ClusterId) -> Result<(), StorageError> {
    let missing = |what: &str| StorageError::Damaged(format!("it does not say its {what}"));
    let format = reads::get(snapshot, meta, rows::META_FORMAT)?;
    let format = format.and_then(|bytes| bytes.as_ref().try_into().ok().map(u32::from_le_bytes));
    match format {
        Some(rows::FORMAT) => {}
        Some(found) => return Err(StorageError::Format { found, supported: rows::FORMAT }),
        None => return Err(missing("format")),
    }
    let found = reads::get(snapshot, meta, rows::META_CLUSTER)?;
    let found = found.and_then(|bytes| bytes.as_ref().try_into().ok().map(ClusterId));
    match found {
        Some(found) if found == *cluster => Ok(()),
        Some(found) => Err(StorageError::ForeignCluster(found.to_string())),
        None => Err(missing("cluster")),
    }
}

/// Returns the settings of keyspaces whose rows are read one by one and are nearly always found.
fn point_reads(memtable_bytes: u64) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().max_memtable_size(memtable_bytes).expect_point_read_hits(true)
}

/// Returns the settings of keyspaces whose rows are only scanned: larger blocks, no filters, and no compression, since
/// hashes do not compress.
fn scans(memtable_bytes: u64) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(memtable_bytes)
        .data_block_size_policy(BlockSizePolicy::all(32 * KIB))
        .data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
        .filter_policy(FilterPolicy::disabled())
}
