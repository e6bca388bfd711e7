//! The published vectors of names, `fixtures/name-vectors.txt`, which are written by hand.
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use kvgossip_grants::{Filter, Key, KeyGlob, PathPrefix};

const FILE: &str = include_str!("fixtures/name-vectors.txt");

/// Writes out what `{N*X}` stands for.
fn expand(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((times, piece)) = after.split_once('}').and_then(|(inside, _)| inside.split_once('*'))
        else {
            break;
        };
        let Ok(times) = times.parse() else { break };
        out += before;
        out += &piece.repeat(times);
        rest = &after[after.find('}').unwrap() + 1..];
    }
    out + rest
}

fn matches(glob: &str, key: &str) -> bool {
    KeyGlob::parse(glob).unwrap().matches(&Key::parse(key).unwrap())
}

fn holds(line: &str) -> bool {
    let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
    let words: Vec<String> = rest.split(' ').map(expand).collect();
    let word = |at: usize| words[at].as_str();
    let whole = expand(rest);
    let under = || PathPrefix::parse(word(0)).unwrap().contains(&Key::parse(word(1)).unwrap());
    match what {
        "key" => Key::parse(&whole).is_ok(),
        "not-key" => Key::parse(&whole).is_err(),
        "glob" => KeyGlob::parse(&whole).is_ok(),
        "not-glob" => KeyGlob::parse(&whole).is_err(),
        "match" => matches(word(0), word(1)),
        "no-match" => !matches(word(0), word(1)),
        "under" => under(),
        "not-under" => !under(),
        "filter" => {
            let included = Filter::parse(&words[2..]).unwrap().includes(&Key::parse(word(0)).unwrap());
            included == (word(1) == "yes")
        }
        other => panic!("{other}"),
    }
}

#[test]
fn names_are_what_the_vectors_say() {
    let lines = FILE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let failing: Vec<&str> = lines.clone().filter(|line| !holds(line)).collect();
    assert!(failing.is_empty(), "{failing:#?}");
    assert!(lines.count() > 100);
}
