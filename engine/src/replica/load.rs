//! Loads a replica from its store.

use super::{KeyBytes, Replica};
use crate::Frontier;
use crate::leaf::KeyLeaf;
use crate::storage::{IndexEntry, Reader, Storage, StorageError};
use crate::sweep::Ended;
use crate::tree::Tree;
use kvgossip_grants::{Authority, EntryMeta, Fact, Key, Offer};
use std::cmp::Reverse;
use std::sync::Arc;

/// Loads the authority set, then the index. If a sweep was pending, stored rows that are not part of the state are
/// queued for it; otherwise there must be none.
pub(super) fn load(replica: &mut Replica, storage: &dyn Storage) -> Result<(), StorageError> {
    let stored = storage.summary()?;
    let sweep_pending = stored.is_some_and(|summary| summary.sweep_pending);
    load_authority(replica, storage, sweep_pending)?;
    load_entries(replica, storage)?;
    let is_swept = !replica.sweep.is_pending();
    let Some(mut summary) = stored else {
        return if is_swept { Ok(()) } else { Err(surplus()) };
    };
    if !is_swept && !summary.sweep_pending {
        return Err(surplus());
    }
    replica.view.batch = summary.batch;
    summary.sweep_pending = !is_swept;
    if replica.summary() != summary {
        return Err(StorageError::Damaged("the index does not give the stored root digest".into()));
    }
    Ok(())
}

fn surplus() -> StorageError {
    StorageError::Damaged("it holds facts that other facts in it have ended".into())
}

fn load_authority(
    replica: &mut Replica,
    storage: &dyn Storage,
    sweep_pending: bool,
) -> Result<(), StorageError> {
    let cluster = replica.view.authority.cluster();
    let (mut facts, mut damaged) = (Vec::new(), None);
    storage.load_authority(&mut |record| match Fact::from_record(cluster, &record) {
        Ok(fact) => facts.push(fact),
        Err(code) => damaged = Some(code),
    })?;
    if let Some(code) = damaged {
        return Err(StorageError::Damaged(format!("an authority record does not read: {code}")));
    }
    let root = replica.view.authority.root().clone();
    let authority = if sweep_pending {
        let (authority, ended) = Authority::from_own_unswept_store(root, facts);
        ended.into_iter().for_each(|id| replica.sweep.push(Ended::Authority(id)));
        authority
    } else {
        Authority::from_own_store(root, facts).map_err(|error| StorageError::Damaged(error.to_string()))?
    };
    for id in authority.fact_ids() {
        replica.plant_authority(&id);
    }
    replica.view.authority = Arc::new(authority);
    Ok(())
}

fn load_entries(replica: &mut Replica, storage: &dyn Storage) -> Result<(), StorageError> {
    let reader = storage.reader();
    let mut rows =
        Rows { replica, reader, unreadable: None, leaves: Vec::new(), key: None, metas: Vec::new() };
    storage.load_index(&mut |key, row| rows.take(key, row))?;
    rows.end_key();
    if let Some(error) = rows.unreadable {
        return Err(error);
    }
    let Rows { replica, leaves, .. } = rows;
    let keyed = leaves.into_iter().map(|(key, leaf)| (KeyBytes(key), leaf));
    replica.view.entries =
        Tree::from_sorted(keyed).map_err(|_| StorageError::Damaged("the index is out of order".into()))?;
    Ok(())
}

/// Collects rows of the index, in which the rows of one key are consecutive, into leaves of the tree.
struct Rows<'a> {
    replica: &'a mut Replica,
    reader: Arc<dyn Reader>,
    unreadable: Option<StorageError>,
    leaves: Vec<(Key, KeyLeaf)>,
    key: Option<Key>,
    metas: Vec<EntryMeta>,
}

impl Rows<'_> {
    fn take(&mut self, key: Key, row: IndexEntry) {
        if self.key.as_ref() != Some(&key) {
            self.end_key();
            self.key = Some(key.clone());
        }
        let authority = &self.replica.view.authority;
        let grant = row.grant.map(|id| authority.grant(&id).cloned());
        if grant.as_ref().is_some_and(Option::is_none) || authority.is_floored(&key, row.timestamp) {
            return self.replica.sweep.push(Ended::Entry(key, row.id, row.grant));
        }
        let (id, timestamp, is_delete) = (row.id, row.timestamp, row.is_delete);
        let value_bytes = self.value_bytes(&key, &row);
        self.metas.push(EntryMeta { id, timestamp, grant: grant.flatten(), is_delete, value_bytes });
    }

    /// Returns the length of the entry's value in bytes: from the index row, or from the record if an older program
    /// wrote the row without it.
    fn value_bytes(&mut self, key: &Key, row: &IndexEntry) -> u32 {
        if row.is_delete {
            return 0;
        }
        let read = |reader: &dyn Reader| -> Result<u32, StorageError> {
            let cluster = self.replica.view.authority.cluster();
            let record = reader.entry(key, &row.id)?;
            // An unreadable record counts as 0; a later read of it reports the error.
            let value = record.and_then(|record| match Fact::from_record(cluster, &record) {
                Ok(Fact::Entry(entry)) => entry.value().map(bytes::Bytes::len),
                _ => None,
            });
            Ok(value.and_then(|len| u32::try_from(len).ok()).unwrap_or(0))
        };
        row.value_bytes.unwrap_or_else(|| {
            read(self.reader.as_ref()).unwrap_or_else(|error| {
                if !matches!(error, StorageError::Damaged(_) | StorageError::Io(_)) {
                    self.unreadable = Some(error);
                }
                0
            })
        })
    }

    fn end_key(&mut self) {
        let Some(key) = self.key.take() else { return };
        // Newest first, so that entries come after those that dominate them.
        self.metas.sort_unstable_by_key(|meta| Reverse(meta.rank()));
        let mut frontier = Frontier::new();
        for meta in self.metas.drain(..) {
            let (id, grant) = (meta.id, meta.grant_id());
            if !matches!(frontier.offer(meta, ()), Offer::Stands { .. }) {
                self.replica.sweep.push(Ended::Entry(key.clone(), id, grant));
            }
        }
        if !frontier.is_empty() {
            self.replica.view.long.note(&key, frontier.len());
            for entry in frontier.newest_first() {
                self.replica.view.add_weight(&key, entry.meta.value_bytes);
            }
            let leaf = KeyLeaf::new(&key, frontier);
            self.leaves.push((key, leaf));
        }
    }
}
