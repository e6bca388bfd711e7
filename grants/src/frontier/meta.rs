//! An entry of a frontier without its value.

use crate::authority::{LiveGrant, early_until};
use crate::fact::{Entry, Op};
use crate::id::{EntryId, GrantId};
use crate::time::Timestamp;
use std::sync::Arc;

/// Sort key of an entry among the entries of its key: timestamp, then id; the greatest is the newest.
pub type Rank = (Timestamp, EntryId);

/// The properties of an entry that decide whether it is in the frontier and whether it is shown.
#[derive(Clone, Debug)]
pub struct EntryMeta {
    /// Id of the entry.
    pub id: EntryId,
    /// Timestamp of the entry: time of writing by the writer's clock.
    pub timestamp: Timestamp,
    /// The cited grant; `None` for entries that root signed.
    pub grant: Option<Arc<LiveGrant>>,
    /// Whether the entry deletes the key's value.
    pub is_delete: bool,
    /// Length of the entry's value in bytes; 0 for a delete.
    pub value_bytes: u32,
}

impl EntryMeta {
    /// Describes the entry with the given id and body, which cites `grant`.
    pub fn new(id: EntryId, entry: &Entry, grant: Option<Arc<LiveGrant>>) -> Self {
        let value_bytes = match entry.op {
            Op::Set { len, .. } => len,
            Op::Delete => 0,
        };
        Self { id, timestamp: entry.timestamp, grant, is_delete: entry.op == Op::Delete, value_bytes }
    }

    /// Returns the local time from which the entry is accepted, if it is early at local time `now`. See
    /// [`Entry::early_until`].
    pub fn early_until(&self, now: Timestamp) -> Option<Timestamp> {
        early_until(self.timestamp, now)
    }

    /// Returns the id of the cited grant; `None` for entries that root signed.
    pub fn grant_id(&self) -> Option<GrantId> {
        self.grant.as_ref().map(|grant| grant.id())
    }

    /// Returns the rank of the entry: its timestamp, then its id.
    pub fn rank(&self) -> Rank {
        (self.timestamp, self.id)
    }

    /// Whether the entry has a higher rank (timestamp, then id) than `other`, an entry of the same key.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        self.rank() > other.rank()
    }

    /// Whether this entry supersedes `other`, an entry of the same key: it is newer, and it is root's or cites the same
    /// grant as `other` or one above it.
    pub fn dominates(&self, other: &Self) -> bool {
        let outranks = self.grant.as_ref().is_none_or(|mine| other.stands_below(mine));
        outranks && self.is_newer_than(other)
    }

    /// Whether the entry cites `grant` or a grant below it.
    pub fn stands_below(&self, grant: &LiveGrant) -> bool {
        self.grant.as_ref().is_some_and(|cited| cited.descends_from(&grant.id()))
    }

    /// Returns the last time at which the entry can be shown: the earliest expiry in its chain of grants, or
    /// [`Timestamp::MAX`] if no grant of it expires.
    pub fn visible_until(&self) -> Timestamp {
        self.grant.as_ref().and_then(|grant| grant.valid_until()).unwrap_or(Timestamp::MAX)
    }

    /// Whether the entry is masked at `now`: a grant of its chain has expired.
    pub fn is_masked(&self, now: Timestamp) -> bool {
        self.visible_until() < now
    }
}
