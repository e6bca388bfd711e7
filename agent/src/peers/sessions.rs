//! Sessions with connected peers, whoever begins them.

use super::{Peers, random};
use crate::clock;
use crate::committer::Store;
use crate::intake::Intake;
use crate::metrics::{Metrics, SessionCause};
use crate::report::{error_of, session_end, sync_report};
use kvgossip_api::SyncReport;
use kvgossip_engine::scheduler::SessionEnd;
use kvgossip_engine::{Reader, StorageError, View};
use kvgossip_grants::{Fact, PathPrefix, Verdict};
use kvgossip_transport::{
    Code, Connection, ReplicaId, SessionHost, SessionOptions, SessionReport, SessionStream, TransportError,
    run_session,
};
use std::sync::Arc;

/// What a session works on: the agent's state, and its one way in for facts.
pub(super) struct Host {
    intake: Intake,
}

impl Host {
    pub(super) fn new(intake: Intake) -> Self {
        Self { intake }
    }

    /// The host for one peer.
    pub(super) fn for_peer(self: &Arc<Self>, peer: ReplicaId) -> PeerHost {
        PeerHost { host: self.clone(), peer: peer.to_string() }
    }

    pub(super) fn metrics(&self) -> &Metrics {
        self.intake.metrics()
    }

    pub(super) fn store(&self) -> &Store {
        self.intake.store()
    }
}

/// The host for one peer, so that refusals name it.
pub(super) struct PeerHost {
    host: Arc<Host>,
    peer: String,
}

impl SessionHost for PeerHost {
    fn view(&self) -> View {
        self.host.store().view().as_ref().clone()
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.host.store().reader()
    }

    async fn judge(&self, facts: Vec<Fact>) -> Result<Vec<Verdict>, StorageError> {
        self.host.intake.offer(facts, &self.peer).await
    }
}

impl Peers {
    /// Runs the sessions that the peer opens; returns why the connection ended.
    pub(super) async fn serve_sessions(&self, connection: &Connection) -> TransportError {
        loop {
            let stream = match connection.accept_session().await {
                Ok(stream) => stream,
                Err(TransportError::Busy) => continue,
                Err(error) => {
                    if connection.is_closed() {
                        return error;
                    }
                    tracing::debug!(peer = %connection.peer(), "a session did not begin: {error}");
                    continue;
                }
            };
            let Some(place) = self.inner.places.take(connection.access()) else {
                stream.abort(Code::Busy);
                continue;
            };
            let now = self.inner.clock.now_us();
            self.scheduler().session_started(connection.peer().as_bytes(), connection.number(), now);
            self.run(connection, stream, PathPrefix::root(), false).await;
            drop(place);
        }
    }

    /// Begins a session.
    pub(super) async fn initiate(
        &self,
        connection: &Connection,
        prefix: PathPrefix,
        cause: SessionCause,
    ) -> Result<SyncReport, TransportError> {
        let (peer, number) = (connection.peer(), connection.number());
        match connection.open_session().await {
            Ok(stream) => {
                self.inner.host.metrics().session_opened(cause);
                self.scheduler().session_started(peer.as_bytes(), number, self.inner.clock.now_us());
                // In a task of its own: whoever asked may go, and the session still ends as it should.
                let (peers, connection) = (self.clone(), connection.clone());
                let run = async move { peers.run(&connection, stream, prefix, true).await };
                self.inner.tasks.spawn(run).await.map_err(|_| TransportError::ClosedHere)
            }
            // The session that is under way will end, and says so.
            Err(error) if matches!(error, TransportError::Busy) => Err(error),
            Err(error) => {
                let now = self.inner.clock.now_us();
                self.scheduler().session_ended(peer.as_bytes(), number, SessionEnd::Failed, now);
                self.inner.wake.notify_one();
                Err(error)
            }
        }
    }

    async fn run(
        &self,
        connection: &Connection,
        stream: SessionStream,
        scope: PathPrefix,
        initiated: bool,
    ) -> SyncReport {
        let (peer, number) = (connection.peer(), connection.number());
        let host = Arc::new(self.inner.host.for_peer(peer));
        let options = SessionOptions { scope, nonce: random().to_le_bytes(), takes_facts: true };
        let report = run_session(stream, options, host).await;
        log(peer, &report);
        let end = session_end(&report);
        if let SessionEnd::Equal(root) = end {
            self.inner.roots.heard(peer, root, clock::now());
        }
        self.scheduler().session_ended(peer.as_bytes(), number, end, self.inner.clock.now_us());
        self.inner.wake.notify_one();
        let row = sync_report(peer, initiated, &report);
        self.inner.host.metrics().session(&row);
        self.inner.book.note_sync(peer, row.clone(), error_of(&report));
        // Nobody listening is fine.
        let _ = self.inner.reports.send(row.clone());
        row
    }
}

fn log(peer: ReplicaId, report: &SessionReport) {
    let tally = &report.tally;
    match &report.result {
        Ok(outcome) => tracing::debug!(
            %peer, ?outcome, flights = tally.flights, merged = tally.merged,
            sent = report.bytes.sent, received = report.bytes.received, "session ended"
        ),
        // Both began at the same moment, or one has no time: it is tried again.
        Err(failure) if failure.code() == Code::Busy.name() => {
            tracing::debug!(%peer, "a session did not begin: {failure}");
        }
        // An agent that stops, here or there, ends its sessions.
        Err(failure) if [Code::Closed.name(), Code::Shutdown.name()].contains(&failure.code()) => {
            tracing::debug!(%peer, "a session was cut: {failure}");
        }
        Err(failure) => {
            tracing::warn!(%peer, code = failure.code(), "session failed: {failure}");
        }
    }
}
