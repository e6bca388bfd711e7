//! The commands, one file per group.

pub(crate) mod adopt;
pub(crate) mod agent;
mod agent_access;
pub(crate) mod agent_files;
mod agent_forgetting;
mod agent_gossip;
mod agent_log;
mod agent_serf;
mod agent_timings;
pub(crate) mod diff;
pub(crate) mod entry;
mod expiring;
pub(crate) mod export;
pub(crate) mod fsck;
pub(crate) mod gossip_admin;
pub(crate) mod grant;
pub(crate) mod import;
mod import_dir;
pub(crate) mod inspect;
pub(crate) mod key;
pub(crate) mod members;
mod rehearse;
pub(crate) mod render;
pub(crate) mod revoke;
pub(crate) mod shell;
pub(crate) mod sync;
mod template;
pub(crate) mod verify;
pub(crate) mod watch;
mod watch_command;

use crate::args::{Cli, Command};
use crate::demo;
use crate::error::{Exit, Result};

/// Runs one command.
pub(crate) fn run(cli: Cli) -> Result<Exit> {
    let format = cli.output;
    match cli.command {
        Command::Demo(args) => demo::demo(&args),
        Command::Keygen(args) => key::keygen(&args, format),
        Command::Agent(args) => agent::agent(&args),
        Command::Get(args) => entry::get(&args, format),
        Command::Set(args) => entry::set(&args, format),
        Command::Del(args) => entry::del(&args, format),
        Command::Ls(args) => entry::ls(&args, format),
        Command::Watch(args) => watch::watch(&args, format),
        Command::Render(args) => render::render(&args),
        Command::Grant(args) => grant::grant(&args, format),
        Command::Explain(args) => inspect::explain(&args, format),
        Command::Adopt(args) => adopt::adopt(&args, format),
        Command::Floor(args) => revoke::floor(&args, format),
        Command::Status(args) => inspect::status(&args, format),
        Command::Digest(args) => inspect::digest(&args, format),
        Command::Diff(args) => diff::diff(&args, format),
        Command::Sync(args) => sync::sync(&args, format),
        Command::Members(args) => members::members(&args, format),
        Command::Join(args) => members::join(&args, format),
        Command::Leave(args) => members::leave(&args, format),
        Command::ForceLeave(args) => gossip_admin::force_leave(&args, format),
        Command::GossipKey(args) => gossip_admin::gossip_key(&args, format),
        Command::Tags(args) => gossip_admin::tags(&args, format),
        Command::Event(args) => members::event(&args, format),
        Command::Query(args) => members::query(&args, format),
        Command::Refusals(args) => inspect::refusals(&args, format),
        Command::Export(args) => export::export(&args, format),
        Command::Import(args) => import::import(&args, format),
        Command::Fsck(args) => fsck::fsck(&args, format),
        Command::Completions(args) => shell::completions(&args),
        Command::Man(args) => shell::man(&args),
        Command::Verify(args) => verify::verify(&args, format),
    }
}
