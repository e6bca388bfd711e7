//! The matcher and the filter against a matcher that tries everything and against `globset`.

mod naming;

use kvgossip_grants::{Filter, Key, KeyGlob, MAX_FILTER_GLOBS, MAX_GLOB_BYTES, MAX_WILDCARDS};
use naming::{globset, globset_matches, key_like, naive_matches, random_glob, random_key, seeded};
use rand::RngExt;

#[test]
fn three_matchers_agree() {
    let mut random = seeded(1);
    let (mut inside, mut outside) = (0, 0);
    for case in 0..3_000 {
        let glob = random_glob(&mut random);
        let oracle = globset(&glob);
        let mut keys: Vec<Key> = (0..6).map(|_| random_key(&mut random)).collect();
        keys.extend((0..12).filter_map(|_| key_like(&mut random, &glob)));
        for key in keys {
            let ours = glob.matches(&key);
            assert_eq!(ours, naive_matches(glob.as_str(), key.as_str()), "case {case}: {glob} {key}");
            assert_eq!(ours, globset_matches(&oracle, &key), "case {case}: {glob} {key}");
            assert!(!ours || key.as_str().starts_with(glob.literal_prefix()), "case {case}: {glob} {key}");
            if ours { inside += 1 } else { outside += 1 }
        }
    }
    assert!(inside > 10_000 && outside > 10_000, "a lopsided sample: {inside} {outside}");
}

/// Long ones of few letters, with as many wildcards as there may be: where greedy choices could go wrong.
#[test]
fn long_and_repetitive_names_match_as_globset_says() {
    let mut random = seeded(2);
    let (mut inside, mut outside) = (0, 0);
    for case in 0..1_000 {
        let pieces = ["/**", "/**", "/**", "/*", "/a*", "/*a", "/?", "/*ab*", "/*a?b*"];
        let mut text = String::new();
        for _ in 0..random.random_range(2..9) {
            text.push_str(pieces[random.random_range(0..pieces.len())]);
        }
        let Ok(glob) = KeyGlob::parse(&text) else { continue };
        let oracle = globset(&glob);
        for _ in 0..30 {
            let mut key = String::new();
            for _ in 0..random.random_range(3..=32) {
                key.push('/');
                (0..random.random_range(1..6))
                    .for_each(|_| key.push(if random.random_ratio(3, 4) { 'a' } else { 'b' }));
            }
            let key = Key::parse(&key).expect("a key");
            assert_eq!(glob.matches(&key), globset_matches(&oracle, &key), "case {case}: {glob} {key}");
            if glob.matches(&key) { inside += 1 } else { outside += 1 }
        }
    }
    assert!(inside > 300 && outside > 300, "a lopsided sample: {inside} {outside}");
}

#[test]
fn every_glob_matches_some_key() {
    let mut random = seeded(3);
    for _ in 0..5_000 {
        let glob = random_glob(&mut random);
        let key = glob.as_str().replace("**", "w").replace(['*', '?'], "w");
        assert!(glob.matches(&Key::parse(&key).expect("a key")), "{glob}");
    }
}

/// The grammar said in another way: wildcards aside, a glob is spelled like a key.
fn is_glob(text: &str) -> bool {
    let segments: Vec<&str> = text.split('/').collect();
    let deep = |segment: &&str| *segment == "**";
    let stars = segments.iter().map(|segment| if deep(segment) { 1 } else { segment.matches('*').count() });
    let spelled: Vec<String> = segments
        .iter()
        .enumerate()
        .filter(|(place, segment)| !deep(segment) || place + 1 == segments.len())
        .map(|(_, segment)| if deep(segment) { "w".into() } else { segment.replace(['*', '?'], "w") })
        .collect();
    text.len() <= MAX_GLOB_BYTES
        && stars.sum::<usize>() <= MAX_WILDCARDS
        && !segments.iter().any(|segment| !deep(segment) && segment.contains("**"))
        && !segments.windows(2).any(|pair| pair.iter().all(deep))
        && Key::parse(&spelled.join("/")).is_ok()
}

#[test]
fn the_parser_takes_exactly_the_grammar() {
    let mut random = seeded(4);
    let letters = ["/", "/", "/", "*", "*", "?", "a", "b", ".", "%", "2", "F", "%2F", "/**", "/*", "[", "!"];
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..60_000 {
        let mut text = String::from("/");
        for _ in 0..random.random_range(1..10) {
            text.push_str(letters[random.random_range(0..letters.len())]);
        }
        let parsed = KeyGlob::parse(&text);
        assert_eq!(parsed.is_ok(), is_glob(&text), "{text}");
        if let Err(error) = parsed {
            refused += 1;
            // What stands before the column is not yet wrong: with another end it is a glob.
            let before = &text[..error.column() - 1];
            let ends = ["", "a", "F", "00"].iter().any(|end| is_glob(&format!("{before}{end}")));
            assert!(ends, "{text} {error}");
        } else {
            taken += 1;
        }
    }
    assert!(taken > 5_000 && refused > 5_000, "a lopsided sample: {taken} {refused}");
}

#[test]
fn a_filter_is_its_last_match_whatever_matches_it() {
    let mut random = seeded(5);
    let (mut inside, mut outside) = (0, 0);
    for case in 0..300 {
        let count = random.random_range(0..=if case % 3 == 0 { MAX_FILTER_GLOBS } else { 12 });
        let texts: Vec<String> = (0..count)
            .map(|_| {
                format!("{}{}", if random.random_ratio(2, 5) { "!" } else { "" }, random_glob(&mut random))
            })
            .collect();
        let filter = Filter::parse(&texts).expect("a filter");
        let prefixes = filter.literal_prefixes();
        for _ in 0..60 {
            let key = random_key(&mut random);
            let deciding =
                texts.iter().rev().find(|text| naive_matches(text.trim_start_matches('!'), key.as_str()));
            let expected = match deciding {
                Some(text) => !text.starts_with('!'),
                None => texts.first().is_none_or(|text| text.starts_with('!')),
            };
            assert_eq!(filter.includes(&key), expected, "case {case}: {filter:?} {key}");
            let scans = prefixes.iter().filter(|prefix| key.as_str().starts_with(**prefix)).count();
            assert!(scans <= 1 && (!expected || scans == 1), "case {case}: {filter:?} {key} {prefixes:?}");
            if expected { inside += 1 } else { outside += 1 }
        }
    }
    assert!(inside > 1_000 && outside > 1_000, "a lopsided sample: {inside} {outside}");
}
