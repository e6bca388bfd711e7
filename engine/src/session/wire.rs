//! Reading and writing the few primitives that session frames are made of.

use kvgossip_grants::varint;

/// Bytes that are no frame of this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadFrame;

/// Appends a LEB128 varint.
pub(super) fn put_varint(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(varint::encode(value).as_ref());
}

/// Appends two numbers as one varint: `low` in its lowest `bits`, or the greatest number these can hold and the
/// rest of `low` as a varint of its own. `high` must leave that many bits free.
pub(super) fn put_packed(out: &mut Vec<u8>, high: u64, low: u64, bits: u32) {
    let most = (1 << bits) - 1;
    put_varint(out, high << bits | low.min(most));
    if low >= most {
        put_varint(out, low - most);
    }
}

/// Reads primitives from the front of a frame.
pub(super) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn finish(&self) -> Result<(), BadFrame> {
        if self.0.is_empty() { Ok(()) } else { Err(BadFrame) }
    }

    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], BadFrame> {
        let (head, tail) = self.0.split_at_checked(len).ok_or(BadFrame)?;
        self.0 = tail;
        Ok(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], BadFrame> {
        self.bytes(N)?.try_into().map_err(|_| BadFrame)
    }

    pub(super) fn byte(&mut self) -> Result<u8, BadFrame> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u32(&mut self) -> Result<u32, BadFrame> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// A varint in its shortest spelling.
    pub(super) fn varint(&mut self) -> Result<u64, BadFrame> {
        let mut decoder = varint::Decoder::default();
        loop {
            if let Some(value) = decoder.push(self.byte()?).map_err(|_| BadFrame)? {
                return Ok(value);
            }
        }
    }

    /// What [`put_packed`] wrote.
    pub(super) fn packed(&mut self, bits: u32) -> Result<(u64, u64), BadFrame> {
        let (packed, most) = (self.varint()?, (1 << bits) - 1);
        let mut low = packed & most;
        if low == most {
            low = low.checked_add(self.varint()?).ok_or(BadFrame)?;
        }
        Ok((packed >> bits, low))
    }

    /// A count of things that take at least `each` bytes: more than can follow is refused before anything is
    /// allocated for it.
    pub(super) fn count(&mut self, each: usize, limit: usize) -> Result<usize, BadFrame> {
        let count = self.varint()?;
        self.check_count(count, each, limit)
    }

    /// The same for a count that was read already.
    pub(super) fn check_count(&self, count: u64, each: usize, limit: usize) -> Result<usize, BadFrame> {
        let count = usize::try_from(count).map_err(|_| BadFrame)?;
        if count > limit || count.saturating_mul(each) > self.0.len() { Err(BadFrame) } else { Ok(count) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_in_one_spelling() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut input = Input::new(&out);
            assert_eq!(input.varint(), Ok(value));
            assert_eq!(input.finish(), Ok(()));
        }
        assert_eq!(Input::new(&[0x80, 0x00]).varint(), Err(BadFrame), "not the shortest");
        assert_eq!(Input::new(&[0x80]).varint(), Err(BadFrame), "cut off");
        assert_eq!(Input::new(&[0]).finish(), Err(BadFrame), "something is left");
    }

    #[test]
    fn packed_pairs_round_trip_and_are_small_when_the_numbers_are() {
        for (high, low, len) in
            [(0, 0, 1), (3, 30, 1), (3, 31, 2), (4, 0, 2), (9, 400, 4), (1 << 58, u64::MAX, 20)]
        {
            let mut out = Vec::new();
            put_packed(&mut out, high, low, 5);
            assert_eq!(out.len(), len);
            let mut input = Input::new(&out);
            assert_eq!(input.packed(5), Ok((high, low)));
            assert_eq!(input.finish(), Ok(()));
        }
        assert_eq!(Input::new(&[31]).packed(5), Err(BadFrame), "the rest is missing");
    }

    #[test]
    fn counts_are_bounded_by_what_follows() {
        assert_eq!(Input::new(&[3, 0, 0]).count(1, 10), Err(BadFrame));
        assert_eq!(Input::new(&[2, 0, 0]).count(1, 10), Ok(2));
        assert_eq!(Input::new(&[2, 0, 0]).count(1, 1), Err(BadFrame));
    }
}
