//! A writer is killed at random moments; whatever it acknowledged must be there, whole.

#![cfg(feature = "fjall")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fjall_support;

use fjall_support::World;
use kvgossip_engine::{MemoryStorage, Replica, Storage};
use kvgossip_grants::Signer;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

const DIRECTORY: &str = "KVGOSSIP_TEST_CRASH_DIRECTORY";
const KILLS: usize = 14;
const MAX_VALUE_BYTES: usize = 60_000;

/// Not a test by itself: the process that [`acknowledged_batches_survive_kills`] starts and kills.
#[test]
fn writer_process() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { return };
    let world = World::new(MAX_VALUE_BYTES);
    let mut storage = world.open(dir.as_ref()).unwrap();
    let mut replica = world.load(&storage).unwrap();
    // The number stands in a value of the last batch; a batch of a grant alone may have come after it.
    let mut number = count(&replica, &storage);
    // Never more than what a parent that died would leave running.
    for _ in 0..10_000 {
        number += 1;
        world.write(&mut replica, &mut storage, number).unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "acknowledged {number}").unwrap();
        out.flush().unwrap();
    }
}

/// The last number that was written.
fn count(replica: &Replica, storage: &dyn Storage) -> u64 {
    let key = kvgossip_grants::Key::parse("/count").unwrap();
    let Some(entry) = replica.view().frontier(&key).and_then(|frontier| frontier.newest()) else { return 0 };
    let record =
        storage.reader().entry(&key, &entry.meta.id).unwrap().expect("what the index names is stored");
    u64::from_le_bytes(record[record.len() - 8..].try_into().unwrap())
}

#[test]
fn acknowledged_batches_survive_kills() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(MAX_VALUE_BYTES);
    // How far a writer gets differs in every run all the same.
    let mut rng = StdRng::seed_from_u64(1);
    let mut expected = (Replica::new(world.root.public().clone()), MemoryStorage::new(), 0u64);
    for kill in 0..KILLS {
        let acknowledged = run_and_kill(dir.path(), &mut rng);
        let storage = world.open(dir.path()).unwrap_or_else(|error| panic!("kill {kill}: {error}"));
        storage.check().unwrap_or_else(|error| panic!("kill {kill}: {error}"));
        let replica = world.load(&storage).unwrap();
        let found = count(&replica, &storage);
        // One more may be there: durable, but killed before it was acknowledged.
        assert!(
            (acknowledged..=acknowledged + 1).contains(&found),
            "kill {kill}: {acknowledged} acknowledged, {found} found"
        );
        let (whole, memory, last) = &mut expected;
        while *last < found {
            *last += 1;
            world.write(whole, memory, *last).unwrap();
        }
        // A grant whose own batch was the last one is taken in again with the next number.
        if replica.view().batch() == whole.view().batch() {
            assert_eq!(replica.summary(), whole.summary(), "kill {kill}");
        }
        assert_eq!(replica.view().entries_root(), whole.view().entries_root(), "kill {kill}");
    }
    assert!(expected.2 > KILLS as u64, "the writer got somewhere");
}

/// Lets a writer go on, kills it at some moment, and returns the last number that it acknowledged.
fn run_and_kill(dir: &std::path::Path, rng: &mut StdRng) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["writer_process", "--exact", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut acknowledged = 0;
    for _ in 0..rng.random_range(1..60) {
        acknowledged = next_acknowledged(&mut lines, &mut child);
    }
    // Only to vary where in a batch the kill hits; nothing depends on how long it is.
    std::thread::sleep(Duration::from_micros(rng.random_range(0..2_000)));
    child.kill().unwrap();
    child.wait().unwrap();
    // What it still managed to say counts.
    for line in lines.lines().map_while(Result::ok) {
        acknowledged = parse(&line).unwrap_or(acknowledged);
    }
    acknowledged
}

fn next_acknowledged(lines: &mut BufReader<ChildStdout>, child: &mut Child) -> u64 {
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).unwrap() == 0 {
            panic!("the writer ended by itself: {:?}", child.wait());
        }
        if let Some(number) = parse(&line) {
            return number;
        }
    }
}

fn parse(line: &str) -> Option<u64> {
    // The test harness writes the name of the test in front of the first line.
    let (_, number) = line.split_once("acknowledged ")?;
    number.trim().parse().ok()
}
