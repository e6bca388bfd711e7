//! Which store may be opened, and what an opening says when it should not go on.

#![cfg(feature = "fjall")]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod fjall_support;

use fjall_support::World;
use kvgossip_engine::{FjallStorage, Storage, StorageError};
use kvgossip_grants::ClusterId;
use std::path::Path;

fn refusal(opened: Result<FjallStorage, StorageError>) -> StorageError {
    match opened {
        Ok(_) => panic!("must be refused"),
        Err(error) => error,
    }
}

#[test]
fn a_store_of_another_cluster_is_refused_and_left_alone() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new(100));
    let summary = world.fill(dir.path(), 1..=3);
    match refusal(FjallStorage::open(dir.path(), ClusterId([7; 32]))) {
        StorageError::ForeignCluster(cluster) => assert_eq!(cluster, world.cluster().to_string()),
        other => panic!("{other}"),
    }
    assert_eq!(world.examine(dir.path()).unwrap(), Some(summary));
}

#[test]
fn a_newer_format_is_refused_by_what_the_store_says() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new(100));
    world.fill(dir.path(), 1..=3);
    set_meta(dir.path(), "format", &3u32.to_le_bytes());
    assert!(matches!(refusal(world.open(dir.path())), StorageError::Format { found: 3, supported: 2 }));
}

#[test]
fn a_store_of_an_earlier_format_is_refused_and_named() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new(100));
    world.fill(dir.path(), 1..=3);
    set_meta(dir.path(), "format", &1u32.to_le_bytes());
    assert!(matches!(refusal(world.open(dir.path())), StorageError::Format { found: 1, supported: 2 }));
}

#[test]
fn a_newer_format_is_refused_before_the_engine_looks_at_it() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new(100));
    world.fill(dir.path(), 1..=3);
    std::fs::write(dir.path().join("store").join("version"), "another engine").unwrap();
    assert!(matches!(refusal(world.open(dir.path())), StorageError::Damaged(_)));
    let mut last_batch = b"kvg-last".to_vec();
    last_batch.extend_from_slice(&3u32.to_le_bytes());
    last_batch.extend_from_slice(&9u64.to_le_bytes());
    let check = blake3::hash(&last_batch);
    last_batch.extend_from_slice(&check.as_bytes()[..8]);
    last_batch.extend_from_slice(b"what a later format may add");
    std::fs::write(dir.path().join("last-batch"), last_batch).unwrap();
    assert!(matches!(refusal(world.open(dir.path())), StorageError::Format { found: 3, supported: 2 }));
}

#[test]
fn what_a_store_must_say_of_itself_cannot_be_missing() {
    for row in ["format", "cluster"] {
        let (dir, world) = (tempfile::tempdir().unwrap(), World::new(100));
        world.fill(dir.path(), 1..=3);
        set_meta(dir.path(), row, b"short");
        let error = refusal(world.open(dir.path()));
        assert!(matches!(&error, StorageError::Damaged(text) if text.contains(row)), "{error}");
    }
}

#[test]
fn a_store_that_was_being_made_is_made_again() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new(100));
    std::fs::create_dir_all(dir.path().join("store.new").join("keyspaces")).unwrap();
    std::fs::write(dir.path().join("store.new").join("0.jnl"), "half").unwrap();
    let storage = world.open(dir.path()).unwrap();
    assert_eq!(storage.summary().unwrap(), None);
    assert!(!dir.path().join("store.new").exists());
}

#[test]
fn missing_directories_are_made() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new(100));
    let below = dir.path().join("some").join("where");
    let summary = world.fill(&below, 1..=2);
    assert_eq!(world.examine(&below).unwrap(), Some(summary));
}

#[test]
fn a_store_goes_aside_and_an_empty_one_takes_its_place() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new(100));
    assert_eq!(FjallStorage::move_aside(dir.path()).unwrap(), None);
    let mut aside = Vec::new();
    for numbers in [1..=3, 1..=2] {
        world.fill(dir.path(), numbers);
        aside.push(FjallStorage::move_aside(dir.path()).unwrap().unwrap());
        assert_eq!(world.examine(dir.path()).unwrap(), None);
        std::fs::remove_dir_all(dir.path().join("store")).unwrap();
    }
    assert_eq!(aside, ["store.damaged-1", "store.damaged-2"].map(|name| dir.path().join(name)));
    // What was moved is whole, if somebody wants it back.
    std::fs::rename(&aside[0], dir.path().join("store")).unwrap();
    assert!(world.examine(dir.path()).unwrap().is_some());
}

#[test]
fn an_open_store_can_ask_for_room() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new(100));
    let storage = world.open(dir.path()).unwrap();
    let before = std::fs::read_dir(dir.path()).unwrap().count();
    storage.probe().unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), before, "nothing is left behind");
}

/// Changes what a store says of itself.
fn set_meta(dir: &Path, row: &str, value: &[u8]) {
    let db = fjall::Database::builder(dir.join("store")).open().unwrap();
    let meta = db.keyspace("meta", fjall::KeyspaceCreateOptions::default).unwrap();
    meta.insert(row, value).unwrap();
    db.persist(fjall::PersistMode::SyncAll).unwrap();
}

/// What the engine would misread is named before it reads, and nothing is changed.
#[test]
fn foreign_files_among_those_of_a_store_are_named_and_are_no_damage() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new(100));
    drop(world.open(dir.path()).unwrap());
    let store = dir.path().join("store");
    let foreign = [
        ("keyspaces/lost+found", true),
        ("keyspaces/2/tables/.nfs0001", false),
        ("keyspaces/2/tables/1.bak", false),
        ("keyspaces/2/tables/007", false),
        ("x.jnl", false),
    ];
    for (name, is_directory) in foreign {
        let path = store.join(name);
        if is_directory {
            std::fs::create_dir(&path).unwrap()
        } else {
            std::fs::write(&path, b"x").unwrap()
        }
        match world.open(dir.path()) {
            Err(StorageError::ForeignFile(found)) => assert!(found.ends_with(name), "{found}"),
            other => panic!("{name}: {other:?}"),
        }
        if is_directory { std::fs::remove_dir(&path).unwrap() } else { std::fs::remove_file(&path).unwrap() }
    }
    let table = store.join("keyspaces/2/tables/4711");
    std::fs::create_dir(&table).unwrap();
    assert!(matches!(world.open(dir.path()), Err(StorageError::Damaged(why)) if why.contains("4711")));
    std::fs::remove_dir(&table).unwrap();
    for harmless in ["keyspaces/README", "README", "lost+found"] {
        std::fs::write(store.join(harmless), b"x").unwrap();
    }
    world.open(dir.path()).unwrap();
}
