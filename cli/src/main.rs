//! kvgossip: a signed, gossiped key/value tree for configuration.

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
mod ids;
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
mod walk;
mod writer;

use std::process::ExitCode;

/// Facts are allocated by one thread and freed by another, thousands of them at a time; the system's allocator takes a
/// sixth of a replica's time for that (`docs/decisions/0011-jemalloc.md`).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let outcome = args::parse().and_then(|cli| {
        let format = cli.output;
        commands::run(cli).map_err(|failure| failure.in_format(format))
    });
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(),
    }
}
