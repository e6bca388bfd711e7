//! Telling what stands at the beginning, a piece at a time, without holding on to an old state.

use super::interest::Interest;
use kvgossip_engine::View;
use kvgossip_grants::{Digest, HeldDigests, Key};
use std::collections::BTreeSet;

/// How far the telling has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Position {
    /// So many of the named keys are done.
    keys: usize,
    /// So many filters are done,
    filters: usize,
    /// so many beginnings of the next one,
    prefixes: usize,
    /// and there all keys up to this one.
    after: Option<Key>,
}

impl Position {
    /// The next key that was asked for: a named one, whether or not anything stands of it, or one that a filter includes.
    /// A key that several ask for comes once. `looked` counts keys that were looked at.
    pub(super) fn next(&mut self, interest: &Interest, view: &View, looked: &mut usize) -> Option<Key> {
        if let Some(key) = interest.keys.get(self.keys) {
            self.keys += 1;
            *looked += 1;
            return Some(key.clone());
        }
        while let Some(filter) = interest.filters.get(self.filters) {
            let prefixes = filter.literal_prefixes();
            while let Some(prefix) = prefixes.get(self.prefixes) {
                for (key, _) in view.keys(prefix, self.after.as_ref()) {
                    *looked += interest.looks(&key);
                    let told = || {
                        let earlier = &interest.filters[..self.filters];
                        interest.names(&key) || earlier.iter().any(|filter| filter.includes(&key))
                    };
                    let wanted = filter.includes(&key) && !told();
                    self.after = Some(key.clone());
                    if wanted {
                        return Some(key);
                    }
                    if *looked >= super::CHUNK_KEYS {
                        return None;
                    }
                }
                self.prefixes += 1;
                self.after = None;
            }
            self.filters += 1;
            self.prefixes = 0;
        }
        None
    }

    /// Whether all is told.
    pub(super) fn is_done(&self, interest: &Interest) -> bool {
        self.keys >= interest.keys.len() && self.filters >= interest.filters.len()
    }

    /// The end, for a watcher that has everything.
    pub(super) fn end(interest: &Interest) -> Self {
        Self { keys: interest.keys.len(), filters: interest.filters.len(), ..Self::default() }
    }
}

/// Digests over what stands of the interest, in as many buckets as the watcher chose; see `kvgossip_grants::HeldDigests`.
pub(super) fn digests(interest: &Interest, view: &View, buckets: usize) -> Vec<Digest> {
    // In key order, whichever filter includes a key.
    let mut keys: BTreeSet<Key> = BTreeSet::new();
    let mut position = Position::default();
    while !position.is_done(interest) {
        let mut looked = 0;
        while let Some(key) = position.next(interest, view, &mut looked) {
            keys.insert(key);
        }
    }
    let mut held = HeldDigests::new(buckets);
    for key in keys {
        if let Some(frontier) = view.frontier(&key) {
            held.add_ascending(&key, frontier.len(), frontier.ids());
        }
    }
    held.finish()
}
