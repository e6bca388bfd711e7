//! Early entries until they are due, and what else peers are asked not to send.
//!
//! All of it lies in memory: after a restart an early entry comes once more from a peer.

use crate::clock::Clock;
use crate::committer::ReadsAgain;
use crate::intake::Intake;
use crate::peers::Peers;
use crate::watch::Hub;
use kvgossip_api::WaitingRow;
use kvgossip_engine::View;
use kvgossip_engine::declined::{Declined, Reason};
use kvgossip_grants::{EntryId, Fact, FactId, Key, RsaVerifier, Timestamp, Verdict};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Who brings a fact that has waited here, in the list of refusals.
const WAITED: &str = "waiting";
/// A clock that is set meanwhile is noticed within this time.
const MAX_NAP: Duration = Duration::from_secs(1);

/// So many keys are named that watchers are to be told of; beyond that they are told everything.
const MAX_UNTOLD_KEYS: usize = 8192;
/// So many early entries of a key are named to watchers.
const MAX_NAMED_ENTRIES: usize = 8;

/// An early fact, and when it is due.
pub(crate) type Early = (Fact, Timestamp);

/// What this replica declines now.
#[derive(Debug)]
pub(crate) struct Waiting {
    declined: Mutex<Declined>,
    /// There may be something that is due sooner.
    changed: Notify,
    /// Keys of which an early entry came or was settled, to tell watchers of; `None`: more than [`MAX_UNTOLD_KEYS`].
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

    /// Keeps early facts, provided that they would be taken in if they were due: a copy with a bad signature would keep
    /// the true one away until then, and what has no chain here may come again with it. Verifies signatures.
    pub(crate) fn keep(&self, view: &View, early: Vec<Early>, now: Timestamp) {
        let mut keys = Vec::new();
        for (fact, due) in early {
            let id = fact.id();
            // A replay costs a look, not a signature.
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

    /// Waits for keys of which watchers are to be told again.
    async fn untold(&self) -> ReadsAgain {
        self.has_untold.notified().await;
        let untold = self.untold.lock().replace(BTreeSet::new());
        untold.map_or(ReadsAgain::Others, |keys| ReadsAgain::Keys(keys.into_iter().collect()))
    }

    /// Early entries of a key that have a value: without a value of its own here, the key is not known to be unset.
    pub(crate) fn early_entries(&self, key: &Key) -> Vec<EntryId> {
        self.declined.lock().early().of(key, MAX_NAMED_ENTRIES)
    }

    /// The keys of early entries that have a value, in order.
    pub(crate) fn early_keys(&self) -> Vec<Key> {
        self.declined.lock().early().keys().cloned().collect()
    }

    /// Remembers a fact that was refused, if no copy of it can ever be taken in.
    pub(crate) fn note(&self, id: &FactId, verdict: Verdict, now: Timestamp) {
        if let Verdict::Refused(code) = verdict {
            self.declined.lock().refused(*id, code, now);
        }
    }

    /// What peers are asked not to send.
    pub(crate) fn list(&self) -> Vec<(FactId, Reason)> {
        self.declined.lock().list()
    }

    /// Whether any entry waits for this replica's clock, here or without a place.
    pub(crate) fn waits(&self) -> bool {
        let declined = self.declined.lock();
        declined.next_due().is_some() || declined.is_under_way()
    }

    /// How much waits, for people and metrics.
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

    /// Waits until something may be due.
    async fn until_due(&self, clock: &Clock) {
        let Some(due) = self.declined.lock().next_due() else { return self.changed.notified().await };
        let left = Duration::from_micros(due.as_micros().saturating_sub(clock.now().as_micros()));
        tokio::select! {
            () = tokio::time::sleep(left.min(MAX_NAP)) => {}
            () = self.changed.notified() => {}
        }
    }
}

/// Tells watchers of keys of which an early entry came, or was settled: without a value they are unknown meanwhile.
pub(crate) async fn tell_of_early_keys(waiting: Arc<Waiting>, hub: Hub, stop: CancellationToken) {
    while let Some(keys) = stop.run_until_cancelled(waiting.untold()).await {
        hub.tell_again(keys);
    }
}

/// Offers early facts again when they are due, and has those sent again that had no place here.
pub(crate) async fn offer_when_due(intake: Intake, peers: Peers, clock: Clock, stop: CancellationToken) {
    let waiting = intake.waiting().clone();
    while stop.run_until_cancelled(waiting.until_due(&clock)).await.is_some() {
        loop {
            let due = waiting.declined.lock().take_due(clock.now());
            if due.is_empty() {
                break;
            }
            let count = due.len();
            match intake.offer(due, WAITED).await {
                Ok(_) => tracing::debug!(count, "early entries are due"),
                // They come again from whoever has them.
                Err(error) => tracing::warn!(count, "early entries that are due were not taken in: {error}"),
            }
            let settled = waiting.declined.lock().settle_due();
            waiting.to_be_told(settled);
        }
        if waiting.declined.lock().forget_due(clock.now()) {
            peers.retry_stuck();
        }
    }
}
