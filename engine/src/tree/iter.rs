//! Iteration over keys in order.

use super::node::{Bucket, Child, Inner, common_prefix};
use super::suffixes;
use std::cmp::Ordering;
use std::ops::Bound;

/// Iterator over keys and leaves in ascending order of the keys.
pub struct Iter<'a, L> {
    /// Inner nodes from the root to the current position, each with its remaining children.
    stack: Vec<Frame<'a, L>>,
    /// Current bucket, below the last node of `stack`.
    bucket: Option<Cursor<'a, L>>,
    /// Path in bytes to `bucket`, or to a node that is still on the stack.
    path: Vec<u8>,
    end: Bound<Vec<u8>>,
}

struct Frame<'a, L> {
    node: &'a Inner<L>,
    /// Length of `path` up to the node in bytes, including its label.
    depth: usize,
    own_pending: bool,
    next_child: usize,
}

type Cursor<'a, L> = std::iter::Zip<suffixes::Iter<'a>, std::slice::Iter<'a, L>>;

fn cursor<L>(bucket: &Bucket<L>) -> Cursor<'_, L> {
    bucket.suffixes.iter().zip(&bucket.leaves)
}

impl<'a, L> Iter<'a, L> {
    /// Iterates over all keys of a subtree, each without the bytes that lead to the subtree.
    pub(super) fn of_child(child: &'a Child<L>) -> Self {
        let mut iter = Self { stack: Vec::new(), bucket: None, path: Vec::new(), end: Bound::Unbounded };
        iter.enter(child);
        iter
    }

    /// Iterates over the keys of a tree between two bounds.
    pub(super) fn of_range(root: Option<&'a Child<L>>, start: Bound<&[u8]>, end: Bound<&[u8]>) -> Self {
        let end = end.map(<[u8]>::to_vec);
        let mut iter = Self { stack: Vec::new(), bucket: None, path: Vec::new(), end };
        match (root, start) {
            (None, _) => {}
            (Some(root), Bound::Unbounded) => iter.enter(root),
            (Some(root), Bound::Included(key)) => iter.seek(root, key, true),
            (Some(root), Bound::Excluded(key)) => iter.seek(root, key, false),
        }
        iter
    }

    /// Enters `child`, to which `path` leads.
    fn enter(&mut self, child: &'a Child<L>) {
        match child {
            Child::Bucket(bucket) => self.bucket = Some(cursor(bucket)),
            Child::Inner(node) => {
                self.path.extend_from_slice(&node.label);
                let own_pending = node.own.is_some();
                self.stack.push(Frame { node, depth: self.path.len(), own_pending, next_child: 0 });
            }
        }
    }

    /// Descends from the root to the first key at or after the start.
    fn seek(&mut self, root: &'a Child<L>, start: &[u8], inclusive: bool) {
        let mut child = root;
        let mut rest = start;
        loop {
            let node = match child {
                Child::Bucket(bucket) => return self.seek_bucket(bucket, rest, inclusive),
                Child::Inner(node) => node,
            };
            let common = common_prefix(&node.label, rest);
            if common < node.label.len() {
                // Either all keys below are after the start, or all are before it.
                if node.label.get(common) > rest.get(common) {
                    self.enter(child);
                }
                return;
            }
            self.path.extend_from_slice(&node.label);
            let depth = self.path.len();
            let Some((&byte, tail)) = rest.get(common..).and_then(<[u8]>::split_first) else {
                let own_pending = inclusive && node.own.is_some();
                return self.stack.push(Frame { node, depth, own_pending, next_child: 0 });
            };
            let found = node.bytes.binary_search(&byte);
            let next_child = found.map_or_else(|after| after, |index| index + 1);
            self.stack.push(Frame { node, depth, own_pending: false, next_child });
            let Some(below) = found.ok().and_then(|index| node.children.get(index)) else {
                return;
            };
            self.path.push(byte);
            child = below;
            rest = tail;
        }
    }

    fn seek_bucket(&mut self, bucket: &'a Bucket<L>, start: &[u8], inclusive: bool) {
        let mut ahead = cursor(bucket);
        let mut at = ahead.clone();
        while let Some((suffix, _)) = ahead.next() {
            match suffix.cmp(start) {
                Ordering::Greater => break,
                Ordering::Equal if inclusive => break,
                _ => at = ahead.clone(),
            }
        }
        self.bucket = Some(at);
    }

    /// Returns the next key, ignoring the end bound.
    fn advance(&mut self) -> Option<(Vec<u8>, &'a L)> {
        loop {
            if let Some((suffix, leaf)) = self.bucket.as_mut().and_then(Iterator::next) {
                return Some(([self.path.as_slice(), suffix].concat(), leaf));
            }
            self.bucket = None;
            let frame = self.stack.last_mut()?;
            self.path.truncate(frame.depth);
            if std::mem::take(&mut frame.own_pending)
                && let Some(leaf) = frame.node.own.as_deref()
            {
                return Some((self.path.clone(), leaf));
            }
            let index = frame.next_child;
            frame.next_child += 1;
            let node = frame.node;
            match (node.bytes.get(index), node.children.get(index)) {
                (Some(&byte), Some(child)) => {
                    self.path.push(byte);
                    self.enter(child);
                }
                _ => {
                    self.stack.pop();
                }
            }
        }
    }
}

impl<'a, L> Iterator for Iter<'a, L> {
    type Item = (Vec<u8>, &'a L);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, leaf) = self.advance()?;
        let inside = match &self.end {
            Bound::Unbounded => true,
            Bound::Included(end) => key <= *end,
            Bound::Excluded(end) => key < *end,
        };
        if !inside {
            self.stack.clear();
            self.bucket = None;
            return None;
        }
        Some((key, leaf))
    }
}

impl<L> std::iter::FusedIterator for Iter<'_, L> {}
