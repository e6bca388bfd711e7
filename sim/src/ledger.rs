//! An in-memory store with a separate list of its records, so that tests see what is really stored.

use bytes::Bytes;
use kvgossip_engine::{Batch, IndexEntry, MemoryStorage, Reader, Storage, StorageError, Summary, Write};
use kvgossip_grants::{FactId, Key};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A [`MemoryStorage`] with a list of all records that were put and not removed.
#[derive(Debug, Default)]
pub struct Ledger {
    inner: MemoryStorage,
    records: BTreeMap<FactId, Bytes>,
}

impl Ledger {
    /// Returns every stored record by the id of its fact.
    pub fn records(&self) -> &BTreeMap<FactId, Bytes> {
        &self.records
    }
}

impl Storage for Ledger {
    fn reader(&self) -> Arc<dyn Reader> {
        self.inner.reader()
    }

    fn summary(&self) -> Result<Option<Summary>, StorageError> {
        self.inner.summary()
    }

    fn load_authority(&self, each: &mut dyn FnMut(Bytes)) -> Result<(), StorageError> {
        self.inner.load_authority(each)
    }

    fn load_index(&self, each: &mut dyn FnMut(Key, IndexEntry)) -> Result<(), StorageError> {
        self.inner.load_index(each)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StorageError> {
        for write in &batch.writes {
            match write {
                Write::PutAuthority(id, record) => drop(self.records.insert(*id, record.clone())),
                Write::PutEntry(_, row, record) => drop(self.records.insert(row.id.into(), record.clone())),
                Write::RemoveAuthority(id) => drop(self.records.remove(id)),
                Write::RemoveEntry(_, id) => drop(self.records.remove(&FactId::from(*id))),
                Write::RemoveCitation(..) => {}
            }
        }
        self.inner.commit(batch)
    }
}
