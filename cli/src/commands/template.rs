//! Templates over the tree. What a template asks for is recorded, so that exactly that is kept up to date.

use crate::codes;
use crate::error::{Failure, Result};
use kvgossip_grants::{Filter, Key};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Rest, Value};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Maximum number of instructions of one rendering; a template that needs more fails.
const FUEL: u64 = 10_000_000;

/// Maximum number of unset keys named in an error.
const MAX_UNSET_NAMED: usize = 10;

/// The keys and filters that a template asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wants {
    pub(super) keys: BTreeSet<Key>,
    /// Filters that the template asked for, each as its globs in order.
    pub(super) filters: BTreeSet<Vec<String>>,
}

/// Values of keys and filters that are known at rendering.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) keys: BTreeMap<Key, Option<bytes::Bytes>>,
    pub(super) filters: BTreeMap<Vec<String>, BTreeMap<Key, bytes::Bytes>>,
}

/// Result of rendering: what the template asked for, and the text.
#[derive(Debug)]
pub(super) struct Rendered {
    pub(super) wants: Wants,
    /// Rendered text, or the failure of the template.
    pub(super) text: Result<String>,
}

fn fault(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, text.into())
}

fn utf8(key: &Key, value: &[u8]) -> Result<Value, Error> {
    let text = str::from_utf8(value).map_err(|_| fault(format!("the value of {key} is not UTF-8")))?;
    Ok(Value::from(text))
}

/// Renders a template with the values in `known`. A key that is not in it counts as unset, and a filter that is not in it
/// as one without entries. `Rendered::wants` has everything that the template asked for, known or not, up to the failure
/// if rendering fails. The use of an unset key without a default is such a failure.
pub(super) fn render(name: &str, source: &str, known: &Known) -> Rendered {
    let (wants, known) = (Arc::new(Mutex::new(Wants::default())), Arc::new(known.clone()));
    // Unset keys without a default, in the order in which the template asked for them.
    let unset = Arc::new(Mutex::new(Vec::new()));
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    match SyntaxConfig::builder().keep_trailing_newline(true).build() {
        Ok(syntax) => env.set_syntax(syntax),
        Err(error) => return Rendered { wants: Wants::default(), text: Err(failure(&error, &[])) },
    }
    env.set_fuel(Some(FUEL));
    env.set_debug(true);
    env.add_function("get", {
        let (wants, known, unset) = (wants.clone(), known.clone(), unset.clone());
        move |key: &str, default: Option<Value>| -> Result<Value, Error> {
            let key = Key::parse(key).map_err(|error| fault(error.to_string()))?;
            wants.lock().keys.insert(key.clone());
            match known.keys.get(&key).and_then(Option::as_ref) {
                Some(value) => utf8(&key, value),
                None => Ok(default.unwrap_or_else(|| {
                    let mut unset = unset.lock();
                    if !unset.contains(&key) && unset.len() < MAX_UNSET_NAMED {
                        unset.push(key);
                    }
                    Value::UNDEFINED
                })),
            }
        }
    });
    env.add_function("entries", {
        let (wants, known) = (wants.clone(), known.clone());
        move |globs: Rest<String>| -> Result<Value, Error> {
            Filter::parse(globs.iter()).map_err(|error| fault(error.to_string()))?;
            wants.lock().filters.insert(globs.to_vec());
            let found = known.filters.get(globs.as_slice()).into_iter().flatten();
            let rows = found.map(|(key, value)| {
                let name = key.as_str().rsplit('/').next().unwrap_or_default();
                let fields = [
                    ("key", Value::from(key.as_str())),
                    ("name", Value::from(name)),
                    ("value", utf8(key, value)?),
                ];
                Ok(Value::from(BTreeMap::from(fields)))
            });
            Ok(Value::from(rows.collect::<Result<Vec<Value>, Error>>()?))
        }
    });
    let text = env.template_from_named_str(name, source).and_then(|template| template.render(()));
    let text = text.map_err(|error| failure(&error, &unset.lock()));
    drop(env);
    let wants = wants.lock().clone();
    Rendered { wants, text }
}

fn failure(error: &Error, unset: &[Key]) -> Failure {
    let is_undefined = error.kind() == ErrorKind::UndefinedError;
    let why = match unset {
        [] => String::new(),
        _ if !is_undefined => String::new(),
        [key] => format!(": {key} is unset"),
        keys => format!(
            ": one of these, which are unset: {}",
            keys.iter().map(Key::as_str).collect::<Vec<_>>().join(", ")
        ),
    };
    let mut failure = Failure::new(codes::TEMPLATE_INVALID, format!("{error}{why}"));
    if is_undefined {
        failure = failure.note("  a key that may be unset takes a default: get(\"/my/key\", \"value\")");
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::parse(text).unwrap()
    }

    #[test]
    fn what_is_asked_for_is_noted_and_what_is_known_is_rendered() {
        let source = "a={{ get('/a') }} b={{ get('/b', 'none') }}{% for e in entries('/s/*', '!/s/x') %} {{ e.name }}={{ e.value }}{% endfor %}\n";
        let mut known = Known::default();
        let blind = render("t", source, &known);
        assert!(blind.text.is_err(), "/a has no default");
        assert_eq!(blind.wants.keys, BTreeSet::from([key("/a")]));
        known.keys.insert(key("/a"), Some("1".into()));
        known.filters.insert(
            vec!["/s/*".into(), "!/s/x".into()],
            BTreeMap::from([(key("/s/one"), "1".into()), (key("/s/two"), "2".into())]),
        );
        let seeing = render("t", source, &known);
        assert_eq!(seeing.text.unwrap(), "a=1 b=none one=1 two=2\n");
        assert_eq!(seeing.wants.keys.len(), 2);
        assert_eq!(seeing.wants.filters.len(), 1);
    }

    #[test]
    fn what_is_unset_and_has_no_default_is_named() {
        let known = Known { keys: BTreeMap::from([(key("/a"), Some("1".into()))]), ..Known::default() };
        let said = |source: &str| render("t", source, &known).text.expect_err(source).message().to_owned();
        assert!(said("{{ get('/a') }}{{ get('/no', '-') }}{{ get('/b') }}").ends_with(": /b is unset"));
        let two = said("{% set x = get('/b') %}{{ get('/c') }}");
        assert!(two.ends_with(": one of these, which are unset: /b, /c"), "{two}");
        assert!(!said("{{ nothing }}").contains("unset"));
    }

    #[test]
    fn faults_are_told_with_their_place_and_nothing_runs_for_ever() {
        let known =
            Known { keys: BTreeMap::from([(key("/b"), Some(vec![0xff].into()))]), ..Known::default() };
        for source in [
            "{{ get('a') }}",
            "{{ get('/b') }}",
            "{% if %}",
            "{{ nothing }}",
            "{% for a in range(9999) %}{% for b in range(9999) %}.{% endfor %}{% endfor %}",
        ] {
            let failure = render("t", source, &known).text.expect_err(source);
            assert_eq!(failure.code(), codes::TEMPLATE_INVALID, "{source}");
        }
    }
}
