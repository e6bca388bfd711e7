//! A store in memory, without durability: for tests, simulators, fuzzers and demonstrations.

use crate::storage::{Batch, IndexEntry, Reader, Storage, StorageError, Summary, Write};
use bytes::Bytes;
use kvgossip_grants::{EntryId, FactId, GrantId, Key};
use parking_lot::Mutex;
use siphasher::sip::SipHasher13;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Number of parts into which rows are divided by the hash of their key. A commit copies the parts that it changes if a
/// reader holds them.
const PARTS: usize = 256;

/// A store in memory. Clones share its contents.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage(Arc<Mutex<Tables>>);

#[derive(Debug, Default)]
struct Tables {
    authority: BTreeMap<FactId, Bytes>,
    index: BTreeMap<(Key, EntryId), IndexEntry>,
    parts: Parts,
    summary: Option<Summary>,
}

/// Rows for readers, in parts by hash of the key. A clone shares all parts until the next commit.
#[derive(Clone, Debug)]
struct Parts(Arc<Vec<Arc<Part>>>);

#[derive(Clone, Debug, Default)]
struct Part {
    entries: BTreeMap<(Key, EntryId), Bytes>,
    citations: BTreeMap<GrantId, BTreeSet<Key>>,
}

impl Default for Parts {
    fn default() -> Self {
        Self(Arc::new(vec![Arc::default(); PARTS]))
    }
}

impl Parts {
    fn number_of(key: &Key) -> usize {
        let mut hasher = SipHasher13::new();
        key.hash(&mut hasher);
        hasher.finish() as usize % PARTS
    }

    fn of_mut(&mut self, key: &Key) -> &mut Part {
        Arc::make_mut(&mut Arc::make_mut(&mut self.0)[Self::number_of(key)])
    }
}

impl Reader for Parts {
    fn entry(&self, key: &Key, id: &EntryId) -> Result<Option<Bytes>, StorageError> {
        Ok(self.0[Self::number_of(key)].entries.get(&(key.clone(), *id)).cloned())
    }

    fn keys_citing(&self, grant: &GrantId, each: &mut dyn FnMut(Key)) -> Result<(), StorageError> {
        let keys: BTreeSet<&Key> =
            self.0.iter().filter_map(|part| part.citations.get(grant)).flatten().collect();
        keys.into_iter().cloned().for_each(each);
        Ok(())
    }
}

impl MemoryStorage {
    /// Creates a store without any row.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Storage for MemoryStorage {
    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(self.0.lock().parts.clone())
    }

    fn summary(&self) -> Result<Option<Summary>, StorageError> {
        Ok(self.0.lock().summary)
    }

    fn load_authority(&self, each: &mut dyn FnMut(Bytes)) -> Result<(), StorageError> {
        // Copied, since a callback that calls this store would deadlock.
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
                    let part = tables.parts.of_mut(&key);
                    if let Some(grant) = row.grant {
                        part.citations.entry(grant).or_default().insert(key.clone());
                    }
                    part.entries.insert((key.clone(), row.id), record);
                    tables.index.insert((key, row.id), row);
                }
                Write::RemoveEntry(key, id) => {
                    let row = (key, id);
                    tables.parts.of_mut(&row.0).entries.remove(&row);
                    tables.index.remove(&row);
                }
                Write::RemoveCitation(grant, key) => {
                    if let Some(keys) = tables.parts.of_mut(&key).citations.get_mut(&grant) {
                        keys.remove(&key);
                    }
                }
            }
        }
        tables.summary = Some(batch.summary);
        Ok(())
    }
}
