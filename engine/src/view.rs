//! A view: an immutable snapshot of a replica's state that is cheap to take, to hold and to query.

use crate::Frontier;
use crate::leaf::KeyLeaf;
use crate::long::{LongFrontier, LongKeys, MAX_HEAVY_GRANTS};
use crate::tree::{Tree, root_digest};
use kvgossip_grants::{
    Authority, Code, Digest, EntryMeta, Fact, GrantId, Key, KeyGlob, LiveGrant, PathPrefix, PublicKey,
    Timestamp, Unverified, Verdict,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An immutable snapshot of a replica's state in memory. Clones are cheap, and later changes of the replica do not
/// affect it.
#[derive(Clone, Debug)]
pub struct View {
    pub(crate) authority: Arc<Authority>,
    /// Tree of the authority facts, keyed by their ids in hexadecimal, so that no node has more than 16 children.
    pub(crate) authority_tree: Tree<Digest>,
    pub(crate) entries: Tree<KeyLeaf>,
    pub(crate) batch: u64,
    pub(crate) long: LongKeys,
    /// Total weight of all entries in bytes, to which [`View::weight`] adds that of the authority facts.
    pub(crate) entries_weight: u64,
}

impl View {
    pub(crate) fn new(root: PublicKey) -> Self {
        Self {
            authority: Arc::new(Authority::new(root)),
            authority_tree: Tree::new(),
            entries: Tree::new(),
            batch: 0,
            long: LongKeys::default(),
            entries_weight: 0,
        }
    }

    /// Returns the authority set: grants, revocations and floors.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Returns the tree of keys with their frontiers.
    pub fn entries(&self) -> &Tree<KeyLeaf> {
        &self.entries
    }

    /// Returns the tree of authority facts, keyed by their ids in hexadecimal.
    pub fn authority_tree(&self) -> &Tree<Digest> {
        &self.authority_tree
    }

    /// Returns the number of the batch that led to this state; 0 before the first batch.
    pub fn batch(&self) -> u64 {
        self.batch
    }

    /// Returns the digest of all authority facts.
    pub fn authority_root(&self) -> Digest {
        self.authority_tree.digest()
    }

    /// Returns the digest of all entries.
    pub fn entries_root(&self) -> Digest {
        self.entries.digest()
    }

    /// Returns the root digest of the whole state, over the digests of authority facts and entries.
    pub fn root(&self) -> Digest {
        root_digest(&self.authority_root(), &self.entries_root())
    }

    /// Returns the digest of the entries under a path prefix.
    pub fn digest(&self, prefix: &PathPrefix) -> Digest {
        if prefix.is_root() {
            self.entries_root()
        } else {
            self.entries.digest_path(prefix.as_str().as_bytes())
        }
    }

    /// Returns the number of keys with entries under a path prefix.
    pub fn count(&self, prefix: &PathPrefix) -> usize {
        if prefix.is_root() {
            self.entries.len()
        } else {
            self.entries.count_path(prefix.as_str().as_bytes())
        }
    }

    /// Returns the frontier of a key; `None` if the key has no entry.
    pub fn frontier(&self, key: &Key) -> Option<&Frontier> {
        self.entries.get(key.as_bytes()).map(KeyLeaf::frontier)
    }

    /// Returns the entry that a reader sees at `now`; `None` if the key is unset.
    pub fn shown(&self, key: &Key, now: Timestamp) -> Option<&EntryMeta> {
        self.frontier(key)?.shown(now).map(|entry| &entry.meta).filter(|entry| !entry.is_delete)
    }

    /// Iterates over the keys that start with `prefix` (bytes), after the key `after` if given, and their frontiers.
    pub fn keys<'a>(
        &'a self,
        prefix: &str,
        after: Option<&Key>,
    ) -> impl Iterator<Item = (Key, &'a Frontier)> + use<'a> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let start = match after {
            Some(after) if after.as_str() >= prefix => Excluded(after.as_bytes().to_vec()),
            _ => Included(prefix.as_bytes().to_vec()),
        };
        let prefix = prefix.as_bytes().to_vec();
        self.entries
            .range::<Vec<u8>>((start, Unbounded))
            .take_while(move |(key, _)| key.starts_with(&prefix))
            .filter_map(|(key, leaf)| Some((parse_key(&key)?, leaf.frontier())))
    }

    /// Iterates over the keys that `glob` matches and that have entries, and their frontiers.
    pub fn matching<'a>(&'a self, glob: &KeyGlob) -> impl Iterator<Item = (Key, &'a Frontier)> + use<'a> {
        let pattern = glob.clone();
        self.keys(glob.literal_prefix(), None).filter(move |(key, _)| pattern.matches(key))
    }

    /// Iterates over the keys with an entry that cites `grant` or a grant below it. Examines every key under the
    /// literal prefix of the grant's pattern: the store's citations are faster.
    pub fn keys_below<'a>(&'a self, grant: &'a Arc<LiveGrant>) -> impl Iterator<Item = Key> + use<'a> {
        let matching = self.matching(&grant.body().pattern);
        matching.filter(|(_, frontier)| frontier.has_below(grant)).map(|(key, _)| key)
    }

    /// Returns the verdict on a fact of this cluster that changes nothing here, regardless of its signature: the fact
    /// is part of the state, or the state makes it moot. `None` for every fact that needs a full check.
    pub(crate) fn recognise(&self, fact: &Fact) -> Option<Verdict> {
        let Fact::Entry(fact) = fact else {
            return self.authority.contains(&fact.id()).then_some(Verdict::Moot(Code::Known));
        };
        let (entry, id) = (fact.entry(), fact.id());
        let frontier = self.frontier(&entry.key)?;
        if frontier.contains(&id) {
            return Some(Verdict::Moot(Code::Known));
        }
        let grant = self.authority.entry_grant(fact.signed()).ok()?;
        if self.authority.is_floored(&entry.key, entry.timestamp) {
            return Some(Verdict::Moot(Code::Floored));
        }
        let is_dominated = frontier.dominates(&EntryMeta::new(id, entry, grant.cloned()));
        is_dominated.then_some(Verdict::Moot(Code::Dominated))
    }

    /// Checks a fact of this cluster by everything but its signatures; see [`Authority::check`].
    pub fn check(&self, fact: Fact, now: Timestamp) -> Result<Unverified, Verdict> {
        self.authority.check(fact, now)
    }

    /// Returns the timestamp for a new entry of `key` under `grant`: not before `now`, after every entry of the
    /// frontier, not before the start of the chain, and not below a floor. It may lie after the chain's end; then the
    /// entry is refused.
    pub fn stamp(&self, key: &Key, grant: Option<&GrantId>, now: Timestamp) -> Timestamp {
        let newest = self.frontier(key).and_then(Frontier::newest).map(|entry| entry.meta.timestamp);
        self.authority.stamp(key, grant, newest, now)
    }

    /// Returns reports on keys with more than [`LONG_FRONTIER`](crate::LONG_FRONTIER) entries, in key order; at most
    /// [`MAX_LONG_FRONTIERS`](crate::MAX_LONG_FRONTIERS).
    ///
    /// The cost is the number of the entries of these keys times the depth of the grants that they cite.
    pub fn long_frontiers(&self) -> Vec<LongFrontier> {
        self.long.keys().filter_map(|key| self.long_frontier(key)).collect()
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

/// Parses the bytes of a key of the tree, which was a valid [`Key`] when it was inserted; `None` if it is not.
pub(crate) fn parse_key(bytes: &[u8]) -> Option<Key> {
    Key::parse(std::str::from_utf8(bytes).ok()?).ok()
}
