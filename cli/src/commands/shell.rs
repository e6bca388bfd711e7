//! `completions` and `man`: shell completions and manual pages, rendered from the command line's grammar.

use crate::error::{Exit, Failure, Result};
use crate::files;
use crate::manual::Manual;
use crate::output;
use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use std::fs;
use std::path::PathBuf;

const PROGRAM: &str = "kvgossip";

/// Print the completions for a shell.
///
/// For bash: `kvgossip completions bash > ~/.local/share/bash-completion/completions/kvgossip`. For other shells see
/// the shell's manual.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

/// Print the manual page, or write one for every command.
///
/// With DIR there is a page for kvgossip, kvgossip-get, kvgossip-grant-new and so on; existing pages are replaced.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Directory for the pages, such as /usr/local/share/man/man1; made if it does not exist.
    dir: Option<PathBuf>,
}

/// Runs `completions`.
pub(crate) fn completions(args: &CompletionsArgs, mut grammar: Command) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut grammar, PROGRAM, &mut script);
    output::raw(&script)?;
    Ok(Exit::Ok)
}

/// Runs `man`.
pub(crate) fn man(args: &ManArgs, grammar: Command) -> Result<Exit> {
    let pages = pages(grammar)?;
    let Some(dir) = &args.dir else {
        if let Some((_, page)) = pages.first() {
            output::raw(page)?;
        }
        return Ok(Exit::Ok);
    };
    fs::create_dir_all(dir).map_err(|error| files::unwritable(dir, &error))?;
    for (name, page) in pages {
        let path = dir.join(name);
        fs::write(&path, page).map_err(|error| files::unwritable(&path, &error))?;
    }
    Ok(Exit::Ok)
}

/// Returns the file name and text of every manual page, the program's first.
fn pages(mut top: Command) -> Result<Vec<(String, Vec<u8>)>> {
    top.build();
    let mut pages = Vec::new();
    let mut open = vec![(String::new(), top)];
    while let Some((name, command)) = open.pop() {
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            open.push((format!("{name} {}", below.get_name()).trim_start().to_owned(), below.clone()));
        }
        let title = format!("{PROGRAM} {name}").trim_end().replace(' ', "-");
        pages.push((format!("{title}.1"), page(title, &name, command)?));
    }
    pages.sort_unstable_by(|(one, _), (other, _)| {
        one.trim_end_matches(".1").cmp(other.trim_end_matches(".1"))
    });
    Ok(pages)
}

/// Renders the manual page of the command that is called `name` behind the program's name.
fn page(title: String, name: &str, command: Command) -> Result<Vec<u8>> {
    let sections = Manual::of(name, &command).roff();
    let man = Man::new(command.display_name(title.clone()))
        .title(title)
        .source(format!("{PROGRAM} {}", env!("CARGO_PKG_VERSION")))
        .manual("kvgossip manual");
    let mut text = Vec::new();
    man.render(&mut text)
        .map_err(|error| Failure::new(crate::codes::INTERNAL, format!("no manual page: {error}")))?;
    text.extend_from_slice(sections.as_bytes());
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;
    use clap::{CommandFactory, ValueEnum};

    /// Returns every command with its full name.
    fn commands() -> Vec<(String, Command)> {
        let mut top = Cli::command();
        top.build();
        let mut found = Vec::new();
        let mut open = vec![(PROGRAM.to_owned(), top)];
        while let Some((name, command)) = open.pop() {
            for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
                open.push((format!("{name} {}", below.get_name()), below.clone()));
            }
            found.push((name, command));
        }
        found
    }

    #[test]
    fn every_command_and_every_option_has_a_help_text_that_is_one() {
        for (name, command) in commands() {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(about.chars().count() > 8 && !about.ends_with('.'), "{name}: {about:?}");
            assert!(
                about.chars().count() <= 90,
                "{name}: the first sentence is too long for a list: {about:?}"
            );
            for option in command.get_arguments().filter(|option| !option.is_hide_set()) {
                let help = option.get_help().map(ToString::to_string).unwrap_or_default();
                let id = option.get_id();
                assert!(help.chars().count() > 5, "{name} {id}: {help:?}");
            }
        }
    }

    #[test]
    fn every_shell_completes_every_command_and_option() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), PROGRAM, &mut script);
            let script = String::from_utf8(script).unwrap();
            for (name, command) in commands() {
                let last = name.rsplit(' ').next().unwrap_or_default();
                assert!(script.contains(last), "{shell} does not know {name}");
                for long in command.get_arguments().filter_map(clap::Arg::get_long) {
                    assert!(script.contains(long), "{shell}: {name} --{long}");
                }
            }
        }
    }

    #[test]
    fn every_command_has_a_page_with_all_its_options() {
        let pages = pages(Cli::command()).unwrap();
        assert_eq!(pages[0].0, "kvgossip.1");
        assert_eq!(pages.len(), commands().len());
        for (name, command) in commands() {
            let file = format!("{}.1", name.replace(' ', "-"));
            let page = pages.iter().find(|(other, _)| *other == file).map(|(_, page)| page);
            let page = String::from_utf8(page.unwrap_or_else(|| panic!("{file}")).clone()).unwrap();
            let plain = page.replace("\\-", "-");
            assert!(plain.contains(".SH EXAMPLES\n.PP\n"), "{file}: {plain}");
            assert!(plain.contains(".SH EXIT STATUS\n.TP\n\\fB0\\fR\n"), "{file}: {plain}");
            assert!(plain.starts_with(".ie") && plain.contains(".SH NAME"), "{file}: {plain}");
            for long in command.get_arguments().filter_map(clap::Arg::get_long) {
                assert!(plain.contains(&format!("--{long}")), "{file} --{long}");
            }
        }
    }
}
