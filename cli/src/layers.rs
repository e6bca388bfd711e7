//! The sources of the settings of `kvgossip agent`: options first, then the environment, then a file.
//!
//! The options are the only definition: `--http` is KVGOSSIP_HTTP in the environment and `http` in the file. Settings
//! that are not given as options are appended to the command line.

mod serf;

use crate::codes;
use crate::error::{Failure, Result};
use crate::files;
use crate::output;
use crate::usage::usage;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Maximum size of a settings file, in bytes.
const MAX_FILE_BYTES: usize = 1 << 20;
/// Options that select the sources themselves and cannot be set in a file.
const OUTSIDE: [&str; 3] = ["config", "dev", "serf-config"];
/// Options that `--dev` sets, whatever the environment has.
const DEV_MAKES: [&str; 3] = ["data-dir", "identity", "root"];

/// Setting of an option, from the environment or a file.
#[derive(Debug)]
struct Setting {
    name: String,
    values: Vec<String>,
    /// Description of where the setting is from, for messages.
    from: String,
}

/// Appends the settings of the environment and the file to the arguments of `command`. `args` starts after the
/// command's name.
pub(crate) fn complete(command: &Command, args: &[OsString]) -> Result<Vec<OsString>> {
    let parsed = parse(command, args).map_err(|error| usage(&error))?;
    let is_dev = parsed.get_flag("dev");
    let is_open = |name: &str| {
        let dev = is_dev && DEV_MAKES.contains(&name);
        !dev && find(command, name).is_some_and(|arg| !is_given(&parsed, arg))
    };
    let mut settings = environment(command)?;
    settings.retain(|setting| is_open(&setting.name));
    let by_flag: Option<PathBuf> = parsed.get_one("config").cloned();
    if let Some(path) = by_flag.or_else(|| files::from_env("KVGOSSIP_CONFIG")) {
        for setting in read_file(command, &path)? {
            let is_set = settings.iter().any(|other| other.name == setting.name);
            if !is_set && is_open(&setting.name) {
                settings.push(setting);
            }
        }
    }
    let mut of_serf: Vec<PathBuf> = parsed.get_many("serf_config").unwrap_or_default().cloned().collect();
    if of_serf.is_empty() {
        of_serf.extend(files::from_env("KVGOSSIP_SERF_CONFIG"));
    }
    if !of_serf.is_empty() {
        let read = serf::read(&of_serf)?;
        // Overridden values are checked as well, so that a mistake shows before it matters.
        for setting in read.settings.iter().chain(&read.idle) {
            checked(command, setting)?;
        }
        for ignored in &read.ignored {
            output::say(&format!("warning: {ignored}"));
        }
        for setting in read.settings {
            let is_set = settings.iter().any(|other| other.name == setting.name);
            if !is_set && is_open(&setting.name) {
                settings.push(setting);
            }
        }
    }
    let mut complete = args.to_vec();
    for setting in settings {
        complete.extend(checked(command, &setting)?);
    }
    Ok(complete)
}

/// Converts a setting to arguments and parses them alone, so that an error names the setting.
fn checked(command: &Command, setting: &Setting) -> Result<Vec<OsString>> {
    let added = arguments(command, setting)?;
    parse(command, &added).map_err(|error| usage(&error).note(format!("  (from {})", setting.from)))?;
    Ok(added)
}

fn parse(command: &Command, args: &[OsString]) -> Result<ArgMatches, clap::Error> {
    let name = OsString::from(command.get_name());
    command.clone().try_get_matches_from(std::iter::once(name).chain(args.iter().cloned()))
}

fn is_given(parsed: &ArgMatches, arg: &Arg) -> bool {
    parsed.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine)
}

/// Returns the options that the environment or a file can set.
pub(crate) fn settable(command: &Command) -> impl Iterator<Item = (&str, &Arg)> {
    let named = command.get_arguments().filter_map(|arg| Some((arg.get_long()?, arg)));
    named
        .filter(|(_, arg)| !arg.is_global_set())
        .filter(|(name, _)| !OUTSIDE.contains(name) && *name != "help" && *name != "version")
}

fn find<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    settable(command).find(|(own, _)| *own == name).map(|(_, arg)| arg)
}

/// Returns the environment variable of an option.
pub(crate) fn variable(name: &str) -> String {
    match name {
        "log-level" => "KVGOSSIP_LOG".to_owned(),
        _ => format!("KVGOSSIP_{}", name.replace('-', "_").to_ascii_uppercase()),
    }
}

/// Reads the settings of the environment; an empty variable counts as unset. Several values are separated by commas.
fn environment(command: &Command) -> Result<Vec<Setting>> {
    let mut settings = Vec::new();
    for (name, arg) in settable(command) {
        let variable = variable(name);
        let Some(value) = env::var_os(&variable).filter(|value| !value.is_empty()) else { continue };
        let value = value.into_string().map_err(|_| {
            Failure::new(codes::CONFIG_MALFORMED, format!("{variable} in the environment is not UTF-8"))
        })?;
        let values = match arg.get_action() {
            ArgAction::Append => value.split(',').map(|part| part.trim().to_owned()).collect(),
            _ => vec![value],
        };
        settings.push(Setting {
            name: name.to_owned(),
            values,
            from: format!("{variable} in the environment"),
        });
    }
    Ok(settings)
}

fn read_file(command: &Command, path: &Path) -> Result<Vec<Setting>> {
    let fault =
        |what: String| Failure::new(codes::CONFIG_MALFORMED, format!("{}: {what}", files::name(path)));
    let bytes = files::read(path, MAX_FILE_BYTES)?.ok_or_else(|| fault("it has more than 1 MiB".into()))?;
    let text = String::from_utf8(bytes).map_err(|_| fault("it is not UTF-8".into()))?;
    let place =
        |at: usize| format!("line {}", text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1);
    let table = DeTable::parse(&text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        fault(format!("{}: {}", place(at), error.message()))
    })?;
    let mut settings = Vec::new();
    for (key, value) in table.get_ref().iter() {
        let (name, line) = (key.get_ref().replace('_', "-"), place(key.span().start));
        if find(command, &name).is_none() {
            return Err(fault(format!(
                "{line}: {:?} is no setting{}",
                key.get_ref(),
                nearest(command, &name)
            ))
            .note("settings are the long options of `kvgossip help agent`, without the dashes in front"));
        }
        let values = texts(value).ok_or_else(|| {
            fault(format!("{line}: {name} takes a string, a number, true or false, or a list of them"))
        })?;
        settings.push(Setting { name, values, from: format!("{} {line}", files::name(path)) });
    }
    Ok(settings)
}

/// Returns a hint at a setting with a similar name.
fn nearest(command: &Command, name: &str) -> String {
    let alike = |own: &str| {
        let shared = own.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
        (shared >= 3).then_some((shared, own.to_owned()))
    };
    let best = settable(command).filter_map(|(own, _)| alike(own)).max();
    best.map_or(String::new(), |(_, own)| format!("; is {own:?} meant?"))
}

/// Returns the text of a value, or of each value of a list; `None` for other types.
fn texts(value: &Spanned<DeValue<'_>>) -> Option<Vec<String>> {
    match value.get_ref() {
        DeValue::Array(values) => {
            let inner =
                values.iter().map(|value| if value.get_ref().is_array() { None } else { texts(value) });
            Some(inner.collect::<Option<Vec<_>>>()?.concat())
        }
        DeValue::String(text) => Some(vec![text.to_string()]),
        DeValue::Integer(number) => Some(vec![number.to_string()]),
        DeValue::Boolean(yes) => Some(vec![yes.to_string()]),
        _ => None,
    }
}

/// Converts a setting to command-line arguments.
fn arguments(command: &Command, setting: &Setting) -> Result<Vec<OsString>> {
    let Setting { name, values, from } = setting;
    let fault = |what: &str| Failure::new(codes::CONFIG_MALFORMED, format!("{from}: {name} takes {what}"));
    let Some(arg) = find(command, name) else { return Ok(Vec::new()) };
    match (arg.get_action(), values.as_slice()) {
        (ArgAction::SetTrue, [value]) => match value.as_str() {
            "true" | "1" => Ok(vec![format!("--{name}").into()]),
            "false" | "0" => Ok(Vec::new()),
            _ => Err(fault("true or false")),
        },
        (ArgAction::SetTrue, _) => Err(fault("true or false")),
        (ArgAction::Append, values) => {
            Ok(values.iter().map(|value| format!("--{name}={value}").into()).collect())
        }
        (_, [value]) => Ok(vec![format!("--{name}={value}").into()]),
        _ => Err(fault("one value")),
    }
}

#[cfg(test)]
#[path = "layers_tests.rs"]
mod tests;
