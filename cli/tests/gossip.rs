//! `members`, `join`, `leave`, `event` and `query` as processes, beside a real Serf agent.
#![cfg(unix)]

use kvgossip_testkit::desk::{Desk, Ran, until};
use kvgossip_testkit::process::{Launch, Process, ask};
use kvgossip_testkit::serf;
use kvgossip_testkit::wait::{eventually, wait_until};
use serde_json::Value;
use std::net::{TcpListener, UdpSocket};
use std::process::Command;

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const NEW_KEY: &str = "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=";

/// An agent in the directory `name` that takes part in gossip under that name.
fn member(desk: &Desk, name: &str, key: &str, more: &[&str]) -> Process {
    let launch = Launch::new(desk, name, key).with(&["--bind", "127.0.0.1:0", "--name", name]);
    launch.with(more).start(desk)
}

fn rows(desk: &Desk, data: &str) -> Vec<Value> {
    ask(desk, data, &["members", "--output", "json"]).exits(0).json()
}

/// Where an agent's gossip is.
fn address(desk: &Desk, data: &str) -> String {
    rows(desk, data)[0]["address"].as_str().expect("an address").to_owned()
}

fn row(desk: &Desk, data: &str, name: &str) -> Option<Value> {
    rows(desk, data).into_iter().find(|row| row["name"] == name)
}

/// Waits until the agent in `data` says that of a member.
#[track_caller]
fn sees(desk: &Desk, data: &str, name: &str, status: &str) {
    let shows = |ran: &Ran| ran.json().iter().any(|row| row["name"] == name && row["status"] == status);
    let last = until(|| ask(desk, data, &["members", "--output", "json"]).exits(0), shows);
    assert!(shows(&last), "{data} does not see {name} as {status}: {last:?}");
}

fn signal(process: &Process, signal: &str) {
    let pid = process.id().to_string();
    assert!(Command::new("kill").args(["-s", signal, &pid]).status().expect("kill").success());
}

/// A port that was free a moment ago, and that nobody listens at.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_joined_listed_told_asked_and_left() {
    let handlers =
        ["-event-handler=user:deploy=cat >> deploy", "-event-handler=query:uptime=echo three days"];
    let serf = serf::Agent::start("serf", &[&handlers[..], &["-tag=role=web"]].concat()).await;
    let desk = Desk::new(PROGRAM);
    let _a = member(&desk, "a", "replica-a.pem", &["--tag", "zone=east"]);
    let b = member(&desk, "b", "replica-b.pem", &[]);

    ask(&desk, "b", &["join", &nobody()]).fails(7, "gossip.join_failed");
    ask(&desk, "b", &["join", "nowhere.invalid"]).fails(7, "gossip.join_failed");
    let (at_a, at_serf) = (address(&desk, "a"), serf.addr.to_string());
    let joined = ask(&desk, "b", &["join", &at_a, &at_serf, &nobody()]).exits(0);
    assert_eq!(joined.text(), "2 of 3 answered\n");
    for data in ["a", "b"] {
        for name in ["a", "b", "serf"] {
            sees(&desk, data, name, "alive");
        }
    }
    serf.sees("a", "alive").await;
    assert!(serf.members().await["a"].1.contains("zone=east"));
    let long = ask(&desk, "b", &["members", "--long"]).exits(0);
    assert!(
        long.text().contains("\n    role=web\n") && long.text().contains("\n    zone=east\n"),
        "{long:?}"
    );

    roots_lag_and_last_sync(&desk, &b);
    events(&desk, &serf).await;
    queries(&desk, &serf).await;

    let left = ask(&desk, "b", &["leave"]).exits(0);
    assert_eq!(left.text(), "the agent has left the gossip\n");
    serf.sees("b", "left").await;
    sees(&desk, "a", "b", "left");
    let none = ask(&desk, "b", &["members"]).exits(0);
    assert!(none.text().starts_with("the agent takes no part in gossip: it has left"), "{none:?}");
    assert!(ask(&desk, "b", &["status"]).text().contains("gossip.left: this agent has left"));
    for command in [&["leave"][..], &["join", &at_a], &["event", "x"], &["query", "x"]] {
        ask(&desk, "b", command).fails(1, "gossip.left");
    }
    // It serves on.
    ask(&desk, "b", &["get", "/x"]).exits(0);
}

/// What `members` says of another replica: what it holds, since when it lags, and how the last session went.
fn roots_lag_and_last_sync(desk: &Desk, b: &Process) {
    ask(desk, "a", &["set", "/x", "1"]).exits(0);
    until(|| ask(desk, "b", &["get", "/x"]), |ran| ran.code == 0).exits(0);
    let own = ask(desk, "a", &["digest", "--output", "json"]).exits(0).json().remove(0);
    let is_equal = |ran: &Ran| {
        let rows = ran.json();
        let row = rows.iter().find(|row| row["name"] == "b").expect("a member");
        row["lag_us"] == 0 && row["last_sync"]["outcome"] == "equal" && row["connected"] == true
    };
    let json = || ask(desk, "a", &["members", "--output", "json"]).exits(0);
    let last = until(json, is_equal);
    assert!(is_equal(&last), "{last:?}");
    let row_b = row(desk, "a", "b").expect("a member");
    assert_eq!(row_b["root"], own["root"], "{own}");
    assert!(row_b["replica"].as_str().is_some_and(|id| id.len() == 64), "{row_b}");
    assert_eq!(row(desk, "a", "serf").expect("a member")["replica"], Value::Null);
    let text = ask(desk, "a", &["members"]).exits(0);
    let line = text.text().lines().find(|line| line.starts_with("b ")).expect("a line");
    assert!(line.contains(" the same ") && line.contains(" equal at "), "{text:?}");

    signal(b, "STOP");
    ask(desk, "a", &["set", "/x", "2"]).exits(0);
    let lags =
        |ran: &Ran| ran.text().lines().any(|line| line.starts_with("b ") && line.contains("older, for "));
    let shown = until(|| ask(desk, "a", &["members"]).exits(0), lags);
    signal(b, "CONT");
    assert!(lags(&shown), "{shown:?}");
    let again = until(json, is_equal);
    assert!(is_equal(&again), "{again:?}");
    assert_eq!(ask(desk, "b", &["get", "/x"]).text(), "2");
    sees(desk, "a", "b", "alive");
}

async fn events(desk: &Desk, serf: &serf::Agent) {
    ask(desk, "a", &["event", "deploy", "1.2.3"]).exits(0);
    let file = serf.dir.path().join("deploy");
    let told = async || std::fs::read_to_string(&file).is_ok_and(|text| text.contains("1.2.3")).then_some(());
    eventually("the agent's handler runs", told).await;
    let input = desk.run_with_input(&["event", "deploy", "-", "--data-dir", "b"], b"4.5.6");
    input.exits(0);
    let told = async || std::fs::read_to_string(&file).is_ok_and(|text| text.contains("4.5.6")).then_some(());
    eventually("the agent's handler runs again", told).await;
    let long = ask(desk, "a", &["event", "deploy", &"x".repeat(600)]).fails(1, "gossip.refused");
    assert!(long.err.contains("512"), "{long:?}");
    let longer = ask(desk, "a", &["event", "x", &"x".repeat(2_000)]);
    assert_ne!(longer.code, 0, "{longer:?}");
}

async fn queries(desk: &Desk, serf: &serf::Agent) {
    let asked = ask(desk, "a", &["query", "uptime", "?", "--wait", "3s"]).exits(0);
    for line in
        ["serf: three days", "serf has received it", "b has received it", "3 acknowledged, 1 answered"]
    {
        assert!(asked.text().lines().any(|found| found == line), "{line:?}: {asked:?}");
    }
    let named = ["query", "uptime", "--node", "b", "--wait", "1s", "--output", "json"];
    let answer = ask(desk, "a", &named).exits(0).json().remove(0);
    assert_eq!((&answer["acks"], &answer["responses"]), (&serde_json::json!(["b"]), &serde_json::json!([])));
    let tagged =
        ["query", "uptime", "--tag", "role=^w.b$", "--no-ack", "--relay-factor", "2", "--wait", "2s"];
    let tagged = ask(desk, "b", &tagged).exits(0);
    assert_eq!(tagged.text(), "serf: three days\n0 acknowledged, 1 answered\n");
    ask(desk, "a", &["query", "x", "--tag", "role=("]).fails(1, "gossip.refused");
    ask(desk, "a", &["query", "x", &"x".repeat(1_020)]).fails(1, "gossip.refused");
    // The other way round: agents hear and acknowledge.
    let heard = serf.serf("query", &["-timeout=3s", "whatever"]).await;
    assert!(heard.contains("Ack from 'a'") && heard.contains("Ack from 'b'"), "{heard}");
}

#[test]
fn what_cannot_be_done_is_said() {
    let desk = Desk::new(PROGRAM);
    for command in [&["members"][..], &["join", "127.0.0.1"], &["leave"], &["event", "x"], &["query", "x"]] {
        ask(&desk, "nobody", command).fails(5, "agent.unreachable");
    }
    for wrong in [
        &["join"][..],
        &["join", "two words"],
        &["join", "host:port"],
        &["event"],
        &["query", "x", "--tag", "role"],
        &["query", "x", "--relay-factor", "6"],
        &["query", "x", "--wait", "soon"],
    ] {
        ask(&desk, "nobody", wrong).exits(2);
    }
    let agent = Launch::new(&desk, "alone", "replica-a.pem").start(&desk);
    let none = agent.ask(&desk, &["members"]).exits(0);
    assert!(none.text().contains("started without --bind"), "{none:?}");
    assert!(agent.ask(&desk, &["members", "--output", "json"]).exits(0).json().is_empty());
    for command in [&["join", "127.0.0.1"][..], &["leave"], &["event", "x"], &["query", "x"]] {
        agent.ask(&desk, command).fails(1, "gossip.off");
    }
    assert!(agent.stop().success());
}

#[test]
fn an_agent_that_cannot_gossip_as_it_is_told_does_not_start() {
    let desk = Desk::new(PROGRAM);
    let launch = Launch::new(&desk, "data", "replica-a.pem");
    let refused = |args: &[&str]| launch.clone().with(args).refused(&desk);
    // Anybody could forge members there.
    let plain = refused(&["--bind", "0.0.0.0:0"]).fails(2, "gossip.plaintext");
    assert!(plain.err.contains("--keyring") && plain.err.contains("--plaintext-gossip"), "{plain:?}");
    let bound = ["--bind", "127.0.0.1:0"];
    let refused = |args: &[&str]| launch.clone().with(&bound).with(args).refused(&desk);
    let missing = refused(&["--keyring", "nowhere"]).fails(1, "gossip.keyring");
    assert!(missing.err.contains("nowhere"), "{missing:?}");
    for bad in ["", "[]", "[\"MTIz\"]", "[\"no base64\"]"] {
        std::fs::write(desk.path("ring"), bad).expect("a file");
        refused(&["--keyring", "ring"]).fails(1, "gossip.keyring");
    }
    let short = refused(&["--encrypt", "MTIz"]).exits(2);
    assert!(short.err.contains("16, 24 or 32 bytes") && !short.err.contains("MTIz\""), "{short:?}");
    refused(&["--tag", "kvg_port=1"]).fails(2, "gossip.reserved_tag");
    refused(&["--tag", &format!("long={}", "x".repeat(600))]).fails(1, "gossip.start");
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let used = launch.clone().with(&["--bind", &address]).refused(&desk).fails(1, "gossip.start");
    assert!(used.err.contains(&address), "{used:?}");
    launch.with(&["--join", "127.0.0.1"]).refused(&desk).fails(2, "usage");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_rotated_by_serfs_commands_and_outlive_a_restart() {
    let desk = Desk::new(PROGRAM);
    let serf = serf::Agent::start("serf", &[&format!("-encrypt={KEY}")]).await;
    std::fs::write(desk.path("ring"), format!("[\"{KEY}\"]")).expect("a file");
    // The same address each time: a member that is taken for alive cannot move.
    let launch = Launch::new(&desk, "a", "replica-a.pem").with(&["--bind", &nobody(), "--name", "a"]);
    let at_serf = serf.addr.to_string();
    let plain = launch.clone().start(&desk);
    plain.ask(&desk, &["join", &at_serf]).fails(7, "gossip.join_failed");
    assert!(plain.stop().success());
    let wrong = launch.clone().with(&["--encrypt", NEW_KEY]).start(&desk);
    wrong.ask(&desk, &["join", &at_serf]).fails(7, "gossip.join_failed");
    assert!(wrong.stop().success());

    let launch = launch.with(&["--keyring", "ring", "--join", &at_serf]);
    let agent = launch.start(&desk);
    serf.sees("a", "alive").await;
    let changes = [("-install", NEW_KEY), ("-use", NEW_KEY), ("-remove", KEY)];
    for (change, key) in changes {
        serf.serf("keys", &[change, key]).await;
    }
    let listed = serf.serf("keys", &["-list"]).await;
    assert!(listed.contains("[2/2]") && listed.contains(NEW_KEY) && !listed.contains(KEY), "{listed}");
    let stored = async || {
        let keys: Vec<String> = serde_json::from_str(&desk.read("ring")).expect("a keyring");
        (keys == [NEW_KEY]).then_some(())
    };
    eventually("the change is stored", stored).await;
    // After a crash the file brings it back.
    drop(agent);
    let _agent = launch.start(&desk);
    sees(&desk, "a", "serf", "alive");
    ask(&desk, "a", &["event", "hello"]).exits(0);
    eventually("the agent hears it", async || serf.log().contains("hello").then_some(())).await;
}

#[test]
fn keys_tags_and_failed_members_are_managed_by_own_commands() {
    let desk = Desk::new(PROGRAM);
    let start = |name: &str, join: &[&str]| {
        let ring = format!("ring-{name}");
        std::fs::write(desk.path(&ring), format!("[\"{KEY}\"]")).expect("a file");
        let key = format!("replica-{name}.pem");
        let launch = Launch::new(&desk, name, &key).with(&["--bind", "127.0.0.1:0", "--name", name]);
        launch.with(&["--keyring", &ring]).with(join).start(&desk)
    };
    let _a = start("a", &[]);
    let b = start("b", &["--join", &address(&desk, "a")]);
    sees(&desk, "a", "b", "alive");
    sees(&desk, "b", "a", "alive");

    ask(&desk, "a", &["tags", "set", "zone=east", "rack=7"]).exits(0);
    ask(&desk, "a", &["tags", "delete", "rack"]).exits(0);
    ask(&desk, "a", &["tags", "set", "kvg_id=0"]).fails(2, "gossip.reserved_tag");
    let tags_are_seen = |ran: &Ran| {
        let rows = ran.json();
        let tags = rows.iter().find(|row| row["name"] == "a").map(|row| row["tags"].clone());
        tags.is_some_and(|tags| tags["zone"] == "east" && tags["rack"].is_null())
    };
    let members = || ask(&desk, "b", &["members", "--output", "json"]).exits(0);
    assert!(tags_are_seen(&until(members, tags_are_seen)), "the other sees them");

    let listed = ask(&desk, "b", &["gossip-key", "list"]).exits(0);
    assert!(listed.text().contains(&format!("{KEY}  2 of 2\n")), "{listed:?}");
    for change in [["install", NEW_KEY], ["use", NEW_KEY], ["remove", KEY]] {
        let done = ask(&desk, "a", &["gossip-key", change[0], change[1]]).exits(0);
        assert!(done.text().ends_with("2 of 2 members have done it\n"), "{done:?}");
    }
    let listed = ask(&desk, "a", &["gossip-key", "list", "--output", "json"]).exits(0).json().remove(0);
    assert_eq!(listed["keys"][0]["key"], NEW_KEY);
    assert_eq!((&listed["keys"][0]["members"], &listed["keys"][1]), (&2.into(), &Value::Null));
    let refused = ask(&desk, "a", &["gossip-key", "remove", NEW_KEY]).exits(7);
    assert!(refused.text().contains("a: ") && refused.text().ends_with("0 of 2 members have done it\n"));
    ask(&desk, "a", &["gossip-key", "install", "short"]).fails(2, "usage");

    ask(&desk, "a", &["force-leave", "nobody"]).fails(3, "gossip.unknown_member");
    let alive = ask(&desk, "a", &["force-leave", "b"]).exits(0);
    assert!(alive.text().starts_with("b is alive as this agent sees it"), "{alive:?}");
    sees(&desk, "a", "b", "alive");
    let json = ask(&desk, "a", &["force-leave", "b", "--output", "json"]).exits(0).json().remove(0);
    assert_eq!(json["alive"], true);
    sees(&desk, "a", "b", "alive");
    let holds = |what: &str| row(&desk, "a", "b").is_some_and(|row| row["holds"] == what);
    wait_until("both are known to hold the same", || holds("same"));
    drop(b);
    sees(&desk, "a", "b", "failed");
    // What it holds is not known from now on, though its connection ends later.
    wait_until("it is unknown what it holds", || holds("unknown"));
    let status = || ask(&desk, "a", &["status", "--output", "json"]).json().remove(0);
    wait_until("the status says so", || {
        let is_alone = |reason: &Value| reason["code"] == "sync.alone" && reason["grade"] == "unwell";
        status()["reasons"].as_array().is_some_and(|reasons| reasons.iter().any(is_alone))
    });
    let status = status();
    let peers = status["peers"].as_array().expect("peers");
    assert!(peers.iter().all(|peer| peer["equal"] == false && peer["holds"] == "unknown"), "{status}");
    assert!(peers.iter().any(|peer| peer["connected"] == true), "the connection has not ended: {status}");
    let told = ask(&desk, "a", &["force-leave", "b"]).exits(0);
    assert_eq!(told.text(), "b counts as having left\n");
    sees(&desk, "a", "b", "left");
    ask(&desk, "a", &["force-leave", "--prune", "b"]).exits(0);
    let is_forgotten = |ran: &Ran| ran.json().iter().all(|row| row["name"] != "b");
    let members = || ask(&desk, "a", &["members", "--output", "json"]).exits(0);
    assert!(is_forgotten(&until(members, is_forgotten)), "it is forgotten");
}

#[test]
fn names_serve_wherever_an_address_does_and_the_default_name_is_the_hosts() {
    let desk = Desk::new(PROGRAM);
    let _a = Launch::new(&desk, "a", "replica-a.pem").with(&["--bind", "localhost:0"]).start(&desk);
    let at_a = address(&desk, "a");
    let port = at_a.rsplit_once(':').expect("a port").1;
    let join = format!("localhost:{port}");
    let b = Launch::new(&desk, "b", "replica-b.pem").with(&[
        "--bind",
        "0.0.0.0:0",
        "--plaintext-gossip",
        "--join",
        &join,
    ]);
    let _b = b.start(&desk);
    let own = rows(&desk, "b").remove(0);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    let name = own["name"].as_str().expect("a name");
    let host: String = host.trim().chars().take(100).collect();
    assert_eq!(name, format!("{host}-{}", &own["replica"].as_str().expect("an id")[..8]));
    sees(&desk, "a", name, "alive");
    let seen = row(&desk, "a", name).expect("a member");
    assert!(
        seen["address"].as_str().expect("one").starts_with("127.0.0.1:"),
        "it leads to the member: {seen}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_comes_second_under_a_name_is_told_so() {
    let desk = Desk::new(PROGRAM);
    let serf = serf::Agent::start("serf", &[]).await;
    let at_serf = serf.addr.to_string();
    let _a = member(&desk, "a", "replica-a.pem", &["--join", &at_serf]);
    serf.sees("a", "alive").await;
    let second = Launch::new(&desk, "b", "replica-b.pem").with(&["--bind", "127.0.0.1:0", "--name", "a"]);
    let second = second.with(&["--join", &at_serf]).start(&desk);
    let lost = |ran: &Ran| ran.err.contains("[gossip.name_lost]");
    until(|| second.ask(&desk, &["members"]), lost).fails(6, "gossip.name_lost");
    let status = second.ask(&desk, &["status"]).exits(1);
    assert!(status.text().contains("gossip.name_lost"), "{status:?}");
    sees(&desk, "a", "serf", "alive");
    assert!(serf.members().await["a"].0 == "alive");
}

/// As Serf's agents: SIGINT leaves and SIGTERM does not, unless told otherwise.
#[test]
fn signals_have_an_agent_leave_as_they_do_serfs() {
    let desk = Desk::new(PROGRAM);
    let stays = member(&desk, "stays", "replica-a.pem", &[]);
    let join = address(&desk, "stays");
    for (name, with, sent, leaves) in [
        ("interrupted", &[][..], "INT", true),
        ("told", &["--leave-on-terminate"], "TERM", true),
        ("terminated", &[], "TERM", false),
        ("skips", &["--skip-leave-on-interrupt"], "INT", false),
    ] {
        let process = member(&desk, name, "replica-b.pem", &[&["--join", &join], with].concat());
        sees(&desk, "stays", name, "alive");
        let began = std::time::Instant::now();
        signal(&process, sent);
        assert!(process.wait().success());
        assert!(began.elapsed() <= std::time::Duration::from_secs(5), "{name}: {:?}", began.elapsed());
        if leaves {
            sees(&desk, "stays", name, "left");
        } else {
            let status = row(&desk, "stays", name).expect("it was there")["status"].clone();
            assert!(status == "alive" || status == "failed", "{name}: {status}");
        }
        let log = std::fs::read_to_string(desk.path(format!("{name}.log"))).expect("a log");
        assert_eq!(log.contains("left the gossip"), leaves, "{name}: {log}");
    }
    assert!(stays.stop().success());
    let alone = ["agent", "--data-dir", "x", "--root", "root.pub.pem", "--leave-on-terminate"];
    desk.run(&alone).fails(2, "usage");
}

/// What is sent before the first join is not told, and everything after it once, whoever was restarted meanwhile. An agent
/// that has left says so at its next start, and still knows whom it left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_handled_once_over_restarts_and_an_agent_that_had_left_says_so() {
    let z1 = serf::Agent::start("z1", &[]).await;
    z1.serf("event", &["before"]).await;
    let desk = Desk::new(PROGRAM);
    let (at, join) = (serf::fresh_ip(), z1.addr.to_string());
    let handler = format!("user=echo $SERF_USER_EVENT >> {}", desk.path("told").display());
    let launch = Launch::new(&desk, "z2", "replica-a.pem").gossiping_at(at);
    let launch = launch.with(&["--name", "z2", "--event-handler", &handler]);
    let joins = launch.clone().with(&["--join", &join]);
    let told = || std::fs::read_to_string(desk.path("told")).unwrap_or_default();
    let mut z2 = joins.start(&desk);
    z1.sees("z2", "alive").await;
    sees(&desk, "z2", "z1", "alive");
    z1.serf("event", &["s1"]).await;
    wait_until("s1 is handled", || told().contains("s1"));
    for (missed, again) in [("s2", &launch), ("s3", &joins), ("s4", &launch)] {
        z2.stop();
        z1.serf("event", &[missed]).await;
        z2 = again.start(&desk);
        sees(&desk, "z2", "z1", "alive");
        wait_until("it is handled", || told().contains(missed));
    }
    // Handlers run in the order in which events come: whatever came again would have been told before the last one.
    z1.serf("event", &["last"]).await;
    wait_until("the last one is handled", || told().contains("last"));
    assert_eq!(told(), "s1\ns2\ns3\ns4\nlast\n");

    z2.ask(&desk, &["leave"]).exits(0);
    z2.stop();
    for _ in 0..2 {
        let z2 = launch.start(&desk);
        let status = z2.ask(&desk, &["status"]).text().to_owned();
        assert!(status.contains("gossip.left: this agent had left the gossip"), "{status}");
        z2.stop();
        assert!(desk.read("z2.log").contains("start it with --rejoin"), "{}", desk.read("z2.log"));
    }
    let _z2 = launch.with(&["--rejoin"]).start(&desk);
    sees(&desk, "z2", "z1", "alive");
}
