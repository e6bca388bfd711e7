//! A few sorted byte strings in one allocation.

use kvgossip_grants::varint;

/// Sorted, distinct byte strings, each stored as its LEB128 length and its bytes.
///
/// A bucket holds at most 17 of them, so a linear search is cheaper than an index, and one allocation takes less memory
/// than one per string.
#[derive(Clone, Default)]
pub(super) struct Suffixes(Vec<u8>);

/// Position of a string among the sorted strings, or the position at which it would be inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// Number of strings before the position.
    pub(super) index: usize,
    /// Number of packed bytes before the position.
    offset: usize,
}

impl Suffixes {
    pub(super) fn iter(&self) -> Iter<'_> {
        Iter(&self.0)
    }

    /// Returns `Ok` with the slot of `suffix`, or `Err` with the slot where it belongs.
    pub(super) fn search(&self, suffix: &[u8]) -> Result<Slot, Slot> {
        let mut iter = self.iter();
        let mut index = 0;
        loop {
            let slot = Slot { index, offset: self.0.len() - iter.0.len() };
            match iter.next().map(|found| found.cmp(suffix)) {
                Some(std::cmp::Ordering::Less) => index += 1,
                Some(std::cmp::Ordering::Equal) => return Ok(slot),
                Some(std::cmp::Ordering::Greater) | None => return Err(slot),
            }
        }
    }

    /// Inserts `suffix` at the slot that [`Suffixes::search`] returned.
    pub(super) fn insert(&mut self, slot: Slot, suffix: &[u8]) {
        let old_len = self.0.len();
        self.push(suffix);
        if let Some(tail) = self.0.get_mut(slot.offset..) {
            tail.rotate_right(tail.len() - (old_len - slot.offset));
        }
    }

    /// Removes the string at `slot`, which [`Suffixes::search`] found.
    pub(super) fn remove(&mut self, slot: Slot) {
        let mut rest = Iter(self.0.get(slot.offset..).unwrap_or_default());
        if rest.next().is_some() {
            let end = self.0.len() - rest.0.len();
            self.0.drain(slot.offset..end);
        }
    }

    /// Appends a string, which must be greater than all others.
    ///
    /// Reserves no spare capacity: buckets are many and small, and it would be most of their memory.
    pub(super) fn push(&mut self, suffix: &[u8]) {
        let len = varint::encode(suffix.len() as u64);
        self.0.reserve_exact(len.as_ref().len() + suffix.len());
        self.0.extend_from_slice(len.as_ref());
        self.0.extend_from_slice(suffix);
    }
}

/// Iterator over sorted byte strings in ascending order.
#[derive(Clone)]
pub(super) struct Iter<'a>(&'a [u8]);

impl<'a> Iterator for Iter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let mut decoder = varint::Decoder::default();
        let len = loop {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            if let Some(len) = decoder.push(*byte).ok()? {
                break len;
            }
        };
        let (suffix, rest) = self.0.split_at_checked(usize::try_from(len).ok()?)?;
        self.0 = rest;
        Some(suffix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_around_every_seven_bits_round_trip() {
        let mut packed = Suffixes::default();
        let mut expected = Vec::new();
        for (letter, len) in (b'a'..).zip([0, 1, 127, 128, 129, 16_383, 16_384, 70_000]) {
            let text = vec![letter; len];
            packed.push(&text);
            expected.push(text);
        }
        assert!(packed.iter().eq(expected.iter().map(Vec::as_slice)));
    }

    #[test]
    fn search_insert_and_remove_keep_the_order() {
        let mut packed = Suffixes::default();
        for text in ["m", "", "zz", "ma", "a"] {
            let slot = packed.search(text.as_bytes()).unwrap_err();
            packed.insert(slot, text.as_bytes());
        }
        assert!(packed.iter().eq(["", "a", "m", "ma", "zz"].map(str::as_bytes)));
        let slot = packed.search(b"m").unwrap();
        assert_eq!(slot.index, 2);
        packed.remove(slot);
        assert_eq!(packed.search(b"m"), Err(slot));
        assert!(packed.iter().eq(["", "a", "ma", "zz"].map(str::as_bytes)));
    }
}
