//! Splits a region into parts.

use super::digests::Found;
use super::node::Child;
use super::{Leaf, Region, Tree};

/// One part of a region that was [split](Tree::split).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Region that contains exactly the keys of the part.
    pub region: Region,
    /// Total [weight](Leaf::weight) of the leaves of the part.
    pub weight: usize,
}

impl<L: Leaf> Tree<L> {
    /// Splits a region into disjoint parts, in key order, that cover all its keys: the key that is a prefix of all
    /// others, if there is one, and a subtree for each byte that follows. A region of at most
    /// [`BUCKET_MAX`](super::BUCKET_MAX) keys is split into single keys, an empty one into no parts.
    ///
    /// The result depends only on the keys and their leaves. There are at most 257 parts, and at least two if there is
    /// more than one key.
    pub fn split(&self, region: &Region) -> Vec<Part> {
        if let Found::Node(Child::Inner(node), path) = self.find(region) {
            let prefix = [&path, node.label.as_slice()].concat();
            let own = node.own.as_deref().map(|own| single(prefix.clone(), own));
            let below = node.edges().map(|(byte, child)| {
                let region = Region::Subtree([prefix.as_slice(), &[byte]].concat());
                Part { region, weight: child.weight() }
            });
            return own.into_iter().chain(below).collect();
        }
        self.iter_region(region).map(|(key, leaf)| single(key, leaf)).collect()
    }
}

fn single<L: Leaf>(key: Vec<u8>, leaf: &L) -> Part {
    Part { region: Region::Exact(key), weight: leaf.weight() }
}
