//! `kvgossip agent` as a process: started, stopped, started again.
#![cfg(unix)]

mod support;

use support::Desk;
use support::process::{Launch, ask};

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let desk = Desk::new();
    let launch = Launch::new(&desk, "data", "replica-a.pem");
    let agent = launch.start(&desk);
    agent.ask(&desk, &["set", "/a", "1"]).exits(0);
    let grant = ["grant", "new", "--to", "team.pub.pem", "--pattern", "/team/**", "--identity", "root.pem"];
    agent.ask(&desk, &grant).exits(0);
    agent.ask(&desk, &["set", "/team/x", "2", "--identity", "team.pem"]).exits(0);
    let digest = agent.ask(&desk, &["digest"]).exits(0);
    assert!(agent.stop().success());
    ask(&desk, "data", &["get", "/a"]).fails(5, "agent.unreachable");

    let agent = launch.start(&desk);
    assert_eq!(agent.ask(&desk, &["digest"]).text(), digest.text());
    assert_eq!(agent.ask(&desk, &["get", "/team/x"]).text(), "2");
    assert!(agent.stop().success());
}

#[test]
fn two_agents_do_not_share_a_data_directory() {
    let desk = Desk::new();
    let agent = Launch::new(&desk, "data", "replica-a.pem").start(&desk);
    Launch::new(&desk, "data", "replica-b.pem").refused(&desk).fails(6, "store.in_use");
    assert!(agent.stop().success());
}
