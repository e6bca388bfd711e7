use super::GlobErrorKind::*;
use super::*;
use crate::key::{KeyErrorKind, MAX_KEY_BYTES, MAX_SEGMENTS};

fn glob(text: &str) -> KeyGlob {
    KeyGlob::parse(text).expect(text)
}

fn key(text: &str) -> Key {
    Key::parse(text).expect(text)
}

#[test]
fn golden_matches() {
    for (pattern, inside, outside) in [
        (
            "/my/**/sta*",
            &["/my/key/state", "/my/sta", "/my/a/b/static"][..],
            &["/my/key/stop", "/my", "/sta", "/my/sta/x"][..],
        ),
        ("/a", &["/a"], &["/a/b", "/ab", "/A"]),
        ("/a/**", &["/a/b", "/a/b/c"], &["/a", "/ab", "/b/a"]),
        ("/**", &["/a", "/a/b/c"], &[]),
        ("/**/b", &["/b", "/a/b", "/a/a/b", "/b/b"], &["/a", "/b/a", "/ab"]),
        ("/a/**/b", &["/a/b", "/a/x/b", "/a/b/b"], &["/a", "/b", "/ab"]),
        ("/**/a/**", &["/a/b", "/x/a/b"], &["/a", "/x/a", "/x/y"]),
        ("/**/*/**", &["/a/b", "/a/b/c"], &["/a"]),
        ("/*", &["/a", "/a%2Fb"], &["/a/b"]),
        ("/a*", &["/a", "/ab"], &["/a/b", "/b"]),
        ("/?", &["/a"], &["/ab", "/%20"]),
        ("/???", &["/abc", "/%20"], &["/ab", "/a/b"]),
        ("/?20", &["/%20", "/x20"], &["/%21"]),
        ("/*0", &["/%20", "/0"], &["/%21"]),
        ("/a%2A", &["/a%2A"], &["/ab"]),
        ("/*a*b*", &["/ab", "/xaxbx", "/aab"], &["/ba", "/a/b"]),
    ] {
        let pattern = glob(pattern);
        for text in inside {
            assert!(pattern.matches(&key(text)), "{pattern} {text}");
        }
        for text in outside {
            assert!(!pattern.matches(&key(text)), "{pattern} {text}");
        }
    }
}

#[test]
fn refusals_point_at_the_column() {
    for (text, column, kind) in [
        ("/a[b]", 3, Class),
        ("/a]", 3, Class),
        ("/a[!/]", 3, Class),
        ("/{a,b}", 2, Brace),
        ("/a}", 3, Brace),
        ("/a\\*", 3, Escape),
        ("!/a", 1, Negation),
        ("/!a", 2, Negation),
        ("/***", 2, TripleStar),
        ("/a/b****", 5, TripleStar),
        ("/**/**", 5, AdjacentDoubleStar),
        ("/a/**/**/b", 7, AdjacentDoubleStar),
        ("/a**", 3, PartialDoubleStar),
        ("/**a", 2, PartialDoubleStar),
        ("/?**", 3, PartialDoubleStar),
        ("/**?", 2, PartialDoubleStar),
        ("/*a**", 4, PartialDoubleStar),
        ("", 1, Spelling(KeyErrorKind::NoLeadingSlash)),
        ("**", 1, Spelling(KeyErrorKind::NoLeadingSlash)),
        ("/", 1, Spelling(KeyErrorKind::TrailingSlash)),
        ("/**/", 4, Spelling(KeyErrorKind::TrailingSlash)),
        ("//**", 2, Spelling(KeyErrorKind::EmptySegment)),
        ("/*/.", 4, Spelling(KeyErrorKind::DotSegment)),
        ("/../*", 2, Spelling(KeyErrorKind::DotSegment)),
        ("/%*", 2, Spelling(KeyErrorKind::BrokenTriplet)),
        ("/%2?", 2, Spelling(KeyErrorKind::BrokenTriplet)),
        ("/*%41", 3, Spelling(KeyErrorKind::NeedlessTriplet('A'))),
        ("/*%2f", 5, Spelling(KeyErrorKind::LowerCaseTriplet('F'))),
        ("/* ", 3, Spelling(KeyErrorKind::Character(' '))),
        ("/*é", 3, Spelling(KeyErrorKind::Character('é'))),
    ] {
        let error = KeyGlob::parse(text).expect_err(text);
        assert_eq!((error.column(), error.kind()), (column, &kind), "{text}");
    }
}

#[test]
fn limits_are_inclusive() {
    let fault = |text: &str| KeyGlob::parse(text).map_err(|error| (error.column(), error.kind().clone()));
    assert!(fault(&"/*".repeat(MAX_WILDCARDS)).is_ok());
    assert_eq!(fault(&"/*".repeat(MAX_WILDCARDS + 1)), Err((2 * MAX_WILDCARDS + 2, TooManyWildcards)));
    assert!(fault(&format!("{}/**", "/*".repeat(MAX_WILDCARDS - 1))).is_ok());
    assert_eq!(
        fault(&format!("{}/**", "/*".repeat(MAX_WILDCARDS))),
        Err((2 * MAX_WILDCARDS + 2, TooManyWildcards))
    );

    assert!(fault(&format!("/{}", "?".repeat(MAX_GLOB_BYTES - 1))).is_ok());
    assert_eq!(fault(&format!("/{}", "?".repeat(MAX_GLOB_BYTES))), Err((MAX_GLOB_BYTES + 1, TooLong)));
    assert_eq!(fault(&format!("/{}%00", "a".repeat(MAX_GLOB_BYTES - 2))), Err((MAX_GLOB_BYTES + 1, TooLong)));

    let deepest = "/a".repeat(MAX_SEGMENTS);
    let too_many = |at: usize| Err((at, Spelling(KeyErrorKind::TooManySegments)));
    assert!(fault(&deepest).is_ok());
    assert!(fault(&format!("/**{deepest}")).is_ok());
    assert_eq!(fault(&format!("{deepest}/a")), too_many(2 * MAX_SEGMENTS + 1));
    assert_eq!(fault(&format!("{deepest}/**")), too_many(2 * MAX_SEGMENTS + 1));
    assert!(glob(&format!("/**{deepest}")).matches(&key(&deepest)));
}

#[test]
fn the_literal_prefix_is_all_before_the_first_wildcard() {
    for (pattern, prefix, literal) in [
        ("/my/**/sta*", "/my/", false),
        ("/my/sta*", "/my/sta", false),
        ("/a%20?", "/a%20", false),
        ("/**", "/", false),
        ("/a/b", "/a/b", true),
    ] {
        assert_eq!((glob(pattern).literal_prefix(), glob(pattern).is_literal()), (prefix, literal));
    }
}

#[test]
fn serde_checks_what_it_reads() {
    let pattern = glob("/a/*");
    let bytes = postcard::to_allocvec(&pattern).unwrap();
    assert_eq!(bytes, b"\x04/a/*");
    assert_eq!(postcard::from_bytes::<KeyGlob>(&bytes), Ok(pattern));
    assert!(postcard::from_bytes::<KeyGlob>(b"\x04/a**").is_err());
}

struct Count(usize);

impl matcher::Meter for Count {
    fn step(&mut self) {
        self.0 += 1;
    }
}

/// Globs and keys for which a backtracking matcher would take millions of years.
#[test]
fn the_worst_inputs_take_no_more_steps_than_the_product_of_the_lengths() {
    let long = format!("/{}", "a".repeat(255)).repeat(4);
    let narrow = "/a".repeat(32);
    let mixed = format!("/{}b", "a".repeat(31)).repeat(31);
    for pattern in [
        format!("/{}b", "*a".repeat(8)),
        format!("/{}", "*aaaaaaaaaaaaaaaaaaaaaaaaaaaaab".repeat(8)),
        format!("{}/b", "/**/a".repeat(8)),
        format!("{}/a/b", "/**/a/a/a/a".repeat(3)),
        format!("{}/*b", "/**/*a".repeat(3)),
        format!("/**/*{}b/**/*{0}c", "a?".repeat(60)),
        format!("/**/{}", "?".repeat(250)),
    ] {
        let pattern = glob(&pattern);
        for text in [&long, &narrow, &mixed] {
            assert!(text.len() <= MAX_KEY_BYTES);
            let mut count = Count(0);
            matcher::matches(&pattern.0, &Split::of(&key(text)), &mut count);
            assert!(count.0 <= 2 * text.len() * pattern.as_str().len(), "{pattern} {text}: {}", count.0);
        }
    }
}
