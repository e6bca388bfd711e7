//! Where the agent's settings come from, as processes: options, the environment, a file, in this order.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use kvgossip_testkit::desk::{Desk, ran};
use kvgossip_testkit::process::{ask, signal};
use kvgossip_testkit::wait::wait_until;
use std::fs;
use std::process::{Child, Stdio};

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

/// An agent that is told the rest elsewhere.
fn start(desk: &Desk, args: &[&str], environment: &[(&str, &str)]) -> Child {
    let mut command = desk.command(&[&["agent", "--config", "agent.toml"], args].concat());
    command.envs(environment.iter().copied()).stdout(Stdio::null());
    command.stderr(fs::File::create(desk.path("log")).unwrap()).spawn().unwrap()
}

fn stop(mut agent: Child) {
    signal(&agent, "TERM");
    assert!(agent.wait().unwrap().success());
}

/// Whose entity signs for this agent; it is the setting that is looked at.
fn signs_as(desk: &Desk, data: &str) -> String {
    wait_until("the agent answers", || ask(desk, data, &["status"]).code == 0);
    let status = ask(desk, data, &["status", "--output", "json"]).exits(0).json().remove(0);
    let entity = status["identity"].as_str().unwrap_or("nobody").to_owned();
    for name in ["root.pem", "team.pem", "dev.pem"] {
        if desk.run(&["keygen", "-y", name, "--output", "json"]).json()[0]["entity"] == entity.as_str() {
            return name.to_owned();
        }
    }
    entity
}

#[test]
fn options_count_before_the_environment_and_that_before_the_file() {
    let desk = Desk::new(PROGRAM);
    let file = "data-dir = \"by-file\"\nroot = \"root.pub.pem\"\nreplica-key = \"replica-a.pem\"\n\
                sync = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\nidentity = \"root.pem\"\n";
    fs::write(desk.path("agent.toml"), file).unwrap();

    let agent = start(&desk, &[], &[]);
    assert_eq!(signs_as(&desk, "by-file"), "root.pem");
    stop(agent);

    let environment = [("KVGOSSIP_IDENTITY", "team.pem"), ("KVGOSSIP_DATA_DIR", "by-environment")];
    let agent = start(&desk, &[], &environment);
    assert_eq!(signs_as(&desk, "by-environment"), "team.pem");
    stop(agent);

    let agent = start(&desk, &["--identity", "dev.pem", "--data-dir", "by-option"], &environment);
    assert_eq!(signs_as(&desk, "by-option"), "dev.pem");
    stop(agent);

    // An empty variable says nothing; the file is named by a variable, too.
    let empty = [("KVGOSSIP_IDENTITY", ""), ("KVGOSSIP_DATA_DIR", "by-environment")];
    let agent = start(&desk, &[], &empty);
    assert_eq!(signs_as(&desk, "by-environment"), "root.pem");
    stop(agent);
    let mut command = desk.command(&["agent"]);
    command.env("KVGOSSIP_CONFIG", "agent.toml").stdout(Stdio::null()).stderr(Stdio::null());
    let agent = command.spawn().unwrap();
    assert_eq!(signs_as(&desk, "by-file"), "root.pem");
    stop(agent);

    // A wrong value is blamed on where it stands; one that is overruled does no harm.
    let wrong = |args: &[&str], environment: &[(&str, &str)]| {
        let mut command = desk.command(&[&["agent", "--config", "agent.toml"], args].concat());
        ran(command.envs(environment.iter().copied()).output().unwrap())
    };
    let told = wrong(&[], &[("KVGOSSIP_HTTP", "nowhere")]).fails(2, "usage");
    assert!(told.err.contains("(from KVGOSSIP_HTTP in the environment)"), "{told:?}");
    fs::write(desk.path("agent.toml"), file.replace("http = \"127.0.0.1:0\"", "http = \"nowhere\"")).unwrap();
    let told = wrong(&[], &[]).fails(2, "usage");
    assert!(told.err.contains("(from agent.toml line 5)"), "{told:?}");
    let agent = start(&desk, &["--http", "127.0.0.1:0"], &[]);
    assert_eq!(signs_as(&desk, "by-file"), "root.pem");
    stop(agent);
}
