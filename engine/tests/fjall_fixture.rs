//! Stores as versions before wrote them: the one of this format opens, those of others are refused as such.

#![cfg(feature = "fjall")]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod fjall_support;

use fjall_support::{World, copy_directory, flush_tables};
use kvgossip_engine::fsck::fsck;
use kvgossip_engine::{FjallStorage, Storage, StorageError, Summary};
use kvgossip_grants::{Key, MockVerifier, Signer};
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join("fixtures").join(name)
}

/// What is done to a copy of a store, in words and in deed.
type Spoil = (&'static str, fn(&Path));

/// Its facts are those of another cluster, and its digests others. None of the checks that come later calls that damage,
/// a foreign cluster or a rollback.
#[test]
fn format_1_is_refused_as_old_before_anything_else_is_wrong_with_it() {
    let spoils: [Spoil; 4] = [
        ("as it is", |_| {}),
        ("without last-batch", |dir| std::fs::remove_file(dir.join("last-batch")).unwrap()),
        ("last-batch cut", |dir| std::fs::write(dir.join("last-batch"), b"kvg-last").unwrap()),
        ("the engine's files spoilt", |dir| std::fs::write(dir.join("store/version"), "another").unwrap()),
    ];
    for (what, spoil) in spoils {
        let (dir, world) = (tempfile::tempdir().unwrap(), World::new(60));
        copy_directory(&fixture("store-v1"), dir.path());
        spoil(dir.path());
        let checked = fsck(dir.path(), world.root.public(), &MockVerifier, &mut |_, _| {}).map(|_| ());
        let opened = world.open(dir.path()).map(|_| ());
        let accepted = FjallStorage::open_accepting_rollback(dir.path(), world.cluster()).map(|_| ());
        for refused in [checked, opened, accepted] {
            let refused = refused.unwrap_err();
            let is_old = matches!(refused, StorageError::Format { found: 1, supported: 2 });
            assert!(is_old && refused.code() == "store.format", "{what}: {refused}");
        }
    }
}

/// Format 2: rows in tables and, of the last batches, in the journal.
#[test]
fn format_2_opens_reads_and_goes_on() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new(60));
    copy_directory(&fixture("store-v2"), dir.path());
    let mut storage = world.open(dir.path()).unwrap();
    storage.check().unwrap();
    let mut replica = world.load(&storage).unwrap();
    let root = "2c5f191c9667bd12baf0d0ea9a90a025a6319be536e70678ee8725b8d7688ef0".parse().unwrap();
    assert_eq!(
        storage.summary().unwrap(),
        Some(Summary { batch: 13, authority_facts: 1, keys: 35, root, sweep_pending: false })
    );

    let key = Key::parse("/count").unwrap();
    let id = replica.view().frontier(&key).unwrap().ids().next().unwrap();
    assert_eq!(id.to_string(), "eb3f58da61ada18efa505d55ed3376096c63e85a9c9d0521332d5b5b9ecf01f2");
    let record = storage.reader().entry(&key, &id).unwrap().unwrap();
    assert!(record.ends_with(&12u64.to_le_bytes()));
    let grant = "f628faa489562902d5d97f11db201d6c690bb5d500604d5ba56ecd09606862ee".parse().unwrap();
    let mut cited = Vec::new();
    storage.reader().keys_citing(&grant, &mut |key| cited.push(key)).unwrap();
    assert_eq!(cited.len(), 25);

    let next = world.write(&mut replica, &mut storage, 13).unwrap();
    drop(storage);
    assert_eq!(world.examine(dir.path()).unwrap(), Some(next));
}

/// Writes a fixture of this version's format into `tests/fixtures/store-new`, and prints what a test can ask of it:
/// `cargo test -p kvgossip-engine --features fjall --test fjall_fixture -- --ignored --nocapture make_fixture`.
#[test]
#[ignore = "it makes a fixture and checks nothing: run it by name when the store's format has a new number"]
fn make_fixture() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new(60));
    world.fill(dir.path(), 1..=9);
    flush_tables(dir.path());
    let summary = world.fill(dir.path(), 10..=12);
    copy_directory(dir.path(), &fixture("store-new"));
    println!("{summary:?} {}", summary.root);
    let storage = world.open(dir.path()).unwrap();
    let replica = world.load(&storage).unwrap();
    for (key, frontier) in replica.view().keys("", None) {
        let entry = &frontier.newest().unwrap().meta;
        println!("{key} {} {:?}", entry.id, entry.grant_id().map(|grant| grant.to_string()));
    }
}
