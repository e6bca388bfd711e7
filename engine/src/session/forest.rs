//! The two trees that a session walks, seen alike: as facts in the order of their names.

use super::region::{NotParts, Region, Span, ids_of, keys_of};
use super::salt::Salt;
use crate::leaf::KeyLeaf;
use crate::tree::{self, Tree, id_key, parse_id};
use crate::view::{View, parse_key};
use kvgossip_grants::{Digest, EntryId, EntryMeta, FactId, Key, PathPrefix};
use std::ops::{Bound, RangeBounds};

/// What a session compares: first authority, then entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Authority,
    Entries,
}

/// A fact that a tree speaks of.
#[derive(Clone, Debug)]
pub(super) enum Leaf {
    Authority(FactId),
    Entry(Key, EntryMeta),
}

impl Leaf {
    pub(super) fn id(&self) -> FactId {
        match self {
            Self::Authority(id) => *id,
            Self::Entry(_, meta) => meta.id.into(),
        }
    }

    /// Whether the fact still stands.
    pub(super) fn stands(&self, view: &View) -> bool {
        match self {
            Self::Authority(id) => view.authority().contains(id),
            Self::Entry(key, meta) => view.frontier(key).is_some_and(|frontier| frontier.contains(&meta.id)),
        }
    }

    fn name(&self) -> Vec<u8> {
        match self {
            Self::Authority(id) => id_key(*id).into_bytes(),
            Self::Entry(key, meta) => Region::in_key(key.as_bytes(), id_key(meta.id).as_bytes()).0,
        }
    }

    pub(super) fn short(&self, salt: &Salt) -> u32 {
        salt.short(&self.id().0)
    }
}

/// A snapshot of one of the two trees. In that of the entries, a key with many of them is not a leaf to the walk: it
/// goes on in the tree over their ids.
#[derive(Clone, Debug)]
pub(super) enum Forest {
    Authority(Tree<Digest>),
    Entries(Tree<KeyLeaf>),
}

/// Where the facts of a region are looked up.
enum Place<'a> {
    Authority(&'a Tree<Digest>, tree::Region),
    /// Whole keys.
    Keys(&'a Tree<KeyLeaf>, tree::Region),
    /// Some entries of a key: the tree over its ids, and those meant.
    Ids(&'a [u8], Tree<Digest>, tree::Region),
}

impl Forest {
    pub(super) fn new(phase: Phase, view: &View) -> Self {
        match phase {
            Phase::Authority => Self::Authority(view.authority_tree.clone()),
            Phase::Entries => Self::Entries(view.entries.clone()),
        }
    }

    /// What is walked in a phase: all authority, or the entries under the scope.
    pub(super) fn scope(phase: Phase, prefix: &PathPrefix) -> Vec<Region> {
        if phase == Phase::Authority || prefix.is_root() {
            return vec![Region::all()];
        }
        let prefix = prefix.as_str().as_bytes();
        vec![Region::of_key(prefix), Region([prefix, b"/"].concat())]
    }

    fn place<'a>(&'a self, region: &'a Region) -> Place<'a> {
        let subtree = |bytes: &[u8]| tree::Region::Subtree(bytes.to_vec());
        match (self, region.key()) {
            (Self::Authority(tree), _) => Place::Authority(tree, subtree(region.bytes())),
            (Self::Entries(tree), None) => Place::Keys(tree, subtree(region.bytes())),
            (Self::Entries(tree), Some((key, b""))) => Place::Keys(tree, tree::Region::Exact(key.to_vec())),
            (Self::Entries(tree), Some((key, digits))) => {
                let ids = tree.get(key).map(KeyLeaf::ids).unwrap_or_default();
                Place::Ids(key, ids, subtree(digits))
            }
        }
    }

    pub(super) fn digest(&self, region: &Region) -> Digest {
        match self.place(region) {
            Place::Authority(tree, region) => tree.digest_region(&region),
            Place::Keys(tree, region) => tree.digest_region(&region),
            Place::Ids(_, ids, region) => ids.digest_region(&region),
        }
    }

    /// How many facts a region has here.
    pub(super) fn count(&self, region: &Region) -> usize {
        match self.place(region) {
            Place::Authority(tree, region) => tree.weight_region(&region),
            Place::Keys(tree, region) => tree.weight_region(&region),
            Place::Ids(_, ids, region) => ids.weight_region(&region),
        }
    }

    /// The disjoint parts that a region falls into, which cover all its facts, each with their number. More than one
    /// fact falls into more than one part in the end, a region of one key first into that key.
    pub(super) fn split(&self, region: &Region) -> Vec<(Region, usize)> {
        let (key, parts) = match self.place(region) {
            Place::Authority(tree, region) => (None, tree.split(&region)),
            Place::Keys(tree, tree::Region::Exact(key)) => {
                let ids = tree.get(&key).map(KeyLeaf::ids).unwrap_or_default();
                (Some(key), ids.split(&tree::Region::all()))
            }
            Place::Keys(tree, region) => (None, tree.split(&region)),
            Place::Ids(key, ids, region) => (Some(key.to_vec()), ids.split(&region)),
        };
        let is_keys = matches!(self, Self::Entries(_));
        let name = |region: tree::Region| match (&key, region) {
            (Some(key), region) => Region::in_key(key, region.bytes()),
            (None, tree::Region::Exact(key)) if is_keys => Region::of_key(&key),
            (None, tree::Region::Exact(bytes) | tree::Region::Subtree(bytes)) => Region(bytes),
        };
        parts.into_iter().map(|part| (name(part.region), part.weight)).collect()
    }

    /// The facts of a region, by name.
    pub(super) fn leaves(&self, region: &Region) -> Box<dyn Iterator<Item = Leaf> + '_> {
        self.run(region.span())
    }

    fn run(&self, span: Span) -> Box<dyn Iterator<Item = Leaf> + '_> {
        match self {
            Self::Authority(tree) => {
                let ids = tree.range::<Vec<u8>>(span).filter_map(|(key, _)| parse_id(&key));
                Box::new(ids.map(Leaf::Authority))
            }
            Self::Entries(tree) => {
                let keys = tree.range::<Vec<u8>>(keys_of(&span));
                Box::new(keys.flat_map(move |(bytes, leaf)| {
                    let key = parse_key(&bytes);
                    let metas = metas_in(leaf, ids_of(&bytes, &span));
                    metas.filter_map(move |meta| Some(Leaf::Entry(key.clone()?, meta.clone())))
                }))
            }
        }
    }

    /// The runs of names of a region that lie in none of a peer's parts and are not empty here.
    pub(super) fn gaps<'a>(
        &self,
        region: &'a Region,
        parts: impl IntoIterator<Item = &'a Region>,
    ) -> Result<Vec<Span>, NotParts> {
        let mut gaps = region.gaps(parts)?;
        gaps.retain(|span| self.run(span.clone()).next().is_some());
        Ok(gaps)
    }

    /// The next facts of a span, up to `most`, and what is left of it.
    pub(super) fn take(&self, span: Span, most: usize) -> (Vec<Leaf>, Option<Span>) {
        let leaves: Vec<Leaf> = self.run(span.clone()).take(most).collect();
        let last = leaves.last().filter(|_| leaves.len() == most);
        let rest = last.map(|last| (Bound::Excluded(last.name()), span.1));
        (leaves, rest)
    }
}

/// The entries of a key with ids in a range, by id. Finding the first costs at most the logarithm of their number.
fn metas_in(leaf: &KeyLeaf, ids: Span) -> impl Iterator<Item = &EntryMeta> {
    let (frontier, long) = (leaf.frontier(), leaf.id_tree());
    let few = long.is_none().then(|| frontier.by_id().map(|entry| &entry.meta));
    let (bounds, is_whole) = (ids.clone(), ids == (Bound::Unbounded, Bound::Unbounded));
    let is_in = move |meta: &&EntryMeta| is_whole || bounds.contains(&id_key(meta.id).into_bytes());
    let few = few.into_iter().flatten().filter(is_in);
    let many = long.map(|tree| {
        tree.range::<Vec<u8>>(ids)
            .filter_map(|(key, _)| Some(&frontier.get(&parse_id::<EntryId>(&key)?)?.meta))
    });
    few.chain(many.into_iter().flatten())
}
