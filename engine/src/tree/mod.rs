//! The Merkle prefix tree: a sorted map from keys to leaves, with a digest for every key prefix.
//!
//! The digest `T` of a set `S` of keys with their leaf digests is a function of the set alone, independent of the order
//! of insertions and removals:
//!
//! - for no key: `BLAKE3(empty tag)`;
//! - for at most [`BUCKET_MAX`] keys: `BLAKE3(bucket tag ‖ |S| ‖ leaf digests in key order)`;
//! - for more keys, with `P` their longest common prefix: `BLAKE3(inner tag ‖ len(P) ‖ P ‖ own ‖ number of children ‖
//!   for each next byte b, ascending: b ‖ T({k ∈ S: k starts with P ‖ b}))`, where `own` is `0x01 ‖ leaf digest` if P
//!   itself is a key and `0x00` otherwise.
//!
//! `hash.rs` defines the layout of tags and integers. In memory, the same cases are the nodes of a path-compressed
//! radix tree: buckets, and inner nodes above them.
//!
//! [`Tree::clone`] takes a snapshot in constant time. Writers copy a node only while a snapshot shares it. Digests are
//! computed on demand and cached in the nodes, so that a batch of writes hashes each touched node once. No operation
//! recurses, so that deep trees are safe on small stacks.

mod build;
mod digests;
mod hash;
mod ids;
mod iter;
mod node;
mod region;
mod split;
mod suffixes;
mod update;

pub use build::NotAscending;
pub use hash::{FORMAT_VERSION, root_digest};
pub(crate) use ids::parse_id;
pub use ids::{FLAT_IDS_MAX, IdTree, id_key, leaf_digest};
pub use iter::Iter;
pub use region::Region;
pub(crate) use region::after_prefix;
pub use split::Part;

use kvgossip_grants::Digest;
use node::Child;
use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Maximum number of keys of a bucket: a subtree with at most this many keys is one bucket. Part of the protocol.
pub const BUCKET_MAX: usize = 16;

/// The value that the tree stores for a key.
pub trait Leaf: Clone {
    /// Returns the leaf's contribution to the tree's digests; see [`leaf_digest`]. It must be cheap, since it is called
    /// whenever a neighbouring key changes.
    fn digest(&self) -> Digest;

    /// Returns the key's contribution to a region's [weight](Tree::weight_region). It must be cheap to compute.
    fn weight(&self) -> usize {
        1
    }
}

/// Leaf of a tree that stores digests only.
impl Leaf for Digest {
    fn digest(&self) -> Digest {
        *self
    }
}

/// A sorted map from keys to leaves with Merkle digests. See the [module documentation](self).
pub struct Tree<L> {
    root: Option<Child<L>>,
    hashed: Arc<AtomicU64>,
}

/// Takes a snapshot in constant time. Later writes to either tree do not affect the other.
impl<L> Clone for Tree<L> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone(), hashed: self.hashed.clone() }
    }
}

impl<L> Default for Tree<L> {
    fn default() -> Self {
        Self::new()
    }
}

impl<L> fmt::Debug for Tree<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<L> Tree<L> {
    /// Creates an empty tree.
    pub fn new() -> Self {
        Self { root: None, hashed: Arc::default() }
    }

    /// Returns the number of keys in the tree.
    pub fn len(&self) -> usize {
        self.root.as_ref().map_or(0, Child::count)
    }

    /// Whether the tree has no key.
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Returns the number of nodes hashed so far by this tree and all its snapshots together.
    pub fn nodes_hashed(&self) -> u64 {
        self.hashed.load(Ordering::Relaxed)
    }

    /// Returns the leaf of a key; `None` if the tree does not have the key.
    pub fn get(&self, key: &[u8]) -> Option<&L> {
        let mut child = self.root.as_ref()?;
        let mut rest = key;
        loop {
            match child {
                Child::Bucket(bucket) => return bucket.get(rest),
                Child::Inner(inner) => match rest.strip_prefix(inner.label.as_slice())?.split_first() {
                    None => return inner.own.as_deref(),
                    Some((&byte, tail)) => {
                        child = inner.child(byte)?;
                        rest = tail;
                    }
                },
            }
        }
    }

    /// Iterates over all keys and their leaves in ascending order of the keys.
    pub fn iter(&self) -> Iter<'_, L> {
        self.between(Bound::Unbounded, Bound::Unbounded)
    }

    /// Iterates over the keys of a range and their leaves in ascending order of the keys. Finding the first costs the
    /// depth of the tree.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Iter<'_, L> {
        self.between(range.start_bound().map(AsRef::as_ref), range.end_bound().map(AsRef::as_ref))
    }

    /// Iterates over the keys of a region and their leaves in ascending order of the keys.
    pub fn iter_region(&self, region: &Region) -> Iter<'_, L> {
        let (start, end) = region.bounds();
        self.between(start, end.as_ref().map(Vec::as_slice))
    }

    fn between(&self, start: Bound<&[u8]>, end: Bound<&[u8]>) -> Iter<'_, L> {
        Iter::of_range(self.root.as_ref(), start, end)
    }
}
