//! Early entries until they are due, and what else peers are asked not to send.
//!
//! All of it lies in memory: after a restart an early entry comes once more from a peer.

use crate::clock::Clock;
use crate::intake::Intake;
use crate::peers::Peers;
use kvgossip_api::WaitingRow;
use kvgossip_engine::View;
use kvgossip_engine::declined::{Declined, Reason};
use kvgossip_grants::{Fact, FactId, RsaVerifier, Timestamp, Verdict};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Who brings a fact that has waited here, in the list of refusals.
const WAITED: &str = "waiting";
/// A clock that is set meanwhile is noticed within this time.
const MAX_NAP: Duration = Duration::from_secs(1);

/// An early fact, and when it is due.
pub(crate) type Early = (Fact, Timestamp);

/// What this replica declines now.
#[derive(Debug)]
pub(crate) struct Waiting {
    declined: Mutex<Declined>,
    /// There may be something that is due sooner.
    changed: Notify,
}

impl Waiting {
    pub(crate) fn new(declined: Declined) -> Self {
        Self { declined: Mutex::new(declined), changed: Notify::new() }
    }

    fn declined(&self) -> MutexGuard<'_, Declined> {
        // Every method leaves it whole, so a panic elsewhere does no harm.
        self.declined.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps early facts, provided that they would be taken in if they were due: a copy with a bad signature would keep
    /// the true one away until then, and what has no chain here may come again with it. Verifies signatures.
    pub(crate) fn keep(&self, view: &View, early: Vec<Early>, now: Timestamp) {
        for (fact, due) in early {
            let id = fact.id();
            // A replay costs a look, not a signature.
            if self.declined().room().contains(&id) {
                continue;
            }
            match view.check(fact, due).and_then(|unverified| unverified.verify(&RsaVerifier)) {
                Ok(verified) => self.declined().keep(verified.fact(), due),
                Err(verdict) => self.note(&id, verdict, now),
            }
        }
        self.changed.notify_one();
    }

    /// Remembers a fact that was refused, if no copy of it can ever be taken in.
    pub(crate) fn note(&self, id: &FactId, verdict: Verdict, now: Timestamp) {
        if let Verdict::Refused(code) = verdict {
            self.declined().refused(*id, code, now);
        }
    }

    /// What peers are asked not to send.
    pub(crate) fn list(&self) -> Vec<(FactId, Reason)> {
        self.declined().list()
    }

    /// How much waits, for people and metrics.
    pub(crate) fn row(&self) -> WaitingRow {
        let declined = self.declined();
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
        let Some(due) = self.declined().next_due() else { return self.changed.notified().await };
        let left = Duration::from_micros(due.as_micros().saturating_sub(clock.now().as_micros()));
        tokio::select! {
            () = tokio::time::sleep(left.min(MAX_NAP)) => {}
            () = self.changed.notified() => {}
        }
    }
}

/// Offers early facts again when they are due, and has those sent again that had no place here.
pub(crate) async fn offer_when_due(intake: Intake, peers: Peers, clock: Clock, stop: CancellationToken) {
    let waiting = intake.waiting().clone();
    while stop.run_until_cancelled(waiting.until_due(&clock)).await.is_some() {
        loop {
            let due = waiting.declined().take_due(clock.now());
            if due.is_empty() {
                break;
            }
            let count = due.len();
            match intake.offer(due, WAITED).await {
                Ok(_) => tracing::debug!(count, "early entries are due"),
                // They come again from whoever has them.
                Err(error) => tracing::warn!(count, "early entries that are due were not taken in: {error}"),
            }
            waiting.declined().settle_due();
        }
        if waiting.declined().forget_due(clock.now()) {
            peers.retry_stuck();
        }
    }
}
