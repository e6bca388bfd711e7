//! Regions: sets of keys with a common prefix.

use std::ops::Bound;

/// A set of keys that is described without listing the keys.
///
/// The order of disjoint regions' [bytes](Region::bytes) is the order of their keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Region {
    /// All keys that start with these bytes; the empty string means all keys.
    Subtree(Vec<u8>),
    /// The single key that equals these bytes.
    Exact(Vec<u8>),
}

impl Region {
    /// Returns the region of all keys.
    pub const fn all() -> Self {
        Self::Subtree(Vec::new())
    }

    /// Returns the two regions of a path prefix `/a`: the key `/a` itself, and everything under `/a/`.
    ///
    /// The prefix of all paths is the empty string, not `/`.
    pub fn of_path(prefix: &[u8]) -> [Self; 2] {
        [Self::Exact(prefix.to_vec()), Self::Subtree([prefix, b"/"].concat())]
    }

    /// Returns the bytes that describe the region: the single key, or the common prefix of the subtree's keys.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Subtree(bytes) | Self::Exact(bytes) => bytes,
        }
    }

    /// Whether the region contains a key.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::Subtree(prefix) => key.starts_with(prefix),
            Self::Exact(exact) => key == exact,
        }
    }

    /// Returns the lower and the upper bound of the keys that the region may contain.
    pub(super) fn bounds(&self) -> (Bound<&[u8]>, Bound<Vec<u8>>) {
        let end = match self {
            Self::Exact(key) => Bound::Included(key.clone()),
            Self::Subtree(prefix) => after_prefix(prefix).map_or(Bound::Unbounded, Bound::Excluded),
        };
        (Bound::Included(self.bytes()), end)
    }
}

/// Returns the least string greater than all strings that start with `prefix`; `None` if `prefix` is empty or `0xff…`.
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
