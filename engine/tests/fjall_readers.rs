//! Readers beside a committer.

#![cfg(feature = "fjall")]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod fjall_support;

use bytes::Bytes;
use kvgossip_engine::{Batch, FjallStorage, IndexEntry, Storage, StorageError, Summary, Write};
use kvgossip_grants::{ClusterId, Digest, EntryId, GrantId, Key, Timestamp};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const CLUSTER: ClusterId = ClusterId([3; 32]);
const GRANT: GrantId = GrantId([1; 32]);
const ENTRY: IndexEntry = IndexEntry {
    id: EntryId([2; 32]),
    timestamp: Timestamp::ZERO,
    grant: Some(GRANT),
    is_delete: false,
    value_bytes: None,
};
const KEYS: usize = 300;
const BATCHES: u64 = 400;

fn keys() -> Vec<Key> {
    let mut keys: Vec<Key> = (0..KEYS).map(|n| Key::parse(&format!("/k/{n}")).unwrap()).collect();
    keys.sort();
    keys
}

/// The record of all entries after an odd batch, and the even one after it.
fn record_of(number: u64) -> Bytes {
    ((number - 1) / 2).to_be_bytes().repeat(100).into()
}

/// All keys cite the grant after an odd batch, and none after an even one.
fn batch(number: u64) -> Batch {
    let change = |key: Key| match number % 2 {
        1 => Write::PutEntry(key, ENTRY, record_of(number)),
        _ => Write::RemoveCitation(GRANT, key),
    };
    let summary =
        Summary { batch: number, authority_facts: 0, keys: 0, root: Digest([0; 32]), sweep_pending: false };
    Batch { writes: keys().into_iter().map(change).collect(), summary }
}

/// Enough batches that tables are written meanwhile, which is when a snapshot of the engine alone goes wrong.
#[test]
fn a_reader_reads_the_state_of_its_commit_while_others_follow() {
    let dir = tempfile::tempdir().unwrap();
    let mut storage = FjallStorage::open(dir.path(), CLUSTER).unwrap();
    let (published, done) = (Mutex::new((0, storage.reader())), AtomicBool::new(false));
    let all = keys();
    // How often each reader saw none and all of the keys.
    let seen: [[AtomicU64; 2]; 2] = Default::default();
    let saw_both = || seen.iter().flatten().all(|count| count.load(Ordering::Relaxed) > 0);
    std::thread::scope(|scope| {
        let readers: Vec<_> = seen
            .iter()
            .map(|seen| {
                let (published, done, all) = (&published, &done, &all);
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        let (number, reader) = published.lock().unwrap().clone();
                        // Twice, so that batches come in between.
                        for _ in 0..2 {
                            let mut keys = Vec::with_capacity(KEYS);
                            reader.keys_citing(&GRANT, &mut |key| keys.push(key)).unwrap();
                            let expected = if number % 2 == 1 { all.as_slice() } else { &[] };
                            assert_eq!(keys, expected, "after {number} batches");
                            let record = reader.entry(&all[0], &ENTRY.id).unwrap();
                            assert_eq!(
                                record,
                                (number > 0).then(|| record_of(number)),
                                "after {number} batches"
                            );
                        }
                        seen[number as usize % 2].fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let is_reading = |number| {
            readers.iter().all(|reader| !reader.is_finished()) && !saw_both() && number < 100 * BATCHES
        };
        let mut number = 0;
        while number < BATCHES || is_reading(number) {
            number += 1;
            storage.commit(&batch(number)).unwrap();
            *published.lock().unwrap() = (number, storage.reader());
        }
        done.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    assert!(saw_both(), "the readers read while batches came: {seen:?}");
}

#[test]
fn a_reader_outlives_its_store_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut storage = FjallStorage::open(dir.path(), CLUSTER).unwrap();
    storage.commit(&batch(1)).unwrap();
    let reader = storage.reader();
    let key = &keys()[0];
    assert_eq!(reader.entry(key, &EntryId([2; 32])).unwrap(), Some(record_of(1)));
    assert_eq!(reader.entry(key, &EntryId([9; 32])).unwrap(), None);
    // Closed from inside a scan, which still ends as it began.
    let mut storage = Some(storage);
    let mut count = 0;
    reader
        .keys_citing(&GRANT, &mut |_| {
            storage = None;
            count += 1;
        })
        .unwrap();
    assert_eq!(count, KEYS);
    assert!(matches!(reader.entry(key, &EntryId([2; 32])), Err(StorageError::Stopped(_))));
    assert!(matches!(reader.keys_citing(&GRANT, &mut |_| ()), Err(StorageError::Stopped(_))));
    FjallStorage::open(dir.path(), CLUSTER).unwrap();
}
