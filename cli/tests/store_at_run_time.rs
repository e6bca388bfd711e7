//! Files of the store that are damaged or taken away under a running agent.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use kvgossip_testkit::desk::{Desk, until};
use kvgossip_testkit::process::{Launch, Process, ask, status};
use kvgossip_testkit::wait::wait_until;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

const KEYS: usize = 6;
/// Larger than the blocks of the store's tables, so that each value has a block, and a checksum, of its own.
const VALUE_BYTES: usize = 20_000;
/// Whose value is damaged.
const VICTIM: usize = 3;

fn key(number: usize) -> String {
    format!("/n/{number}")
}

/// An agent whose values lie in tables, not in memory, and a launch of a second one that syncs with it.
struct Tabled {
    desk: Desk,
    values: Vec<Vec<u8>>,
    launch: Launch,
    agent: Process,
}

impl Tabled {
    fn new() -> Self {
        let desk = Desk::new(PROGRAM);
        let launch = Launch::new(&desk, "data", "replica-a.pem");
        let agent = launch.start(&desk);
        let values: Vec<Vec<u8>> = (0..KEYS)
            .map(|_| {
                // The store compresses.
                let mut value = vec![0; VALUE_BYTES];
                getrandom::fill(&mut value).unwrap();
                value
            })
            .collect();
        for (number, value) in values.iter().enumerate() {
            fs::write(desk.path("value"), value).unwrap();
            agent.ask(&desk, &["set", &key(number), "--file", "value"]).exits(0);
        }
        assert!(agent.stop().success());
        let db = fjall::Database::builder(desk.path("data/store")).open().unwrap();
        for name in ["entries", "digests", "authority", "by_grant", "meta"] {
            let keyspace = db.keyspace(name, fjall::KeyspaceCreateOptions::default).unwrap();
            keyspace.rotate_memtable_and_wait().unwrap();
        }
        drop(db);
        let agent = launch.start(&desk);
        Self { desk, values, launch, agent }
    }

    /// Where a value lies: the table, and the place in it.
    fn place_of(&self, number: usize) -> (PathBuf, u64) {
        let value = &self.values[number];
        let mut open = vec![self.desk.path("data/store/keyspaces")];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() {
                    open.push(entry.path());
                    continue;
                }
                let bytes = fs::read(entry.path()).unwrap();
                if let Some(at) = bytes.windows(value.len()).position(|window| window == value) {
                    return (entry.path(), at as u64);
                }
            }
        }
        panic!("no table holds the value");
    }

    /// Turns a bit in the middle of the victim's value.
    fn damage(&self) {
        let (path, at) = self.place_of(VICTIM);
        let mut file = fs::File::options().read(true).write(true).open(path).unwrap();
        let place = at + VALUE_BYTES as u64 / 2;
        let mut byte = [0];
        file.seek(SeekFrom::Start(place)).unwrap();
        file.read_exact(&mut byte).unwrap();
        byte[0] ^= 1;
        file.seek(SeekFrom::Start(place)).unwrap();
        file.write_all(&byte).unwrap();
    }

    fn all_but_the_victim(&self, data: &str) {
        for number in (0..KEYS).filter(|number| *number != VICTIM) {
            let read = until(|| ask(&self.desk, data, &["get", &key(number)]), |ran| ran.code == 0).exits(0);
            assert_eq!(read.out, self.values[number], "{number}");
        }
    }

    fn http(&self, path: &str) -> String {
        let address = status(&self.desk, "data")["http_address"].as_str().unwrap().to_owned();
        let mut stream = TcpStream::connect(&address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn second(&self) -> Launch {
        Launch::new(&self.desk, "second", "replica-b.pem").peer(&self.desk, "data")
    }

    /// What the agent says of itself when a value does not read.
    fn is_told(&self) {
        let status = self.agent.ask(&self.desk, &["status"]).exits(1);
        let told = [&*key(VICTIM), "store.damaged", "--move-damaged-aside"];
        assert!(told.iter().all(|text| status.text().contains(text)), "{status:?}");
        let ready = self.http("/readyz");
        assert!(ready.starts_with("HTTP/1.1 503 ") && ready.contains("\nstore.damaged: "), "{ready}");
        let log = self.desk.read("data.log");
        assert!(log.contains("the store cannot be read") && log.contains(&key(VICTIM)), "{log}");
    }
}

#[test]
fn a_value_that_was_damaged_is_told_and_concerns_nothing_else() {
    let tabled = Tabled::new();
    let Tabled { desk, agent, .. } = &tabled;
    tabled.damage();
    assert!(tabled.http("/readyz").starts_with("HTTP/1.1 200 "), "nobody has looked yet");
    let refused = agent.ask(desk, &["get", &key(VICTIM)]).fails(8, "store.damaged");
    assert!(refused.err.contains(&key(VICTIM)), "{refused:?}");
    assert!(tabled.http(&format!("/v1/kv{}", key(VICTIM))).starts_with("HTTP/1.1 503 "));
    tabled.is_told();
    tabled.all_but_the_victim("data");
    agent.ask(desk, &["set", "/new", "1"]).exits(0);
    // Who watches is told of all others.
    let others = (KEYS - 1).to_string();
    let watched = agent.ask(desk, &["watch", "/n/*", "--count", &others]).exits(0);
    let told: Vec<String> = watched.text().lines().map(|line| line.chars().take(13).collect()).collect();
    let expected = (0..KEYS).filter(|number| *number != VICTIM);
    assert_eq!(told, expected.map(|number| format!("current  {}", key(number))).collect::<Vec<_>>());
    // No file is made as if it were unset, or of what is left of a list.
    let why = format!("cannot read an entry of {} from its store [entry.unreadable]", key(VICTIM));
    let render = ["render", "template", "-o", "file", "--once", "--timeout", "2s"];
    for template in ["{{ entries('/n/*') | length }}", "{{ get('/n/3', 'unset') }}"] {
        fs::write(desk.path("template"), template).unwrap();
        let refused = agent.ask(desk, &render).fails(7, "client.not_ready");
        assert!(refused.err.contains(&why) && !desk.path("file").exists(), "{refused:?}");
    }
    // Others get all that reads, and hear why they are not equal.
    let second = tabled.second().start(desk);
    tabled.all_but_the_victim("second");
    let synced = second.ask(desk, &["sync", status(desk, "data")["sync_address"].as_str().unwrap()]);
    assert!(synced.code == 7 && synced.text().contains("(unreadable)"), "{synced:?}");
    second.ask(desk, &["get", &key(VICTIM)]).fails(3, "key.unset");
    // An export is whole or none.
    agent.ask(desk, &["export", "-o", "part.kvgossip"]).fails(8, "store.damaged");
    assert!(!desk.path("part.kvgossip").exists());

    // Written anew it is well again.
    agent.ask(desk, &["set", &key(VICTIM), "anew"]).exits(0);
    agent.ask(desk, &render).exits(0);
    assert_eq!(desk.read("file"), "anew");
    wait_until("it is well again", || agent.ask(desk, &["status"]).code == 0);
    assert!(tabled.http("/readyz").starts_with("HTTP/1.1 200 "));
    let last = until(|| second.ask(desk, &["get", &key(VICTIM)]), |ran| ran.code == 0);
    assert_eq!(last.text(), "anew");
}

#[test]
fn a_store_with_a_damaged_value_is_moved_aside_when_asked_and_filled_by_peers() {
    let tabled = Tabled::new();
    let second = tabled.second().start(&tabled.desk);
    let address = status(&tabled.desk, "second")["sync_address"].as_str().unwrap().to_owned();
    tabled.all_but_the_victim("second");
    until(|| ask(&tabled.desk, "second", &["get", &key(VICTIM)]), |ran| ran.code == 0).exits(0);
    let root = status(&tabled.desk, "second")["digests"]["root"].clone();
    let Tabled { desk, launch, agent, values } = {
        // It has read the value to send it: an agent that begins anew reads the disk.
        let Tabled { desk, values, launch, agent } = tabled;
        assert!(agent.stop().success());
        let agent = launch.start(&desk);
        let tabled = Tabled { desk, values, launch, agent };
        tabled.damage();
        tabled.agent.ask(&tabled.desk, &["get", &key(VICTIM)]).fails(8, "store.damaged");
        tabled.is_told();
        tabled
    };
    assert!(agent.stop().success());
    let checked = desk.run(&["fsck", "data"]);
    assert!(checked.code == 8, "{checked:?}");
    // It opens as it is: values are not read then.
    assert!(launch.start(&desk).stop().success());
    assert!(!desk.path("data/store.damaged-1").exists());
    let agent = launch.with(&["--move-damaged-aside", "--peer", &address]).start(&desk);
    assert!(desk.path("data/store.damaged-1").is_dir());
    wait_until("the second has filled it", || status(&desk, "data")["digests"]["root"] == root);
    assert_eq!(agent.ask(&desk, &["get", &key(VICTIM)]).exits(0).out, values[VICTIM]);
    agent.ask(&desk, &["status"]).exits(0);
    drop(second);
}

#[test]
fn a_table_that_was_cut_or_overwritten_is_told_without_a_panic() {
    for damage in [
        |file: &fs::File| file.set_len(100).unwrap(),
        |mut file: &fs::File| {
            file.write_all(&vec![7; KEYS * VALUE_BYTES]).unwrap();
        },
    ] {
        let tabled = Tabled::new();
        let Tabled { desk, agent, .. } = &tabled;
        damage(&fs::File::options().write(true).open(tabled.place_of(VICTIM).0).unwrap());
        for number in 0..KEYS {
            agent.ask(desk, &["get", &key(number)]).fails(8, "store.damaged");
        }
        agent.ask(desk, &["status"]).exits(1);
        // What does not lie there goes on.
        agent.ask(desk, &["set", "/new", "1"]).exits(0);
        assert_eq!(agent.ask(desk, &["get", "/new"]).text(), "1");
        let log = desk.read("data.log");
        assert!(!log.contains("panicked"), "{log}");
    }
}

#[test]
fn a_store_whose_files_were_taken_away_acknowledges_nothing_any_more() {
    let desk = Desk::new(PROGRAM);
    let launch = Launch::new(&desk, "data", "replica-a.pem");
    let agent = launch.start(&desk);
    agent.ask(&desk, &["set", "/a", "1"]).exits(0);
    let second = Launch::new(&desk, "second", "replica-b.pem").peer(&desk, "data").start(&desk);
    until(|| second.ask(&desk, &["get", "/a"]), |ran| ran.code == 0).exits(0);
    let address = status(&desk, "second")["sync_address"].as_str().unwrap().to_owned();

    fs::remove_dir_all(desk.path("data/store")).unwrap();
    // The system would take writes into files that have no name any more.
    let refused = agent.ask(&desk, &["set", "/a", "2"]).fails(8, "store.damaged");
    assert!(refused.err.contains("data/store was removed or replaced"), "{refused:?}");
    let status = agent.ask(&desk, &["status"]).exits(1);
    assert!(status.text().contains("store.damaged: ") && status.text().contains("data/store"), "{status:?}");
    assert_eq!(agent.ask(&desk, &["get", "/a"]).text(), "1");
    assert!(agent.stop().success());

    // It is noticed at the next start, and filled again.
    launch.refused(&desk).fails(8, "store.rolled_back");
    let agent = launch.with(&["--accept-rollback", "--peer", &address]).start(&desk);
    until(|| agent.ask(&desk, &["get", "/a"]), |ran| ran.code == 0).exits(0);
    agent.ask(&desk, &["set", "/a", "2"]).exits(0);
}
