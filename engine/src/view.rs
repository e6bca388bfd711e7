//! One state of a replica: an immutable snapshot that is cheap to take, to hold and to ask.

use crate::Frontier;
use crate::leaf::KeyLeaf;
use crate::long::LongKeys;
use crate::tree::{Tree, root_digest};
use kvgossip_grants::{
    Authority, Code, Digest, EntryMeta, Fact, GrantId, Key, KeyGlob, LiveGrant, PathPrefix, PublicKey,
    Timestamp, Unverified, Verdict,
};
use std::sync::Arc;

/// A snapshot of a replica. Clones are cheap, and later changes of the replica are not seen.
#[derive(Clone, Debug)]
pub struct View {
    pub(crate) authority: Arc<Authority>,
    /// Keys are the ids of the facts in hexadecimal, so that no node has more than 16 children.
    pub(crate) authority_tree: Tree<Digest>,
    pub(crate) entries: Tree<KeyLeaf>,
    pub(crate) batch: u64,
    pub(crate) long: LongKeys,
    /// What the entries weigh together.
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

    /// Grants, revocations and floors.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// What stands of each key.
    pub fn entries(&self) -> &Tree<KeyLeaf> {
        &self.entries
    }

    /// Authority facts by id in hexadecimal.
    pub fn authority_tree(&self) -> &Tree<Digest> {
        &self.authority_tree
    }

    /// How many batches led to this state.
    pub fn batch(&self) -> u64 {
        self.batch
    }

    /// Digest over the authority facts.
    pub fn authority_root(&self) -> Digest {
        self.authority_tree.digest()
    }

    /// Digest over all entries.
    pub fn entries_root(&self) -> Digest {
        self.entries.digest()
    }

    /// Digest over everything.
    pub fn root(&self) -> Digest {
        root_digest(&self.authority_root(), &self.entries_root())
    }

    /// Digest over the entries under a path prefix.
    pub fn digest(&self, prefix: &PathPrefix) -> Digest {
        if prefix.is_root() {
            self.entries_root()
        } else {
            self.entries.digest_path(prefix.as_str().as_bytes())
        }
    }

    /// How many keys with entries lie under a path prefix.
    pub fn count(&self, prefix: &PathPrefix) -> usize {
        if prefix.is_root() {
            self.entries.len()
        } else {
            self.entries.count_path(prefix.as_str().as_bytes())
        }
    }

    /// What stands of a key.
    pub fn frontier(&self, key: &Key) -> Option<&Frontier> {
        self.entries.get(key.as_bytes()).map(KeyLeaf::frontier)
    }

    /// The entry that a reader sees at `now`; `None` when the key is unset.
    pub fn shown(&self, key: &Key, now: Timestamp) -> Option<&EntryMeta> {
        self.frontier(key)?.shown(now).map(|entry| &entry.meta).filter(|entry| !entry.is_delete)
    }

    /// Keys that start with `prefix` (bytes), after `after` if given, with what stands of them.
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

    /// Keys that a glob matches, with what stands of them.
    pub fn matching<'a>(&'a self, glob: &KeyGlob) -> impl Iterator<Item = (Key, &'a Frontier)> + use<'a> {
        let pattern = glob.clone();
        self.keys(glob.literal_prefix(), None).filter(move |(key, _)| pattern.matches(key))
    }

    /// Keys with an entry that stands on `grant` or on one below it. Looks at every key under the pattern's literal prefix:
    /// a store that works knows them sooner.
    pub fn keys_below<'a>(&'a self, grant: &'a Arc<LiveGrant>) -> impl Iterator<Item = Key> + use<'a> {
        let matching = self.matching(&grant.body().pattern);
        matching.filter(|(_, frontier)| frontier.has_below(grant)).map(|(key, _)| key)
    }

    /// What comes of a fact of this cluster that changes nothing here, whatever its signature says: it is part of the
    /// state, or what is makes it moot. `None` for all that has to be looked at more closely.
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

    /// Judges a fact by everything but its signatures; see [`Authority::check`].
    pub fn check(&self, fact: Fact, now: Timestamp) -> Result<Unverified, Verdict> {
        self.authority.check(fact, now)
    }

    /// The time that a writer stamps on a new entry of `key` under `grant`: not before now, after every entry
    /// that stands, not before a grant of the chain was issued, and not below a floor. It may lie after the chain's end;
    /// then the entry is refused.
    pub fn stamp(&self, key: &Key, grant: Option<&GrantId>, now: Timestamp) -> Timestamp {
        let newest = self.frontier(key).and_then(Frontier::newest).map(|entry| entry.meta.timestamp);
        self.authority.stamp(key, grant, newest, now)
    }
}

/// Keys of the tree were `Key`s when they were put there.
pub(crate) fn parse_key(bytes: &[u8]) -> Option<Key> {
    Key::parse(std::str::from_utf8(bytes).ok()?).ok()
}
