//! A replica that was never compared with a peer, and one that was long ago, as processes: what they say of themselves, and
//! what readers hear.
#![cfg(unix)]

use kvgossip_testkit::desk::{Desk, Ran, ran, until};
use kvgossip_testkit::process::{Launch, Process, ask, status};
use kvgossip_testkit::served::{Served, Setup};
use kvgossip_testkit::wait::wait_until;
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

/// How many fresh members are started; this variable asks for another number.
const STARTS: &str = "KVGOSSIP_TEST_STARTS";
const DEFAULT_STARTS: usize = 4;
/// How many keys the cluster holds; likewise.
const KEYS: &str = "KVGOSSIP_TEST_KEYS";
const DEFAULT_KEYS: usize = 1_000;
/// What a template shows for a key that is unset.
const DEFAULT: &str = "the default";

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().map_or(default, |text| text.parse().expect("a number"))
}

/// What `/readyz` says: its status, and its text.
fn readyz(status: &Value) -> (u16, String) {
    let address = status["http_address"].as_str().expect("HTTP is served");
    let mut stream = TcpStream::connect(address).expect("the door is open");
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status"), body.to_owned())
}

fn codes(status: &Value) -> Vec<(String, String)> {
    let reasons = status["reasons"].as_array().expect("reasons");
    let text = |reason: &Value, name: &str| reason[name].as_str().expect("a text").to_owned();
    reasons.iter().map(|reason| (text(reason, "code"), text(reason, "grade"))).collect()
}

fn has(status: &Value, code: &str, grade: &str) -> bool {
    codes(status).contains(&(code.to_owned(), grade.to_owned()))
}

/// Waits until the agent in the directory is ready.
#[track_caller]
fn wait_ready(desk: &Desk, data: &str) {
    wait_until("it is ready", || status(desk, data)["ready"] == true);
}

/// A command that runs beside the test.
struct Beside(Child);

impl Beside {
    fn start(desk: &Desk, data: &str, args: &[&str]) -> Self {
        let mut command = desk.command(&[args, &["--data-dir", data]].concat());
        Self(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts"))
    }

    fn end(self) -> Ran {
        ran(self.0.wait_with_output().expect("it ends"))
    }
}

fn template(desk: &Desk, key: &str) {
    fs::write(desk.path("template"), format!("{{{{ get(\"{key}\", \"{DEFAULT}\") }}}}")).expect("written");
}

#[test]
fn a_replica_that_was_never_compared_is_not_ready_and_tells_no_absence() {
    let desk = Desk::new(PROGRAM);
    let (launch_a, address) =
        Launch::new(&desk, "a", "replica-a.pem").ready_when_compared().at_a_fixed_address();
    let a = launch_a.start(&desk);
    a.ask(&desk, &["set", "/app/x", "there"]).exits(0);
    let first = status(&desk, "a");
    assert!(first["ready"] == true && has(&first, "sync.alone", "note"), "{first}");
    let text = a.ask(&desk, &["status"]).exits(0);
    assert!(text.text().starts_with("ready:\n  sync.alone: ") && !text.text().contains("well"), "{text:?}");
    assert_eq!(readyz(&first), (200, "ready\n".to_owned()));
    a.stop();

    let launch_b = Launch::new(&desk, "b", "replica-b.pem").ready_when_compared().with(&["--peer", &address]);
    let b = launch_b.start(&desk);
    let fresh = status(&desk, "b");
    assert!(has(&fresh, "sync.first", "unready") && has(&fresh, "sync.alone", "unwell"), "{fresh}");
    assert!(b.ask(&desk, &["status"]).exits(1).text().starts_with("not ready:\n  sync.first: "));
    let (code, why) = readyz(&fresh);
    assert!(code == 503 && why.starts_with("sync.first: ") && !why.contains("sync.alone"), "{why}");
    template(&desk, "/app/x");
    let render = ["render", "template", "-o", "out", "--root", "root.pub.pem"];
    let once = ["--once", "--timeout", "2s"];
    b.ask(&desk, &[&render[..], &once].concat()).fails(7, "sync.first");
    assert!(!desk.path("out").exists(), "no file with a default");
    for question in [
        &["get", "/app/x"][..],
        &["get", "/app/missing"],
        &["ls"],
        &["export"],
        &["grant", "ls"],
        &["explain", "/app/x", "--as", "root.pub.pem"],
        &["set", "/app/x", "other", "--if-id", "none"],
        &["del", "/app/x", "--identity", "root.pem"],
    ] {
        b.ask(&desk, question).fails(7, "sync.first");
    }
    let follow = ["watch", "/app/x", "--count", "1", "--root", "root.pub.pem", "--output", "json"];
    let watch = Beside::start(&desk, "b", &follow);
    let rendered = Beside::start(&desk, "b", &[&render[..], &["--once", "--timeout", "60s"]].concat());
    // It asks again and again; whatever it was told meanwhile, it must not have ended by it.
    std::thread::sleep(Duration::from_millis(1200));

    let a = launch_a.start(&desk);
    wait_ready(&desk, "b");
    let watched = watch.end().exits(0);
    assert_eq!(
        (&watched.json()[0]["event"], &watched.json()[0]["value"]),
        (&"current".into(), &"there".into())
    );
    assert!(watched.err.contains("[sync.first]"), "it says why it waits: {watched:?}");
    rendered.end().exits(0);
    assert_eq!(desk.read("out"), "there");
    b.ask(&desk, &["get", "/app/missing"]).fails(3, "key.unset");
    wait_until("it is well", || codes(&status(&desk, "b")).is_empty());
    assert!(b.ask(&desk, &["status"]).exits(0).text().starts_with("well\n"));
    assert!(status(&desk, "b")["last_equal_us"].as_u64().is_some_and(|at| at > 0));

    // The last survivor serves, and says what it does not know.
    b.stop();
    a.stop();
    let b = launch_b.clone().with(&["--ready-after", "3"]).start(&desk);
    let back = status(&desk, "b");
    assert!(has(&back, "sync.stale", "unready") && readyz(&back).0 == 503, "{back}");
    assert!(back["last_equal_us"].as_u64().is_some_and(|at| at > 0), "it is remembered: {back}");
    assert_eq!(b.ask(&desk, &["get", "/app/x"]).exits(0).text(), "there");
    wait_ready(&desk, "b");
    let serves = status(&desk, "b");
    assert!(has(&serves, "sync.stale", "unwell") && readyz(&serves).0 == 200, "{serves}");
    b.ask(&desk, &["status"]).exits(1);
    let a = launch_a.start(&desk);
    wait_until("it was compared", || codes(&status(&desk, "b")).is_empty());
    drop((a, b));
}

#[test]
fn newcomers_teach_each_other_nothing_unless_there_is_nobody_else() {
    let desk = Desk::new(PROGRAM);
    let (launch_a, at_a) =
        Launch::new(&desk, "a", "replica-a.pem").ready_when_compared().at_a_fixed_address();
    let (launch_b, at_b) =
        Launch::new(&desk, "b", "replica-b.pem").ready_when_compared().at_a_fixed_address();
    // Nobody listens there: somebody who knows more may.
    let absent = "127.0.0.1:9";
    let pair = |also: &[&str]| {
        let a = launch_a.clone().with(&["--peer", &at_b]).with(also).start(&desk);
        let b = launch_b.clone().with(&["--peer", &at_a]).with(also).start(&desk);
        (a, b)
    };
    let (a, b) = pair(&["--peer", absent]);
    let compared = |data: &str| {
        let peers = status(&desk, data)["peers"].clone();
        peers.as_array().is_some_and(|rows| rows.iter().any(|row| row["last_sync"]["outcome"] == "equal"))
    };
    wait_until("the two were compared", || compared("a") && compared("b"));
    // In a later session, too.
    let last = |data: &str| {
        let rows = status(&desk, data)["peers"].as_array().expect("peers").clone();
        rows.iter().filter_map(|row| row["last_sync"]["ended_at_us"].as_u64()).max()
    };
    let before = (last("a"), last("b"));
    wait_until("they are compared again", || last("a") > before.0 && last("b") > before.1);
    for data in ["a", "b"] {
        let fresh = status(&desk, data);
        assert!(has(&fresh, "sync.first", "unready"), "both are as ignorant: {fresh}");
    }
    drop((a, b));
    // One was told of the absent one, the other of the first one alone, which lacks what the absent one may hold.
    let a = launch_a.clone().with(&["--peer", &at_b]).start(&desk);
    let b = launch_b.clone().with(&["--peer", &at_a, "--peer", absent]).start(&desk);
    let before = (last("a"), last("b"));
    wait_until("they are compared", || last("a") > before.0 && last("b") > before.1);
    let before = (last("a"), last("b"));
    wait_until("they are compared again", || last("a") > before.0 && last("b") > before.1);
    for data in ["a", "b"] {
        let fresh = status(&desk, data);
        assert!(has(&fresh, "sync.first", "unready"), "neither knows what the absent one holds: {fresh}");
    }
    drop((a, b));
    let (a, b) = pair(&[]);
    wait_ready(&desk, "a");
    wait_ready(&desk, "b");
    drop((a, b));
    let alone = Launch::new(&desk, "c", "replica-a.pem").ready_when_compared().with(&[
        "--peer",
        absent,
        "--ready-alone",
    ]);
    let c = alone.start(&desk);
    let ready = status(&desk, "c");
    assert!(ready["ready"] == true && has(&ready, "sync.alone", "unwell"), "{ready}");
    c.ask(&desk, &["get", "/app/x"]).fails(3, "key.unset");
}

/// As where all agents have one list of members, which names each of them.
#[test]
fn a_cluster_whose_members_are_all_told_of_all_begins_by_itself() {
    let desk = Desk::new(PROGRAM);
    let places = [Ipv4Addr::new(127, 41, 8, 1), Ipv4Addr::new(127, 41, 8, 2)];
    let start = |data: &str, key: &str, ip: Ipv4Addr| {
        let launch = Launch::new(&desk, data, key).ready_when_compared().gossiping_at(ip);
        let all = places.map(|place| ["--join".to_owned(), place.to_string()]).concat();
        launch.with(&all.iter().map(String::as_str).collect::<Vec<_>>()).start(&desk)
    };
    let _members = (start("a", "replica-a.pem", places[0]), start("b", "replica-b.pem", places[1]));
    wait_ready(&desk, "a");
    wait_ready(&desk, "b");
}

#[test]
fn a_replica_that_is_refused_and_one_with_another_gossip_key_say_so() {
    let desk = Desk::new(PROGRAM);
    fs::write(desk.path("nobody"), "").expect("written");
    let _a = Launch::with_its_own_key("a", "nobody").start(&desk);
    let a = status(&desk, "a");
    let text = |name: &str| a[name].as_str().expect("a text").to_owned();
    let peer = format!("{}@{}", text("replica"), text("sync_address"));
    let refused =
        Launch::new(&desk, "b", "replica-b.pem").ready_when_compared().with(&["--peer", &peer]).start(&desk);
    wait_until("it says that it is refused", || {
        let now = status(&desk, "b");
        has(&now, "sync.refused", "unwell") && has(&now, "sync.first", "unready")
    });
    assert!(refused.ask(&desk, &["status"]).exits(1).text().contains("[peer.not_admitted]"));
    let reason = |status: &Value, code: &str| -> String {
        let reasons = status["reasons"].as_array().expect("reasons").clone();
        let found = reasons.into_iter().find(|reason| reason["code"] == code);
        found.map_or(String::new(), |reason| reason["message"].as_str().expect("a text").to_owned())
    };
    // It says whom it waits for, and the other side whom it does not take.
    let b = status(&desk, "b");
    let waits = reason(&b, "sync.first");
    assert!(waits.contains(&format!("waits for peer {}", text("sync_address"))), "{waits}");
    assert!(waits.contains("[peer.not_admitted]"), "{waits}");
    let other = b["replica"].as_str().expect("an id").to_owned();
    wait_until("the refusing side names the peer", || {
        let named = reason(&status(&desk, "a"), "peer.turned_away");
        named.contains(&other) && named.contains("[peer.not_admitted]")
    });
    assert!(has(&status(&desk, "a"), "peer.turned_away", "note") && status(&desk, "a")["ready"] == true);

    let keyed = |data: &str, ip: Ipv4Addr, key: &str, more: &[&str]| -> Process {
        let launch = Launch::new(&desk, data, "replica-a.pem").ready_when_compared().gossiping_at(ip);
        launch.with(&["--encrypt", key]).with(more).start(&desk)
    };
    let (one, two) = (Ipv4Addr::new(127, 41, 7, 1), Ipv4Addr::new(127, 41, 7, 2));
    let _c = keyed("c", one, "AAAAAAAAAAAAAAAAAAAAAA==", &[]);
    let _d = keyed("d", two, "BBBBBBBBBBBBBBBBBBBBBA==", &["--join", &one.to_string()]);
    wait_until("it says that its key is another", || {
        let now = status(&desk, "d");
        has(&now, "gossip.wrong_key", "unwell") && has(&now, "sync.first", "unready")
    });
}

/// Readiness, `render --once`, `get` and `watch` of fresh members, from the moment at which they answer.
#[test]
fn a_fresh_member_never_tells_a_default_or_an_absence_that_is_only_ignorance() {
    let keys = number(KEYS, DEFAULT_KEYS);
    let served = Served::start(PROGRAM, Setup::default());
    let desk = &served.desk;
    served.fill(keys);
    let last = format!("/fill/{:04}", keys - 1);
    template(desk, &last);
    let peer = format!("{}@{}", served.replica(), served.sync_address());
    for start in 0..number(STARTS, DEFAULT_STARTS) {
        let data = format!("fresh-{start}");
        let out = format!("out-{start}");
        let launch = Launch::new(desk, &data, "replica-b.pem").ready_when_compared().with(&["--peer", &peer]);
        let fresh = launch.spawn(desk);
        wait_until("its door is open", || desk.path(&data).join("agent.sock").exists());
        let live = ["--root", "root.pub.pem", "--timeout", "60s"];
        let render = ["render", "template", "-o", &out, "--once"];
        let render = Beside::start(desk, &data, &[&render[..], &live].concat());
        let watch = ["watch", &last, "--count", "1", "--output", "json"];
        let watch = Beside::start(desk, &data, &[&watch[..], &["--root", "root.pub.pem"]].concat());
        let get = until(|| ask(desk, &data, &["get", &last]), |ran| ran.code != 7 && ran.code != 5);
        assert_eq!(get.exits(0).text(), "value");
        assert_eq!(status(desk, &data)["ready"], true, "who answers is ready");
        render.end().exits(0);
        assert_eq!(desk.read(&out), "value");
        assert_eq!(watch.end().exits(0).json()[0]["event"], "current");
        drop(fresh);
        fs::remove_dir_all(desk.path(&data)).expect("removed");
    }
}
