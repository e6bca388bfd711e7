//! A subscription while the processes of its agents are killed, stopped, and put back to an older store.
#![cfg(unix)]

use kvgossip_client::{Client, Dirty, State, Subscription};
use kvgossip_grants::{Key, PublicKey};
use kvgossip_testkit::desk::{Desk, until};
use kvgossip_testkit::process::{Launch, Process, ask, status};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

fn client(desk: &Desk, agents: &[&str]) -> Client {
    let root = PublicKey::from_pem(&desk.read("root.pub.pem")).expect("a key");
    let builder = Client::builder()
        .root(root)
        .silence(Duration::from_millis(1500))
        .backoff(Duration::from_millis(50), Duration::from_millis(500));
    let endpoint = |data: &&str| format!("unix:{}", desk.path(data).join("agent.sock").display());
    let endpoints = agents.iter().map(endpoint);
    endpoints
        .fold(builder, |builder, text| builder.endpoint(text.parse().expect("an endpoint")))
        .build()
        .expect("a client")
}

fn text(state: &State) -> String {
    state.value.entry().map_or("(none)".into(), |entry| String::from_utf8_lossy(&entry.value).into_owned())
}

async fn reach(sub: &mut Subscription, what: &str, holds: impl FnMut(&State) -> bool) -> State {
    let reached = tokio::time::timeout(Duration::from_secs(60), sub.wait_for(holds)).await;
    let Ok(state) = reached else { panic!("in vain: {what}; it shows {:?}", sub.state()) };
    state.expect("the client lives")
}

fn signal(process: &Process, name: &str) {
    let pid = process.id().to_string();
    assert!(Command::new("kill").args([name, &pid]).status().expect("kill").success());
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let (kind, target) = (entry.file_type().expect("a kind"), to.join(entry.file_name()));
        if kind.is_dir() {
            copy_dir(&entry.path(), &target);
        } else if kind.is_file() {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_are_killed_stopped_and_put_back_and_the_value_never_is() {
    let desk = Desk::new(PROGRAM);
    let launch_a = Launch::new(&desk, "a", "replica-a.pem");
    let mut a = launch_a.start(&desk);
    let launch_b = Launch::new(&desk, "b", "replica-b.pem").peer(&desk, "a");
    let b = launch_b.start(&desk);
    ask(&desk, "a", &["set", "/k", "1"]).exits(0);
    let client = client(&desk, &["a", "b"]);
    let mut sub = client.subscribe(&Key::parse("/k").expect("a key"));
    reach(&mut sub, "the first value", |state| text(state) == "1" && state.dirty.is_none()).await;
    until(|| ask(&desk, "b", &["get", "/k"]), |ran| ran.text() == "1");
    let mut seen = sub.clone();
    let seen = tokio::spawn(async move {
        let mut values = vec![text(&seen.state())];
        while let Ok(state) = seen.changed().await {
            values.push(text(&state));
        }
        values
    });

    // Killed with -9: the other takes over.
    a.kill();
    ask(&desk, "b", &["set", "/k", "2"]).exits(0);
    reach(&mut sub, "the failover", |state| text(state) == "2" && state.dirty.is_none()).await;

    // Stopped with SIGSTOP: silence is noticed. The first is back, but has not heard of the second value: its peer is
    // frozen.
    let mut a = launch_a.start(&desk);
    signal(&b, "-STOP");
    reach(&mut sub, "the one that lags", |state| state.dirty == Some(Dirty::Behind)).await;
    assert_eq!(text(&sub.state()), "2");
    signal(&b, "-CONT");
    // The first listens on another port since it was restarted.
    let address = status(&desk, "a")["sync_address"].as_str().expect("an address").to_owned();
    ask(&desk, "b", &["sync", &address]).exits(0);
    reach(&mut sub, "what was behind catches up", |state| text(state) == "2" && state.dirty.is_none()).await;

    // All gone for a while, and one comes back with the store of before.
    assert!(b.stop().success());
    a.kill();
    reach(&mut sub, "nobody", |state| state.dirty == Some(Dirty::Disconnected)).await;
    copy_dir(&desk.path("a"), &desk.path("old"));
    let mut a = launch_a.start(&desk);
    ask(&desk, "a", &["set", "/k", "3"]).exits(0);
    reach(&mut sub, "it goes on", |state| text(state) == "3" && state.dirty.is_none()).await;
    a.kill();
    fs::remove_dir_all(desk.path("a")).expect("removed");
    fs::rename(desk.path("old"), desk.path("a")).expect("moved");
    let a = launch_a.start(&desk);
    reach(&mut sub, "the old store", |state| state.dirty == Some(Dirty::Behind)).await;
    assert_eq!(text(&sub.state()), "3");
    ask(&desk, "a", &["set", "/k", "4"]).exits(0);
    reach(&mut sub, "the next write", |state| text(state) == "4" && state.dirty.is_none()).await;
    drop((sub, client));
    let mut values = seen.await.expect("no panic");
    values.dedup();
    assert_eq!(values, ["1", "2", "3", "4"], "forwards, and nothing else");
    assert!(a.stop().success());
}
