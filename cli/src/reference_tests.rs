//! Tests that `docs/cli.md` is complete: the reference of commands and options is rendered from the grammar.

use super::*;
use crate::layers;
use crate::manual::Manual;
use clap::{Arg, Command as Grammar};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::{env, fs};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md");
/// Marker line: the text after it is rendered, the text before it is written by hand.
const BEGIN: &str =
    "<!-- From here on rendered from the command line's grammar: UPDATE_DOCS=1 cargo test -p kvgossip -->\n";
/// Number of commands from which on a shared option is described once.
const MANY: usize = 3;
/// Commands whose answers are not for programs; their `--output json` needs no description.
const NO_JSON: [&str; 5] = ["agent", "demo", "render", "completions", "man"];

/// Returns all commands that do something, with their full names, in the order of the help.
fn commands() -> Vec<(String, Grammar)> {
    fn below(name: &str, grammar: &Grammar, found: &mut Vec<(String, Grammar)>) {
        for command in grammar.get_subcommands().filter(|command| command.get_name() != "help") {
            let name = format!("{name}{}", command.get_name());
            if command.has_subcommands() {
                below(&format!("{name} "), command, found);
            } else {
                found.push((name, command.clone()));
            }
        }
    }
    let mut top = Cli::command();
    top.build();
    let mut found = Vec::new();
    below("", &top, &mut found);
    found
}

fn options(grammar: &Grammar) -> impl Iterator<Item = &Arg> {
    let own = |arg: &&Arg| !arg.is_global_set() && !["help", "version"].contains(&arg.get_id().as_str());
    grammar.get_arguments().filter(own).filter(|arg| !arg.is_hide_set())
}

/// Returns `--long VALUE`, or the name of a positional argument.
fn spelled(arg: &Arg) -> String {
    let names: Vec<String> = arg
        .get_value_names()
        .map(|names| names.iter().map(ToString::to_string).collect())
        .unwrap_or_else(|| vec![arg.get_id().as_str().to_ascii_uppercase()]);
    let value = if arg.get_action().takes_values() { names.join(" ") } else { String::new() };
    let short = arg.get_short().map(|short| format!("-{short}"));
    let names: Vec<String> =
        short.into_iter().chain(arg.get_long().map(|long| format!("--{long}"))).collect();
    if names.is_empty() && arg.is_last_set() {
        return format!("-- {value}");
    }
    format!("{} {value}", names.join(", ")).trim().to_owned()
}

fn told(arg: &Arg) -> String {
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let mut text = help;
    if arg.get_action().takes_values() {
        let possible: Vec<_> = arg.get_possible_values();
        let shown: Vec<&str> =
            possible.iter().filter(|value| !value.is_hide_set()).map(|value| value.get_name()).collect();
        if !shown.is_empty() {
            let _ = write!(text, " (`{}`)", shown.join("`, `"));
        }
        let default = arg.get_default_values();
        if !default.is_empty() {
            let default: Vec<_> = default.iter().map(|value| value.to_string_lossy()).collect();
            let _ = write!(text, " [default: {}]", default.join(" "));
        }
    }
    text
}

/// Formats a text for a table cell. Text in backquotes is already code.
fn cell(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    let parts = text.split('`').enumerate().map(|(number, part)| match number % 2 {
        0 => part.replace('*', "\\*").replace('<', "\\<"),
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("`")
}

/// Formats a help text as paragraphs.
fn prose(text: &str) -> String {
    text.split("\n\n").map(cell).collect::<Vec<_>>().join("\n\n").replace("\\|", "|")
}

fn row(text: &mut String, arg: &Arg) {
    let _ = writeln!(text, "| `{}` | {} |", spelled(arg).replace('|', "\\|"), cell(&told(arg)));
}

/// Returns what distinguishes an option from others of the same name.
fn identity(arg: &Arg) -> (String, String) {
    (spelled(arg), told(arg))
}

/// Returns the options shared by many commands, by heading.
fn common(commands: &[(String, Grammar)]) -> Vec<(String, Vec<Arg>)> {
    let mut counts: BTreeMap<_, usize> = BTreeMap::new();
    for arg in commands.iter().flat_map(|(_, grammar)| options(grammar)) {
        *counts.entry(identity(arg)).or_default() += 1;
    }
    let mut groups: Vec<(String, Vec<Arg>)> = Vec::new();
    for arg in commands.iter().flat_map(|(_, grammar)| options(grammar)) {
        let Some(heading) = arg.get_help_heading().filter(|_| counts[&identity(arg)] >= MANY) else {
            continue;
        };
        let place = groups.iter().position(|(name, _)| name == heading).unwrap_or_else(|| {
            groups.push((heading.to_owned(), Vec::new()));
            groups.len() - 1
        });
        if !groups[place].1.iter().any(|other| identity(other) == identity(arg)) {
            groups[place].1.push(arg.clone());
        }
    }
    groups
}

fn table(text: &mut String, args: &[&Arg]) {
    if !args.is_empty() {
        text.push_str("\n| | |\n|---|---|\n");
        args.iter().for_each(|arg| row(text, arg));
    }
}

fn section(text: &mut String, name: &str, mut grammar: Grammar, common: &[(String, Vec<Arg>)]) {
    let about = grammar.get_long_about().or(grammar.get_about()).map(ToString::to_string).unwrap_or_default();
    let usage = grammar.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").trim_end();
    let _ = write!(text, "\n### {name}\n\n{}\n\n    {usage}\n", prose(&about));
    let is_common = |arg: &Arg| {
        common
            .iter()
            .find(|(_, args)| args.iter().any(|other| identity(other) == identity(arg)))
            .map(|(heading, _)| heading)
    };
    let own: Vec<&Arg> = options(&grammar).filter(|arg| is_common(arg).is_none()).collect();
    table(text, &own);
    let shared: Vec<&str> = common
        .iter()
        .filter(|(heading, _)| options(&grammar).any(|arg| is_common(arg) == Some(heading)))
        .map(|(heading, _)| heading.as_str())
        .collect();
    if !shared.is_empty() {
        let links = shared.iter().map(|heading| {
            let name = heading.to_lowercase();
            format!("[{name} options](#{}-options)", name.replace(' ', "-"))
        });
        let _ = writeln!(text, "\nAnd the {}.", links.collect::<Vec<_>>().join(" and "));
    }
    text.push_str(&Manual::of(name, &grammar).markdown());
}

fn rendered() -> String {
    let commands = commands();
    let common = common(&commands);
    let mut text = String::from(BEGIN);
    text.push_str("\n## Options of many commands\n\n### Everywhere\n\n| | |\n|---|---|\n");
    let top = Cli::command();
    top.get_arguments().filter(|arg| arg.is_global_set()).for_each(|arg| row(&mut text, arg));
    for (heading, args) in &common {
        let _ = writeln!(text, "\n### {heading} options");
        table(&mut text, &args.iter().collect::<Vec<_>>());
    }
    text.push_str("\n## Commands\n");
    for (name, grammar) in commands {
        section(&mut text, &name, grammar, &common);
    }
    text
}

fn page() -> (String, String) {
    let page = fs::read_to_string(PAGE).expect("a page of the repository");
    let (head, tail) = page.split_once(BEGIN).expect("the line that says where the rendered part begins");
    (head.to_owned(), format!("{BEGIN}{tail}"))
}

/// `UPDATE_DOCS=1 cargo test -p kvgossip` renders the reference again.
#[test]
fn the_reference_is_what_the_grammar_says() {
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(PAGE, page().0 + &rendered()).expect("a file of the repository");
    }
    assert!(
        page().1 == rendered(),
        "docs/cli.md is not what the grammar says; run `UPDATE_DOCS=1 cargo test -p kvgossip`"
    );
}

#[test]
fn the_json_of_every_command_is_described() {
    let (head, _) = page();
    for (name, _) in commands() {
        let said = head.contains(&format!("`{name}`")) || NO_JSON.contains(&name.as_str());
        assert!(said, "docs/cli.md does not say what `{name} --output json` prints");
    }
}

#[test]
fn every_variable_that_the_help_names_is_read() {
    let variables = |text: &str| -> Vec<String> {
        let word = |c: char| c.is_ascii_uppercase() || c == '_';
        text.split(|c| !word(c)).filter(|name| name.starts_with("KVGOSSIP_")).map(str::to_owned).collect()
    };
    let of_agent: Vec<String> = {
        let commands = commands();
        let (_, agent) = commands.iter().find(|(name, _)| name == "agent").expect("a command");
        layers::settable(agent).map(|(name, _)| layers::variable(name)).collect()
    };
    let mut sources = String::new();
    for file in ["connect.rs", "sign.rs", "layers.rs", "commands/agent.rs", "commands/watch_command.rs"] {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/").to_owned() + file;
        sources += &fs::read_to_string(path).expect(file);
    }
    for name in variables(&rendered()) {
        let is_read = of_agent.contains(&name) || sources.contains(&format!("\"{name}\""));
        assert!(is_read, "{name} is named in a help text, and nothing reads it");
    }
}
