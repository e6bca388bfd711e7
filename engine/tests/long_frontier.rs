//! A key with very many entries: what it costs to write one, to end all, and to open the store meanwhile. Rows and bytes
//! are counted.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod many;

use kvgossip_engine::{
    Cause, LONG_FRONTIER, MAX_REMOVED_AT_ONCE, MAX_SWEEP_ROWS, MemoryStorage, Replica, Storage, Write,
};
use kvgossip_grants::{EntryId, Fact};
use many::Many;

/// Beside its value, in bytes.
const MAX_PUT_BYTES: usize = 4096;

/// Rows that a write touches, and their bytes.
fn rows(write: &Write) -> (usize, usize) {
    let key_and_id = |key: &kvgossip_grants::Key| key.as_str().len() + 1 + 32;
    match write {
        Write::PutAuthority(_, record) => (1, 32 + record.len()),
        Write::RemoveAuthority(_) => (1, 32),
        // The record, its row of the index, its citation.
        Write::PutEntry(key, _, record) => (3, 3 * key_and_id(key) + record.len() + 1 + 8 + 32),
        Write::RemoveEntry(key, _) => (2, 2 * key_and_id(key)),
        Write::RemoveCitation(_, key) => (1, key_and_id(key)),
    }
}

fn count(writes: &[Write]) -> (usize, usize) {
    writes.iter().map(rows).fold((0, 0), |(rows, bytes), (more, long)| (rows + more, bytes + long))
}

/// How many rows of entries and of authority are stored.
fn stored(storage: &MemoryStorage) -> (usize, usize) {
    let (mut entries, mut authority) = (0, 0);
    storage.load_index(&mut |_, _| entries += 1).unwrap();
    storage.load_authority(&mut |_| authority += 1).unwrap();
    (entries, authority)
}

fn try_key_with(entries: usize) {
    let (mut many, mut storage) = (Many::new(), MemoryStorage::new());
    let mut replica = Replica::new(many.root_key());
    many.fill(&mut replica, &mut storage, entries);
    let key = many.key();
    assert_eq!(replica.view().frontier(&key).unwrap().len(), entries);
    let long = replica.view().long_frontiers();
    if entries > LONG_FRONTIER {
        assert_eq!((long.len(), &long[0].key, long[0].entries), (1, &key, entries));
        assert_eq!(long[0].grants, [(many.parent_id(), entries)], "a single entry is no reason to revoke");
    } else {
        assert_eq!(long, []);
    }

    let value = b"value";
    let put = many.entry(0, 1 << 40, value);
    let id = EntryId(put.id().0);
    let applied = many.apply(&mut replica, &storage, vec![put]);
    let batch = applied.batch.unwrap();
    let (touched, bytes) = count(&batch.writes);
    assert!(touched <= 5 && bytes <= value.len() + MAX_PUT_BYTES, "{touched} rows of {bytes} bytes");
    assert_eq!(applied.changes.len(), 1);
    storage.commit(&batch).unwrap();
    assert_eq!(replica.view().shown(&key, Many::now()).map(|shown| shown.id), Some(id));

    let opened = Replica::load(many.root_key(), &storage).unwrap();
    assert_eq!(opened.summary(), replica.summary());
    assert_eq!(opened.view().shown(&key, Many::now()).map(|shown| shown.id), Some(id));
    assert_eq!(opened.view().long_frontiers(), replica.view().long_frontiers());

    // One grant of many ends: one entry falls.
    let lone = many.revoke_child(entries - 1);
    let applied = many.apply(&mut replica, &storage, vec![lone]);
    assert_eq!(applied.changes.len(), 1);
    assert!(count(&applied.batch.as_ref().unwrap().writes).0 <= 5);
    storage.commit(&applied.batch.unwrap()).unwrap();
    assert_eq!(replica.view().frontier(&key).map_or(0, |frontier| frontier.len()), entries - 1);

    let revocation = many.revoke_parent();
    let applied = many.apply(&mut replica, &storage, vec![revocation]);
    let told: Vec<_> = applied.changes.iter().map(|change| (&change.key, change.cause)).collect();
    let expected = if entries > 1 { vec![(&key, Cause::Revoked(many.parent_id()))] } else { vec![] };
    assert_eq!(told, expected, "one change for a key and a cause");
    let batch = applied.batch.unwrap();
    assert!(count(&batch.writes).0 <= 3 * (MAX_REMOVED_AT_ONCE + 1) + 1);
    storage.commit(&batch).unwrap();
    assert!(replica.view().frontier(&key).is_none() && replica.view().long_frontiers().is_empty());
    assert_eq!(replica.view().authority().len(), 1);
    assert_eq!(batch.summary.sweep_pending, entries > MAX_REMOVED_AT_ONCE);

    // Whoever opens it now, or at any later moment, sees the same, and goes on with the sweep.
    let mut sweeps = 0;
    loop {
        let mut opened = Replica::load(many.root_key(), &storage).unwrap();
        assert_eq!(opened.view().root(), replica.view().root());
        assert_eq!(opened.is_sweep_due(), replica.is_sweep_due());
        let sweeper = if sweeps == 1 { &mut opened } else { &mut replica };
        let Some(sweep) = sweeper.next_sweep() else { break };
        assert!(count(&sweep.writes).0 <= MAX_SWEEP_ROWS);
        storage.commit(&sweep).unwrap();
        if sweeps == 1 {
            replica = opened;
        }
        sweeps += 1;
    }
    assert_eq!(stored(&storage), (0, 1), "the revocation is left");
    assert!(!storage.summary().unwrap().unwrap().sweep_pending);
    assert!(sweeps <= (4 * entries).div_ceil(MAX_SWEEP_ROWS - 3), "{sweeps} sweeps");
}

#[test]
fn a_key_with_1_33_or_1000_entries() {
    [1, 33, 1_000].into_iter().for_each(try_key_with);
}

#[test]
fn a_key_with_24000_entries() {
    try_key_with(24_000);
}

/// One put may end as many entries as a revocation.
#[test]
fn an_entry_of_roots_over_many_leaves_their_rows_to_the_sweep() {
    let (mut many, mut storage) = (Many::new(), MemoryStorage::new());
    let mut replica = Replica::new(many.root_key());
    many.fill(&mut replica, &mut storage, 1_000);
    let put: Fact = many.entry_of_root(1 << 40, b"over all");
    let applied = many.apply(&mut replica, &storage, vec![put]);
    assert_eq!((applied.changes.len(), replica.view().frontier(&many.key()).unwrap().len()), (1, 1));
    let batch = applied.batch.unwrap();
    assert!(batch.summary.sweep_pending && count(&batch.writes).0 <= 3 * (MAX_REMOVED_AT_ONCE + 2));
    storage.commit(&batch).unwrap();
    let opened = Replica::load(many.root_key(), &storage).unwrap();
    assert_eq!(opened.view().root(), replica.view().root());
    while let Some(sweep) = replica.next_sweep() {
        storage.commit(&sweep).unwrap();
    }
    assert_eq!(stored(&storage), (1, 1_001));
    assert_eq!(Replica::load(many.root_key(), &storage).unwrap().summary(), replica.summary());
}

/// Without the mark, rows that are not part of the state are damage.
#[test]
fn a_surplus_that_nobody_announced_is_damage() {
    let (mut many, mut storage) = (Many::new(), MemoryStorage::new());
    let mut replica = Replica::new(many.root_key());
    many.fill(&mut replica, &mut storage, 300);
    let revocation = many.revoke_parent();
    let mut batch = many.apply(&mut replica, &storage, vec![revocation]).batch.unwrap();
    assert!(batch.summary.sweep_pending);
    storage.commit(&batch).unwrap();
    assert!(Replica::load(many.root_key(), &storage).is_ok());
    batch.summary.sweep_pending = false;
    batch.writes.clear();
    storage.commit(&batch).unwrap();
    let refused = Replica::load(many.root_key(), &storage);
    assert!(matches!(refused, Err(kvgossip_engine::StorageError::Damaged(_))));
}
