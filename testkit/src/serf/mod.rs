//! Serf agents as child processes, each on its own loopback address.

#[cfg(feature = "program")]
pub mod command;
pub mod rpc;

use crate::wait::eventually;
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    net::{Ipv4Addr, SocketAddr},
    os::unix::ffi::{OsStrExt, OsStringExt},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU8, Ordering},
};

use tempfile::TempDir;

/// Gossip port of every agent.
pub const GOSSIP_PORT: u16 = 7946;
const RPC_PORT: u16 = 7373;
/// Prefix of the argument that gives the RPC key, for `serf agent` and for other `serf` commands.
const RPC_KEY: &str = "-rpc-auth=";

/// Returns a loopback address that no other test uses: the process id in the middle, a counter at the end.
pub fn fresh_ip() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let pid = std::process::id();
    let last = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(last < 255, "more agents than addresses");
    Ipv4Addr::new(127, 64 + (pid >> 8 & 0x7f) as u8, pid as u8, last)
}

/// Whether an argument is the RPC key.
fn is_key(arg: &OsStr) -> bool {
    arg.as_bytes().starts_with(RPC_KEY.as_bytes())
}

/// A `serf agent`; killed when dropped.
pub struct Agent {
    /// Name of the agent as a member.
    pub name: String,
    /// Gossip address of the agent.
    pub addr: SocketAddr,
    rpc: String,
    node: OsString,
    args: Vec<OsString>,
    child: Child,
    /// Working directory; its file `log` is the agent's log.
    pub dir: TempDir,
}

impl Agent {
    /// Starts an agent and waits until it answers.
    pub async fn start(name: &str, args: &[&str]) -> Self {
        Self::start_at(name, SocketAddr::from((fresh_ip(), GOSSIP_PORT)), args).await
    }

    /// Starts an agent at this gossip address.
    pub async fn start_at(name: &str, addr: SocketAddr, args: &[&str]) -> Self {
        let args: Vec<_> = args.iter().map(|arg| arg.as_bytes()).collect();
        Self::start_raw(name.as_bytes(), addr, &args).await
    }

    /// Like [`Agent::start_at`], with arguments of any bytes.
    pub async fn start_raw(name: &[u8], addr: SocketAddr, args: &[&[u8]]) -> Self {
        let rpc = format!("{}:{RPC_PORT}", fresh_ip());
        let args = args.iter().map(|arg| OsString::from_vec(arg.to_vec())).collect();
        Self::launch(OsString::from_vec(name.to_vec()), addr, rpc, args).await
    }

    async fn launch(node: OsString, addr: SocketAddr, rpc: String, args: Vec<OsString>) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let log = std::fs::File::create(dir.path().join("log")).expect("a log file");
        // Serf's agent reads its RPC key only from a file.
        let key = args.iter().find_map(|arg| arg.to_str()?.strip_prefix(RPC_KEY));
        let config = key.map(|key| {
            let path = dir.path().join("config.json");
            std::fs::write(&path, format!("{{\"rpc_auth\": \"{key}\"}}")).expect("a file");
            format!("-config-file={}", path.display())
        });
        let child = Command::new("serf")
            .args(["agent", "-log-level=debug"])
            .arg(OsStr::from_bytes(&[b"-node=", node.as_bytes()].concat()))
            .args([format!("-bind={addr}"), format!("-rpc-addr={rpc}")])
            .args(args.iter().filter(|arg| !is_key(arg)))
            .args(config)
            .current_dir(dir.path())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("the program `serf` must be on the PATH: install Debian's package `serf`, or a release");
        let name = node.to_string_lossy().into_owned();
        let agent = Self { name, addr, rpc, node, args, child, dir };
        eventually("the agent answers", async || agent.try_serf("info", &[]).await).await;
        agent
    }

    /// Kills the agent, like a crash, and starts it again at the same addresses with the same arguments.
    pub async fn restart(mut self) -> Self {
        self.kill();
        Self::launch(self.node.clone(), self.addr, self.rpc.clone(), self.args.clone()).await
    }

    /// Returns the process id of the agent.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the agent has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    /// Returns the address of the agent's RPC.
    pub fn rpc(&self) -> &str {
        &self.rpc
    }

    /// Returns the agent's log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Kills the agent with SIGKILL.
    pub fn kill(&mut self) {
        // The agent may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal to the agent by the signal's name, such as `STOP`.
    pub fn signal(&self, signal: &str) {
        let pid = self.id().to_string();
        let status = Command::new("kill").args(["-s", signal, &pid]).status().expect("`kill` runs");
        assert!(status.success());
    }

    /// Runs a `serf` command for the agent; it must succeed.
    pub async fn serf(&self, command: &str, args: &[&str]) -> String {
        let output = self.output(command, args).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "serf {command} {args:?}: {text}{:?}", output.stderr);
        text
    }

    /// Like [`Agent::serf`]; `None` if the command fails.
    pub async fn try_serf(&self, command: &str, args: &[&str]) -> Option<String> {
        let output = self.output(command, args).await;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a `serf` command whose arguments and output may be any bytes.
    pub async fn serf_raw(&self, command: &str, args: &[&[u8]]) -> Vec<u8> {
        let args: Vec<_> = args.iter().map(|arg| OsStr::from_bytes(arg)).collect();
        let output = self.output(command, &args).await;
        assert!(output.status.success(), "serf {command} {args:?}: {output:?}");
        output.stdout
    }

    async fn output(&self, command: &str, args: &[impl AsRef<OsStr>]) -> std::process::Output {
        let rpc = format!("-rpc-addr={}", self.rpc);
        let mut process = tokio::process::Command::new("serf");
        let key = self.args.iter().filter(|arg| is_key(arg));
        process.arg(command).arg(rpc).args(key).args(args).kill_on_drop(true);
        process.output().await.expect("the program `serf` must be on the PATH")
    }

    /// Returns all members as the agent lists them: name to status and tags.
    pub async fn members(&self) -> BTreeMap<String, (String, String)> {
        let text = self.serf("members", &[]).await;
        let member = |line: &str| {
            let mut words = line.split_whitespace();
            let name = words.next()?.to_owned();
            let (_addr, status) = (words.next()?, words.next()?.to_owned());
            Some((name, (status, words.collect())))
        };
        text.lines().filter_map(member).collect()
    }

    /// Waits until the agent lists a member with this status.
    pub async fn sees(&self, name: &str, status: &str) {
        let what = format!("{} sees {name} as {status}", self.name);
        eventually(&what, async || {
            let members = self.members().await;
            members.get(name).is_some_and(|(actual, _)| actual == status)
        })
        .await;
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- log of {} ---\n{}", self.name, self.log());
        }
    }
}
