//! After the theft of an identity's key, step by step as docs/operations.md has it: what the thief wrote is gone at every
//! replica, comes back from none, and what stood before is brought back from an export.
#![cfg(unix)]

use kvgossip_testkit::desk::Desk;
use kvgossip_testkit::process::{Launch, Process, ask, status};
use kvgossip_testkit::wait::wait_until;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

/// A cluster of three, of which the third was away, and an old copy of the second's directory: all of them hold what the
/// thief wrote.
struct Robbed {
    desk: Desk,
    first: Process,
    second: Process,
    /// Stopped while the thief's entries stood.
    third: Launch,
    second_launch: Launch,
    /// The grant to the key that was stolen.
    grant: String,
}

const HONEST: [&str; 3] = ["/app/web/a", "/app/web/b", "/app/web/c"];

fn root_digest(desk: &Desk, data: &str) -> serde_json::Value {
    status(desk, data)["digests"]["root"].clone()
}

fn are_equal(desk: &Desk, data: &[&str]) {
    wait_until(&format!("{data:?} hold the same"), || {
        data.iter().all(|other| root_digest(desk, other) == root_digest(desk, data[0]))
    });
}

fn give(desk: &Desk, data: &str, by: &str, to: &str, more: &[&str]) -> String {
    let args = ["grant", "new", "--identity", by, "--to", to];
    ask(desk, data, &[&args[..], more].concat()).exits(0).text().trim().to_owned()
}

fn copy_dir(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().expect("cp").success());
}

/// What is shown: keys and values.
fn shown(desk: &Desk, data: &str) -> Vec<(String, String)> {
    let keys = ask(desk, data, &["ls", "/app/**"]).exits(0);
    let value = |key: &str| ask(desk, data, &["get", key]).exits(0).text().to_owned();
    keys.text().lines().map(|key| (key.to_owned(), value(key))).collect()
}

fn pairs(rows: &[(&str, &str)]) -> Vec<(String, String)> {
    rows.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

impl Robbed {
    fn new() -> Self {
        let desk = Desk::new(PROGRAM);
        let first = Launch::new(&desk, "first", "replica-a.pem").start(&desk);
        let second_launch = Launch::new(&desk, "second", "replica-b.pem").peer(&desk, "first");
        let second = second_launch.start(&desk);
        // The fixtures have two replica keys; any other will do for the third.
        let third = Launch::new(&desk, "third", "dev.pem").peer(&desk, "first");
        let third_running = third.start(&desk);
        let id = status(&desk, "third")["replica"].as_str().expect("an id").to_owned();
        fs::write(desk.path("admitted"), format!("{}\n{id}\n", desk.read("admitted"))).expect("a file");
        first.signal("HUP");

        give(&desk, "first", "root.pem", "team.pub.pem", &["--pattern", "/app/**", "--subgrant"]);
        let grant = give(&desk, "first", "team.pem", "dev.pub.pem", &["--pattern", "/app/web/**"]);
        first.ask(&desk, &["set", "/app/own", "the team's", "--identity", "team.pem"]).exits(0);
        for key in HONEST {
            first.ask(&desk, &["set", key, "honest", "--identity", "dev.pem"]).exits(0);
        }
        are_equal(&desk, &["first", "second", "third"]);
        first.ask(&desk, &["export", "-o", "before.kvgossip"]).exits(0);

        // The thief changes, unsets and adds, at another replica.
        let thief = |args: &[&str]| second.ask(&desk, &[args, &["--identity", "dev.pem"]].concat()).exits(0);
        thief(&["set", "/app/web/a", "evil"]);
        thief(&["del", "/app/web/b"]);
        thief(&["set", "/app/web/more", "evil"]);
        are_equal(&desk, &["first", "second", "third"]);
        assert!(third_running.stop().success());
        assert!(second.stop().success());
        copy_dir(&desk.path("second"), &desk.path("second.copy"));
        let second = second_launch.start(&desk);
        Self { desk, first, second, third, second_launch, grant }
    }
}

#[test]
fn what_a_thief_wrote_falls_everywhere_and_comes_back_from_nowhere() {
    let Robbed { desk, first, second, third, second_launch, grant } = Robbed::new();
    // What could be done with the key, and what falls with it.
    let granted = first.ask(&desk, &["grant", "ls"]).exits(0);
    assert!(granted.text().contains(&grant[..8]), "{granted:?}");
    let chain = first.ask(&desk, &["explain", "/app/web/a", "--as", "dev.pub.pem"]).exits(0);
    assert!(chain.text().starts_with("yes: ") && chain.text().contains(&grant[..8]), "{chain:?}");
    let revoke = ["grant", "revoke", &grant[..8], "--identity", "team.pem"];
    let rehearsed = first.ask(&desk, &[&revoke[..], &["--dry-run"]].concat()).exits(0);
    for key in ["/app/web/a", "/app/web/c", "/app/web/more"] {
        assert!(rehearsed.text().contains(&format!("key {key}: unset")), "{rehearsed:?}");
    }
    first.ask(&desk, &revoke).exits(0);
    let rest = pairs(&[("/app/own", "the team's")]);
    are_equal(&desk, &["first", "second"]);
    assert_eq!((shown(&desk, "first"), shown(&desk, "second")), (rest.clone(), rest.clone()));

    // The replica that was away, and one that is put back from an old copy, bring nothing back.
    let third = third.start(&desk);
    assert!(second.stop().success());
    fs::remove_dir_all(desk.path("second")).expect("a directory");
    fs::rename(desk.path("second.copy"), desk.path("second")).expect("the copy");
    let second = second_launch.start(&desk);
    are_equal(&desk, &["first", "second", "third"]);
    for data in ["first", "second", "third"] {
        assert_eq!(shown(&desk, data), rest, "{data}");
    }
    // Nor does the thief, anywhere, nor the export.
    for replica in [&first, &second, &third] {
        replica.ask(&desk, &["set", "/app/web/a", "evil", "--identity", "dev.pem"]).fails(4, "grant.revoked");
    }
    let imported = first.ask(&desk, &["import", "before.kvgossip"]).fails(4, "grant.revoked");
    assert!(imported.text().contains("3 not taken in"), "{imported:?}");
    assert_eq!(shown(&desk, "first"), rest);

    bring_back(&desk);
    let whole = pairs(&[
        ("/app/own", "the team's"),
        (HONEST[0], "honest"),
        (HONEST[1], "honest"),
        (HONEST[2], "honest"),
    ]);
    are_equal(&desk, &["first", "second", "third"]);
    for data in ["first", "second", "third"] {
        assert_eq!(shown(&desk, data), whole, "{data}");
    }
}

/// The values of the export, signed again by somebody else: in a replica that stands alone, as they cannot be taken in
/// where their grant is revoked.
fn bring_back(desk: &Desk) {
    // `root.pem` and `team.pem` sign already; the new identity is one of the fixtures' other keys.
    let new = ["replica-a.pem", "new.pub"];
    let public = desk.run(&["keygen", "-y", new[0]]).exits(0);
    fs::write(desk.path(new[1]), public.out).expect("a file");
    fs::write(desk.path("nobody"), "").expect("a file");
    let _alone =
        Launch::with_its_own_key("scratch", "nobody").with(&["--replica-key", "replica-b.pem"]).start(desk);
    ask(desk, "scratch", &["import", "before.kvgossip"]).exits(0);
    give(desk, "scratch", "team.pem", new[1], &["--pattern", "/app/web/**", "--out", "grant.json"]);
    ask(desk, "scratch", &["import", "grant.json"]).exits(0);
    let adopt = ["adopt", "/app/web/**", "--identity", new[0], "--out", "values.json"];
    ask(desk, "scratch", &adopt).exits(0);
    ask(desk, "first", &["import", "grant.json"]).exits(0);
    let imported = ask(desk, "first", &["import", "values.json"]).exits(0);
    assert!(imported.text().starts_with("3 facts: 3 new"), "{imported:?}");
}

#[test]
fn a_floor_ends_what_is_older_than_a_time_at_replicas_that_were_away_too() {
    let Robbed { desk, first, second, third, second_launch, grant } = Robbed::new();
    // What is to stay is signed again, later than the floor.
    let before = status(&desk, "first")["now_us"].as_u64().expect("a time") + 1;
    let before = format!("{}.{:06}Z", utc(before / 1_000_000), before % 1_000_000);
    first.ask(&desk, &["set", "/app/web/c", "honest", "--identity", "root.pem"]).exits(0);
    let floor = ["floor", "/app/web/**", "--before", &before, "--identity", "root.pem"];
    let rehearsed = first.ask(&desk, &[&floor[..], &["--dry-run"]].concat()).exits(0);
    let told = rehearsed.text().contains("key /app/web/a: unset") && !rehearsed.text().contains("/app/web/c");
    assert!(told, "{rehearsed:?}");
    first.ask(&desk, &floor).exits(0);
    first.ask(&desk, &["grant", "revoke", &grant[..8], "--identity", "root.pem"]).exits(0);
    assert!(second.stop().success());
    fs::remove_dir_all(desk.path("second")).expect("a directory");
    fs::rename(desk.path("second.copy"), desk.path("second")).expect("the copy");
    let _running = (third.start(&desk), second_launch.start(&desk));
    are_equal(&desk, &["first", "second", "third"]);
    for data in ["first", "second", "third"] {
        assert_eq!(
            shown(&desk, data),
            pairs(&[("/app/own", "the team's"), ("/app/web/c", "honest")]),
            "{data}"
        );
    }
    // Signed before by somebody whose grant still stands, it is too old as well.
    first.ask(&desk, &["import", "before.kvgossip"]).fails(4, "grant.revoked");
    assert_eq!(shown(&desk, "first"), pairs(&[("/app/own", "the team's"), ("/app/web/c", "honest")]));
}

/// Seconds since 1970 as a date and a time of day.
fn utc(seconds: u64) -> String {
    let date = Command::new("date").args(["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%S"]).output();
    String::from_utf8(date.expect("date").stdout).expect("text").trim().to_owned()
}
