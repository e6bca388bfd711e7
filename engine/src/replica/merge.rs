//! Merges one list of facts into a replica.

use super::Replica;
use crate::Frontier;
use crate::change::{Cause, Change};
use crate::leaf::KeyLeaf;
use crate::storage::{IndexEntry, Reader, StorageError, Write};
use crate::sweep::Ended;
use crate::tree::{Region, id_key};
use kvgossip_grants::{
    AuthorityChange, Code, EntryFact, EntryId, EntryMeta, Fact, FactId, GrantId, Key, KeyGlob, LiveGrant,
    Offer, StandingEntry, Timestamp, Verdict, Verified,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Number of keys that can be examined in memory in the time of one look-up of a grant's keys in the store.
const KEYS_PER_LOOKUP: usize = 16;

/// State of one call of [`Replica::apply`], while it merges its facts.
pub(super) struct Merge<'a> {
    replica: &'a mut Replica,
    reader: &'a dyn Reader,
    writes: Vec<Write>,
    changes: Vec<Change>,
    /// Citations that this batch adds, which the reader of the committed state cannot know yet.
    fresh: Vec<(GrantId, Key)>,
    /// Number of ended facts whose rows this batch may still remove.
    removals_left: usize,
}

impl<'a> Merge<'a> {
    pub(super) fn new(replica: &'a mut Replica, reader: &'a dyn Reader, facts: usize) -> Self {
        Self {
            removals_left: facts.saturating_add(replica.removed_at_once),
            replica,
            reader,
            // Most facts add a row and remove that of an entry they supersede.
            writes: Vec::with_capacity(2 * facts),
            changes: Vec::with_capacity(facts),
            fresh: Vec::with_capacity(facts),
        }
    }

    pub(super) fn finish(self) -> (Vec<Write>, Vec<Change>) {
        debug_assert!(
            self.changes.is_sorted_by(|before, after| before.seq + 1 == after.seq),
            "changes are numbered without a gap"
        );
        (self.writes, self.changes)
    }

    pub(super) fn take(&mut self, fact: Verified) -> Result<Verdict, StorageError> {
        match fact.fact() {
            Fact::Entry(entry) => Ok(self.take_entry(entry)),
            _ => self.take_authority(fact),
        }
    }

    fn take_entry(&mut self, fact: &EntryFact) -> Verdict {
        let (entry, id, view) = (fact.entry(), fact.id(), &self.replica.view);
        let grant = match view.authority.entry_grant(fact.signed()) {
            Ok(grant) => grant.cloned(),
            Err(verdict) => return verdict,
        };
        if view.authority.is_floored(&entry.key, entry.timestamp) {
            return Verdict::Moot(Code::Floored);
        }
        let meta = EntryMeta::new(id, entry, grant);
        let row = index_entry(&meta);
        let value_bytes = meta.value_bytes;
        let before = view.entries.get(entry.key.as_bytes());
        let old = before.and_then(newest);
        // A new leaf is added to the tree once it has an entry.
        let mut leaf = before.cloned().unwrap_or_else(|| KeyLeaf::new(&entry.key, Frontier::new()));
        let ended = match leaf.offer(&entry.key, meta) {
            Offer::Known => return Verdict::Moot(Code::Known),
            Offer::Dominated => return Verdict::Moot(Code::Dominated),
            Offer::Stands { ended } => ended,
        };
        if let Some(grant) = row.grant {
            self.fresh.push((grant, entry.key.clone()));
        }
        self.replica.view.add_weight(&entry.key, value_bytes);
        self.writes.push(Write::PutEntry(entry.key.clone(), row, fact.record().clone()));
        self.replace(&entry.key, old, leaf, ended, Cause::Written(id));
        Verdict::Merged
    }

    fn take_authority(&mut self, fact: Verified) -> Result<Verdict, StorageError> {
        let (id, record) = (fact.fact().id(), fact.fact().to_record());
        // Tested first, because changing the set copies its indexes if a view of it is held.
        if self.replica.view.authority.contains(&id) {
            return Ok(Verdict::Moot(Code::Known));
        }
        let (floor, revoked) = match fact.fact() {
            Fact::Floor(floor) => (Some(floor.clone()), None),
            Fact::Revocation(revocation) => (None, Some(revocation.body().grant.id())),
            Fact::Grant(_) | Fact::Entry(_) => (None, None),
        };
        let revoked = revoked.and_then(|grant| self.replica.view.authority.grant(&grant).cloned());
        let AuthorityChange { verdict, dropped, dead } =
            Arc::make_mut(&mut self.replica.view.authority).merge(fact);
        if verdict != Verdict::Merged {
            return Ok(verdict);
        }
        for gone in dropped {
            self.replica.view.authority_tree.remove(id_key(gone).as_bytes());
            self.forget(Ended::Authority(gone));
        }
        self.replica.plant_authority(&id);
        self.writes.push(Write::PutAuthority(id, record));
        if let Some(revoked) = revoked {
            for key in self.keys_below(&revoked, &dead)? {
                self.end(&key, Cause::Revoked(revoked.id()), |leaf| leaf.end_below(&key, &revoked));
            }
        }
        if let Some(floor) = floor {
            for pattern in &floor.body().patterns {
                self.end_older(pattern, floor.body().before, id);
            }
        }
        Ok(verdict)
    }

    /// Returns the keys with an entry that cites one of the ended grants `dead`, which are `revoked` and all grants
    /// below it. The result may contain further keys, whose entries cite none of them.
    fn keys_below(&self, revoked: &Arc<LiveGrant>, dead: &[GrantId]) -> Result<BTreeSet<Key>, StorageError> {
        let view = &self.replica.view;
        let in_memory = || view.keys_below(revoked).collect();
        let prefix = revoked.body().pattern.literal_prefix().as_bytes().to_vec();
        if view.entries.count_region(&Region::Subtree(prefix)) <= dead.len().saturating_mul(KEYS_PER_LOOKUP) {
            return Ok(in_memory());
        }
        let dead: BTreeSet<GrantId> = dead.iter().copied().collect();
        let fresh = self.fresh.iter().filter(|(cited, _)| dead.contains(cited));
        let mut keys: BTreeSet<Key> = fresh.map(|(_, key)| key.clone()).collect();
        for grant in &dead {
            let read = self.reader.keys_citing(grant, &mut |key| {
                keys.insert(key);
            });
            match read {
                Ok(()) => {}
                // A revocation must take effect even with a damaged disk. The index in memory has the same information;
                // using it only takes longer.
                Err(StorageError::Damaged(_) | StorageError::Io(_)) => return Ok(in_memory()),
                Err(error) => return Err(error),
            }
        }
        Ok(keys)
    }

    /// Removes the entries of keys that `pattern` matches and that are older than `before`, as the floor `floor`
    /// demands. Examines only keys under the pattern's literal prefix.
    fn end_older(&mut self, pattern: &KeyGlob, before: Timestamp, floor: FactId) {
        let is_hit =
            |frontier: &Frontier| frontier.oldest().is_some_and(|oldest| oldest.meta.timestamp < before);
        let matching = self.replica.view.matching(pattern);
        let hit: Vec<Key> = matching.filter(|(_, frontier)| is_hit(frontier)).map(|(key, _)| key).collect();
        for key in hit {
            self.end(&key, Cause::Floored(floor), |leaf| leaf.end_older(&key, before));
        }
    }

    /// Removes the entries that `end` takes out of the leaf of `key`, and records the change with its cause.
    fn end(&mut self, key: &Key, cause: Cause, end: impl FnOnce(&mut KeyLeaf) -> Vec<StandingEntry<()>>) {
        let Some(before) = self.replica.view.entries.get(key.as_bytes()) else { return };
        let (old, mut leaf) = (newest(before), before.clone());
        let ended = end(&mut leaf);
        if !ended.is_empty() {
            self.replace(key, old, leaf, ended, cause);
        }
    }

    /// Replaces the leaf of `key`. `ended` are the entries that were removed, and `old` was the newest entry before.
    fn replace(
        &mut self,
        key: &Key,
        old: Option<EntryId>,
        leaf: KeyLeaf,
        ended: Vec<StandingEntry<()>>,
        cause: Cause,
    ) {
        let new = newest(&leaf);
        debug_assert!(
            ended.iter().all(|gone| !leaf.frontier().contains(&gone.meta.id)),
            "what ended does not stand any more"
        );
        self.replica.put_leaf(key, leaf);
        for entry in ended {
            self.replica.view.remove_weight(key, entry.meta.value_bytes);
            self.forget(Ended::Entry(key.clone(), entry.meta.id, entry.meta.grant_id()));
        }
        self.replica.seq += 1;
        self.changes.push(Change { seq: self.replica.seq, key: key.clone(), old, new, cause });
    }

    /// Removes the rows of an ended fact in this batch, or leaves them to the sweep if the batch has removed enough.
    fn forget(&mut self, ended: Ended) {
        match self.removals_left.checked_sub(1) {
            Some(left) => {
                self.removals_left = left;
                ended.remove(&self.replica.view, &mut self.writes);
            }
            None => self.replica.sweep.push(ended),
        }
    }
}

/// Returns the id of the newest entry of a leaf, masked or not; `None` if it has no entry.
fn newest(leaf: &KeyLeaf) -> Option<EntryId> {
    leaf.frontier().newest().map(|entry| entry.meta.id)
}

/// Returns the index row of an entry.
fn index_entry(meta: &EntryMeta) -> IndexEntry {
    IndexEntry {
        id: meta.id,
        timestamp: meta.timestamp,
        grant: meta.grant_id(),
        is_delete: meta.is_delete,
        value_bytes: (!meta.is_delete).then_some(meta.value_bytes),
    }
}
