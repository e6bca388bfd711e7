//! Conversion of session reports for the API and the scheduler.

use crate::clock;
use kvgossip_api::{ApiError, SyncOutcome, SyncReport, TrafficRow};
use kvgossip_engine::scheduler::SessionEnd;
use kvgossip_engine::session::{Obstacles, Outcome, Traffic};
use kvgossip_grants::{Digest, ReplicaId};
use kvgossip_transport::{Code, SessionFailure, SessionReport, TransportError};

fn traffic(traffic: Traffic) -> TrafficRow {
    TrafficRow {
        overhead: traffic.overhead,
        authority: traffic.authority,
        entries: traffic.entries,
        authority_facts: traffic.authority_facts,
        entry_facts: traffic.entry_facts,
    }
}

fn reasons(obstacles: Obstacles) -> Vec<String> {
    let named = [
        (obstacles.not_yet, "not_yet"),
        (obstacles.refused, "refused"),
        (obstacles.unjustified, "unjustified"),
        (obstacles.truncated, "truncated"),
        (obstacles.read_only, "read_only"),
        (obstacles.unreadable, "unreadable"),
        (obstacles.quota, "store.quota"),
    ];
    named.into_iter().filter(|(stands, _)| *stands).map(|(_, name)| name.to_owned()).collect()
}

/// Converts a session report to the API's type.
pub(crate) fn sync_report(peer: ReplicaId, initiated: bool, report: &SessionReport) -> SyncReport {
    let (outcome, reasons) = match &report.result {
        Ok(Outcome::Equal) => (SyncOutcome::Equal, Vec::new()),
        Ok(Outcome::Unsettled(obstacles)) => (SyncOutcome::Unsettled, reasons(*obstacles)),
        Err(failure) if is_busy(failure) => (SyncOutcome::Busy, vec![failure.code().to_owned()]),
        Err(failure) => (SyncOutcome::Failed, vec![failure.code().to_owned()]),
    };
    let tally = &report.tally;
    SyncReport {
        peer: peer.to_string(),
        ended_at_us: clock::now().as_micros(),
        took_us: u64::try_from(report.time.as_micros()).unwrap_or(u64::MAX),
        outcome,
        reasons,
        sent: traffic(tally.sent),
        received: traffic(tally.received),
        waste: tally.waste,
        flights: tally.flights,
        rounds: tally.rounds,
        merged: tally.merged,
        initiated,
    }
}

/// Converts a session report to the scheduler's input.
pub(crate) fn session_end(report: &SessionReport) -> SessionEnd {
    match &report.result {
        // The session compared only; it was not meant to move facts.
        Ok(Outcome::Unsettled(_)) if report.compared => SessionEnd::Unfinished,
        Ok(Outcome::Equal) => report.agreed.map_or(SessionEnd::Unfinished, SessionEnd::Equal),
        Ok(Outcome::Unsettled(obstacles)) => unsettled(*obstacles, report.told),
        Err(failure) if is_busy(failure) => SessionEnd::Busy,
        Err(_) => SessionEnd::Failed,
    }
}

fn unsettled(obstacles: Obstacles, told: Option<Digest>) -> SessionEnd {
    // Named one by one, so that a new obstacle has to be considered here.
    let Obstacles { not_yet, refused, unjustified, truncated: _, read_only, unreadable, quota } = obstacles;
    if read_only {
        return SessionEnd::OneSided;
    }
    let stuck = not_yet || refused || unjustified || unreadable || quota;
    // Without this root, not everything that can be exchanged was exchanged.
    told.filter(|_| stuck).map_or(SessionEnd::Unfinished, SessionEnd::Stuck)
}

fn is_busy(failure: &SessionFailure) -> bool {
    matches!(failure, SessionFailure::Transport(error) if error.code() == Code::Busy)
}

/// Returns the failure of a session as the API's type; `None`: the session succeeded.
pub(crate) fn error_of(report: &SessionReport) -> Option<ApiError> {
    let failure = report.result.as_ref().err()?;
    Some(ApiError { code: failure.code().to_owned(), message: failure.to_string() })
}

/// Converts a transport error to the API's type.
pub(crate) fn transport_error(error: &TransportError) -> ApiError {
    ApiError { code: error.code().name().to_owned(), message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvgossip_engine::session::Tally;
    use kvgossip_transport::StreamBytes;
    use std::time::Duration;

    fn report(result: Result<Outcome, SessionFailure>) -> SyncReport {
        let report = SessionReport {
            result,
            agreed: None,
            told: None,
            peer_root: None,
            peer_newcomer: None,
            compared: false,
            tally: Tally::default(),
            bytes: StreamBytes::default(),
            time: Duration::ZERO,
            their_clock: None,
        };
        sync_report(ReplicaId([1; 32]), true, &report)
    }

    #[test]
    fn a_session_that_met_another_one_is_busy_and_no_failure() {
        let busy = report(Err(TransportError::Busy.into()));
        assert_eq!((busy.outcome, busy.reasons), (SyncOutcome::Busy, vec!["session.busy".to_owned()]));
        assert_eq!(report(Err(TransportError::ClosedHere.into())).outcome, SyncOutcome::Failed);
    }
}
