//! Digests of the tree and of any region, computed on demand and cached in the nodes.

use super::hash::{bucket_digest, inner_digest};
use super::node::{Bucket, Child, Inner, weigh};
use super::{BUCKET_MAX, Leaf, Region, Tree};
use kvgossip_grants::Digest;
use std::sync::atomic::{AtomicU64, Ordering};

/// Result of looking up the leaves of a region.
pub(super) enum Found<'a, L> {
    /// Leaves of part of a bucket or of a single key; empty if the region has no key.
    Leaves(&'a [L]),
    /// A whole subtree, and the bytes that lead to it from the root.
    Node(&'a Child<L>, Vec<u8>),
}

impl<L: Leaf> Tree<L> {
    /// Returns the digest of all keys of the tree.
    pub fn digest(&self) -> Digest {
        self.digest_region(&Region::all())
    }

    /// Returns the digest of the keys of a region. Costs the depth of the tree, plus the nodes below that writes have
    /// touched.
    pub fn digest_region(&self, region: &Region) -> Digest {
        match self.find(region) {
            Found::Leaves(leaves) => self.digest_leaves(leaves.iter()),
            Found::Node(child, path) => self.digest_child(child, path),
        }
    }

    /// Returns the digest of the keys under a path prefix: see [`Region::of_path`]. Costs the depth of the tree, plus
    /// the nodes below that writes have touched.
    pub fn digest_path(&self, prefix: &[u8]) -> Digest {
        let [_, below] = Region::of_path(prefix);
        let Some(own) = self.get(prefix) else {
            return self.digest_region(&below);
        };
        if self.count_region(&below) < BUCKET_MAX {
            let leaves: Vec<&L> =
                std::iter::once(own).chain(self.iter_region(&below).map(|(_, leaf)| leaf)).collect();
            return self.digest_leaves(leaves.into_iter());
        }
        let below = self.digest_region(&below);
        self.hashed.fetch_add(1, Ordering::Relaxed);
        inner_digest(prefix, Some(own.digest()), [(b'/', below)].into_iter())
    }

    /// Returns the number of keys in a region. Costs the depth of the tree.
    pub fn count_region(&self, region: &Region) -> usize {
        match self.find(region) {
            Found::Leaves(leaves) => leaves.len(),
            Found::Node(child, _) => child.count(),
        }
    }

    /// Returns the total weight of the leaves of a region: see [`Leaf::weight`]. Costs the depth of the tree.
    pub fn weight_region(&self, region: &Region) -> usize {
        match self.find(region) {
            Found::Leaves(leaves) => weigh(leaves),
            Found::Node(child, _) => child.weight(),
        }
    }

    /// Returns the number of keys under a path prefix: see [`Region::of_path`].
    pub fn count_path(&self, prefix: &[u8]) -> usize {
        Region::of_path(prefix).iter().map(|region| self.count_region(region)).sum()
    }

    pub(super) fn find(&self, region: &Region) -> Found<'_, L> {
        match region {
            Region::Exact(key) => Found::Leaves(self.get(key).map_or(&[], std::slice::from_ref)),
            Region::Subtree(prefix) => self.find_subtree(prefix),
        }
    }

    fn find_subtree(&self, prefix: &[u8]) -> Found<'_, L> {
        let none = Found::Leaves(&[]);
        let Some(mut child) = self.root.as_ref() else {
            return none;
        };
        let mut rest = prefix;
        loop {
            let path = || prefix[..prefix.len() - rest.len()].to_vec();
            match child {
                Child::Bucket(bucket) => {
                    let leaves = leaves_with_prefix(bucket, rest);
                    let all = leaves.len() == bucket.leaves.len();
                    return if all { Found::Node(child, path()) } else { Found::Leaves(leaves) };
                }
                Child::Inner(inner) => {
                    if inner.label.starts_with(rest) {
                        return Found::Node(child, path());
                    }
                    let tail = rest.strip_prefix(inner.label.as_slice()).and_then(<[u8]>::split_first);
                    let Some((&byte, tail)) = tail else { return none };
                    let Some(next) = inner.child(byte) else { return none };
                    child = next;
                    rest = tail;
                }
            }
        }
    }

    /// Returns the digest of the subtree at `path`.
    pub(super) fn digest_child(&self, child: &Child<L>, path: Vec<u8>) -> Digest {
        match child {
            Child::Bucket(bucket) => digest_bucket(bucket, &self.hashed),
            Child::Inner(inner) => digest_inner(inner, path, &self.hashed),
        }
    }

    pub(super) fn digest_leaves<'a>(&self, leaves: impl ExactSizeIterator<Item = &'a L>) -> Digest
    where
        L: 'a,
    {
        self.hashed.fetch_add(1, Ordering::Relaxed);
        bucket_digest(leaves.map(Leaf::digest))
    }
}

/// Returns the leaves of a bucket whose suffixes start with `prefix`.
fn leaves_with_prefix<'a, L>(bucket: &'a Bucket<L>, prefix: &[u8]) -> &'a [L] {
    let first = bucket.suffixes.iter().take_while(|&suffix| suffix < prefix).count();
    let inside = bucket.suffixes.iter().skip(first).take_while(|suffix| suffix.starts_with(prefix)).count();
    bucket.leaves.get(first..first + inside).unwrap_or_default()
}

fn digest_bucket<L: Leaf>(bucket: &Bucket<L>, hashed: &AtomicU64) -> Digest {
    *bucket.digest.get_or_init(|| {
        hashed.fetch_add(1, Ordering::Relaxed);
        bucket_digest(bucket.leaves.iter().map(Leaf::digest))
    })
}

/// A node of the traversal that waits for the digests of its children.
struct Pending<'a, L> {
    node: &'a Inner<L>,
    /// Length of the path to the node in bytes, including its label.
    depth: usize,
    /// Digests of the children that are done, each with the byte that selects the child.
    children: Vec<(u8, Digest)>,
}

impl<'a, L: Leaf> Pending<'a, L> {
    /// Enters a node: appends its label to `path`, which leads to it.
    fn enter(node: &'a Inner<L>, path: &mut Vec<u8>) -> Self {
        path.extend_from_slice(&node.label);
        Self { node, depth: path.len(), children: Vec::with_capacity(node.children.len()) }
    }

    /// Collects digests of children until one has to be computed by a descent; returns that child.
    fn collect(&mut self, hashed: &AtomicU64) -> Option<(u8, &'a Inner<L>)> {
        for (byte, child) in self.node.edges().skip(self.children.len()) {
            let digest = match child {
                Child::Bucket(bucket) => digest_bucket(bucket, hashed),
                Child::Inner(inner) => match inner.digest.get() {
                    Some(digest) => *digest,
                    None => return Some((byte, inner)),
                },
            };
            self.children.push((byte, digest));
        }
        None
    }
}

/// Hashes `top` and all nodes below it that have no digest yet: children before parents, without recursion.
fn digest_inner<L: Leaf>(top: &Inner<L>, mut path: Vec<u8>, hashed: &AtomicU64) -> Digest {
    if let Some(digest) = top.digest.get() {
        return *digest;
    }
    let mut above = Vec::new();
    let mut current = Pending::enter(top, &mut path);
    loop {
        if let Some((byte, child)) = current.collect(hashed) {
            path.push(byte);
            let child = Pending::enter(child, &mut path);
            above.push(std::mem::replace(&mut current, child));
            continue;
        }
        let Pending { node, children, .. } = current;
        let digest = *node.digest.get_or_init(|| {
            hashed.fetch_add(1, Ordering::Relaxed);
            inner_digest(&path, node.own.as_deref().map(Leaf::digest), children.into_iter())
        });
        let Some(parent) = above.pop() else {
            return digest;
        };
        // The parent visits the child again and finds its digest cached.
        current = parent;
        path.truncate(current.depth);
    }
}
