//! A store is for one at a time.
//!
//! By itself, because a process that is just being started holds the locks of all that its parent has open.

#![cfg(feature = "fjall")]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod fjall_support;

use fjall_support::World;
use kvgossip_engine::{FjallStorage, Storage, StorageError};

#[test]
fn a_store_is_for_one_at_a_time() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new(100));
    let storage = world.open(dir.path()).unwrap();
    assert!(matches!(world.open(dir.path()), Err(StorageError::InUse)));
    assert!(matches!(FjallStorage::move_aside(dir.path()), Err(StorageError::InUse)));
    let other = std::env::current_exe().unwrap();
    let other = std::process::Command::new(other)
        .args(["other_process", "--exact"])
        .env(OTHER_PROCESS, dir.path())
        .output()
        .unwrap();
    assert!(other.status.success(), "the other process found the store free");
    // A reader that outlives the store does not keep it.
    let reader = storage.reader();
    drop(storage);
    world.open(dir.path()).unwrap();
    drop(reader);
}

const OTHER_PROCESS: &str = "KVGOSSIP_TEST_OTHER_PROCESS";

/// Not a test by itself: the process that [`a_store_is_for_one_at_a_time`] starts.
#[test]
fn other_process() {
    if let Some(dir) = std::env::var_os(OTHER_PROCESS) {
        let opened = World::new(100).open(dir.as_ref());
        assert!(matches!(opened, Err(StorageError::InUse)));
    }
}
