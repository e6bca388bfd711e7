//! Forgetting entries from the future: an operator's act, like restoring an older store.
//!
//! An entry that was taken in under a clock which was ahead supersedes all that is written by the right time. Out of the
//! tree again it is early like any other. What it had superseded here is gone, and comes back from peers that never took it
//! in.

use super::Replica;
use crate::Frontier;
use crate::storage::{Storage, StorageError};
use crate::sweep::Ended;
use crate::view::View;
use kvgossip_grants::{EntryMeta, Fact, Key, Timestamp};

/// Keys whose early entries leave the state in one batch.
const KEYS_AT_ONCE: usize = 256;

impl View {
    /// Keys with entries that are early by a clock that says `now`, with all that stands of them.
    pub fn early_keys(&self, now: Timestamp) -> impl Iterator<Item = (Key, &Frontier)> {
        self.keys("", None).filter(move |(_, frontier)| {
            frontier.newest().is_some_and(|newest| newest.meta.early_until(now).is_some())
        })
    }

    /// Those of them of which nothing is left to show without these entries.
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
    /// Takes the entries that are early by a clock that says `now` out of the state and the store, in one or more commits,
    /// and hands each to `keep` with the time when it is due. Says how many there were.
    ///
    /// For the opening of a replica: readers of its views are told nothing.
    ///
    /// # Errors
    /// When the store fails; then the replica must be loaded again. What was committed before stays forgotten.
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
                    // What cannot be read is gone in any case; a peer that has it sends it when it is due.
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
            // Nothing of it is left to the sweep: at the next opening these rows would be part of the state again.
            let mut writes = Vec::new();
            ended.iter().for_each(|ended| ended.remove(&self.view, &mut writes));
            storage.commit(&self.batch(writes))?;
        }
        Ok(forgotten)
    }

    /// Removes all rows of what ended. Some of it is dead only because of an entry that is to be forgotten, and would come to
    /// life at the next opening.
    fn sweep_all(&mut self, storage: &mut dyn Storage) -> Result<(), StorageError> {
        loop {
            while let Some(batch) = self.next_sweep() {
                storage.commit(&batch)?;
            }
            if !self.sweep.is_pending() {
                return Ok(());
            }
            // There was more than is remembered.
            let removed_at_once = self.removed_at_once;
            *self =
                Self::load(self.view.authority.root().clone(), storage)?.removing_at_once(removed_at_once);
        }
    }
}
