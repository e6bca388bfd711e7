//! Keys with an early entry, for which the state of this replica is known to be incomplete.

use kvgossip_grants::{EntryId, Fact, FactId, Key};
use std::collections::{BTreeMap, BTreeSet};

/// The keys of early entries with a value, with the ids of these entries. Deletes are left out: they would not change a
/// key without a value. The number of entries is bounded by that of the declined early facts, with which the keys are
/// shared.
#[derive(Debug, Default)]
pub struct EarlyKeys {
    by_key: BTreeMap<Key, BTreeSet<EntryId>>,
    by_id: BTreeMap<EntryId, Key>,
}

impl EarlyKeys {
    pub(crate) fn add(&mut self, fact: &Fact) {
        let Fact::Entry(entry) = fact else { return };
        if entry.value().is_none() {
            return;
        }
        let key = entry.entry().key.clone();
        if self.by_id.insert(entry.id(), key.clone()).is_none() {
            self.by_key.entry(key).or_default().insert(entry.id());
        }
    }

    /// Removes an early entry by its id. Returns its key; `None` if the entry was not listed.
    pub(crate) fn remove(&mut self, id: &FactId) -> Option<Key> {
        let id = EntryId(id.0);
        let key = self.by_id.remove(&id)?;
        if let Some(ids) = self.by_key.get_mut(&key) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_key.remove(&key);
            }
        }
        Some(key)
    }

    /// Returns the ids of at most `most` early entries of `key`.
    pub fn of(&self, key: &Key, most: usize) -> Vec<EntryId> {
        self.by_key.get(key).into_iter().flatten().take(most).copied().collect()
    }

    /// Iterates over the keys with early entries in ascending order.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.by_key.keys()
    }
}

#[cfg(test)]
#[path = "early_keys_tests.rs"]
mod tests;
