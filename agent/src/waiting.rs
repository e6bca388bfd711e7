//! Early entries that wait until they are due, and other facts that peers are asked not to send.
//!
//! All of it is in memory: after a restart, peers send early entries again.

use crate::clock::Clock;
use kvgossip_api::WaitingRow;
use kvgossip_engine::View;
use kvgossip_engine::declined::{Declined, Reason};
use kvgossip_grants::{EntryId, Fact, FactId, Key, RsaVerifier, Timestamp, Verdict};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::Notify;

/// Maximum sleep while waiting for the next due time, so that a change of the wall clock is noticed within it.
const MAX_NAP: Duration = Duration::from_secs(1);

/// Maximum number of keys collected for a notice to watchers; beyond it, all watchers re-read everything.
const MAX_UNTOLD_KEYS: usize = 8192;
/// Maximum number of early entries per key whose ids watchers receive.
const MAX_NAMED_ENTRIES: usize = 8;

/// An early fact, and the time at which it is due.
pub(crate) type Early = (Fact, Timestamp);

/// The facts that this replica declines at present: early ones in the waiting room, early ones that had no room there,
/// and refused ones.
#[derive(Debug)]
pub(crate) struct Waiting {
    declined: Mutex<Declined>,
    /// Signals that a fact may be due earlier than the earliest one before.
    changed: Notify,
    /// Keys with an early entry added or settled since the last notice to watchers; `None`: more than
    /// [`MAX_UNTOLD_KEYS`].
    untold: Mutex<Option<BTreeSet<Key>>>,
    has_untold: Notify,
}

impl Waiting {
    pub(crate) fn new(declined: Declined) -> Self {
        Self {
            declined: Mutex::new(declined),
            changed: Notify::new(),
            untold: Mutex::new(Some(BTreeSet::new())),
            has_untold: Notify::new(),
        }
    }

    /// Keeps early facts, if they would be accepted when due: a copy with a bad signature would block the genuine one
    /// until then, and an unjustified fact may arrive again with its grants. Verifies signatures.
    pub(crate) fn keep(&self, view: &View, early: Vec<Early>, now: Timestamp) {
        let mut keys = Vec::new();
        for (fact, due) in early {
            let id = fact.id();
            // A replayed fact costs a lookup, not a signature check.
            if self.declined.lock().room().contains(&id) {
                continue;
            }
            match view.check(fact, due).and_then(|unverified| unverified.verify(&RsaVerifier)) {
                Ok(verified) => {
                    let fact = verified.fact();
                    self.declined.lock().keep(fact, due);
                    if let Fact::Entry(entry) = fact {
                        keys.push(entry.entry().key.clone());
                    }
                }
                Err(verdict) => self.note(&id, verdict, now),
            }
        }
        self.changed.notify_one();
        self.to_be_told(keys);
    }

    fn to_be_told(&self, keys: impl IntoIterator<Item = Key>) {
        let mut untold = self.untold.lock();
        if let Some(known) = &mut *untold {
            known.extend(keys);
            if known.len() > MAX_UNTOLD_KEYS {
                *untold = None;
            }
        }
        self.has_untold.notify_one();
    }

    /// Waits for keys whose watchers need a notice, and takes them; `None`: there were more than [`MAX_UNTOLD_KEYS`].
    pub(crate) async fn untold(&self) -> Option<Vec<Key>> {
        self.has_untold.notified().await;
        let untold = self.untold.lock().replace(BTreeSet::new());
        untold.map(|keys| keys.into_iter().collect())
    }

    /// Returns the early entries of a key that have a value, at most [`MAX_NAMED_ENTRIES`]. If the key has no value
    /// here, they make it unknown rather than unset.
    pub(crate) fn early_entries(&self, key: &Key) -> Vec<EntryId> {
        self.declined.lock().early().of(key, MAX_NAMED_ENTRIES)
    }

    /// Returns the keys of early entries that have a value, in ascending order.
    pub(crate) fn early_keys(&self) -> Vec<Key> {
        self.declined.lock().early().keys().cloned().collect()
    }

    /// Remembers a refused fact, if no copy of it can ever be accepted.
    pub(crate) fn note(&self, id: &FactId, verdict: Verdict, now: Timestamp) {
        if let Verdict::Refused(code) = verdict {
            self.declined.lock().refused(*id, code, now);
        }
    }

    /// Returns the ids of the facts that peers are asked not to send, each with the reason.
    pub(crate) fn list(&self) -> Vec<(FactId, Reason)> {
        self.declined.lock().list()
    }

    /// Whether any entry is early by this replica's clock, in the waiting room or dropped for lack of room.
    pub(crate) fn waits(&self) -> bool {
        let declined = self.declined.lock();
        declined.next_due().is_some() || declined.is_under_way()
    }

    /// Returns the number and size of declined facts, for the API and metrics.
    pub(crate) fn row(&self) -> WaitingRow {
        let declined = self.declined.lock();
        WaitingRow {
            facts: declined.room().len() as u64,
            bytes: declined.room().bytes() as u64,
            next_due_us: declined.next_due().map(Timestamp::as_micros),
            without_room: declined.fallen() as u64,
            refused: declined.condemned() as u64,
        }
    }

    /// Waits until a fact in the waiting room may be due; may also end early.
    pub(crate) async fn until_due(&self, clock: &Clock) {
        let Some(due) = self.declined.lock().next_due() else { return self.changed.notified().await };
        let left = Duration::from_micros(due.as_micros().saturating_sub(clock.now().as_micros()));
        tokio::select! {
            () = tokio::time::sleep(left.min(MAX_NAP)) => {}
            () = self.changed.notified() => {}
        }
    }

    /// Takes the facts that are due out of the waiting room. The caller offers them again and then calls
    /// [`Waiting::settle_due`].
    pub(crate) fn take_due(&self, now: Timestamp) -> Vec<Fact> {
        self.declined.lock().take_due(now)
    }

    /// Has watchers notified of the keys of all facts that [`Waiting::take_due`] took out and that have been offered
    /// since.
    pub(crate) fn settle_due(&self) {
        let settled = self.declined.lock().settle_due();
        self.to_be_told(settled);
    }

    /// Forgets early facts that had no room in the waiting room and are due. Returns whether there were any: then the
    /// caller asks peers to send them again.
    pub(crate) fn forget_due(&self, now: Timestamp) -> bool {
        self.declined.lock().forget_due(now)
    }
}
