//! Sending the initial state in pieces, without holding an old state.

use super::interest::Interest;
use kvgossip_engine::View;
use kvgossip_grants::{Digest, HeldDigests, Key};
use std::collections::BTreeSet;

/// Progress of a walk through the keys of an interest.
#[derive(Clone, Debug, Default)]
pub(super) struct Position {
    /// Number of named keys that the walk has passed.
    keys: usize,
    /// Number of filters that the walk has passed.
    filters: usize,
    /// Number of literal prefixes of the next filter that the walk has passed.
    prefixes: usize,
    /// Last key examined below the next literal prefix; `None`: none was examined below it.
    after: Option<Key>,
}

impl Position {
    /// Returns the next watched key: a named one, whether or not it has entries, or one that a filter includes. Each
    /// key occurs once. Adds the cost of the keys that were examined to `looked`; returns `None` early at
    /// [`CHUNK_KEYS`](super::CHUNK_KEYS).
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

    /// Whether the walk has passed all keys.
    pub(super) fn is_done(&self, interest: &Interest) -> bool {
        self.keys >= interest.keys.len() && self.filters >= interest.filters.len()
    }

    /// Returns the position after all keys.
    pub(super) fn end(interest: &Interest) -> Self {
        Self { keys: interest.keys.len(), filters: interest.filters.len(), ..Self::default() }
    }
}

/// Returns the digests of the live entries of all keys of the interest, in `buckets` buckets; see
/// `kvgossip_grants::HeldDigests`.
pub(super) fn digests(interest: &Interest, view: &View, buckets: usize) -> Vec<Digest> {
    // Keys in ascending order, whichever filter includes them.
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
