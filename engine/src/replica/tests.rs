//! Tests that a replica loads what it wrote.

use super::*;
use crate::memory::MemoryStorage;
use crate::storage::{IndexEntry, Write};
use bytes::Bytes;
use kvgossip_grants::{
    EntryDraft, EntryFact, EntryId, Fact, GrantId, MockKey, MockVerifier, Signer, Timestamp,
};
use std::sync::Arc;

fn root() -> MockKey {
    MockKey::new(0)
}

/// Makes an entry signed by root; without a length, a delete.
fn entry(number: u64, value_bytes: Option<usize>) -> Fact {
    let draft = EntryDraft {
        key: Key::parse(&format!("/k/{number}")).expect("a key"),
        value: value_bytes.map(|len| Bytes::from(vec![7; len])),
        timestamp: Timestamp::from_micros(number).expect("a small time"),
        grant: None,
    };
    Fact::Entry(EntryFact::sign(root().public().cluster(), draft, &root()).expect("mock signatures"))
}

fn batch(replica: &mut Replica, storage: &MemoryStorage, fact: Fact) -> Batch {
    let checked = replica.view().authority().check(fact, Timestamp::MAX).expect("a good fact");
    let verified = checked.verify(&MockVerifier).expect("a good signature");
    let applied = replica.apply(vec![verified], storage.reader().as_ref()).expect("it is in memory");
    applied.batch.expect("something changed")
}

#[test]
fn batches_are_counted_one_by_one() {
    let (mut replica, mut storage) = (Replica::new(root().public().clone()), MemoryStorage::new());
    for number in 1..=5 {
        let batch = batch(&mut replica, &storage, entry(number, Some(1)));
        assert_eq!((batch.summary.batch, replica.summary().batch), (number, number));
        storage.commit(&batch).expect("it is in memory");
        replica = Replica::load(root().public().clone(), &storage).expect("a sound store");
        assert_eq!(replica.summary(), batch.summary, "it goes on from there");
    }
}

/// Rows of older programs lack the length of the value; it is read from the record.
#[test]
fn a_replica_weighs_as_much_when_it_is_read_whatever_its_rows_say() {
    let (mut replica, mut storage) = (Replica::new(root().public().clone()), MemoryStorage::new());
    let mut old = MemoryStorage::new();
    for (number, len) in (1..).zip([Some(0), Some(1), Some(700), None]) {
        let mut batch = batch(&mut replica, &storage, entry(number, len));
        storage.commit(&batch).expect("it is in memory");
        for write in &mut batch.writes {
            if let Write::PutEntry(_, row, _) = write {
                assert_eq!(row.value_bytes, len.map(|len| len as u32));
                row.value_bytes = None;
            }
        }
        old.commit(&batch).expect("it is in memory");
    }
    let weight = |storage: &MemoryStorage| {
        let replica = Replica::load(root().public().clone(), storage).expect("a sound store");
        let view = replica.view();
        let entries = view.keys("", None).flat_map(|(_, frontier)| frontier.newest_first());
        (view.weight(), entries.map(|entry| entry.meta.value_bytes).collect::<Vec<_>>())
    };
    assert_eq!(weight(&storage), (replica.view().weight(), vec![0, 1, 700, 0]));
    assert_eq!(weight(&old), weight(&storage));
}

/// A store whose entries cannot be read.
struct Unreadable(MemoryStorage, StorageError);

struct UnreadableReader(Arc<dyn Reader>, StorageError);

impl Reader for UnreadableReader {
    fn entry(&self, _: &Key, _: &EntryId) -> Result<Option<Bytes>, StorageError> {
        Err(self.1.clone())
    }

    fn keys_citing(&self, grant: &GrantId, each: &mut dyn FnMut(Key)) -> Result<(), StorageError> {
        self.0.keys_citing(grant, each)
    }
}

impl Storage for Unreadable {
    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(UnreadableReader(self.0.reader(), self.1.clone()))
    }

    fn summary(&self) -> Result<Option<Summary>, StorageError> {
        self.0.summary()
    }

    fn load_authority(&self, each: &mut dyn FnMut(Bytes)) -> Result<(), StorageError> {
        self.0.load_authority(each)
    }

    fn load_index(&self, each: &mut dyn FnMut(Key, IndexEntry)) -> Result<(), StorageError> {
        self.0.load_index(each)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StorageError> {
        self.0.commit(batch)
    }
}

/// One damaged record counts as 0 and does not stop the loading; a store that is gone does.
#[test]
fn a_length_that_cannot_be_read_is_nothing_unless_the_store_is_gone() {
    let (mut replica, mut storage) = (Replica::new(root().public().clone()), MemoryStorage::new());
    let mut batch = batch(&mut replica, &storage, entry(1, Some(700)));
    for write in &mut batch.writes {
        if let Write::PutEntry(_, row, _) = write {
            row.value_bytes = None;
        }
    }
    storage.commit(&batch).expect("it is in memory");
    let load = |error| Replica::load(root().public().clone(), &Unreadable(storage.clone(), error));
    let damaged = load(StorageError::Damaged("a record".into())).expect("the rest is sound");
    assert_eq!(damaged.summary(), replica.summary());
    assert_eq!(damaged.view().weight() + 700, replica.view().weight());
    assert!(matches!(load(StorageError::Stopped("gone".into())), Err(StorageError::Stopped(_))));
}
