//! A disk without room: a small file system, in a mount namespace of its own.

#![cfg(all(feature = "fjall", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod fjall_support;

use bytes::Bytes;
use kvgossip_engine::{Batch, FjallStorage, IndexEntry, Storage, StorageError, Summary, Write};
use kvgossip_grants::{ClusterId, Digest, EntryId, Key, Timestamp};
use std::process::Command;

const CLUSTER: ClusterId = ClusterId([3; 32]);
const ID: EntryId = EntryId([2; 32]);
const ENTRY: IndexEntry =
    IndexEntry { id: ID, timestamp: Timestamp::ZERO, grant: None, is_delete: false, value_bytes: None };
const RECORD_BYTES: usize = 1 << 20;
/// More batches than the small disk has room for.
const MAX_BATCHES: u64 = 1_000;

fn batch(number: u64) -> Batch {
    let mut record = vec![0; RECORD_BYTES];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut record);
    let writes = vec![Write::PutEntry(key(number), ENTRY, Bytes::from(record))];
    let summary =
        Summary { batch: number, authority_facts: 0, keys: 0, root: Digest([0; 32]), sweep_pending: false };
    Batch { writes, summary }
}

fn key(number: u64) -> Key {
    Key::parse(&format!("/k/{number}")).unwrap()
}

const INSIDE: &str = "KVGOSSIP_TEST_INSIDE_NAMESPACE";

/// Starts itself again where it may mount something.
#[test]
fn a_full_disk_stops_writing_and_nothing_else() {
    if std::env::var_os(INSIDE).is_none() {
        let run = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount"])
            .arg(std::env::current_exe().unwrap())
            .args(["a_full_disk_stops_writing_and_nothing_else", "--exact", "--nocapture"])
            .env(INSIDE, "1")
            .output()
            .expect("unshare of util-linux is needed");
        let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
        assert!(run.status.success() && out.contains("1 passed"), "{out}\n{err}");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=100m", "none"];
    assert!(Command::new("mount").args(mount).arg(place.path()).status().unwrap().success());
    let dir = tempfile::tempdir_in(place.path()).unwrap();
    let mut storage = FjallStorage::open(dir.path(), CLUSTER).unwrap();
    storage.probe().unwrap();
    let mut acknowledged = 0;
    let error = loop {
        assert!(acknowledged < MAX_BATCHES, "the disk is not small");
        match storage.commit(&batch(acknowledged + 1)) {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    println!("after {acknowledged}: {error}");
    assert!(matches!(error, StorageError::Full | StorageError::Stopped(_)), "{error}");
    assert!(error.to_string().contains("disk is full"), "{error}");
    let again = storage.commit(&batch(acknowledged + 1)).unwrap_err();
    println!("again: {again}");
    assert!(matches!(again, StorageError::Stopped(_)), "{again}");
    let check = |storage: &FjallStorage| {
        let reader = storage.reader();
        for number in 1..=acknowledged {
            assert_eq!(reader.entry(&key(number), &ID).unwrap().unwrap().len(), RECORD_BYTES, "{number}");
        }
    };
    check(&storage);
    // With room again it is opened anew in its place; readers that were there before go on.
    let reader = storage.reader();
    assert!(matches!(storage.probe(), Err(StorageError::NoRoom { .. })));
    let room = ["-o", "remount,size=300m"];
    assert!(Command::new("mount").args(room).arg(place.path()).status().unwrap().success());
    storage.probe().unwrap();
    storage.reopen().unwrap();
    let found = storage.summary().unwrap().unwrap().batch;
    assert!(found == acknowledged || found == acknowledged + 1, "{found} of {acknowledged}");
    storage.commit(&batch(found + 1)).unwrap();
    assert!(reader.entry(&key(found + 1), &ID).unwrap().is_some());
    check(&storage);
    // Full once more: it ends as the first time.
    let filler = place.path().join("filler");
    let mut number = found + 1;
    let taken = std::fs::File::create(&filler).unwrap();
    let chunk = vec![1; 1 << 20];
    while std::io::Write::write_all(&mut &taken, &chunk).is_ok() {}
    while storage.commit(&batch(number + 1)).is_ok() {
        number += 1;
        assert!(number < MAX_BATCHES);
    }
    drop(taken);
    check(&storage);
    drop(storage);
    // A full disk opens; only the question says that it will not go on.
    let storage = FjallStorage::open(dir.path(), CLUSTER).unwrap();
    check(&storage);
    assert!(matches!(storage.probe(), Err(StorageError::NoRoom { .. })));
}
