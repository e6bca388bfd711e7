//! Stores that lost or changed bytes: an opening must never go on as if nothing had happened.

#![cfg(feature = "fjall")]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod fjall_support;

use fjall_support::{World, copy_directory, flush_tables};
use kvgossip_engine::{FjallStorage, Storage, StorageError, Summary};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const MAX_VALUE_BYTES: usize = 400;

/// A store of some batches, to be copied and damaged.
struct Original {
    dir: TempDir,
    world: World,
    summary: Summary,
}

impl Original {
    /// Everything still in one journal.
    fn in_journal() -> Self {
        let (sparse, world) = (tempfile::tempdir().unwrap(), World::new(MAX_VALUE_BYTES));
        let summary = world.fill(sparse.path(), 1..=25);
        // The engine gives a new journal 64 MiB, which every later copy would read.
        let dir = tempfile::tempdir().unwrap();
        copy_directory(sparse.path(), dir.path());
        Self { dir, world, summary }
    }

    /// Everything in tables, except for the last batches.
    fn in_tables() -> Self {
        let mut this = Self::in_journal();
        flush_tables(this.dir.path());
        this.summary = this.world.fill(this.dir.path(), 26..=30);
        this
    }

    fn copy(&self) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        copy_directory(self.dir.path(), copy.path());
        copy
    }

    /// Opens a damaged copy and looks at everything. What it accepts must be the whole original.
    fn judge(&self, dir: &Path, what: &str) -> Option<StorageError> {
        match self.world.examine(dir) {
            Ok(summary) => {
                assert_eq!(summary, Some(self.summary), "accepted in silence: {what}");
                None
            }
            Err(error) => Some(error),
        }
    }

    fn is_tail_lost(&self, error: Option<&StorageError>) -> bool {
        let last = self.summary.batch;
        matches!(error, Some(StorageError::RolledBack { expected, found }) if *expected == last && *found < last)
    }
}

fn journal_of(dir: &Path) -> PathBuf {
    let store = std::fs::read_dir(dir.join("store")).unwrap().map(|entry| entry.unwrap().path());
    let mut journals: Vec<PathBuf> =
        store.filter(|path| path.extension().is_some_and(|extension| extension == "jnl")).collect();
    assert_eq!(journals.len(), 1, "{journals:?}");
    journals.remove(0)
}

fn change_journal(dir: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let path = journal_of(dir);
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
}

#[test]
fn a_journal_without_its_end_is_noticed() {
    let original = Original::in_journal();
    let whole = original.copy();
    assert!(original.judge(whole.path(), "nothing").is_none(), "what a copy leaves out does not matter");
    for bytes in [1, 2, 8, 9, 40, 100, 5_000, 50_000] {
        let copy = original.copy();
        change_journal(copy.path(), |journal| journal.truncate(journal.len() - bytes));
        let error = original.judge(copy.path(), "a cut");
        assert!(original.is_tail_lost(error.as_ref()), "{bytes} bytes cut: {error:?}");
    }
}

/// The engine ends the replay there in silence, and forgets every batch behind it.
#[test]
fn zeros_in_the_middle_of_a_journal_are_noticed() {
    let original = Original::in_journal();
    let len = std::fs::read(journal_of(original.copy().path())).unwrap().len();
    let mut tails_lost = 0;
    let positions = 50;
    for index in 0..positions {
        let position = index * (len - 64) / positions;
        let copy = original.copy();
        change_journal(copy.path(), |journal| journal[position..position + 64].fill(0));
        let error = original.judge(copy.path(), "zeros");
        let damaged = matches!(error, Some(StorageError::Damaged(_)));
        let tail_lost = original.is_tail_lost(error.as_ref());
        assert!(damaged || tail_lost, "zeros at {position} of {len}: {error:?}");
        tails_lost += usize::from(tail_lost);
    }
    assert!(tails_lost > 0, "the journal's own checks never find everything");
}

#[test]
fn a_changed_value_in_a_journal_is_damage() {
    let original = Original::in_journal();
    let storage = original.world.open(original.dir.path()).unwrap();
    let replica = original.world.load(&storage).unwrap();
    let (reader, view) = (storage.reader(), replica.view());
    let records: Vec<_> = view
        .keys("/conf", None)
        .map(|(key, frontier)| reader.entry(&key, &frontier.ids().next().unwrap()).unwrap().unwrap())
        .filter(|record| record.len() > 500)
        .collect();
    drop(storage);
    for record in records.iter().step_by(10) {
        let copy = original.copy();
        change_journal(copy.path(), |journal| {
            let at = journal.windows(record.len()).position(|window| window == record).unwrap();
            journal[at + record.len() / 2] ^= 1;
        });
        let error = original.judge(copy.path(), "a changed value");
        assert!(matches!(error, Some(StorageError::Damaged(_))), "{error:?}");
    }
}

/// Journals and tables, anywhere. Left out are the files `keyspaces/*/v*`, a few hundred bytes each, of which the
/// engine asserts so much that it may end the process: it accepts nothing then, but no test survives it.
#[test]
fn damage_anywhere_is_noticed_or_does_not_matter() {
    let mut rng = StdRng::seed_from_u64(1);
    for original in [Original::in_journal(), Original::in_tables()] {
        let mut files = Vec::new();
        files_below(&original.dir.path().join("store"), &mut files);
        files.retain(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            path.metadata().unwrap().len() > 0 && (!name.starts_with('v') || name == "version")
        });
        let mut noticed = 0;
        for _ in 0..ROUNDS {
            let relative =
                files[rng.random_range(0..files.len())].strip_prefix(original.dir.path()).unwrap().to_owned();
            let copy = original.copy();
            let what = damage(&copy.path().join(&relative), &mut rng);
            match original.judge(copy.path(), &format!("{what} of {}", relative.display())) {
                Some(StorageError::Damaged(_) | StorageError::RolledBack { .. }) => noticed += 1,
                None => {}
                Some(other) => panic!("{what} of {}: {other}", relative.display()),
            }
        }
        assert!(noticed > ROUNDS / 4, "{noticed} of {ROUNDS}");
    }
}

const ROUNDS: usize = 120;

fn damage(path: &Path, rng: &mut StdRng) -> String {
    let mut bytes = std::fs::read(path).unwrap();
    let position = rng.random_range(0..bytes.len());
    let what = match rng.random_range(0..3) {
        0 => {
            let bit = rng.random_range(0..8);
            bytes[position] ^= 1 << bit;
            format!("bit {bit} of byte {position}")
        }
        1 => {
            let end = bytes.len().min(position + 64);
            bytes[position..end].fill(0);
            format!("zeros at byte {position}")
        }
        _ => {
            bytes.truncate(position);
            format!("all from byte {position}")
        }
    };
    std::fs::write(path, bytes).unwrap();
    what
}

fn files_below(dir: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()).collect();
    entries.sort_by_key(std::fs::DirEntry::path);
    for entry in entries {
        if entry.file_type().unwrap().is_dir() {
            files_below(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}

#[test]
fn a_lost_tail_is_reported_until_the_operator_accepts_it() {
    let original = Original::in_journal();
    change_journal(original.dir.path(), |journal| {
        journal.truncate(journal.iter().rposition(|byte| *byte != 0).unwrap());
    });
    let dir = original.dir.path();
    for _ in 0..2 {
        let error = original.judge(dir, "a cut");
        assert!(original.is_tail_lost(error.as_ref()), "{error:?}");
    }
    let mut storage = FjallStorage::open_accepting_rollback(dir, original.world.cluster()).unwrap();
    let left = original.world.examine_open(&storage).unwrap().unwrap();
    assert_eq!(left.batch, original.summary.batch - 1);
    assert_eq!(left, original.world.expected(24).summary());
    // From here on it is a store like any other.
    let mut replica = original.world.load(&storage).unwrap();
    let summary = original.world.write(&mut replica, &mut storage, 25).unwrap();
    assert_eq!(summary, original.summary);
    drop(storage);
    assert_eq!(original.world.examine(dir).unwrap(), Some(summary));
}

#[test]
fn a_missing_or_older_store_is_noticed() {
    let original = Original::in_journal();
    let (dir, older) = (original.dir.path(), original.copy());
    let summary = original.world.fill(dir, 26..=27);
    std::fs::remove_dir_all(dir.join("store")).unwrap();
    copy_directory(&older.path().join("store"), &dir.join("store"));
    let expected = summary.batch;
    let error = original.judge(dir, "an older store").unwrap();
    assert!(
        matches!(error, StorageError::RolledBack { expected: e, found } if e == expected && found == original.summary.batch),
        "{error}"
    );
    std::fs::remove_dir_all(dir.join("store")).unwrap();
    let error = original.judge(dir, "no store").unwrap();
    assert!(matches!(error, StorageError::RolledBack { expected: e, found: 0 } if e == expected), "{error}");
    let storage = FjallStorage::open_accepting_rollback(dir, original.world.cluster()).unwrap();
    assert_eq!(storage.summary().unwrap(), None);
}

/// Tables may be ahead of what is left of the journal; then the rest is not a state that ever was.
#[test]
fn a_lost_tail_that_tables_contradict_is_damage() {
    let original = Original::in_journal();
    let db = fjall::Database::builder(original.dir.path().join("store")).open().unwrap();
    let entries = db.keyspace("entries", fjall::KeyspaceCreateOptions::default).unwrap();
    entries.rotate_memtable_and_wait().unwrap();
    drop((entries, db));
    change_journal(original.dir.path(), |journal| {
        let middle = journal.iter().rposition(|byte| *byte != 0).unwrap() / 2;
        journal.truncate(middle);
    });
    let error = original.judge(original.dir.path(), "a cut");
    assert!(original.is_tail_lost(error.as_ref()), "{error:?}");
    let opened = FjallStorage::open_accepting_rollback(original.dir.path(), original.world.cluster());
    assert!(matches!(opened, Err(StorageError::Damaged(_))), "{opened:?}");
}

/// Without its file the detector knows nothing: what a machine that failed may leave must not stop a start.
#[test]
fn without_the_last_number_an_older_state_opens() {
    let original = Original::in_journal();
    let copy = original.copy();
    change_journal(copy.path(), |journal| journal.truncate(journal.len() - 1));
    std::fs::remove_file(copy.path().join("last-batch")).unwrap();
    let found = original.world.examine(copy.path()).unwrap().unwrap();
    assert_eq!(found.batch, original.summary.batch - 1);
}
