//! The store on disk against the one in memory: the same batches, closed and opened again at random moments, and at
//! some of them with everything written out from memory to tables.

#![cfg(feature = "fjall")]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod fjall_support;

use bytes::Bytes;
use kvgossip_engine::{
    Batch, FjallStorage, IndexEntry, MemoryStorage, Storage, StorageError, Summary, Write,
};
use kvgossip_grants::{ClusterId, Digest, EntryId, GrantId, Key, Timestamp};
use proptest::prelude::*;
use std::fmt::Debug;

const CLUSTER: ClusterId = ClusterId([3; 32]);
/// Few of each, so that batches hit what others left.
const IDS: u8 = 6;
const KEYS: [&str; 8] = ["/a", "/a/b", "/a/b/c", "/ab", "/a%00", "/a,", "/a~", "/b"];

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Write>),
    Reopen,
    FlushTables,
}

fn id<I: From<[u8; 32]> + Debug>() -> impl Strategy<Value = I> {
    // The last byte too, as it lies at the end of a row; and 0x00 and 0xff are where a scan may go wrong.
    (0..IDS).prop_map(|n| I::from(if n == 0 { [0xff; 32] } else { [n - 1; 32] }))
}

fn key() -> impl Strategy<Value = Key> {
    prop::sample::select(&KEYS[..]).prop_map(|name| Key::parse(name).unwrap())
}

fn record() -> impl Strategy<Value = Bytes> {
    // Above 4 KiB journals hold values in another way.
    prop_oneof![4 => 0..300usize, 1 => 3_000..20_000usize]
        .prop_flat_map(|len| any::<u8>().prop_map(move |byte| Bytes::from(vec![byte; len])))
}

fn index_entry() -> impl Strategy<Value = IndexEntry> {
    let entry = (id(), 0..1000u64, proptest::option::of(id()), any::<bool>(), any::<Option<u32>>());
    entry.prop_map(|(id, time, grant, is_delete, value_bytes)| IndexEntry {
        id,
        timestamp: Timestamp::from_micros(time).unwrap(),
        grant,
        is_delete,
        value_bytes,
    })
}

fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        (id(), record()).prop_map(|(id, record)| Write::PutAuthority(id, record)),
        id().prop_map(Write::RemoveAuthority),
        (key(), index_entry(), record()).prop_map(|(key, row, record)| Write::PutEntry(key, row, record)),
        (key(), id()).prop_map(|(key, id)| Write::RemoveEntry(key, id)),
        (id(), key()).prop_map(|(grant, key)| Write::RemoveCitation(grant, key)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(write(), 0..12).prop_map(Step::Commit),
        2 => Just(Step::Reopen),
        1 => Just(Step::FlushTables),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn disk_and_memory_agree(steps in prop::collection::vec(step(), 1..24)) {
        let dir = tempfile::tempdir().unwrap();
        let open = || FjallStorage::open(dir.path(), CLUSTER).unwrap();
        let mut memory = MemoryStorage::new();
        let mut disk = open();
        let mut batch = 0;
        for step in steps {
            match step {
                Step::Commit(writes) => {
                    batch += 1;
                    let root = Digest([batch as u8; 32]);
                    let summary = Summary {
                        batch,
                        authority_facts: batch * 3,
                        keys: batch * 7,
                        root,
                        sweep_pending: batch.is_multiple_of(2),
                    };
                    let batch = Batch { writes, summary };
                    memory.commit(&batch).unwrap();
                    disk.commit(&batch).unwrap();
                }
                Step::Reopen => {
                    let reader = disk.reader();
                    drop(disk);
                    let gone = reader.entry(&Key::parse("/a").unwrap(), &EntryId([0; 32]));
                    prop_assert!(matches!(gone, Err(StorageError::Stopped(_))));
                    disk = open();
                }
                Step::FlushTables => {
                    drop(disk);
                    fjall_support::flush_tables(dir.path());
                    disk = open();
                }
            }
            prop_assert_eq!(all_of(&disk), all_of(&memory));
        }
    }
}

/// Everything that can be read.
#[derive(Debug, PartialEq)]
struct All {
    summary: Option<Summary>,
    /// Sorted, as a store may hand them out in any order.
    authority: Vec<Bytes>,
    /// As they come.
    index: Vec<(Key, IndexEntry)>,
    entries: Vec<(Key, EntryId, Bytes)>,
    citations: Vec<(GrantId, Vec<Key>)>,
}

fn all_of(storage: &dyn Storage) -> All {
    let mut authority = Vec::new();
    storage.load_authority(&mut |record| authority.push(record)).unwrap();
    authority.sort();
    let mut index = Vec::new();
    storage.load_index(&mut |key, row| index.push((key, row))).unwrap();
    let reader = storage.reader();
    let ids = (0..IDS).map(|n| [n.wrapping_sub(1); 32]);
    let keys = KEYS.map(|key| Key::parse(key).unwrap());
    let mut entries = Vec::new();
    for key in keys {
        for id in ids.clone().map(EntryId) {
            entries.extend(reader.entry(&key, &id).unwrap().map(|record| (key.clone(), id, record)));
        }
    }
    let citations = ids.map(GrantId).map(|grant| {
        let mut keys = Vec::new();
        reader.keys_citing(&grant, &mut |key| keys.push(key)).unwrap();
        (grant, keys)
    });
    All { summary: storage.summary().unwrap(), authority, index, entries, citations: citations.collect() }
}

/// What the order of writes in a batch means, in each of the places where the engine may keep a row.
#[test]
fn the_last_write_to_a_row_in_a_batch_wins() {
    let dir = tempfile::tempdir().unwrap();
    let (gone, kept) = (Key::parse("/gone").unwrap(), Key::parse("/kept").unwrap());
    let (id, grant) = (EntryId([1; 32]), GrantId([2; 32]));
    let timestamp = |micros| Timestamp::from_micros(micros).unwrap();
    let (grant_of, is_delete, value_bytes) = (Some(grant), false, None);
    let row =
        |micros| IndexEntry { id, timestamp: timestamp(micros), grant: grant_of, is_delete, value_bytes };
    let put = |key: &Key, text: &'static str, at| Write::PutEntry(key.clone(), row(at), Bytes::from(text));
    let writes = vec![
        put(&gone, "first", 1),
        Write::PutAuthority(id.into(), Bytes::from("gone")),
        Write::RemoveEntry(gone.clone(), id),
        Write::RemoveCitation(grant, gone.clone()),
        Write::RemoveAuthority(id.into()),
        Write::RemoveEntry(kept.clone(), id),
        Write::RemoveCitation(grant, kept.clone()),
        put(&kept, "first", 2),
        put(&kept, "last", 3),
    ];
    let check = |storage: &FjallStorage, place: &str| {
        let all = all_of(storage);
        assert_eq!(all.authority, Vec::<Bytes>::new(), "{place}");
        assert_eq!(all.index, [(kept.clone(), row(3))], "{place}");
        let reader = storage.reader();
        assert_eq!(reader.entry(&gone, &id).unwrap(), None, "{place}");
        assert_eq!(reader.entry(&kept, &id).unwrap().as_deref(), Some(&b"last"[..]), "{place}");
        let mut keys = Vec::new();
        reader.keys_citing(&grant, &mut |key| keys.push(key)).unwrap();
        assert_eq!(keys, std::slice::from_ref(&kept), "{place}");
    };
    let mut storage = FjallStorage::open(dir.path(), CLUSTER).unwrap();
    let summary =
        Summary { batch: 1, authority_facts: 0, keys: 1, root: Digest([9; 32]), sweep_pending: false };
    storage.commit(&Batch { writes, summary }).unwrap();
    check(&storage, "in memory");
    drop(storage);
    check(&FjallStorage::open(dir.path(), CLUSTER).unwrap(), "from the journal");
    fjall_support::flush_tables(dir.path());
    check(&FjallStorage::open(dir.path(), CLUSTER).unwrap(), "from tables");
}
