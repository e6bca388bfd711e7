//! Comparing with a peer without moving anything.

use super::{PATIENCE, Peers, random};
use crate::report::{error_of, session_end, transport_error};
use kvgossip_api::{ApiError, DiffResponse, DiffRow};
use kvgossip_engine::InternalError;
use kvgossip_engine::session::Differences;
use kvgossip_engine::session::Named;
use kvgossip_grants::PathPrefix;
use kvgossip_transport::{Connection, SessionOptions, SessionReport, TransportError, run_comparison};
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Peers {
    /// What this replica and a peer differ in under a prefix: `[ID@]ADDR:PORT`, or the beginning of a connected peer's
    /// id. Nothing is moved.
    pub async fn diff_with(&self, peer: &str, prefix: PathPrefix) -> Result<DiffResponse, ApiError> {
        let (connection, is_new) = self.find(peer).await?;
        let deadline = Instant::now() + PATIENCE;
        let compared = loop {
            match self.compare(&connection, prefix.clone()).await {
                // A session with the same peer is under way: it will end.
                Err(TransportError::Busy) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                compared => break compared,
            }
        };
        let id = connection.peer().to_string();
        if is_new {
            self.serve(connection, super::First::Session);
        }
        let (report, differences) = compared.map_err(|error| transport_error(&error))?;
        match (error_of(&report), differences) {
            (None, Some(differences)) => Ok(response(id, &prefix, &report, differences)),
            (Some(error), _) => Err(error),
            (None, None) => {
                let fault = InternalError::Task("a comparison");
                Err(ApiError { code: fault.code().into(), message: fault.to_string() })
            }
        }
    }

    async fn compare(
        &self,
        connection: &Connection,
        scope: PathPrefix,
    ) -> Result<(SessionReport, Option<Differences>), TransportError> {
        let (peer, inner) = (connection.peer(), &self.inner);
        let stream = connection.open_session().await?;
        let under_way = self.under_way(connection);
        let host = Arc::new(inner.host.for_peer(peer, self.newcomer()));
        let options = SessionOptions { scope, nonce: random().to_le_bytes(), takes_facts: false };
        // In a task of its own: whoever asked may go, and the session still ends as it should.
        let run = async move {
            let (report, differences) = run_comparison(stream, options, host).await;
            under_way.ended(session_end(&report));
            (report, differences)
        };
        inner.tasks.spawn(run).await.map_err(|_| TransportError::ClosedHere)
    }
}

fn response(peer: String, prefix: &PathPrefix, report: &SessionReport, found: Differences) -> DiffResponse {
    let rows = |named: Vec<Named>| named.into_iter().map(row).collect();
    let is_equal = matches!(report.result, Ok(kvgossip_engine::session::Outcome::Equal));
    DiffResponse {
        peer,
        prefix: prefix.to_string(),
        equal: is_equal,
        truncated: found.is_truncated || is_truncated(report),
        here: rows(found.here),
        there: rows(found.there),
        sent_bytes: report.bytes.sent,
        received_bytes: report.bytes.received,
        flights: report.tally.flights,
    }
}

fn is_truncated(report: &SessionReport) -> bool {
    use kvgossip_engine::session::Outcome;
    matches!(report.result, Ok(Outcome::Unsettled(obstacles)) if obstacles.truncated)
}

fn row(named: Named) -> DiffRow {
    match named {
        Named::Authority(id) => DiffRow {
            kind: "authority".into(),
            id: id.to_string(),
            key: None,
            timestamp_us: None,
            is_delete: false,
        },
        Named::Entry { id, key, timestamp, is_delete } => DiffRow {
            kind: "entry".into(),
            id: id.to_string(),
            key: Some(key.to_string()),
            timestamp_us: Some(timestamp.as_micros()),
            is_delete,
        },
    }
}
