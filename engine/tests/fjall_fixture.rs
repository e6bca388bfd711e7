//! Stores as released versions wrote them, which every later version must open.

#![cfg(feature = "fjall")]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod fjall_support;

use fjall_support::{World, copy_directory, flush_tables};
use kvgossip_engine::{Storage, Summary};
use kvgossip_grants::Key;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join("fixtures").join(name)
}

/// Format 1: rows in tables and, of the last batches, in the journal.
#[test]
fn format_1_opens_reads_and_goes_on() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new(60));
    copy_directory(&fixture("store-v1"), dir.path());
    let mut storage = world.open(dir.path()).unwrap();
    storage.check().unwrap();
    let mut replica = world.load(&storage).unwrap();
    let root = "6149c4f4a9ad6e4ca90860a5e619159b5c9822e8f35c30ed435d29fd1af35be6".parse().unwrap();
    assert_eq!(storage.summary().unwrap(), Some(Summary { batch: 13, authority_facts: 1, keys: 35, root }));

    let key = Key::parse("/count").unwrap();
    let id = replica.view().frontier(&key).unwrap().entries()[0].id;
    assert_eq!(id.to_string(), "4ab37ac07f6c792be8b47adf16314abd175b1cadb9ab392c819534697741382a");
    let record = storage.reader().entry(&key, &id).unwrap().unwrap();
    assert!(record.ends_with(&12u64.to_le_bytes()));
    let grant = "1fd87bce09ee87f3f54455381529eb5d62558aded659d7958f1680ac1034b183".parse().unwrap();
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
        let entry = &frontier.entries()[0];
        println!("{key} {} {:?}", entry.id, entry.grant_id().map(|grant| grant.to_string()));
    }
}
