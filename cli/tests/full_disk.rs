//! An agent whose disk runs full: what it says, that reading goes on, and that nothing acknowledged is lost.
#![cfg(target_os = "linux")]

use kvgossip_testkit::desk::{Desk, until};
use kvgossip_testkit::namespace::{inside_a_mount_namespace, mount};
use kvgossip_testkit::process::{Launch, Process, ask, status};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

/// Room for the replica's beginnings and what it asks for at its start.
const DISK_MIB: usize = 80;
const VALUE_BYTES: usize = 200_000;

fn key(number: usize) -> String {
    format!("/n/{number}")
}

/// The status line and the body of `GET /readyz`.
fn readyz(desk: &Desk) -> String {
    let address = status(desk, "data")["http_address"].as_str().expect("TCP").to_owned();
    let mut stream = TcpStream::connect(&address).expect("the agent");
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
        .expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// The one reason why the agent is not ready.
fn demand_reason(desk: &Desk, code: &str) {
    let answer = readyz(desk);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains(code), "{answer}");
    let status = status(desk, "data");
    let reason = &status["reasons"][0];
    let message = reason["message"].as_str().expect("a reason");
    assert!(reason["code"] == code && message.contains("reading goes on"), "{status}");
    assert_eq!(status["ready"], false);
}

fn demand_values(agent: &Process, desk: &Desk, acknowledged: usize, value: &[u8]) {
    for number in 0..acknowledged {
        assert_eq!(agent.ask(desk, &["get", &key(number)]).exits(0).out, value, "{number}");
    }
}

#[test]
fn a_full_disk_is_told_and_nothing_acknowledged_is_lost() {
    if !inside_a_mount_namespace("a_full_disk_is_told_and_nothing_acknowledged_is_lost") {
        return;
    }
    let desk = Desk::new(PROGRAM);
    mount(&desk.path("data"), DISK_MIB);
    let launch = Launch::new(&desk, "data", "replica-a.pem");
    let agent = launch.start(&desk);
    assert!(readyz(&desk).starts_with("HTTP/1.1 200 "));
    // The store compresses.
    let mut value = vec![0; VALUE_BYTES];
    getrandom::fill(&mut value).expect("random bytes");
    fs::write(desk.path("value"), &value).expect("a file");
    let set = |number| ask(&desk, "data", &["set", &key(number), "--file", "value"]);
    set(0).exits(0);
    // Somebody else takes all but a little of the room.
    let fill = fs::File::create(desk.path("data/filler")).expect("a file");
    let chunk = vec![1; 1 << 20];
    while (&fill).write_all(&chunk).is_ok() {}
    let taken = fill.metadata().expect("a file").len();
    fill.set_len(taken - (3 << 20)).expect("less");
    drop(fill);

    let mut acknowledged = 1;
    let refused = loop {
        let ran = set(acknowledged);
        if ran.code != 0 {
            break ran;
        }
        acknowledged += 1;
        assert!(acknowledged < 1_000, "the disk is not full");
    };
    let refused = refused.fails(1, "store.full");
    assert!(refused.err.contains("make room: the agent then opens the store again by itself"), "{refused:?}");
    set(acknowledged + 1).exits(1);
    demand_reason(&desk, "store.full");
    demand_values(&agent, &desk, acknowledged, &value);
    assert!(acknowledged > 2, "some went in before: {acknowledged}");

    // With room it goes on by itself.
    let filler = desk.path("data/filler");
    let aside = fs::metadata(&filler).expect("our file").len();
    fs::remove_file(&filler).expect("our file");
    let is_ready = || status(&desk, "data")["ready"] == true;
    let ready = until(|| ask(&desk, "data", &["status"]), |_| is_ready());
    assert!(is_ready(), "{ready:?}");
    set(acknowledged).exits(0);
    acknowledged += 1;
    demand_values(&agent, &desk, acknowledged, &value);
    assert!(agent.stop().success());
    fs::File::create(&filler).expect("a file");
    let mut fill = fs::File::options().append(true).open(&filler).expect("our file");
    while fill.metadata().expect("our file").len() < aside && fill.write_all(&chunk).is_ok() {}
    drop(fill);

    // A full disk opens. It is asked for its room first, so that nobody is told "ready".
    let agent = launch.start(&desk);
    demand_reason(&desk, "store.no_room");
    set(acknowledged + 1).fails(1, "store.no_room");
    demand_values(&agent, &desk, acknowledged, &value);

    fs::remove_file(&filler).expect("our file");
    let ready = until(|| ask(&desk, "data", &["status"]), |_| is_ready());
    assert!(is_ready(), "{ready:?}");
    set(acknowledged + 1).exits(0);
    demand_values(&agent, &desk, acknowledged, &value);
    assert!(agent.stop().success());
    let agent = launch.start(&desk);
    demand_values(&agent, &desk, acknowledged, &value);
    assert!(readyz(&desk).starts_with("HTTP/1.1 200 ") && agent.stop().success());
}
