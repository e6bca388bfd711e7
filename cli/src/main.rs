//! kvgossip: a signed, gossiped key/value tree for configuration.

mod args;
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
mod offer;
mod output;
mod progress;
mod sign;
mod snapshot;
mod survey;
mod text;
mod time;
mod walk;
mod writer;

use std::process::ExitCode;

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
