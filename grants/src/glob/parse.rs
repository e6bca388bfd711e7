//! Parser of key globs.

use super::{MAX_GLOB_BYTES, MAX_WILDCARDS, Parsed, Segment, SegmentKind};
use crate::key::{self, Fault, KeyErrorKind, MAX_SEGMENTS};

/// The kind of a fault in a glob.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GlobErrorKind {
    /// A fault of spelling that a key can have as well.
    #[error(transparent)]
    Spelling(#[from] KeyErrorKind),
    /// `[` or `]`: character classes are not supported.
    #[error("character classes are not supported: use `?`, or several globs")]
    Class,
    /// `{` or `}`: alternatives are not supported.
    #[error("alternatives in braces are not supported: use several globs")]
    Brace,
    /// A backslash: escapes are not supported.
    #[error("escapes are not supported: spell a special character as %XX (`*` is %2A, `?` is %3F)")]
    Escape,
    /// `!`: a glob cannot exclude keys by itself.
    #[error("`!` only stands in front of a glob of a filter: a glob itself cannot exclude")]
    Negation,
    /// Three or more `*` in a row, which have no meaning.
    #[error("`***` means nothing: write `*` or `**`")]
    TripleStar,
    /// `**` that is only a part of its segment.
    #[error("`**` must be a whole segment: write `*`, or put it between slashes")]
    PartialDoubleStar,
    /// Two adjacent `**` segments.
    #[error("`**` beside `**`: one is enough (write `**/*` for at least one segment)")]
    AdjacentDoubleStar,
    /// More than [`MAX_WILDCARDS`] of `*` and `**`, counted together.
    #[error("a glob has at most {MAX_WILDCARDS} of `*` and `**`: use several globs")]
    TooManyWildcards,
    /// The glob is longer than [`MAX_GLOB_BYTES`].
    #[error("a glob has at most {MAX_GLOB_BYTES} bytes: shorten it")]
    TooLong,
}

/// A fault in the text of a glob and its position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {kind}")]
pub struct GlobError {
    column: usize,
    kind: GlobErrorKind,
}

impl GlobError {
    /// Returns the position of the fault, counted in characters from 1. All characters before it are ASCII.
    pub fn column(&self) -> usize {
        self.column
    }

    /// Returns the kind of the fault.
    pub fn kind(&self) -> &GlobErrorKind {
        &self.kind
    }

    /// Makes the error for a fault at byte `at`, counted from 0.
    fn at(at: usize, kind: GlobErrorKind) -> Self {
        Self { column: at + 1, kind }
    }

    fn spelling((at, kind): Fault) -> Self {
        Self::at(at, GlobErrorKind::Spelling(kind))
    }
}

pub(super) fn parse(text: &str) -> Result<Parsed, GlobError> {
    if text.starts_with('!') {
        return Err(GlobError::at(0, GlobErrorKind::Negation));
    }
    if !text.starts_with('/') {
        return Err(GlobError::spelling((0, KeyErrorKind::NoLeadingSlash)));
    }
    let mut reader = Reader { text, at: 0, wildcards: 0, first_wildcard: None };
    let mut segments: Vec<Segment> = Vec::new();
    let mut least_segments = 0;
    while reader.at < text.len() {
        let slash = reader.at;
        let segment = reader.segment()?;
        let deep = segment.kind == SegmentKind::Deep;
        if deep && segments.last().is_some_and(|last| last.kind == SegmentKind::Deep) {
            return Err(GlobError::at(usize::from(segment.start), GlobErrorKind::AdjacentDoubleStar));
        }
        least_segments += usize::from(!deep || usize::from(segment.end) == text.len());
        if least_segments > MAX_SEGMENTS {
            return Err(GlobError::spelling((slash, KeyErrorKind::TooManySegments)));
        }
        segments.push(segment);
    }
    let literal_bytes = reader.first_wildcard.unwrap_or(text.len());
    Ok(Parsed { text: text.into(), segments: segments.into(), literal_bytes, least_segments })
}

/// Parser state: reads a glob from left to right.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// Number of `*` and `**` read so far, to enforce [`MAX_WILDCARDS`].
    wildcards: usize,
    first_wildcard: Option<usize>,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Reads a slash and the segment after it, and checks both.
    fn segment(&mut self) -> Result<Segment, GlobError> {
        self.advance(1)?;
        let start = self.at;
        let mut kind = SegmentKind::Literal;
        while let Some(byte) = self.peek().filter(|byte| *byte != b'/') {
            match byte {
                b'*' => kind = self.stars(start)?,
                b'?' => {
                    self.first_wildcard.get_or_insert(self.at);
                    kind = SegmentKind::Wild;
                    self.advance(1)?;
                }
                _ => self.literal(byte)?,
            }
        }
        // No length check is needed: the limit of a glob leaves 255 bytes after the first slash, as many as a segment
        // of a key may have.
        key::segment_name(self.text.as_bytes(), start, self.at).map_err(GlobError::spelling)?;
        let place = |at: usize| u16::try_from(at).unwrap_or(u16::MAX);
        Ok(Segment { kind, start: place(start), end: place(self.at) })
    }

    /// Reads a run of `*` at the current position, in the segment that began at byte `start`.
    fn stars(&mut self, start: usize) -> Result<SegmentKind, GlobError> {
        let first = self.at;
        let rest = &self.text.as_bytes()[first..];
        let run = rest.iter().take_while(|byte| **byte == b'*').count();
        let whole = first == start && matches!(rest.get(run), None | Some(b'/'));
        let kind = match run {
            1 => SegmentKind::Wild,
            2 if whole => SegmentKind::Deep,
            2 => return Err(GlobError::at(first, GlobErrorKind::PartialDoubleStar)),
            _ => return Err(GlobError::at(first, GlobErrorKind::TripleStar)),
        };
        self.wildcards += 1;
        if self.wildcards > MAX_WILDCARDS {
            return Err(GlobError::at(first, GlobErrorKind::TooManyWildcards));
        }
        self.first_wildcard.get_or_insert(first);
        self.advance(run)?;
        Ok(kind)
    }

    fn literal(&mut self, byte: u8) -> Result<(), GlobError> {
        let special = match byte {
            b'[' | b']' => GlobErrorKind::Class,
            b'{' | b'}' => GlobErrorKind::Brace,
            b'\\' => GlobErrorKind::Escape,
            b'!' => GlobErrorKind::Negation,
            _ => {
                let width = key::character(self.text, self.at).map_err(GlobError::spelling)?;
                return self.advance(width);
            }
        };
        Err(GlobError::at(self.at, special))
    }

    fn advance(&mut self, width: usize) -> Result<(), GlobError> {
        self.at += width;
        if self.at > MAX_GLOB_BYTES {
            return Err(GlobError::at(MAX_GLOB_BYTES, GlobErrorKind::TooLong));
        }
        Ok(())
    }
}
