//! Pipes where files are named: read where a person gives one, and never waited for where a program needs a file.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use kvgossip_testkit::desk::{Desk, make_fifo};
use kvgossip_testkit::served::{Served, Setup};
use std::fs;
use std::path::Path;
use std::thread::{self, JoinHandle};

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

/// Makes a FIFO and writes to it once somebody reads.
fn pipe(path: &Path, bytes: &[u8]) -> JoinHandle<()> {
    make_fifo(path);
    let (path, bytes) = (path.to_owned(), bytes.to_owned());
    thread::spawn(move || fs::write(path, bytes).unwrap())
}

#[test]
fn what_a_person_names_may_be_a_pipe() {
    let served = Served::start(PROGRAM, Setup::default());
    let key = pipe(&served.path("key"), served.desk.read("root.pem").as_bytes());
    let value = pipe(&served.path("value"), b"out of a pipe");
    served.run(&["set", "/a", "--file", "value", "--identity", "key"]).exits(0);
    assert_eq!(served.run(&["get", "/a"]).exits(0).text(), "out of a pipe");
    served.run(&["export", "-o", "all"]).exits(0);
    let export = fs::read(served.path("all")).unwrap();
    let facts = pipe(&served.path("facts"), &export);
    assert!(served.run(&["import", "facts"]).exits(0).text().contains("1 there already"));
    let root = pipe(&served.path("root"), served.desk.read("root.pub.pem").as_bytes());
    served.desk.run(&["verify", "all", "--root", "root"]).exits(0);
    for writer in [key, value, facts, root] {
        writer.join().unwrap();
    }
    // Grants and entries are looked up one after the other: the second time the pipe would be empty.
    let again = pipe(&served.path("again"), &export);
    let plan = [
        "set",
        "/b",
        "1",
        "--from",
        "again",
        "--root",
        "root.pub.pem",
        "--identity",
        "root.pem",
        "--out",
        "-",
    ];
    served.desk.run(&plan).fails(2, "usage");
    again.join().unwrap();
}

#[test]
fn what_a_program_reads_again_or_keeps_itself_is_not_waited_for() {
    let desk = Desk::new(PROGRAM);
    make_fifo(&desk.path("fifo"));
    for kept in ["replica.pem", "root.pub.pem"] {
        fs::create_dir(desk.path(format!("with {kept}"))).unwrap();
        make_fifo(&desk.path(format!("with {kept}/{kept}")));
    }
    let agent = ["agent", "--root", "root.pub.pem", "--http", "127.0.0.1:0", "--sync", "127.0.0.1:0"];
    for (options, code) in [
        (&["--data-dir", "data", "--allow-peers", "fifo"][..], "peer.allow_list"),
        (&["--data-dir", "data", "--bind", "127.0.0.1:0", "--keyring", "fifo"], "gossip.keyring"),
        (&["--data-dir", "data", "--tls-cert", "fifo", "--tls-key", "tls-server.key"], "file.unreadable"),
        (&["--data-dir", "data", "--tls-cert", "tls-server.pem", "--tls-key", "fifo"], "file.unreadable"),
        (&["--data-dir", "with replica.pem"], "file.unreadable"),
    ] {
        let ran = desk.run_at_once(&[&agent[..], options].concat()).fails(1, code);
        assert!(ran.err.contains("a regular file is needed here"), "{options:?}: {ran:?}");
    }
    let peer = "127.0.0.1:9";
    let sync =
        desk.run_at_once(&["sync", peer, "--data-dir", "with root.pub.pem"]).fails(1, "file.unreadable");
    assert!(sync.err.contains("a regular file is needed here"), "{sync:?}");
    desk.run_at_once(&["fsck", "with root.pub.pem"]).fails(1, "file.unreadable");
}
