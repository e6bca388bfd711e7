//! Key globs: the patterns of grants, floors and filters. The grammar and the meaning stand at [`KeyGlob`].
//!
//! What a grant reaches must not depend on the version of a crate, so both are this crate's own; `globset` judges them in
//! differential tests.

mod matcher;
mod parse;

#[cfg(test)]
mod tests;

use crate::key::{Key, checked_text};
use std::sync::Arc;

pub(crate) use matcher::Split;
pub use parse::{GlobError, GlobErrorKind};

/// Longest glob, in bytes.
pub const MAX_GLOB_BYTES: usize = 256;
/// Most `*` and `**` of a glob, together.
pub const MAX_WILDCARDS: usize = 8;

/// A checked pattern over keys, such as `/my/**/sta*`. Cloning shares it. Order and equality are those of the text: two
/// globs that match the same keys may differ.
///
/// ```ebnf
/// glob    ::= ( "/" globseg )+                /* at most 256 bytes, at most 8 of "*" and "**" */
/// globseg ::= deep | ( plain | triplet | "*" | "?" )+
/// deep    ::= "**"
/// ```
///
/// `plain` and `triplet` are those of a [`Key`]. Beyond the productions:
///
/// - `**` is only ever a whole segment and never stands beside another `**`; in other segments two `*` never touch.
/// - A segment without wildcards is one that a key may have: not `.`, not `..`.
/// - A glob asks for at most 32 segments, counting `**` as none, but as one at the end.
/// - Classes, braces, escapes and negation do not exist: `[ ] { } \ !` are refused.
///
/// So every glob matches at least one key. The meaning is fixed over the *bytes of the spelling*, nothing is decoded:
///
/// - a plain character or a triplet matches exactly its own bytes;
/// - `?` matches one byte other than `/`;
/// - `*` matches any number of bytes other than `/`, also none;
/// - `**` matches any number of whole segments: also none, but at least one where it ends the glob.
///
/// `/a/**` therefore matches `/a/b` and `/a/b/c`, but neither `/a` nor `/ab`. As `?` is one byte of the spelling, an encoded
/// byte such as `%20` takes three of them; `/?20` matches both `/%20` and `/x20`, and `/*0` matches `/%20`. A `%` that is
/// written in a glob always begins a full triplet, so a literal part never ends inside one. `%2F`, an encoded slash, does
/// not separate: `/a/*` matches `/a/b%2Fc`.
///
/// Only keys are matched: a text that is not the spelling of a key is outside every glob.
#[derive(Clone)]
pub struct KeyGlob(Arc<Parsed>);

checked_text!(KeyGlob, GlobError, "a key glob");

/// A glob's text and where its parts are.
struct Parsed {
    text: Box<str>,
    segments: Box<[Segment]>,
    /// Bytes before the first wildcard.
    literal_bytes: usize,
    /// Segments that a match has at least.
    least_segments: usize,
}

/// One segment of a glob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    kind: SegmentKind,
    /// Place of the first byte after the slash; small, as a glob is.
    start: u16,
    /// Place after the last byte.
    end: u16,
}

const _: () = assert!(MAX_GLOB_BYTES <= u16::MAX as usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SegmentKind {
    /// No wildcards.
    Literal,
    /// Some `*` or `?`.
    Wild,
    /// `**`.
    Deep,
}

impl KeyGlob {
    /// Checks `text` against the grammar.
    ///
    /// # Errors
    /// The first fault from the left, with its column.
    pub fn parse(text: &str) -> Result<Self, GlobError> {
        parse::parse(text).map(|parsed| Self(Arc::new(parsed)))
    }

    /// The text as it was written: globs are not normalised.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// Whether `key` is one of the keys that this glob stands for. Takes at most about `|key| · |glob|` byte comparisons,
    /// allocates nothing.
    pub fn matches(&self, key: &Key) -> bool {
        self.matches_split(&Split::of(key))
    }

    /// The same for a key that meets many globs.
    pub(crate) fn matches_split(&self, key: &Split<'_>) -> bool {
        matcher::matches(&self.0, key, &mut ())
    }

    /// Bytes of memory that the glob takes, apart from its handle.
    pub(crate) fn held_bytes(&self) -> usize {
        // Two counters of references, and what the parts point to.
        2 * size_of::<usize>() + size_of::<Parsed>() + self.0.text.len() + size_of_val(&*self.0.segments)
    }

    /// The longest run of bytes that the glob itself shows every match to begin with: all before the first wildcard. It
    /// may end inside a segment (`/my/sta*` gives `/my/sta`), never inside a triplet. Scanning the keys that begin with it
    /// finds all matches.
    pub fn literal_prefix(&self) -> &str {
        &self.0.text[..self.0.literal_bytes]
    }

    /// Whether the glob has no wildcards, so that it matches the one key it spells.
    pub fn is_literal(&self) -> bool {
        self.0.literal_bytes == self.0.text.len()
    }

    /// The segments with their bytes, slashes left out.
    pub(crate) fn segments(&self) -> impl Iterator<Item = (SegmentKind, &[u8])> {
        self.0.segments.iter().map(|segment| (segment.kind, self.0.bytes(*segment)))
    }
}

impl Parsed {
    fn bytes(&self, segment: Segment) -> &[u8] {
        &self.text.as_bytes()[usize::from(segment.start)..usize::from(segment.end)]
    }
}
