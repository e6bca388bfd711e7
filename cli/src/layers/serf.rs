//! Serf's configuration files as settings: JSON, one file or all `*.json` of a directory, as `serf agent -config-file` and
//! `-config-dir` take them.

use super::Setting;
use crate::codes;
use crate::error::{Failure, Result};
use crate::files;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The largest file, in bytes.
const MAX_FILE_BYTES: usize = 1 << 20;
/// Most files of a directory.
const MAX_FILES: usize = 1000;

/// What a Serf agent with these files would be told, as far as it has a meaning here.
#[derive(Debug, Default)]
pub(super) struct SerfSettings {
    pub(super) settings: Vec<Setting>,
    /// What has no meaning here, and why.
    pub(super) ignored: Vec<String>,
}

/// What becomes of a key.
enum Meaning {
    /// One value; the option's name.
    One(&'static str),
    /// A list; the option's name.
    List(&'static str),
    /// Nothing.
    Ignored(&'static str),
    /// It would change what others may do, so it is not passed over.
    Refused(&'static str),
}

use Meaning::{Ignored, List, One, Refused};

/// Every key of Serf 0.10.2 but `tags` and `role` (Serf's `cmd/serf/command/agent/config.go`).
const KEYS: &[(&str, Meaning)] = &[
    ("node_name", One("name")),
    ("tags_file", One("tags-file")),
    ("bind", One("bind")),
    ("advertise", One("advertise")),
    ("encrypt_key", One("encrypt")),
    ("keyring_file", One("keyring")),
    ("log_level", One("log-level")),
    ("rpc_addr", One("rpc")),
    ("profile", One("profile")),
    ("snapshot_path", One("snapshot")),
    ("replay_on_join", One("replay")),
    ("leave_on_terminate", One("leave-on-terminate")),
    ("skip_leave_on_interrupt", One("skip-leave-on-interrupt")),
    ("rejoin_after_leave", One("rejoin")),
    ("start_join", List("join")),
    ("retry_join", List("join")),
    ("event_handlers", List("event-handler")),
    ("rpc_auth", Refused("write the key into a file, and give that with --rpc-auth-file")),
    ("protocol", Ignored("the newest is spoken")),
    ("interface", One("iface")),
    ("discover", One("discover")),
    ("mdns", Ignored("multicast goes through interface, or the address of bind, with IPv4 and IPv6")),
    ("retry_max_attempts", One("retry-max")),
    ("retry_interval", One("retry-interval")),
    ("validate_node_names", Ignored("names are checked by whoever has them")),
    ("msgpack_use_new_time_format", Ignored("both formats are understood")),
    ("disable_coordinates", Ignored("places in the network are always estimated")),
    ("disable_name_resolution", Ignored("whoever had a name first keeps it")),
    ("enable_compression", Ignored("what is sent is compressed where that helps")),
    ("reconnect_interval", One("reconnect-interval")),
    ("reconnect_timeout", One("reconnect-timeout")),
    ("tombstone_timeout", One("tombstone-timeout")),
    ("broadcast_timeout", One("broadcast-timeout")),
    ("user_event_size_limit", One("user-event-size-limit")),
    ("query_size_limit", One("query-size-limit")),
    ("query_response_size_limit", One("query-response-size-limit")),
    ("enable_syslog", Ignored("the log goes to standard error")),
    ("syslog_facility", Ignored("the log goes to standard error")),
    ("statsite_addr", Ignored("scrape /metrics")),
    ("statsd_addr", Ignored("scrape /metrics")),
];

/// Reads a file, or all `*.json` of a directory in the order of their names: of a key that stands in several the last counts,
/// lists are put together.
pub(super) fn read(path: &Path) -> Result<SerfSettings> {
    let mut all = SerfSettings::default();
    for file in list(path)? {
        let fault =
            |what: String| Failure::new(codes::CONFIG_MALFORMED, format!("{}: {what}", files::name(&file)));
        let bytes =
            files::read(&file, MAX_FILE_BYTES)?.ok_or_else(|| fault("it has more than 1 MiB".into()))?;
        let parsed: Value = serde_json::from_slice(&bytes).map_err(|error| fault(error.to_string()))?;
        let Value::Object(keys) = parsed else { return Err(fault("it is no JSON object".into())) };
        for (key, value) in &keys {
            all.add(key, value, &file).map_err(|what| fault(format!("{key}: {what}")))?;
        }
    }
    all.finish();
    Ok(all)
}

fn list(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable = |error| files::unreadable(path, &error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        if file.extension().is_some_and(|extension| extension == "json") {
            files.push(file);
        }
        if files.len() > MAX_FILES {
            let message = format!("{} holds more than {MAX_FILES} files", crate::files::name(path));
            return Err(Failure::new(codes::CONFIG_MALFORMED, message));
        }
    }
    files.sort();
    Ok(files)
}

/// Whether a value is what Serf takes for none.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Array(values) => values.is_empty(),
        Value::Object(keys) => keys.is_empty(),
        Value::Bool(true) => false,
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    }
}

impl SerfSettings {
    fn add(&mut self, key: &str, value: &Value, file: &Path) -> Result<(), String> {
        if key == "tags" {
            let tags = value.as_object().ok_or("it takes an object of texts")?;
            for (name, value) in tags {
                let value = value.as_str().ok_or("it takes an object of texts")?;
                self.put("tag", vec![format!("{name}={value}")], false, key, file);
            }
            return Ok(());
        }
        if key == "role" {
            let role = value.as_str().ok_or("it takes a text")?;
            self.put("tag", vec![format!("role={role}")], false, key, file);
            return Ok(());
        }
        let known = KEYS.iter().find(|(name, _)| *name == key);
        let (_, meaning) = known.ok_or("Serf knows no such key")?;
        if is_empty(value) {
            return Ok(());
        }
        match meaning {
            One(option) => {
                let value = text(value).ok_or("it takes one value")?;
                let value = if *option == "log-level" { log_level(&value) } else { value };
                self.put(option, vec![value], true, key, file);
            }
            List(option) => {
                let values = value.as_array().ok_or("it takes a list of texts")?;
                let values =
                    values.iter().map(|value| value.as_str().map(str::to_owned)).collect::<Option<_>>();
                self.put(option, values.ok_or("it takes a list of texts")?, false, key, file);
            }
            Ignored(why) => {
                self.ignored.push(format!("{}: {key} has no meaning here: {why}", files::name(file)))
            }
            Refused(what) => return Err(format!("it is not taken from a file that others may read: {what}")),
        }
        Ok(())
    }

    fn put(&mut self, option: &str, values: Vec<String>, replaces: bool, key: &str, file: &Path) {
        match self.settings.iter_mut().find(|setting| setting.name == option) {
            Some(setting) if replaces => setting.values = values,
            Some(setting) => setting.values.extend(values),
            None => {
                let from = format!("{key} in {}", files::name(file));
                self.settings.push(Setting { name: option.to_owned(), values, from });
            }
        }
    }

    /// What goes without saying for a Serf agent.
    fn finish(&mut self) {
        let has = |name: &str| self.settings.iter().any(|setting| setting.name == name);
        let (is_bound, has_both) = (has("bind"), has("keyring") && has("encrypt"));
        let has_targets = has("join");
        if !is_bound {
            let from = "Serf's default".to_owned();
            self.settings.push(Setting { name: "bind".to_owned(), values: vec!["0.0.0.0".to_owned()], from });
        }
        if has_both {
            self.settings.retain(|setting| setting.name != "encrypt");
            self.ignored.push("encrypt_key has no meaning beside keyring_file".to_owned());
        }
        if !has_targets {
            let is_idle =
                |setting: &Setting| ["retry-interval", "retry-max"].contains(&setting.name.as_str());
            let (idle, kept): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.settings).into_iter().partition(is_idle);
            self.settings = kept;
            let told = |setting: Setting| format!("{} has no meaning without retry_join", setting.from);
            self.ignored.extend(idle.into_iter().map(told));
        }
    }
}

/// Serf's levels are in capitals, and one has a name of its own.
fn log_level(level: &str) -> String {
    match level.to_ascii_lowercase() {
        level if level == "err" => "error".to_owned(),
        level => level,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<SerfSettings> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("serf.json");
        std::fs::write(&path, text).expect("written");
        read(&path)
    }

    fn of<'a>(read: &'a SerfSettings, name: &str) -> Vec<&'a str> {
        let settings = read.settings.iter().filter(|setting| setting.name == name);
        settings.flat_map(|setting| setting.values.iter().map(String::as_str)).collect()
    }

    #[test]
    fn what_serf_s_documentation_shows_is_understood() {
        let read = read_text(
            r#"{
              "tags": {"role": "load-balancer", "datacenter": "east"},
              "event_handlers": ["handle.sh", "member-join=join.sh"],
              "start_join": ["10.0.0.1", "b.example:7000"], "retry_join": ["c"],
              "bind": "10.0.0.9", "encrypt_key": "k", "log_level": "ERR", "replay_on_join": true,
              "discover": "", "enable_syslog": true, "retry_max_attempts": 0, "retry_interval": "15s",
              "reconnect_timeout": "48h", "user_event_size_limit": 2048, "interface": "lo"
            }"#,
        );
        let read = read.expect("understood");
        assert_eq!(of(&read, "tag"), ["datacenter=east", "role=load-balancer"]);
        assert_eq!(of(&read, "event-handler"), ["handle.sh", "member-join=join.sh"]);
        let mut join = of(&read, "join");
        join.sort_unstable();
        assert_eq!(join, ["10.0.0.1", "b.example:7000", "c"]);
        assert_eq!((of(&read, "bind"), of(&read, "log-level")), (vec!["10.0.0.9"], vec!["error"]));
        assert_eq!(of(&read, "replay"), ["true"]);
        let ignored = read.ignored.join("\n");
        assert_eq!((of(&read, "reconnect-timeout"), of(&read, "retry-interval")), (vec!["48h"], vec!["15s"]));
        assert_eq!((of(&read, "user-event-size-limit"), of(&read, "iface")), (vec!["2048"], vec!["lo"]));
        assert!(ignored.contains("enable_syslog"), "{ignored}");
        assert!(
            !ignored.contains("discover") && !ignored.contains("retry"),
            "defaults are nothing: {ignored}"
        );
    }

    /// Serf's agents take it, too, and do nothing with it.
    #[test]
    fn a_limit_of_joining_without_anybody_to_join_is_named() {
        let read = read_text(r#"{"retry_interval": "15s", "retry_max_attempts": 3, "node_name": "a"}"#);
        let read = read.expect("understood");
        assert_eq!((of(&read, "retry-interval").len(), of(&read, "retry-max").len()), (0, 0));
        assert_eq!((of(&read, "name"), read.ignored.len()), (vec!["a"], 2));
        let read = read_text(r#"{"retry_join": ["b"], "retry_max_attempts": 3}"#).expect("understood");
        assert_eq!((of(&read, "retry-max"), read.ignored.len()), (vec!["3"], 0));
    }

    #[test]
    fn files_of_a_directory_are_put_together_in_order() {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("written");
        write("20.json", r#"{"node_name": "b", "start_join": ["y"]}"#);
        write(
            "10.json",
            r#"{"node_name": "a", "start_join": ["x"], "keyring_file": "ring", "encrypt_key": "k"}"#,
        );
        write("note.txt", "no JSON");
        let read = read(dir.path()).expect("understood");
        assert_eq!((of(&read, "name"), of(&read, "join")), (vec!["b"], vec!["x", "y"]));
        assert_eq!(of(&read, "bind"), ["0.0.0.0"], "Serf's default");
        assert_eq!((of(&read, "keyring"), of(&read, "encrypt")), (vec!["ring"], vec![]));
        write("30.json", r#"{"bind": "::"}"#);
        let read = super::read(dir.path()).expect("understood");
        assert_eq!(of(&read, "bind"), ["::"]);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, named) in [
            ("{", "EOF"),
            ("[]", "no JSON object"),
            (r#"{"node_nam": "a"}"#, "node_nam"),
            (r#"{"start_join": "a"}"#, "start_join"),
            (r#"{"tags": {"a": 1}}"#, "tags"),
            (r#"{"bind": {}, "node_name": ["a"]}"#, "node_name"),
            (r#"{"rpc_auth": "secret"}"#, "--rpc-auth-file"),
        ] {
            let refused = read_text(text).expect_err(text);
            let told = format!("{refused:?}");
            assert!(told.contains(named) && !told.contains("secret"), "{text}: {told}");
        }
    }
}
