//! Early entries: notifies watchers of their keys, and offers the entries again when they are due.

use crate::clock::Clock;
use crate::committer::ReadsAgain;
use crate::intake::Intake;
use crate::peers::Peers;
use crate::waiting::Waiting;
use crate::watch::Hub;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Source that the list of refusals shows for a fact that was in the waiting room.
const WAITED: &str = "waiting";

/// Offers early facts to the intake again when they are due, and asks peers again for early facts that had no room in
/// the waiting room.
pub(super) async fn offer_when_due(intake: Intake, peers: Peers, clock: Clock, stop: CancellationToken) {
    let waiting = intake.waiting().clone();
    while stop.run_until_cancelled(waiting.until_due(&clock)).await.is_some() {
        loop {
            let due = waiting.take_due(clock.now());
            if due.is_empty() {
                break;
            }
            let count = due.len();
            match intake.offer(due, WAITED).await {
                Ok(_) => tracing::debug!(count, "early entries are due"),
                // Peers that hold them send them again.
                Err(error) => tracing::warn!(count, "early entries that are due were not taken in: {error}"),
            }
            waiting.settle_due();
        }
        if waiting.forget_due(clock.now()) {
            peers.retry_stuck();
        }
    }
}

/// Notifies watchers of each key with an early entry that was added to the waiting room or taken out and offered. While
/// such an entry waits, a key without a value is unknown, not unset.
pub(super) async fn tell_of_early_keys(waiting: Arc<Waiting>, hub: Hub, stop: CancellationToken) {
    while let Some(keys) = stop.run_until_cancelled(waiting.untold()).await {
        hub.tell_again(keys.map_or(ReadsAgain::Others, ReadsAgain::Keys));
    }
}
