use super::*;
use proptest::prelude::*;

fn fault(text: &str) -> (usize, KeyErrorKind) {
    let error = Key::parse(text).expect_err(text);
    assert!(error.to_string().starts_with(&format!("column {}: ", error.column())));
    (error.column(), error.kind().clone())
}

#[test]
fn names_of_every_allowed_character_are_keys() {
    for text in
        ["/a", "/my/key/state", "/AZaz09._~@:+=,-", "/%00%20%2A%2F%3F%FF", "/...", "/.a/a.", "/..a", "/a%25"]
    {
        assert_eq!(Key::parse(text).map(|key| key.as_str().to_owned()).as_deref(), Ok(text));
    }
}

#[test]
fn refusals_point_at_the_fault() {
    use KeyErrorKind::*;
    for (text, column, kind) in [
        ("", 1, NoLeadingSlash),
        ("a", 1, NoLeadingSlash),
        ("é", 1, NoLeadingSlash),
        ("/", 1, TrailingSlash),
        ("/a/", 3, TrailingSlash),
        ("//a", 2, EmptySegment),
        ("/a//b", 4, EmptySegment),
        ("/a/./b", 4, DotSegment),
        ("/..", 2, DotSegment),
        ("/a b", 3, Character(' ')),
        ("/ab*", 4, Character('*')),
        ("/ab?", 4, Character('?')),
        ("/a\n", 3, Character('\n')),
        ("/aé", 3, Character('é')),
        ("/a%", 3, BrokenTriplet),
        ("/a%2", 3, BrokenTriplet),
        ("/a%2/b", 3, BrokenTriplet),
        ("/a%G0", 3, BrokenTriplet),
        ("/a%2é", 3, BrokenTriplet),
        ("/a%2f", 5, LowerCaseTriplet('F')),
        ("/a%aF", 4, LowerCaseTriplet('A')),
        ("/a%41", 3, NeedlessTriplet('A')),
        ("/%2E%2E", 2, NeedlessTriplet('.')),
    ] {
        assert_eq!(fault(text), (column, kind), "{text}");
    }
    assert!(Key::parse("/aé").unwrap_err().to_string().contains("%C3%A9"));
}

#[test]
fn limits_are_inclusive_and_the_column_is_the_first_byte_beyond() {
    let segment = "s".repeat(MAX_SEGMENT_BYTES);
    assert!(Key::parse(&format!("/{segment}")).is_ok());
    assert_eq!(fault(&format!("/{segment}s")), (MAX_SEGMENT_BYTES + 2, KeyErrorKind::SegmentTooLong));
    assert_eq!(
        fault(&format!("/{}%00", &segment[2..])),
        (MAX_SEGMENT_BYTES + 2, KeyErrorKind::SegmentTooLong)
    );

    assert!(Key::parse(&"/s".repeat(MAX_SEGMENTS)).is_ok());
    assert_eq!(fault(&"/s".repeat(MAX_SEGMENTS + 1)), (2 * MAX_SEGMENTS + 1, KeyErrorKind::TooManySegments));

    let longest = format!("/{segment}").repeat(4);
    assert_eq!(longest.len(), MAX_KEY_BYTES);
    assert!(Key::parse(&longest).is_ok());
    assert_eq!(fault(&format!("{longest}/s")), (MAX_KEY_BYTES + 1, KeyErrorKind::TooLong));
}

#[test]
fn a_path_prefix_ends_at_a_segment() {
    let key = |text| Key::parse(text).unwrap();
    let prefix = PathPrefix::parse("/a").unwrap();
    assert!(prefix.contains(&key("/a")));
    assert!(prefix.contains(&key("/a/b")));
    assert!(!prefix.contains(&key("/ab")));
    assert!(!prefix.contains(&key("/b/a")));
    assert!(!prefix.contains(&key("/a%2Fb")));
    assert!(!PathPrefix::parse("/a/b").unwrap().contains(&key("/a")));
    assert_eq!(PathPrefix::parse("/"), Ok(PathPrefix::root()));
    assert!(PathPrefix::root().contains(&key("/a/b")));
    assert!(PathPrefix::parse("").is_err());
    assert!(PathPrefix::parse("/a/").is_err());
}

#[test]
fn serde_checks_what_it_reads() {
    let key = Key::parse("/a/b").unwrap();
    let bytes = postcard::to_allocvec(&key).unwrap();
    assert_eq!(bytes, b"\x04/a/b");
    assert_eq!(postcard::from_bytes::<Key>(&bytes), Ok(key));
    assert!(postcard::from_bytes::<Key>(b"\x01/").is_err());
    assert_eq!(postcard::from_bytes::<PathPrefix>(b"\x01/"), Ok(PathPrefix::root()));
    assert!(postcard::from_bytes::<PathPrefix>(b"\x02a/").is_err());
}

/// An independent check that shares no code with the parser: it decodes every segment and spells it again.
fn respelled(text: &str) -> Option<String> {
    let mut again = String::new();
    for segment in text.strip_prefix('/')?.split('/') {
        let mut rest = segment.as_bytes();
        let mut spelled = String::new();
        while let [first, tail @ ..] = rest {
            let (byte, tail) = match (first, tail) {
                (b'%', [high, low, tail @ ..]) => {
                    let digits = [*high, *low];
                    (u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?, tail)
                }
                (b'%', _) => return None,
                (byte, tail) => (*byte, tail),
            };
            let plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~@:+=,-".as_bytes();
            if plain.contains(&byte) {
                spelled.push(char::from(byte));
            } else {
                spelled.push_str(&format!("%{byte:02X}"));
            }
            rest = tail;
        }
        if spelled.is_empty() || spelled == "." || spelled == ".." || spelled.len() > 255 {
            return None;
        }
        again = format!("{again}/{spelled}");
    }
    (again.len() <= 1024 && again.matches('/').count() <= 32).then_some(again)
}

proptest! {
    #[test]
    fn a_key_is_exactly_what_spells_itself(text in "(/|[a-c.%é]|%[0-9A-Fa-g+]{0,2}){0,12}") {
        prop_assert_eq!(Key::parse(&text).is_ok(), respelled(&text).as_ref() == Some(&text));
    }

    #[test]
    fn any_text_is_judged_without_panic(text in ".{0,64}") {
        if let Err(error) = Key::parse(&text) {
            prop_assert!(error.column() >= 1 && error.column() <= text.len().max(1));
        }
    }

    #[test]
    fn order_is_the_order_of_the_bytes(a in "(/[a-c.%-]{1,3}){1,3}", b in "(/[a-c~-]{1,3}){1,3}") {
        if let (Ok(x), Ok(y)) = (Key::parse(&a), Key::parse(&b)) {
            prop_assert_eq!(x.cmp(&y), a.as_bytes().cmp(b.as_bytes()));
        }
    }
}

#[test]
fn any_name_can_be_spelled_as_a_segment() {
    assert_eq!(spell(b"plain-1.conf"), "plain-1.conf");
    assert_eq!(spell("a b/\u{e9}%".as_bytes()), "a%20b%2F%C3%A9%25");
    let every: Vec<u8> = (0..=255).collect();
    for part in every.chunks(64) {
        let key = format!("/{}", spell(part));
        assert!(Key::parse(&key).is_ok(), "{key}");
    }
}
