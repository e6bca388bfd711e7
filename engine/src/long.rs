//! Reports keys with many entries to the operator of the replica.

use crate::view::View;
use kvgossip_grants::{GrantId, Key};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Keys with more entries than this are reported.
pub const LONG_FRONTIER: usize = 64;
/// Maximum number of such keys that are remembered. A further key is added when it changes and there is room.
pub const MAX_LONG_FRONTIERS: usize = 64;
/// Maximum number of grants reported for each of them.
pub const MAX_HEAVY_GRANTS: usize = 4;

/// Set of the keys with more than [`LONG_FRONTIER`] entries. Clones are cheap.
#[derive(Clone, Debug, Default)]
pub(crate) struct LongKeys(Arc<BTreeSet<Key>>);

impl LongKeys {
    /// Records the number of entries of a key.
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

/// Report on a key with many entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LongFrontier {
    /// Key with many entries.
    pub key: Key,
    /// Number of entries.
    pub entries: usize,
    /// Grants whose revocation would end most of these entries, with the number of entries, most first. Of equal
    /// numbers the deepest grant comes first, since its revocation ends the fewest other entries.
    pub grants: Vec<(GrantId, usize)>,
}

impl View {
    /// Returns reports on keys with more than [`LONG_FRONTIER`] entries, in key order; at most [`MAX_LONG_FRONTIERS`].
    ///
    /// The cost is the number of their entries times the depth of their grants.
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
