//! Keeps a replica connected with a peer: dials again whenever the connection is lost.

use crate::backoff::Backoff;
use crate::candidates::Candidates;
use crate::code::Code;
use crate::connection::Connection;
use crate::endpoint::Endpoint;
use crate::error::TransportError;
use crate::log_limit::{LogLimit, PASSING};
use crate::table::ConnectionTable;
use kvgossip_grants::ReplicaId;
use rand::Rng;
use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Minimum lifetime of a connection whose end resets the back-off.
const SETTLED: Duration = Duration::from_secs(5);
/// Delay before the next address of a peer is dialled while the previous one does not answer.
pub const NEXT_DIAL: Duration = Duration::from_millis(150);
/// Delay before further addresses of a peer are dialled when the first one is where the peer has proved its
/// key.
const HEAD_START: Duration = Duration::from_secs(1);

/// Source of the addresses at which a peer may listen.
pub trait Whereabouts: Send + Sync {
    /// Returns the peer's addresses; called before each round of dials. They are hints: only the handshake
    /// shows which replica listens there.
    fn addresses(&self) -> impl Future<Output = Vec<SocketAddr>> + Send;

    /// Waits for a change that justifies another round at once. The default never returns.
    fn changed(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// Current maximum wait between two rounds of dials.
    fn longest_wait(&self) -> Duration {
        crate::backoff::MAX_RETRY
    }
}

/// One fixed address of a peer.
impl Whereabouts for SocketAddr {
    async fn addresses(&self) -> Vec<SocketAddr> {
        vec![*self]
    }
}

impl<W: Whereabouts> Whereabouts for Arc<W> {
    fn addresses(&self) -> impl Future<Output = Vec<SocketAddr>> + Send {
        W::addresses(self)
    }

    fn changed(&self) -> impl Future<Output = ()> + Send {
        W::changed(self)
    }

    fn longest_wait(&self) -> Duration {
        W::longest_wait(self)
    }
}

/// Peer to stay connected with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<W = SocketAddr> {
    /// Source of the addresses at which the peer may listen.
    pub address: W,
    /// Replica id that the peer must have; `None` accepts any admitted replica.
    pub expected: Option<ReplicaId>,
}

/// Dials a target whenever the table has no connection with it, and backs off while that fails.
///
/// One round dials all known addresses, beginning with the one where the peer has proved its key before, which has a
/// head start of 1 s. Each further address is dialled [`NEXT_DIAL`] later, or at once when a dial fails. The round ends
/// with the first address where the peer proves its key.
///
/// Sends every connection that it makes and the table keeps to `up`. Runs until the endpoint is closed, the receiver of
/// `up` is dropped, or a round finds only this replica itself (`peer.own_key`) at the target's addresses. Dropping the future stops it and leaves connections in the table.
pub async fn keep_connected<W: Whereabouts>(
    endpoint: Endpoint,
    table: ConnectionTable,
    target: Target<W>,
    mut rng: impl Rng,
    up: mpsc::Sender<Connection>,
) {
    let mut backoff = Backoff::default();
    let mut peer = target.expected;
    let mut failures = Failures::default();
    let mut candidates = Candidates::default();
    loop {
        // The peer may have dialled in meanwhile, or another address may have reached it.
        let result = match peer.and_then(|peer| table.get(&peer)) {
            Some(connection) => Ok((connection, false)),
            None => {
                let round = Round { endpoint: &endpoint, table: &table, target: &target };
                round.dial(&mut candidates).await.map(|connection| (connection, true))
            }
        };
        match result {
            Ok((connection, ours)) => {
                peer = Some(connection.peer());
                failures = Failures::default();
                // A peer that dials in usually does so from the address where it listens, unless there is NAT.
                if candidates.holds(connection.address()) {
                    candidates.proved(connection.address());
                }
                if ours {
                    tracing::info!(peer = %connection.peer(), address = %connection.address(), "connected");
                    if up.send(connection.clone()).await.is_err() {
                        return;
                    }
                }
                if wait_for_end(connection).await >= SETTLED {
                    backoff.reset();
                }
            }
            // A list of peers shared by all replicas names this one too.
            Err(Failed { error, address: Some(address), all: true }) if error.code() == Code::OwnKey => {
                tracing::info!(%address, "this replica itself answers there: it is not dialled again");
                return;
            }
            // Only closing the endpoint aborts a dial with this error.
            Err(Failed { error: TransportError::ClosedHere, .. }) => return,
            Err(Failed { error: TransportError::Duplicate { peer: found }, .. }) => peer = Some(found),
            Err(Failed { error, address, .. }) => {
                // A peer that detects a clone may close before its welcome has been sent.
                if let TransportError::Refused { code: Code::Cloned, .. }
                | TransportError::ByPeer { code: Code::Cloned, .. } = &error
                {
                    table.note_own_clone(&error);
                }
                failures.report(endpoint.dial_log(), address, &error);
                // No dial can succeed before that.
                if let TransportError::ShutOut(shut_out) = error {
                    sleep(shut_out.left).await;
                }
            }
        }
        let wait = backoff.next(&mut rng).min(target.address.longest_wait());
        // A changed address list is tried early, but never without a pause.
        sleep(wait.min(NEXT_DIAL)).await;
        let rest = wait.saturating_sub(NEXT_DIAL);
        tokio::select! {
            () = sleep(rest) => {}
            () = target.address.changed() => {}
        }
    }
}

/// Failure of one round of dials.
struct Failed {
    error: TransportError,
    /// Address whose error is reported; `None` if none is known, or if a dial turned out to be unnecessary.
    address: Option<SocketAddr>,
    /// Whether all dialled addresses failed with one code.
    all: bool,
}

/// One round of dials to all addresses of a target.
struct Round<'a, W> {
    endpoint: &'a Endpoint,
    table: &'a ConnectionTable,
    target: &'a Target<W>,
}

impl<W: Whereabouts> Round<'_, W> {
    async fn dial(&self, candidates: &mut Candidates) -> Result<Connection, Failed> {
        candidates.announce(self.target.address.addresses().await);
        let mut waiting: VecDeque<SocketAddr> = candidates.in_order().into();
        let first = waiting.front().copied();
        // Dropping the set at the end aborts every dial that is still running.
        let mut dials = JoinSet::new();
        let mut errors: Vec<(SocketAddr, TransportError)> = Vec::new();
        let mut fresh = true;
        let mut pause = if candidates.is_proven() { HEAD_START } else { NEXT_DIAL };
        loop {
            // The peer may have dialled in meanwhile.
            if let Some(peer) = self.target.expected.filter(|peer| self.table.get(peer).is_some()) {
                let error = TransportError::Duplicate { peer };
                return Err(Failed { error, address: None, all: false });
            }
            if fresh && let Some(address) = waiting.pop_front() {
                let (endpoint, expected) = (self.endpoint.clone(), self.target.expected);
                dials.spawn(async move { (address, endpoint.connect(address, expected).await) });
                fresh = false;
            }
            if dials.is_empty() && waiting.is_empty() {
                return Err(told(first, errors));
            }
            tokio::select! {
                Some(done) = dials.join_next() => {
                    // A dial that panicked has already been reported.
                    let Ok((address, result)) = done else { continue };
                    match result.and_then(|connection| {
                        candidates.proved(address);
                        self.table.insert(connection.clone()).map(|()| connection)
                    }) {
                        Ok(connection) => return Ok(connection),
                        Err(error @ (TransportError::ClosedHere | TransportError::Duplicate { .. })) => {
                            return Err(Failed { error, address: Some(address), all: false });
                        }
                        Err(error) => {
                            tracing::debug!(%address, code = %error.code(), "a dial failed: {error}");
                            candidates.failed(address);
                            errors.push((address, error));
                            fresh = true;
                        }
                    }
                }
                () = sleep(pause), if !waiting.is_empty() => {
                    (fresh, pause) = (true, NEXT_DIAL);
                }
                () = self.target.address.changed() => {
                    let found = candidates.announce(self.target.address.addresses().await);
                    found.into_iter().for_each(|address| waiting.push_front(address));
                }
            }
        }
    }
}

/// Picks the error to report for a failed round: that of the address that was dialled first, which is the
/// likeliest one.
fn told(first: Option<SocketAddr>, mut errors: Vec<(SocketAddr, TransportError)>) -> Failed {
    let all = errors.windows(2).all(|pair| pair[0].1.code() == pair[1].1.code());
    let place = errors.iter().position(|(address, _)| Some(*address) == first).unwrap_or_default();
    if place < errors.len() {
        let (address, error) = errors.swap_remove(place);
        return Failed { error, address: Some(address), all };
    }
    let error = TransportError::NoAddress;
    Failed { error, address: None, all: false }
}

/// Waits for the end of the connection. Returns how long it was open.
async fn wait_for_end(connection: Connection) -> Duration {
    let quic = connection.quic().clone();
    let began = Instant::now() - connection.age();
    drop(connection); // only the table decides how long it stays open
    quic.closed().await;
    began.elapsed()
}

/// Failed rounds of one target since its last success.
#[derive(Debug, Default)]
struct Failures {
    last: Option<Code>,
    refused_since: Option<Instant>,
}

impl Failures {
    /// Logs a failed round once per code; repetitions go to the debug log. A failure that the rate limit
    /// suppressed is logged the next time.
    fn report(&mut self, log: &LogLimit, address: Option<SocketAddr>, error: &TransportError) {
        let code = error.code();
        let address = address.map_or_else(|| "none".to_owned(), |address| address.to_string());
        match code {
            // Both sides dialled; the other connection is kept.
            Code::Duplicate => {
                return tracing::debug!(%address, %code, "the peer has dialled, too: {error}");
            }
            // The peer may not have heard yet that this replica joined, or it is shutting down and gossip will
            // report that soon.
            Code::NotAdmitted | Code::Full
                if self.refused_since.get_or_insert_with(Instant::now).elapsed() < PASSING =>
            {
                return tracing::info!(%address, %code, "not connected yet: {error}");
            }
            _ => {}
        }
        if self.last == Some(code) {
            return tracing::debug!(%address, %code, "still not connected: {error}");
        }
        match log.allow() {
            Some(suppressed) => {
                self.last = Some(code);
                tracing::warn!(%address, %code, suppressed, "not connected: {error}");
            }
            None => tracing::debug!(%address, %code, "not connected: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_a_warning_only_if_it_goes_on() {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::INFO)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let levels = || {
            let log = std::mem::take(&mut *sink.0.lock().expect("no panic"));
            let log = String::from_utf8(log).expect("text");
            log.lines().map(|line| line.contains(" WARN ")).collect::<Vec<_>>()
        };
        let target = Some(SocketAddr::from(([127, 0, 0, 1], 1)));
        for code in [Code::Full, Code::NotAdmitted] {
            let refused = TransportError::ByPeer { code, reason: String::new() };
            let (mut failures, log) = (Failures::default(), LogLimit::new());
            failures.report(&log, target, &refused);
            assert_eq!(levels(), [false], "{code}");
            tokio::time::advance(PASSING).await;
            failures.report(&log, target, &refused);
            failures.report(&log, target, &refused);
            assert_eq!(levels(), [true], "{code}: once");
            failures.report(&log, target, &TransportError::Lost("gone".into()));
            assert_eq!(levels(), [true], "another failure is news");
        }
    }
}
