//! Index of watchers by key: by the keys that they name, and by the literal prefixes of their filters.

use super::interest::Interest;
use kvgossip_grants::{Filter, Key};
use std::collections::{BTreeMap, HashMap};

/// Id of a watcher, a number that the hub counts up.
pub(super) type WatcherId = u64;

/// Finds the watchers of a key. A lookup costs one step for the key and one for each distinct *length* of a literal
/// prefix, at most `MAX_GLOB_BYTES`. It does not depend on the number of watchers.
#[derive(Debug, Default)]
pub(super) struct Index {
    keys: HashMap<Key, Vec<WatcherId>>,
    prefixes: HashMap<Box<[u8]>, Vec<(WatcherId, Filter)>>,
    /// Number of distinct literal prefixes in the index, by their length in bytes.
    lengths: BTreeMap<usize, usize>,
}

impl Index {
    pub(super) fn add(&mut self, id: WatcherId, interest: &Interest) {
        for key in &interest.keys {
            self.keys.entry(key.clone()).or_default().push(id);
        }
        for filter in &interest.filters {
            for prefix in filter.literal_prefixes() {
                let watchers = self.prefixes.entry(prefix.as_bytes().into()).or_insert_with(|| {
                    *self.lengths.entry(prefix.len()).or_default() += 1;
                    Vec::new()
                });
                watchers.push((id, filter.clone()));
            }
        }
    }

    pub(super) fn remove(&mut self, id: WatcherId, interest: &Interest) {
        for key in &interest.keys {
            if let Some(watchers) = self.keys.get_mut(key) {
                watchers.retain(|other| *other != id);
                if watchers.is_empty() {
                    self.keys.remove(key);
                }
            }
        }
        for prefix in interest.filters.iter().flat_map(Filter::literal_prefixes) {
            let Some(watchers) = self.prefixes.get_mut(prefix.as_bytes()) else { continue };
            watchers.retain(|(other, _)| *other != id);
            if watchers.is_empty() {
                self.prefixes.remove(prefix.as_bytes());
                if let Some(count) = self.lengths.get_mut(&prefix.len()) {
                    *count -= 1;
                    if *count == 0 {
                        self.lengths.remove(&prefix.len());
                    }
                }
            }
        }
    }

    /// Calls `hear` with the id of every watcher of `key`; for some of the watchers more than once.
    pub(super) fn each(&self, key: &Key, mut hear: impl FnMut(WatcherId)) {
        self.keys.get(key).into_iter().flatten().copied().for_each(&mut hear);
        for length in self.lengths.keys() {
            let Some(prefix) = key.as_bytes().get(..*length) else { break };
            let watchers = self.prefixes.get(prefix).into_iter().flatten();
            watchers.filter(|(_, filter)| filter.includes(key)).for_each(|(id, _)| hear(*id));
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.prefixes.is_empty() && self.lengths.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvgossip_api::WatchRequest;
    use std::collections::BTreeSet;

    fn interest(keys: &[&str], filters: &[&[&str]]) -> Interest {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let filters = filters.iter().map(|filter| texts(filter)).collect();
        Interest::parse(&WatchRequest { keys: texts(keys), filters, ..Default::default() }).expect("good")
    }

    #[test]
    fn the_index_finds_exactly_those_who_asked_and_is_empty_when_all_have_gone() {
        let all = [
            interest(&["/a", "/a/b"], &[]),
            interest(&[], &[&["/a/**", "!/a/c/*"]]),
            interest(&["/a/b"], &[&["/**"]]),
            interest(&[], &[&["/a/b"], &["!/a"]]),
            interest(&[], &[&["/a/b", "/z/*", "/a/?"]]),
        ];
        let mut index = Index::default();
        for (id, interest) in all.iter().enumerate() {
            index.add(id as u64, interest);
        }
        for key in ["/a", "/a/b", "/a/c/d", "/z/z", "/q", "/a/bb"] {
            let key = Key::parse(key).expect("a key");
            let mut found = BTreeSet::new();
            index.each(&key, |id| {
                found.insert(id);
            });
            let expected: BTreeSet<u64> =
                (0..).zip(&all).filter(|(_, interest)| interest.includes(&key)).map(|(id, _)| id).collect();
            assert_eq!(found, expected, "{key}");
        }
        for (id, interest) in all.iter().enumerate() {
            index.remove(id as u64, interest);
        }
        assert!(index.is_empty());
    }
}
