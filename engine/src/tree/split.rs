//! The parts that a region falls into.

use super::digests::Found;
use super::node::Child;
use super::{Leaf, Region, Tree};

/// One part of a [split](Tree::split).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Which keys the part names.
    pub region: Region,
    /// What their leaves [weigh](Leaf::weight) together.
    pub weight: usize,
}

impl<L: Leaf> Tree<L> {
    /// Splits a region into disjoint parts, in key order, that cover all its keys: the key that all others of it
    /// start with, if there is one, and a subtree for each byte that follows. A region of up to
    /// [`BUCKET_MAX`](super::BUCKET_MAX) keys falls into its single keys, one without keys into nothing.
    ///
    /// The result is a function of the keys and their leaves alone. There are up to 257 parts. More than one key
    /// makes more than one part.
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
