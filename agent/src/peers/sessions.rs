//! Sessions with connected peers, whoever begins them.

use super::allowance::{Allowances, cost};
use super::lines::Whose;
use super::roots::Source;
use super::under_way::UnderWay;
use super::{Peers, random};
use crate::clock;
use crate::committer::StoreHandle;
use crate::intake::Intake;
use crate::metrics::{Metrics, SessionCause};
use crate::readiness::{Brought, short};
use crate::report::{error_of, session_end, sync_report};
use kvgossip_api::{SyncOutcome, SyncReport};
use kvgossip_engine::declined::Reason;
use kvgossip_engine::scheduler::SessionEnd;
use kvgossip_engine::session::{Newcomer, Outcome, SessionError, Tally};
use kvgossip_engine::{Failure, Snapshot, StorageError};
use kvgossip_grants::{Fact, FactId, PathPrefix, ReplicaId, Timestamp, Verdict};
use kvgossip_transport::{
    Access, Code, Connection, SessionFailure, SessionHost, SessionOptions, SessionReport, SessionStream,
    TransportError, run_session,
};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a session works on: the agent's state, and its one way in for facts.
pub(super) struct Host {
    intake: Intake,
    allowances: Mutex<Allowances>,
    began: Instant,
}

impl Host {
    pub(super) fn new(intake: Intake) -> Self {
        Self::with(intake, Allowances::default())
    }

    pub(super) fn with(intake: Intake, allowances: Allowances) -> Self {
        Self { intake, allowances: Mutex::new(allowances), began: Instant::now() }
    }

    /// Takes what a peer's facts cost; gives how long their verdicts are kept back.
    fn charge(&self, peer: ReplicaId, cost: i64) -> Duration {
        let mut allowances = self.allowances.lock();
        allowances.charge(peer, cost, self.began.elapsed())
    }

    /// The host for one session with a peer.
    pub(super) fn for_peer(self: &Arc<Self>, peer: ReplicaId, newcomer: Option<Newcomer>) -> PeerHost {
        PeerHost { host: self.clone(), peer, name: peer.to_string(), newcomer, counted: Mutex::default() }
    }

    pub(super) fn metrics(&self) -> &Metrics {
        self.intake.metrics()
    }

    pub(super) fn store(&self) -> &StoreHandle {
        self.intake.store()
    }
}

/// The host for one session with a peer, so that refusals name it, and that its bytes are counted while it runs.
pub(super) struct PeerHost {
    host: Arc<Host>,
    peer: ReplicaId,
    name: String,
    /// What the peer is told if this replica was never compared with anybody.
    newcomer: Option<Newcomer>,
    /// What was counted of this session.
    counted: Mutex<Tally>,
}

impl PeerHost {
    /// Offers facts. Where a store near its limit has no room for all of a batch, it is offered in parts.
    async fn offer(&self, facts: Vec<Fact>) -> Result<Vec<Verdict>, Failure> {
        let again = if self.host.store().has_limit() { facts.clone() } else { Vec::new() };
        let offered = self.host.intake.offer(facts, &self.name).await;
        if again.len() < 2 || !matches!(offered, Err(Failure::Storage(StorageError::Quota { .. }))) {
            return offered;
        }
        let mut verdicts = Vec::with_capacity(again.len());
        let middle = again.len() / 2;
        for half in [again[..middle].to_vec(), again[middle..].to_vec()] {
            verdicts.extend(Box::pin(self.offer(half)).await?);
        }
        Ok(verdicts)
    }
}

impl SessionHost for PeerHost {
    fn snapshot(&self) -> Snapshot {
        self.host.store().snapshot().as_ref().clone()
    }

    fn now(&self) -> Option<Timestamp> {
        Some(self.host.intake.now())
    }

    fn declined(&self) -> Vec<(FactId, Reason)> {
        self.host.intake.waiting().list()
    }

    fn is_full(&self) -> bool {
        self.host.store().is_full()
    }

    fn newcomer(&self) -> Option<Newcomer> {
        self.newcomer.clone()
    }

    fn progress(&self, tally: &Tally) {
        let mut counted = self.counted.lock();
        self.host.metrics().session_bytes(&counted, tally);
        *counted = *tally;
    }

    async fn judge(&self, facts: Vec<Fact>) -> Result<Vec<Verdict>, Failure> {
        let bytes: Vec<usize> = facts.iter().map(Fact::payload_len).collect();
        let verdicts = self.offer(facts).await?;
        let cost = verdicts.iter().zip(bytes).map(|(verdict, bytes)| cost(*verdict, bytes)).sum();
        let wait = self.host.charge(self.peer, cost);
        if !wait.is_zero() {
            // The peer's stream alone stands still meanwhile, when as much as may be judged at once waits.
            tokio::time::sleep(wait).await;
        }
        Ok(verdicts)
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
            let under_way = self.under_way(connection);
            let watch = stream.watch();
            let Some(place) = self.inner.places.take(connection.peer(), connection.access(), watch) else {
                stream.abort(Code::Busy);
                under_way.ended(SessionEnd::Busy);
                continue;
            };
            self.run(connection, stream, under_way, PathPrefix::root(), false).await;
            drop(place);
        }
    }

    /// Begins a session that was asked for.
    pub(super) async fn initiate(
        &self,
        connection: &Connection,
        prefix: PathPrefix,
        cause: SessionCause,
    ) -> Result<SyncReport, TransportError> {
        let stream = connection.open_session().await?;
        self.begun(connection, stream, self.under_way(connection), prefix, cause).await
    }

    /// Begins a session that was due.
    pub(super) async fn begin(&self, connection: &Connection, under_way: UnderWay, cause: SessionCause) {
        match connection.open_session().await {
            Ok(stream) => {
                drop(self.begun(connection, stream, under_way, PathPrefix::root(), cause).await);
            }
            // The peer's stream came first. Whether a session comes of it is not known yet.
            Err(TransportError::Busy) => under_way.ended(SessionEnd::Busy),
            Err(_) => under_way.ended(SessionEnd::Failed),
        }
    }

    async fn begun(
        &self,
        connection: &Connection,
        stream: SessionStream,
        under_way: UnderWay,
        prefix: PathPrefix,
        cause: SessionCause,
    ) -> Result<SyncReport, TransportError> {
        self.inner.host.metrics().session_opened(cause);
        // In a task of its own: whoever asked may go, and the session still ends as it should.
        let (peers, connection) = (self.clone(), connection.clone());
        let run = async move { peers.run(&connection, stream, under_way, prefix, true).await };
        self.inner.tasks.spawn(run).await.map_err(|_| TransportError::ClosedHere)
    }

    async fn run(
        &self,
        connection: &Connection,
        stream: SessionStream,
        under_way: UnderWay,
        scope: PathPrefix,
        initiated: bool,
    ) -> SyncReport {
        let peer = connection.peer();
        let host = Arc::new(self.inner.host.for_peer(peer, self.newcomer()));
        let options = SessionOptions { scope, nonce: random().to_le_bytes(), takes_facts: true };
        let report = run_session(stream, options, host.clone()).await;
        host.progress(&report.tally);
        self.learn(peer, connection.access(), &report);
        self.log(peer, &report);
        self.note_clock(connection, &report);
        under_way.ended(session_end(&report));
        let row = sync_report(peer, initiated, &report);
        self.inner.host.metrics().session(&row);
        // A session that did not begin tells nothing of the last one that did.
        if row.outcome != SyncOutcome::Busy {
            self.inner.book.note_sync(peer, row.clone(), error_of(&report));
        }
        // Nobody listening is fine.
        let _ = self.inner.reports.send(row.clone());
        row
    }
}

impl Peers {
    /// Takes note of what a session tells of the peer, and of what this replica knows by it.
    fn learn(&self, peer: ReplicaId, access: Access, report: &SessionReport) {
        let (roots, standing, now) = (&self.inner.roots, &self.inner.standing, clock::now());
        if let Some(root) = report.agreed.or(report.peer_root) {
            // The scheduler's task tells of the own root, too, and may come later.
            roots.own_changed(self.root(), now);
            roots.heard(peer, Source::Session, root, now);
            if let Some(lag_us) = roots.known(&peer, Source::Session, now).and_then(|known| known.lag_us) {
                standing.note_equal(now.saturating_sub(lag_us));
            }
        }
        let brought = brought(access, report, self.inner.host.intake.waiting().waits());
        let mut newcomer = report.peer_newcomer.clone();
        // A newcomer that was told of this replica says so, too.
        if let Some(Newcomer { others: Some(others) }) = &mut newcomer {
            others.remove(&short(&self.id()));
        }
        standing.session_ended(peer, newcomer, brought, || self.all_others());
    }

    fn log(&self, peer: ReplicaId, report: &SessionReport) {
        let tally = &report.tally;
        let failure = match &report.result {
            Ok(outcome) => {
                return tracing::debug!(
                    %peer, ?outcome, flights = tally.flights, merged = tally.merged,
                    sent = report.bytes.sent, received = report.bytes.received, "session ended"
                );
            }
            Err(failure) => failure,
        };
        let code = failure.code();
        // Both began at the same moment, or one has no time: it is tried again.
        if code == Code::Busy.name() {
            return tracing::debug!(%peer, "a session did not begin: {failure}");
        }
        // An agent that stops, here or there, ends its sessions.
        if [Code::Closed.name(), Code::Shutdown.name()].contains(&code) {
            return tracing::debug!(%peer, "a session was cut: {failure}");
        }
        let is_internal = code.starts_with("internal.");
        let is_own = is_internal || matches!(failure, SessionFailure::Session(SessionError::Storage(_)));
        let whose = if is_own { Whose::Own } else { Whose::Peer(peer) };
        match self.inner.lines.lock().allow(whose, code, self.inner.clock.elapsed()) {
            None => tracing::debug!(%peer, code, "session failed: {failure}"),
            Some(suppressed) if is_internal => {
                tracing::error!(%peer, code, suppressed, "session failed: {failure}");
            }
            Some(suppressed) => tracing::warn!(%peer, code, suppressed, "session failed: {failure}"),
        }
    }
}

/// What a session has brought: all that the peer held and this replica takes, or not. `waits`: whether entries wait for
/// this replica's clock.
fn brought(access: Access, report: &SessionReport, waits: bool) -> Brought {
    let (whole, early) = match &report.result {
        // Only of a session over everything.
        Ok(Outcome::Equal) => (report.agreed.is_some(), false),
        // One side cannot read something, and that may be the peer; or one has no room for what the other holds.
        Ok(Outcome::Unsettled(obstacles)) => {
            let whole = report.told.is_some() && !obstacles.unreadable && !obstacles.quota;
            // Where nothing waits here, it is the peer's clock that is behind.
            (whole, report.tally.not_yet > 0 || obstacles.not_yet && waits)
        }
        Err(_) => (false, false),
    };
    // Nothing is taken from a stranger who may only pull.
    match whole && access == Access::Full && !report.compared {
        true if early => Brought::AllDue,
        true => Brought::All,
        false => Brought::Part,
    }
}
