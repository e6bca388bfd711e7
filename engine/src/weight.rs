//! What facts weigh against a limit of the store: computed from the facts alone, so that replicas that hold the same
//! count the same, whatever the engine of the store makes of it on its disk.

use crate::view::View;
use kvgossip_grants::{Fact, GrantId, Key, Op};
use std::collections::BTreeMap;

/// What an entry weighs beside its value and three times its key: signature, body and rows.
pub const ENTRY_WEIGHT: u64 = 512;
/// What a grant, revocation or floor weighs.
pub const AUTHORITY_WEIGHT: u64 = 2_048;

/// What an entry of the key weighs.
pub(crate) fn entry_weight(key: &Key, value_bytes: u32) -> u64 {
    ENTRY_WEIGHT + 3 * key.as_bytes().len() as u64 + u64::from(value_bytes)
}

/// What the entries that cite a grant weigh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GrantWeight {
    /// How many there are.
    pub entries: u64,
    /// Their weight.
    pub bytes: u64,
}

impl View {
    /// What everything that stands weighs, in bytes: for each entry its value, three times its key and
    /// [`ENTRY_WEIGHT`]; for each grant, revocation and floor [`AUTHORITY_WEIGHT`].
    pub fn weight(&self) -> u64 {
        self.entries_weight + self.authority.len() as u64 * AUTHORITY_WEIGHT
    }

    /// By how much the weight may grow when a fact is merged. What it may end beside the entry of the same grant and
    /// key is not looked for.
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

    /// What the entries of each grant weigh; `None` is root. Looks at every entry.
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

    /// An entry of the key stands now.
    pub(crate) fn add_weight(&mut self, key: &Key, value_bytes: u32) {
        self.entries_weight += entry_weight(key, value_bytes);
    }

    /// An entry of the key has ended.
    pub(crate) fn remove_weight(&mut self, key: &Key, value_bytes: u32) {
        let weight = entry_weight(key, value_bytes);
        debug_assert!(self.entries_weight >= weight, "more has ended than stood");
        self.entries_weight = self.entries_weight.saturating_sub(weight);
    }
}
