//! Reports keys with many entries to the operator of the replica.

use kvgossip_grants::{GrantId, Key};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Number of entries of a key above which the key is reported.
pub const LONG_FRONTIER: usize = 64;
/// Maximum number of keys with more than [`LONG_FRONTIER`] entries that are remembered. A further key is added when it
/// changes and there is room.
pub const MAX_LONG_FRONTIERS: usize = 64;
/// Maximum number of grants reported for each key with more than [`LONG_FRONTIER`] entries.
pub const MAX_HEAVY_GRANTS: usize = 4;

/// Set of the keys with more than [`LONG_FRONTIER`] entries. Clones are cheap.
#[derive(Clone, Debug, Default)]
pub(crate) struct LongKeys(Arc<BTreeSet<Key>>);

impl LongKeys {
    /// Iterates over the keys in ascending order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.0.iter()
    }

    /// Records the present number of entries of a key.
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

/// Report on a key with more than [`LONG_FRONTIER`] entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LongFrontier {
    /// Key that has the entries.
    pub key: Key,
    /// Number of entries in the key's frontier.
    pub entries: usize,
    /// Grants whose revocation would end most of these entries, each with the number that it would end, the most first;
    /// at most [`MAX_HEAVY_GRANTS`]. Among equal numbers the deepest grant comes first, since its revocation ends the
    /// fewest entries of other keys.
    pub grants: Vec<(GrantId, usize)>,
}
