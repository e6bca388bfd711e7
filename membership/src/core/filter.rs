//! Query filters: member names, and regular expressions over tags.
//!
//! Serf's agents use Go's syntax for expressions, which is nearly that of the crate `regex`. Two forms of Go
//! are translated: `\Q…\E` quotes text, and `\101` is a character by its octal number.
//!
//! Expressions are UTF-8, but the matched bytes need not be: Go reads each byte that is not UTF-8 as one
//! character, U+FFFD, and [`readable`] does the same.

use std::borrow::Cow;

use regex::RegexBuilder;

use super::{CommandError, MAX_LIMIT, QueryParams};
use crate::wire::{
    Text,
    serf::{Filter, MAX_FILTERS, TagFilter, Tags},
};

/// Maximum memory of a compiled regular expression, in bytes.
const REGEX_SIZE_LIMIT: usize = 256 * 1024;

/// Compiles a regular expression in Go's syntax; `None` if it is not UTF-8, invalid, or takes more than
/// [`REGEX_SIZE_LIMIT`].
pub(crate) fn compile(expr: &[u8]) -> Option<regex::Regex> {
    build(&translate(std::str::from_utf8(expr).ok()?))
}

/// Like [`compile`], but the expression must match the whole text instead of any part of it.
pub(crate) fn compile_whole(expr: &[u8]) -> Option<regex::Regex> {
    build(&format!("^(?:{})$", translate(std::str::from_utf8(expr).ok()?)))
}

/// Converts bytes to the characters that Go's regular expressions see. `String::from_utf8_lossy` would replace
/// several bytes by one U+FFFD.
pub(crate) fn readable(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.into();
    }
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text.into()
}

fn build(expr: &str) -> Option<regex::Regex> {
    RegexBuilder::new(expr).size_limit(REGEX_SIZE_LIMIT).dfa_size_limit(REGEX_SIZE_LIMIT).build().ok()
}

/// Rewrites the forms that Go's regular expressions accept and the crate `regex` does not: `\Q…\E` and octal
/// numbers.
fn translate(expr: &str) -> String {
    let mut out = String::with_capacity(expr.len());
    let mut rest = expr;
    let mut in_class = false;
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '\\' => escape(rest, in_class, &mut out),
            '[' if !in_class => {
                in_class = true;
                // A closing bracket right at the start belongs to the class.
                let head = ["[^]", "[]", "[^"].into_iter().find(|head| rest.starts_with(head)).unwrap_or("[");
                keep(head, &mut out)
            }
            // A named class such as `[:alpha:]` inside a class.
            '[' => {
                let end = rest.strip_prefix("[:").and_then(|named| named.find(":]")).map_or(1, |at| at + 4);
                keep(&rest[..end], &mut out)
            }
            _ => {
                in_class &= first != ']';
                keep(&rest[..first.len_utf8()], &mut out)
            }
        };
        rest = &rest[len..];
    }
    out
}

fn keep(text: &str, out: &mut String) -> usize {
    out.push_str(text);
    text.len()
}

/// Translates the escape sequence at the start of `rest`, and appends it to `out`. Returns its length in
/// `rest`, in bytes.
fn escape(rest: &str, in_class: bool, out: &mut String) -> usize {
    let escaped = &rest[1..];
    if let Some(quoted) = escaped.strip_prefix('Q').filter(|_| !in_class) {
        let (text, end) = quoted.split_once("\\E").map_or((quoted, 0), |(text, _)| (text, 2));
        out.push_str(&regex::escape(text));
        return 2 + text.len() + end;
    }
    let digits = escaped.bytes().take(3).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
    // A single digit other than 0 is a back-reference, which neither syntax supports.
    if digits > 1 || escaped.starts_with('0') {
        let number = escaped[..digits].bytes().fold(0, |number, digit| number * 8 + u32::from(digit - b'0'));
        out.push_str(&format!("\\x{{{number:x}}}"));
        return 1 + digits;
    }
    let len = 1 + escaped.chars().next().map_or(0, char::len_utf8);
    keep(&rest[..len], out)
}

pub(super) fn encode(params: &QueryParams) -> Result<Vec<Vec<u8>>, CommandError> {
    let mut filters = Vec::new();
    if !params.nodes.is_empty() {
        filters.push(Filter::Nodes(params.nodes.clone()).encode());
    }
    for (tag, expr) in &params.tags {
        if compile(expr).is_none() {
            return Err(CommandError::Filter(expr.clone()));
        }
        filters.push(Filter::Tag(TagFilter { expr: expr.clone(), tag: tag.clone() }).encode());
    }
    Ok(filters)
}

/// Error: a query's filter that this member cannot use: it cannot be decoded, its regular expression is invalid
/// or too large, or the query has too many. As in Serf's agents, the query then does not match. The text is the
/// expression or the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unreadable(pub(super) String);

/// Returns whether a member with this name and these tags matches all encoded filters of a query.
pub(super) fn matches(filters: &[Vec<u8>], name: &[u8], tags: &Tags) -> Result<bool, Unreadable> {
    if filters.len() > MAX_FILTERS {
        return Err(Unreadable(format!("{} filters, {MAX_FILTERS} are read", filters.len())));
    }
    for filter in filters {
        let matches = match Filter::decode(filter) {
            Ok(Filter::Nodes(nodes)) => nodes.iter().any(|node| **node == *name),
            Ok(Filter::Tag(TagFilter { expr, tag })) => {
                let regex = compile(&expr).filter(|_| expr.len() <= MAX_LIMIT);
                let regex =
                    regex.ok_or_else(|| Unreadable(expr.to_string().chars().take(MAX_SHOWN).collect()))?;
                regex.is_match(&readable(tags.get(&tag).map_or(b"", Text::as_bytes)))
            }
            Err(error) => return Err(Unreadable(error.to_string())),
        };
        if !matches {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Maximum number of characters of an unusable regular expression that are reported.
const MAX_SHOWN: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_names_and_tags() {
        let tags =
            Tags::from([("role".into(), "web-1".into()), ("odd".into(), b"caf\xe9\xe2\x82"[..].into())]);
        let nodes = |names: &[&str]| Filter::Nodes(names.iter().map(|n| (*n).into()).collect()).encode();
        let tag =
            |tag: &str, expr: &str| Filter::Tag(TagFilter { expr: expr.into(), tag: tag.into() }).encode();
        let matches = |filters: &[Vec<u8>]| super::matches(filters, b"me", &tags);
        assert_eq!(matches(&[]), Ok(true));
        assert_eq!(matches(&[nodes(&["you", "me"]), tag("role", "^web-[0-9]$")]), Ok(true));
        assert_eq!(matches(&[nodes(&["you"])]), Ok(false));
        assert_eq!(matches(&[nodes(&["me"]), tag("role", "db")]), Ok(false));
        assert_eq!(matches(&[tag("none", "^$")]), Ok(true), "a tag that is not there is empty");
        assert_eq!(matches(&[tag("role", r"^\Qweb-1\E$")]), Ok(true));
        let unreadable = |text: &str| Err(Unreadable(text.into()));
        assert_eq!(matches(&[tag("role", "(")]), unreadable("("), "no expression matches nobody");
        let huge = "(((w{900}){900}){900})?";
        assert_eq!(matches(&[tag("role", huge)]), unreadable(huge), "nor one that is too big");
        assert_eq!(matches(&[nodes(&["you"]), tag("role", "(")]), Ok(false), "as far as it is read");
        for (expr, is_match) in [
            ("^caf...$", true),
            (r"^caf[^a]{3}$", true),
            (r"^caf\x{fffd}+$", true),
            ("^caf..$", false),
            (r"^caf\w", false),
            ("\u{e9}", false),
        ] {
            assert_eq!(matches(&[tag("odd", expr)]), Ok(is_match), "{expr}: each odd byte is one character");
        }
        let odd = TagFilter { expr: b"caf\xe9"[..].into(), tag: "odd".into() };
        assert_eq!(matches(&[Filter::Tag(odd).encode()]), unreadable(r"caf\xe9"), "Go reads none of these");
        assert!(matches(&[vec![7]]).is_err() && matches(&[vec![]]).is_err());
        assert!(matches(&vec![nodes(&["me"]); MAX_FILTERS + 1]).is_err());
    }

    #[test]
    fn what_go_reads_and_the_crate_does_not_is_translated() {
        for (go, text, matches) in [
            (r"\Qa.b\E", "a.b", true),
            (r"\Qa.b\E", "axb", false),
            (r"^\Q[x]+\Ey*$", "[x]+yy", true),
            (r"^\Qab\E+$", "abbb", true),
            (r"\Qopen.ended(", "open.ended(", true),
            (r"^\Q\E$", "", true),
            (r"^a\Q\n\Eb$", r"a\nb", true),
            (r"^\101\102c$", "ABc", true),
            (r"^\0$", "\0", true),
            (r"^\08$", "\u{0}8", true),
            (r"^\1011$", "A1", true),
            (r"^[\101-\103]+$", "ABC", true),
            (r"^[^\101]$", "B", true),
            (r"^[]\101]+$", "]A", true),
            (r"^[^]a]$", "b", true),
            (r"^[[:alpha:]\060]+$", "a0b", true),
            (r"^\\Q$", r"\Q", true),
            (r"^\\101$", r"\101", true),
            (r"^\d\.\pL\x41$", "1.äA", true),
            (r"^\x{263a}ä\Qä.\E$", "☺ää.", true),
        ] {
            let regex = compile(go.as_bytes()).unwrap_or_else(|| panic!("{go} becomes {}", translate(go)));
            assert_eq!(regex.is_match(text), matches, "{go} becomes {}", translate(go));
        }
        for neither in [r"\1", r"\8", r"\E", r"[\Qa\E]", "(", "[", r"a\", r"\é"] {
            assert!(compile(neither.as_bytes()).is_none(), "{neither} becomes {}", translate(neither));
        }
        assert!(compile_whole(br"\Qa.b").expect("one").is_match("a.b"));
        assert!(!compile_whole(br"\Qa.b").expect("one").is_match("a.bc"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_translated_without_a_panic_and_only_once(expr in r"(\\|\[|\]|\^|:|Q|E|[0-9]|\PC){0,24}") {
            let once = translate(&expr);
            if !once.contains("\\Q") {
                proptest::prop_assert_eq!(translate(&once), once);
            }
        }
    }
}
