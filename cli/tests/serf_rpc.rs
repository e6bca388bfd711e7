//! Serf's own command line against `kvgossip agent --rpc`.
#![cfg(unix)]

use kvgossip_testkit::desk::{Desk, Ran, until};
use kvgossip_testkit::process::Launch;
use kvgossip_testkit::serf;
use kvgossip_testkit::serf::command::{Asked, Monitor, place};
use kvgossip_testkit::wait::{eventually, wait_until};
use serde_json::Value;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const NEW_KEY: &str = "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serfs_tools_see_and_do_with_an_agent_what_they_do_with_serfs() {
    let handlers =
        ["-event-handler=user:deploy=cat >> deploy", "-event-handler=query:uptime=echo three days"];
    let other = serf::Agent::start("serf", &[&handlers[..], &["-tag=role=web"]].concat()).await;
    let desk = Desk::new(PROGRAM);
    let a = Asked::start(&desk, "a", "replica-a.pem", &["--tag", "zone=east", "--tag", "role=db"]);
    let mut b = Asked::start(&desk, "b", "replica-b.pem", &[]);
    let at_serf = other.addr.to_string();
    for asked in [&a, &b] {
        let joined = asked.serf("join", &[&at_serf]).exits(0);
        assert_eq!(joined.text(), "Successfully joined cluster by contacting 1 nodes.\n");
    }
    for member in ["a alive", "b alive", "serf alive"] {
        a.sees(member);
        b.sees(member);
    }
    let nowhere = a.serf("join", &["nowhere.invalid"]).exits(1);
    assert!(nowhere.text().contains("cannot join: nowhere.invalid"), "{nowhere:?}");

    lists(&a);
    tags(&a, &other).await;
    events_and_monitor(&desk, &a, &b, &other).await;
    queries_and_distances(&a);

    b.process.kill();
    a.sees("b failed");
    a.serf("force-leave", &["b"]).exits(0);
    a.sees("b left");
    other.sees("b", "left").await;
    let nobody = a.serf("force-leave", &["nobody"]).exits(1);
    assert!(nobody.text().contains("no member is named \"nobody\""), "{nobody:?}");

    // Serf's agents end when they are told to leave, and so does this one.
    let left = a.serf("leave", &[]).exits(0);
    assert_eq!(left.text(), "Graceful leave complete\n");
    assert!(a.process.wait().success());
    other.sees("a", "left").await;
}

fn lists(a: &Asked) {
    let text = a.serf("members", &[]).exits(0);
    let line = text.text().lines().find(|line| line.starts_with("a ")).expect("a line");
    assert!(line.contains(" alive ") && line.contains("zone=east") && line.contains("kvgossip=2"), "{line}");
    assert_eq!(a.members(&["-tag", "role=w.b"]), ["serf alive"]);
    assert_eq!(a.members(&["-tag", "role=(web|db)", "-name", "a|b"]), ["a alive"]);
    assert_eq!(a.members(&["-status", "alive", "-name", "[ab]"]), ["a alive", "b alive"]);
    assert!(a.members(&["-status", "failed|left"]).is_empty());
    let wrong = a.serf("members", &["-name=("]).exits(1);
    assert!(wrong.text().contains("Failed to compile regex"), "{wrong:?}");
    let info = a.serf("info", &[]).exits(0);
    for part in [
        "agent:\n\tname = a\n",
        "\tencrypted = false\n",
        "\tmembers = 3\n",
        "\tfailed = 0\n",
        "\tzone = east\n",
        "event_handlers:\n",
        "\thealth_score = ",
        "\tcoordinate_resets = 0\n",
        "\tintent_queue = ",
        "\tquery_queue = ",
        "\tevent_queue = ",
    ] {
        assert!(info.text().contains(part), "{part:?}: {info:?}");
    }
}

async fn tags(a: &Asked, other: &serf::Agent) {
    a.serf("tags", &["-set", "rack=7", "-delete", "zone"]).exits(0);
    let heard = async || {
        let tags = other.members().await["a"].1.clone();
        (tags.contains("rack=7") && !tags.contains("zone=") && tags.contains("kvg_id=")).then_some(())
    };
    eventually("the tags are heard of", heard).await;
    for args in [["-set", "kvg_id=1"], ["-delete", "kvgossip"]] {
        let refused = a.serf("tags", &args).exits(1);
        assert!(refused.text().contains("is set by the agent itself"), "{refused:?}");
    }
}

async fn events_and_monitor(desk: &Desk, a: &Asked, b: &Asked, other: &serf::Agent) {
    let monitor = Monitor::start(desk, b, "monitor", "info");
    monitor.shows("Serf's RPC on ");
    a.serf("event", &["-coalesce=false", "deploy", "1.2.3"]).exits(0);
    let file = other.dir.path().join("deploy");
    let told = async || std::fs::read_to_string(&file).is_ok_and(|text| text.contains("1.2.3")).then_some(());
    eventually("the agent's handler runs", told).await;
    // A line of the log, and the event as a record: its payload is bytes, its name is text.
    monitor.shows("[INFO] kvgossip: a user event name=\"deploy\" bytes=5 suppressed=0\n");
    for field in
        ["Event: \"user\"", "Name: \"deploy\"", "Coalesce: false", "[]byte{0x31, 0x2e, 0x32, 0x2e, 0x33}"]
    {
        monitor.shows(field);
    }
    // As many bytes as at a Serf agent: some 30 encode it.
    for (len, code) in [(480, 0), (483, 1), (600, 1)] {
        let payload = "x".repeat(len);
        let sent = a.serf("event", &["e", &payload]).exits(code);
        assert!(code == 0 || sent.text().contains("512"), "{sent:?}");
        assert_eq!(other.try_serf("event", &["e", &payload]).await.is_some(), code == 0, "{len} bytes");
    }
}

fn queries_and_distances(a: &Asked) {
    let asked = a.serf("query", &["-timeout=3s", "uptime", "?"]).exits(0);
    for line in [
        "Ack from 'a'",
        "Ack from 'b'",
        "Ack from 'serf'",
        "Response from 'serf': three days",
        "Total Acks: 3",
        "Total Responses: 1",
    ] {
        assert!(asked.text().lines().any(|found| found == line), "{line:?}: {asked:?}");
    }
    let named = a.serf("query", &["-timeout=3s", "-no-ack", "-node=serf", "-format=json", "uptime"]).exits(0);
    let json: Value = serde_json::from_str(named.text()).expect("JSON");
    assert_eq!((&json["Acks"], &json["Responses"]["serf"]), (&Value::Null, &"three days\n".into()));
    let reached = a.serf("reachability", &[]).exits(0);
    assert!(reached.text().contains("Successfully contacted all live nodes"), "{reached:?}");
    let far = |ran: &Ran| ran.code == 0 && ran.text().starts_with("Estimated serf <-> a rtt: ");
    let last = until(|| a.serf("rtt", &["serf"]), far);
    assert!(far(&last), "{last:?}");
    let unknown = a.serf("rtt", &["nobody"]).exits(1);
    assert!(unknown.text().contains("Could not find a coordinate for node \"nobody\""), "{unknown:?}");
}

/// Serf's strings are bytes. Such a member is listed alike by Serf's command line, and named as it is shown by ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_name_is_no_text_is_one_like_any_other() {
    const SHOWN: &str = r"caf\xe9";
    let addr = SocketAddr::from((serf::fresh_ip(), serf::GOSSIP_PORT));
    let mut other = serf::Agent::start_raw(b"caf\xe9", addr, &[b"-tag=role=\xff"]).await;
    let desk = Desk::new(PROGRAM);
    let handler = "user=printf '%s ' \"$SERF_USER_EVENT\" > heard.new; cat >> heard.new; mv heard.new heard";
    let a =
        Asked::start(&desk, "a", "replica-a.pem", &["--event-handler", handler, "--tags-file", "tags.json"]);
    a.serf("join", &[&addr.to_string()]).exits(0);
    let row = |status: &str| {
        let rows = a.process.ask(&desk, &["members", "--output", "json"]).exits(0).json();
        rows.into_iter().find(|row| row["name"] == SHOWN && row["status"] == status)
    };
    wait_until("it is listed", || row("alive").is_some());
    assert_eq!(row("alive").expect("listed")["tags"]["role"], r"\xff");
    let table = a.process.ask(&desk, &["members", "--long"]).exits(0);
    assert!(table.text().contains(SHOWN) && table.text().contains(r"role=\xff"), "{table:?}");
    let here = || a.command("members", &[]).output().expect("the program `serf` must be on the PATH").stdout;
    let sorted = |text: &[u8]| {
        let mut lines: Vec<_> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        lines.sort();
        lines
    };
    let alike = async || (sorted(&other.serf_raw("members", &[]).await) == sorted(&here())).then_some(());
    eventually("both list the same", alike).await;

    other.serf_raw("event", &[b"-coalesce=false", b"d\xe9ploy", b"\xfe"]).await;
    wait_until("the handler was given it", || std::fs::read(desk.path("heard")).is_ok());
    assert_eq!(std::fs::read(desk.path("heard")).expect("it is there"), b"d\xe9ploy \xfe\n");
    let asked = a.process.ask(&desk, &["query", "_serf_ping", "--node", SHOWN, "--wait", "5s"]).exits(0);
    assert!(asked.text().contains(&format!("{SHOWN} has received it\n1 acknowledged")), "{asked:?}");

    // Its own tags, set by Serf's tool, and taken away by the name that is shown.
    let set = OsStr::from_bytes(b"r\xe9gion=\xfe");
    let done =
        a.command("tags", &["-set"]).arg(set).output().expect("the program `serf` must be on the PATH");
    assert!(done.status.success(), "{done:?}");
    let own_tag = || {
        let rows = a.process.ask(&desk, &["members", "--output", "json"]).exits(0).json();
        rows[0]["tags"][r"r\xe9gion"].as_str().map(str::to_owned)
    };
    assert_eq!(own_tag().as_deref(), Some(r"\xfe"));
    let stored = || std::fs::read_to_string(desk.path("tags.json")).unwrap_or_default();
    wait_until("it is stored", || stored().contains(r#""r\\xe9gion": "\\xfe""#));
    a.process.ask(&desk, &["tags", "delete", r"r\xe9gion"]).exits(0);
    assert_eq!(own_tag(), None);

    other.kill();
    wait_until("it has failed", || row("failed").is_some());
    a.process.ask(&desk, &["force-leave", SHOWN]).exits(0);
    wait_until("it counts as having left", || row("left").is_some());
    let unknown = a.process.ask(&desk, &["force-leave", r"caf\xe8"]).exits(3);
    assert!(unknown.err.contains(r#"no member is named "caf\xe8""#), "{unknown:?}");
    let log = desk.read("a.log");
    assert!(log.contains(r#"name="caf\\xe9""#) && log.contains(r#"name="d\\xe9ploy""#), "{log}");
}

#[test]
fn with_a_key_nothing_is_done_without_it_and_keys_are_rotated() {
    let desk = Desk::new(PROGRAM);
    std::fs::write(desk.path("ring"), format!("[\"{KEY}\"]")).expect("a file");
    std::fs::write(desk.path("rpc-key"), "let-me-in\n").expect("a file");
    let agent =
        Asked::start(&desk, "a", "replica-a.pem", &["--keyring", "ring", "--rpc-auth-file", "rpc-key"]);
    let none = agent.serf("members", &[]).exits(1);
    assert!(none.text().contains("Authentication required"), "{none:?}");
    for wrong in ["-rpc-auth=let-me", "-rpc-auth=let-me-in-"] {
        let refused = agent.serf("leave", &[wrong]).exits(1);
        assert!(refused.text().contains("Invalid authentication token"), "{refused:?}");
    }
    let right = "-rpc-auth=let-me-in";
    let listed = agent.serf("members", &[right]).exits(0);
    assert!(listed.text().starts_with("a "), "{listed:?}");
    let by_env = agent.command("members", &[]).env("SERF_RPC_AUTH", "let-me-in").output().expect("serf");
    assert!(by_env.status.success(), "{by_env:?}");

    let keys = |args: &[&str]| agent.serf("keys", &[&[right], args].concat());
    let listed = keys(&["-list"]).exits(0);
    assert!(listed.text().lines().any(|line| line.starts_with(KEY) && line.ends_with("[1/1]")), "{listed:?}");
    for change in [["-install", NEW_KEY], ["-use", NEW_KEY], ["-remove", KEY]] {
        keys(&change).exits(0);
    }
    let listed = keys(&["-list"]).exits(0);
    assert!(listed.text().contains(NEW_KEY) && !listed.text().contains(KEY), "{listed:?}");
    wait_until("the change is stored", || {
        desk.read("ring").contains(NEW_KEY) && !desk.read("ring").contains(KEY)
    });
    let failed = keys(&["-remove", NEW_KEY]).exits(1);
    assert!(failed.text().contains("1/1 nodes reported failure"), "{failed:?}");
    assert!(failed.text().contains("the primary key cannot be removed"), "{failed:?}");
    keys(&["-install", "no base64"]).exits(1);
    let log = desk.read("a.log");
    assert!(!log.contains("let-me-in") && !log.contains(NEW_KEY), "{log}");

    // What is not Serf's command line does not disturb it.
    agent.process.ask(&desk, &["leave"]).exits(0);
    let gone = agent.serf("members", &[right]).exits(1);
    assert!(gone.text().contains("this agent has left the gossip"), "{gone:?}");
    assert!(agent.process.stop().success());
}

#[test]
fn an_agent_that_would_be_open_to_the_network_does_not_start() {
    let desk = Desk::new(PROGRAM);
    let launch = Launch::new(&desk, "data", "replica-a.pem");
    let refused = |args: &[&str]| launch.clone().with(args).refused(&desk);
    refused(&["--rpc", "127.0.0.1"]).fails(2, "usage");
    refused(&["--bind", "127.0.0.1:0", "--rpc-auth-file", "key"]).fails(2, "usage");
    refused(&["--bind", "127.0.0.1:0", "--rpc", "no place"]).fails(2, "usage");
    let bound = ["--bind", "127.0.0.1:0", "--rpc", "0.0.0.0:0"];
    let open = refused(&bound).fails(2, "gossip.rpc_not_loopback");
    assert!(open.err.contains("--rpc-auth-file") && open.err.contains("0.0.0.0:0"), "{open:?}");
    let with_key = |key: &str| refused(&[&bound[..], &["--rpc-auth-file", key]].concat());
    with_key("nowhere").fails(1, "file.unreadable");
    for bad in ["", "\n", "two words"] {
        std::fs::write(desk.path("key"), bad).expect("a file");
        with_key("key").fails(1, "token.malformed");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let used = refused(&["--bind", "127.0.0.1:0", "--rpc", &address]).fails(1, "agent.address");
    assert!(used.err.contains(&address), "{used:?}");
    // With a key it is served to the network.
    std::fs::write(desk.path("key"), "let-me-in").expect("a file");
    let agent = launch.clone().with(&bound).with(&["--rpc-auth-file", "key"]).start(&desk);
    assert!(place(&desk, "data").starts_with("0.0.0.0:"));
    assert!(agent.stop().success());
}
