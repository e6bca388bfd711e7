//! Tests that need access to the internals of a store.

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

/// A durable batch is acknowledged even if its number cannot be recorded; the next batch is refused.
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
    // The number is 1 and the store has 2: no false loss is reported, and the number catches up.
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

/// Both ways of allocating space allocate the same size, and the probe leaves nothing behind.
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

/// Returns the result of `work`, with a time limit of about a hundred times its usual duration.
fn soon<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(work()));
    wait.recv_timeout(std::time::Duration::from_secs(30)).expect("it does not wait for a file")
}

fn fifo(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

/// Opens the store in `dir` and returns the text of the refusal.
fn refusal(dir: &Path) -> String {
    let dir = dir.to_path_buf();
    soon(move || FjallStorage::open(&dir, CLUSTER).unwrap_err().to_string())
}

#[test]
fn a_file_of_the_store_that_is_no_regular_file_is_refused_by_its_name() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("target");
    for name in ["store.lock", "last-batch", "store/7.jnl", "store/keyspaces/7"] {
        let dir = tempfile::tempdir().unwrap();
        drop(FjallStorage::open(dir.path(), CLUSTER).unwrap());
        let path = dir.path().join(name);
        let links = || std::os::unix::fs::symlink(&target, &path).unwrap();
        for put in [&|| fifo(&path) as _, &links as &dyn Fn()] {
            if path.symlink_metadata().is_ok() {
                std::fs::remove_file(&path).unwrap();
            }
            put();
            let error = refusal(dir.path());
            assert!(
                error.contains(name) && error.ends_with("a regular file is needed here"),
                "{name}: {error}"
            );
            assert!(!target.exists(), "{name}: nothing is made elsewhere");
        }
    }
}

/// The probe for space creates its own file and follows no link.
#[test]
fn room_is_asked_for_in_a_file_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("target"), "kept").unwrap();
    let probe = || {
        let dir = dir.path().to_path_buf();
        soon(move || directory::probe_room(&dir))
    };
    for target in ["target", "nowhere"] {
        std::os::unix::fs::symlink(at(target), at("room.probe")).unwrap();
        probe().unwrap();
        assert!(at("room.probe").symlink_metadata().is_err(), "it is removed again");
    }
    fifo(&at("room.probe"));
    probe().unwrap();
    assert_eq!(std::fs::read(at("target")).unwrap(), b"kept");
    assert!(!at("nowhere").exists());
    std::fs::create_dir(at("room.probe")).unwrap();
    let error = probe().unwrap_err().to_string();
    assert!(error.ends_with("a regular file is needed here"), "{error}");
    assert!(at("room.probe").is_dir());
}

#[test]
fn a_check_waits_for_no_file_either() {
    let dir = tempfile::tempdir().unwrap();
    drop(FjallStorage::open(dir.path(), CLUSTER).unwrap());
    let path = dir.path().join("last-batch");
    std::fs::remove_file(&path).unwrap();
    fifo(&path);
    let error = soon(move || LastBatch::peek(path.parent().unwrap()).unwrap_err().to_string());
    assert!(error.ends_with("a regular file is needed here"), "{error}");
}
