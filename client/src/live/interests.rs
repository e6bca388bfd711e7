//! Interests of a client.

use kvgossip_grants::{Filter, Key};
use std::collections::BTreeMap;

/// Id of an interest, unique in its client.
pub(crate) type InterestId = u64;

/// Subject of an interest: one key, or the keys that a filter includes.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Key(Key),
    Matching(Filter),
}

/// Key or filter that a client watches.
#[derive(Debug)]
pub(crate) struct Interest {
    pub(crate) what: What,
    /// Whether some agent has ever sent everything that the interest covers.
    pub(crate) loaded: bool,
    /// Whether the connected agent has sent everything that the interest covers.
    pub(crate) synced: bool,
}

impl Interest {
    pub(crate) fn covers(&self, key: &Key) -> bool {
        match &self.what {
            What::Key(own) => own == key,
            What::Matching(filter) => filter.includes(key),
        }
    }
}

/// All interests of a client.
#[derive(Debug, Default)]
pub(crate) struct Interests {
    all: BTreeMap<InterestId, Interest>,
    keys: BTreeMap<Key, InterestId>,
    filters: Vec<InterestId>,
}

impl Interests {
    pub(crate) fn add(&mut self, id: InterestId, what: What) {
        match &what {
            What::Key(key) => {
                self.keys.insert(key.clone(), id);
            }
            What::Matching(_) => self.filters.push(id),
        }
        self.all.insert(id, Interest { what, loaded: false, synced: false });
    }

    pub(crate) fn remove(&mut self, id: InterestId) -> Option<Interest> {
        let interest = self.all.remove(&id)?;
        if let What::Key(key) = &interest.what {
            self.keys.remove(key);
        }
        self.filters.retain(|other| *other != id);
        Some(interest)
    }

    pub(crate) fn get(&self, id: InterestId) -> Option<&Interest> {
        self.all.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: InterestId) -> Option<&mut Interest> {
        self.all.get_mut(&id)
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = InterestId> {
        self.all.keys().copied()
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut Interest> {
        self.all.values_mut()
    }

    /// Returns whether an interest names this very key.
    pub(crate) fn names(&self, key: &Key) -> bool {
        self.keys.contains_key(key)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = (&Key, InterestId)> {
        self.keys.iter().map(|(key, id)| (key, *id))
    }

    pub(crate) fn filters(&self) -> impl Iterator<Item = (&Filter, InterestId)> {
        self.filters.iter().filter_map(|id| match &self.all.get(id)?.what {
            What::Matching(filter) => Some((filter, *id)),
            What::Key(_) => None,
        })
    }

    /// Interests that cover a key.
    pub(crate) fn covering(&self, key: &Key) -> impl Iterator<Item = &Interest> {
        self.covering_ids(key).filter_map(|id| self.all.get(&id))
    }

    /// Ids of the interests that cover a key.
    pub(crate) fn covering_ids(&self, key: &Key) -> impl Iterator<Item = InterestId> {
        let (named, key) = (self.keys.get(key).copied(), key.clone());
        let covers = move |id: &InterestId| self.all.get(id).is_some_and(|interest| interest.covers(&key));
        named.into_iter().chain(self.filters.iter().copied().filter(covers))
    }
}
