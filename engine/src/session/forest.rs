//! The two trees that a session walks, seen alike.

use super::salt::Salt;
use crate::frontier::{EntryMeta, Frontier};
use crate::tree::{Part, PartsError, Region, Tree};
use crate::view::{View, parse_key, scope_regions};
use kvgossip_grants::{Digest, FactId, Key, PathPrefix};
use std::ops::Bound;

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
            Self::Entry(_, meta) => meta.id,
        }
    }

    /// The key in its tree.
    fn key(&self) -> Vec<u8> {
        match self {
            Self::Authority(id) => id.to_string().into_bytes(),
            Self::Entry(key, _) => key.as_bytes().to_vec(),
        }
    }

    fn is_of_key_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Authority(one), Self::Authority(other)) => one == other,
            (Self::Entry(one, _), Self::Entry(other, _)) => one == other,
            _ => false,
        }
    }

    pub(super) fn short(&self, salt: &Salt) -> u32 {
        salt.short(&self.id().0)
    }
}

/// A snapshot of one of the two trees.
#[derive(Clone, Debug)]
pub(super) enum Forest {
    Authority(Tree<Digest>),
    Entries(Tree<Frontier>),
}

/// A run of keys, from here to there.
pub(super) type Span = (Bound<Vec<u8>>, Bound<Vec<u8>>);

impl Forest {
    pub(super) fn new(phase: Phase, view: &View) -> Self {
        match phase {
            Phase::Authority => Self::Authority(view.authority_tree.clone()),
            Phase::Entries => Self::Entries(view.entries.clone()),
        }
    }

    /// What is walked in a phase: all authority, or the entries under the scope.
    pub(super) fn scope(phase: Phase, prefix: &PathPrefix) -> Vec<Region> {
        match phase {
            Phase::Authority => vec![Region::all()],
            Phase::Entries => scope_regions(prefix),
        }
    }

    pub(super) fn digest(&self, region: &Region) -> Digest {
        match self {
            Self::Authority(tree) => tree.digest_region(region),
            Self::Entries(tree) => tree.digest_region(region),
        }
    }

    pub(super) fn count(&self, region: &Region) -> usize {
        match self {
            Self::Authority(tree) => tree.count_region(region),
            Self::Entries(tree) => tree.count_region(region),
        }
    }

    pub(super) fn cut(&self, region: &Region, target: usize) -> Vec<Part> {
        match self {
            Self::Authority(tree) => tree.frontier(region, target),
            Self::Entries(tree) => tree.frontier(region, target),
        }
    }

    /// The facts of a region, by key, then by id.
    pub(super) fn leaves(&self, region: &Region) -> Box<dyn Iterator<Item = Leaf> + '_> {
        self.run((region.start(), region.end()))
    }

    fn run(&self, span: Span) -> Box<dyn Iterator<Item = Leaf> + '_> {
        match self {
            Self::Authority(tree) => Box::new(tree.range::<Vec<u8>>(span).filter_map(|(key, _)| {
                let id = std::str::from_utf8(&key).ok()?.parse().ok()?;
                Some(Leaf::Authority(id))
            })),
            Self::Entries(tree) => Box::new(tree.range::<Vec<u8>>(span).flat_map(|(key, frontier)| {
                let key = parse_key(&key);
                let metas = frontier.entries().iter().cloned();
                metas.filter_map(move |meta| Some(Leaf::Entry(key.clone()?, meta)))
            })),
        }
    }

    /// The runs of keys of a region that lie in none of a peer's parts and are not empty here.
    pub(super) fn gaps(&self, region: &Region, parts: &[Region]) -> Result<Vec<Span>, PartsError> {
        region.check_parts(parts)?;
        let mut gaps = Vec::new();
        let mut start = Some(region.start());
        for part in parts {
            let Some(from) = start else { return Ok(gaps) };
            gaps.push((from, Bound::Excluded(part.bytes().to_vec())));
            start = part.start_after();
        }
        gaps.extend(start.map(|from| (from, region.end())));
        gaps.retain(|span| !is_reversed(span) && self.run(span.clone()).next().is_some());
        Ok(gaps)
    }

    /// The next facts of a span, at least one key's and about `about` of them, and what is left of it.
    pub(super) fn take(&self, span: Span, about: usize) -> (Vec<Leaf>, Option<Span>) {
        let mut leaves: Vec<Leaf> = Vec::with_capacity(about);
        for leaf in self.run(span.clone()) {
            if leaves.len() >= about
                && let Some(last) = leaves.last().filter(|last| !last.is_of_key_of(&leaf))
            {
                let rest = (Bound::Excluded(last.key()), span.1);
                return (leaves, Some(rest));
            }
            leaves.push(leaf);
        }
        (leaves, None)
    }
}

/// Whether a span ends before it starts; ranges of a tree do not accept such a one.
fn is_reversed((start, end): &Span) -> bool {
    match (start, end) {
        (Bound::Included(start), Bound::Excluded(end)) => start >= end,
        (Bound::Excluded(start), Bound::Excluded(end) | Bound::Included(end)) => start >= end,
        (Bound::Included(start), Bound::Included(end)) => start > end,
        _ => false,
    }
}
