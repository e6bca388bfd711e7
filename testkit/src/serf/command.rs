//! Serf's command line as a client of an agent's RPC.

use crate::desk::{Desk, Ran, ran};
use crate::process::{Launch, Process};
use crate::wait::wait_until;
use serde_json::Value;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The RPC of an agent, of Serf's or of this project's.
pub struct Rpc {
    /// Address of the RPC, as for `-rpc-addr`.
    pub address: String,
}

impl Rpc {
    /// Returns a `serf` command for the agent, ready to run.
    pub fn command(&self, command: &str, args: &[&str]) -> Command {
        let mut serf = Command::new("serf");
        serf.args([command, "-rpc-addr", &self.address]).args(args);
        serf.stdin(Stdio::null()).env_remove("SERF_RPC_AUTH").env_remove("SERF_RPC_ADDR");
        serf
    }

    /// Runs a `serf` command for the agent. Serf writes errors to standard output, too.
    pub fn serf(&self, command: &str, args: &[&str]) -> Ran {
        ran(self.command(command, args).output().expect("the program `serf` must be on the PATH"))
    }

    /// Returns the members that the agent lists, each as `name status`.
    pub fn members(&self, args: &[&str]) -> Vec<String> {
        let listed = self.serf("members", &[&["-format=json"], args].concat()).exits(0);
        let json: Value = serde_json::from_str(listed.text()).expect("JSON");
        let rows = json["members"].as_array().cloned().unwrap_or_default();
        let text = |row: &Value, name: &str| row[name].as_str().expect("a text").to_owned();
        rows.iter().map(|row| format!("{} {}", text(row, "name"), text(row, "status"))).collect()
    }

    /// Waits until the agent lists a member, given as `name status`.
    #[track_caller]
    pub fn sees(&self, member: &str) {
        wait_until(member, || self.members(&[]).iter().any(|found| found == member));
    }
}

/// An agent of this project whose RPC Serf's tools can use.
pub struct Asked {
    /// Process of the agent.
    pub process: Process,
    /// RPC of the agent.
    pub rpc: Rpc,
}

impl Asked {
    /// Starts an agent with this name, in the data directory of the same name, with further arguments.
    pub fn start(desk: &Desk, name: &str, key: &str, more: &[&str]) -> Self {
        let launch = Launch::new(desk, name, key).with(&["--bind", "127.0.0.1:0", "--name", name]);
        let process = launch.with(&["--rpc", "127.0.0.1:0"]).with(more).start(desk);
        Self { process, rpc: Rpc { address: place(desk, name) } }
    }
}

impl std::ops::Deref for Asked {
    type Target = Rpc;

    fn deref(&self) -> &Rpc {
        &self.rpc
    }
}

/// Returns the RPC address that the agent in the directory `data` has logged. Waits until it has.
pub fn place(desk: &Desk, data: &str) -> String {
    let said = || {
        let log = desk.read(&format!("{data}.log"));
        log.rsplit_once("Serf's RPC on ").and_then(|(_, rest)| Some(rest.split_once('\n')?.0.to_owned()))
    };
    wait_until("the agent says where it serves RPC", said)
}

/// A running `serf monitor` that writes to a file.
pub struct Monitor {
    child: Child,
    path: PathBuf,
}

impl Monitor {
    /// Starts the monitor with this file of the desk as its output. It may not be connected yet on return.
    pub fn start(desk: &Desk, rpc: &Rpc, name: &str, level: &str) -> Self {
        let path = desk.path(name);
        let file = File::create(&path).expect("a file");
        let child = rpc.command("monitor", &["-log-level", level]).stdout(file).spawn().expect("serf");
        Self { child, path }
    }

    /// Returns what the monitor has written so far.
    pub fn text(&self) -> String {
        std::fs::read_to_string(&self.path).unwrap_or_default()
    }

    /// Waits until the output of the monitor contains a text.
    #[track_caller]
    pub fn shows(&self, text: &str) {
        wait_until(text, || self.text().contains(text));
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
