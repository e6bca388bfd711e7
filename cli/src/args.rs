//! The command line's grammar.

use crate::commands::adopt::AdoptArgs;
use crate::commands::agent::AgentArgs;
use crate::commands::diff::DiffArgs;
use crate::commands::entry::{DelArgs, GetArgs, LsArgs, SetArgs};
use crate::commands::export::ExportArgs;
use crate::commands::fsck::FsckArgs;
use crate::commands::gossip_admin::{ForceLeaveArgs, GossipKeyArgs, TagsArgs};
use crate::commands::grant::GrantArgs;
use crate::commands::import::ImportArgs;
use crate::commands::inspect::{DigestArgs, ExplainArgs, RefusalsArgs, StatusArgs};
use crate::commands::key::KeygenArgs;
use crate::commands::members::{EventArgs, JoinArgs, LeaveArgs, MembersArgs, QueryArgs};
use crate::commands::render::RenderArgs;
use crate::commands::revoke::FloorArgs;
use crate::commands::shell::{CompletionsArgs, ManArgs};
use crate::commands::sync::SyncArgs;
use crate::commands::verify::VerifyArgs;
use crate::commands::watch::WatchArgs;
use crate::demo::DemoArgs;
use crate::error::{Exit, Failure, Result};
use crate::layers;
use crate::manual;
use crate::output::Format;
use crate::usage::usage;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::OsString;
use std::io::Write;
use std::process;

/// Display order of a global option: after the options of the command itself.
const LAST: usize = 900;

/// A signed, gossiped key/value tree for configuration.
#[derive(Debug, Parser)]
#[command(
    name = "kvgossip",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    /// Format of answers and errors.
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value = "text", display_order = LAST)]
    pub(crate) output: Format,

    /// Command to run.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// One verb each.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(DemoArgs),
    Keygen(KeygenArgs),
    Agent(Box<AgentArgs>),
    Get(GetArgs),
    Set(SetArgs),
    Del(DelArgs),
    Ls(LsArgs),
    Watch(WatchArgs),
    Render(RenderArgs),
    Grant(GrantArgs),
    Explain(ExplainArgs),
    Floor(FloorArgs),
    Adopt(AdoptArgs),
    Status(StatusArgs),
    Digest(DigestArgs),
    Diff(DiffArgs),
    Sync(SyncArgs),
    Refusals(RefusalsArgs),
    Members(MembersArgs),
    Join(JoinArgs),
    Leave(LeaveArgs),
    ForceLeave(ForceLeaveArgs),
    GossipKey(GossipKeyArgs),
    Tags(TagsArgs),
    Event(EventArgs),
    Query(QueryArgs),
    Export(ExportArgs),
    Import(ImportArgs),
    Verify(VerifyArgs),
    Fsck(FsckArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// The whole grammar. The long help of every command has its manual sections.
pub(crate) fn grammar() -> clap::Command {
    manual::attach(Cli::command())
}

fn read(args: &[OsString]) -> clap::error::Result<Cli> {
    let mut grammar = grammar();
    let matches = grammar.try_get_matches_from_mut(args)?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut grammar))
}

/// Parses the process's arguments. Prints help and version itself.
pub(crate) fn parse() -> Result<Cli> {
    let args: Vec<OsString> = std::env::args_os().collect();
    let format = format_of(args.iter().skip(1).cloned());
    let refuse = |error: clap::Error| {
        if !error.use_stderr() {
            let printed = error.print().and_then(|()| std::io::stdout().flush());
            match printed {
                Ok(()) => process::exit(Exit::Ok as i32),
                Err(error) => return Failure::output(&error).in_format(format),
            }
        }
        usage(&error).in_format(format)
    };
    let cli = read(&args).map_err(refuse)?;
    if !matches!(cli.command, Command::Agent(_)) {
        return Ok(cli);
    }
    let args = with_settings(args).map_err(|failure| failure.in_format(format))?;
    read(&args).map_err(refuse)
}

/// Adds the settings from the environment and the configuration file to the arguments of `kvgossip agent`.
fn with_settings(mut args: Vec<OsString>) -> Result<Vec<OsString>> {
    let mut grammar = Cli::command();
    grammar.build();
    let Some(command) = grammar.find_subcommand("agent") else { return Ok(args) };
    let place = args.iter().position(|arg| arg == "agent").map_or(args.len(), |place| place + 1);
    let own = args.split_off(place);
    args.extend(layers::complete(command, &own)?);
    Ok(args)
}

/// Returns the output format that a command line with an error elsewhere asks for.
fn format_of(args: impl Iterator<Item = std::ffi::OsString>) -> Format {
    let args: Vec<_> = args.take_while(|arg| arg != "--").collect();
    let joined = args.iter().any(|arg| arg == "--output=json");
    let apart = args.windows(2).any(|pair| pair[0] == "--output" && pair[1] == "json");
    if joined || apart { Format::Json } else { Format::Text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_format_is_found_on_a_broken_line() {
        let of = |line: &str| format_of(line.split(' ').map(Into::into));
        assert_eq!(of("get --output json"), Format::Json);
        assert_eq!(of("--output=json get"), Format::Json);
        assert_eq!(of("get -- --output json"), Format::Text);
        assert_eq!(of("--output"), Format::Text);
    }
}

#[cfg(test)]
#[path = "reference_tests.rs"]
mod reference;
