//! What operators bring along from Serf's agents: event handlers, files of tags, snapshots, labels, networks.
#![cfg(unix)]

use kvgossip_testkit::desk::Desk;
use kvgossip_testkit::process::{Launch, ask, status};
use kvgossip_testkit::serf;
use kvgossip_testkit::wait::{eventually, wait_until};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

fn launch(name: &str, ip: Ipv4Addr) -> Launch {
    // Whom it syncs with is no matter here.
    Launch::with_its_own_key(name, "admits-nobody").gossiping_at(ip).with(&["--name", name])
}

fn desk() -> Desk {
    let desk = Desk::new(PROGRAM);
    std::fs::write(desk.path("admits-nobody"), "").expect("written");
    desk
}

fn member_is(desk: &Desk, data: &str, name: &str, wanted: &str) -> bool {
    let rows = ask(desk, data, &["members", "--output", "json"]).json();
    rows.iter().any(|row| row["name"] == name && row["status"] == wanted)
}

#[track_caller]
fn sees(desk: &Desk, data: &str, name: &str, wanted: &str) {
    wait_until(&format!("{data} sees {name} {wanted}"), || member_is(desk, data, name, wanted));
}

fn has_reason(desk: &Desk, data: &str, code: &str) -> bool {
    let status = status(desk, data);
    status["reasons"].as_array().expect("reasons").iter().any(|reason| reason["code"] == code)
}

#[test]
fn who_comes_back_while_nobody_is_there_says_so_forgets_nobody_and_rejoins() {
    let desk = desk();
    let (at_a, at_b) = (serf::fresh_ip(), serf::fresh_ip());
    let (launch_a, launch_b) = (launch("a", at_a), launch("b", at_b));
    let a = launch_a.start(&desk);
    let b = launch_b.clone().with(&["--join", &at_a.to_string()]).start(&desk);
    sees(&desk, "a", "b", "alive");
    sees(&desk, "b", "a", "alive");
    let file = desk.path("b/gossip-members");
    let remembers = |path: &Path| std::fs::read_to_string(path).unwrap_or_default().contains("alive: a ");
    wait_until("b remembers a", || remembers(&file));
    b.stop();
    a.stop();
    let b = launch_b.start(&desk);
    wait_until("b says that nobody is there", || has_reason(&desk, "b", "gossip.join_failed"));
    b.stop();
    assert!(remembers(&file), "it is remembered all the same");
    let _b = launch_b.start(&desk);
    let _a = launch_a.start(&desk);
    sees(&desk, "b", "a", "alive");
    sees(&desk, "a", "b", "alive");
    wait_until("b says no more that nobody is there", || !has_reason(&desk, "b", "gossip.join_failed"));
}

#[test]
fn who_has_left_rejoins_only_when_told_to() {
    let desk = desk();
    let (at_a, at_b) = (serf::fresh_ip(), serf::fresh_ip());
    let _a = launch("a", at_a).start(&desk);
    let snapshot = ["--snapshot", "others"];
    let b = launch("b", at_b).with(&snapshot).with(&["--join", &at_a.to_string()]).start(&desk);
    sees(&desk, "a", "b", "alive");
    b.ask(&desk, &["leave"]).exits(0);
    sees(&desk, "a", "b", "left");
    b.stop();
    assert!(desk.read("others").ends_with("leave\n") && !desk.path("b/gossip-members").exists());
    let b = launch("b", at_b).with(&snapshot).with(&["--rejoin"]).start(&desk);
    sees(&desk, "a", "b", "alive");
    sees(&desk, "b", "a", "alive");
    drop(b);
}

/// The variables that a handler wrote, and what it read.
fn told(desk: &Path, file: &str) -> Option<(BTreeMap<String, String>, String)> {
    let text = std::fs::read_to_string(desk.join(file)).ok()?;
    let (variables, rest) = text.split_once("--\n")?;
    let input = rest.strip_suffix("==\n")?;
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    Some((variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(), input.to_owned()))
}

/// Writes its environment and its input to a file named after the event.
const WRITER: &str =
    "{ env | grep ^SERF_; echo --; cat; echo ==; } > $SERF_EVENT.new; mv $SERF_EVENT.new $SERF_EVENT";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_handlers_run_as_those_of_serf_s_agents_do() {
    let events =
        ["user:deploy", "query:load", "member-failed,member-leave"].map(|kind| format!("{kind}={WRITER}"));
    let answers = ["query:load=echo 0.5", "query:broken=echo partial; exit 3"].map(str::to_owned);
    let of_serf: Vec<_> =
        events.iter().chain(&answers).map(|spec| format!("-event-handler={spec}")).collect();
    let of_serf: Vec<_> = of_serf.iter().map(String::as_str).collect();
    let serf =
        serf::Agent::start("theirs", &[&of_serf[..], &["-tag=role=web", "-tag=data-center=east"]].concat())
            .await;
    let desk = desk();
    let ours = launch("ours", serf::fresh_ip()).with(&["--join", &serf.addr.to_string()]);
    let ours = events.iter().chain(&answers).fold(ours, |ours, spec| ours.with(&["--event-handler", spec]));
    let failing = "user:deploy=echo it broke >&2; exit 3";
    let ours = ours.with(&[
        "--event-handler",
        "user:deploy=exec sleep 300",
        "--event-handler",
        failing,
        "--tag",
        "role=web",
        "--tag",
        "data-center=east",
    ]);
    let _ours = ours.start(&desk);
    let third = launch("third", serf::fresh_ip()).with(&["--join", &serf.addr.to_string()]).start(&desk);
    sees(&desk, "ours", "third", "alive");
    sees(&desk, "ours", "theirs", "alive");
    serf.sees("third", "alive").await;

    ask(&desk, "third", &["event", "deploy", "version 7"]).exits(0);
    let answers = ask(&desk, "third", &["query", "load", "now"]).exits(0);
    assert_eq!(answers.text().matches("0.5").count(), 2, "both answer: {answers:?}");
    // What a command wrote before it failed is no answer.
    let broken = ask(&desk, "third", &["query", "broken"]).exits(0);
    assert!(!broken.text().contains("partial"), "{broken:?}");
    third.ask(&desk, &["leave"]).exits(0);
    let ours_dir = desk.path("");
    for event in ["user", "query", "member-leave"] {
        let dirs = [&*ours_dir, serf.dir.path()];
        wait_until("both handlers have run", || dirs.iter().all(|dir| told(dir, event).is_some()));
        let [mine, theirs] = dirs.map(|dir| told(dir, event).expect("it was there"));
        // Serf's agents write the tags of a member in any order.
        let input = |told: &(BTreeMap<String, String>, String)| {
            let mut parts: Vec<_> = told.1.split([',', '\t', '\n']).map(str::to_owned).collect();
            parts.sort_unstable();
            parts
        };
        assert_eq!(input(&mine), input(&theirs), "the input of {event}");
        let of = |told: &(BTreeMap<String, String>, String)| {
            let own = |name: &str| name.starts_with("SERF_TAG_KVG") || name == "SERF_SELF_NAME";
            told.0
                .iter()
                .filter(|(name, _)| !own(name))
                .map(|(n, v)| (n.clone(), v.clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(&mine), of(&theirs), "the environment of {event}");
        assert_eq!((&*mine.0["SERF_SELF_NAME"], &*theirs.0["SERF_SELF_NAME"]), ("ours", "theirs"));
    }
    let log = || std::fs::read_to_string(desk.path("ours.log")).unwrap_or_default();
    assert!(log().contains("an event handler has failed") && log().contains("it broke"), "{}", log());
    wait_until("the handler that does not end is named", || log().contains("an event handler is slow"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_takes_the_place_of_one_of_serf_s_with_its_snapshot() {
    let stays = serf::Agent::start("stays", &[]).await;
    let join = format!("-join={}", stays.addr);
    let mut moves = serf::Agent::start("moves", &["-snapshot=others", &join]).await;
    let file = moves.dir.path().join("others");
    moves.sees("stays", "alive").await;
    // It writes what it has gathered when it ends, and does not leave.
    moves.signal("TERM");
    wait_until("it has ended", || moves.has_ended());
    let text = std::fs::read_to_string(&file).expect("a snapshot");
    assert!(text.contains("alive: stays "), "{text}");
    let desk = desk();
    std::fs::copy(&file, desk.path("others")).expect("copied");
    let std::net::IpAddr::V4(ip) = moves.addr.ip() else { panic!("an IPv4 address") };
    let _ours = launch("moves", ip).with(&["--snapshot", "others"]).start(&desk);
    sees(&desk, "moves", "stays", "alive");
    eventually("the other sees who has taken the place", async || {
        let members = stays.members().await;
        members
            .get("moves")
            .filter(|(status, tags)| status == "alive" && tags.contains("kvg_id="))
            .map(|_| ())
    })
    .await;
}

#[test]
fn tags_are_kept_in_their_file() {
    let desk = desk();
    std::fs::write(desk.path("tags.json"), "{\"role\": \"web\"}").expect("written");
    let launch = launch("a", serf::fresh_ip()).with(&["--tags-file", "tags.json"]);
    let tags = |desk: &Desk| ask(desk, "a", &["members", "--output", "json"]).json()[0]["tags"].clone();
    let a = launch.start(&desk);
    assert_eq!(tags(&desk)["role"], "web");
    a.ask(&desk, &["tags", "set", "role=db", "zone=east"]).exits(0);
    wait_until("the file has them", || desk.read("tags.json").contains("east"));
    assert!(!desk.read("tags.json").contains("kvg"), "but not those that the agent sets itself");
    a.stop();
    let a = launch.start(&desk);
    assert_eq!((&tags(&desk)["role"], &tags(&desk)["zone"]), (&"db".into(), &"east".into()));
    a.stop();
    std::fs::write(desk.path("tags.json"), "[]").expect("written");
    launch.clone().refused(&desk).fails(1, "file.unreadable");
    // A snapshot is written over: what is none is left as it is.
    std::fs::write(desk.path("precious"), "precious\n").expect("written");
    std::fs::write(desk.path("tags.json"), "{}").expect("written");
    launch.clone().with(&["--snapshot", "precious"]).refused(&desk).fails(1, "file.unreadable");
    assert_eq!(desk.read("precious"), "precious\n");
    launch.with(&["--tag", "a=b"]).refused(&desk).exits(2);
}

#[test]
fn serf_s_configuration_is_understood_and_what_has_no_meaning_is_named() {
    let desk = desk();
    let at = serf::fresh_ip();
    let text = format!(
        r#"{{"node_name": "theirs", "bind": "{at}", "tags": {{"role": "web"}}, "log_level": "WARN", "protocol": 5}}"#
    );
    std::fs::write(desk.path("serf.json"), text).expect("written");
    let launch =
        Launch::with_its_own_key("a", "admits-nobody").syncing_at(at).with(&["--serf-config", "serf.json"]);
    let a = launch.clone().start(&desk);
    let row = ask(&desk, "a", &["members", "--output", "json"]).exits(0).json().remove(0);
    assert_eq!((&row["name"], &row["tags"]["role"]), (&"theirs".into(), &"web".into()));
    assert!(row["address"].as_str().expect("an address").starts_with(&at.to_string()));
    let log = desk.read("a.log");
    assert!(log.contains("protocol has no meaning here") && !log.contains("INFO"), "{log}");
    a.stop();
    let named = launch.with(&["--name", "ours"]).start(&desk);
    let row = ask(&desk, "a", &["members", "--output", "json"]).exits(0).json().remove(0);
    assert_eq!(row["name"], "ours", "options count first");
    named.stop();
    std::fs::write(desk.path("serf.json"), "{\"node_nam\": \"a\"}").expect("written");
    Launch::with_its_own_key("a", "admits-nobody")
        .with(&["--serf-config", "serf.json"])
        .refused(&desk)
        .fails(2, "config.malformed");
}

#[test]
fn labels_and_networks_keep_others_out() {
    let desk = desk();
    let [at_a, at_b, at_c] = [serf::fresh_ip(), serf::fresh_ip(), serf::fresh_ip()];
    let join = at_a.to_string();
    let only = format!("{at_a},{at_b}/32");
    let with_label = |name, ip: Ipv4Addr| launch(name, ip).with(&["--label", "blue", "--profile", "local"]);
    let _a = with_label("a", at_a).with(&["--cidrs-allowed", &only]).start(&desk);
    let _b = with_label("b", at_b).with(&["--join", &join]).start(&desk);
    let c = with_label("c", at_c).with(&["--join", &join]).start(&desk);
    sees(&desk, "a", "b", "alive");
    // It is told of a, which does not take it in: b hears of it by gossip alone, and a from b.
    sees(&desk, "c", "a", "alive");
    sees(&desk, "b", "c", "alive");
    assert!(!member_is(&desk, "a", "c", "alive"), "it is in none of the networks");
    drop(c);
    let d = launch("d", serf::fresh_ip()).with(&["--join", &join]).start(&desk);
    wait_until("d is shut out", || {
        has_reason(&desk, "d", "gossip.wrong_key") || has_reason(&desk, "d", "gossip.join_failed")
    });
    drop(d);
    let refused = launch("e", serf::fresh_ip()).with(&["--cidrs-allowed", "10.0.0.0/8"]).refused(&desk);
    refused.fails(1, "gossip.start");
    let wrong = launch("e", serf::fresh_ip()).with(&["--cidrs-allowed", "10.0.0.0/99"]).refused(&desk);
    assert!(wrong.err.contains("10.0.0.0/8"), "{wrong:?}");
    assert_eq!(wrong.code, 2);
    let handler = launch("e", serf::fresh_ip()).with(&["--event-handler", "member-gone=x"]).refused(&desk);
    assert!(handler.err.contains("member-failed"), "{handler:?}");
    assert_eq!(handler.code, 2);
}

fn reason(desk: &Desk, data: &str, code: &str) -> String {
    let reasons = status(desk, data)["reasons"].as_array().expect("reasons").clone();
    let found = reasons.into_iter().find(|reason| reason["code"] == code);
    found.map_or(String::new(), |reason| reason["message"].as_str().expect("a text").to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_serf_agent_that_joins_does_not_make_a_newcomer_of_a_first_replica() {
    let desk = desk();
    let at = serf::fresh_ip();
    let launch = launch("first", at).ready_when_compared();
    let first = launch.start(&desk);
    first.ask(&desk, &["set", "/a", "there", "--identity", "root.pem"]).exits(0);
    let _serf = serf::Agent::start("theirs", &[&format!("-join={at}")]).await;
    sees(&desk, "first", "theirs", "alive");
    let snapshot = desk.path("first/gossip-members");
    wait_until("it is remembered", || {
        std::fs::read_to_string(&snapshot).unwrap_or_default().contains("alive: theirs ")
    });
    first.stop();
    let first = launch.start(&desk);
    assert_eq!(status(&desk, "first")["ready"], true, "{}", status(&desk, "first"));
    assert_eq!(first.ask(&desk, &["get", "/a"]).exits(0).text(), "there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_replica_in_a_serf_cluster_says_what_it_needs() {
    let desk = desk();
    let serf = serf::Agent::start("theirs", &[]).await;
    let launch = launch("ours", serf::fresh_ip()).ready_when_compared();
    let launch = launch.with(&["--join", &serf.addr.to_string()]);
    let ours = launch.start(&desk);
    wait_until("it says so", || {
        let why = reason(&desk, "ours", "sync.first");
        why.contains("(1) are no replicas of this cluster") && why.contains("--ready-alone")
    });
    assert_eq!(status(&desk, "ours")["ready"], false);
    ours.stop();
    let ours = launch.with(&["--ready-alone"]).start(&desk);
    sees(&desk, "ours", "theirs", "alive");
    assert_eq!(status(&desk, "ours")["ready"], true);
    drop(ours);
}
