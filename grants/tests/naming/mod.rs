//! Random globs and keys, and two judges that share no code with the crate: a matcher that tries everything, and
//! `globset`.

#![allow(dead_code, reason = "each test binary uses its part")]

use globset::{Candidate, GlobBuilder, GlobMatcher};
use kvgossip_grants::{Key, KeyGlob};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

pub(crate) fn seeded(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

pub(crate) fn globset(glob: &KeyGlob) -> GlobMatcher {
    let builder = GlobBuilder::new(glob.as_str()).literal_separator(true).build();
    builder.expect("globset takes every glob").compile_matcher()
}

pub(crate) fn globset_matches(matcher: &GlobMatcher, key: &Key) -> bool {
    matcher.is_match_candidate(&Candidate::from_bytes(key.as_bytes()))
}

/// The definition, read aloud: tries every way. Exponential.
pub(crate) fn naive_matches(glob: &str, key: &str) -> bool {
    let glob: Vec<&[u8]> = glob.split('/').skip(1).map(str::as_bytes).collect();
    let key: Vec<&[u8]> = key.split('/').skip(1).map(str::as_bytes).collect();
    segments(&glob, &key)
}

fn segments(glob: &[&[u8]], key: &[&[u8]]) -> bool {
    match glob {
        [] => key.is_empty(),
        [only] if *only == b"**" => !key.is_empty(),
        [first, rest @ ..] if *first == b"**" => (0..=key.len()).any(|taken| segments(rest, &key[taken..])),
        [first, rest @ ..] => !key.is_empty() && bytes(first, key[0]) && segments(rest, &key[1..]),
    }
}

fn bytes(glob: &[u8], key: &[u8]) -> bool {
    match glob {
        [] => key.is_empty(),
        [b'*', rest @ ..] => (0..=key.len()).any(|taken| bytes(rest, &key[taken..])),
        [b'?', rest @ ..] => !key.is_empty() && bytes(rest, &key[1..]),
        [byte, rest @ ..] => key.first() == Some(byte) && bytes(rest, &key[1..]),
    }
}

const LITERALS: &[&str] = &["a", "b", "a", "b", "2", "F", ".", "-", "%2F", "%20", "%FF"];

/// A glob of up to four segments. Small on purpose: so that random ones have much to do with each other.
pub(crate) fn random_glob(random: &mut StdRng) -> KeyGlob {
    loop {
        let mut text = String::new();
        for _ in 0..random.random_range(1..=4) {
            text.push('/');
            if random.random_ratio(1, 4) {
                text.push_str("**");
                continue;
            }
            for _ in 0..random.random_range(1..=3) {
                match random.random_range(0..5) {
                    0 => text.push('*'),
                    1 => text.push('?'),
                    _ => text.push_str(LITERALS.choose(random).expect("not empty")),
                }
            }
        }
        // What the grammar refuses (`**` beside something) is drawn again.
        if let Ok(glob) = KeyGlob::parse(&text) {
            return glob;
        }
    }
}

pub(crate) fn random_key(random: &mut StdRng) -> Key {
    loop {
        let mut text = String::new();
        for _ in 0..random.random_range(1..=4) {
            text.push('/');
            for _ in 0..random.random_range(1..=3) {
                text.push_str(LITERALS.choose(random).expect("not empty"));
            }
        }
        if let Ok(key) = Key::parse(&text) {
            return key;
        }
    }
}

/// A key that `glob` matches or just misses: its wildcards filled in, sometimes badly.
pub(crate) fn key_like(random: &mut StdRng, glob: &KeyGlob) -> Option<Key> {
    let mut text = String::new();
    for segment in glob.as_str().split('/').skip(1) {
        if segment == "**" {
            for _ in 0..random.random_range(0..=2) {
                text.push_str(["/a", "/b", "/%2F", "/ab"].choose(random).expect("not empty"));
            }
            continue;
        }
        text.push('/');
        for letter in segment.chars() {
            match letter {
                '*' => (0..random.random_range(0..=2))
                    .for_each(|_| text.push(*['a', '%'].choose(random).unwrap_or(&'a'))),
                '?' => text.push(*['a', 'b', '%', '2'].choose(random).expect("not empty")),
                letter if random.random_ratio(1, 24) => text.extend(['b', letter]),
                letter => text.push(letter),
            }
        }
    }
    Key::parse(&text).ok()
}
