//! The leaf of a key in the Merkle tree: the key's frontier without values, and its digest.

use crate::tree::{FLAT_IDS_MAX, IdTree, Leaf, Tree, leaf_digest};
use kvgossip_grants::{
    Digest, EntryId, EntryMeta, Frontier, Key, LiveGrant, MAX_FRONTIER_LIST, Offer, StandingEntry, Timestamp,
};
use smallvec::SmallVec;
use std::sync::{Arc, OnceLock};

/// The frontier of one key with its digest. It is never empty in a tree.
#[derive(Clone, Debug)]
pub struct KeyLeaf(Repr);

#[derive(Clone, Debug)]
enum Repr {
    /// At most [`MAX_FRONTIER_LIST`] entries, and the digest of the leaf.
    Few(Frontier<()>, Digest),
    Many(Arc<Many>),
}

/// A leaf has a tree of ids exactly if its digest is defined by one.
const _: () = assert!(MAX_FRONTIER_LIST == FLAT_IDS_MAX);

/// Limits the size of a leaf in memory, since a replica of a million keys holds a million leaves.
const _: () = assert!(size_of::<KeyLeaf>() <= 88);

/// A leaf with more than [`MAX_FRONTIER_LIST`] entries. Its digest is computed on demand: once for all changes of a
/// batch.
#[derive(Clone, Debug)]
struct Many {
    key: Key,
    frontier: Frontier<()>,
    ids: IdTree,
    digest: OnceLock<Digest>,
}

impl KeyLeaf {
    /// Makes the leaf of `key` with this frontier.
    pub fn new(key: &Key, frontier: Frontier<()>) -> Self {
        if frontier.len() > MAX_FRONTIER_LIST {
            let ids = IdTree::new(frontier.ids());
            return Self::many(key, frontier, ids);
        }
        let ids: SmallVec<[EntryId; 1]> = frontier.ids().collect();
        Self(Repr::Few(frontier, leaf_digest(key.as_bytes(), &ids)))
    }

    fn many(key: &Key, frontier: Frontier<()>, ids: IdTree) -> Self {
        Self(Repr::Many(Arc::new(Many { key: key.clone(), frontier, ids, digest: OnceLock::new() })))
    }

    /// Returns the frontier of the leaf's key.
    pub fn frontier(&self) -> &Frontier<()> {
        match &self.0 {
            Repr::Few(frontier, _) => frontier,
            Repr::Many(many) => &many.frontier,
        }
    }

    /// Applies [`Frontier::offer`] and updates the digest.
    pub(crate) fn offer(&mut self, key: &Key, meta: EntryMeta) -> Offer<()> {
        let (mut frontier, id) = (self.frontier().clone(), meta.id);
        let offer = frontier.offer(meta, ());
        if let Offer::Stands { ended } = &offer {
            self.follow(key, frontier, ended, Some(id));
        }
        offer
    }

    /// Applies [`Frontier::end_below`] and updates the digest.
    pub(crate) fn end_below(&mut self, key: &Key, grant: &Arc<LiveGrant>) -> Vec<StandingEntry<()>> {
        self.end(key, |frontier| frontier.end_below(grant))
    }

    /// Applies [`Frontier::end_older`] and updates the digest.
    pub(crate) fn end_older(&mut self, key: &Key, before: Timestamp) -> Vec<StandingEntry<()>> {
        self.end(key, |frontier| frontier.end_older(before))
    }

    /// Applies [`Frontier::end_early`] and updates the digest.
    pub(crate) fn end_early(&mut self, key: &Key, now: Timestamp) -> Vec<StandingEntry<()>> {
        self.end(key, |frontier| frontier.end_early(now))
    }

    fn end(
        &mut self,
        key: &Key,
        end: impl FnOnce(&mut Frontier<()>) -> Vec<StandingEntry<()>>,
    ) -> Vec<StandingEntry<()>> {
        let mut frontier = self.frontier().clone();
        let ended = end(&mut frontier);
        if !ended.is_empty() {
            self.follow(key, frontier, &ended, None);
        }
        ended
    }

    /// Replaces the frontier by its successor, from which the entries `ended` were removed and to which `new` was
    /// added. The tree over the ids is updated, not rebuilt.
    fn follow(
        &mut self,
        key: &Key,
        frontier: Frontier<()>,
        ended: &[StandingEntry<()>],
        new: Option<EntryId>,
    ) {
        let mut ids = match &self.0 {
            Repr::Many(many) if frontier.len() > MAX_FRONTIER_LIST => many.ids.clone(),
            _ => return *self = Self::new(key, frontier),
        };
        ended.iter().for_each(|entry| ids.remove(entry.meta.id));
        new.iter().for_each(|id| ids.insert(*id));
        debug_assert_eq!(ids.tree().len(), frontier.len(), "the tree holds the ids of the frontier");
        *self = Self::many(key, frontier, ids);
    }

    /// Returns the kept tree over the entries' ids; `None` for a leaf of at most [`FLAT_IDS_MAX`] entries, which keeps
    /// none.
    pub(crate) fn id_tree(&self) -> Option<&Tree<Digest>> {
        match &self.0 {
            Repr::Few(..) => None,
            Repr::Many(many) => Some(many.ids.tree()),
        }
    }

    /// Returns the tree over the entries' ids, building it if the leaf does not keep it.
    pub(crate) fn ids(&self) -> Tree<Digest> {
        self.id_tree().cloned().unwrap_or_else(|| IdTree::new(self.frontier().ids()).tree().clone())
    }
}

impl Leaf for KeyLeaf {
    fn digest(&self) -> Digest {
        match &self.0 {
            Repr::Few(_, digest) => *digest,
            Repr::Many(many) => *many.digest.get_or_init(|| many.ids.leaf_digest(many.key.as_bytes())),
        }
    }

    /// Returns the number of entries of the key.
    fn weight(&self) -> usize {
        self.frontier().len()
    }
}

#[cfg(test)]
#[path = "leaf_tests.rs"]
mod tests;
