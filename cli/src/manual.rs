//! Examples, exit codes and environment variables of each command, for its help, its manual page and `docs/cli.md`.
//!
//! Examples and the meaning of exit codes are in [`pages`]. Variables are taken from the help of the options, so that
//! they are documented once.

mod pages;
#[cfg(test)]
mod tests;

use crate::error::Exit;
use clap::Command;
use pages::Page;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Exit codes that every command can return.
const ALWAYS: [(Exit, &str); 3] = [
    (Exit::Ok, "done"),
    (Exit::Error, "any other error, whose message ends with a stable code in brackets"),
    (Exit::Usage, "the command line is wrong"),
];
/// Exit codes of commands that talk to an agent.
const OF_AGENT: [(Exit, &str); 3] = [
    (Exit::NotAuthorised, "the agent asks for a token or a certificate"),
    (Exit::Unreachable, "no agent answers"),
    (Exit::TimedOut, "the agent does not answer in time, or is not ready"),
];
/// Exit codes of commands that sign facts.
const OF_SIGNING: [(Exit, &str); 2] = [
    (Exit::NotAuthorised, "no live grant allows it, or the agent asks for a token or a certificate"),
    (Exit::Integrity, "the agent belongs to another cluster than --root or --cluster names"),
];
/// Meaning of the variables that locate the system's certificate authorities.
const OF_AUTHORITIES: &str = "the system's certificate authorities, where --ca is not given";

/// Manual sections of one command.
#[derive(Debug)]
pub(crate) struct Manual {
    /// Description and command line of each example.
    examples: &'static [(&'static str, &'static str)],
    exits: Vec<(u8, &'static str)>,
    variables: Vec<(String, String)>,
}

/// Adds these sections to the long help of every command.
pub(crate) fn attach(grammar: Command) -> Command {
    attach_below(grammar, "")
}

fn attach_below(mut command: Command, name: &str) -> Command {
    let below: Vec<String> = command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
    for own in below {
        let whole = format!("{name} {own}").trim_start().to_owned();
        command = command.mut_subcommand(own, |below| attach_below(below, &whole));
    }
    let text = Manual::of(name, &command).text();
    command.after_long_help(text)
}

/// Length of an example's line, in columns, from which it goes on in a next one: help on a terminal breaks lines at 100.
const MAX_EXAMPLE_COLUMNS: usize = 90;

/// Breaks a command line before options, so that it can be copied into a shell.
fn folded(line: &str) -> String {
    let (mut text, mut column) = (String::new(), 0);
    for (number, part) in line.split(" --").enumerate() {
        let part = if number == 0 { part.to_owned() } else { format!(" --{part}") };
        if column > 0 && column + part.len() > MAX_EXAMPLE_COLUMNS {
            text.push_str(" \\\n     ");
            column = 5;
        }
        column += part.len();
        text.push_str(&part);
    }
    text
}

impl Manual {
    /// Returns the sections of a command; `name`: the words after the program's name, such as `grant new`.
    pub(crate) fn of(name: &str, command: &Command) -> Self {
        let page = pages::find(name).unwrap_or(&pages::NONE);
        Self { examples: page.examples, exits: exits(page, command), variables: variables(page, command) }
    }

    /// Formats the sections for the help on a terminal.
    fn text(&self) -> String {
        let mut text = String::from("Examples:\n");
        for (what, line) in self.examples {
            let _ = writeln!(text, "  # {what}\n  {}", folded(line));
        }
        text.push_str("\nExit codes:\n");
        for (exit, meaning) in &self.exits {
            let _ = writeln!(text, "  {exit}  {meaning}");
        }
        if !self.variables.is_empty() {
            text.push_str("\nEnvironment:\n");
            let width = self.variables.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
            for (name, meaning) in &self.variables {
                let _ = writeln!(text, "  {name:width$}  {meaning}");
            }
        }
        text.trim_end().to_owned()
    }

    /// Formats the sections for a manual page, in roff.
    pub(crate) fn roff(&self) -> String {
        let mut text = String::from(".SH EXAMPLES\n");
        for (what, line) in self.examples {
            let _ = writeln!(text, ".PP\n{}\n.RS 4\n.nf\n{}\n.fi\n.RE", roff(what), roff(line));
        }
        text.push_str(".SH EXIT STATUS\n");
        for (exit, meaning) in &self.exits {
            let _ = writeln!(text, ".TP\n\\fB{exit}\\fR\n{}", roff(meaning));
        }
        if !self.variables.is_empty() {
            text.push_str(".SH ENVIRONMENT\n");
            for (name, meaning) in &self.variables {
                let _ = writeln!(text, ".TP\n\\fB{}\\fR\n{}", roff(name), roff(meaning));
            }
        }
        text
    }

    /// Formats the sections for `docs/cli.md`.
    #[cfg(test)]
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from("\nExamples:\n\n");
        for (what, line) in self.examples {
            let _ = writeln!(text, "    # {what}\n    {line}");
        }
        let exits: Vec<_> =
            self.exits.iter().map(|(exit, meaning)| format!("**{exit}** {meaning}")).collect();
        let _ = writeln!(text, "\nExit codes: {}.", exits.join("; "));
        if !self.variables.is_empty() {
            let names: Vec<_> = self.variables.iter().map(|(name, _)| format!("`{name}`")).collect();
            let _ = writeln!(text, "\nEnvironment: {}.", names.join(", "));
        }
        text
    }
}

/// Escapes a line of text for roff: it contains no requests, and its hyphens can be copied.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

fn exits(page: &Page, command: &Command) -> Vec<(u8, &'static str)> {
    let mut exits: BTreeMap<u8, &'static str> = BTreeMap::new();
    let mut add = |more: &[(Exit, &'static str)]| {
        exits.extend(more.iter().map(|(exit, meaning)| (*exit as u8, *meaning)));
    };
    add(&ALWAYS);
    // `watch` waits for an agent.
    if has_option(command, "agent") && page.name != "watch" {
        add(&OF_AGENT);
    }
    if has_option(command, "identity") && has_option(command, "cluster") {
        add(&OF_SIGNING);
    }
    add(page.exits);
    exits.into_iter().collect()
}

fn has_option(command: &Command, long: &str) -> bool {
    command.get_arguments().any(|arg| arg.get_long() == Some(long))
}

/// Returns the variables in the help of the options, followed by those of the page.
fn variables(page: &Page, command: &Command) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
        let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
        let Some((name, long)) = variable_of(&help).zip(arg.get_long()) else { continue };
        variables.push((name, format!("used where --{long} is not given")));
    }
    if has_option(command, "ca") {
        let names = ["SSL_CERT_FILE", "SSL_CERT_DIR"];
        variables.extend(names.map(|name| (name.to_owned(), OF_AUTHORITIES.to_owned())));
    }
    variables.extend(page.variables.iter().map(|(name, what)| ((*name).to_owned(), (*what).to_owned())));
    variables
}

/// Returns the variable in `[env: NAME…]`, if a help text contains that.
fn variable_of(help: &str) -> Option<String> {
    let (_, behind) = help.split_once("[env:")?;
    let is_part = |c: char| c.is_ascii_uppercase() || c == '_';
    Some(behind.trim_start().chars().take_while(|c| is_part(*c)).collect())
}
