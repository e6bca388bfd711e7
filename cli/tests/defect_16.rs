//! Once, the program hung: at every write after Serf became unreachable, at every write after a filtered list watch, and as
//! a whole when a full copy came to a large value. Here every command is given ten seconds, and stalls are real: processes
//! that are stopped, pipes that nobody reads, datagrams that are dropped.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use kvgossip_testkit::desk::Desk;
use kvgossip_testkit::process::{Launch, Process, ask, signal, status};
use kvgossip_testkit::relay::Relay;
use kvgossip_testkit::serf;
use kvgossip_testkit::wait::wait_until;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Stdio};

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

/// How long any one command may take.
const LIMIT: [&str; 2] = ["--timeout", "10s"];

fn set(agent: &Process, desk: &Desk, key: &str, value: &[&str]) {
    agent.ask(desk, &[&["set", key], value, &LIMIT].concat()).exits(0);
}

fn get(agent: &Process, desk: &Desk, key: &str) -> Vec<u8> {
    agent.ask(desk, &[&["get", key][..], &LIMIT].concat()).exits(0).out
}

#[tokio::test]
async fn defect_16_writes_go_on_when_serf_becomes_unreachable() {
    let desk = Desk::new(PROGRAM);
    let mut serf = serf::Agent::start("serf", &[]).await;
    let launch = Launch::new(&desk, "data", "replica-a.pem").gossiping_at(serf::fresh_ip());
    let agent = launch.with(&["--join", &serf.addr.to_string(), "--name", "ours"]).start(&desk);
    let is = |state: &str| {
        let members = agent.ask(&desk, &[&["members"][..], &LIMIT].concat()).exits(0);
        let is_it = |line: &str| line.starts_with("serf ") && line.contains(state);
        members.text().lines().any(is_it)
    };
    wait_until("both are members", || is(" alive "));
    let write = |stage: &str| {
        for number in 0..10 {
            set(&agent, &desk, &format!("/{stage}/{number}"), &["value"]);
        }
        assert_eq!(get(&agent, &desk, &format!("/{stage}/9")), b"value");
    };
    write("before");
    // Stopped, it takes what is sent and answers nothing; then it is suspected, and at last given up.
    serf.signal("STOP");
    write("stopped");
    wait_until("it is seen as failed", || is(" failed "));
    write("failed");
    serf.signal("CONT");
    wait_until("it is back", || is(" alive "));
    serf.kill();
    write("killed");
    // It answers, and says that nobody is left.
    let alone = agent.ask(&desk, &[&["status"][..], &LIMIT].concat()).exits(1);
    assert!(alone.text().starts_with("not well:\n  sync.alone: "), "{alone:?}");
    assert!(agent.stop().success());
}

/// A watch of `/w/**` without `/w/not/**`, whose output nobody reads unless asked to.
fn watch(desk: &Desk) -> Child {
    let mut command = desk.command(&["watch", "/w/**", "!/w/not/**", "--data-dir", "data"]);
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn defect_16_writes_go_on_beside_filtered_watches_whatever_becomes_of_them() {
    let desk = Desk::new(PROGRAM);
    let agent = Launch::new(&desk, "data", "replica-a.pem").start(&desk);
    fs::write(desk.path("large"), "x".repeat(256 << 10)).unwrap();
    set(&agent, &desk, "/w/0", &["first"]);
    // One that is read and then ends, one that is killed, one that is stopped, one whose output nobody reads.
    let mut read = watch(&desk);
    let mut line = String::new();
    BufReader::new(read.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("current  /w/0  "), "{line}");
    let (mut killed, mut stopped, mut unread) = (watch(&desk), watch(&desk), watch(&desk));
    for child in [&mut killed, &mut stopped] {
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 7]).unwrap();
    }
    signal(&read, "INT");
    assert!(read.wait().unwrap().success());
    signal(&killed, "KILL");
    killed.wait().unwrap();
    signal(&stopped, "STOP");
    // Far more than all pipes and sockets on the way hold.
    for number in 0..40 {
        set(&agent, &desk, &format!("/w/{}", number % 4), &["--file", "large"]);
        set(&agent, &desk, &format!("/w/not/{number}"), &["unseen"]);
    }
    set(&agent, &desk, "/w/last", &["the last"]);
    assert_eq!(get(&agent, &desk, "/w/last"), b"the last");
    // They went on from what they had to the latest, without what lay between.
    signal(&stopped, "CONT");
    for child in [&mut stopped, &mut unread] {
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let seen: Vec<_> = lines.take_while(|line| !line.starts_with("written  /w/last  ")).collect();
        assert!(seen.iter().all(|line| !line.contains("/w/not/")), "{}", seen.len());
        signal(child, "INT");
        // It may meet the closed pipe first.
        assert!(child.wait().unwrap().success());
    }
    assert!(agent.stop().success());
}

#[test]
fn defect_16_a_full_copy_of_large_values_that_stalls_stops_neither_side() {
    const VALUES: usize = 24;
    let desk = Desk::new(PROGRAM);
    let source = Launch::new(&desk, "source", "replica-a.pem").start(&desk);
    let mut value = vec![0; 1 << 20];
    getrandom::fill(&mut value).unwrap();
    fs::write(desk.path("large"), &value).unwrap();
    for number in 0..VALUES {
        set(&source, &desk, &format!("/large/{number:02}"), &["--file", "large"]);
    }
    let told = status(&desk, "source");
    let listener: SocketAddr = told["sync_address"].as_str().unwrap().parse().unwrap();
    // Some megabytes, in datagrams of up to 1,500 bytes; then nothing.
    let relay = Relay::to(listener, 4_000);
    let peer = format!("{}@{}", told["replica"].as_str().unwrap(), relay.address);
    let copy = Launch::new(&desk, "copy", "replica-b.pem").with(&["--peer", &peer]).start(&desk);
    wait_until("the copy stalls", || relay.passed() >= 4_000);
    for number in 0..5 {
        set(&source, &desk, &format!("/meanwhile/{number}"), &["at the source"]);
        set(&copy, &desk, &format!("/at/copy/{number}"), &["at the copy"]);
        assert_eq!(get(&source, &desk, "/large/03"), value);
        assert_eq!(get(&copy, &desk, &format!("/at/copy/{number}")), b"at the copy");
    }
    let keys = |data: &str| ask(&desk, data, &["ls"]).exits(0).text().lines().count();
    assert!(keys("copy") < VALUES + 10, "it has not all of it yet");
    relay.open();
    let root = |data: &str| status(&desk, data)["digests"]["root"].clone();
    wait_until("both hold the same", || root("source") == root("copy"));
    assert_eq!(keys("copy"), VALUES + 10);
    assert_eq!(get(&copy, &desk, "/large/23"), value);
    assert!(copy.stop().success() && source.stop().success());
}
