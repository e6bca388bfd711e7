//! Builds a tree from sorted keys.

use super::{Leaf, Tree};

/// Error for keys that are not strictly ascending: the index of the first key that is not greater than the key before
/// it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("key {0} is not greater than the one before it")]
pub struct NotAscending(pub usize);

impl<L: Leaf> Tree<L> {
    /// Builds a tree from keys in strictly ascending order, with their leaves.
    ///
    /// # Errors
    /// The index of the first key that is not greater than the key before it.
    pub fn from_sorted<K: AsRef<[u8]>>(
        items: impl IntoIterator<Item = (K, L)>,
    ) -> Result<Self, NotAscending> {
        let mut tree = Self::new();
        let mut before: Option<K> = None;
        for (index, (key, leaf)) in items.into_iter().enumerate() {
            if before.as_ref().is_some_and(|before| before.as_ref() >= key.as_ref()) {
                return Err(NotAscending(index));
            }
            tree.insert(key.as_ref(), leaf);
            before = Some(key);
        }
        Ok(tree)
    }
}
