//! Dialect of msgpack that Serf agents use.
//!
//! Agents write the first edition of the specification: one `raw` type for strings and bytes, no `str8`, no
//! `bin`. Newer ones write the second edition, with signed integers. This module always writes the first
//! edition and reads both. It checks every length against the available bytes before it allocates, and
//! [`MAX_DEPTH`] bounds nesting.

use rmp::Marker;

/// Maximum nesting of arrays and maps in a value that is skipped because its field is unknown.
pub const MAX_DEPTH: usize = 16;
/// Maximum number of elements of all arrays and maps in one message: an element of one byte may take a hundred
/// bytes in memory.
pub const MAX_ELEMENTS: usize = 1024 * 1024;

/// Error of decoding a msgpack value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The value exceeds the input. A longer input may help.
    #[error("truncated: at least {needed} bytes are needed")]
    Truncated {
        /// Minimum total length of the input, in bytes, for another attempt.
        needed: usize,
    },
    /// The value has another type than the expected one; its marker byte.
    #[error("unexpected msgpack marker 0x{0:02x}")]
    UnexpectedMarker(u8),
    /// The integer is out of the range of the field that it is for.
    #[error("integer out of range")]
    OutOfRange,
    /// The value is nested deeper than [`MAX_DEPTH`].
    #[error("nested too deep")]
    TooDeep,
    /// The message's type byte, this value, is none of the expected ones.
    #[error("unknown message type {0}")]
    UnknownType(u8),
    /// Something has more bytes or elements than allowed; the string names it, such as `a member's name`.
    #[error("{0} is over its limit")]
    TooLarge(&'static str),
}

/// Cursor over msgpack bytes, which decodes one value after another.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    buf: &'a [u8],
    pos: usize,
    /// Number of elements of arrays and maps that may still be read.
    elements: usize,
    /// Number of parts skipped so far; `None` if skipping is not enabled.
    left_out: Option<usize>,
}

impl<'a> Reader<'a> {
    /// Creates a cursor at the beginning of `buf`.
    pub fn new(buf: &'a [u8]) -> Self {
        Self::bounded(buf, MAX_ELEMENTS)
    }

    /// Like [`Reader::new`], with at most `elements` elements instead of [`MAX_ELEMENTS`].
    pub fn bounded(buf: &'a [u8], elements: usize) -> Self {
        Self { buf, pos: 0, elements, left_out: None }
    }

    /// Enables skipping of parts that cannot be decoded; see [`Reader::part`].
    pub fn leaving_out(self) -> Self {
        Self { left_out: Some(0), ..self }
    }

    /// Number of parts that were skipped so far; 0 if skipping is not enabled.
    pub fn left_out(&self) -> usize {
        self.left_out.unwrap_or_default()
    }

    /// Decodes a part that consists of `values` values. If [`Reader::leaving_out`] was called, a part that `read` cannot
    /// decode is skipped, and the result is `None`; otherwise it is an error. Truncated input is always an error, and so
    /// is a part that cannot be skipped because it is nested too deep or has an invalid marker.
    pub fn part<T>(
        &mut self,
        values: usize,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        let Some(left_out) = self.left_out else { return read(self).map(Some) };
        let mut ahead = self.clone();
        match read(&mut ahead) {
            Ok(part) => {
                *self = ahead;
                Ok(Some(part))
            }
            Err(error @ DecodeError::Truncated { .. }) => Err(error),
            Err(_) => {
                self.left_out = Some(left_out + 1);
                for _ in 0..values {
                    self.skip()?;
                }
                Ok(None)
            }
        }
    }

    /// Number of bytes read so far.
    pub fn position(&self) -> usize {
        self.pos
    }

    /// Returns the bytes that have not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.buf.get(self.pos..).unwrap_or_default()
    }

    /// Takes the next `len` bytes as they are. Fails with [`DecodeError::Truncated`] if fewer are left.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let end = self.pos.saturating_add(len);
        let taken = self.buf.get(self.pos..end).ok_or(DecodeError::Truncated { needed: end })?;
        self.pos = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?[0])
    }

    /// Reads a big-endian number of `width` bytes, at most eight.
    fn be(&mut self, width: usize) -> Result<u64, DecodeError> {
        Ok(self.take(width)?.iter().fold(0, |n, b| n << 8 | u64::from(*b)))
    }

    fn be_len(&mut self, width: usize) -> Result<usize, DecodeError> {
        usize::try_from(self.be(width)?).map_err(|_| DecodeError::OutOfRange)
    }

    fn marker(&mut self) -> Result<Marker, DecodeError> {
        Ok(Marker::from_u8(self.byte()?))
    }

    /// Consumes the next value if it is nil. Returns whether it was.
    pub fn nil(&mut self) -> Result<bool, DecodeError> {
        match self.buf.get(self.pos) {
            None => Err(DecodeError::Truncated { needed: self.pos.saturating_add(1) }),
            Some(0xc0) => {
                self.pos += 1;
                Ok(true)
            }
            Some(_) => Ok(false),
        }
    }

    /// Reads any integer, signed or unsigned; nil reads as zero, as in Go.
    pub fn int(&mut self) -> Result<i128, DecodeError> {
        let signed = |n: u64, bits: u32| i128::from(((n << (64 - bits)) as i64) >> (64 - bits));
        Ok(match self.marker()? {
            Marker::Null => 0,
            Marker::FixPos(n) => i128::from(n),
            Marker::FixNeg(n) => i128::from(n),
            Marker::U8 => i128::from(self.be(1)?),
            Marker::U16 => i128::from(self.be(2)?),
            Marker::U32 => i128::from(self.be(4)?),
            Marker::U64 => i128::from(self.be(8)?),
            Marker::I8 => signed(self.be(1)?, 8),
            Marker::I16 => signed(self.be(2)?, 16),
            Marker::I32 => signed(self.be(4)?, 32),
            Marker::I64 => signed(self.be(8)?, 64),
            other => return Err(DecodeError::UnexpectedMarker(other.to_u8())),
        })
    }

    /// Reads a floating-point number, or an integer in its place.
    pub fn float(&mut self) -> Result<f64, DecodeError> {
        let bits = |n: u64| u32::try_from(n).unwrap_or_default();
        match self.buf.get(self.pos).copied().map(Marker::from_u8) {
            Some(Marker::F64) => {
                self.pos += 1;
                Ok(f64::from_bits(self.be(8)?))
            }
            Some(Marker::F32) => {
                self.pos += 1;
                Ok(f64::from(f32::from_bits(bits(self.be(4)?))))
            }
            _ => Ok(self.int()? as f64),
        }
    }

    /// Reads a boolean; nil reads as false.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.marker()? {
            Marker::True => Ok(true),
            Marker::False | Marker::Null => Ok(false),
            other => Err(DecodeError::UnexpectedMarker(other.to_u8())),
        }
    }

    /// Reads bytes or text in any encoding (raw, str8, bin), or an array of small integers; `None` for nil.
    pub fn bytes(&mut self) -> Result<Option<Vec<u8>>, DecodeError> {
        let len = match self.marker()? {
            Marker::Null => return Ok(None),
            Marker::FixStr(n) => usize::from(n),
            Marker::Str8 | Marker::Bin8 => self.be_len(1)?,
            Marker::Str16 | Marker::Bin16 => self.be_len(2)?,
            Marker::Str32 | Marker::Bin32 => self.be_len(4)?,
            Marker::FixArray(n) => return self.byte_array(usize::from(n)).map(Some),
            Marker::Array16 => {
                let len = self.be_len(2)?;
                return self.byte_array(len).map(Some);
            }
            other => return Err(DecodeError::UnexpectedMarker(other.to_u8())),
        };
        Ok(Some(self.take(len)?.to_vec()))
    }

    fn byte_array(&mut self, len: usize) -> Result<Vec<u8>, DecodeError> {
        let mut out = Vec::with_capacity(len.min(self.rest().len()));
        for _ in 0..len {
            out.push(u8::try_from(self.int()?).map_err(|_| DecodeError::OutOfRange)?);
        }
        Ok(out)
    }

    /// Reads an array header. Returns the number of elements; `None` for nil.
    pub fn array(&mut self) -> Result<Option<usize>, DecodeError> {
        let len = match self.marker()? {
            Marker::Null => return Ok(None),
            Marker::FixArray(n) => usize::from(n),
            Marker::Array16 => self.be_len(2)?,
            Marker::Array32 => self.be_len(4)?,
            other => return Err(DecodeError::UnexpectedMarker(other.to_u8())),
        };
        self.count(len).map(Some)
    }

    /// Counts `len` elements that are about to be read, and returns `len`. Fails if the total exceeds the
    /// limit.
    fn count(&mut self, len: usize) -> Result<usize, DecodeError> {
        let left = self.elements.checked_sub(len);
        self.elements = left.ok_or(DecodeError::TooLarge("the number of elements"))?;
        Ok(len)
    }

    /// Reads a map header. Returns the number of pairs; 0 for nil.
    pub fn map(&mut self) -> Result<usize, DecodeError> {
        let len = match self.marker()? {
            Marker::Null => 0,
            Marker::FixMap(n) => usize::from(n),
            Marker::Map16 => self.be_len(2)?,
            Marker::Map32 => self.be_len(4)?,
            other => return Err(DecodeError::UnexpectedMarker(other.to_u8())),
        };
        self.count(len)
    }

    /// Skips one value of any type.
    pub fn skip(&mut self) -> Result<(), DecodeError> {
        self.skip_within(MAX_DEPTH)
    }

    fn skip_within(&mut self, depth: usize) -> Result<(), DecodeError> {
        let (bytes, values) = self.step()?;
        self.take(bytes)?;
        if values > 0 && depth == 0 {
            return Err(DecodeError::TooDeep);
        }
        // Every value takes at least one byte, so the loop ends with the input, whatever length is claimed.
        for _ in 0..values {
            self.skip_within(depth - 1)?;
        }
        Ok(())
    }

    /// Reads the marker and length of a value. Returns the number of bytes, then of nested values, that follow
    /// and belong to it.
    pub(crate) fn step(&mut self) -> Result<(usize, usize), DecodeError> {
        Ok(match self.marker()? {
            Marker::Null | Marker::True | Marker::False | Marker::FixPos(_) | Marker::FixNeg(_) => (0, 0),
            Marker::U8 | Marker::I8 => (1, 0),
            Marker::U16 | Marker::I16 => (2, 0),
            Marker::U32 | Marker::I32 | Marker::F32 => (4, 0),
            Marker::U64 | Marker::I64 | Marker::F64 => (8, 0),
            Marker::FixStr(n) => (usize::from(n), 0),
            Marker::Str8 | Marker::Bin8 => (self.be_len(1)?, 0),
            Marker::Str16 | Marker::Bin16 => (self.be_len(2)?, 0),
            Marker::Str32 | Marker::Bin32 => (self.be_len(4)?, 0),
            Marker::FixExt1 => (2, 0),
            Marker::FixExt2 => (3, 0),
            Marker::FixExt4 => (5, 0),
            Marker::FixExt8 => (9, 0),
            Marker::FixExt16 => (17, 0),
            Marker::Ext8 => (self.be_len(1)?.saturating_add(1), 0),
            Marker::Ext16 => (self.be_len(2)?.saturating_add(1), 0),
            Marker::Ext32 => (self.be_len(4)?.saturating_add(1), 0),
            Marker::FixArray(n) => (0, usize::from(n)),
            Marker::Array16 => (0, self.be_len(2)?),
            Marker::Array32 => (0, self.be_len(4)?),
            Marker::FixMap(n) => (0, usize::from(n) * 2),
            Marker::Map16 => (0, self.be_len(2)?.saturating_mul(2)),
            Marker::Map32 => (0, self.be_len(4)?.saturating_mul(2)),
            Marker::Reserved => return Err(DecodeError::UnexpectedMarker(Marker::Reserved.to_u8())),
        })
    }
}

/// Appends the header of a map of `len` pairs.
pub fn write_map(out: &mut Vec<u8>, len: usize) {
    write_sized(out, len, 0x80, 15, 0xde);
}

/// Appends the header of an array of `len` elements.
pub fn write_array(out: &mut Vec<u8>, len: usize) {
    write_sized(out, len, 0x90, 15, 0xdc);
}

/// Appends bytes or text as `raw`.
pub fn write_raw(out: &mut Vec<u8>, bytes: &[u8]) {
    write_sized(out, bytes.len(), 0xa0, 31, 0xda);
    out.extend_from_slice(bytes);
}

/// Appends bytes as `bin` of the second edition, which distinguishes them from text.
pub fn write_bin(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = bytes.len();
    if let Ok(len) = u8::try_from(len) {
        out.extend_from_slice(&[Marker::Bin8.to_u8(), len]);
    } else if let Ok(len) = u16::try_from(len) {
        out.push(Marker::Bin16.to_u8());
        out.extend_from_slice(&len.to_be_bytes());
    } else {
        out.push(Marker::Bin32.to_u8());
        out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
    }
    out.extend_from_slice(bytes);
}

/// Appends nil.
pub fn write_nil(out: &mut Vec<u8>) {
    out.push(Marker::Null.to_u8());
}

/// Appends an unsigned integer in its shortest encoding.
pub fn write_uint(out: &mut Vec<u8>, value: u64) {
    let bytes = value.to_be_bytes();
    let (marker, width) = match value {
        0..=0x7f => return out.push(bytes[7]),
        0x80..=0xff => (Marker::U8, 1),
        0x100..=0xffff => (Marker::U16, 2),
        0x1_0000..=0xffff_ffff => (Marker::U32, 4),
        _ => (Marker::U64, 8),
    };
    out.push(marker.to_u8());
    out.extend_from_slice(&bytes[8 - width..]);
}

/// Appends a 64-bit floating-point number.
pub fn write_float(out: &mut Vec<u8>, value: f64) {
    out.push(Marker::F64.to_u8());
    out.extend_from_slice(&value.to_bits().to_be_bytes());
}

/// Appends a length in one of the three widths of the first edition: in the marker, 16 bits, or 32 bits. No
/// message is near 4 GiB; a larger length would be capped instead of causing a panic.
fn write_sized(out: &mut Vec<u8>, len: usize, fix: u8, fix_max: usize, marker16: u8) {
    if len <= fix_max {
        out.push(fix | len as u8);
    } else if let Ok(len) = u16::try_from(len) {
        out.push(marker16);
        out.extend_from_slice(&len.to_be_bytes());
    } else {
        out.push(marker16 + 1);
        out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
    }
}
