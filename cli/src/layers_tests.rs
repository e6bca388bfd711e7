//! Tests: each option has its key and its variable; precedence; errors of a wrong file.

use super::*;
use crate::commands::agent::AgentArgs;
use clap::{Args, FromArgMatches};

fn command() -> Command {
    AgentArgs::augment_args(Command::new("agent"))
}

fn shown(args: &[OsString]) -> String {
    let parsed = parse(&command(), args).expect("good arguments");
    format!("{:?}", AgentArgs::from_arg_matches(&parsed).expect("good values"))
}

/// Returns a value that the option accepts and that is not its default.
fn sample(arg: &Arg, name: &str) -> Option<String> {
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return None;
    }
    let possible = arg.get_possible_values();
    if let Some(last) = possible.last() {
        return Some(last.get_name().to_owned());
    }
    let candidates =
        ["127.0.0.1/8", "127.0.0.1:1", "a=b", "7", "debug", "d/x", "AAAAAAAAAAAAAAAAAAAAAA==", "5s", "1GiB"];
    let fits = |value: &&str| parse(&command(), &[format!("--{name}={value}").into()]).is_ok();
    let found = candidates.into_iter().find(fits);
    Some(found.unwrap_or_else(|| panic!("add a value that --{name} takes")).to_owned())
}

fn with_file(text: &str, args: &[&str]) -> Result<Vec<OsString>> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("agent.toml");
    std::fs::write(&path, text).expect("written");
    let mut all: Vec<OsString> = args.iter().map(Into::into).collect();
    all.extend(["--config".into(), path.clone().into()]);
    let mut complete = complete(&command(), &all)?;
    // Settings from the file follow the given arguments.
    complete.drain(args.len()..args.len() + 2);
    Ok(complete)
}

#[test]
fn every_option_has_a_key_in_the_file() {
    let command = command();
    let mut count = 0;
    for (name, arg) in settable(&command) {
        let (flag, line) = match sample(arg, name) {
            None => (format!("--{name}"), format!("{name} = true")),
            Some(value) => (format!("--{name}={value}"), format!("{name} = {value:?}")),
        };
        let by_flag = shown(&[flag.into()]);
        assert_ne!(by_flag, shown(&[]), "{name}: the option changes something");
        assert_eq!(shown(&with_file(&line, &[]).expect(name)), by_flag, "{name}");
        count += 1;
    }
    assert!(count >= 15, "{count}");
}

#[test]
fn lists_numbers_and_underscores_are_read() {
    let args =
        with_file("peer = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\nopen_read = false\n", &[]).expect("a file");
    assert_eq!(args, ["--peer=127.0.0.1:1", "--peer=127.0.0.1:2"]);
}

#[test]
fn an_option_counts_before_the_file() {
    let args = with_file("http = \"127.0.0.1:1\"\nsync = \"127.0.0.1:2\"", &["--http", "127.0.0.1:3"])
        .expect("a file");
    assert_eq!(args, ["--http", "127.0.0.1:3", "--sync=127.0.0.1:2"]);
}

#[test]
fn wrong_files_are_told_with_their_line() {
    for (text, code, message) in [
        ("a = ", codes::CONFIG_MALFORMED, "line 1: "),
        ("\nhtp = 1", codes::CONFIG_MALFORMED, "line 2: \"htp\" is no setting"),
        ("replica = 1", codes::CONFIG_MALFORMED, "is \"replica-key\" meant?"),
        ("config = \"x\"", codes::CONFIG_MALFORMED, "line 1: \"config\" is no setting"),
        ("[http]\na = 1", codes::CONFIG_MALFORMED, "line 1: http takes a string"),
        ("open-read = 3", codes::CONFIG_MALFORMED, "line 1: open-read takes true or false"),
        ("http = [\"a\", \"b\"]", codes::CONFIG_MALFORMED, "line 1: http takes one value"),
        ("http = \"nowhere\"", codes::USAGE, "invalid value 'nowhere'"),
    ] {
        let failure = with_file(text, &[]).expect_err(text);
        assert_eq!(failure.code(), code, "{text}: {}", failure.message());
        assert!(failure.message().contains(message), "{text}: {}", failure.message());
    }
}

#[test]
fn variables_are_named_after_their_options() {
    assert_eq!(variable("tls-cert"), "KVGOSSIP_TLS_CERT");
    assert_eq!(variable("log-level"), "KVGOSSIP_LOG");
}

/// Values are checked whether they apply or not: without members to join, and where an option overrides them.
#[test]
fn what_a_file_of_serf_holds_is_tried_also_where_it_does_not_count() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("serf.json");
    for (text, args, named) in [
        (r#"{"retry_interval": "1ms"}"#, &[][..], "1s to 1h are allowed"),
        (r#"{"retry_max_attempts": -1}"#, &[], "--retry-max"),
        (r#"{"reconnect_timeout": "soon"}"#, &["--reconnect-timeout", "5m"], "not a duration"),
        (r#"{"log_level": "LOUD"}"#, &["--log-level", "info"], "\"loud\" is no level"),
    ] {
        std::fs::write(&path, text).expect("written");
        let mut all: Vec<OsString> = args.iter().map(Into::into).collect();
        all.extend(["--serf-config".into(), path.clone().into()]);
        let failure = complete(&command(), &all).expect_err(text);
        let told = format!("{failure:?}");
        let key = text.split('"').nth(1).unwrap_or_default();
        assert!(told.contains(&format!("{key} in ")) && failure.message().contains(named), "{text}: {told}");
    }
    std::fs::write(&path, r#"{"log_level": "ERR"}"#).expect("written");
    let both = ["--serf-config".into(), path.clone().into(), "--serf-config".into(), path.into()];
    let complete = complete(&command(), &both).expect("several files");
    assert!(complete.contains(&"--log-level=error".into()), "{complete:?}");
}
