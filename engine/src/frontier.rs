//! What a replica remembers of a key without reading its values: the entries that stand, and their leaf digest.

use crate::tree::{Leaf, leaf_digest};
use kvgossip_grants::{Digest, Entry, EntryId, GrantId, Key, LiveGrant, Op, Timestamp};
use smallvec::SmallVec;
use std::sync::Arc;

/// An entry that stands, without its value.
#[derive(Clone, Debug)]
pub struct EntryMeta {
    /// The entry.
    pub id: EntryId,
    /// When it was written.
    pub timestamp: Timestamp,
    /// The grant it stands on; `None` for root.
    pub grant: Option<Arc<LiveGrant>>,
    /// Whether it unsets the key.
    pub is_delete: bool,
}

impl EntryMeta {
    pub(crate) fn new(id: EntryId, entry: &Entry, grant: Option<Arc<LiveGrant>>) -> Self {
        Self { id, timestamp: entry.timestamp, grant, is_delete: entry.op == Op::Delete }
    }

    /// The id of the grant it cites.
    pub fn grant_id(&self) -> Option<GrantId> {
        self.grant.as_ref().map(|grant| grant.id())
    }

    /// Later by (timestamp, id).
    pub fn is_newer_than(&self, other: &Self) -> bool {
        (self.timestamp, self.id) > (other.timestamp, other.id)
    }

    /// Whether this entry of the same key supersedes `other`: it is newer, and root's, or of the same grant or
    /// one above it.
    pub fn dominates(&self, other: &Self) -> bool {
        let outranks = match (&self.grant, &other.grant) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(mine), Some(others)) => others.descends_from(&mine.id()),
        };
        outranks && self.is_newer_than(other)
    }

    /// Whether a grant of its chain has expired at `now`, so that it is not shown.
    pub fn is_masked(&self, now: Timestamp) -> bool {
        self.grant.as_ref().and_then(|grant| grant.valid_until()).is_some_and(|until| until < now)
    }
}

/// All entries of a key that no other dominates, by id; and the digest over them.
#[derive(Clone, Debug)]
pub struct Frontier {
    entries: SmallVec<[EntryMeta; 1]>,
    digest: Digest,
}

impl Frontier {
    /// The frontier of `key`; `None` if there is no entry.
    pub fn new(key: &Key, mut entries: SmallVec<[EntryMeta; 1]>) -> Option<Self> {
        if entries.is_empty() {
            return None;
        }
        entries.sort_unstable_by_key(|entry| entry.id);
        let ids: SmallVec<[EntryId; 1]> = entries.iter().map(|entry| entry.id).collect();
        let digest = leaf_digest(key.as_bytes(), &ids);
        Some(Self { entries, digest })
    }

    /// The entries, by id; at least one.
    pub fn entries(&self) -> &[EntryMeta] {
        &self.entries
    }

    /// The newest entry, expired or not.
    pub fn newest(&self) -> Option<&EntryMeta> {
        self.entries.iter().max_by_key(|entry| (entry.timestamp, entry.id))
    }

    /// What a reader sees at `now`: the newest entry that no expiry masks. It may be a delete.
    pub fn shown(&self, now: Timestamp) -> Option<&EntryMeta> {
        let visible = self.entries.iter().filter(|entry| !entry.is_masked(now));
        visible.max_by_key(|entry| (entry.timestamp, entry.id))
    }

    /// Whether the entry stands.
    pub fn contains(&self, id: &EntryId) -> bool {
        self.entries.iter().any(|entry| entry.id == *id)
    }
}

impl Leaf for Frontier {
    fn digest(&self) -> Digest {
        self.digest
    }
}
