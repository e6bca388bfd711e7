//! Sets of keys that share a beginning, and cuts of them into parts.

use std::ops::Bound;

/// A set of keys that can be named without knowing the keys.
///
/// Disjoint regions are in the order of their keys when their [bytes](Region::bytes) are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Region {
    /// All keys that start with these bytes; all keys there are for none.
    Subtree(Vec<u8>),
    /// The one key that equals these bytes.
    Exact(Vec<u8>),
}

/// Why a list of regions is not a cut of a region.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PartsError {
    /// The part at this index names keys that are not in the region.
    #[error("part {0} lies outside the region")]
    Outside(usize),
    /// The part at this index is not after the one before it.
    #[error("part {0} is out of order")]
    OutOfOrder(usize),
    /// The part at this index lies inside the one before it.
    #[error("part {0} overlaps the one before it")]
    Overlap(usize),
}

impl Region {
    /// All keys.
    pub const fn all() -> Self {
        Self::Subtree(Vec::new())
    }

    /// The two regions that make up a path prefix: the key `/a` itself, and everything under `/a/`.
    ///
    /// The empty prefix, not `/`, names all paths.
    pub fn of_path(prefix: &[u8]) -> [Self; 2] {
        [Self::Exact(prefix.to_vec()), Self::Subtree([prefix, b"/"].concat())]
    }

    /// The bytes of the key, or those that all keys of the subtree start with.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Subtree(bytes) | Self::Exact(bytes) => bytes,
        }
    }

    /// Whether a key belongs to the region.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::Subtree(prefix) => key.starts_with(prefix),
            Self::Exact(exact) => key == exact,
        }
    }

    /// Whether every key that could be in `other` belongs to this region.
    pub fn contains_region(&self, other: &Self) -> bool {
        match self {
            Self::Subtree(prefix) => other.bytes().starts_with(prefix),
            Self::Exact(_) => self == other,
        }
    }

    /// The first key and where the keys end.
    pub(super) fn bounds(&self) -> (Bound<&[u8]>, Bound<Vec<u8>>) {
        let end = match self {
            Self::Exact(key) => Bound::Included(key.clone()),
            Self::Subtree(prefix) => after_prefix(prefix).map_or(Bound::Unbounded, Bound::Excluded),
        };
        (Bound::Included(self.bytes()), end)
    }

    /// Where the region starts.
    pub(crate) fn start(&self) -> Bound<Vec<u8>> {
        Bound::Included(self.bytes().to_vec())
    }

    /// Where the region ends.
    pub(crate) fn end(&self) -> Bound<Vec<u8>> {
        self.bounds().1
    }

    /// The first bound that lies after the region; none when nothing does.
    pub(crate) fn start_after(&self) -> Option<Bound<Vec<u8>>> {
        match self {
            Self::Exact(key) => Some(Bound::Excluded(key.clone())),
            Self::Subtree(prefix) => after_prefix(prefix).map(Bound::Included),
        }
    }

    /// Checks that `parts` are disjoint regions inside this one, in ascending order.
    ///
    /// # Errors
    /// Names the first part that breaks a rule.
    pub fn check_parts<'a>(&self, parts: impl IntoIterator<Item = &'a Self>) -> Result<(), PartsError> {
        let mut before: Option<&Self> = None;
        for (index, part) in parts.into_iter().enumerate() {
            if !self.contains_region(part) {
                return Err(PartsError::Outside(index));
            }
            if let Some(before) = before {
                // What overlaps an earlier part overlaps all between, so neighbours are enough.
                if before.contains_region(part) {
                    return Err(PartsError::Overlap(index));
                }
                if before.bytes() >= part.bytes() {
                    return Err(PartsError::OutOfOrder(index));
                }
            }
            before = Some(part);
        }
        Ok(())
    }
}

/// The least string greater than all that start with `prefix`: none after `0xff…`.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte < u8::MAX)?;
    let mut after = prefix[..=last].to_vec();
    after[last] += 1;
    Some(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subtree(text: &str) -> Region {
        Region::Subtree(text.into())
    }

    fn exact(text: &str) -> Region {
        Region::Exact(text.into())
    }

    #[test]
    fn a_prefix_of_greatest_bytes_has_no_end() {
        assert_eq!(after_prefix(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(after_prefix(b"\xff"), None);
        assert_eq!(after_prefix(b""), None);
    }

    #[test]
    fn parts_must_be_inside_ascending_and_disjoint() {
        let region = subtree("/a");
        let check = |parts: &[Region]| region.check_parts(parts);
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&[exact("/a"), subtree("/a/"), subtree("/ab")]), Ok(()));
        assert_eq!(check(&[subtree("/a")]), Ok(()));
        assert_eq!(check(&[subtree("/")]), Err(PartsError::Outside(0)));
        assert_eq!(check(&[exact("/a"), exact("/b")]), Err(PartsError::Outside(1)));
        assert_eq!(check(&[subtree("/ab"), subtree("/aa")]), Err(PartsError::OutOfOrder(1)));
        assert_eq!(check(&[exact("/ab"), exact("/ab")]), Err(PartsError::Overlap(1)));
        assert_eq!(check(&[exact("/ab"), subtree("/ab")]), Err(PartsError::OutOfOrder(1)));
        assert_eq!(check(&[subtree("/ab"), exact("/ab")]), Err(PartsError::Overlap(1)));
        assert_eq!(check(&[subtree("/ab"), subtree("/abc")]), Err(PartsError::Overlap(1)));
        assert_eq!(exact("/a").check_parts(&[exact("/a")]), Ok(()));
        assert_eq!(exact("/a").check_parts(&[subtree("/a")]), Err(PartsError::Outside(0)));
    }
}
