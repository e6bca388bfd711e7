//! kvgossip: a signed, gossiped key/value tree for configuration.

mod answer;
mod args;
mod beneath;
mod clocks;
mod codes;
mod commands;
mod connect;
mod demo;
mod dev;
mod entity;
mod error;
mod factfile;
mod facts;
mod files;
mod format;
mod ids;
mod keys;
mod layers;
mod live_report;
mod manual;
mod monitor;
mod offer;
mod output;
mod progress;
mod room;
mod sign;
mod snapshot;
mod survey;
mod text;
mod time;
mod usage;
mod walk;
mod writer;

use args::{Cli, Command};
use clap::CommandFactory;
use commands::{
    adopt, agent, diff, entry, export, fsck, gossip_admin, grant, import, inspect, key, members, render,
    revoke, shell, sync, verify, watch,
};
use error::{Exit, Result};
use std::process::ExitCode;

/// The allocator. Facts are allocated by one thread and freed by another, thousands at a time; the system's allocator
/// takes a sixth of a replica's time for that (`docs/decisions/0011-jemalloc.md`).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let outcome = args::parse().and_then(|cli| {
        let format = cli.output;
        run(cli).map_err(|failure| failure.in_format(format))
    });
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(),
    }
}

/// Runs one command.
fn run(cli: Cli) -> Result<Exit> {
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
        Command::Completions(args) => shell::completions(&args, Cli::command()),
        Command::Man(args) => shell::man(&args, Cli::command()),
        Command::Verify(args) => verify::verify(&args, format),
    }
}
