//! Key globs: the patterns of grants, floors and filters. The grammar and the semantics are documented at [`KeyGlob`].
//!
//! The keys that a grant reaches must not depend on the version of another crate, so parser and matcher are this
//! crate's own. Differential tests compare them with `globset`.

mod matcher;
mod parse;

#[cfg(test)]
mod tests;

use crate::key::{Key, checked_text};
use std::sync::Arc;

pub(crate) use matcher::Split;
pub use parse::{GlobError, GlobErrorKind};

/// Maximum length of a glob, in bytes.
pub const MAX_GLOB_BYTES: usize = 256;
/// Maximum number of `*` and `**` in a glob, counted together.
pub const MAX_WILDCARDS: usize = 8;

/// A validated pattern over keys, such as `/my/**/sta*`. Clones share the text. Equality and order are those of the
/// text: different globs may match the same keys.
///
/// ```ebnf
/// glob    ::= ( "/" globseg )+                /* at most 256 bytes, at most 8 of "*" and "**" */
/// globseg ::= deep | ( plain | triplet | "*" | "?" )+
/// deep    ::= "**"
/// ```
///
/// `plain` and `triplet` are defined at [`Key`]. Rules beyond the grammar:
///
/// - `**` is always a whole segment and never adjacent to another `**`; in other segments two `*` are never adjacent.
/// - A segment without wildcards is a valid segment of a key: not `.`, not `..`.
/// - A glob requires at most 32 segments, where `**` counts as one at the end and as none elsewhere.
/// - There are no classes, braces, escapes or negation: `[ ] { } \ !` are refused.
///
/// So every glob matches at least one key. Matching works on the *bytes of the spelling*; nothing is decoded:
///
/// - a plain character or a triplet matches exactly its own bytes;
/// - `?` matches one byte other than `/`;
/// - `*` matches zero or more bytes other than `/`;
/// - `**` matches zero or more whole segments, or one or more at the end of the glob.
///
/// `/a/**` therefore matches `/a/b` and `/a/b/c`, but neither `/a` nor `/ab`. Since `?` matches one byte of the
/// spelling, an encoded byte such as `%20` needs three of them; `/?20` matches both `/%20` and `/x20`, and `/*0`
/// matches `/%20`. A `%` in a glob always begins a full triplet, so a literal part never ends inside one. `%2F`, an
/// encoded slash, does not separate segments: `/a/*` matches `/a/b%2Fc`.
///
/// Only keys are matched: a text that is not a valid spelling of a key matches no glob.
#[derive(Clone)]
pub struct KeyGlob(Arc<Parsed>);

checked_text!(KeyGlob, GlobError, "a key glob");

/// The text of a glob and the positions of its segments.
struct Parsed {
    text: Box<str>,
    segments: Box<[Segment]>,
    /// Number of bytes before the first wildcard.
    literal_bytes: usize,
    /// Minimum number of segments of a matching key.
    least_segments: usize,
}

/// One segment of a glob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    kind: SegmentKind,
    /// Offset of the first byte after the slash; a glob is short enough for `u16`.
    start: u16,
    /// Offset after the last byte of the segment in the glob's text.
    end: u16,
}

const _: () = assert!(MAX_GLOB_BYTES <= u16::MAX as usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SegmentKind {
    /// A segment without wildcards.
    Literal,
    /// A segment with at least one `*` or `?`.
    Wild,
    /// The segment `**`.
    Deep,
}

impl KeyGlob {
    /// Parses `text` by the grammar.
    ///
    /// # Errors
    /// The first fault from the left, with its column.
    pub fn parse(text: &str) -> Result<Self, GlobError> {
        parse::parse(text).map(|parsed| Self(Arc::new(parsed)))
    }

    /// Returns the text as it was written; globs are not normalised.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// Whether the glob matches `key`. Takes at most about `|key| · |glob|` byte comparisons and does not allocate.
    pub fn matches(&self, key: &Key) -> bool {
        self.matches_split(&Split::of(key))
    }

    /// Whether the glob matches a key that is already split: for matching one key against many globs.
    pub(crate) fn matches_split(&self, key: &Split<'_>) -> bool {
        matcher::matches(&self.0, key, &mut ())
    }

    /// Returns the memory of the glob in bytes, without its handle.
    pub(crate) fn held_bytes(&self) -> usize {
        // Two reference counters, the parsed glob, and its heap data.
        2 * size_of::<usize>() + size_of::<Parsed>() + self.0.text.len() + size_of_val(&*self.0.segments)
    }

    /// Returns the bytes before the first wildcard: every match begins with them. They may end inside a segment
    /// (`/my/sta*` gives `/my/sta`), but never inside a triplet. Scanning the keys with this prefix finds all matches.
    pub fn literal_prefix(&self) -> &str {
        &self.0.text[..self.0.literal_bytes]
    }

    /// Whether the glob has no wildcards, so that it matches exactly the key it spells.
    pub fn is_literal(&self) -> bool {
        self.0.literal_bytes == self.0.text.len()
    }

    /// Iterates over the segments: their kind and their bytes without the slash.
    pub(crate) fn segments(&self) -> impl Iterator<Item = (SegmentKind, &[u8])> {
        self.0.segments.iter().map(|segment| (segment.kind, self.0.bytes(*segment)))
    }
}

impl Parsed {
    fn bytes(&self, segment: Segment) -> &[u8] {
        &self.text.as_bytes()[usize::from(segment.start)..usize::from(segment.end)]
    }
}
