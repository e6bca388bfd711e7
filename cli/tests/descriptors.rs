//! The limit of file descriptors: an agent takes what it needs, and says so where it must not.
#![cfg(target_os = "linux")]

use kvgossip_testkit::desk::Desk;
use kvgossip_testkit::process::{Launch, Process};
use kvgossip_testkit::wait::wait_until;
use rustix::process::{Resource, Rlimit, setrlimit};

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

/// The soft limit of the agent, and its hard one.
fn limits(agent: &Process) -> Vec<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/limits", agent.id())).expect("limits");
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files")).expect("the limit of files");
    line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Agents inherit the limits of this program, which has one test.
fn start_with(desk: &Desk, soft: u64, hard: u64) -> Process {
    let limit = Rlimit { current: Some(soft), maximum: Some(hard) };
    setrlimit(Resource::Nofile, limit).expect("the hard limit of this test is 4,096 at least");
    Launch::with_its_own_key("a", "admits-nobody").with(&["--max-connections", "600"]).start(desk)
}

#[test]
fn an_agent_raises_its_limit_of_descriptors_to_what_it_needs() {
    let (desk, warning) = (Desk::new(PROGRAM), "file descriptors may be needed");
    std::fs::write(desk.path("admits-nobody"), "").expect("written");
    let agent = start_with(&desk, 300, 4096);
    let [soft, hard] = limits(&agent)[..] else { panic!("two limits") };
    assert!((1200..2000).contains(&soft) && hard == 4096, "{soft} of {hard}");
    assert!(!desk.read("a.log").contains(warning));
    agent.stop();
    let agent = start_with(&desk, 300, 800);
    wait_until("it warns", || desk.read("a.log").contains(warning));
    assert_eq!(limits(&agent), [800, 800]);
    agent.stop();
}
