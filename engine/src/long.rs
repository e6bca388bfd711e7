//! Which keys have many entries, for whoever runs the replica.

use crate::view::View;
use kvgossip_grants::{GrantId, Key};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A key with more entries than this is told of.
pub const LONG_FRONTIER: usize = 64;
/// Such keys that are remembered. One beyond comes in when it changes and there is room.
pub const MAX_LONG_FRONTIERS: usize = 64;
/// Grants that are named for each of them.
pub const MAX_HEAVY_GRANTS: usize = 4;

/// Keys with more than [`LONG_FRONTIER`] entries. Clones are cheap.
#[derive(Clone, Debug, Default)]
pub(crate) struct LongKeys(Arc<BTreeSet<Key>>);

impl LongKeys {
    /// Notes how many entries stand of a key.
    pub(crate) fn note(&mut self, key: &Key, entries: usize) {
        let is_long = entries > LONG_FRONTIER;
        if is_long == self.0.contains(key) || is_long && self.0.len() >= MAX_LONG_FRONTIERS {
            return;
        }
        let keys = Arc::make_mut(&mut self.0);
        if is_long {
            keys.insert(key.clone())
        } else {
            keys.remove(key)
        };
    }
}

/// A key with many entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LongFrontier {
    /// Which key.
    pub key: Key,
    /// How many entries stand.
    pub entries: usize,
    /// Grants whose revocation ends most of these entries, with how many: the most first, and of equals the one that
    /// ends least else, which is the lowest.
    pub grants: Vec<(GrantId, usize)>,
}

impl View {
    /// Keys with more than [`LONG_FRONTIER`] entries, by key; of more than [`MAX_LONG_FRONTIERS`] only so many.
    ///
    /// Costs as much as their entries are many, times the depth of their grants.
    pub fn long_frontiers(&self) -> Vec<LongFrontier> {
        self.long.0.iter().filter_map(|key| self.long_frontier(key)).collect()
    }

    fn long_frontier(&self, key: &Key) -> Option<LongFrontier> {
        let frontier = self.frontier(key)?;
        let mut counts: BTreeMap<GrantId, (usize, u8)> = BTreeMap::new();
        for entry in frontier.newest_first() {
            for grant in entry.meta.grant.iter().flat_map(|grant| grant.chain()) {
                counts.entry(grant.id()).or_insert((0, grant.depth())).0 += 1;
            }
        }
        let mut grants: Vec<_> = counts.into_iter().filter(|(_, (count, _))| *count > 1).collect();
        grants.sort_by_key(|(id, (count, depth))| (std::cmp::Reverse((*count, *depth)), *id));
        let grants = grants.into_iter().take(MAX_HEAVY_GRANTS).map(|(id, (count, _))| (id, count)).collect();
        Some(LongFrontier { key: key.clone(), entries: frontier.len(), grants })
    }
}
