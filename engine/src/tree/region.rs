//! Sets of keys that share a beginning.

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

    /// The first key and where the keys end.
    pub(super) fn bounds(&self) -> (Bound<&[u8]>, Bound<Vec<u8>>) {
        let end = match self {
            Self::Exact(key) => Bound::Included(key.clone()),
            Self::Subtree(prefix) => after_prefix(prefix).map_or(Bound::Unbounded, Bound::Excluded),
        };
        (Bound::Included(self.bytes()), end)
    }
}

/// The least string greater than all that start with `prefix`: none after `0xff…`.
pub(crate) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte < u8::MAX)?;
    let mut after = prefix[..=last].to_vec();
    after[last] += 1;
    Some(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_of_greatest_bytes_has_no_end() {
        assert_eq!(after_prefix(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(after_prefix(b"\xff"), None);
        assert_eq!(after_prefix(b""), None);
    }
}
