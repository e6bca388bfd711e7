//! A process is killed in the middle of a sweep: the store opens as if nothing had happened, and the sweep goes on.

#![cfg(feature = "fjall")]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod many;

use kvgossip_engine::fsck::fsck;
use kvgossip_engine::{FjallStorage, Replica, Storage};
use kvgossip_grants::{Digest, MockVerifier};
use many::Many;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const DIRECTORY: &str = "KVGOSSIP_TEST_SWEEP_DIRECTORY";
/// After this many batches of sweeps the writer waits to be killed.
const WAIT_AFTER: &str = "KVGOSSIP_TEST_SWEEP_WAIT_AFTER";
/// Four rows each: at least four batches of a sweep.
const ENTRIES: usize = 1_700;

fn open(dir: &Path) -> (FjallStorage, Replica) {
    let root = Many::new().root_key();
    let storage = FjallStorage::open(dir, root.cluster()).unwrap();
    storage.check().unwrap();
    let replica = Replica::load(root, &storage).unwrap();
    (storage, replica)
}

/// Not a test by itself: the process that [`a_sweep_survives_kills`] starts and kills.
#[test]
fn sweeping_process() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { return };
    let wait_after: usize = std::env::var(WAIT_AFTER).unwrap().parse().unwrap();
    let (mut storage, mut replica) = open(dir.as_ref());
    let mut many = Many::new();
    if replica.view().batch() == 0 {
        many.fill(&mut replica, &mut storage, ENTRIES);
        let revocation = many.revoke_parent();
        let batch = many.apply(&mut replica, &storage, vec![revocation]).batch.unwrap();
        storage.commit(&batch).unwrap();
    }
    say("revoked");
    let mut sweeps = 0;
    while sweeps < wait_after {
        let Some(sweep) = replica.next_sweep() else { break };
        storage.commit(&sweep).unwrap();
        sweeps += 1;
        say("swept");
    }
    say("waits");
    // Until it is killed; or whoever started it is gone.
    let _ = std::io::stdin().read(&mut [0]);
}

fn say(what: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "said {what}").unwrap();
    out.flush().unwrap();
}

/// Starts the process, and kills it once it has said something often enough.
fn run_until(dir: &Path, wait_after: usize, word: &str, times: usize) {
    let mut child: Child = Command::new(std::env::current_exe().unwrap())
        .args(["sweeping_process", "--exact", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, dir)
        .env(WAIT_AFTER, wait_after.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let heard = lines.filter(|line| line.contains(&format!("said {word}"))).take(times).count();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(heard, times, "the process ended by itself");
}

fn rows(storage: &FjallStorage) -> usize {
    let mut rows = 0;
    storage.load_index(&mut |_, _| rows += 1).unwrap();
    storage.load_authority(&mut |_| rows += 1).unwrap();
    rows
}

#[test]
fn a_sweep_survives_kills() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected: Option<Digest> = None;
    let mut before = usize::MAX;
    // Killed while it waits, with the sweep begun; and while it sweeps on, wherever that hits.
    for (wait_after, word, times) in [(1, "waits", 1), (1, "waits", 1), (9, "swept", 1), (9, "revoked", 1)] {
        run_until(dir.path(), wait_after, word, times);
        let report = fsck(dir.path(), &Many::new().root_key(), &MockVerifier, &mut |_, _| {}).unwrap();
        assert!(report.is_sound(), "{:?}", report.faults);
        assert_eq!((report.keys, report.authority_facts), (0, 1));
        let (storage, replica) = open(dir.path());
        let root = replica.view().root();
        assert_eq!(*expected.get_or_insert(root), root);
        assert_eq!((replica.view().entries().len(), replica.view().authority().len()), (0, 1));
        let now = rows(&storage);
        assert!(now <= before, "{now} rows after {before}");
        if word == "waits" {
            assert!(now < before && replica.is_sweep_due(), "killed in the middle of the sweep");
            assert!(storage.summary().unwrap().unwrap().sweep_pending && report.unswept > 0);
        }
        before = now;
    }
    run_until(dir.path(), usize::MAX, "waits", 1);
    let (storage, replica) = open(dir.path());
    assert!(!replica.is_sweep_due() && !storage.summary().unwrap().unwrap().sweep_pending);
    assert_eq!(rows(&storage), 1, "the revocation");
    drop((storage, replica));
    let report = fsck(dir.path(), &Many::new().root_key(), &MockVerifier, &mut |_, _| {}).unwrap();
    assert!(report.is_sound() && report.unswept == 0 && report.citations == 0, "{report:?}");
}
