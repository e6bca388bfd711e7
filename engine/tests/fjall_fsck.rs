//! The check of a store must name each kind of damage, and change nothing in what it looks at.

#![cfg(feature = "fjall")]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod fjall_support;

use bytes::Bytes;
use fjall_support::{World, copy_directory, flush_tables};
use kvgossip_engine::fsck::{Fault, FaultKind, MAX_FAULTS, Report, fsck};
use kvgossip_engine::{FjallStorage, StorageError};
use kvgossip_grants::{EntryDraft, EntryFact, Fact, Key, MockKey, MockVerifier, Signer, Timestamp};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const MAX_VALUE_BYTES: usize = 400;

/// A store to be copied and damaged.
struct Original {
    dir: TempDir,
    world: World,
    batch: u64,
}

impl Original {
    fn in_journal() -> Self {
        let (sparse, world) = (tempfile::tempdir().unwrap(), World::new(MAX_VALUE_BYTES));
        let batch = world.fill(sparse.path(), 1..=25).batch;
        let dir = tempfile::tempdir().unwrap();
        copy_directory(sparse.path(), dir.path());
        Self { dir, world, batch }
    }

    fn in_tables() -> Self {
        let this = Self::in_journal();
        flush_tables(this.dir.path());
        this
    }

    /// Checks a damaged copy.
    fn check(&self, damage: impl FnOnce(&Path)) -> Result<Report, StorageError> {
        let copy = tempfile::tempdir().unwrap();
        copy_directory(self.dir.path(), copy.path());
        damage(copy.path());
        let before = files(copy.path());
        let checked = check(copy.path(), &self.world);
        assert!(files(copy.path()) == before, "the check changed something");
        checked
    }

    fn faults(&self, damage: impl FnOnce(&Path)) -> Vec<Fault> {
        let report = self.check(damage).unwrap();
        assert_eq!(report.fault_count as usize, report.faults.len());
        assert_eq!(report.is_sound(), report.faults.is_empty());
        report.faults
    }
}

fn check(dir: &Path, world: &World) -> Result<Report, StorageError> {
    fsck(dir, world.root.public(), &MockVerifier, &mut |_, _| {})
}

/// What lies in a directory.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut open, mut found) = (vec![dir.to_owned()], BTreeMap::new());
    while let Some(dir) = open.pop() {
        for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.file_name().unwrap() != "store.lock" {
                found.insert(path.clone(), fs::read(path).unwrap());
            }
        }
    }
    found
}

fn has(faults: &[Fault], kind: FaultKind, text: &str) -> bool {
    faults.iter().any(|fault| fault.kind == kind && fault.to_string().contains(text))
}

#[track_caller]
fn demand(faults: &[Fault], kind: FaultKind, text: &str) {
    assert!(has(faults, kind, text), "{kind:?} {text:?} is not among {faults:#?}");
}

fn journal(dir: &Path) -> PathBuf {
    let mut files = fs::read_dir(dir.join("store")).unwrap().map(|file| file.unwrap().path());
    files.find(|path| path.extension().is_some_and(|extension| extension == "jnl")).unwrap()
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// Writes into a table as only a defect could.
fn write(dir: &Path, keyspace: &str, row: &[u8], value: Option<&[u8]>) {
    let db = fjall::Database::builder(dir.join("store")).open().unwrap();
    let keyspace = db.keyspace(keyspace, fjall::KeyspaceCreateOptions::default).unwrap();
    match value {
        Some(value) => keyspace.insert(row, value).unwrap(),
        None => keyspace.remove(row).unwrap(),
    }
    db.persist(fjall::PersistMode::SyncAll).unwrap();
}

/// The first row of a table whose key begins so.
fn row(dir: &Path, keyspace: &str, prefix: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let db = fjall::Database::builder(dir.join("store")).open().unwrap();
    let keyspace = db.keyspace(keyspace, fjall::KeyspaceCreateOptions::default).unwrap();
    let (key, value) = keyspace.prefix(prefix).next().unwrap().into_inner().unwrap();
    (key.to_vec(), value.to_vec())
}

#[test]
fn a_whole_store_is_sound_and_counted() {
    for original in [Original::in_journal(), Original::in_tables()] {
        let expected = original.world.expected(25);
        let report = original.check(|_| {}).unwrap();
        assert!(report.is_sound() && report.remarks.is_empty(), "{report:?}");
        assert_eq!((report.batch, report.last_batch), (original.batch, Some(original.batch)));
        assert_eq!(report.root, Some(expected.view().root()));
        assert_eq!(report.keys, expected.view().entries().len() as u64);
        assert!(report.entries >= report.keys && report.citations > 0 && report.authority_facts > 0);
    }
    // Expectation of nothing.
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new(MAX_VALUE_BYTES));
    drop(world.open(dir.path()).unwrap());
    assert!(check(dir.path(), &world).unwrap().is_sound());
}

#[test]
fn what_keeps_a_check_from_being_made_is_told() {
    let original = Original::in_journal();
    let storage = original.world.open(original.dir.path()).unwrap();
    assert!(matches!(check(original.dir.path(), &original.world), Err(StorageError::InUse)));
    drop(storage);
    let empty = tempfile::tempdir().unwrap();
    for missing in [empty.path().to_owned(), empty.path().join("none")] {
        assert!(matches!(check(&missing, &original.world), Err(StorageError::Missing(_))));
    }
    assert_eq!(fs::read_dir(empty.path()).unwrap().count(), 0, "nothing was made");
    let stranger = MockKey::new(7);
    let foreign = fsck(original.dir.path(), stranger.public(), &MockVerifier, &mut |_, _| {});
    assert!(matches!(foreign, Err(StorageError::ForeignCluster(_))));
    let newer = original.check(|dir| write(dir, "meta", b"format", Some(&3u32.to_le_bytes())));
    assert!(matches!(newer, Err(StorageError::Format { found: 3, .. })));
}

#[test]
fn a_damaged_journal_is_named_and_left_as_it_is() {
    let original = Original::in_journal();
    let len = fs::metadata(journal(original.dir.path())).unwrap().len() as usize;
    for cut in [1, 20, 5_000] {
        let faults = original.faults(|dir| change(&journal(dir), |bytes| bytes.truncate(len - cut)));
        demand(&faults, FaultKind::RolledBack, &format!("up to {} were", original.batch));
    }
    let trailing = original.faults(|dir| change(&journal(dir), |bytes| bytes.extend([0xa5; 999])));
    assert_eq!(trailing, [], "what was never acknowledged is nobody's loss");
    let zeroed = original.faults(|dir| change(&journal(dir), |bytes| bytes[len / 2..len / 2 + 64].fill(0)));
    assert!(has(&zeroed, FaultKind::RolledBack, "") || has(&zeroed, FaultKind::Unreadable, ""), "{zeroed:?}");
    let (_, record) = row(original.dir.path(), "entries", b"/conf");
    let payload = original.faults(|dir| {
        change(&journal(dir), |bytes| {
            let at = bytes.windows(40).position(|window| *window == record[8..48]).unwrap();
            bytes[at] ^= 1;
        });
    });
    demand(&payload, FaultKind::Unreadable, "journal");
    // The first batch begins with its length: a changed one ends the replay.
    let length = original.faults(|dir| change(&journal(dir), |bytes| bytes[len / 2] ^= 0x80));
    assert!(!length.is_empty());
}

#[test]
fn a_damaged_table_is_named() {
    let original = Original::in_tables();
    let tables: Vec<PathBuf> = files(original.dir.path())
        .into_keys()
        .filter(|path| path.parent().unwrap().ends_with("tables"))
        .map(|path| path.strip_prefix(original.dir.path()).unwrap().to_owned())
        .collect();
    assert!(tables.len() >= 5, "{tables:?}");
    for table in tables {
        let len = fs::metadata(original.dir.path().join(&table)).unwrap().len() as usize;
        for at in [0, len / 4] {
            let report = original.check(|dir| {
                change(&dir.join(&table), |bytes| {
                    bytes[at..at + 16].iter_mut().for_each(|byte| *byte ^= 0xff)
                });
            });
            let faults = report.unwrap().faults;
            assert!(!faults.is_empty(), "{} at {at} of {len}", table.display());
        }
        let faults = original.faults(|dir| fs::remove_file(dir.join(&table)).unwrap());
        demand(&faults, FaultKind::Unreadable, "store");
    }
}

#[test]
fn the_number_of_the_last_batch_is_compared() {
    let original = Original::in_journal();
    let last = |dir: &Path| dir.join("last-batch");
    for damage in [
        (&|dir: &Path| fs::remove_file(last(dir)).unwrap()) as &dyn Fn(&Path),
        &|dir| fs::write(last(dir), "garbage, and more than enough of it").unwrap(),
        &|dir| change(&last(dir), |bytes| bytes.truncate(27)),
    ] {
        let report = original.check(damage).unwrap();
        assert!(report.is_sound() && report.last_batch.is_none(), "{report:?}");
        assert!(report.remarks[0].contains("last-batch"), "{report:?}");
    }
    // Of an earlier copy.
    let early = Original { dir: tempfile::tempdir().unwrap(), world: World::new(MAX_VALUE_BYTES), batch: 0 };
    early.world.fill(early.dir.path(), 1..=3);
    let lower = original
        .check(|dir| {
            fs::copy(last(early.dir.path()), last(dir)).unwrap();
        })
        .unwrap();
    assert!(lower.is_sound() && lower.last_batch < Some(original.batch), "{lower:?}");
    assert!(lower.remarks[0].contains("last-batch says"), "{lower:?}");
    let higher = early.faults(|dir| {
        fs::copy(last(original.dir.path()), last(dir)).unwrap();
    });
    demand(&higher, FaultKind::RolledBack, "store");
    let gone = original.faults(|dir| fs::remove_dir_all(dir.join("store")).unwrap());
    demand(&gone, FaultKind::RolledBack, "ends with 0");
}

#[test]
fn what_a_store_says_of_itself_is_compared() {
    let original = Original::in_tables();
    for row in ["format", "cluster"] {
        let faults = original.faults(|dir| write(dir, "meta", row.as_bytes(), None));
        demand(&faults, FaultKind::Unreadable, row);
    }
    let summary = row(original.dir.path(), "meta", b"summary").1;
    for (at, what) in [(8, "authority facts"), (16, "keys"), (30, "root")] {
        let mut other = summary.clone();
        other[at] ^= 1;
        let faults = original.faults(|dir| write(dir, "meta", b"summary", Some(&other)));
        assert_eq!(faults.len(), 1, "{faults:?}");
        demand(&faults, FaultKind::Summary, what);
    }
    let short = original.faults(|dir| write(dir, "meta", b"summary", Some(&summary[1..])));
    demand(&short, FaultKind::Unreadable, "summary");
    let none = original.faults(|dir| write(dir, "meta", b"summary", None));
    demand(&none, FaultKind::Summary, "no summary");
}

#[test]
fn index_and_citations_are_compared_with_the_entries() {
    let original = Original::in_tables();
    let dir = original.dir.path();
    let (key, index) = row(dir, "index", b"/count");
    let told = "/count";
    let faults = original.faults(|dir| write(dir, "index", &key, None));
    demand(&faults, FaultKind::Index, told);
    for at in 0..index.len() {
        let mut other = index.clone();
        other[at] ^= 1;
        let faults = original.faults(|dir| write(dir, "index", &key, Some(&other)));
        assert!(
            has(&faults, FaultKind::Index, told) || has(&faults, FaultKind::Unreadable, told),
            "{at}: {faults:?}"
        );
    }
    let (entry, _) = row(dir, "entries", b"/count");
    let faults = original.faults(|dir| write(dir, "entries", &entry, None));
    demand(&faults, FaultKind::Index, told);
    demand(&faults, FaultKind::Summary, "root");
    let not_there = [&b"/not-there\0"[..], &[7; 32]].concat();
    let faults = original.faults(|dir| write(dir, "index", &not_there, Some(&index)));
    demand(&faults, FaultKind::Index, "/not-there");
    let (citation, _) = row(dir, "by_grant", b"");
    let faults = original.faults(|dir| write(dir, "by_grant", &citation, None));
    assert_eq!(faults.len(), 1, "{faults:?}");
    demand(&faults, FaultKind::Citation, std::str::from_utf8(&citation[32..]).unwrap());
    // Too many citations are no fault, unless they do not read.
    assert_eq!(original.faults(|dir| write(dir, "by_grant", &[&citation[..], b"0"].concat(), Some(b""))), []);
    demand(
        &original.faults(|dir| write(dir, "by_grant", b"short", Some(b""))),
        FaultKind::Unreadable,
        "citation",
    );
}

/// An agent holds the rows of its store against each other by the same rules, and judges no facts.
#[test]
fn an_agent_finds_what_is_wrong_with_rows() {
    let original = Original::in_tables();
    let check_rows = |keyspace: &str, row: &[u8], value: Option<&[u8]>| {
        let copy = tempfile::tempdir().unwrap();
        copy_directory(original.dir.path(), copy.path());
        write(copy.path(), keyspace, row, value);
        original.world.open(copy.path()).unwrap().check().map_err(|error| error.to_string())
    };
    let dir = original.dir.path();
    let (row_of_index, index) = row(dir, "index", b"/count");
    let (entry, record) = row(dir, "entries", b"/count");
    let (citation, _) = row(dir, "by_grant", b"");
    let (id, fact) = row(dir, "authority", &citation[..32]);
    let changed = |bytes: &[u8], at: usize| {
        let mut other = bytes.to_vec();
        other[at] ^= 1;
        other
    };
    assert_eq!(check_rows("index", &row_of_index, Some(&index)), Ok(()), "nothing is changed");
    for (keyspace, row, value, told) in [
        ("index", &row_of_index, None, "the index does not name it"),
        ("index", &row_of_index, Some(changed(&index, 1)), "the index says other than its record"),
        ("index", &row_of_index, Some(changed(&index, 0)), "/count"),
        ("entries", &entry, None, "which is not stored"),
        ("entries", &entry, Some(changed(&record, record.len() - 1)), "its record does not read"),
        ("by_grant", &citation, None, "is not noted"),
        ("authority", &id, None, "authority facts"),
        ("authority", &id, Some(record.clone()), "another fact"),
    ] {
        let error = check_rows(keyspace, row, value.as_deref()).unwrap_err();
        assert!(error.starts_with("the store is damaged: ") && error.contains(told), "{told}: {error}");
    }
    assert_eq!(
        check_rows("authority", &id, Some(&changed(&fact, 5))),
        Ok(()),
        "a signature is not looked at"
    );
}

/// Facts that are well formed, under the right id and in the index, and may not be stored all the same.
#[test]
fn facts_are_judged_anew() {
    let original = Original::in_tables();
    let dir = original.dir.path();
    let (entry, record) = row(dir, "entries", b"/conf");
    let id = hex::encode(&entry[entry.len() - 32..]);
    for (at, code) in [(5, "fact.bad_signature"), (record.len() - 1, "does not read")] {
        let mut other = record.clone();
        other[at] ^= 1;
        let faults = original.faults(|dir| write(dir, "entries", &entry, Some(&other)));
        demand(&faults, FaultKind::Fact, &id);
        demand(&faults, FaultKind::Fact, code);
    }
    let (_, other) = row(dir, "entries", b"/count");
    let faults = original.faults(|dir| write(dir, "entries", &entry, Some(&other)));
    demand(&faults, FaultKind::Fact, "another fact");

    // Older than what stands, and of the same authority.
    let draft = EntryDraft {
        key: Key::parse("/count").unwrap(),
        value: Some(Bytes::from_static(b"old")),
        timestamp: Timestamp::from_micros(1).unwrap(),
        grant: None,
    };
    let old = EntryFact::sign(original.world.cluster(), draft, &original.world.root).unwrap();
    let old = Fact::Entry(old);
    let at = [&b"/count\0"[..], old.id().as_bytes()].concat();
    let faults = original.faults(|dir| write(dir, "entries", &at, Some(&old.to_record())));
    demand(&faults, FaultKind::Fact, &old.id().to_string());
    demand(&faults, FaultKind::Fact, "supersedes");

    // Without its grant, nothing that stands on it may be there.
    let grant = row(dir, "by_grant", b"").0[..32].to_vec();
    let faults = original.faults(|dir| write(dir, "authority", &grant, None));
    demand(&faults, FaultKind::Fact, "grant.unknown");
    let (id, record) = row(dir, "authority", &grant);
    let mut other = record.clone();
    other[5] ^= 1;
    let faults = original.faults(|dir| write(dir, "authority", &id, Some(&other)));
    demand(
        &faults,
        FaultKind::Fact,
        &format!("{}: it may not be stored: fact.bad_signature", hex::encode(&id)),
    );
    let faults = original.faults(|dir| write(dir, "authority", &[9; 32], Some(&record)));
    demand(&faults, FaultKind::Fact, "another fact");
}

#[test]
fn faults_are_counted_beyond_those_that_are_told() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new(10));
    world.fill(dir.path(), 1..=150);
    let db = fjall::Database::builder(dir.path().join("store")).open().unwrap();
    let index = db.keyspace("index", fjall::KeyspaceCreateOptions::default).unwrap();
    let keys: Vec<_> = index.iter().map(|row| row.key().unwrap()).collect();
    keys.iter().for_each(|key| index.remove(&**key).unwrap());
    db.persist(fjall::PersistMode::SyncAll).unwrap();
    drop((index, db));
    let report = check(dir.path(), &world).unwrap();
    assert_eq!(report.faults.len(), MAX_FAULTS);
    assert_eq!(report.fault_count, keys.len() as u64);
    assert!(keys.len() > MAX_FAULTS);
    drop(FjallStorage::move_aside(dir.path()).unwrap());
}

#[test]
fn a_check_that_was_interrupted_leaves_nothing_for_long() {
    let original = Original::in_journal();
    let dir = original.dir.path();
    fs::create_dir_all(dir.join("store.check").join("keyspaces")).unwrap();
    assert!(check(dir, &original.world).unwrap().is_sound());
    assert!(!dir.join("store.check").exists());
    fs::create_dir_all(dir.join("store.check").join("keyspaces")).unwrap();
    drop(original.world.open(dir).unwrap());
    assert!(!dir.join("store.check").exists());
}
