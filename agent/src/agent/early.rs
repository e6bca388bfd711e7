//! Early entries: notifies watchers of their keys, and offers the entries again when they are due.

use crate::clock::Clock;
use crate::committer::ReadsAgain;
use crate::intake::Intake;
use crate::peers::Peers;
use crate::waiting::Waiting;
use crate::watch::Hub;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Source, in the list of refusals, of a fact that was in the waiting room.
const WAITED: &str = "waiting";

/// Offers early facts again when they are due, and requests those again that had no room here.
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

/// Notifies watchers of keys with an early entry added or settled: without a value, such a key is unknown meanwhile.
pub(super) async fn tell_of_early_keys(waiting: Arc<Waiting>, hub: Hub, stop: CancellationToken) {
    while let Some(keys) = stop.run_until_cancelled(waiting.untold()).await {
        hub.tell_again(keys.map_or(ReadsAgain::Others, ReadsAgain::Keys));
    }
}
