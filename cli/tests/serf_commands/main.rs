//! All commands of Serf's own command line against a Serf agent and a kvgossip agent of one cluster: what they say is the
//! same, line by line, but for the differences that are listed with their reasons.
#![cfg(unix)]

mod differences;
mod monitors;
mod transcript;

use std::collections::BTreeSet;

use kvgossip_testkit::desk::Desk;
use kvgossip_testkit::serf;
use kvgossip_testkit::serf::command::{Asked, Monitor, Rpc};
use kvgossip_testkit::wait::wait_until;
use monitors::{monitor, shown, until_the_end};
use transcript::{Comparison, Side, Step};

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const NEW_KEY: &str = "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=";
const UPTIME: &str = "query:uptime=echo three days";

/// The cluster: both that are compared, a third that both see, two that have failed, and one that has left.
struct Cluster {
    desk: Desk,
    third: serf::Agent,
    theirs: serf::Agent,
    their_rpc: Rpc,
    ours: Asked,
}

impl Cluster {
    async fn start() -> Self {
        let encrypt = format!("-encrypt={KEY}");
        let agent = async |name: &str, role: &str| {
            let args = [&encrypt, &format!("-event-handler={UPTIME}"), &format!("-tag=role={role}")];
            serf::Agent::start(name, &args.map(String::as_str)).await
        };
        let desk = Desk::new(PROGRAM);
        let third = agent("third", "db").await;
        let theirs = agent("theirs", "web").await;
        let their_rpc = Rpc { address: theirs.rpc().to_owned() };
        let args = ["--encrypt", KEY, "--tag", "role=web", "--event-handler", UPTIME];
        let ours = Asked::start(&desk, "ours", "replica-a.pem", &args);
        Self { desk, third, theirs, their_rpc, ours }
    }

    fn sides(&self) -> [Side<'_>; 2] {
        [
            Side { rpc: &self.their_rpc, own: "theirs", failed: "failed1" },
            Side { rpc: &self.ours.rpc, own: "ours", failed: "failed2" },
        ]
    }

    fn both_see(&self, member: &str) {
        self.their_rpc.sees(member);
        self.ours.sees(member);
    }

    /// Waits until both list just these members.
    fn both_list(&self, args: &[&str], members: &[&str]) {
        let wanted: BTreeSet<String> = members.iter().map(|member| (*member).to_owned()).collect();
        for rpc in [&self.their_rpc, &self.ours.rpc] {
            let what = format!("{args:?} lists {members:?}");
            wait_until(&what, || rpc.members(args).into_iter().collect::<BTreeSet<_>>() == wanted);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serfs_commands_say_the_same_of_both_agents() {
    let cluster = Cluster::start().await;
    let (sides, comparison) = (cluster.sides(), Comparison::default());
    let others = joins(&cluster, &comparison).await;
    comparison.steps(&sides, what_changes_nothing());
    tags(&cluster, &comparison);
    keys(&cluster, &comparison);
    monitors(&cluster, &comparison).await;
    failed_members(&cluster, &comparison);
    drop(others);
    replays(&cluster.desk, &comparison).await;
    locked(&cluster.desk, &comparison).await;
    leaving(cluster, &comparison).await;
    comparison.finish();
}

/// Joins the two that are compared to the third, and brings up those that fail and leave.
async fn joins(cluster: &Cluster, comparison: &Comparison) -> Vec<serf::Agent> {
    let (sides, third) = (cluster.sides(), cluster.third.addr.to_string());
    cluster.third.serf("event", &["-coalesce=false", "early"]).await;
    comparison.step(&sides, &Step::new("join"));
    comparison.step(&sides, &Step::new("join nowhere.invalid"));
    comparison.step(&sides, &Step::new("join 127.0.0.9:1"));
    comparison.step(&sides, &Step::new("join 127.0.0.9:999999"));
    let join = Step::new("join").and(&third);
    comparison.step_as("join THIRD", &sides, &join);
    comparison.step_as("join THIRD 127.0.0.9:1", &sides, &join.and("127.0.0.9:1"));
    let mut others = Vec::new();
    for name in ["failed1", "failed2", "gone"] {
        let other = serf::Agent::start(name, &[&format!("-encrypt={KEY}")]).await;
        other.serf("join", &[&third]).await;
        cluster.both_see(&format!("{name} alive"));
        others.push(other);
    }
    others[2].serf("leave", &[]).await;
    others[0].kill();
    others[1].kill();
    cluster.both_list(
        &[],
        &["failed1 failed", "failed2 failed", "gone left", "ours alive", "theirs alive", "third alive"],
    );
    others
}

fn what_changes_nothing() -> Vec<Step> {
    let commands = [
        "members",
        "members -detailed",
        "members -format json",
        "members -format yaml",
        "members -status alive",
        "members -status failed",
        "members -status left|failed",
        "members -status aliv",
        "members -name third",
        "members -name th",
        "members -name .*s",
        "members -tag role=w.b",
        "members -tag role=web -tag role=db",
        "members -tag role=db -name third -status alive -format json",
        "members -tag none=",
        "members -tag none=.+",
        "members -tag role",
        "members -role web",
        "members -name (",
        "members -status (",
        "members -tag role=(",
        "members -nonsense",
        "members extra",
        "event -coalesce=false deploy 1.2.3",
        "event deploy",
        "event",
        "event a b c",
        "event -coalesce=maybe a",
        "query -timeout=2s uptime",
        "query -timeout=2s -no-ack uptime",
        "query -timeout=2s -node third uptime",
        "query -timeout=2s -node third -node ours uptime payload",
        "query -timeout=2s -node nobody uptime",
        "query -timeout=2s -tag role=w.b uptime",
        "query -timeout=2s -tag role=web -node ours -node third uptime",
        "query -timeout=2s -tag role=( uptime",
        "query -timeout=2s -tag role uptime",
        "query -timeout=2s -relay-factor 2 uptime",
        "query -timeout=2s -relay-factor 255 uptime",
        "query -timeout=2s -relay-factor 256 uptime",
        "query -timeout=2s -format json uptime",
        "query -timeout=2s -format json -no-ack uptime",
        "query -timeout=2s -format json nothing",
        "query -timeout=2s -format yaml uptime",
        "query -timeout=2s nothing",
        "query -timeout=2s _serf_ping",
        "query -timeout=2s _serf_list-keys",
        "query -timeout=soon uptime",
        "query -timeout=-1s uptime",
        "query -timeout=0s -node third uptime",
        "query",
        "query a b c",
        "info -format yaml",
        "rtt theirs ours",
        "rtt ours third",
        "rtt third",
        "rtt nobody",
        "rtt third nobody",
        "rtt",
        "rtt a b c",
        "reachability",
        "reachability -verbose",
        "force-leave",
        "force-leave nobody",
        "force-leave -prune nobody",
        "force-leave a b",
        "tags",
        "tags -set noequal",
        "keys",
        "keys -list",
        "keys -list -install x",
        "keys -install short",
        "keys -install MTIz",
        "keys -use CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=",
        "keys -remove CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=",
        "keys -remove MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
        "monitor -log-level=loud",
        "leave -rpc-auth=wrong",
        "members -rpc-auth=wrong",
        "nonsense",
    ];
    let mut steps: Vec<Step> = commands.into_iter().map(Step::new).collect();
    steps.extend([480, 600, 2_000].map(|len| Step::new("event long").and(&"x".repeat(len))));
    steps.extend([900, 1_100].map(|len| Step::new("query -timeout=2s long").and(&"x".repeat(len))));
    steps.push(Step::new("event").and(""));
    steps.push(Step::new("query -timeout=2s").and(""));
    steps.push(Step::new("tags -set").and(&format!("long={}", "x".repeat(600))));
    steps
}

/// Each agent's own tags are changed, and both see both.
fn tags(cluster: &Cluster, comparison: &Comparison) {
    let sides = cluster.sides();
    let both = ["ours alive", "theirs alive"];
    comparison.step(&sides, &Step::new("tags -set zone=east -set rack=7"));
    cluster.both_list(&["-tag", "zone=east", "-tag", "rack=7"], &both);
    comparison.step(&sides, &Step::new("members -detailed -tag zone=e.*"));
    comparison.step(&sides, &Step::new("tags -set zone=west -delete rack -delete nothing"));
    cluster.both_list(&["-tag", "zone=west", "-tag", "rack="], &both);
    comparison.step(&sides, &Step::new("tags -set empty="));
    for rpc in sides.each_ref().map(|side| side.rpc) {
        let listed = || rpc.serf("members", &["-format=json", "-tag", "zone=west"]).exits(0);
        wait_until("both have the empty tag", || listed().text().matches("\"empty\"").count() == 2);
    }
    comparison.step(&sides, &Step::new("members -format json -tag zone=west"));
    comparison.step(&sides, &Step::new("tags -delete zone -delete empty"));
    cluster.both_list(&["-tag", "zone=", "-name", "ours|theirs"], &both);
    // They are equal once all that was sent has arrived, at the latest with the next exchange of states.
    wait_until("the clocks are the same", || {
        let [theirs, ours] = sides.each_ref().map(|side| clocks(side.rpc));
        theirs == ours && theirs.len() == 3
    });
    comparison.step(&sides, &Step::new("info"));
    comparison.step(&sides, &Step::new("info -format json"));
}

/// An agent's Lamport clocks.
fn clocks(rpc: &Rpc) -> Vec<String> {
    let info = rpc.serf("info", &[]).exits(0);
    info.text().lines().filter(|line| line.contains("_time = ")).map(str::to_owned).collect()
}

/// A key is changed for another, and back.
fn keys(cluster: &Cluster, comparison: &Comparison) {
    let sides = cluster.sides();
    for (old, new) in [(KEY, NEW_KEY), (NEW_KEY, KEY)] {
        for (change, key) in [("keys -install", new), ("keys -use", new), ("keys -remove", old)] {
            comparison.step(&sides, &Step::new(change).and(key));
            comparison.step(&sides, &Step::new("keys -list"));
        }
    }
    let made = cluster.ours.serf("keygen", &[]).exits(0);
    for change in ["keys -install", "keys -remove"] {
        let step = Step::new(change).and(made.text().trim());
        comparison.step_as(&format!("{change} what keygen made"), &sides, &step);
    }
}

/// What happens is streamed in the same records.
async fn monitors(cluster: &Cluster, comparison: &Comparison) {
    let monitors = cluster.sides().map(|side| monitor(&cluster.desk, side.rpc));
    let third = &cluster.third;
    shown(&monitors, "deploy", async || {
        third.serf("event", &["-coalesce=false", "deploy", "1.2.3"]).await;
    })
    .await;
    shown(&monitors, "merged", async || {
        third.serf("event", &["-coalesce=true", "merged"]).await;
    })
    .await;
    shown(&monitors, "uptime", async || {
        third.serf("query", &["-timeout=1s", "uptime", "payload"]).await;
    })
    .await;
    for (side, query) in cluster.sides().into_iter().zip(["theirs asks", "ours asks"]) {
        shown(&monitors, side.own, async || _ = side.rpc.serf("event", &["-coalesce=false", side.own])).await;
        shown(&monitors, query, async || _ = side.rpc.serf("query", &["-timeout=1s", query])).await;
    }
    third.serf("tags", &["-set", "zone=south"]).await;
    let mut newcomer = serf::Agent::start("newcomer", &[&format!("-encrypt={KEY}")]).await;
    newcomer.serf("join", &[&third.addr.to_string()]).await;
    let tell_of = |kind: &str| {
        let shows = |monitor: &Monitor| monitor.text().contains(&format!("Event: \"{kind}\""));
        wait_until(kind, || monitors.iter().all(shows));
    };
    tell_of("member-update");
    tell_of("member-join");
    newcomer.serf("leave", &[]).await;
    tell_of("member-leave");
    newcomer.kill();
    let mut shown = until_the_end(third, &monitors).await;
    // Serf's agents tell again of members that have changed long ago.
    let is_old = |record: &String| record.contains("member-update") && !record.contains("zone");
    shown.iter_mut().for_each(|records| records.retain(|record| !is_old(record)));
    assert_eq!(shown[0].len(), 10, "{shown:#?}");
    comparison.lines("monitor", &shown);
    let level = |monitor: &Monitor| vec![monitor.text().contains(" [INFO] ").to_string()];
    comparison.lines("monitor: levels in the log", &monitors.each_ref().map(level));
}

/// Failed members are made to leave and forgotten, one by each agent.
fn failed_members(cluster: &Cluster, comparison: &Comparison) {
    let sides = cluster.sides();
    comparison.step(&sides, &Step::new("force-leave {failed}"));
    cluster.both_list(&["-status", "left", "-name", "failed."], &["failed1 left", "failed2 left"]);
    comparison.step(&sides, &Step::new("members -name failed."));
    comparison.step(&sides, &Step::new("force-leave -prune {failed}"));
    // A prune is a broadcast and no part of the state that members exchange: when it is lost, it has to be said again.
    wait_until("both forget them", || {
        let forgotten = sides.iter().all(|side| side.rpc.members(&["-name", "failed."]).is_empty());
        if !forgotten {
            Step::new("force-leave -prune failed1").both(&sides);
            Step::new("force-leave -prune failed2").both(&sides);
        }
        forgotten
    });
    // One that is well stays.
    comparison.step(&sides, &Step::new("force-leave third"));
    cluster.both_list(&["-name", "third"], &["third alive"]);
}

/// What was sent before a member joins is told to it if it wants that.
async fn replays(desk: &Desk, comparison: &Comparison) {
    let source = serf::Agent::start("source", &[]).await;
    for name in ["first", "second"] {
        source.serf("event", &["-coalesce=false", name, "payload"]).await;
    }
    // Directories of their own: what an agent has heard before it does not hear again.
    for (join, names) in [("join", ["late1", "late2"]), ("join -replay", ["later1", "later2"])] {
        let theirs = serf::Agent::start(names[0], &[]).await;
        let their_rpc = Rpc { address: theirs.rpc().to_owned() };
        let ours = Asked::start(desk, names[1], "replica-b.pem", &[]);
        let sides = [
            Side { rpc: &their_rpc, own: names[0], failed: "" },
            Side { rpc: &ours.rpc, own: names[1], failed: "" },
        ];
        let monitors = sides.each_ref().map(|side| monitor(desk, side.rpc));
        let joined = Step::new(join).and(&source.addr.to_string()).both(&sides);
        comparison.lines(&format!("{join} of a late member"), &joined);
        let mut shown = until_the_end(&source, &monitors).await;
        // Both see each other, too.
        shown.iter_mut().for_each(|records| records.retain(|record| record.contains("Event: \"user\"")));
        assert_eq!(shown[0].len(), if join == "join" { 0 } else { 2 }, "{shown:#?}");
        comparison.lines(&format!("monitor of a late member after {join}"), &shown);
    }
}

/// Agents that want a key from their clients.
async fn locked(desk: &Desk, comparison: &Comparison) {
    std::fs::write(desk.path("rpc-key"), "let-me-in\n").expect("a file");
    let theirs = serf::Agent::start("locked1", &["-rpc-auth=let-me-in"]).await;
    let their_rpc = Rpc { address: theirs.rpc().to_owned() };
    let ours = Asked::start(desk, "locked2", "replica-b.pem", &["--rpc-auth-file", "rpc-key"]);
    let sides = [
        Side { rpc: &their_rpc, own: "locked1", failed: "" },
        Side { rpc: &ours.rpc, own: "locked2", failed: "" },
    ];
    for with in [" -rpc-auth=wrong", " -rpc-auth=let-me-in-", " -rpc-auth="] {
        for command in [
            "members",
            "event",
            "query",
            "info",
            "tags",
            "keys",
            "rtt",
            "reachability",
            "monitor",
            "join",
            "force-leave",
            "leave",
        ] {
            let more = match command {
                "event" | "query" | "rtt" | "join" | "force-leave" => " x",
                "tags" => " -set a=b",
                "keys" => " -list",
                _ => "",
            };
            comparison.step(&sides, &Step::new(&format!("{command}{with}{more}")));
        }
    }
    comparison.step(&sides, &Step::new("event -rpc-auth=let-me-in x"));
    comparison.step(&sides, &Step::new("keys -rpc-auth=let-me-in -list"));
    comparison.step(
        &sides,
        &Step::new("keys -rpc-auth=let-me-in -install CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk="),
    );
}

/// Both leave, and end.
async fn leaving(cluster: Cluster, comparison: &Comparison) {
    let left = Step::new("leave").both(&cluster.sides());
    assert_eq!(left[0], ["Graceful leave complete", "exit 0"]);
    comparison.lines("leave", &left);
    cluster.third.sees("ours", "left").await;
    cluster.third.sees("theirs", "left").await;
    let Cluster { theirs, their_rpc, ours: Asked { process, rpc }, .. } = cluster;
    assert!(process.wait().success());
    let theirs = std::cell::RefCell::new(theirs);
    wait_until("Serf's agent ends", || theirs.borrow_mut().has_ended());
    let sides =
        [Side { rpc: &their_rpc, own: "theirs", failed: "" }, Side { rpc: &rpc, own: "ours", failed: "" }];
    comparison.lines("members of one that has left", &Step::new("members").both(&sides));
}
