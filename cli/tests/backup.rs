//! Backup and restore, step by step as docs/operations.md has it.
#![cfg(unix)]

use kvgossip_testkit::desk::Desk;
use kvgossip_testkit::process::{Launch, Process, ask, status};
use kvgossip_testkit::wait::wait_until;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

fn root_digest(desk: &Desk, data: &str) -> serde_json::Value {
    status(desk, data)["digests"]["root"].clone()
}

fn are_equal(desk: &Desk, data: [&str; 2]) {
    wait_until(&format!("{data:?} hold the same"), || {
        root_digest(desk, data[0]) == root_digest(desk, data[1])
    });
}

fn copy_dir(desk: &Desk, from: &str, to: &str) {
    assert!(
        Command::new("cp").arg("-a").args([desk.path(from), desk.path(to)]).status().expect("cp").success()
    );
}

fn remove_dir(path: &Path) {
    fs::remove_dir_all(path).expect("a directory");
}

/// Two replicas that hold the same; a stopped copy of the second, older by a write, is in `second.copy`.
fn cluster() -> (Desk, Process, Launch, Process) {
    let desk = Desk::new(PROGRAM);
    let first = Launch::new(&desk, "first", "replica-a.pem").start(&desk);
    let second = Launch::new(&desk, "second", "replica-b.pem").peer(&desk, "first");
    let running = second.start(&desk);
    for number in 0..5 {
        first.ask(&desk, &["set", &format!("/n/{number}"), &format!("value {number}")]).exits(0);
    }
    are_equal(&desk, ["first", "second"]);
    assert!(running.stop().success());
    copy_dir(&desk, "second", "second.copy");
    let running = second.start(&desk);
    first.ask(&desk, &["set", "/later", "than the copy"]).exits(0);
    are_equal(&desk, ["first", "second"]);
    (desk, first, second, running)
}

#[test]
fn a_copy_of_a_directory_goes_on_and_a_store_that_went_back_is_noticed() {
    let (desk, _first, second, running) = cluster();
    assert!(running.stop().success());
    // The whole: what it lacks comes from its peers.
    remove_dir(&desk.path("second"));
    copy_dir(&desk, "second.copy", "second");
    let running = second.start(&desk);
    are_equal(&desk, ["first", "second"]);
    assert_eq!(ask(&desk, "second", &["get", "/later"]).text(), "than the copy");
    assert!(running.stop().success());

    // The store alone, beside the number of a later batch.
    remove_dir(&desk.path("second/store"));
    copy_dir(&desk, "second.copy/store", "second/store");
    let refused = second.refused(&desk).fails(8, "store.rolled_back");
    assert!(refused.err.contains("--accept-rollback, which goes on from what is left"), "{refused:?}");
    // The check says the same as the agent.
    let checked = desk.run(&["fsck", "second"]).fails(8, "store.rolled_back");
    assert!(checked.text().contains("second: older than what it acknowledged, "), "{checked:?}");
    let (accept, aside) = (checked.err.find("--accept-rollback"), checked.err.find("--move-damaged-aside"));
    assert!(accept.is_some() && accept < aside, "{checked:?}");
    let running = second.clone().with(&["--accept-rollback"]).start(&desk);
    are_equal(&desk, ["first", "second"]);
    assert_eq!(ask(&desk, "second", &["get", "/later"]).text(), "than the copy");
    assert!(running.stop().success());
    assert!(second.start(&desk).stop().success(), "it is needed once");
}

#[test]
fn a_lost_replica_refills_itself_and_keeps_its_id_with_its_key() {
    let desk = Desk::new(PROGRAM);
    fs::create_dir(desk.path("second")).expect("a directory");
    fs::copy(desk.path("replica-b.pem"), desk.path("second/replica.pem")).expect("a key");
    let first = Launch::new(&desk, "first", "replica-a.pem").start(&desk);
    let second = Launch::with_its_own_key("second", "admitted").peer(&desk, "first");
    let running = second.start(&desk);
    let id = status(&desk, "second")["replica"].clone();
    first.ask(&desk, &["set", "/x", "1"]).exits(0);
    are_equal(&desk, ["first", "second"]);
    drop(running);
    remove_dir(&desk.path("second"));
    // The new machine.
    fs::create_dir(desk.path("second")).expect("a directory");
    fs::copy(desk.path("replica-b.pem"), desk.path("second/replica.pem")).expect("a key");
    let _running = second.start(&desk);
    are_equal(&desk, ["first", "second"]);
    assert_eq!(status(&desk, "second")["replica"], id);
    assert_eq!(ask(&desk, "second", &["get", "/x"]).text(), "1");
}

#[test]
fn a_lost_cluster_comes_back_from_an_export() {
    let (desk, first, _, second) = cluster();
    let granted = ["grant", "new", "--identity", "root.pem", "--to", "dev.pub.pem", "--pattern", "/gone/**"];
    let grant = first.ask(&desk, &granted).exits(0).text().trim().to_owned();
    first.ask(&desk, &["set", "/gone/x", "1", "--identity", "dev.pem"]).exits(0);
    first.ask(&desk, &["grant", "revoke", &grant[..8], "--identity", "root.pem"]).exits(0);
    first.ask(&desk, &["export", "-o", "all.kvgossip"]).exits(0);
    desk.run(&["verify", "all.kvgossip", "--root", "root.pub.pem"]).exits(0);
    let before = root_digest(&desk, "first");
    drop((first, second));
    for data in ["first", "second"] {
        remove_dir(&desk.path(data));
    }
    let first = Launch::new(&desk, "first", "replica-a.pem").start(&desk);
    first.ask(&desk, &["import", "all.kvgossip"]).exits(0);
    let _second = Launch::new(&desk, "second", "replica-b.pem").peer(&desk, "first").start(&desk);
    are_equal(&desk, ["first", "second"]);
    assert_eq!(root_digest(&desk, "second"), before);
    // What was revoked stays so.
    ask(&desk, "second", &["set", "/gone/x", "2", "--identity", "dev.pem"]).fails(4, "grant.revoked");
}
