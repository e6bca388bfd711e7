//! Serf's configuration files as settings: JSON, from a file or all `*.json` of a directory, as with `serf agent
//! -config-file` and `-config-dir`.

use super::Setting;
use crate::codes;
use crate::error::{Failure, Result};
use crate::files;
use crate::output::printable;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Maximum size of one of Serf's configuration files, in bytes.
const MAX_FILE_BYTES: usize = 1 << 20;
/// Maximum number of configuration files read from a directory.
const MAX_FILES: usize = 1000;
/// Maximum number of characters shown of an unacceptable value.
const MAX_SHOWN: usize = 60;

/// The settings of a Serf agent's files, by their meaning here.
#[derive(Debug, Default)]
pub(super) struct SerfSettings {
    pub(super) settings: Vec<Setting>,
    /// Settings that would apply only if another setting was unset, or was set, too.
    pub(super) idle: Vec<Setting>,
    /// Keys without a meaning here, with the reasons.
    pub(super) ignored: Vec<String>,
}

/// Type that Serf requires of a key's value. As in Serf, values are not converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    /// A text that messages never show.
    Secret,
    Switch,
    Number,
    Texts,
    /// A JSON object whose values are texts.
    TextMap,
    Object,
}

/// What a key of Serf's configuration means for this program.
enum Meaning {
    /// One value of the option with this name.
    One(&'static str),
    /// A list of values of the option with this name.
    List(&'static str),
    /// The value of the tag `role`.
    Role,
    /// The object `tags`: each field is a `--tag`.
    Tags,
    /// No meaning here; the text explains it in a warning.
    Ignored(&'static str),
    /// Rejected, because ignoring it would change what others may do.
    Refused(&'static str),
}

use Kind::{Number, Object, Secret, Switch, Text, TextMap, Texts};
use Meaning::{Ignored, List, One, Refused, Role, Tags};

/// All keys of Serf 0.10.2 (Serf's `cmd/serf/command/agent/config.go`).
const KEYS: &[(&str, Kind, Meaning)] = &[
    ("role", Text, Role),
    ("tags", TextMap, Tags),
    ("node_name", Text, One("name")),
    ("tags_file", Text, One("tags-file")),
    ("bind", Text, One("bind")),
    ("advertise", Text, One("advertise")),
    ("encrypt_key", Secret, One("encrypt")),
    ("keyring_file", Text, One("keyring")),
    ("log_level", Text, One("log-level")),
    ("rpc_addr", Text, One("rpc")),
    ("profile", Text, One("profile")),
    ("snapshot_path", Text, One("snapshot")),
    ("replay_on_join", Switch, One("replay")),
    ("leave_on_terminate", Switch, One("leave-on-terminate")),
    ("skip_leave_on_interrupt", Switch, One("skip-leave-on-interrupt")),
    ("rejoin_after_leave", Switch, One("rejoin")),
    ("start_join", Texts, List("join")),
    ("retry_join", Texts, List("join")),
    ("event_handlers", Texts, List("event-handler")),
    ("rpc_auth", Secret, Refused("write the key into a file, and give that with --rpc-auth-file")),
    ("protocol", Number, Ignored("the newest is spoken")),
    ("interface", Text, One("iface")),
    ("discover", Text, One("discover")),
    ("mdns", Object, Ignored("multicast goes through interface, or the address of bind, with IPv4 and IPv6")),
    ("retry_max_attempts", Number, One("retry-max")),
    ("retry_interval", Text, One("retry-interval")),
    ("validate_node_names", Switch, Ignored("names are checked by whoever has them")),
    ("msgpack_use_new_time_format", Switch, Ignored("both formats are understood")),
    ("disable_coordinates", Switch, Ignored("places in the network are always estimated")),
    ("disable_name_resolution", Switch, Ignored("whoever had a name first keeps it")),
    ("enable_compression", Switch, Ignored("what is sent is compressed where that helps")),
    ("reconnect_interval", Text, One("reconnect-interval")),
    ("reconnect_timeout", Text, One("reconnect-timeout")),
    ("tombstone_timeout", Text, One("tombstone-timeout")),
    ("broadcast_timeout", Text, One("broadcast-timeout")),
    ("user_event_size_limit", Number, One("user-event-size-limit")),
    ("query_size_limit", Number, One("query-size-limit")),
    ("query_response_size_limit", Number, One("query-response-size-limit")),
    ("enable_syslog", Switch, Ignored("the log goes to standard error")),
    ("syslog_facility", Text, Ignored("the log goes to standard error")),
    ("statsite_addr", Text, Ignored("scrape /metrics")),
    ("statsd_addr", Text, Ignored("scrape /metrics")),
];

/// Reads files in order, and of a directory all `*.json` by name. If a key occurs several times, the last value
/// counts; lists are concatenated.
pub(super) fn read(paths: &[PathBuf]) -> Result<SerfSettings> {
    let mut all = SerfSettings::default();
    for path in paths {
        for file in list(path)? {
            all.read_one(&file)?;
        }
    }
    all.finish()?;
    Ok(all)
}

fn malformed(file: &Path, what: &str) -> Failure {
    Failure::new(codes::CONFIG_MALFORMED, format!("{}: {what}", files::name(file)))
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

/// Whether Serf treats the value as unset.
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

impl Kind {
    fn fits(self, value: &Value) -> bool {
        match self {
            Text | Secret => value.is_string(),
            Switch => value.is_boolean(),
            Number => value.is_i64() || value.is_u64(),
            Texts => value.as_array().is_some_and(|values| values.iter().all(Value::is_string)),
            TextMap => value.as_object().is_some_and(|keys| keys.values().all(Value::is_string)),
            Object => value.is_object(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Text | Secret => "a text",
            Switch => "true or false",
            Number => "a whole number",
            Texts => "a list of texts",
            TextMap => "an object of texts",
            Object => "an object",
        }
    }

    /// Null counts as unset, as with Serf.
    fn check(self, value: &Value) -> Result<(), String> {
        match self.fits(value) || value.is_null() {
            true => Ok(()),
            false => Err(format!("it takes {}, not {}", self.name(), self.found(value))),
        }
    }

    /// Describes a value that the kind does not accept, for messages.
    fn found(self, value: &Value) -> String {
        if self == Secret {
            return "what stands there".to_owned();
        }
        let text = printable(&value.to_string());
        match text.char_indices().nth(MAX_SHOWN) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        }
    }
}

/// Formats a JSON value as the value of an option.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl SerfSettings {
    fn read_one(&mut self, file: &Path) -> Result<()> {
        let fault = |what: String| malformed(file, &what);
        let bytes =
            files::read(file, MAX_FILE_BYTES)?.ok_or_else(|| fault("it has more than 1 MiB".into()))?;
        let parsed: Value = serde_json::from_slice(&bytes).map_err(|error| fault(error.to_string()))?;
        let Value::Object(keys) = parsed else { return Err(fault("it is no JSON object".into())) };
        let mut seen = BTreeMap::new();
        for (key, value) in &keys {
            if let Some(other) = seen.insert(key.to_ascii_lowercase(), key) {
                return Err(fault(format!("{other} and {key} are one key, which is there twice")));
            }
            self.add(key, value, file).map_err(|what| fault(format!("{}: {what}", printable(key))))?;
        }
        Ok(())
    }

    /// Adds a key of a file. The key's case does not matter, as with Go's decoder.
    fn add(&mut self, key: &str, value: &Value, file: &Path) -> Result<(), String> {
        let known = KEYS.iter().find(|(name, ..)| name.eq_ignore_ascii_case(key));
        let (_, kind, meaning) = known.ok_or("Serf knows no such key")?;
        kind.check(value)?;
        if is_empty(value) {
            return Ok(());
        }
        match meaning {
            One("log-level") => self.put("log-level", vec![log_level(&text(value))], true, key, file),
            One(option) => self.put(option, vec![text(value)], true, key, file),
            List(option) => {
                let values = value.as_array().into_iter().flatten().map(text).collect();
                self.put(option, values, false, key, file);
            }
            Role => self.put("tag", vec![format!("role={}", text(value))], false, key, file),
            Tags => {
                let tags = value.as_object().into_iter().flatten();
                let tags = tags.map(|(name, value)| format!("{name}={}", text(value))).collect();
                self.put("tag", tags, false, key, file);
            }
            Ignored(why) => {
                self.ignored.push(format!("{}: {key} has no meaning here: {why}", files::name(file)))
            }
            Refused(what) => return Err(format!("it is not taken from a file that others may read: {what}")),
        }
        Ok(())
    }

    fn put(&mut self, option: &str, values: Vec<String>, replaces: bool, key: &str, file: &Path) {
        let from = format!("{key} in {}", files::name(file));
        match self.settings.iter_mut().find(|setting| setting.name == option) {
            Some(setting) if replaces => (setting.values, setting.from) = (values, from),
            Some(setting) => setting.values.extend(values),
            None => self.settings.push(Setting { name: option.to_owned(), values, from }),
        }
    }

    /// Moves the setting of an option to those that do not apply, for this reason.
    fn lay_by(&mut self, option: &str, why: &str) {
        while let Some(at) = self.settings.iter().position(|setting| setting.name == option) {
            let setting = self.settings.remove(at);
            self.ignored.push(format!("{} has no meaning {why}", setting.from));
            self.idle.push(setting);
        }
    }

    fn find(&self, option: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.name == option)
    }

    /// Applies the rules by which one of Serf's settings implies or disables another.
    fn finish(&mut self) -> Result<()> {
        if let (Some(tags), Some(file)) = (self.find("tag"), self.find("tags-file")) {
            let what = format!("{} and {} exclude each other", tags.from, file.from);
            return Err(Failure::new(codes::CONFIG_MALFORMED, what)
                .note("write the tags into the file of tags_file, or leave tags_file out"));
        }
        if self.find("bind").is_none() {
            let from = "Serf's default".to_owned();
            self.settings.push(Setting { name: "bind".to_owned(), values: vec!["0.0.0.0".to_owned()], from });
        }
        if self.find("keyring").is_some() {
            self.lay_by("encrypt", "beside keyring_file");
        }
        if self.find("join").is_none() {
            self.lay_by("retry-interval", "without retry_join");
            self.lay_by("retry-max", "without retry_join");
        }
        Ok(())
    }
}

/// Translates a log level of Serf: its levels are in capitals, and one has another name.
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
        read(&[path])
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

    /// Serf's agents accept it, too, without any effect.
    #[test]
    fn a_limit_of_joining_without_anybody_to_join_is_named() {
        let read = read_text(r#"{"retry_interval": "15s", "retry_max_attempts": 3, "node_name": "a"}"#);
        let read = read.expect("understood");
        assert_eq!((of(&read, "retry-interval").len(), of(&read, "retry-max").len()), (0, 0));
        assert_eq!((of(&read, "name"), read.ignored.len(), read.idle.len()), (vec!["a"], 2, 2));
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
        let read = read(&[dir.path().to_owned()]).expect("understood");
        assert_eq!((of(&read, "name"), of(&read, "join")), (vec!["b"], vec!["x", "y"]));
        assert_eq!(of(&read, "bind"), ["0.0.0.0"], "Serf's default");
        assert_eq!((of(&read, "keyring"), of(&read, "encrypt")), (vec!["ring"], vec![]));
        write("30.json", r#"{"bind": "::"}"#);
        let read = super::read(&[dir.path().to_owned()]).expect("understood");
        assert_eq!(of(&read, "bind"), ["::"]);
    }

    #[test]
    fn several_files_are_put_together_as_they_are_given() {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let z = write("z.json", r#"{"node_name": "z", "start_join": ["x"]}"#);
        let a = write("a.json", r#"{"node_name": "a", "start_join": ["y"]}"#);
        let read = read(&[z, a]).expect("understood");
        assert_eq!((of(&read, "name"), of(&read, "join")), (vec!["a"], vec!["x", "y"]));
        let name = read.find("name").expect("it is set");
        assert!(name.from.contains("a.json"), "whoever has the last word is named: {}", name.from);
    }

    /// Key names are case-insensitive, as in Go.
    #[test]
    fn keys_are_taken_in_capitals_too() {
        let read = read_text(r#"{"Bind": "10.0.0.9", "NODE_NAME": "a", "Tags": {"Zone": "east"}}"#);
        let read = read.expect("understood");
        assert_eq!((of(&read, "bind"), of(&read, "name")), (vec!["10.0.0.9"], vec!["a"]));
        assert_eq!(of(&read, "tag"), ["Zone=east"], "names of tags stay as they are");
    }

    #[test]
    fn every_key_is_of_its_type_whether_it_has_a_meaning_or_not() {
        for (text, named) in [
            (r#"{"node_name": 5}"#, "node_name: it takes a text, not 5"),
            (r#"{"node_name": 0}"#, "node_name: it takes a text, not 0"),
            (
                r#"{"user_event_size_limit": "512"}"#,
                "user_event_size_limit: it takes a whole number, not \"512\"",
            ),
            (r#"{"retry_max_attempts": "3"}"#, "retry_max_attempts: it takes a whole number, not \"3\""),
            (r#"{"retry_max_attempts": 1.5}"#, "a whole number, not 1.5"),
            (r#"{"retry_interval": 15}"#, "retry_interval: it takes a text, not 15"),
            (r#"{"replay_on_join": "true"}"#, "replay_on_join: it takes true or false, not \"true\""),
            (r#"{"enable_syslog": "yes"}"#, "enable_syslog: it takes true or false"),
            (r#"{"protocol": "5"}"#, "protocol: it takes a whole number"),
            (r#"{"mdns": true}"#, "mdns: it takes an object"),
            (r#"{"retry_join": ["a", 1]}"#, "retry_join: it takes a list of texts, not [\"a\",1]"),
            (r#"{"tags": {"a": 1}}"#, "tags: it takes an object of texts, not {\"a\":1}"),
            (r#"{"role": true}"#, "role: it takes a text, not true"),
            (r#"{"bind": "a", "BIND": "b"}"#, "are one key, which is there twice"),
        ] {
            let refused = read_text(text).expect_err(text);
            assert_eq!(refused.code(), codes::CONFIG_MALFORMED, "{text}");
            let message = refused.message();
            assert!(message.contains("serf.json") && message.contains(named), "{text}: {message}");
        }
        assert!(!format!("{:?}", read_text(r#"{"encrypt_key": 12345}"#)).contains("12345"));
        assert!(read_text(r#"{"node_name": null, "mdns": null}"#).is_ok(), "null is no value");
    }

    #[test]
    fn tags_beside_their_file_are_named_as_the_file_does() {
        for tags in [r#""tags": {"a": "b"}"#, r#""role": "web""#] {
            let refused = read_text(&format!(r#"{{{tags}, "tags_file": "t"}}"#)).expect_err(tags);
            let message = refused.message();
            let key = tags.split('"').nth(1).unwrap_or_default();
            assert!(
                message.starts_with(&format!("{key} in ")) && message.contains("tags_file in "),
                "{message}"
            );
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, named) in [
            ("{", "EOF"),
            ("[]", "no JSON object"),
            (r#"{"node_nam": "a"}"#, "node_nam"),
            (r#"{"start_join": "a"}"#, "start_join"),
            (r#"{"tags": {"a": 1}}"#, "tags"),
            (r#"{"node_name": ["a"]}"#, "node_name"),
            (r#"{"bind": {}}"#, "bind"),
            (r#"{"rpc_auth": "secret"}"#, "--rpc-auth-file"),
        ] {
            let refused = read_text(text).expect_err(text);
            let told = format!("{refused:?}");
            assert!(told.contains(named) && !told.contains("secret"), "{text}: {told}");
        }
    }
}
