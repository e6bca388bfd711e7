//! An entry that stands, without its value.

use crate::authority::{LiveGrant, early_until};
use crate::fact::{Entry, Op};
use crate::id::{EntryId, GrantId};
use crate::time::Timestamp;
use std::sync::Arc;

/// The order of the entries of a key: by timestamp, and by id where timestamps are equal.
pub type Rank = (Timestamp, EntryId);

/// What decides about an entry of a key, beside its signature.
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
    /// Bytes of its value; 0 for a delete.
    pub value_bytes: u32,
}

impl EntryMeta {
    /// The entry `id`, which says `entry` and cites `grant`.
    pub fn new(id: EntryId, entry: &Entry, grant: Option<Arc<LiveGrant>>) -> Self {
        let value_bytes = match entry.op {
            Op::Set { len, .. } => len,
            Op::Delete => 0,
        };
        Self { id, timestamp: entry.timestamp, grant, is_delete: entry.op == Op::Delete, value_bytes }
    }

    /// Until when the entry is early by a clock that says `now`; see [`Entry::early_until`].
    pub fn early_until(&self, now: Timestamp) -> Option<Timestamp> {
        early_until(self.timestamp, now)
    }

    /// The id of the grant it cites.
    pub fn grant_id(&self) -> Option<GrantId> {
        self.grant.as_ref().map(|grant| grant.id())
    }

    /// Its place among the entries of its key.
    pub fn rank(&self) -> Rank {
        (self.timestamp, self.id)
    }

    /// Later by (timestamp, id).
    pub fn is_newer_than(&self, other: &Self) -> bool {
        self.rank() > other.rank()
    }

    /// Whether this entry supersedes `other` of the same key: it is newer, and root's, or of the same grant or
    /// one above it.
    pub fn dominates(&self, other: &Self) -> bool {
        let outranks = self.grant.as_ref().is_none_or(|mine| other.stands_below(mine));
        outranks && self.is_newer_than(other)
    }

    /// Whether it cites `grant` or a grant below it.
    pub fn stands_below(&self, grant: &LiveGrant) -> bool {
        self.grant.as_ref().is_some_and(|cited| cited.descends_from(&grant.id()))
    }

    /// The last time at which it is shown: when the first grant of its chain expires.
    pub fn visible_until(&self) -> Timestamp {
        self.grant.as_ref().and_then(|grant| grant.valid_until()).unwrap_or(Timestamp::MAX)
    }

    /// Whether a grant of its chain has expired at `now`, so that it is not shown.
    pub fn is_masked(&self, now: Timestamp) -> bool {
        self.visible_until() < now
    }
}
