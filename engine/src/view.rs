//! One state of a replica: an immutable snapshot that is cheap to take, to hold and to ask.

use crate::frontier::{EntryMeta, Frontier};
use crate::tree::{Region, Tree, root_digest};
use kvgossip_grants::{
    Authority, Digest, Fact, FactId, GrantId, Key, KeyGlob, PathPrefix, PublicKey, Timestamp, Unverified,
    Verdict,
};
use std::sync::Arc;

/// A snapshot of a replica. Clones are cheap, and later changes of the replica are not seen.
#[derive(Clone, Debug)]
pub struct View {
    pub(crate) authority: Arc<Authority>,
    /// Keys are the ids of the facts in hexadecimal, so that no node has more than 16 children.
    pub(crate) authority_tree: Tree<Digest>,
    pub(crate) entries: Tree<Frontier>,
    pub(crate) batch: u64,
}

impl View {
    pub(crate) fn new(root: PublicKey) -> Self {
        Self {
            authority: Arc::new(Authority::new(root)),
            authority_tree: Tree::new(),
            entries: Tree::new(),
            batch: 0,
        }
    }

    /// Grants, revocations and floors.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// What stands of each key.
    pub fn entries(&self) -> &Tree<Frontier> {
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
        self.entries.get(key.as_bytes())
    }

    /// The entry that a reader sees at `now`; `None` when the key is unset.
    pub fn shown(&self, key: &Key, now: Timestamp) -> Option<&EntryMeta> {
        self.frontier(key)?.shown(now).filter(|entry| !entry.is_delete)
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
            .filter_map(|(key, frontier)| Some((parse_key(&key)?, frontier)))
    }

    /// Keys that a glob matches, with what stands of them.
    pub fn matching<'a>(&'a self, glob: &KeyGlob) -> impl Iterator<Item = (Key, &'a Frontier)> + use<'a> {
        let pattern = glob.clone();
        self.keys(glob.literal_prefix(), None).filter(move |(key, _)| pattern.matches(key))
    }

    /// Keys with an entry that cites `grant`. Looks at every key: a store that works knows them sooner.
    pub fn citing<'a>(&'a self, grant: &GrantId) -> impl Iterator<Item = Key> + use<'a> {
        let grant = *grant;
        let cites =
            move |frontier: &Frontier| frontier.entries().iter().any(|entry| entry.grant_id() == Some(grant));
        self.keys("/", None).filter(move |(_, frontier)| cites(frontier)).map(|(key, _)| key)
    }

    /// Judges a fact by everything but its signatures; see [`Authority::check`].
    pub fn check(&self, fact: Fact, now: Timestamp) -> Result<Unverified, Verdict> {
        self.authority.check(fact, now)
    }

    /// The time that a writer stamps on a new entry of `key` under `grant`: not before now, after every entry
    /// that stands, not before a grant of the chain was issued, and not below a floor. It may lie after the chain's end;
    /// then the entry is refused.
    pub fn stamp(&self, key: &Key, grant: Option<&GrantId>, now: Timestamp) -> Timestamp {
        let newest = self.frontier(key).and_then(Frontier::newest);
        let after_newest = newest.map_or(Timestamp::ZERO, |entry| entry.timestamp.saturating_add(1));
        let issued =
            grant.and_then(|id| self.authority.grant(id)).map_or(Timestamp::ZERO, |grant| grant.valid_from());
        let floor = self.authority.floor_of(key).unwrap_or(Timestamp::ZERO);
        now.max(after_newest).max(issued).max(floor)
    }
}

/// The place of an authority fact in its tree.
pub(crate) fn authority_key(id: &FactId) -> String {
    id.to_string()
}

/// Keys of the tree were `Key`s when they were put there.
pub(crate) fn parse_key(bytes: &[u8]) -> Option<Key> {
    Key::parse(std::str::from_utf8(bytes).ok()?).ok()
}

/// The regions of the entries' tree that a session confined to `prefix` walks.
pub(crate) fn scope_regions(prefix: &PathPrefix) -> Vec<Region> {
    if prefix.is_root() { vec![Region::all()] } else { Region::of_path(prefix.as_str().as_bytes()).to_vec() }
}
