//! New keys in the place of old ones, step by step as docs/operations.md has it: a replica's and an identity's.
#![cfg(unix)]

use kvgossip_testkit::desk::{Desk, Ran, mode, until};
use kvgossip_testkit::process::{Launch, Process, ask, status};
use kvgossip_testkit::wait::wait_until;
use std::fs;

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

/// A file for --allow-peers.
fn admit(desk: &Desk, file: &str, ids: &[&str]) {
    fs::write(desk.path(file), ids.join("\n")).expect("a file");
}

fn replica(desk: &Desk, data: &str) -> String {
    status(desk, data)["replica"].as_str().expect("an id").to_owned()
}

/// A data directory whose replica key is there already.
fn put_key(desk: &Desk, data: &str, key: &str) {
    fs::create_dir(desk.path(data)).expect("a directory");
    fs::copy(desk.path(key), desk.path(format!("{data}/replica.pem"))).expect("a key");
}

#[track_caller]
fn holds(desk: &Desk, data: &str, key: &str, value: &str) {
    let last = until(|| ask(desk, data, &["get", key]), |ran| ran.code == 0 && ran.text() == value);
    assert!(last.code == 0 && last.text() == value, "{data} does not get {key} = {value}: {last:?}");
}

/// Whether the agent in `data` stays connected with its only peer.
fn is_connected(desk: &Desk, data: &str) -> bool {
    status(desk, data)["peers"][0]["connected"] == true
}

/// Begins a session with the first agent, from where it is to be refused.
fn sync_is_refused(desk: &Desk, data: &str, first: &str) -> Ran {
    ask(desk, data, &["sync", first]).fails(4, "peer.not_admitted")
}

#[test]
fn a_replica_with_a_new_key_is_admitted_and_its_old_key_is_refused() {
    let desk = Desk::new(PROGRAM);
    put_key(&desk, "first", "replica-a.pem");
    put_key(&desk, "second", "replica-b.pem");
    admit(&desk, "first.ids", &[]);
    let first = Launch::with_its_own_key("first", "first.ids").start(&desk);
    let first_id = replica(&desk, "first");
    admit(&desk, "second.ids", &[&first_id]);
    let second = Launch::with_its_own_key("second", "second.ids").peer(&desk, "first");
    let running = second.start(&desk);
    let old_id = replica(&desk, "second");
    admit(&desk, "first.ids", &[&old_id]);
    first.signal("HUP");
    first.ask(&desk, &["set", "/x", "1"]).exits(0);
    holds(&desk, "second", "/x", "1");

    // Stop the agent, move its key away, start it: it says the id of the key that it made.
    assert!(running.stop().success());
    fs::rename(desk.path("second/replica.pem"), desk.path("stolen.pem")).expect("the key");
    fs::remove_file(desk.path("second.log")).expect("a log");
    let running = second.start(&desk);
    let new_id = replica(&desk, "second");
    assert_ne!(new_id, old_id);
    let said = desk.read("second.log");
    assert!(
        said.contains("making the replica's key") && said.contains(&format!("replica {new_id} ")),
        "{said}"
    );
    assert_eq!(mode(&desk.path("second/replica.pem")), 0o600);
    // Until the others list it, it is told why it is alone, and serves what it has.
    let first_at = status(&desk, "first")["sync_address"].as_str().expect("an address").to_owned();
    sync_is_refused(&desk, "second", &first_at);
    assert_eq!(ask(&desk, "second", &["get", "/x"]).text(), "1");
    first.ask(&desk, &["set", "/x", "2"]).exits(0);
    let told = until(|| ask(&desk, "second", &["status"]), |ran| ran.text().contains("[peer.not_admitted]"));
    assert!(told.text().contains("[peer.not_admitted]"), "{told:?}");

    admit(&desk, "first.ids", &[&old_id, &new_id]);
    first.signal("HUP");
    holds(&desk, "second", "/x", "2");

    // Whoever has the old key is admitted until it is struck off, and not a moment longer, connected or not.
    admit(&desk, "thief.ids", &[&first_id]);
    let thief = Launch::with_its_own_key("thief", "thief.ids").with(&["--replica-key", "stolen.pem"]);
    let _thief = thief.peer(&desk, "first").start(&desk);
    assert_eq!(replica(&desk, "thief"), old_id);
    holds(&desk, "thief", "/x", "2");
    admit(&desk, "first.ids", &[&new_id]);
    first.signal("HUP");
    wait_until("the thief is cut off", || !is_connected(&desk, "thief"));
    let said = desk.read("first.log");
    let cut_off = said.lines().find(|line| line.contains("cut off: it is no longer admitted"));
    assert!(cut_off.is_some_and(|line| line.contains(&old_id)), "{said}");
    first.ask(&desk, &["set", "/x", "3"]).exits(0);
    holds(&desk, "second", "/x", "3");
    sync_is_refused(&desk, "thief", &first_at);
    assert_eq!(ask(&desk, "thief", &["get", "/x"]).text(), "2");
    assert!(running.stop().success());
}

fn give(agent: &Process, desk: &Desk, by: &str, to: &str, pattern: &str, more: &[&str]) -> String {
    let args = ["grant", "new", "--identity", by, "--to", to, "--pattern", pattern];
    agent.ask(desk, &[&args[..], more].concat()).exits(0).text().trim().to_owned()
}

fn entry(desk: &Desk, data: &str, key: &str) -> serde_json::Value {
    ask(desk, data, &["get", key, "--output", "json"]).exits(0).json().remove(0)
}

#[test]
fn an_identity_rotated_by_grant_adopt_and_revoke_leaves_the_same_values() {
    let desk = Desk::new(PROGRAM);
    let first = Launch::new(&desk, "first", "replica-a.pem").start(&desk);
    let _second = Launch::new(&desk, "second", "replica-b.pem").peer(&desk, "first").start(&desk);
    // The old identity is `dev`, the new one is made here; `team` gave the grant.
    give(&first, &desk, "root.pem", "team.pub.pem", "/app/**", &["--subgrant"]);
    let old = give(&first, &desk, "team.pem", "dev.pub.pem", "/app/web/**", &[]);
    let keys = ["/app/web/a", "/app/web/b", "/app/web/c/d"];
    for key in keys {
        first.ask(&desk, &["set", key, &format!("of {key}"), "--identity", "dev.pem"]).exits(0);
    }
    first.ask(&desk, &["set", "/app/web/gone", "x", "--identity", "dev.pem"]).exits(0);
    first.ask(&desk, &["del", "/app/web/gone", "--identity", "dev.pem"]).exits(0);
    holds(&desk, "second", "/app/web/c/d", "of /app/web/c/d");

    desk.run(&["keygen", "-o", "new.pem"]).exits(0);
    fs::write(desk.path("new.pub"), desk.run(&["keygen", "-y", "new.pem"]).exits(0).out).expect("a file");
    let new = give(&first, &desk, "team.pem", "new.pub", "/app/web/**", &[]);
    let revoke = ["grant", "revoke", &old[..8], "--identity", "team.pem"];
    let rehearsed = first.ask(&desk, &[&revoke[..], &["--dry-run"]].concat()).exits(0);
    assert!(rehearsed.err.contains("3 keys would be unset"), "adopting is needed: {rehearsed:?}");
    let adopt = ["adopt", "/app/web/**", "--identity", "new.pem"];
    let rehearsed = first.ask(&desk, &[&adopt[..], &["--dry-run"]].concat()).exits(0);
    assert!(
        rehearsed.text().ends_with("3 would be adopted, 0 need nothing, 0 not adopted\n"),
        "{rehearsed:?}"
    );
    let adopted = first.ask(&desk, &adopt).exits(0);
    assert_eq!(adopted.text(), "3 adopted, 0 need nothing, 0 not adopted\n");
    let rehearsed = first.ask(&desk, &[&revoke[..], &["--dry-run"]].concat()).exits(0);
    assert!(rehearsed.err.contains("0 keys would be unset, 0 go back"), "{rehearsed:?}");
    first.ask(&desk, &revoke).exits(0);

    let root = status(&desk, "first")["digests"]["root"].clone();
    wait_until("both hold the same", || status(&desk, "second")["digests"]["root"] == root);
    for data in ["first", "second"] {
        for key in keys {
            let entry = entry(&desk, data, key);
            assert_eq!(
                (&entry["value"], &entry["grant"]),
                (&format!("of {key}").into(), &new.as_str().into())
            );
        }
        ask(&desk, data, &["get", "/app/web/gone"]).fails(3, "key.unset");
        ask(&desk, data, &["set", keys[0], "again", "--identity", "dev.pem"]).fails(4, "grant.revoked");
    }
    ask(&desk, "second", &["set", keys[0], "new", "--identity", "new.pem"]).exits(0);
    holds(&desk, "first", keys[0], "new");
}
