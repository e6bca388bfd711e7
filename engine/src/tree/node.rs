//! Nodes of the tree: buckets of few keys, and inner nodes above them.
//!
//! Nodes store keys in parts: the label of an inner node and the byte that selects its child are consumed on the way
//! down, and a bucket holds the remaining suffixes of its keys.

use super::BUCKET_MAX;
use super::Leaf;
use super::suffixes::{Slot, Suffixes};
use kvgossip_grants::Digest;
use smallvec::SmallVec;
use std::sync::{Arc, OnceLock};

/// A `SmallVec` holds 23 bytes inline without growing beyond its heap form; most labels and fan-outs fit.
pub(super) type Bytes = SmallVec<[u8; 23]>;

/// A subtree of at least one key.
pub(super) enum Child<L> {
    Bucket(Arc<Bucket<L>>),
    Inner(Arc<Inner<L>>),
}

/// A bucket of 1 to [`BUCKET_MAX`] keys. Between an insertion and the split it holds one key more.
#[derive(Clone)]
pub(super) struct Bucket<L> {
    pub(super) suffixes: Suffixes,
    pub(super) leaves: Vec<L>,
    pub(super) digest: OnceLock<Digest>,
}

/// An inner node over more than [`BUCKET_MAX`] keys: it has an own leaf and one child, or at least two children.
#[derive(Clone)]
pub(super) struct Inner<L> {
    /// Bytes that all keys of the subtree share, after the byte that selects this node in its parent.
    pub(super) label: Bytes,
    /// Leaf of the key that ends after the label; `None` if there is no such key. Boxed, because few nodes have one and
    /// leaves may be large.
    pub(super) own: Option<Box<L>>,
    /// Bytes that select the children, ascending.
    pub(super) bytes: Bytes,
    /// Children in the order of `bytes`.
    pub(super) children: Vec<Child<L>>,
    /// Number of keys in this subtree.
    pub(super) count: usize,
    /// Total weight of the leaves in this subtree.
    pub(super) weight: usize,
    pub(super) digest: OnceLock<Digest>,
}

impl<L> Clone for Child<L> {
    fn clone(&self) -> Self {
        match self {
            Self::Bucket(bucket) => Self::Bucket(bucket.clone()),
            Self::Inner(inner) => Self::Inner(inner.clone()),
        }
    }
}

impl<L> Child<L> {
    pub(super) fn bucket(bucket: Bucket<L>) -> Self {
        Self::Bucket(Arc::new(bucket))
    }

    pub(super) fn single(suffix: &[u8], leaf: L) -> Self {
        let mut bucket = Bucket::default();
        bucket.push(suffix, leaf);
        Self::bucket(bucket)
    }

    pub(super) fn count(&self) -> usize {
        match self {
            Self::Bucket(bucket) => bucket.leaves.len(),
            Self::Inner(inner) => inner.count,
        }
    }
}

impl<L: Leaf> Child<L> {
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Bucket(bucket) => weigh(&bucket.leaves),
            Self::Inner(inner) => inner.weight,
        }
    }
}

/// Returns the total weight of `leaves`.
pub(super) fn weigh<L: Leaf>(leaves: &[L]) -> usize {
    leaves.iter().map(Leaf::weight).sum()
}

impl<L> Default for Bucket<L> {
    fn default() -> Self {
        Self { suffixes: Suffixes::default(), leaves: Vec::new(), digest: OnceLock::new() }
    }
}

impl<L> Bucket<L> {
    /// Appends a key, which must be greater than all keys of the bucket.
    pub(super) fn push(&mut self, suffix: &[u8], leaf: L) {
        debug_assert!(self.suffixes.iter().last().is_none_or(|last| last < suffix), "keys ascend");
        self.suffixes.push(suffix);
        self.leaves.reserve_exact(1);
        self.leaves.push(leaf);
    }

    pub(super) fn get(&self, suffix: &[u8]) -> Option<&L> {
        self.leaves.get(self.suffixes.search(suffix).ok()?.index)
    }

    /// Sets the leaf of a suffix and returns the leaf that it replaces; `None` if the suffix is new.
    pub(super) fn insert(&mut self, suffix: &[u8], leaf: L) -> Option<L> {
        self.digest.take();
        match self.suffixes.search(suffix) {
            Ok(slot) => self.leaves.get_mut(slot.index).map(|old| std::mem::replace(old, leaf)),
            Err(slot) => {
                self.suffixes.insert(slot, suffix);
                self.leaves.reserve_exact(1);
                self.leaves.insert(slot.index, leaf);
                None
            }
        }
    }

    pub(super) fn remove(&mut self, suffix: &[u8]) -> Option<L> {
        let slot: Slot = self.suffixes.search(suffix).ok()?;
        self.digest.take();
        self.suffixes.remove(slot);
        Some(self.leaves.remove(slot.index))
    }
}

impl<L> Inner<L> {
    pub(super) fn new(label: &[u8]) -> Self {
        Self {
            label: Bytes::from_slice(label),
            own: None,
            bytes: Bytes::new(),
            children: Vec::new(),
            count: 0,
            weight: 0,
            digest: OnceLock::new(),
        }
    }

    pub(super) fn child(&self, byte: u8) -> Option<&Child<L>> {
        self.children.get(self.bytes.binary_search(&byte).ok()?)
    }

    /// Adds a child, at the position of the byte that selects it. The node must have no child with that byte.
    pub(super) fn add_child(&mut self, byte: u8, child: Child<L>) {
        let index = self.bytes.partition_point(|&other| other < byte);
        self.bytes.insert(index, byte);
        self.children.insert(index, child);
    }

    pub(super) fn edges(&self) -> impl ExactSizeIterator<Item = (u8, &Child<L>)> {
        self.bytes.iter().copied().zip(&self.children)
    }

    fn close_group(&mut self, group: &mut Bucket<L>) {
        if !group.leaves.is_empty() {
            self.children.push(Child::bucket(std::mem::take(group)));
        }
    }
}

impl<L: Leaf> Bucket<L> {
    pub(super) fn is_over_full(&self) -> bool {
        self.leaves.len() > BUCKET_MAX
    }

    /// Turns a bucket of more than [`BUCKET_MAX`] keys into an inner node.
    pub(super) fn split(&mut self) -> Inner<L> {
        let suffixes = std::mem::take(&mut self.suffixes);
        let first = suffixes.iter().next().unwrap_or_default();
        let last = suffixes.iter().last().unwrap_or_default();
        let common = common_prefix(first, last);
        let mut inner = Inner::new(&first[..common]);
        inner.count = self.leaves.len();
        inner.weight = weigh(&self.leaves);
        let mut group = Self::default();
        for (suffix, leaf) in suffixes.iter().zip(std::mem::take(&mut self.leaves)) {
            let Some((&byte, rest)) = suffix.get(common..).and_then(<[u8]>::split_first) else {
                inner.own = Some(Box::new(leaf));
                continue;
            };
            if inner.bytes.last() != Some(&byte) {
                inner.close_group(&mut group);
                inner.bytes.push(byte);
            }
            group.push(rest, leaf);
        }
        inner.close_group(&mut group);
        debug_assert!(inner.is_sound(), "a full bucket becomes a sound node");
        inner
    }
}

impl<L: Leaf> Inner<L> {
    /// Whether the node has the canonical shape, and its count and weight are the totals of its own leaf and its
    /// children.
    pub(super) fn is_sound(&self) -> bool {
        let own = self.own.as_deref();
        let counts: usize = self.children.iter().map(Child::count).sum();
        let weights: usize = self.children.iter().map(Child::weight).sum();
        self.count > BUCKET_MAX
            && self.children.len() + usize::from(own.is_some()) >= 2
            && self.bytes.len() == self.children.len()
            && self.bytes.is_sorted_by(|a, b| a < b)
            && self.count == counts + usize::from(own.is_some())
            && self.weight == weights + own.map_or(0, Leaf::weight)
    }
}

impl<L> Drop for Inner<L> {
    /// Drops a deep subtree iteratively: nested drops could overflow the stack.
    fn drop(&mut self) {
        if !self.children.iter().any(|child| matches!(child, Child::Inner(_))) {
            return;
        }
        let mut pending = std::mem::take(&mut self.children);
        while let Some(child) = pending.pop() {
            if let Child::Inner(inner) = child
                && let Some(mut inner) = Arc::into_inner(inner)
            {
                pending.append(&mut inner.children);
            }
        }
    }
}

/// Returns the length of the common prefix of two byte strings.
pub(super) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}
