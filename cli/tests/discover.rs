//! Agents that find each other by multicast, and Serf's agents with them.
#![cfg(unix)]

use kvgossip_testkit::desk::Desk;
use kvgossip_testkit::namespace::inside_a_network;
use kvgossip_testkit::process::{Launch, ask, status};
use kvgossip_testkit::serf;
use kvgossip_testkit::wait::{eventually, wait_until};
use std::net::Ipv4Addr;

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

fn launch(name: &str, ip: Ipv4Addr, cluster: &str) -> Launch {
    let launch = Launch::with_its_own_key(name, "admits-nobody").gossiping_at(ip);
    launch.with(&["--name", name, "--discover", cluster])
}

fn desk() -> Desk {
    let desk = Desk::new(PROGRAM);
    std::fs::write(desk.path("admits-nobody"), "").expect("written");
    desk
}

fn others(desk: &Desk, data: &str) -> Vec<String> {
    let rows = ask(desk, data, &["members", "--output", "json"]).json();
    let name = |row: &serde_json::Value| row["name"].as_str().map(str::to_owned);
    rows.iter().filter(|row| row["status"] == "alive").filter_map(name).filter(|name| name != data).collect()
}

#[track_caller]
fn sees(desk: &Desk, data: &str, name: &str) {
    wait_until(&format!("{data} sees {name}"), || others(desk, data).iter().any(|other| other == name));
}

fn has_reason(desk: &Desk, data: &str, code: &str) -> bool {
    let status = status(desk, data);
    status["reasons"].as_array().expect("reasons").iter().any(|reason| reason["code"] == code)
}

/// On the loopback: each has an address of its own, and none is told of another.
#[test]
fn agents_of_one_name_find_each_other_and_no_others() {
    let desk = desk();
    let [ours, theirs] = ["ours", "theirs"].map(|name| format!("{name}-{}", std::process::id()));
    let a = launch("a", serf::fresh_ip(), &ours).start(&desk);
    wait_until("a says that nobody is there", || has_reason(&desk, "a", "gossip.join_failed"));
    let why = ask(&desk, "a", &["status"]);
    assert!(why.text().contains("nobody on this network answers"), "{why:?}");
    let _other = launch("other", serf::fresh_ip(), &theirs).start(&desk);
    // It comes later, and finds the first one; the first one has to be looking on to find one that comes and does not look.
    let b = launch("b", serf::fresh_ip(), &ours).start(&desk);
    sees(&desk, "a", "b");
    sees(&desk, "b", "a");
    wait_until("a says no more that nobody is there", || !has_reason(&desk, "a", "gossip.join_failed"));
    drop((a, b));
    // Whoever is alone again looks again: this one has forgotten everybody, and the other side does not know it any more.
    let _c = launch("c", serf::fresh_ip(), &ours).start(&desk);
    let _d = launch("d", serf::fresh_ip(), &ours).start(&desk);
    sees(&desk, "c", "d");
    assert_eq!(others(&desk, "other"), [] as [&str; 0], "another name is another cluster");
}

/// Whether an agent of Serf says that it joins this address: only what it finds by multicast, as it is told of nobody.
fn joins(serf: &serf::Agent, ip: Ipv4Addr) -> bool {
    let log = serf.log();
    log.lines().any(|line| line.contains("agent: joining: [") && line.contains(&format!("{ip}:7946")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serf_s_agents_find_ours_and_ours_find_them() {
    if !inside_a_network("serf_s_agents_find_ours_and_ours_find_them") {
        return;
    }
    let desk = desk();
    let serf = serf::Agent::start("theirs", &["-discover=blue"]).await;
    // Serf's agent has asked already, and asks again in a minute: it is ours that finds it.
    let ip = serf::fresh_ip();
    let _ours = launch("ours", ip, "blue").start(&desk);
    sees(&desk, "ours", "theirs");
    serf.sees("ours", "alive").await;
    let log = || std::fs::read_to_string(desk.path("ours.log")).unwrap_or_default();
    wait_until("ours says that it has found it", || {
        log().contains("joined members that were found by multicast")
    });
    assert!(!joins(&serf, ip), "{}", serf.log());
    // Ours has company now and asks in a minute: it is the other agent of Serf that finds somebody.
    let second = serf::Agent::start("second", &["-discover=blue"]).await;
    second.sees("ours", "alive").await;
    eventually("Serf's agent has found ours", async || joins(&second, ip).then_some(())).await;
    sees(&desk, "ours", "second");
    // Of another name nobody is found.
    let _green = launch("green", serf::fresh_ip(), "green").start(&desk);
    wait_until("it says that nobody is there", || has_reason(&desk, "green", "gossip.join_failed"));
    assert_eq!(others(&desk, "green"), [] as [&str; 0]);
}

#[test]
fn what_makes_no_name_is_refused() {
    let desk = desk();
    for name in ["", "a b", "a..b", &"x".repeat(58)] {
        let refused = launch("a", serf::fresh_ip(), name).refused(&desk);
        assert!(refused.code == 2 && refused.err.contains("no name for discovery"), "{refused:?}");
    }
    let unbound = Launch::with_its_own_key("a", "admits-nobody").with(&["--discover", "blue"]).refused(&desk);
    assert!(unbound.code == 2 && unbound.err.contains("--bind"), "{unbound:?}");
}
