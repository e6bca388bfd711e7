//! Sets of fact ids as trees, and the digest of a key with the ids of its entries.

use super::hash::{flat_leaf, long_leaf};
use super::{BUCKET_MAX, Tree};
use kvgossip_grants::{Digest, FactId};
use std::str::from_utf8;

/// The digest of a key with up to this many entries covers the list of their ids; that of a key with more covers the
/// root of a tree. Part of the protocol.
pub const FLAT_IDS_MAX: usize = BUCKET_MAX;

/// The place of a fact in a tree of ids: its id in hexadecimal, so that no node has more than 16 children.
pub fn id_key(id: impl Into<FactId>) -> String {
    id.into().to_string()
}

/// The id whose [`id_key`] this is.
pub(crate) fn parse_id(key: &[u8]) -> Option<FactId> {
    from_utf8(key).ok()?.parse().ok()
}

/// Digest of one key with the ids of its entries: `BLAKE3(leaf tag ‖ len(key) ‖ key ‖ n ‖ ids)`, where `ids` are up to
/// [`FLAT_IDS_MAX`] ids ascending, or, of more, the digest of the [`IdTree`] over them.
///
/// The ids may be given in any order, each once.
pub fn leaf_digest<I: Into<FactId> + Copy>(key: &[u8], ids: &[I]) -> Digest {
    let ids = ids.iter().map(|id| (*id).into());
    if ids.len() <= FLAT_IDS_MAX { flat_leaf(key, ids) } else { IdTree::new(ids).leaf_digest(key) }
}

/// A tree over ids: the [`id_key`] of each, with the [`leaf_digest`] of this key and this one id.
///
/// Clones cost nothing, and one id more or less costs the depth of the tree.
#[derive(Clone, Debug, Default)]
pub struct IdTree(Tree<Digest>);

impl IdTree {
    /// The tree over these ids.
    pub fn new(ids: impl IntoIterator<Item = impl Into<FactId>>) -> Self {
        let mut tree = Self::default();
        ids.into_iter().for_each(|id| tree.insert(id));
        tree
    }

    /// Takes in an id.
    pub fn insert(&mut self, id: impl Into<FactId>) {
        let id = id.into();
        let key = id_key(id);
        self.0.insert(key.as_bytes(), flat_leaf(key.as_bytes(), std::iter::once(id)));
    }

    /// Takes out an id.
    pub fn remove(&mut self, id: impl Into<FactId>) {
        self.0.remove(id_key(id).as_bytes());
    }

    /// The [`leaf_digest`] of `key` and these ids.
    pub fn leaf_digest(&self, key: &[u8]) -> Digest {
        let tree = &self.0;
        if tree.len() > FLAT_IDS_MAX {
            return long_leaf(key, tree.len(), &tree.digest());
        }
        let ids: Vec<FactId> = tree.iter().filter_map(|(key, _)| parse_id(&key)).collect();
        flat_leaf(key, ids.into_iter())
    }

    /// The ids as keys of a tree.
    pub fn tree(&self) -> &Tree<Digest> {
        &self.0
    }
}
