//! Keeps a replica connected with a peer, however often one of them goes away.

use crate::backoff::Backoff;
use crate::code::Code;
use crate::connection::Connection;
use crate::endpoint::Endpoint;
use crate::error::TransportError;
use crate::id::ReplicaId;
use crate::log_limit::PASSING;
use crate::table::ConnectionTable;
use rand::Rng;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

/// The end of a connection that lasted so long is no sign of trouble: the next dial follows at once.
const SETTLED: Duration = Duration::from_secs(5);

/// Whom to stay connected with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// Who has to be there; any admitted replica if nobody is named.
    pub expected: Option<ReplicaId>,
}

/// Dials a target whenever the table has no connection with it, and backs off while that fails.
///
/// Every connection that it makes and the table keeps goes to `up`. Runs until the endpoint is closed or
/// the receiver of `up` is dropped; dropping the future stops it, and leaves connections in the table.
pub async fn keep_connected(
    endpoint: Endpoint,
    table: ConnectionTable,
    target: Target,
    mut rng: impl Rng,
    up: mpsc::Sender<Connection>,
) {
    let mut backoff = Backoff::default();
    let mut peer = target.expected;
    let mut failures = Failures::default();
    loop {
        // The peer may have dialled us meanwhile, or another address may lead to it.
        let result = match peer.and_then(|peer| table.get(&peer)) {
            Some(connection) => Ok((connection, false)),
            None => dial(&endpoint, &table, target).await.map(|connection| (connection, true)),
        };
        match result {
            Ok((connection, ours)) => {
                peer = Some(connection.peer());
                failures = Failures::default();
                if ours {
                    tracing::info!(peer = %connection.peer(), address = %target.address, "connected");
                    if up.send(connection.clone()).await.is_err() {
                        return;
                    }
                }
                if wait_for_end(connection).await >= SETTLED {
                    backoff.reset();
                }
            }
            // A list of peers that is the same for all replicas names this one too.
            Err(error) if error.code() == Code::OwnKey => {
                tracing::info!(address = %target.address, "this replica itself answers there: it is not dialled again");
                return;
            }
            // Only the endpoint itself closes a dial that is under way.
            Err(TransportError::ClosedHere) => return,
            Err(TransportError::Duplicate { peer: found }) => peer = Some(found),
            Err(error) => failures.report(target, &error),
        }
        sleep(backoff.next(&mut rng)).await;
    }
}

async fn dial(
    endpoint: &Endpoint,
    table: &ConnectionTable,
    target: Target,
) -> Result<Connection, TransportError> {
    let connection = endpoint.connect(target.address, target.expected).await?;
    table.insert(connection.clone())?;
    Ok(connection)
}

/// How long it had lasted.
async fn wait_for_end(connection: Connection) -> Duration {
    let quic = connection.quic().clone();
    let began = Instant::now() - connection.age();
    drop(connection); // the table alone decides how long it is held
    quic.closed().await;
    began.elapsed()
}

/// What went wrong since the last success.
#[derive(Debug, Default)]
struct Failures {
    last: Option<Code>,
    refused_since: Option<Instant>,
}

impl Failures {
    /// Once for each new kind of failure; a peer that stays away is no news.
    fn report(&mut self, target: Target, error: &TransportError) {
        let (address, code) = (target.address, error.code());
        match code {
            // Both dialled: the other connection stays.
            Code::Duplicate => {
                return tracing::debug!(%address, %code, "the peer has dialled, too: {error}");
            }
            // The peer may not know yet that this replica has joined; or it is ending, which gossip is about to tell.
            Code::NotAdmitted | Code::Full
                if self.refused_since.get_or_insert_with(Instant::now).elapsed() < PASSING =>
            {
                return tracing::info!(%address, %code, "not connected yet: {error}");
            }
            _ => {}
        }
        if self.last.replace(code) == Some(code) {
            tracing::debug!(%address, %code, "still not connected: {error}");
        } else {
            tracing::warn!(%address, %code, "not connected: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

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
        let target = Target { address: ([127, 0, 0, 1], 1).into(), expected: None };
        for code in [Code::Full, Code::NotAdmitted] {
            let refused = TransportError::ByPeer { code, reason: String::new() };
            let mut failures = Failures::default();
            failures.report(target, &refused);
            assert_eq!(levels(), [false], "{code}");
            tokio::time::advance(PASSING).await;
            failures.report(target, &refused);
            failures.report(target, &refused);
            assert_eq!(levels(), [true], "{code}: once");
            failures.report(target, &TransportError::Lost("gone".into()));
            assert_eq!(levels(), [true], "another failure is news");
        }
    }
}
