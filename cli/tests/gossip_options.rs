//! What operators may set of gossip: limits, timings, how long joining is tried, the interface.
#![cfg(unix)]

use kvgossip_testkit::desk::Desk;
use kvgossip_testkit::process::{Launch, ask};
use kvgossip_testkit::serf;
use kvgossip_testkit::wait::wait_until;
use std::net::Ipv4Addr;
use std::time::Instant;

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

/// Timings with which a failure shows within seconds.
const QUICK: [&str; 6] = [
    "--probe-interval=200ms",
    "--probe-timeout=100ms",
    "--suspicion-mult=2",
    "--gossip-interval=50ms",
    "--profile",
    "local",
];

fn launch(name: &str, ip: Ipv4Addr) -> Launch {
    Launch::with_its_own_key(name, "admits-nobody").gossiping_at(ip).with(&["--name", name])
}

fn desk() -> Desk {
    let desk = Desk::new(PROGRAM);
    std::fs::write(desk.path("admits-nobody"), "").expect("written");
    desk
}

fn member(desk: &Desk, data: &str, name: &str) -> Option<String> {
    let rows = ask(desk, data, &["members", "--output", "json"]).json();
    let row = rows.iter().find(|row| row["name"] == name)?;
    row["status"].as_str().map(str::to_owned)
}

#[track_caller]
fn sees(desk: &Desk, data: &str, name: &str, wanted: &str) {
    wait_until(&format!("{data} sees {name} {wanted}"), || {
        member(desk, data, name).as_deref() == Some(wanted)
    });
}

const LIMITS: [&str; 3] =
    ["--user-event-size-limit=4096", "--query-size-limit=4096", "--query-response-size-limit=4096"];

/// 3,000 bytes: no packet has room for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_events_queries_and_answers_get_through_also_between_serf_s_agents_and_ours() {
    let limits =
        r#"{"user_event_size_limit": 4096, "query_size_limit": 4096, "query_response_size_limit": 4096}"#;
    let desk = desk();
    std::fs::write(desk.path("limits.json"), limits).expect("written");
    let config = format!("-config-file={}", desk.path("limits.json").display());
    let heard = "user:long=tr -d '\\n' | wc -c > heard.new; mv heard.new heard";
    let answer =
        "query:long=tr -d '\\n' | wc -c > asked.new; mv asked.new asked; head -c 3000 /dev/zero | tr '\\0' y";
    let [on_event, on_query] = [heard, answer].map(|handler| format!("-event-handler={handler}"));
    let serf = serf::Agent::start("theirs", &[&config, "-profile=local", &on_event, &on_query]).await;
    let with = |name: &str| {
        launch(name, serf::fresh_ip())
            .with(&["--join", &serf.addr.to_string(), "--profile", "local"])
            .with(&LIMITS)
    };
    let _ours = with("ours").with(&["--event-handler", heard, "--event-handler", answer]).start(&desk);
    let _asks = with("asks").start(&desk);
    sees(&desk, "asks", "ours", "alive");
    sees(&desk, "ours", "asks", "alive");
    serf.sees("asks", "alive").await;

    let long = "x".repeat(3000);
    ask(&desk, "asks", &["event", "long", &long]).exits(0);
    let places = [desk.path(""), serf.dir.path().to_owned()];
    let count = |what: &str, place: &std::path::Path| {
        std::fs::read_to_string(place.join(what)).ok().map(|text| text.trim().to_owned())
    };
    wait_until("both hear it", || {
        places.iter().all(|place| count("heard", place).as_deref() == Some("3000"))
    });
    let answers = ask(&desk, "asks", &["query", "long", &long, "--wait", "15s"]).exits(0);
    assert_eq!(answers.text().matches(&"y".repeat(3000)).count(), 2, "both answer");
    assert!(places.iter().all(|place| count("asked", place).as_deref() == Some("3000")));

    // What a Serf agent says at length comes when states are compared.
    places.iter().for_each(|place| std::fs::remove_file(place.join("heard")).expect("it was there"));
    serf.serf("event", &["long", &"z".repeat(3500)]).await;
    wait_until("ours hears Serf's", || count("heard", &places[0]).as_deref() == Some("3500"));

    // Beyond the limit, and with the default one, it is refused, and the limit is named.
    let refused = ask(&desk, "asks", &["event", "long", &"x".repeat(4090)]).fails(1, "gossip.refused");
    assert!(refused.err.contains("4096 are allowed"), "{refused:?}");
    let _short = launch("short", serf::fresh_ip()).start(&desk);
    let refused = ask(&desk, "short", &["event", "long", &long]).fails(1, "gossip.refused");
    assert!(refused.err.contains("512 are allowed"), "{refused:?}");
}

#[test]
fn what_cannot_travel_is_refused_at_the_start() {
    let desk = desk();
    for (option, named) in [
        ("--user-event-size-limit=9217", "the user event size limit is 9217 bytes; 64 to 9216 are allowed"),
        ("--query-size-limit=1000", "the query size limit is 1000 bytes; 1024 to 9216 are allowed"),
        ("--query-response-size-limit=65536", "512 to 9216 are allowed"),
        ("--probe-interval=1ms", "the probe interval cannot be 1ms; 10ms to 10m are allowed"),
        ("--probe-interval=400ms", "the probe timeout must be shorter than the probe interval"),
        ("--reconnect-timeout=0s", "the reconnect timeout cannot be 0ms; 1s to 3650d are allowed"),
        ("--gossip-nodes=65", "the number of gossip nodes cannot be 65; 1 to 64 are allowed"),
        ("--retry-interval=999ms", "1s to 1h are allowed"),
        ("--retry-max=3", "--retry-max is about joining"),
    ] {
        let refused = launch("a", serf::fresh_ip()).with(&[option]).refused(&desk).fails(2, "usage");
        assert!(refused.err.contains(named), "{option}: {refused:?}");
    }
    let unitless = launch("a", serf::fresh_ip()).with(&["--tombstone-timeout=1"]).refused(&desk);
    unitless.fails(2, "time.malformed");
    std::fs::write(desk.path("agent.toml"), "tombstone-timeout = \"5m\"\nretransmit-mult = 0\n")
        .expect("written");
    let from_file = launch("a", serf::fresh_ip()).with(&["--config", "agent.toml"]).refused(&desk);
    assert!(from_file.fails(2, "usage").err.contains("the retransmit multiplier cannot be 0"));
    let unbound = Launch::with_its_own_key("a", "admits-nobody").with(&["--tombstone-timeout", "5m"]);
    assert!(unbound.refused(&desk).fails(2, "usage").err.contains("--tombstone-timeout is about gossip"));
}

/// The command reads as much as any agent may take, and the agent says what is too much for it.
#[test]
fn the_agent_judges_what_standard_input_holds() {
    let desk = desk();
    let _long = launch("long", serf::fresh_ip()).with(&LIMITS).start(&desk);
    let _short = launch("short", serf::fresh_ip()).start(&desk);
    let ask = |verb: &str, data: &str, len: usize| {
        desk.run_with_input(&[verb, "long", "-", "--data-dir", data], &vec![b'x'; len])
    };
    ask("event", "long", 3000).exits(0);
    ask("query", "long", 3000).exits(0);
    for (verb, data, allowed) in
        [("event", "short", 512), ("query", "short", 1024), ("event", "long", 4096), ("query", "long", 4096)]
    {
        let refused = ask(verb, data, 5000).fails(1, "gossip.refused");
        assert!(refused.err.contains(&format!("{allowed} are allowed")), "{verb} {data}: {refused:?}");
    }
    ask("event", "long", 9217).fails(2, "usage");
}

#[test]
fn a_word_that_is_no_level_of_the_log_is_refused_wherever_it_stands() {
    let desk = desk();
    let launch = || launch("a", serf::fresh_ip());
    std::fs::write(desk.path("agent.toml"), "log-level = \"noisy\"\n").expect("written");
    std::fs::write(desk.path("serf.json"), r#"{"log_level": "warning"}"#).expect("written");
    for (option, value, place) in [
        ("--log-level", "inof", ""),
        ("--config", "agent.toml", "agent.toml line 1"),
        ("--serf-config", "serf.json", "log_level in serf.json"),
    ] {
        let refused = launch().with(&[option, value]).refused(&desk).fails(2, "log.filter");
        assert!(refused.err.contains("error, warn, info, debug, trace"), "{refused:?}");
        assert!(refused.err.contains(place), "{refused:?}");
    }
}

#[test]
fn timings_are_those_that_are_set() {
    let desk = desk();
    let at = serf::fresh_ip();
    let json = r#"{"reconnect_timeout": "1s", "tombstone_timeout": "1s", "reconnect_interval": "1s"}"#;
    std::fs::write(desk.path("serf.json"), json).expect("written");
    let _a = launch("a", at).with(&QUICK).with(&["--serf-config", "serf.json"]).start(&desk);
    let joins = |name: &str| launch(name, serf::fresh_ip()).with(&QUICK).with(&["--join", &at.to_string()]);
    let mut fails = joins("fails").start(&desk);
    let leaves = joins("leaves").start(&desk);
    let stays = joins("stays").start(&desk);
    for name in ["fails", "leaves", "stays"] {
        sees(&desk, "a", name, "alive");
        sees(&desk, "stays", if name == "stays" { "a" } else { name }, "alive");
    }
    leaves.ask(&desk, &["leave"]).exits(0);
    let since = Instant::now();
    fails.kill();
    sees(&desk, "stays", "fails", "failed");
    // By the profile it takes 3 s at the least.
    let took = since.elapsed();
    assert!(took.as_secs() < 60, "{took:?}");
    // It is forgotten where that was set, and nowhere else.
    wait_until("a forgets both", || {
        ["fails", "leaves"].iter().all(|name| member(&desk, "a", name).is_none())
    });
    assert_eq!(member(&desk, "stays", "fails").as_deref(), Some("failed"));
    assert_eq!(member(&desk, "stays", "leaves").as_deref(), Some("left"));
    drop(stays);
}

#[test]
fn joining_is_given_up_when_that_is_asked_for_and_never_after_there_was_company() {
    let desk = desk();
    let (at_a, at_b) = (serf::fresh_ip(), serf::fresh_ip());
    let retry = ["--join", &at_a.to_string(), "--retry-interval", "1s", "--retry-max", "3"];
    let gives_up = launch("b", at_b).with(&retry);
    let since = Instant::now();
    let ended = gives_up.spawn(&desk).wait();
    assert_eq!(ended.code(), Some(7));
    assert!(since.elapsed().as_secs() >= 2, "two waits lie between three rounds");
    let log = desk.read("b.log");
    assert!(log.contains("[gossip.gave_up]") || log.contains("gossip.gave_up"), "{log}");
    assert!(log.contains("nobody was joined in 3 rounds") && log.contains(&at_a.to_string()), "{log}");

    // From Serf's file, with Serf's names.
    let json = format!(r#"{{"retry_join": ["{at_a}"], "retry_interval": "1s", "retry_max_attempts": 1}}"#);
    std::fs::write(desk.path("serf.json"), json).expect("written");
    let of_serf = launch("s", serf::fresh_ip()).with(&["--serf-config", "serf.json"]);
    assert_eq!(of_serf.spawn(&desk).wait().code(), Some(7));

    let mut a = launch("a", at_a).with(&QUICK).start(&desk);
    let b = gives_up.with(&QUICK).with(&["--log-level", "info,kvgossip_agent=debug"]).start(&desk);
    sees(&desk, "b", "a", "alive");
    a.kill();
    sees(&desk, "b", "a", "failed");
    let in_vain = || desk.read("b.log").matches("not joined").count();
    let before = in_vain();
    wait_until("b tries in vain more often than it may at the start", || in_vain() > before + 4);
    let _a = launch("a", at_a).with(&QUICK).start(&desk);
    sees(&desk, "b", "a", "alive");
    drop(b);
}

#[test]
fn an_interface_is_listened_at() {
    let desk = desk();
    let refused = |args: &[&str]| {
        Launch::with_its_own_key("a", "admits-nobody").with(args).refused(&desk).fails(1, "agent.address")
    };
    let told = refused(&["--iface", "no-such0"]);
    assert!(told.err.contains("no-such0") && told.err.contains("lo"), "{told:?}");
    let told = refused(&["--iface", "lo", "--bind", "10.99.99.99"]);
    assert!(told.err.contains("does not have the address 10.99.99.99; it has 127.0.0.1"), "{told:?}");
    let listens =
        Launch::with_its_own_key("a", "admits-nobody").with(&["--iface", "lo", "--bind", "0.0.0.0:0"]);
    let agent = listens.start(&desk);
    let row = ask(&desk, "a", &["members", "--output", "json"]).json().remove(0);
    let address = row["address"].as_str().expect("an address");
    assert!(address.starts_with("127.0.0.1:"), "the address is that of the interface: {address}");
    agent.stop();
}
