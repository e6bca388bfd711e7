//! Unsigned LEB128 numbers of up to 64 bits in their shortest encoding.
//!
//! Frames, exports and tree nodes are hashed or signed, so a number has exactly one encoding: superfluous bytes and
//! bits beyond the 64th are refused. (`unsigned-varint` 0.8 drops such bits.)

/// Maximum length of an encoded number, in bytes.
pub const MAX_BYTES: usize = 10;

/// Error for bytes that are not the shortest encoding of a number of up to 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a number is not in its shortest form")]
pub struct BadVarint;

/// Bytes of an encoded number, held inline.
#[derive(Debug, Clone, Copy)]
pub struct Encoded {
    bytes: [u8; MAX_BYTES],
    used: usize,
}

impl AsRef<[u8]> for Encoded {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}

/// Encodes a number in its shortest form.
pub fn encode(mut value: u64) -> Encoded {
    let mut encoded = Encoded { bytes: [0; MAX_BYTES], used: 0 };
    for byte in &mut encoded.bytes {
        encoded.used += 1;
        *byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            break;
        }
        *byte |= 0x80;
    }
    encoded
}

/// Returns the length of the encoded number in bytes.
pub const fn encoded_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Decoder of one number, byte by byte.
#[derive(Debug, Clone, Copy, Default)]
pub struct Decoder {
    value: u64,
    bytes: usize,
}

impl Decoder {
    /// Takes the next byte. `Some` is the complete number; the next number needs a new decoder.
    ///
    /// # Errors
    /// The number has a superfluous byte or more than 64 bits.
    pub fn push(&mut self, byte: u8) -> Result<Option<u64>, BadVarint> {
        let (bits, shift) = (u64::from(byte & 0x7f), 7 * self.bytes);
        let is_last = byte & 0x80 == 0;
        let overflows = self.bytes + 1 == MAX_BYTES && (bits > 1 || !is_last);
        if overflows || self.bytes == MAX_BYTES || (byte == 0 && self.bytes > 0) {
            return Err(BadVarint);
        }
        self.value |= bits << shift;
        self.bytes += 1;
        Ok(is_last.then_some(self.value))
    }

    /// Returns the bits decoded so far, which are the lowest bits of the number.
    pub const fn value(&self) -> u64 {
        self.value
    }

    /// Returns the number of bytes decoded so far.
    pub const fn taken(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(bytes: &[u8]) -> Result<Option<u64>, BadVarint> {
        let mut decoder = Decoder::default();
        for (at, byte) in bytes.iter().enumerate() {
            if let Some(value) = decoder.push(*byte)? {
                assert_eq!((at + 1, decoder.taken()), (bytes.len(), bytes.len()));
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    #[test]
    fn the_ends_of_each_length_round_trip() {
        let ends = (1..=9).map(|bytes| 1u64 << (7 * bytes)).flat_map(|end| [end - 1, end]);
        for value in ends.chain([0, u64::MAX - 1, u64::MAX]) {
            let encoded = encode(value);
            assert_eq!(encoded.as_ref().len(), encoded_len(value), "{value}");
            assert_eq!(decode(encoded.as_ref()), Ok(Some(value)));
        }
        assert_eq!(encode(300).as_ref(), [0xac, 0x02]);
    }

    #[test]
    fn a_number_has_one_spelling_and_64_bits() {
        assert_eq!(decode(&[0x80, 0x00]), Err(BadVarint), "not the shortest");
        assert_eq!(decode(&[0x80]), Ok(None), "cut off");
        assert_eq!(decode(&[0xff; 11]), Err(BadVarint), "too long");
        let mut tenth = [0xff; MAX_BYTES];
        for (last, read) in
            [(1, Ok(Some(u64::MAX))), (0, Err(BadVarint)), (2, Err(BadVarint)), (0x7f, Err(BadVarint))]
        {
            tenth[9] = last;
            assert_eq!(decode(&tenth), read);
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_spelled_the_same_way(bytes in prop::collection::vec(any::<u8>(), 1..12)) {
            let mut decoder = Decoder::default();
            for byte in &bytes {
                match decoder.push(*byte) {
                    Ok(None) => {}
                    Ok(Some(value)) => {
                        let spelled = encode(value);
                        prop_assert_eq!(spelled.as_ref(), &bytes[..decoder.taken()]);
                        break;
                    }
                    Err(BadVarint) => break,
                }
            }
        }
    }
}
