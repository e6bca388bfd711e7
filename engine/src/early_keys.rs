//! Of which keys an entry is early, so that what is held of them is not all that is known.

use kvgossip_grants::{EntryId, Fact, FactId, Key};
use std::collections::{BTreeMap, BTreeSet};

/// The keys of early entries that have a value, with the ids of these entries. Deletes are left out: of a key without a
/// value they change nothing. As many entries are here as are declined for being early, and a key is shared with them.
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

    /// Gives the key, if the entry was here.
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

    /// The ids of a key's early entries, up to a number.
    pub fn of(&self, key: &Key, most: usize) -> Vec<EntryId> {
        self.by_key.get(key).into_iter().flatten().take(most).copied().collect()
    }

    /// All of the keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.by_key.keys()
    }
}

#[cfg(test)]
#[path = "early_keys_tests.rs"]
mod tests;
