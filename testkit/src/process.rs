//! `kvgossip agent` as a process.

use crate::desk::{Desk, Ran, until};
use crate::wait::wait_until;
use kvgossip_transport::ReplicaKey;
use std::fs::File;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

/// Settings of an agent of the cluster of `root.pem`, which signs as root and listens on free ports.
#[derive(Clone)]
pub struct Launch {
    /// Name of the agent's data directory at the desk.
    pub data: String,
    /// Name of the file of the agent's replica key; `None`: the key in its data directory.
    key: Option<String>,
    /// Name of the file that lists the admitted replicas; `None`: the members of the agent's gossip are admitted.
    admitted: Option<String>,
    /// Address for sessions with peers.
    sync: String,
    /// Whether the agent is ready before its first comparison with a peer, so that tests of other features can use it
    /// at once.
    ready_alone: bool,
    /// Further arguments of `kvgossip agent`.
    pub extra: Vec<String>,
    /// Further environment variables of the agent, as names and paths.
    pub env: Vec<(&'static str, PathBuf)>,
}

/// A running agent process. Killed when dropped.
pub struct Process {
    child: Child,
    data: String,
}

impl Launch {
    /// Returns the settings of an agent with the data directory `data`. It admits the agents launched at the same desk
    /// with `replica-a.pem` or `replica-b.pem`.
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

    /// Returns the settings of an agent that uses the key in its data directory, or creates one. It admits the replicas
    /// listed in the file `admitted`.
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

    /// Returns the settings of an agent that uses the key in its data directory and admits the members of its gossip.
    pub fn admitting_members(data: &str) -> Self {
        Self { admitted: None, ..Self::with_its_own_key(data, "") }
    }

    /// Uses the same address for sessions at every start. Also returns the address.
    pub fn at_a_fixed_address(mut self) -> (Self, String) {
        let free =
            UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
        self.sync = free.to_string();
        (self, free.to_string())
    }

    /// Makes the agent ready only after its first comparison with a peer, if it has peers.
    pub fn ready_when_compared(mut self) -> Self {
        self.ready_alone = false;
        self
    }

    /// Enables gossip at this IP address.
    pub fn gossiping_at(self, ip: std::net::Ipv4Addr) -> Self {
        self.syncing_at(ip).with(&["--bind", &ip.to_string()])
    }

    /// Listens for sessions at this IP address.
    pub fn syncing_at(mut self, ip: std::net::Ipv4Addr) -> Self {
        self.sync = format!("{ip}:0");
        self
    }

    /// Adds arguments of `kvgossip agent`.
    pub fn with(mut self, args: &[&str]) -> Self {
        self.extra.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Adds the running agent with the data directory `data` as a peer.
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

    /// Runs an agent that should refuse to start, and returns its output.
    pub fn refused(&self, desk: &Desk) -> Ran {
        desk.run(&self.args())
    }

    /// Starts the agent without waiting until it answers. Its log goes to `DATA.log`.
    pub fn spawn(&self, desk: &Desk) -> Process {
        let log = File::options().create(true).append(true).open(desk.path(format!("{}.log", self.data)));
        let mut command = desk.command(&self.args());
        command.envs(self.env.iter().map(|(name, value)| (*name, value)));
        command.stdout(Stdio::null()).stderr(log.expect("a log file"));
        Process { child: command.spawn().expect("an agent"), data: self.data.clone() }
    }

    /// Starts the agent and waits until it answers.
    pub fn start(&self, desk: &Desk) -> Process {
        let process = self.spawn(desk);
        // `status` exits with 1 if the agent is unwell, which is an answer, too.
        let answers = until(|| ask(desk, &self.data, &["status"]), |ran| ran.code <= 1);
        assert!(answers.code <= 1, "{answers:?}");
        process
    }
}

impl Process {
    /// Runs a command that talks to the agent.
    pub fn ask(&self, desk: &Desk, args: &[&str]) -> Ran {
        ask(desk, &self.data, args)
    }

    /// Returns the process id of the agent.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the agent by the signal's name, such as `STOP`.
    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Asks the agent to stop, and waits for its end.
    pub fn stop(self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Waits until the agent ends by itself.
    pub fn wait(mut self) -> ExitStatus {
        wait_until("the agent ends", || self.child.try_wait().expect("a child"))
    }

    /// Kills the agent at once.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child of ours");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // For a test that failed; no effect if the process has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a child process by the signal's name, such as `STOP`.
pub fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-s", name, &pid]).status().expect("kill").success());
}

/// Runs a command that talks to the agent with the data directory `data`.
pub fn ask(desk: &Desk, data: &str, args: &[&str]) -> Ran {
    desk.run(&[args, &["--data-dir", data]].concat())
}

/// Returns the status of the agent with the data directory `data`.
pub fn status(desk: &Desk, data: &str) -> serde_json::Value {
    ask(desk, data, &["status", "--output", "json"]).json().remove(0)
}
