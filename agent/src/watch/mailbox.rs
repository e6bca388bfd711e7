//! What one watcher has still to be told: names alone, in bounded number.

use super::cause::Why;
use super::{MAX_PENDING_FACTS, MAX_PENDING_KEYS};
use kvgossip_grants::{FactId, Key};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// Shared by the hub, which never waits for it, and one watcher.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    pending: Mutex<Pending>,
    arrived: Notify,
}

/// The contents.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Changed keys, each once, with the last cause.
    pub(super) keys: BTreeMap<Key, Why>,
    /// New authority facts.
    pub(super) facts: BTreeSet<FactId>,
    /// There were more than fit, and all were dropped.
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
        self.keys.insert(key.clone(), why);
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
    /// Changes the contents and wakes the watcher.
    pub(super) fn change(&self, change: impl FnOnce(&mut Pending)) {
        change(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        self.arrived.notify_one();
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Empties it.
    pub(super) fn take(&self) -> Pending {
        std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until something may have arrived since the last time.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.keys.len() + pending.facts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        Key::parse(&format!("/{number}")).expect("a key")
    }

    #[test]
    fn a_mailbox_holds_each_key_once_and_never_more_than_its_limit() {
        let (mailbox, id) = (Mailbox::default(), FactId([1; 32]));
        for _ in 0..10 {
            (0..MAX_PENDING_KEYS).for_each(|n| mailbox.change(|p| p.note_key(&key(n), Why::Written(id))));
        }
        assert_eq!(mailbox.len(), MAX_PENDING_KEYS);
        mailbox.change(|p| p.note_key(&key(0), Why::Revoked(id)));
        let taken = mailbox.take();
        assert_eq!((taken.keys[&key(0)], taken.overflowed), (Why::Revoked(id), false));
        (0..=MAX_PENDING_KEYS).for_each(|n| mailbox.change(|p| p.note_key(&key(n), Why::Current)));
        mailbox.change(|p| p.note_key(&key(7), Why::Current));
        mailbox.change(|p| p.note_facts(&[id]));
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
}
