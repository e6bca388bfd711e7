//! Reports keys with many entries to the operator of the replica.

use kvgossip_grants::{GrantId, Key};
use std::collections::BTreeSet;
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
    /// These keys, in order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.0.iter()
    }

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
