//! Cutting a region into parts of similar size, and what a given cut leaves out.

use super::digests::Found;
use super::node::Child;
use super::{Iter, Leaf, PartsError, Region, Tree};
use kvgossip_grants::Digest;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::ops::Bound;

/// One part of a [cut](Tree::frontier).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Which keys the part names.
    pub region: Region,
    /// How many of them are here.
    pub count: usize,
    /// The digest of those.
    pub digest: Digest,
}

/// A subtree that may be cut further. The one with the most keys is the greatest, then the first one.
struct Candidate<'a, L> {
    count: usize,
    region: Region,
    child: &'a Child<L>,
    /// The bytes that lead to `child`.
    path: Vec<u8>,
}

impl<'a, L> Candidate<'a, L> {
    fn new(region: Region, child: &'a Child<L>, path: Vec<u8>) -> Self {
        Self { count: child.count(), region, child, path }
    }

    fn rank(&self) -> (usize, Reverse<&[u8]>) {
        (self.count, Reverse(self.region.bytes()))
    }
}

impl<L> PartialEq for Candidate<'_, L> {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl<L> Eq for Candidate<'_, L> {}

impl<L> PartialOrd for Candidate<'_, L> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<L> Ord for Candidate<'_, L> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl<L: Leaf> Tree<L> {
    /// Cuts a region into disjoint parts, in key order, that cover all its keys.
    ///
    /// The part with the most keys gives way to one part per next byte, its own key first, until that would make
    /// more than `target` parts; the first cut is always made, so there may be up to 257. A part of up to
    /// [`BUCKET_MAX`](super::BUCKET_MAX) keys is never cut. A region without keys has no parts. The result is a
    /// function of the keys and their leaves alone.
    pub fn frontier(&self, region: &Region, target: usize) -> Vec<Part> {
        let (child, path) = match self.find(region) {
            Found::Leaves([]) => return Vec::new(),
            Found::Leaves(leaves) => {
                let digest = self.digest_leaves(leaves.iter());
                return vec![Part { region: region.clone(), count: leaves.len(), digest }];
            }
            Found::Node(child, path) => (child, path),
        };
        let mut parts = Vec::new();
        let mut heap = BinaryHeap::from([Candidate::new(region.clone(), child, path)]);
        // Any bucket has fewer keys than any inner node, so when the greatest cannot be cut, none should be.
        while let Some(top) = heap.peek() {
            let Child::Inner(node) = top.child else { break };
            let others = heap.len() - 1 + parts.len();
            if others > 0 && others + node.fan_out() > target {
                break;
            }
            let prefix = [&top.path, node.label.as_slice()].concat();
            heap.pop();
            parts.extend(node.own.as_deref().map(|own| self.own_part(&prefix, own)));
            heap.extend(node.edges().map(|(byte, child)| {
                let path = [prefix.as_slice(), &[byte]].concat();
                Candidate::new(Region::Subtree(path.clone()), child, path)
            }));
        }
        parts.extend(heap.into_iter().map(|Candidate { count, region, child, path }| {
            let digest = self.digest_child(child, path);
            Part { region, count, digest }
        }));
        parts.sort_unstable_by(|a, b| a.region.bytes().cmp(b.region.bytes()));
        parts
    }

    fn own_part(&self, key: &[u8], leaf: &L) -> Part {
        let digest = self.digest_leaves(std::iter::once(leaf));
        Part { region: Region::Exact(key.to_vec()), count: 1, digest }
    }

    /// The keys of a region that lie in none of `parts`, in ascending order.
    ///
    /// # Errors
    /// If the parts, which may be a peer's, are not disjoint regions inside `region` in ascending order.
    pub fn gaps<'a>(&'a self, region: &Region, parts: &'a [Region]) -> Result<Gaps<'a, L>, PartsError> {
        region.check_parts(parts)?;
        let (start, end) = region.bounds();
        let next_start = Some(start.map(<[u8]>::to_vec));
        Ok(Gaps { tree: self, current: None, next_start, parts: parts.iter(), end })
    }
}

/// The keys of a region that lie in no part of a cut: see [`Tree::gaps`].
pub struct Gaps<'a, L> {
    tree: &'a Tree<L>,
    /// The gap being walked.
    current: Option<Iter<'a, L>>,
    /// Where the gap after it starts; none when it is the last.
    next_start: Option<Bound<Vec<u8>>>,
    /// The parts after that start.
    parts: std::slice::Iter<'a, Region>,
    /// Where the region ends.
    end: Bound<Vec<u8>>,
}

impl<'a, L> Iterator for Gaps<'a, L> {
    type Item = (Vec<u8>, &'a L);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(found) = self.current.as_mut().and_then(Iterator::next) {
                return Some(found);
            }
            let start = self.next_start.take()?;
            let start = start.as_ref().map(Vec::as_slice);
            self.current = Some(match self.parts.next() {
                Some(part) => {
                    self.next_start = part.start_after();
                    self.tree.between(start, Bound::Excluded(part.bytes()))
                }
                None => self.tree.between(start, self.end.as_ref().map(Vec::as_slice)),
            });
        }
    }
}
