//! A store that forgets when it is dropped: for tests, simulators, fuzzers and demonstrations.

use crate::storage::{Batch, IndexEntry, Reader, Storage, StorageError, Summary, Write};
use bytes::Bytes;
use kvgossip_grants::{EntryId, FactId, GrantId, Key};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Keeps everything in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage(Arc<Mutex<Tables>>);

#[derive(Debug, Default)]
struct Tables {
    authority: BTreeMap<FactId, Bytes>,
    entries: BTreeMap<(Key, EntryId), Bytes>,
    index: BTreeMap<(Key, EntryId), IndexEntry>,
    citations: BTreeMap<GrantId, BTreeSet<Key>>,
    summary: Option<Summary>,
}

impl MemoryStorage {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Reader for MemoryStorage {
    fn entry(&self, key: &Key, id: &EntryId) -> Result<Option<Bytes>, StorageError> {
        Ok(self.0.lock().entries.get(&(key.clone(), *id)).cloned())
    }

    fn keys_citing(&self, grant: &GrantId, each: &mut dyn FnMut(Key)) -> Result<(), StorageError> {
        // Copied, so that the lock is not held while the caller works.
        let keys = self.0.lock().citations.get(grant).cloned().unwrap_or_default();
        keys.into_iter().for_each(each);
        Ok(())
    }
}

impl Storage for MemoryStorage {
    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(self.clone())
    }

    fn summary(&self) -> Result<Option<Summary>, StorageError> {
        Ok(self.0.lock().summary)
    }

    fn load_authority(&self, each: &mut dyn FnMut(Bytes)) -> Result<(), StorageError> {
        // As above: a callee that reads an entry would wait for this very lock.
        let records: Vec<Bytes> = self.0.lock().authority.values().cloned().collect();
        records.into_iter().for_each(each);
        Ok(())
    }

    fn load_index(&self, each: &mut dyn FnMut(Key, IndexEntry)) -> Result<(), StorageError> {
        let rows = self.0.lock().index.iter().map(|((key, _), row)| (key.clone(), *row)).collect::<Vec<_>>();
        rows.into_iter().for_each(|(key, row)| each(key, row));
        Ok(())
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let mut tables = self.0.lock();
        for write in batch.writes.iter().cloned() {
            match write {
                Write::PutAuthority(id, record) => {
                    tables.authority.insert(id, record);
                }
                Write::RemoveAuthority(id) => {
                    tables.authority.remove(&id);
                }
                Write::PutEntry(key, row, record) => {
                    if let Some(grant) = row.grant {
                        tables.citations.entry(grant).or_default().insert(key.clone());
                    }
                    tables.index.insert((key.clone(), row.id), row);
                    tables.entries.insert((key, row.id), record);
                }
                Write::RemoveEntry(key, id) => {
                    let row = (key, id);
                    tables.entries.remove(&row);
                    tables.index.remove(&row);
                }
                Write::RemoveCitation(grant, key) => {
                    if let Some(keys) = tables.citations.get_mut(&grant) {
                        keys.remove(&key);
                    }
                }
            }
        }
        tables.summary = Some(batch.summary);
        Ok(())
    }
}
