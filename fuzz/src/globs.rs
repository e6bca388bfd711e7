//! Fuzz target for keys, globs and filters: the parser accepts or refuses any text without panicking, and the matcher
//! agrees with `globset` and with a literal evaluation of filters.
//!
//! The input is a text: a filter with one glob per line, each with an optional leading `!`; an empty line; keys.

use crate::Seed;
use crate::names::{Names, keys_like, seed};
use globset::{Candidate, GlobBuilder};
use kvgossip_grants::{Filter, FilterRule, Key, KeyGlob, PathPrefix};

/// Runs one input: see the [module documentation](self).
pub fn run(data: &[u8]) {
    let Some(names) = Names::read(data) else { return };
    names.keys.iter().for_each(|text| key(text));
    let keys = names.keys();
    for text in &names.globs {
        let pattern = text.strip_prefix('!').unwrap_or(text);
        match KeyGlob::parse(pattern) {
            Ok(glob) => self::glob(&glob, pattern, &keys),
            Err(error) => assert!(error.column() >= 1 && error.column() <= pattern.len() + 1),
        }
    }
    if let Ok(filter) = Filter::parse(&names.globs) {
        keys.iter().for_each(|key| self::filter(&filter, key));
    }
}

fn key(text: &str) {
    match Key::parse(text) {
        Ok(key) => {
            assert_eq!(key.as_str(), text);
            assert!(PathPrefix::from(&key).contains(&key));
        }
        Err(error) => assert!(error.column() >= 1 && error.column() <= text.len() + 1),
    }
}

fn glob(glob: &KeyGlob, text: &str, keys: &[Key]) {
    assert_eq!(glob.as_str(), text);
    assert!(text.starts_with(glob.literal_prefix()));
    assert_eq!(glob.is_literal(), Key::parse(text).is_ok());
    let oracle = GlobBuilder::new(text).literal_separator(true).build();
    let oracle = oracle.unwrap_or_else(|error| panic!("{text}: {error}")).compile_matcher();
    for key in keys.iter().chain(&keys_like(glob)) {
        let matches = glob.matches(key);
        let wanted = oracle.is_match_candidate(&Candidate::from_bytes(key.as_bytes()));
        assert_eq!(matches, wanted, "{text} {key}");
        assert!(!matches || key.as_str().starts_with(glob.literal_prefix()));
    }
}

fn filter(filter: &Filter, key: &Key) {
    let deciding = filter.rules().iter().rfind(|rule| rule.glob.matches(key));
    let rest = filter.rules().first().is_none_or(|first| first.excludes);
    let wanted = deciding.map_or(rest, |FilterRule { excludes, .. }| !excludes);
    assert_eq!(filter.includes(key), wanted, "{:?} {key}", filter.rules());
    let prefixes = filter.literal_prefixes();
    assert!(!wanted || prefixes.iter().filter(|prefix| key.as_str().starts_with(**prefix)).count() == 1);
}

/// Returns globs of each kind, faults of each kind, and filters of some and of many globs.
pub fn seeds() -> Vec<Seed> {
    let many: Vec<String> =
        (0..20).map(|n| format!("{}/a/{n}/**", if n % 3 == 1 { "!" } else { "" })).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let keys = ["/a/1/b", "/my/key/state", "/a", "/%20/x", "/a/b/c", "/ab", "/a/3/x/y"];
    let longest = format!("/{}", "a".repeat(255));
    let deepest = "/a".repeat(32);
    vec![
        seed(
            "golden",
            &["/my/**/sta*"],
            &["/my/key/state", "/my/sta", "/my", "/my/a/b/static", "/my/key/stop"],
        ),
        seed("deep", &["/**", "/a/**", "/**/b", "/a/**/b", "/**/a/**", "/**/*/**"], &keys),
        seed("wild", &["/*", "/a*", "/?", "/???", "/*a*b*", "/*/?b"], &keys),
        seed("triplets", &["/?20", "/*0", "/a%2A", "/%20/*"], &["/%20", "/x20", "/a%2A", "/%20/x", "/a%2Fb"]),
        seed("worst", &["/*a*a*a*a*a*a*a*b", "/**/a/**/a/**/a/b"], &[&longest, &deepest]),
        seed("limits", &["/*/*/*/*/*/*/*/*", "/**/*/*/*/*/*/*/*", &deepest], &[&deepest, &longest]),
        seed("faults", &["/a[b]", "/{a,b}", "/a\\*", "/***", "/**/**", "/a**", "", "/", "//a", "/./a"], &[]),
        seed("key_faults", &["/**"], &["", "/", "a", "/a/", "//a", "/./a", "/..", "/%41", "/%2f", "/é"]),
        seed(
            "filter",
            &["/my/**", "!/my/tmp/**", "/my/tmp/keep"],
            &["/my/tmp/keep", "/my/tmp/x", "/my/x", "/x"],
        ),
        seed("filter_excludes", &["!/a/**"], &keys),
        seed("filter_many", &many, &keys),
    ]
}
