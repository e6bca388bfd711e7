//! Replies to lists of ids, and the comparison of those that lie inside keys.

use super::forest::Leaf;
use super::tell::{Newest, Tell};
use std::collections::BTreeMap;

/// A reply that waits until all of a flight are known.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) subject: u64,
    /// How many ids the list has.
    pub(super) listed: usize,
    pub(super) wants: Vec<usize>,
    pub(super) told: Vec<Leaf>,
}

/// What is wanted of this side, and what it is told of.
#[derive(Debug, Default)]
pub(super) struct Compared {
    pub(super) wanted: Newest,
    pub(super) told: Newest,
}

/// The same for the lists of a flight that lie inside keys, by key: an entry and what supersedes it have unlike ids, and
/// seldom stand in one list.
#[derive(Debug, Default)]
pub(super) struct InKeys(pub(super) BTreeMap<Vec<u8>, Compared>);

impl Compared {
    /// Notes what is wanted and told of one list.
    pub(super) fn note(&mut self, wanted: impl IntoIterator<Item = Tell>, told: &[Tell]) {
        wanted.into_iter().for_each(|tell| self.wanted.note(&tell));
        told.iter().for_each(|tell| self.told.note(tell));
    }

    pub(super) fn len(&self) -> usize {
        self.wanted.len() + self.told.len()
    }
}
