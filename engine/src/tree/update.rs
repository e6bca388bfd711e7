//! Insertion and removal, as loops from the root down, so that deep trees do not overflow the stack.

use super::node::{Bucket, Child, Inner, common_prefix};
use super::{BUCKET_MAX, Leaf, Tree, iter};
use std::sync::Arc;

impl<L: Leaf> Tree<L> {
    /// Sets the leaf of a key and returns the leaf that it replaces; `None` if the key is new.
    pub fn insert(&mut self, key: &[u8], leaf: L) -> Option<L> {
        let old = self.get(key);
        let added = usize::from(old.is_none());
        let (weight, old_weight) = (leaf.weight(), old.map_or(0, Leaf::weight));
        let Some(mut slot) = self.root.as_mut() else {
            self.root = Some(Child::single(key, leaf));
            return None;
        };
        let mut rest = key;
        loop {
            match slot {
                Child::Bucket(bucket) => {
                    let bucket = Arc::make_mut(bucket);
                    let old = bucket.insert(rest, leaf);
                    if bucket.is_over_full() {
                        let inner = bucket.split();
                        *slot = Child::Inner(Arc::new(inner));
                    }
                    return old;
                }
                Child::Inner(inner) => {
                    let common = common_prefix(&inner.label, rest);
                    if common < inner.label.len() {
                        fork(inner, common, &rest[common..], leaf);
                        return None;
                    }
                    let inner = Arc::make_mut(inner);
                    inner.digest.take();
                    inner.count += added;
                    inner.weight = inner.weight - old_weight + weight;
                    let Some((&byte, tail)) = rest[common..].split_first() else {
                        return inner.own.replace(Box::new(leaf)).map(|old| *old);
                    };
                    let Ok(index) = inner.bytes.binary_search(&byte) else {
                        inner.add_child(byte, Child::single(tail, leaf));
                        return None;
                    };
                    slot = &mut inner.children[index];
                    rest = tail;
                }
            }
        }
    }

    /// Removes a key and returns its leaf; `None` if the tree does not have the key.
    pub fn remove(&mut self, key: &[u8]) -> Option<L> {
        let removed = self.get(key)?.clone();
        let weight = removed.weight();
        if self.len() == 1 {
            self.root = None;
            return Some(removed);
        }
        let mut slot = self.root.as_mut()?;
        let mut rest = key;
        loop {
            match slot {
                Child::Bucket(bucket) => return Arc::make_mut(bucket).remove(rest),
                Child::Inner(inner) if inner.count - 1 <= BUCKET_MAX => {
                    *slot = Child::bucket(gather_without(slot, rest));
                    return Some(removed);
                }
                Child::Inner(inner) => {
                    let node = Arc::make_mut(inner);
                    node.digest.take();
                    node.count -= 1;
                    node.weight -= weight;
                    let Some((&byte, tail)) = rest[node.label.len()..].split_first() else {
                        node.own = None;
                        lift_only_child(inner);
                        return Some(removed);
                    };
                    let index = node.bytes.binary_search(&byte).ok()?;
                    if node.children[index].count() == 1 {
                        node.bytes.remove(index);
                        node.children.remove(index);
                        lift_only_child(inner);
                        return Some(removed);
                    }
                    // Borrowed again, because the arm above may replace the node itself.
                    slot = &mut Arc::make_mut(inner).children[index];
                    rest = tail;
                }
            }
        }
    }
}

/// Splits the edge to `node` after `common` bytes of its label, where a new key branches off.
///
/// `rest` is the remainder of that key. The digest of `node` stays valid, since it covers absolute prefixes.
fn fork<L: Leaf>(node: &mut Arc<Inner<L>>, common: usize, rest: &[u8], leaf: L) {
    let mut above = Inner::new(&node.label[..common]);
    above.count = node.count + 1;
    above.weight = node.weight + leaf.weight();
    let byte = node.label[common];
    let below = Arc::make_mut(node);
    below.label.drain(..=common);
    above.add_child(byte, Child::Inner(node.clone()));
    match rest.split_first() {
        None => above.own = Some(Box::new(leaf)),
        Some((&other, tail)) => above.add_child(other, Child::single(tail, leaf)),
    }
    debug_assert!(above.is_sound(), "a fork is a sound node");
    *node = Arc::new(above);
}

/// Replaces an inner node that has one child and no own leaf by its child: the canonical shape has no such node.
fn lift_only_child<L: Leaf>(node: &mut Arc<Inner<L>>) {
    if node.own.is_some() || node.children.len() != 1 {
        return;
    }
    // The node has more keys than a bucket, so its only child is an inner node.
    if let Some(Child::Inner(child)) = node.children.first() {
        let mut child = child.clone();
        let mut label = node.label.clone();
        label.extend_from_slice(&node.bytes);
        label.extend_from_slice(&child.label);
        // The parent's reference to the child is dropped before the child is changed, so that no copy is made.
        *node = Arc::new(Inner::new(&[]));
        Arc::make_mut(&mut child).label = label;
        debug_assert!(child.is_sound(), "a lifted child is a sound node");
        *node = child;
    }
}

/// Collects all keys of a subtree except the key `without` into one bucket.
fn gather_without<L: Leaf>(child: &Child<L>, without: &[u8]) -> Bucket<L> {
    let mut bucket = Bucket::default();
    for (suffix, leaf) in iter::Iter::of_child(child) {
        if suffix != without {
            bucket.push(&suffix, leaf.clone());
        }
    }
    debug_assert_eq!(bucket.leaves.len(), BUCKET_MAX, "an inner node holds more until one is taken out");
    bucket
}
