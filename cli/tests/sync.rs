//! `sync` on a data directory without an agent, and against peers that stall.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use kvgossip_grants::ReplicaId;
use kvgossip_testkit::desk::{Desk, Ran, until};
use kvgossip_testkit::process::{Launch, ask};
use kvgossip_testkit::relay::Relay;
use kvgossip_testkit::served::{Served, Setup};
use kvgossip_transport::ReplicaKey;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

fn replica(desk: &Desk, name: &str) -> ReplicaId {
    ReplicaKey::from_pem(desk.read(name).as_bytes()).unwrap().id()
}

/// An agent that admits the replica of `replica-b.pem`.
fn peer() -> Served {
    let knows = vec![replica(&Desk::new(PROGRAM), "replica-b.pem")];
    Served::start(PROGRAM, Setup { identity: Some("root.pem"), knows, open_read: false, ..Setup::default() })
}

/// `sync` on a directory of `desk`, as the replica of `replica-b.pem`.
fn sync(desk: &Desk, peer: &str, more: &[&str]) -> Ran {
    let args =
        ["sync", peer, "--data-dir", "data", "--root", "root.pub.pem", "--replica-key", "replica-b.pem"];
    desk.run(&[&args[..], more].concat())
}

/// The same as a stranger.
fn pull(desk: &Desk, peer: &str) -> Ran {
    desk.run(&["sync", peer, "--data-dir", "data", "--root", "root.pub.pem"])
}

fn named(peer: &Served) -> String {
    format!("{}@{}", peer.replica(), peer.sync_address())
}

#[test]
fn a_data_directory_syncs_without_an_agent() {
    let one = peer();
    one.run(&["set", "/a/x", "1"]).exits(0);
    one.run(&["set", "/b", "2"]).exits(0);
    let desk = Desk::new(PROGRAM);
    let part = sync(&desk, &named(&one), &["/a"]).exits(0);
    assert!(part.text().starts_with("equal with ") && part.text().contains("1 merged here"), "{part:?}");
    assert!(part.err.contains("a new replica begins in it"), "{part:?}");
    let rest = sync(&desk, &named(&one), &["--output", "json"]).exits(0).json();
    // The peer may have begun a session of its own meanwhile, which brought it.
    assert_eq!(rest[0]["outcome"], "equal");
    assert!(rest[0]["merged"].as_u64().unwrap() <= 1, "{rest:?}");

    // What an agent finds there, and what it writes, goes the other way.
    let agent = Launch::new(&desk, "data", "replica-a.pem").start(&desk);
    assert_eq!(ask(&desk, "data", &["get", "/b"]).text(), "2");
    ask(&desk, "data", &["set", "/c", "3"]).exits(0);
    assert!(agent.stop().success());
    sync(&desk, &named(&one), &[]).exits(0);
    assert_eq!(one.run(&["get", "/c"]).text(), "3");
}

#[test]
fn an_agent_that_has_the_directory_does_it() {
    let one = Served::start(
        PROGRAM,
        Setup { identity: Some("root.pem"), replica: "replica-b.pem", ..Setup::default() },
    );
    one.run(&["set", "/a", "1"]).exits(0);
    let desk = Desk::new(PROGRAM);
    let _agent = Launch::new(&desk, "data", "replica-a.pem").start(&desk);
    // The options for a directory without an agent do no harm.
    sync(&desk, &named(&one), &[]);
    until(|| ask(&desk, "data", &["get", "/a"]), |ran| ran.code == 0).exits(0);
    // Its lock holds, too, where its socket is out of sight.
    std::fs::rename(desk.path("data/agent.sock"), desk.path("data/elsewhere")).unwrap();
    sync(&desk, &named(&one), &[]).fails(6, "store.in_use");
}

#[test]
fn what_is_missing_is_asked_for() {
    let one = peer();
    let desk = Desk::new(PROGRAM);
    let plain = ["sync", "127.0.0.1:9", "--data-dir", "data"];
    let lost = desk.run(&plain).fails(5, "agent.unreachable");
    assert!(lost.err.contains("--root"), "{lost:?}");
    assert!(!desk.path("data").exists(), "nothing is made before it is clear whose it is");
    sync(&desk, &one.sync_address(), &[]).fails(2, "agent.admits_nobody");
    sync(&desk, &one.replica().to_string()[..8], &[]).fails(2, "peer.malformed");
    // Another key than the peer admits: it says who has to be listed.
    let args = ["sync", &named(&one), "--data-dir", "data", "--root", "root.pub.pem"];
    let refused = desk.run(&args).fails(4, "peer.not_admitted");
    let own = replica(&desk, "data/replica.pem");
    assert!(refused.err.contains(&format!("this replica's id is {own}")), "{refused:?}");
    // Another peer than the one that was named, another root, another cluster in the directory.
    let other = format!("{own}@{}", one.sync_address());
    sync(&desk, &other, &[]).fails(8, "peer.wrong_id");
    let foreign = [
        "sync",
        &named(&one),
        "--data-dir",
        "strange",
        "--root",
        "team.pub.pem",
        "--replica-key",
        "replica-b.pem",
    ];
    desk.run(&foreign).fails(1, "peer.foreign_cluster");
    let swapped = [
        "sync",
        &named(&one),
        "--data-dir",
        "data",
        "--root",
        "team.pub.pem",
        "--replica-key",
        "replica-b.pem",
    ];
    desk.run(&swapped).fails(1, "store.foreign_cluster");
}

/// Once, the whole program hung. Here every stage has its limit of time: the handshake, its confirmation, each flight of a
/// session. What was merged before the stall stays.
#[test]
fn defect_16_a_peer_that_stalls_at_any_stage_is_given_up_in_time() {
    // Each dialler is a stranger with a key of its own, so that they may come at the same time.
    let one = Served::start(PROGRAM, Setup { open_read: true, ..Setup::default() });
    one.fill(400);
    let listener: SocketAddr = one.sync_address().parse().unwrap();
    let id = one.replica();
    // How many datagrams a whole session takes from the peer.
    let desk = Desk::new(PROGRAM);
    let relay = Relay::to(listener, usize::MAX);
    pull(&desk, &format!("{id}@{}", relay.address)).exits(0);
    let whole = relay.passed();
    assert!(whole > 12, "{whole}");

    let stages = [0, 1, 2, 3, 4, 5, 6, 8, whole / 2, whole * 3 / 4];
    let stalls = stages.map(|answers| {
        thread::spawn(move || {
            let desk = Desk::new(PROGRAM);
            let relay = Relay::to(listener, answers);
            let began = Instant::now();
            let ran = pull(&desk, &format!("{id}@{}", relay.address));
            (answers, desk, ran, began.elapsed())
        })
    });
    let mut codes = std::collections::BTreeSet::new();
    for stall in stalls {
        let (answers, desk, ran, took) = stall.join().unwrap();
        let told = format!("{}{}", ran.text(), ran.err);
        let code = ["peer.handshake_timeout", "session.too_slow", "connection.lost"]
            .into_iter()
            .find(|code| told.contains(&format!("[{code}]")));
        let code = code.unwrap_or_else(|| panic!("{answers} answers: {ran:?}"));
        assert_eq!(ran.code, 7, "{answers} answers: {ran:?}");
        assert!(took < Duration::from_secs(60), "{answers} answers took {took:?}");
        codes.insert(code);
        // The directory is whole: the rest comes with the next session.
        pull(&desk, &format!("{id}@{listener}")).exits(0);
    }
    assert!(codes.contains("peer.handshake_timeout") && codes.contains("session.too_slow"), "{codes:?}");
}

#[test]
fn what_is_no_replica_is_given_up_in_time() {
    let mute = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let noise = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = noise.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((len, from)) = noise.recv_from(&mut buffer) {
            let _ = noise.send_to(&vec![0xc0; len], from);
        }
    });
    let desk = Desk::new(PROGRAM);
    let id = replica(&desk, "replica-a.pem");
    for peer in [mute.local_addr().unwrap(), address] {
        let given_up = sync(&desk, &format!("{id}@{peer}"), &[]).fails(7, "peer.handshake_timeout");
        assert!(
            given_up.err.starts_with("data is not there") || given_up.err.starts_with("syncing with "),
            "{given_up:?}"
        );
    }
    let shorter = sync(&desk, &format!("{id}@{address}"), &["--timeout", "200ms"]);
    shorter.fails(7, "session.cancelled");
}
