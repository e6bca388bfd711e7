use super::*;
use crate::key::is_plain;

fn glob(text: &str) -> KeyGlob {
    KeyGlob::parse(text).expect(text)
}

fn globs<S: AsRef<str>>(texts: &[S]) -> Vec<KeyGlob> {
    texts.iter().map(|text| glob(text.as_ref())).collect()
}

fn assert_included<S: AsRef<str>>(pattern: &str, union: &[S]) {
    assert_eq!(included(&glob(pattern), &globs(union)), Inclusion::Included, "{pattern}");
}

fn counterexample<S: AsRef<str>>(pattern: &str, union: &[S]) -> String {
    match included(&glob(pattern), &globs(union)) {
        Inclusion::NotIncluded { counterexample } => counterexample.as_str().to_owned(),
        other => panic!("{pattern}: {other:?}"),
    }
}

#[test]
fn what_people_ask() {
    assert_included("/my/**/sta*", &["/my/**"]);
    assert_included("/my/**", &["/**"]);
    assert_included("/a/b", &["/a/*"]);
    assert_included("/a/**/c", &["/a/c", "/a/*/c", "/a/*/**/c"]);
    assert_included("/**", &["/*", "/*/**"]);
    assert_included("/a/*", &["/a/?", "/a/??*"]);
    assert_included("/a/**/b/**", &["/a/**/b/*", "/a/**/b/*/**"]);
    assert_eq!(counterexample("/my/**", &["/my/*"]), "/my/x/x");
    assert_eq!(counterexample("/**", &["/*/**/*"]), "/x");
    assert_eq!(counterexample("/a/*", &["/a/?"]), "/a/xx");
    assert_eq!(counterexample::<&str>("/**/b", &[]), "/b");
    assert_eq!(counterexample("/a*", &["/a/**"]), "/a");
    assert_eq!(counterexample("/a/b", &["/a/b/**", "/a"]), "/a/b");
}

#[test]
fn a_double_star_takes_whole_segments() {
    assert_eq!(counterexample("/ab", &["/**/b"]), "/ab");
    assert_eq!(counterexample("/a*/b", &["/a/**/b"]), "/ax/b");
    assert_eq!(counterexample("/a/**", &["/a/**/x"]), "/a/y");
}

/// Iterates over all plain characters.
fn plain() -> impl Iterator<Item = char> {
    (0..128_u8).filter(|byte| is_plain(*byte)).map(char::from)
}

#[test]
fn where_all_characters_are_named_the_grammar_decides() {
    let without_dot: Vec<String> = plain().filter(|c| *c != '.').map(|c| format!("/{c}")).collect();
    // One byte cannot be `.` or a triplet.
    assert_included("/?", &without_dot);
    let mut begun: Vec<String> = plain().filter(|c| *c != '.').map(|c| format!("/{c}?")).collect();
    assert_eq!(counterexample("/??", &begun).get(..2), Some("/."));
    begun.extend(plain().filter(|c| *c != '.').map(|c| format!("/.{c}")));
    assert_included("/??", &begun);
    // With one more dot, `..` becomes a valid name.
    let anywhere: Vec<String> = plain().filter(|c| *c != '.').map(|c| format!("/*{c}*")).collect();
    assert_eq!(counterexample("/*", &anywhere), "/...");
    // A byte that occurs in no glob, except as the beginning of a triplet.
    let begun: Vec<String> = plain().map(|c| format!("/{c}*")).collect();
    assert_eq!(counterexample("/*", &begun), "/%FF");
    let digits: Vec<String> = "0123456789ABCDEF".chars().map(|c| format!("/?{c}*")).collect();
    assert_included("/*", &[begun.clone(), digits].concat());
    // No valid triplet begins with `%4` or `%G`.
    let digits: Vec<String> = "012356789ABCDEF".chars().map(|c| format!("/?{c}*")).collect();
    assert_included("/*", &[begun, digits].concat());
}

#[test]
fn triplets_are_told_apart_by_their_digits() {
    assert_included("/%20", &["/?20"]);
    assert_included("/a%2F*", &["/a*", "/b"]);
    assert_included("/%20?", &["/???*"]);
    assert_eq!(counterexample("/a%2F", &["/a%2A"]), "/a%2F");
    let begun: Vec<String> = plain().map(|c| format!("/{c}*")).collect();
    let triplets: Vec<u8> = (0..=255).filter(|byte| !is_plain(*byte)).collect();
    let all: Vec<String> = triplets.iter().map(|byte| format!("/%{byte:02X}")).chain(begun).collect();
    assert_included("/???", &all);
    for place in (0..triplets.len()).step_by(7) {
        let mut all_but_one = all.clone();
        let one = all_but_one.remove(place);
        assert_eq!(counterexample("/???", &all_but_one), one);
    }
}

/// No glob distinguishes `2`, `3` and `5`, but of `%2E`, `%3E` and `%5E` only the latter two are valid spellings.
#[test]
fn a_triplet_needs_both_digits() {
    let begun = plain().map(|c| format!("/{c}*"));
    let first = "FEDCBA9810".chars().map(|c| format!("/?{c}*"));
    let second = "0123456789ABCDF".chars().map(|c| format!("/??{c}"));
    let union: Vec<String> = begun.chain(first).chain(second).collect();
    assert_eq!(counterexample("/???", &union), "/%3E");
}

#[test]
fn the_limits_of_keys_count() {
    let lengths: Vec<String> = (1..=255).map(|length| format!("/{}", "?".repeat(length))).collect();
    assert_included("/*", &lengths);
    let but_one: Vec<String> = lengths.iter().filter(|text| text.len() != 255).cloned().collect();
    assert_eq!(counterexample("/*", &but_one), format!("/{}", "x".repeat(254)));

    let deep = "/a".repeat(30);
    assert_included(&format!("{deep}/**"), &[format!("{deep}/*"), format!("{deep}/*/*")]);
    let found = counterexample(&format!("{deep}/**"), &[format!("{deep}/*/*")]);
    assert_eq!(found, format!("{deep}/x"));
    let deep = "/a".repeat(29);
    let found = counterexample(&format!("{deep}/**"), &[format!("{deep}/*"), format!("{deep}/*/*")]);
    assert_eq!(found, format!("{deep}/x/x/x"));
}

/// A shorter prefix does not always have more room: it may have used up the segments, or the bytes of its segment.
#[test]
fn the_way_to_a_counterexample_may_be_the_longer_one() {
    let rest = "/a".repeat(30);
    let union: Vec<String> =
        (1..=4).map(|bytes| format!("/{}/z/**", "?".repeat(bytes))).chain(["/z/**".to_owned()]).collect();
    // `/x/y/z/a/…` would have 33 segments.
    let found = counterexample(&format!("/**/z{rest}"), &union);
    assert_eq!(found, format!("/xxxxx/z{rest}"));

    let rest = "a".repeat(250);
    let alone = (0..=5).map(|bytes| format!("/{}{rest}", "?".repeat(bytes)));
    let below = (1..=6).map(|bytes| format!("/{}/**", "?".repeat(bytes)));
    let union: Vec<String> = alone.chain(below).collect();
    let found = counterexample(&format!("/**/*{rest}"), &union);
    assert_eq!(found, format!("/xxxxxxx/{rest}"));
}
