//! `kvgossip agent` as a process.

use crate::desk::{Desk, Ran, until};
use crate::wait::wait_until;
use kvgossip_transport::ReplicaKey;
use std::fs::File;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

/// An agent of the cluster of `root.pem`, which signs as root, on free ports.
#[derive(Clone)]
pub struct Launch {
    /// Its data directory.
    pub data: String,
    /// Its replica key; without one, that of its data directory.
    key: Option<String>,
    /// The file that lists whom it admits; without one, the members of its gossip.
    admitted: Option<String>,
    /// Where it takes sessions.
    sync: String,
    /// Whether it is ready before it was compared with a peer: tests of anything else ask it at once.
    ready_alone: bool,
    /// Further arguments.
    pub extra: Vec<String>,
    /// Further variables of the environment.
    pub env: Vec<(&'static str, PathBuf)>,
}

/// A running one. Killed when it is dropped.
pub struct Process {
    child: Child,
    data: String,
}

impl Launch {
    /// An agent in the directory `data`. It admits every other that is launched at the same desk with `replica-a.pem`
    /// or `replica-b.pem`.
    pub fn new(desk: &Desk, data: &str, key: &str) -> Self {
        let id =
            |name: &str| ReplicaKey::from_pem(desk.read(name).as_bytes()).expect("a key").id().to_string();
        let ids = ["replica-a.pem", "replica-b.pem"].map(id).join("\n");
        std::fs::write(desk.path("admitted"), ids).expect("a file");
        Self {
            data: data.into(),
            key: Some(key.into()),
            admitted: Some("admitted".into()),
            sync: "127.0.0.1:0".into(),
            ready_alone: true,
            extra: Vec::new(),
            env: Vec::new(),
        }
    }

    /// It uses the key in its data directory, and makes one if there is none. It admits those whom a file lists.
    pub fn with_its_own_key(data: &str, admitted: &str) -> Self {
        Self {
            data: data.into(),
            key: None,
            admitted: Some(admitted.into()),
            sync: "127.0.0.1:0".into(),
            ready_alone: true,
            extra: Vec::new(),
            env: Vec::new(),
        }
    }

    /// It uses the key in its data directory, and admits whoever its gossip names.
    pub fn admitting_members(data: &str) -> Self {
        Self { admitted: None, ..Self::with_its_own_key(data, "") }
    }

    /// Takes sessions at the same address each time. Gives it, too.
    pub fn at_a_fixed_address(mut self) -> (Self, String) {
        let free =
            UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
        self.sync = free.to_string();
        (self, free.to_string())
    }

    /// It is ready when it was compared with a peer, if it is told of one.
    pub fn ready_when_compared(mut self) -> Self {
        self.ready_alone = false;
        self
    }

    /// Takes part in gossip at an address of its own.
    pub fn gossiping_at(self, ip: std::net::Ipv4Addr) -> Self {
        self.syncing_at(ip).with(&["--bind", &ip.to_string()])
    }

    /// Takes sessions at an address of its own.
    pub fn syncing_at(mut self, ip: std::net::Ipv4Addr) -> Self {
        self.sync = format!("{ip}:0");
        self
    }

    /// The same with further arguments.
    pub fn with(mut self, args: &[&str]) -> Self {
        self.extra.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Stays connected with the agent in the directory `data`, which runs.
    pub fn peer(self, desk: &Desk, data: &str) -> Self {
        let address = status(desk, data)["sync_address"].as_str().expect("an address").to_owned();
        self.with(&["--peer", &address])
    }

    fn args(&self) -> Vec<&str> {
        let args = ["agent", "--data-dir", &self.data, "--root", "root.pub.pem"];
        let ports = ["--sync", &self.sync, "--http", "127.0.0.1:0", "--identity", "root.pem"];
        let mut args = [&args[..], &ports].concat();
        args.extend(self.admitted.iter().flat_map(|file| ["--allow-peers", file]));
        args.extend(self.key.iter().flat_map(|key| ["--replica-key", key]));
        args.extend(self.ready_alone.then_some("--ready-alone"));
        args.extend(self.extra.iter().map(String::as_str));
        args
    }

    /// Runs it where it should not start.
    pub fn refused(&self, desk: &Desk) -> Ran {
        desk.run(&self.args())
    }

    /// Starts it; it may not answer yet. Its log goes to `DATA.log`.
    pub fn spawn(&self, desk: &Desk) -> Process {
        let log = File::options().create(true).append(true).open(desk.path(format!("{}.log", self.data)));
        let mut command = desk.command(&self.args());
        command.envs(self.env.iter().map(|(name, value)| (*name, value)));
        command.stdout(Stdio::null()).stderr(log.expect("a log file"));
        Process { child: command.spawn().expect("an agent"), data: self.data.clone() }
    }

    /// Starts it and waits until it answers.
    pub fn start(&self, desk: &Desk) -> Process {
        let process = self.spawn(desk);
        // It may not be well, and says so with an exit code of its own.
        let answers = until(|| ask(desk, &self.data, &["status"]), |ran| ran.code <= 1);
        assert!(answers.code <= 1, "{answers:?}");
        process
    }
}

impl Process {
    /// Runs a command for it.
    pub fn ask(&self, desk: &Desk, args: &[&str]) -> Ran {
        ask(desk, &self.data, args)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name, such as `STOP`.
    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Asks it to end and waits for that.
    pub fn stop(self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Waits until it ends by itself.
    pub fn wait(mut self) -> ExitStatus {
        wait_until("the agent ends", || self.child.try_wait().expect("a child"))
    }

    /// Ends it at once, without a word.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child of ours");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // For a test that failed; one that has ended is left alone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a child by its name.
pub fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-s", name, &pid]).status().expect("kill").success());
}

/// Runs a command for the agent in the directory `data`.
pub fn ask(desk: &Desk, data: &str, args: &[&str]) -> Ran {
    desk.run(&[args, &["--data-dir", data]].concat())
}

/// What the agent in the directory `data` says of itself.
pub fn status(desk: &Desk, data: &str) -> serde_json::Value {
    ask(desk, data, &["status", "--output", "json"]).json().remove(0)
}
