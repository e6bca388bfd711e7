//! Sets of fact ids as trees, and the digest of a key with its entries' ids.

use super::hash::{flat_leaf, long_leaf};
use super::{BUCKET_MAX, Tree};
use kvgossip_grants::{Digest, FactId};
use std::str::{FromStr, from_utf8};

/// Maximum number of entries for which the digest of a key covers the list of their ids; with more entries it covers
/// the root of a tree. Part of the protocol.
pub const FLAT_IDS_MAX: usize = BUCKET_MAX;

/// Returns the key of a fact in a tree of ids: its id in hexadecimal, so that no node has more than 16 children.
pub fn id_key(id: impl Into<FactId>) -> String {
    id.into().to_string()
}

/// Parses an [`id_key`] of a fact of any kind (`FactId`) or of one kind (such as `EntryId`); `None` if it is malformed.
pub(crate) fn parse_id<I: FromStr>(key: &[u8]) -> Option<I> {
    from_utf8(key).ok()?.parse().ok()
}

/// Returns the digest of one key with the ids of its entries: `BLAKE3(leaf tag ‖ len(key) ‖ key ‖ n ‖ ids)`, where
/// `ids` are at most [`FLAT_IDS_MAX`] ids in ascending order or, if there are more, the digest of the [`IdTree`] over
/// them.
///
/// The ids must be distinct and may be in any order.
pub fn leaf_digest<I: Into<FactId> + Copy>(key: &[u8], ids: &[I]) -> Digest {
    let ids = ids.iter().map(|id| (*id).into());
    if ids.len() <= FLAT_IDS_MAX { flat_leaf(key, ids) } else { IdTree::new(ids).leaf_digest(key) }
}

/// A tree over ids: it maps the [`id_key`] of each id to the [`leaf_digest`] of this key with this one id.
///
/// Clones cost constant time; adding or removing an id costs the depth of the tree.
#[derive(Clone, Debug, Default)]
pub struct IdTree(Tree<Digest>);

impl IdTree {
    /// Builds the tree over `ids`, given in any order.
    pub fn new(ids: impl IntoIterator<Item = impl Into<FactId>>) -> Self {
        let mut tree = Self::default();
        ids.into_iter().for_each(|id| tree.insert(id));
        tree
    }

    /// Adds an id to the tree.
    pub fn insert(&mut self, id: impl Into<FactId>) {
        let id = id.into();
        let key = id_key(id);
        self.0.insert(key.as_bytes(), flat_leaf(key.as_bytes(), std::iter::once(id)));
    }

    /// Removes an id from the tree.
    pub fn remove(&mut self, id: impl Into<FactId>) {
        self.0.remove(id_key(id).as_bytes());
    }

    /// Returns the [`leaf_digest`] of `key` with the ids of this tree.
    pub fn leaf_digest(&self, key: &[u8]) -> Digest {
        let tree = &self.0;
        if tree.len() > FLAT_IDS_MAX {
            return long_leaf(key, tree.len(), &tree.digest());
        }
        let ids: Vec<FactId> = tree.iter().filter_map(|(key, _)| parse_id(&key)).collect();
        flat_leaf(key, ids.into_iter())
    }

    /// Returns the underlying tree, which maps ids in hexadecimal to digests.
    pub fn tree(&self) -> &Tree<Digest> {
        &self.0
    }
}
