//! Text as sent by agents: bytes that are usually, but not necessarily, UTF-8.
//!
//! Go strings are bytes, and so are the names, tags, events and queries of Serf's agents. They are sent, stored
//! and compared as bytes. People see and write the *shown form*:
//!
//! * Valid UTF-8 is shown as is.
//! * An invalid byte is shown as `\xHH`, with two hexadecimal digits. So is each byte of a character that controls
//!   how text is shown, or is invisible: control characters, line and paragraph separators, marks that change the
//!   writing direction, zero-width characters.
//! * A backslash that would itself start such a `\xHH` is shown as `\x5c`.
//!
//! So different texts have different shown forms, no shown form can move a cursor or start a new line, and
//! [`Text::from_shown`] recovers the bytes.

use std::{borrow::Borrow, collections::BTreeMap, fmt, ops::Deref, sync::Arc};

use super::{
    field::Field,
    msgpack::{self, DecodeError, Reader},
};

/// Name, tag or error text: arbitrary bytes. Clones share them.
///
/// `Display` writes the shown form (see the [module](self)); `Debug` writes it in quotes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text(Arc<[u8]>);

impl Text {
    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the text if it is valid UTF-8. It may contain control characters; use `Display` to show it.
    pub fn to_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    #[cfg(test)]
    pub(crate) fn as_str(&self) -> &str {
        self.to_str().expect("tests know which texts are UTF-8")
    }

    /// Parses a shown form. Other input is accepted too: each `\xHH` is one byte, with digits of either case,
    /// and everything else is taken as is.
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

/// Length of `\xHH` in bytes.
const ESCAPE_LEN: usize = 4;

/// Returns the byte whose escape `text` begins with.
fn escaped(text: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    match text {
        [b'\\', b'x', high, low, ..] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

/// Returns whether a character controls how text is shown, or is invisible.
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
            // Start of the part that has not been written yet.
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

/// Lets maps with texts as keys be queried by bytes.
impl Borrow<[u8]> for Text {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        // The empty text allocates nothing.
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

impl<V: Field> Field for BTreeMap<Text, V> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut map = Self::new();
        for _ in 0..reader.map()? {
            map.extend(reader.part(2, |reader| Ok((Text::decode(reader)?, V::decode(reader)?)))?);
        }
        Ok(map)
    }
    fn encode(&self, out: &mut Vec<u8>) {
        msgpack::write_map(out, self.len());
        for (name, value) in self {
            name.encode(out);
            value.encode(out);
        }
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
            // A two-byte control character, "next line".
            (b"\xc2\x85", r"\xc2\x85"),
            ("a\u{202e}b\u{2028}".as_bytes(), r"a\xe2\x80\xaeb\xe2\x80\xa8"),
            ("\u{200b}a".as_bytes(), r"\xe2\x80\x8ba"),
            // The beginning of a three-byte character, and a surrogate.
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

    /// Generates bytes with many of the special ones.
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

        /// Any text denotes some bytes; written in their shown form, it is unchanged.
        #[test]
        fn what_people_write_has_one_shown_form(bytes in bytes()) {
            let written = String::from_utf8_lossy(&bytes).into_owned();
            let form = Text::from_shown(&written).to_string();
            prop_assert_eq!(Text::from_shown(&form).to_string(), form);
        }
    }
}
