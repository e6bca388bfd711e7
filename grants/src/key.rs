//! Keys and path prefixes. The grammar is documented at [`Key`].

use std::sync::Arc;

/// Maximum length of a key's spelling, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;
/// Maximum length of one segment's spelling, in bytes, without its slash.
pub const MAX_SEGMENT_BYTES: usize = 255;
/// Maximum number of segments of a key, each after one slash.
pub const MAX_SEGMENTS: usize = 32;

/// The kind of a fault in the spelling of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyErrorKind {
    /// The first character is missing or is not a slash.
    #[error("a path begins with `/`: put one in front")]
    NoLeadingSlash,
    /// Two slashes are adjacent.
    #[error("an empty segment: remove one `/`")]
    EmptySegment,
    /// The last character is a slash.
    #[error("a slash at the end: remove it")]
    TrailingSlash,
    /// A whole segment is `.` or `..`.
    #[error("`.` and `..` cannot be a segment: choose another name")]
    DotSegment,
    /// The text contains this character, which must be spelled as triplets.
    #[error("{0:?} is not one of A-Z a-z 0-9 . _ ~ @ : + = , - : spell it {spelled}", spelled = triplets(*.0))]
    Character(char),
    /// `%` is not followed by two hexadecimal digits.
    #[error("`%` needs two hexadecimal digits after it (a percent sign itself is spelled %25)")]
    BrokenTriplet,
    /// A triplet has a lower-case digit; this character is that digit in upper case.
    #[error("hexadecimal digits are upper case: write {0:?}")]
    LowerCaseTriplet(char),
    /// A triplet spells a character that needs none; this is the character.
    #[error("a needless triplet: write {0:?} itself")]
    NeedlessTriplet(char),
    /// A segment is longer than [`MAX_SEGMENT_BYTES`].
    #[error("a segment has at most {MAX_SEGMENT_BYTES} bytes: shorten it")]
    SegmentTooLong,
    /// The key has more than [`MAX_SEGMENTS`] segments.
    #[error("a key has at most {MAX_SEGMENTS} segments: use fewer levels")]
    TooManySegments,
    /// The key is longer than [`MAX_KEY_BYTES`].
    #[error("a key has at most {MAX_KEY_BYTES} bytes: shorten it")]
    TooLong,
}

/// A fault in the text of a key or path prefix and its position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {kind}")]
pub struct KeyError {
    column: usize,
    kind: KeyErrorKind,
}

impl KeyError {
    /// Returns the position of the fault, counted in characters from 1. All characters before it are ASCII.
    pub fn column(&self) -> usize {
        self.column
    }

    /// Returns the kind of the fault.
    pub fn kind(&self) -> &KeyErrorKind {
        &self.kind
    }

    /// Makes the error for a fault at byte `at`, counted from 0.
    fn at(at: usize, kind: KeyErrorKind) -> Self {
        Self { column: at + 1, kind }
    }
}

/// Implements the common traits for a validated text type with `parse` and `as_str`: comparison and hashing by the
/// bytes of the text, and serde as a string that is validated before it is allocated.
macro_rules! checked_text {
    ($name:ident, $error:ty, $what:literal) => {
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.as_str() == other.as_str()
            }
        }
        impl Eq for $name {}
        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                self.as_str().cmp(other.as_str())
            }
        }
        impl std::hash::Hash for $name {
            fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
                self.as_str().hash(state);
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({})", stringify!($name), self.as_str())
            }
        }
        impl std::str::FromStr for $name {
            type Err = $error;
            fn from_str(text: &str) -> Result<Self, $error> {
                Self::parse(text)
            }
        }
        impl TryFrom<&str> for $name {
            type Error = $error;
            fn try_from(text: &str) -> Result<Self, $error> {
                Self::parse(text)
            }
        }
        impl TryFrom<String> for $name {
            type Error = $error;
            fn try_from(text: String) -> Result<Self, $error> {
                Self::parse(&text)
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.as_str().to_owned()
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Checked;
                impl serde::de::Visitor<'_> for Checked {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($what)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        $name::parse(text).map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Checked)
            }
        }
    };
}
pub(crate) use checked_text;

/// The name of a value in the tree, such as `/my/key/state`. Clones share the text. The order is that of the bytes.
///
/// ```ebnf
/// key     ::= ( "/" segment )+                /* at most 32 segments, 1024 bytes */
/// segment ::= ( plain | triplet )+            /* at most 255 bytes; neither "." nor ".." */
/// plain   ::= [A-Za-z0-9] | "." | "_" | "~" | "@" | ":" | "+" | "=" | "," | "-"
/// triplet ::= "%" hex hex                     /* only for a byte that is not a plain character */
/// hex     ::= [0-9A-F]
/// prefix  ::= "/" | key                       /* see PathPrefix */
/// ```
///
/// Every name has one spelling: `%41` is refused because `A` needs no triplet, `%2f` because digits are upper case.
/// Nothing is decoded for a comparison: equality, order, globs and limits all use the bytes of the spelling. `%2F` is
/// therefore an ordinary part of a segment and never separates two.
#[derive(Clone)]
pub struct Key(Arc<str>);

checked_text!(Key, KeyError, "a key");

impl Key {
    /// Parses `text` by the grammar.
    ///
    /// # Errors
    /// The first fault from the left, with its column.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        check(text)?;
        Ok(Self(text.into()))
    }

    /// Returns the text of the key, as it was parsed.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the bytes of the spelling, by which the tree is ordered and globs are matched.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Iterates over the segments without their slashes: 1 to [`MAX_SEGMENTS`] of them.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').skip(1)
    }
}

/// Spells arbitrary bytes, such as a file name, as part of a segment: bytes outside the alphabet become triplets. Each
/// name has exactly one spelling. The spellings of `.`, `..` and the empty name are not valid as a whole segment.
pub fn spell(name: &[u8]) -> String {
    use std::fmt::Write;
    let mut spelled = String::with_capacity(name.len());
    for &byte in name {
        if is_plain(byte) {
            spelled.push(byte.into());
        } else {
            // Writing into a string cannot fail.
            let _ = write!(spelled, "%{byte:02X}");
        }
    }
    spelled
}

/// A subtree of the keys: `/a` means the key `/a` and every key under `/a/`, but not `/ab`; `/` means all keys.
#[derive(Clone)]
pub struct PathPrefix(Arc<str>);

checked_text!(PathPrefix, KeyError, "a path prefix");

impl PathPrefix {
    /// Parses `/` or the spelling of a key.
    ///
    /// # Errors
    /// The same faults as [`Key::parse`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        if text != "/" {
            check(text)?;
        }
        Ok(Self(text.into()))
    }

    /// Returns the prefix of all keys, spelled `/`.
    pub fn root() -> Self {
        Self("/".into())
    }

    /// Whether this is the prefix of all keys, `/`.
    pub fn is_root(&self) -> bool {
        self.as_str() == "/"
    }

    /// Returns the text of the prefix, without a trailing slash except in `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `key` is this prefix itself or is in the subtree below it.
    pub fn contains(&self, key: &Key) -> bool {
        self.is_root()
            || key
                .as_str()
                .strip_prefix(self.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl From<&Key> for PathPrefix {
    fn from(key: &Key) -> Self {
        Self(key.0.clone())
    }
}

/// Whether `byte` may be part of a segment as it is, without a triplet.
pub(crate) const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'.' | b'_' | b'~' | b'@' | b':' | b'+' | b'=' | b',' | b'-')
}

/// Checks that `text` is the spelling of a key.
pub(crate) fn check(text: &str) -> Result<(), KeyError> {
    if !text.starts_with('/') {
        return Err(KeyError::at(0, KeyErrorKind::NoLeadingSlash));
    }
    let bytes = text.as_bytes();
    let (mut at, mut segments) = (0, 0);
    while at < bytes.len() {
        segments += 1;
        if segments > MAX_SEGMENTS {
            return Err(KeyError::at(at, KeyErrorKind::TooManySegments));
        }
        at = check_segment(text, at + 1)?;
    }
    Ok(())
}

/// Checks the segment that begins at byte `start` and returns the offset of its end.
fn check_segment(text: &str, start: usize) -> Result<usize, KeyError> {
    let bytes = text.as_bytes();
    let mut end = start;
    while end < bytes.len() && bytes[end] != b'/' {
        end += character(text, end).map_err(|(at, kind)| KeyError::at(at, kind))?;
        if end - start > MAX_SEGMENT_BYTES {
            return Err(KeyError::at(start + MAX_SEGMENT_BYTES, KeyErrorKind::SegmentTooLong));
        }
        if end > MAX_KEY_BYTES {
            return Err(KeyError::at(MAX_KEY_BYTES, KeyErrorKind::TooLong));
        }
    }
    segment_name(bytes, start, end).map_err(|(at, kind)| KeyError::at(at, kind))?;
    Ok(end)
}

/// A fault and its byte offset, counted from 0.
pub(crate) type Fault = (usize, KeyErrorKind);

/// Refuses segments whose characters are all allowed but that no key may have: empty, `.` and `..`.
pub(crate) fn segment_name(bytes: &[u8], start: usize, end: usize) -> Result<(), Fault> {
    match &bytes[start..end] {
        b"" if start == bytes.len() => Err((start - 1, KeyErrorKind::TrailingSlash)),
        b"" => Err((start, KeyErrorKind::EmptySegment)),
        b"." | b".." => Err((start, KeyErrorKind::DotSegment)),
        _ => Ok(()),
    }
}

/// Returns the width in bytes of the plain character or triplet at byte `at` of `text`, which is not a slash.
pub(crate) fn character(text: &str, at: usize) -> Result<usize, Fault> {
    let bytes = text.as_bytes();
    match bytes[at] {
        b'%' => triplet(text, at).map(|()| 3),
        byte if is_plain(byte) => Ok(1),
        // All bytes before `at` were ASCII, so a character begins here.
        _ => Err((at, KeyErrorKind::Character(char_at(text, at)))),
    }
}

/// Returns the character that begins at byte `at` of `text`.
pub(crate) fn char_at(text: &str, at: usize) -> char {
    text.get(at..).and_then(|rest| rest.chars().next()).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Checks the triplet whose `%` is at byte `at` of `text`: two upper-case digits, and a byte that needs a triplet.
fn triplet(text: &str, at: usize) -> Result<(), Fault> {
    let bytes = text.as_bytes();
    let mut value = 0;
    for place in [at + 1, at + 2] {
        let digit = match bytes.get(place) {
            Some(digit @ b'0'..=b'9') => digit - b'0',
            Some(digit @ b'A'..=b'F') => digit - b'A' + 10,
            Some(digit @ b'a'..=b'f') => {
                let upper = char::from(digit.to_ascii_uppercase());
                return Err((place, KeyErrorKind::LowerCaseTriplet(upper)));
            }
            _ => return Err((at, KeyErrorKind::BrokenTriplet)),
        };
        value = value << 4 | digit;
    }
    if is_plain(value) { Err((at, KeyErrorKind::NeedlessTriplet(char::from(value)))) } else { Ok(()) }
}

/// Returns the triplets that spell a character that is not plain.
fn triplets(character: char) -> String {
    let mut buffer = [0; 4];
    character.encode_utf8(&mut buffer).bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
