//! `kvgossip agent` as a process: started, stopped, started again; what a clock does to it, and what a signature costs.
#![cfg(unix)]

mod clocks;

use kvgossip_testkit::desk::Desk;
use kvgossip_testkit::process::{Launch, ask, status};
use kvgossip_testkit::wait::wait_until;
use std::io::Write as _;
use std::net::{TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let desk = Desk::new(PROGRAM);
    let launch = Launch::new(&desk, "data", "replica-a.pem");
    let agent = launch.start(&desk);
    agent.ask(&desk, &["set", "/a", "1"]).exits(0);
    let grant = ["grant", "new", "--to", "team.pub.pem", "--pattern", "/team/**", "--identity", "root.pem"];
    agent.ask(&desk, &grant).exits(0);
    agent.ask(&desk, &["set", "/team/x", "2", "--identity", "team.pem"]).exits(0);
    let digest = agent.ask(&desk, &["digest"]).exits(0);
    assert!(agent.stop().success());
    ask(&desk, "data", &["get", "/a"]).fails(5, "agent.unreachable");

    let agent = launch.start(&desk);
    assert_eq!(agent.ask(&desk, &["digest"]).text(), digest.text());
    assert_eq!(agent.ask(&desk, &["get", "/team/x"]).text(), "2");
    assert!(agent.stop().success());
}

#[test]
fn two_agents_do_not_share_a_data_directory() {
    let desk = Desk::new(PROGRAM);
    let agent = Launch::new(&desk, "data", "replica-a.pem").start(&desk);
    Launch::new(&desk, "data", "replica-b.pem").refused(&desk).fails(6, "store.in_use");
    assert!(agent.stop().success());
}

/// The limit of the unit that starts the agent is far above this.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Whatever clients and peers do: those that never read, those that never finish a request, those that never answer.
#[test]
fn an_agent_that_is_told_to_terminate_ends_in_time() {
    let desk = Desk::new(PROGRAM);
    let mute = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let peer = mute.local_addr().expect("bound").to_string();
    let agent = Launch::new(&desk, "data", "replica-a.pem").with(&["--peer", &peer]).start(&desk);
    std::fs::write(desk.path("value"), vec![b'v'; 1 << 20]).expect("a file");
    for number in 0..8 {
        agent.ask(&desk, &["set", &format!("/n/{number}"), "--file", "value"]).exits(0);
    }
    let address = status(&desk, "data")["http_address"].as_str().expect("TCP").to_owned();
    let clients =
        ["GET /v1/watch?match=/** HTTP/1.1\r\nhost: localhost\r\n\r\n", "GET /v1/stat"].map(|request| {
            let mut client = TcpStream::connect(&address).expect("the agent");
            client.write_all(request.as_bytes()).expect("a request");
            client
        });
    // A handshake with the peer is under way.
    let mut packet = [0; 2048];
    mute.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
    mute.recv(&mut packet).expect("a first packet");
    let began = Instant::now();
    assert!(agent.stop().success());
    assert!(began.elapsed() <= STOP_LIMIT, "{:?}", began.elapsed());
    drop(clients);
}

/// A library that is loaded before the system's: as long as a certain file is there, renaming anything to `sync-state` does not
/// return, as on a disk that does not answer.
const HANGING_RENAME: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int rename(const char *from, const char *to) {
    const char *hangs = getenv("TEST_HANGS");
    while (hangs && strstr(to, "/sync-state") && access(hangs, F_OK) == 0) pause();
    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}
"#;

#[test]
fn an_agent_whose_disk_does_not_answer_ends_in_time() {
    let desk = Desk::new(PROGRAM);
    let (launch, address) = Launch::new(&desk, "a", "replica-a.pem").at_a_fixed_address();
    let a = launch.start(&desk);
    let (source, library) = (desk.path("rename.c"), desk.path("rename.so"));
    std::fs::write(&source, HANGING_RENAME).expect("a file");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    assert!(compiled.expect("a C compiler").success());
    let mut b = Launch::new(&desk, "b", "replica-b.pem").with(&["--peer", &address]);
    b.env = vec![("LD_PRELOAD", library), ("TEST_HANGS", desk.path("hangs"))];
    let b = b.start(&desk);
    let last_equal = || status(&desk, "b")["last_equal_us"].as_u64();
    wait_until("it is kept that both held the same", || {
        desk.path("b/sync-state").exists() && last_equal().is_some()
    });
    std::fs::write(desk.path("hangs"), "").expect("a file");
    let before = last_equal();
    a.ask(&desk, &["set", "/key", "value"]).exits(0);
    wait_until("there is more to keep", || last_equal() > before);
    let began = Instant::now();
    assert!(b.stop().success());
    assert!(began.elapsed() <= STOP_LIMIT, "{:?}", began.elapsed());
    assert!(desk.read("b.log").contains("the disk does not answer"));
}
