//! Parsing of keys, globs, prefixes and ids on the command line; errors mark the faulty place, like those of
//! compilers.

use crate::codes;
use crate::error::Failure;
use crate::output::{counted, printable};
use clap::builder::{OsStringValueParser, TypedValueParser};
use kvgossip_grants::{FilterRule, GlobError, Key, KeyError, KeyGlob, PathPrefix};
use kvgossip_membership::Text;
use std::ffi::OsString;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::str::FromStr;

/// Parses a number of bytes: digits, optionally with `K`, `M`, `G` or `T` for KiB, MiB, GiB or TiB; `MiB` and `MB`
/// are the same as `M`.
pub(crate) fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let doublings = match unit.strip_suffix("iB").or(unit.strip_suffix('B')).unwrap_or(unit) {
        "" => 0,
        "K" | "k" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << doublings)
}

/// Formats a number of bytes in the fitting unit, for people: `17 bytes`, `1.5 KiB`, `2 MiB`.
pub(crate) fn show_bytes(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(doublings, _)| bytes >> doublings > 0) {
        Some((doublings, unit)) => {
            let number = format!("{:.1}", bytes as f64 / (1u64 << doublings) as f64);
            format!("{} {unit}", number.strip_suffix(".0").unwrap_or(&number))
        }
        None => counted(bytes, "byte", "bytes"),
    }
}

/// Parses a whole number in decimal digits.
pub(crate) fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "write a whole number".to_owned())
}

/// Parses a whole number and checks that it is in a range.
pub(crate) fn within<T>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text: &str| {
        let number = text.parse::<T>().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("write a whole number from {} to {}", range.start(), range.end()))
    }
}

/// Maximum number of characters of a text that an error shows on either side of the fault.
const SHOWN: usize = 60;

/// A text that is not valid, and the place of the fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TextFault {
    code: &'static str,
    what: &'static str,
    reason: String,
    text: String,
    /// Column of the fault in characters, from 1; `None`: the text as a whole is wrong.
    column: Option<usize>,
}

impl TextFault {
    /// Creates a fault of the text as a whole.
    pub(crate) fn whole(code: &'static str, what: &'static str, reason: &str, text: &str) -> Self {
        Self { code, what, reason: reason.to_owned(), text: text.to_owned(), column: None }
    }
}

impl std::error::Error for TextFault {}

impl std::fmt::Display for TextFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not {}: {}", self.what, self.reason)
    }
}

impl From<&TextFault> for Failure {
    fn from(fault: &TextFault) -> Self {
        let failure = Self::new(fault.code, fault.to_string());
        let Some(column) = fault.column else {
            let (shown, _) = excerpt(&fault.text, 1);
            return failure.note(format!("  {shown}"));
        };
        let (shown, at) = excerpt(&fault.text, column);
        failure.note(format!("  {shown}")).note(format!("  {:>at$} column {column}", "^"))
    }
}

/// Returns the part of `text` around `column`, and the column of the fault in that part.
fn excerpt(text: &str, column: usize) -> (String, usize) {
    let skipped = column.saturating_sub(SHOWN + 1);
    let mut shown: String = text.chars().skip(skipped).take(2 * SHOWN + 1).collect();
    if text.chars().nth(skipped + 2 * SHOWN + 1).is_some() {
        shown.push('…');
    }
    let mut at = column - skipped;
    if skipped > 0 {
        shown.insert(0, '…');
        at += 1;
    }
    (printable(&shown), at)
}

fn key_fault(what: &'static str, text: &str, error: &KeyError) -> TextFault {
    let (reason, column) = (error.kind().to_string(), Some(error.column()));
    TextFault { code: codes::KEY_MALFORMED, what, reason, text: text.into(), column }
}

fn glob_fault(text: &str, error: &GlobError, column: usize) -> TextFault {
    let (reason, column) = (error.kind().to_string(), Some(column));
    TextFault { code: codes::GLOB_MALFORMED, what: "a key glob", reason, text: text.into(), column }
}

/// Returns a parser of names in their displayed form.
pub(crate) fn shown_names() -> impl TypedValueParser<Value = String> {
    OsStringValueParser::new().try_map(shown_name)
}

/// Parses a displayed name. It is UTF-8, whatever bytes the name itself has.
fn shown_name(given: OsString) -> Result<String, TextFault> {
    given.into_string().map_err(|given| {
        let shown = Text::from(given.as_bytes()).to_string();
        let reason =
            "its bytes are not UTF-8; write it as it is shown, each such byte as \\xHH, in single quotes:";
        TextFault::whole(codes::USAGE, "the shown form of a name", reason, &shown)
    })
}

/// Parses a key.
pub(crate) fn key(text: &str) -> Result<Key, TextFault> {
    Key::parse(text).map_err(|error| key_fault("a key", text, &error))
}

/// Parses a path prefix.
pub(crate) fn prefix(text: &str) -> Result<PathPrefix, TextFault> {
    PathPrefix::parse(text).map_err(|error| key_fault("a path prefix", text, &error))
}

/// Parses a key glob.
pub(crate) fn glob(text: &str) -> Result<KeyGlob, TextFault> {
    KeyGlob::parse(text).map_err(|error| glob_fault(text, &error, error.column()))
}

/// Parses a key glob, optionally preceded by `!`.
pub(crate) fn filter_rule(text: &str) -> Result<FilterRule, TextFault> {
    let (excludes, glob) = text.strip_prefix('!').map_or((false, text), |glob| (true, glob));
    let parsed = KeyGlob::parse(glob);
    let glob = parsed.map_err(|error| glob_fault(text, &error, error.column() + usize::from(excludes)))?;
    Ok(FilterRule { excludes, glob })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(fault: &TextFault) -> (usize, Option<char>) {
        let column = fault.column.unwrap();
        let (shown, at) = excerpt(&fault.text, column);
        (column, shown.chars().nth(at - 1))
    }

    #[test]
    fn bytes_are_read_with_their_unit_and_shown_with_it() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("1048576", Some(1 << 20)),
            ("2K", Some(2 << 10)),
            ("512M", Some(512 << 20)),
            ("3GiB", Some(3 << 30)),
            ("1TB", Some(1 << 40)),
            ("", None),
            ("G", None),
            ("1.5G", None),
            ("1X", None),
            ("-1", None),
            ("99999999T", None),
        ] {
            assert_eq!(parse_bytes(text), bytes, "{text:?}");
        }
        assert_eq!(show_bytes(999), "999 bytes");
        assert_eq!(show_bytes(1), "1 byte");
        assert_eq!(show_bytes(3 << 29), "1.5 GiB");
        assert_eq!(show_bytes(1 << 20), "1 MiB");
    }

    #[test]
    fn numbers_are_refused_with_what_is_taken() {
        assert_eq!(whole::<u32>("7"), Ok(7));
        assert_eq!(whole::<u32>("x"), Err("write a whole number".to_owned()));
        assert_eq!(within(1..=5u8)("5"), Ok(5));
        for text in ["0", "6", "300", "x", ""] {
            assert_eq!(within(1..=5u8)(text), Err("write a whole number from 1 to 5".to_owned()), "{text:?}");
        }
    }

    #[test]
    fn the_mark_stands_under_the_fault() {
        assert_eq!(marked(&key("/a//b").unwrap_err()), (4, Some('/')));
        assert_eq!(marked(&glob("/a/[bc]").unwrap_err()), (4, Some('[')));
        assert_eq!(marked(&filter_rule("!/a/[bc]").unwrap_err()), (5, Some('[')));
        assert_eq!(marked(&prefix("a").unwrap_err()), (1, Some('a')));
    }

    #[test]
    fn long_and_foreign_texts_are_shown_in_part() {
        let fault = key(&format!("/{}{}", "a/".repeat(10), "b".repeat(5000))).unwrap_err();
        let (shown, at) = excerpt(&fault.text, fault.column.unwrap());
        assert!(shown.chars().count() <= 2 * SHOWN + 3, "{shown}");
        assert_eq!(shown.chars().nth(at - 1), Some('b'));
        let fault = key("/a\u{1b}b").unwrap_err();
        assert_eq!(excerpt(&fault.text, fault.column.unwrap()), ("/a\u{fffd}b".to_owned(), 3));
        assert_eq!(excerpt("", 1), (String::new(), 1));
    }
}
