//! Tests: every command has examples that the grammar accepts, exit codes, and the variables that its options name.

use super::*;
use crate::args;
use crate::layers;
use std::collections::BTreeSet;

/// Returns every command with the words after the program's name; empty for the program itself.
fn commands() -> Vec<(String, Command)> {
    let mut top = args::grammar();
    top.build();
    let mut found = Vec::new();
    let mut open = vec![(String::new(), top)];
    while let Some((name, command)) = open.pop() {
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            open.push((format!("{name} {}", below.get_name()).trim_start().to_owned(), below.clone()));
        }
        found.push((name, command));
    }
    found
}

/// Splits a command line into words. Quotation marks keep blanks in a word; what follows a shell operator is left out.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().expect("at least one word").push(c),
        }
    }
    let is_of_shell = |word: &String| ["|", "<", ">"].contains(&word.as_str());
    let end = words.iter().position(is_of_shell).unwrap_or(words.len());
    words.truncate(end);
    words
}

#[test]
fn every_command_has_examples_that_are_taken() {
    for (name, _) in commands() {
        let page = pages::find(&name).unwrap_or_else(|| panic!("{name:?} has no page"));
        assert!(!page.examples.is_empty(), "{name:?} has no example");
        for (what, line) in page.examples {
            assert!(what.ends_with(['.', '?']), "{what}");
            let own = line.split(" | ").find(|part| part.starts_with("kvgossip")).expect(line);
            assert!(own.starts_with(&format!("kvgossip {name}")), "{name:?}: {line}");
            let taken = args::grammar().try_get_matches_from(words(own));
            let is_help = taken.as_ref().is_err_and(|error| !error.use_stderr());
            assert!(taken.is_ok() || is_help, "{line}: {}", taken.unwrap_err());
        }
    }
}

#[test]
fn every_page_is_of_a_command() {
    let names: BTreeSet<String> = commands().into_iter().map(|(name, _)| name).collect();
    let paged: Vec<&str> = pages::all().map(|page| page.name).collect();
    assert_eq!(paged.len(), names.len());
    assert!(paged.iter().all(|name| names.contains(*name)), "{paged:?}");
}

#[test]
fn every_command_has_its_exit_codes() {
    for (name, command) in commands() {
        let manual = Manual::of(&name, &command);
        let exits: Vec<u8> = manual.exits.iter().map(|(exit, _)| *exit).collect();
        assert!(exits.starts_with(&[0, 1, 2]) && exits.is_sorted(), "{name:?}: {exits:?}");
        // `watch` waits for an agent.
        let asks = name != "watch" && command.get_arguments().any(|arg| arg.get_long() == Some("agent"));
        assert!(!asks || [4, 5, 7].iter().all(|exit| exits.contains(exit)), "{name:?}: {exits:?}");
    }
}

#[test]
fn every_command_names_the_variables_that_it_reads() {
    for (name, command) in commands() {
        let named: BTreeSet<String> =
            Manual::of(&name, &command).variables.into_iter().map(|(name, _)| name).collect();
        let has = |variable: &str| named.contains(variable);
        let of_agent = ["KVGOSSIP_AGENT", "KVGOSSIP_DATA_DIR", "KVGOSSIP_TOKEN_FILE", "KVGOSSIP_CA"];
        if has_option(&command, "agent") {
            assert!(of_agent.iter().all(|variable| has(variable)), "{name:?}: {named:?}");
            assert!(has("SSL_CERT_FILE") && has("KVGOSSIP_CLIENT_KEY"), "{name:?}: {named:?}");
        }
        assert!(!has_option(&command, "identity") || has("KVGOSSIP_IDENTITY"), "{name:?}: {named:?}");
        if name == "agent" {
            assert!(
                ["KVGOSSIP_CONFIG", "KVGOSSIP_LOG", "KVGOSSIP_HTTP"].iter().all(|variable| has(variable))
            );
            let settable: Vec<String> =
                layers::settable(&command).map(|(name, _)| layers::variable(name)).collect();
            let known = |variable: &String| settable.contains(variable) || variable.ends_with("CONFIG");
            assert!(named.iter().all(known), "{named:?}");
        }
    }
}

#[test]
fn help_and_manual_page_have_all_three() {
    for (name, mut command) in commands() {
        let help = command.render_long_help().to_string();
        let page = Manual::of(&name, &command).roff();
        for (heading, section) in [
            ("Examples:", ".SH EXAMPLES\n"),
            ("Exit codes:", ".SH EXIT STATUS\n"),
            ("Environment:", ".SH ENVIRONMENT\n"),
        ] {
            let is_needed = heading != "Environment:" || !Manual::of(&name, &command).variables.is_empty();
            assert_eq!(help.contains(heading), is_needed, "{name:?}: {heading}");
            assert_eq!(page.contains(section), is_needed, "{name:?}: {section}");
        }
    }
}

#[test]
fn text_does_not_become_a_request_of_roff() {
    assert_eq!(roff(".x --y \\"), "\\&.x \\-\\-y \\e");
}
