//! The pending notifications of one watcher: names of keys and facts, in bounded number.

use super::cause::Why;
use super::{MAX_PENDING_ENTRIES, MAX_PENDING_FACTS, MAX_PENDING_KEYS};
use kvgossip_grants::{EntryId, FactId, Key};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::Notify;

/// Mailbox of one watcher. The hub puts changes in and never waits; the watcher takes them out.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    pending: Mutex<Pending>,
    arrived: Notify,
}

/// Changes of one key that the watcher has not received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    /// Cause of the latest change of the key.
    pub(super) why: Why,
    /// Ids of the merged entries, oldest first. Of a key with very many entries, only these are sent.
    pub(super) written: Vec<EntryId>,
    /// Whether `written` does not cover all changes except expiries, so that the whole key has to be sent.
    pub(super) retell: bool,
}

impl Note {
    fn new(why: Why) -> Self {
        Self { why, written: Vec::new(), retell: false }
    }
}

/// Contents of a mailbox: the names of what has changed.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Changed keys, each with its changes.
    pub(super) keys: BTreeMap<Key, Note>,
    /// Number of entries in the notes of all keys.
    entries: usize,
    /// Ids of new authority facts.
    pub(super) facts: BTreeSet<FactId>,
    /// Whether the changes exceeded a limit and all were dropped, so that the watcher receives a gap.
    pub(super) overflowed: bool,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.facts.is_empty() && !self.overflowed
    }

    pub(super) fn note_key(&mut self, key: &Key, why: Why) {
        if self.overflowed {
            return;
        }
        let note = self.keys.entry(key.clone()).or_insert_with(|| Note::new(why));
        note.why = why;
        match why {
            Why::Written(id) if !note.retell && self.entries < MAX_PENDING_ENTRIES => {
                note.written.push(id);
                self.entries += 1;
            }
            // Not counted: the shown entry is sent whenever it may have changed.
            Why::Expired(_) => {}
            Why::Written(_) | Why::Current | Why::Revoked(_) | Why::Floored(_) => {
                note.retell = true;
                self.entries -= note.written.len();
                note.written.clear();
            }
        }
        if self.keys.len() > MAX_PENDING_KEYS {
            self.overflow();
        }
    }

    /// Puts back a note that was taken and could not be sent. If the key has a newer note, the cause of the newer one
    /// is kept and its entries are appended.
    pub(super) fn note_again(&mut self, key: Key, earlier: Note) {
        let later = self.keys.remove(&key);
        let (why, mut retell) = (earlier.why, earlier.retell);
        self.entries -= later.as_ref().map_or(0, |later| later.written.len());
        let mut written = earlier.written;
        let mut why_now = why;
        if let Some(later) = later {
            written.extend(later.written);
            retell |= later.retell;
            why_now = later.why;
        }
        retell |= self.entries + written.len() > MAX_PENDING_ENTRIES;
        if retell {
            written.clear();
        }
        if self.overflowed {
            return;
        }
        self.entries += written.len();
        self.keys.insert(key, Note { why: why_now, written, retell });
        if self.keys.len() > MAX_PENDING_KEYS {
            self.overflow();
        }
    }

    pub(super) fn note_facts(&mut self, facts: &[FactId]) {
        if self.overflowed {
            return;
        }
        for fact in facts {
            self.facts.insert(*fact);
            if self.facts.len() > MAX_PENDING_FACTS {
                return self.overflow();
            }
        }
    }

    pub(super) fn overflow(&mut self) {
        *self = Self { overflowed: true, ..Self::default() };
    }
}

impl Mailbox {
    /// Changes the contents of the mailbox and wakes the watcher.
    pub(super) fn change(&self, change: impl FnOnce(&mut Pending)) {
        change(&mut self.pending.lock());
        self.arrived.notify_one();
    }

    /// Whether the mailbox has no changes for the watcher.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.lock().is_empty()
    }

    /// Takes all changes out of the mailbox.
    pub(super) fn take(&self) -> Pending {
        std::mem::take(&mut *self.pending.lock())
    }

    /// Waits until a change may have arrived since the previous call.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Returns the number of names in the mailbox: keys, entries and facts.
    pub(super) fn len(&self) -> usize {
        let pending = self.pending.lock();
        pending.keys.len() + pending.entries + pending.facts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvgossip_grants::GrantId;

    fn key(number: usize) -> Key {
        Key::parse(&format!("/{number}")).expect("a key")
    }

    #[test]
    fn a_mailbox_holds_each_key_once_and_never_more_than_its_limit() {
        let (mailbox, id, grant) = (Mailbox::default(), EntryId([1; 32]), GrantId([2; 32]));
        for _ in 0..10 {
            (0..MAX_PENDING_KEYS).for_each(|n| mailbox.change(|p| p.note_key(&key(n), Why::Written(id))));
        }
        assert!(mailbox.len() <= MAX_PENDING_KEYS + MAX_PENDING_ENTRIES);
        mailbox.change(|p| p.note_key(&key(0), Why::Revoked(grant)));
        let taken = mailbox.take();
        assert_eq!(taken.keys.len(), MAX_PENDING_KEYS);
        assert_eq!((taken.keys[&key(0)].why, taken.overflowed), (Why::Revoked(grant), false));
        (0..=MAX_PENDING_KEYS).for_each(|n| mailbox.change(|p| p.note_key(&key(n), Why::Current)));
        mailbox.change(|p| p.note_key(&key(7), Why::Current));
        mailbox.change(|p| p.note_facts(&[id.into()]));
        assert_eq!(mailbox.len(), 0);
        assert!(mailbox.take().overflowed);
        let facts: Vec<FactId> = (0..=MAX_PENDING_FACTS as u16)
            .map(|n| {
                let mut id = [0; 32];
                id[..2].copy_from_slice(&n.to_be_bytes());
                FactId(id)
            })
            .collect();
        mailbox.change(|p| p.note_facts(&facts));
        assert!(mailbox.take().overflowed);
    }

    #[test]
    fn the_entries_that_were_written_are_named_up_to_a_limit_and_then_the_key_is_told_anew() {
        let id = |number: usize| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_be_bytes());
            EntryId(id)
        };
        let mut pending = Pending::default();
        (0..3).for_each(|n| pending.note_key(&key(0), Why::Written(id(n))));
        pending.note_key(&key(0), Why::Expired(GrantId([9; 32])));
        let note = pending.keys[&key(0)].clone();
        assert_eq!((note.written.as_slice(), note.retell), (&[id(0), id(1), id(2)][..], false));
        // The note could not be sent, and a later one arrived.
        let mut pending = Pending::default();
        pending.note_key(&key(0), Why::Written(id(3)));
        pending.note_again(key(0), note);
        assert_eq!(pending.keys[&key(0)].written, [id(0), id(1), id(2), id(3)]);
        assert_eq!(pending.entries, 4);
        pending.note_key(&key(0), Why::Revoked(GrantId([9; 32])));
        assert!(pending.keys[&key(0)].retell && pending.keys[&key(0)].written.is_empty());
        assert_eq!(pending.entries, 0);
        for n in 0..=MAX_PENDING_ENTRIES {
            pending.note_key(&key(1), Why::Written(id(n)));
        }
        assert!(pending.keys[&key(1)].retell && pending.entries == 0, "one more than is named");
        (0..MAX_PENDING_ENTRIES).for_each(|n| pending.note_key(&key(2), Why::Written(id(n))));
        pending.note_key(&key(3), Why::Written(id(0)));
        assert!(pending.keys[&key(3)].retell && !pending.keys[&key(2)].retell);
        let full = pending.keys[&key(2)].clone();
        pending.note_again(key(2), Note { written: vec![id(0)], ..full });
        assert!(pending.keys[&key(2)].retell && pending.entries == 0);
    }
}
