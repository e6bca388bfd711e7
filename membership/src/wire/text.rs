//! Text as agents send it: bytes that are UTF-8 most of the time, and need not be.
//!
//! Go's strings are bytes, and so are the names, tags, events and queries of Serf's agents. They travel, are kept and are
//! compared as bytes. People see and write the *shown form*:
//!
//! * what is valid UTF-8 stands for itself,
//! * a byte that is not is `\xHH`, with two hexadecimal digits, and so is each byte of a character that controls how text is
//!   shown, or is not seen: control characters, separators of lines and paragraphs, marks that turn the direction of writing,
//!   characters without width,
//! * a backslash that would begin such a `\xHH` by itself is `\x5c`.
//!
//! So no two texts have the same shown form, nothing that is shown can move a cursor or begin a line, and
//! [`Text::from_shown`] gives the bytes back.

use std::{borrow::Borrow, fmt, ops::Deref, sync::Arc};

use super::{
    field::Field,
    msgpack::{self, DecodeError, Reader},
};

/// A name, a tag, an error text: any bytes. Clones share them.
///
/// `Display` gives the shown form (see the [module](self)), `Debug` the same in quotes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text(Arc<[u8]>);

impl Text {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, if it is UTF-8. It may hold control characters: to show it, use `Display`.
    pub fn to_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    #[cfg(test)]
    pub(crate) fn as_str(&self) -> &str {
        self.to_str().expect("tests know which texts are UTF-8")
    }

    /// The text whose shown form this is. What was never shown is read as well: each `\xHH` is a byte, in digits of either
    /// case, and all else stands for itself.
    pub fn from_shown(shown: &str) -> Self {
        let mut bytes = Vec::with_capacity(shown.len());
        let mut rest = shown.as_bytes();
        while let Some((first, tail)) = rest.split_first() {
            match escaped(rest) {
                Some(byte) => {
                    bytes.push(byte);
                    rest = rest.get(ESCAPE_LEN..).unwrap_or_default();
                }
                None => {
                    bytes.push(*first);
                    rest = tail;
                }
            }
        }
        bytes.into()
    }
}

/// Bytes of `\xHH`.
const ESCAPE_LEN: usize = 4;

/// The byte whose escape `text` begins with.
fn escaped(text: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    match text {
        [b'\\', b'x', high, low, ..] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

/// Whether a character controls how text is shown, or is not seen.
fn controls(c: char) -> bool {
    let is_unseen = matches!(c, '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2064}' | '\u{feff}');
    let separates = matches!(c, '\u{2028}' | '\u{2029}');
    let turns =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || separates || turns || is_unseen
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escape = |f: &mut fmt::Formatter<'_>, byte: u8| write!(f, "\\x{byte:02x}");
        for chunk in self.0.utf8_chunks() {
            let valid = chunk.valid();
            // What was not written yet begins here.
            let mut from = 0;
            for (at, c) in valid.char_indices() {
                let end = at + c.len_utf8();
                if controls(c) || c == '\\' && escaped(&valid.as_bytes()[at..]).is_some() {
                    f.write_str(&valid[from..at])?;
                    valid.as_bytes()[at..end].iter().try_for_each(|byte| escape(f, *byte))?;
                    from = end;
                }
            }
            f.write_str(&valid[from..])?;
            chunk.invalid().iter().try_for_each(|byte| escape(f, *byte))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.to_string().replace('"', "\\\""))
    }
}

impl Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Maps with texts as keys are asked by bytes.
impl Borrow<[u8]> for Text {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        // The empty text takes no memory of its own.
        if bytes.is_empty() { Self::default() } else { Self(bytes.into()) }
    }
}

impl From<Vec<u8>> for Text {
    fn from(bytes: Vec<u8>) -> Self {
        bytes.as_slice().into()
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        text.as_bytes().into()
    }
}

impl From<&Text> for Text {
    fn from(text: &Text) -> Self {
        text.clone()
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other.as_bytes()
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

impl PartialEq<String> for Text {
    fn eq(&self, other: &String) -> bool {
        *self == **other
    }
}

impl Field for Text {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(reader.bytes()?.unwrap_or_default().into())
    }
    fn encode(&self, out: &mut Vec<u8>) {
        msgpack::write_raw(out, self);
    }
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn shown(bytes: &[u8]) -> String {
        Text::from(bytes).to_string()
    }

    #[test]
    fn what_is_no_printable_text_is_shown_byte_by_byte() {
        for (bytes, form) in [
            (&b"caf\xc3\xa9"[..], "caf\u{e9}"),
            (b"caf\xe9", r"caf\xe9"),
            (b"caf\xe9s", r"caf\xe9s"),
            (b"a\nb\x1b[31m\x7f", r"a\x0ab\x1b[31m\x7f"),
            // A control character of two bytes: "next line".
            (b"\xc2\x85", r"\xc2\x85"),
            ("a\u{202e}b\u{2028}".as_bytes(), r"a\xe2\x80\xaeb\xe2\x80\xa8"),
            ("\u{200b}a".as_bytes(), r"\xe2\x80\x8ba"),
            // The beginning of a character of three bytes, and a surrogate.
            (b"\xe2\x82", r"\xe2\x82"),
            (b"\xed\xa0\x80", r"\xed\xa0\x80"),
            (br"C:\temp\x", r"C:\temp\x"),
            (br"\x41", r"\x5cx41"),
            (br"\xAf", r"\x5cxAf"),
            (br"\x5cx41", r"\x5cx5cx41"),
            (b"\\x4\x01", r"\x4\x01"),
            (b"\\\xff", r"\\xff"),
            (b"", ""),
        ] {
            assert_eq!(shown(bytes), form);
            assert_eq!(Text::from_shown(form).as_bytes(), bytes, "{form}");
        }
        assert_eq!(Text::from_shown(r"\xFF\xfG").as_bytes(), b"\xff\\xfG");
        assert_eq!(format!("{:?}", Text::from(b"a\"\xff".as_slice())), r#""a\"\xff""#);
    }

    /// Bytes among which there are many of those that matter here.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            any::<u8>().prop_map(|byte| vec![byte]),
            Just(b"\\".to_vec()),
            Just(b"\\x".to_vec()),
            Just(br"\x5c".to_vec()),
            "[0-9a-fA-Fx\\\\]{1,4}".prop_map(String::into_bytes),
            any::<char>().prop_map(|c| c.to_string().into_bytes()),
        ];
        vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn shown_forms_are_read_back_and_hold_no_control_characters(bytes in bytes()) {
            let form = shown(&bytes);
            prop_assert!(!form.chars().any(controls), "{form:?}");
            prop_assert_eq!(Text::from_shown(&form), Text::from(bytes));
        }

        /// Any text is a way to write some bytes; written as they are shown, it stays.
        #[test]
        fn what_people_write_has_one_shown_form(bytes in bytes()) {
            let written = String::from_utf8_lossy(&bytes).into_owned();
            let form = Text::from_shown(&written).to_string();
            prop_assert_eq!(Text::from_shown(&form).to_string(), form);
        }
    }
}
