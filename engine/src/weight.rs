//! Weights of facts towards the limit of the store. They are computed from the facts alone, so that replicas with the
//! same facts count the same, regardless of the space that the store takes on disk.

use crate::view::View;
use kvgossip_grants::{Fact, GrantId, Key, Op};
use std::collections::BTreeMap;

/// Constant part of the weight of an entry, in bytes: for signature, body and rows. The value and three times the key
/// are added to it.
pub const ENTRY_WEIGHT: u64 = 512;
/// Weight of a grant, revocation or floor in bytes, whatever its size.
pub const AUTHORITY_WEIGHT: u64 = 2_048;

/// Returns the weight of an entry of `key` in bytes.
pub(crate) fn entry_weight(key: &Key, value_bytes: u32) -> u64 {
    ENTRY_WEIGHT + 3 * key.as_bytes().len() as u64 + u64::from(value_bytes)
}

/// Total weight of all entries that cite one grant, or of root's entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GrantWeight {
    /// Number of entries that cite the grant.
    pub entries: u64,
    /// Total weight of the entries that cite the grant, in bytes.
    pub bytes: u64,
}

impl View {
    /// Returns the weight of the whole state in bytes: for each entry its value, three times its key and
    /// [`ENTRY_WEIGHT`]; for each grant, revocation and floor [`AUTHORITY_WEIGHT`].
    pub fn weight(&self) -> u64 {
        self.entries_weight + self.authority.len() as u64 * AUTHORITY_WEIGHT
    }

    /// Returns the maximum growth of the weight by merging `fact`, in bytes. It takes into account that an older entry
    /// of the key under the same grant ends, but not that other facts may end.
    pub fn growth(&self, fact: &Fact) -> u64 {
        let Fact::Entry(fact) = fact else {
            return if self.authority.contains(&fact.id()) { 0 } else { AUTHORITY_WEIGHT };
        };
        let entry = fact.entry();
        let value_bytes = match entry.op {
            Op::Set { len, .. } => len,
            Op::Delete => 0,
        };
        let Some(frontier) = self.frontier(&entry.key) else { return entry_weight(&entry.key, value_bytes) };
        if frontier.contains(&fact.id()) {
            return 0;
        }
        let grant = entry.grant.and_then(|id| self.authority.grant(&id));
        let same = if entry.grant.is_some() == grant.is_some() { frontier.of_grant(grant) } else { None };
        let ends = same.map_or(0, |ended| entry_weight(&entry.key, ended.meta.value_bytes));
        entry_weight(&entry.key, value_bytes).saturating_sub(ends)
    }

    /// Returns the total weight of the entries of each grant; `None` means root. Examines every entry.
    pub fn weight_by_grant(&self) -> BTreeMap<Option<GrantId>, GrantWeight> {
        let mut weights = BTreeMap::<_, GrantWeight>::new();
        for (key, frontier) in self.keys("", None) {
            for entry in frontier.newest_first() {
                let of = weights.entry(entry.meta.grant_id()).or_default();
                of.entries += 1;
                of.bytes += entry_weight(&key, entry.meta.value_bytes);
            }
        }
        weights
    }

    /// Adds the weight of an entry that was added to the key's frontier.
    pub(crate) fn add_weight(&mut self, key: &Key, value_bytes: u32) {
        self.entries_weight += entry_weight(key, value_bytes);
    }

    /// Subtracts the weight of an entry of the key that has left the key's frontier.
    pub(crate) fn remove_weight(&mut self, key: &Key, value_bytes: u32) {
        let weight = entry_weight(key, value_bytes);
        debug_assert!(self.entries_weight >= weight, "more has ended than stood");
        self.entries_weight = self.entries_weight.saturating_sub(weight);
    }
}
