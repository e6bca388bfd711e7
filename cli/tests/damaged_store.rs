//! A store that is damaged or lost its tail: what the agent says at its start, and what an operator can do.
#![cfg(unix)]

use kvgossip_testkit::desk::{Desk, until};
use kvgossip_testkit::process::{Launch, Process, status};
use std::fs;
use std::path::PathBuf;

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

const KEYS: usize = 40;

/// Two agents that hold the same, of which the second is stopped. What is in a store of a few facts is in its journal.
struct Pair {
    desk: Desk,
    first: Process,
    second: Launch,
}

impl Pair {
    fn new() -> Self {
        let desk = Desk::new(PROGRAM);
        let first = Launch::new(&desk, "first", "replica-a.pem").start(&desk);
        let second = Launch::new(&desk, "second", "replica-b.pem").peer(&desk, "first");
        for number in 0..KEYS {
            first.ask(&desk, &["set", &format!("/a/{number}"), &format!("value {number}")]).exits(0);
        }
        let pair = Self { desk, first, second };
        let running = pair.start_and_wait_until_equal(&[]);
        // In a batch of its own, the last of the journal.
        pair.first.ask(&pair.desk, &["set", "/last", "the last value"]).exits(0);
        pair.wait_until_equal();
        assert!(running.stop().success());
        pair
    }

    fn root(&self, data: &str) -> String {
        status(&self.desk, data)["digests"]["root"].as_str().expect("a digest").to_owned()
    }

    fn wait_until_equal(&self) {
        let own = ["status", "--data-dir", "second", "--output", "json"];
        let equal = until(|| self.desk.run(&own), |ran| ran.text().contains(&self.root("first")));
        assert!(equal.text().contains(&self.root("first")), "{equal:?}");
    }

    fn start_and_wait_until_equal(&self, args: &[&str]) -> Process {
        let process = self.second.clone().with(args).start(&self.desk);
        self.wait_until_equal();
        process
    }

    fn journal(&self) -> PathBuf {
        let files = fs::read_dir(self.desk.path("second/store")).expect("a store");
        let mut files = files.map(|file| file.expect("a file").path());
        files.find(|path| path.extension().is_some_and(|extension| extension == "jnl")).expect("a journal")
    }

    fn change_journal(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.journal()).expect("a journal");
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).expect("something in it") + 1);
        change(&mut bytes);
        fs::write(self.journal(), bytes).expect("a file of ours");
    }
}

#[test]
fn a_store_that_lost_its_tail_is_told_and_goes_on_when_asked_to() {
    let pair = Pair::new();
    pair.change_journal(|journal| journal.truncate(journal.len() - 20));
    for _ in 0..2 {
        let refused = pair.second.refused(&pair.desk).fails(8, "store.rolled_back");
        assert!(refused.err.contains("--accept-rollback") && refused.err.contains("second"), "{refused:?}");
    }
    let running = pair.start_and_wait_until_equal(&["--accept-rollback"]);
    assert_eq!(running.ask(&pair.desk, &["get", "/last"]).text(), "the last value");
    assert!(running.stop().success());
    // It was said once and is not needed any more.
    assert!(pair.second.start(&pair.desk).stop().success());
    assert!(!pair.desk.path("second/store.damaged-1").exists());
}

#[test]
fn a_damaged_store_is_named_moved_aside_and_filled_by_peers() {
    let pair = Pair::new();
    pair.change_journal(|journal| {
        let value = b"the last value";
        let at = journal.windows(value.len()).position(|window| window == value).expect("it is there");
        journal[at] ^= 1;
    });
    let damaged = fs::read(pair.journal()).expect("a journal");
    // A lost tail may be accepted; damage not.
    for args in [&[][..], &["--accept-rollback"]] {
        let refused = pair.second.clone().with(args).refused(&pair.desk).fails(8, "store.damaged");
        let told = ["second", "--move-damaged-aside"].iter().all(|text| refused.err.contains(text));
        assert!(told && !refused.err.contains("--accept-rollback"), "{refused:?}");
    }
    let running = pair.start_and_wait_until_equal(&["--move-damaged-aside"]);
    assert_eq!(running.ask(&pair.desk, &["get", "/last"]).text(), "the last value");
    let aside = pair.desk.path("second/store.damaged-1");
    assert_eq!(fs::read(aside.join(pair.journal().file_name().expect("a name"))).expect("kept"), damaged);
    assert!(running.stop().success());
    // A store that is whole stays where it is.
    let running = pair.start_and_wait_until_equal(&["--move-damaged-aside"]);
    assert!(running.stop().success() && !pair.desk.path("second/store.damaged-2").exists());
}

#[test]
fn a_store_of_another_cluster_is_not_damaged() {
    let pair = Pair::new();
    fs::copy(pair.desk.path("team.pub.pem"), pair.desk.path("root.pub.pem")).expect("a file");
    let refused = pair.second.clone().with(&["--move-damaged-aside"]).refused(&pair.desk);
    refused.fails(1, "store.foreign_cluster");
    assert!(!pair.desk.path("second/store.damaged-1").exists());
}
