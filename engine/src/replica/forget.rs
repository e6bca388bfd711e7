//! Forgets early entries that were merged before: an action of an operator, comparable to restoring an older store.
//!
//! An entry that was merged while the local clock was ahead supersedes everything written at the correct time. Once
//! removed from the tree it is early like any other. The entries that it had superseded here are gone, and come back
//! from peers that never merged it.

use super::Replica;
use crate::Frontier;
use crate::storage::{Storage, StorageError};
use crate::sweep::Ended;
use crate::view::View;
use kvgossip_grants::{EntryMeta, Fact, Key, Timestamp};

/// Maximum number of keys whose early entries are removed in one batch.
const KEYS_AT_ONCE: usize = 256;

impl View {
    /// Iterates over the keys with entries that are early at local time `now`, and their frontiers.
    pub fn early_keys(&self, now: Timestamp) -> impl Iterator<Item = (Key, &Frontier)> {
        self.keys("", None).filter(move |(_, frontier)| {
            frontier.newest().is_some_and(|newest| newest.meta.early_until(now).is_some())
        })
    }

    /// Iterates over the keys that have a value now and would have none without their early entries.
    pub fn unset_without_early(&self, now: Timestamp) -> impl Iterator<Item = Key> {
        let is_set = |meta: Option<&EntryMeta>| meta.is_some_and(|meta| !meta.is_delete);
        let is_lost = move |frontier: &Frontier| {
            let mut rest = frontier.newest_first().map(|entry| &entry.meta);
            let left = rest.find(|meta| !meta.is_masked(now) && meta.early_until(now).is_none());
            is_set(frontier.shown(now).map(|entry| &entry.meta)) && !is_set(left)
        };
        self.early_keys(now).filter(move |(_, frontier)| is_lost(frontier)).map(|(key, _)| key)
    }
}

impl Replica {
    /// Removes the entries that are early at local time `now` from the state and the store, in one or more commits, and
    /// passes each to `keep` with the time when it is due. Returns their number.
    ///
    /// Intended for the opening of a replica: no change events are made for readers.
    ///
    /// # Errors
    /// The store failed; the replica must be loaded again. Entries of earlier commits stay forgotten.
    pub fn forget_early(
        &mut self,
        storage: &mut dyn Storage,
        now: Timestamp,
        keep: &mut dyn FnMut(&Fact, Timestamp),
    ) -> Result<usize, StorageError> {
        self.sweep_all(storage)?;
        let keys: Vec<Key> = self.view.early_keys(now).map(|(key, _)| key).collect();
        let (reader, mut forgotten) = (storage.reader(), 0);
        for keys in keys.chunks(KEYS_AT_ONCE) {
            let mut ended = Vec::new();
            for key in keys {
                let Some(mut leaf) = self.view.entries.get(key.as_bytes()).cloned() else { continue };
                for entry in leaf.end_early(key, now) {
                    let meta = &entry.meta;
                    // An unreadable entry is lost in any case; a peer that has it sends it when it is due.
                    let record = reader.entry(key, &meta.id).ok().flatten();
                    let fact = record
                        .and_then(|record| Fact::from_record(self.view.authority.cluster(), &record).ok());
                    if let (Some(fact), Some(due)) = (fact, meta.early_until(now)) {
                        keep(&fact, due);
                    }
                    ended.push(Ended::Entry(key.clone(), meta.id, meta.grant_id()));
                }
                self.put_leaf(key, leaf);
            }
            forgotten += ended.len();
            // Rows are removed at once and not left to the sweep: at the next opening they would become part of the
            // state again.
            let mut writes = Vec::new();
            ended.iter().for_each(|ended| ended.remove(&self.view, &mut writes));
            storage.commit(&self.batch(writes))?;
        }
        Ok(forgotten)
    }

    /// Removes all rows of ended facts at once. Some of these facts ended only because of an entry that is to be
    /// forgotten, and would become live again at the next opening.
    fn sweep_all(&mut self, storage: &mut dyn Storage) -> Result<(), StorageError> {
        loop {
            while let Some(batch) = self.next_sweep() {
                storage.commit(&batch)?;
            }
            if !self.sweep.is_pending() {
                return Ok(());
            }
            // The queue of the sweep had overflowed.
            let removed_at_once = self.removed_at_once;
            *self =
                Self::load(self.view.authority.root().clone(), storage)?.removing_at_once(removed_at_once);
        }
    }
}
