//! What only the inside of a store can be made to do.

use super::*;
use kvgossip_grants::Digest;

const CLUSTER: ClusterId = ClusterId([3; 32]);

fn batch(number: u64) -> Batch {
    let summary =
        Summary { batch: number, authority_facts: 0, keys: 0, root: Digest([0; 32]), sweep_pending: false };
    Batch { writes: Vec::new(), summary }
}

fn found(storage: &FjallStorage) -> u64 {
    storage.summary().unwrap().unwrap().batch
}

/// A batch that is durable is acknowledged, whatever becomes of its number; the next one is not begun.
#[test]
fn a_number_that_cannot_be_noted_stops_the_batch_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut storage = FjallStorage::open(dir.path(), CLUSTER).unwrap();
    storage.commit(&batch(1)).unwrap();
    storage.last_batch.set_writable(false);
    storage.commit(&batch(2)).unwrap();
    let error = storage.commit(&batch(3)).unwrap_err();
    assert!(matches!(&error, StorageError::Io(text) if text.contains("last-batch")), "{error}");
    assert!(matches!(storage.commit(&batch(3)), Err(StorageError::Stopped(_))));
    assert_eq!(found(&storage), 2);
    drop(storage);
    // The number says 1 and the store 2: no loss is reported that did not happen, and the number catches up.
    let storage = FjallStorage::open(dir.path(), CLUSTER).unwrap();
    assert_eq!(found(&storage), 2);
    drop(storage);
    let (_, seen) = LastBatch::open(dir.path()).unwrap();
    assert_eq!(seen, Some(Seen { format: rows::FORMAT, batch: 2 }));
}

#[test]
fn a_number_that_can_be_noted_again_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut storage = FjallStorage::open(dir.path(), CLUSTER).unwrap();
    storage.last_batch.set_writable(false);
    storage.commit(&batch(1)).unwrap();
    storage.last_batch.set_writable(true);
    storage.commit(&batch(2)).unwrap();
    let (_, seen) = LastBatch::open(dir.path()).unwrap();
    assert_eq!(seen, Some(Seen { format: rows::FORMAT, batch: 2 }));
}

/// Both ways of asking for room ask for the same, and leave nothing behind.
#[test]
fn room_is_reserved_or_written() {
    let dir = tempfile::tempdir().unwrap();
    for take in [directory::take_room, directory::write_room] {
        let path = dir.path().join("room");
        let mut file = std::fs::File::create(&path).unwrap();
        take(&mut file).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 32 << 20);
    }
    directory::probe_room(dir.path()).unwrap();
    assert!(!dir.path().join("room.probe").exists());
}
