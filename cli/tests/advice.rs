//! Messages name what is meant: which member, which agent, which key, and what to do instead.
#![cfg(unix)]

use kvgossip_testkit::desk::{Desk, ran};
use kvgossip_testkit::process::Launch;
use kvgossip_testkit::served::{Served, Setup};
use std::fs;
use std::net::TcpListener;
use std::process::Stdio;

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

#[test]
fn who_is_named_in_vain_is_named_back() {
    let desk = Desk::new(PROGRAM);
    let gossip = ["--bind", "127.0.0.1:0", "--name", "one"];
    let one = Launch::new(&desk, "one", "replica-a.pem").with(&gossip).start(&desk);
    let gossip = ["--bind", "127.0.0.1:0", "--name", "two"];
    let two = Launch::new(&desk, "two", "replica-b.pem").with(&gossip).start(&desk);
    let members = two.ask(&desk, &["members", "--output", "json"]).exits(0).json();
    let address = members[0]["address"].as_str().expect("an address").to_owned();
    // Nobody listens there.
    let joined = one.ask(&desk, &["join", &address, "127.0.0.1:9"]).exits(0);
    assert_eq!(joined.text(), "1 of 2 answered\n");
    assert!(joined.err.contains("no answer: ") && joined.err.contains("127.0.0.1:9"), "{joined:?}");
    let json = one.ask(&desk, &["join", &address, "127.0.0.1:9", "--output", "json"]).exits(0).json();
    assert_eq!((&json[0]["joined"], json[0]["failed"].as_array().map(Vec::len)), (&1.into(), Some(1)));

    let own = one.ask(&desk, &["force-leave", "one"]).fails(1, "gossip.refused");
    assert!(own.err.contains("this agent itself") && own.err.contains("`leave`"), "{own:?}");
    let nobody = ["query", "uptime", "--node", "two", "--node", "nosuch", "--wait", "1s"];
    let nobody = one.ask(&desk, &nobody).fails(3, "gossip.unknown_member");
    assert!(nobody.err.contains("\"nosuch\""), "{nobody:?}");
    one.ask(&desk, &["query", "uptime", "--node", "two", "--node", "one", "--wait", "1s"]).exits(0);
}

#[test]
fn an_agent_that_is_silent_is_named() {
    let served = Served::start(PROGRAM, Setup { identity: Some("root.pem"), ..Setup::default() });
    // It takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("http://{}", silent.local_addr().expect("an address"));
    for root in [&["--root", "root.pub.pem"][..], &[]] {
        let agents = ["--agents", "2", "--agent", "unix:agent.sock", "--agent", &silent, "--timeout", "1s"];
        let few = served.desk.run(&[&["get", "/k"], &agents[..], root].concat()).fails(7, "client.too_few");
        assert!(few.err.contains("1 of 2 agents") && few.err.contains(&silent), "{few:?}");
    }
}

#[test]
fn a_private_key_where_the_public_one_is_enough_is_told_and_one_fact_is_one() {
    let served = Served::start(PROGRAM, Setup { identity: Some("root.pem"), ..Setup::default() });
    served.run(&["set", "/k", "v"]).exits(0);
    served.run(&["export", "-o", "all"]).exits(0);
    let verified = served.desk.run(&["verify", "all", "--root", "root.pem"]).exits(0);
    assert!(verified.err.contains("warning: root.pem holds root's private key"), "{verified:?}");
    assert_eq!(served.desk.run(&["verify", "all", "--root", "root.pub.pem"]).exits(0).err, "");

    let out = ["set", "/k", "v", "--identity", "root.pem", "--from", "all", "--out", "one"];
    served.desk.run(&out).exits(0);
    let foreign = ["verify", "one", "--root", "team.pub.pem"];
    let one = served.desk.run(&foreign).exits(8);
    assert!(one.err.contains("1 of 1 fact does not verify: named above"), "{one:?}");

    // However little is left of an export, it is a cut one.
    let all = fs::read(served.path("all")).expect("an export");
    for len in [1, 8, 15, 16, 17] {
        fs::write(served.path("cut"), &all[..len]).expect("a file");
        served.desk.run(&["verify", "cut", "--root", "root.pub.pem"]).fails(8, "export.damaged");
    }
}

#[test]
fn a_watch_that_never_reached_an_agent_speaks_of_no_values() {
    let desk = Desk::new(PROGRAM);
    let args = ["watch", "/k", "--count", "1", "--agent", "unix:nowhere"];
    let mut command = desk.command(&args);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut told = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().expect("a pipe")));
    let line = told.find_map(|line| line.ok().filter(|line| line.contains("no agent is connected")));
    child.kill().expect("a child of ours");
    child.wait().expect("it ends");
    assert_eq!(line.as_deref(), Some("no agent is connected: nothing is known yet"));
}

#[cfg(target_os = "linux")]
#[test]
fn help_that_cannot_be_written_is_an_error() {
    for args in [&["help"][..], &["--version"], &["get", "--help"]] {
        let full = fs::File::options().write(true).open("/dev/full").expect("a device");
        let desk = Desk::new(PROGRAM);
        let output = desk.command(args).stdout(full).stderr(Stdio::piped()).output().expect("it runs");
        ran(output).fails(1, "file.unwritable");
    }
}
