//! A mixed cluster of three agents and two real Serf agents in ordinary operation: nobody's log holds a warning.
#![cfg(unix)]

use kvgossip_testkit::desk::{Desk, Ran, until};
use kvgossip_testkit::serf;
use kvgossip_testkit::wait::eventually;
use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

/// How long it goes on: this variable says it in seconds.
const LENGTH: &str = "KVGOSSIP_QUIET_SECONDS";
/// Without it.
const DEFAULT_LENGTH: Duration = Duration::from_secs(15);

/// `kvgossip agent`, admitted by its membership alone.
struct Agent {
    name: &'static str,
    child: Child,
}

impl Agent {
    fn start(desk: &Desk, name: &'static str, join: &str) -> Self {
        let args = ["agent", "--data-dir", name, "--name", name, "--root", "root.pub.pem", "--join", join];
        let places = ["--bind", "127.0.0.1:0", "--sync", "127.0.0.1:0", "--http", "127.0.0.1:0"];
        let mut command = desk.command(&[&args[..], &places, &["--identity", "root.pem"]].concat());
        let log = File::create(desk.path(format!("{name}.log"))).expect("a log file");
        command.stdout(Stdio::null()).stderr(log);
        Self { name, child: command.spawn().expect("an agent") }
    }

    fn ask(&self, desk: &Desk, args: &[&str]) -> Ran {
        desk.run(&[args, &["--data-dir", self.name]].concat())
    }

    fn sees(&self, desk: &Desk, count: usize, status: &str) {
        let members = || self.ask(desk, &["members", "--output", "json"]);
        let holds = |ran: &Ran| {
            ran.code == 0 && ran.json().iter().filter(|row| row["status"] == status).count() == count
        };
        let last = until(members, holds);
        assert!(holds(&last), "{} does not see {count} members {status}: {last:?}", self.name);
    }

    fn stop(&mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
        assert!(self.child.wait().expect("it ends").success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines of a log that complain, but for those that a busy machine causes.
fn complaints(log: &str, words: &[&str]) -> Vec<String> {
    let busy = [
        "Was able to connect to",
        "Refuting a ",
        "Failed fallback TCP ping",
        "i/o timeout",
        "a member has failed",
    ];
    let complains = |line: &&str| {
        words.iter().any(|word| line.contains(word)) && !busy.iter().any(|known| line.contains(known))
    };
    log.lines().filter(complains).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ordinary_operation_leaves_no_warning_in_any_log() {
    let length = std::env::var(LENGTH).ok().and_then(|text| text.parse().ok());
    let length = length.map_or(DEFAULT_LENGTH, Duration::from_secs);
    let serfs = [serf::Agent::start("serf0", &[]).await, serf::Agent::start("serf1", &[]).await];
    serfs[1].serf("join", &[&serfs[0].addr.to_string()]).await;
    let desk = Desk::new(PROGRAM);
    let places = [serfs[0].addr.to_string(), serfs[1].addr.to_string()];
    let mut agents: Vec<Agent> = ["a", "b", "c"]
        .into_iter()
        .zip(places.iter().cycle())
        .map(|(name, join)| Agent::start(&desk, name, join))
        .collect();
    for agent in &agents {
        agent.sees(&desk, 5, "alive");
    }
    let began = Instant::now();
    let mut round = 0;
    while began.elapsed() < length {
        operate(&desk, &agents, &serfs, round).await;
        round += 1;
    }
    println!("{round} rounds in {:?}", began.elapsed());

    // Leaving, coming back and being stopped are no reason to warn either.
    agents[2].ask(&desk, &["leave"]).exits(0);
    serfs[1].sees("c", "left").await;
    agents[0].sees(&desk, 1, "left");
    agents[2].stop();
    agents[2] = Agent { name: "c", child: again(&desk, &places[0]) };
    agents[2].sees(&desk, 5, "alive");
    serfs[0].sees("c", "alive").await;
    let key = "/quiet/last";
    agents[2].ask(&desk, &["set", key, "1"]).exits(0);
    until(|| agents[0].ask(&desk, &["get", key]), |ran| ran.code == 0).exits(0);
    for agent in &serfs {
        let words = ["decode", "rotocol version", "Unsupported", "unknown", "[WARN]", "[ERR]"];
        // What an agent and its own command line say to each other is not about gossip.
        let found: Vec<_> =
            complaints(&agent.log(), &words).into_iter().filter(|line| !line.contains("agent.ipc")).collect();
        assert!(found.is_empty(), "{}: {found:#?}", agent.name);
    }
    for agent in &mut agents {
        agent.stop();
    }
    for name in ["a", "b", "c", "c.again"] {
        let found = complaints(&desk.read(&format!("{name}.log")), &[" WARN ", " ERROR "]);
        assert!(found.is_empty(), "{name}: {found:#?}");
    }
}

/// The agent `c` once more, with a log of its own.
fn again(desk: &Desk, join: &str) -> Child {
    std::fs::rename(desk.path("c.log"), desk.path("c.again.log")).expect("a log");
    let mut agent = Agent::start(desk, "c", join);
    std::mem::replace(&mut agent.child, Command::new("true").spawn().expect("`true` runs"))
}

/// What users of such a cluster do all day.
async fn operate(desk: &Desk, agents: &[Agent], serfs: &[serf::Agent], round: usize) {
    let (one, other) = (&agents[round % 3], &agents[(round + 1) % 3]);
    let (key, value) = (format!("/quiet/{}", round % 7), round.to_string());
    one.ask(desk, &["set", &key, &value]).exits(0);
    let last = until(|| other.ask(desk, &["get", &key]), |ran| ran.text() == value);
    assert_eq!(last.text(), value, "{last:?}");
    let serf = &serfs[round % 2];
    match round % 4 {
        0 => {
            one.ask(desk, &["event", "quiet", &value]).exits(0);
            serf.serf("event", &["-coalesce=false", "loud", &value]).await;
        }
        1 => {
            let all = |ran: &Ran| ran.text().contains("5 acknowledged");
            let asked = until(|| one.ask(desk, &["query", "anything", "--wait", "1s"]).exits(0), all);
            assert!(all(&asked), "{asked:?}");
        }
        2 => {
            let ask = async || serf.serf("query", &["-timeout=1s", "-relay-factor=2", "anything"]).await;
            let all = async || ask().await.contains("Total Acks: 5").then_some(());
            eventually("all acknowledge a Serf agent's query", all).await;
        }
        _ => {
            serf.serf("tags", &["-set", &format!("round={round}")]).await;
            serf.serf("info", &[]).await;
        }
    }
}
