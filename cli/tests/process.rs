//! `kvgossip agent` as a process: started, stopped, started again.
#![cfg(unix)]

mod support;

use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use support::{Desk, Ran};

struct Process(Child);

impl Process {
    /// Starts an agent on free ports and waits until it answers.
    fn start(desk: &Desk) -> Self {
        let args =
            ["agent", "--data-dir", "data", "--root", "root.pub.pem", "--replica-key", "replica-a.pem"];
        let ports = ["--sync", "127.0.0.1:0", "--http", "127.0.0.1:0", "--identity", "root.pem"];
        let mut command = desk.command(&[&args[..], &ports].concat());
        let process = Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("an agent"));
        support::until(|| ask(desk, &["status"]), |ran| ran.code == 0).exits(0);
        process
    }

    /// Asks it to end and waits for that.
    fn stop(mut self) -> ExitStatus {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
        let began = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().expect("a child") {
                return status;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "the agent does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // For a test that failed; one that has ended is left alone.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ask(desk: &Desk, args: &[&str]) -> Ran {
    desk.run(&[args, &["--data-dir", "data"]].concat())
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let desk = Desk::new();
    let agent = Process::start(&desk);
    ask(&desk, &["set", "/a", "1"]).exits(0);
    let grant = ["grant", "new", "--to", "team.pub.pem", "--pattern", "/team/**", "--identity", "root.pem"];
    ask(&desk, &grant).exits(0);
    ask(&desk, &["set", "/team/x", "2", "--identity", "team.pem"]).exits(0);
    let digest = ask(&desk, &["digest"]).exits(0);
    assert!(agent.stop().success());
    ask(&desk, &["get", "/a"]).fails(5, "agent.unreachable");

    let agent = Process::start(&desk);
    assert_eq!(ask(&desk, &["digest"]).text(), digest.text());
    assert_eq!(ask(&desk, &["get", "/team/x"]).text(), "2");
    assert!(agent.stop().success());
}

#[test]
fn two_agents_do_not_share_a_data_directory() {
    let desk = Desk::new();
    let agent = Process::start(&desk);
    let args = ["agent", "--data-dir", "data", "--root", "root.pub.pem", "--replica-key", "replica-b.pem"];
    desk.run(&[&args[..], &["--sync", "127.0.0.1:0", "--http", "127.0.0.1:0"]].concat())
        .fails(6, "store.in_use");
    assert!(agent.stop().success());
}
