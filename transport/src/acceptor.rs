//! Accepts peers that dial in. Handshakes run concurrently, each within a time limit; no peer is trusted before
//! its handshake succeeds.

use crate::admission::{Access, Direction};
use crate::code::Code;
use crate::connection::{Connection, Established};
use crate::error::TransportError;
use crate::log_limit::Line;
use crate::pending::{FirstPacket, HandshakePermit};
use crate::shared::{Shared, admitted, explain};
use crate::welcome;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, timeout};

/// Accepts incoming connections until the endpoint is closed. Admitted ones are sent to `ready`.
pub(crate) async fn run(shared: Arc<Shared>, ready: mpsc::Sender<Connection>) {
    while let Some(incoming) = shared.quic.accept().await {
        let address = incoming.remote_address();
        match shared.pending.enter(address.ip(), incoming.remote_address_validated()) {
            FirstPacket::Start(place) => {
                tokio::spawn(serve(Arc::clone(&shared), incoming, place, ready.clone()));
            }
            FirstPacket::Validate => {
                count(&shared.counters.retried);
                // quinn guarantees that a Retry can be sent to an unvalidated address.
                let _ = incoming.retry();
            }
            FirstPacket::Refuse => {
                count(&shared.counters.turned_away);
                if let Some(suppressed) = shared.log.allow() {
                    tracing::warn!(%address, code = %Code::Full, suppressed, "too many handshakes are pending");
                }
                incoming.refuse();
            }
        }
    }
}

/// Runs one incoming handshake, then queues the connection for the application or logs the failure.
async fn serve(
    shared: Arc<Shared>,
    incoming: quinn::Incoming,
    place: HandshakePermit,
    ready: mpsc::Sender<Connection>,
) {
    let address = incoming.remote_address();
    let result = handshake(&shared, incoming, address).await;
    drop(place);
    shared.conduct.note_inbound(result.as_ref().map(Connection::peer));
    match result.and_then(|connection| queue(&ready, connection)) {
        Ok(()) => count(&shared.counters.accepted),
        Err(error) => {
            count(&shared.counters.failed);
            report(&shared, address, &error);
        }
    }
}

/// Performs an incoming handshake, the admission and the welcome. Dropping the future discards all state of the
/// connection.
async fn handshake(
    shared: &Shared,
    incoming: quinn::Incoming,
    address: SocketAddr,
) -> Result<Connection, TransportError> {
    let began = Instant::now();
    let (config, found) = shared.configs.server()?;
    let connecting = incoming.accept_with(config).map_err(not_begun)?;
    let limit = shared.limits.handshake_timeout;
    let quic = match timeout(limit, connecting).await {
        Ok(done) => done.map_err(|error| explain(error.into(), &found.outcome, address))?,
        Err(_) => return Err(TransportError::HandshakeTimeout { address, limit }),
    };
    let (peer, access) = admitted(&found.outcome, address)?;
    shared.refuse_offender(&quic, &peer)?;
    let welcome = timeout(limit, welcome::send(&quic, access, shared.configs.instance())).await;
    welcome.map_err(|_| TransportError::HandshakeTimeout { address, limit })??;
    let local = shared.configs.key().id();
    let direction = Direction::Inbound;
    let instance = found.told.get().copied();
    let facts = Established { local, peer, instance, direction, access, granted: Access::Full, began };
    Ok(Connection::new(quic, facts, shared.limits.clone(), shared.conduct.clone()))
}

/// Maps a first packet that does not authenticate to [`TransportError::Lost`] rather than to a protocol error.
/// The keys of a first packet derive from the connection ids in it, so a late packet of an earlier dial, whose
/// state is gone here, fails to authenticate although its sender did nothing wrong.
fn not_begun(error: quinn::ConnectionError) -> TransportError {
    match error {
        quinn::ConnectionError::TransportError(_) => TransportError::Lost(
            "its packet belongs to no handshake that is known here: packets were lost, or this replica has restarted"
                .into(),
        ),
        error => error.into(),
    }
}

/// Hands an admitted connection to the application. A full queue closes it at once with [`Code::Full`], so that
/// the peer does not wait.
fn queue(ready: &mpsc::Sender<Connection>, connection: Connection) -> Result<(), TransportError> {
    ready.try_send(connection).map_err(|error| match error {
        TrySendError::Full(connection) => {
            connection.close(Code::Full, "too many connections wait to be taken");
            TransportError::Full { limit: ready.max_capacity() }
        }
        TrySendError::Closed(_) => TransportError::ClosedHere,
    })
}

/// Logs the failure of an incoming handshake, rate-limited by address and code.
fn report(shared: &Shared, address: SocketAddr, error: &TransportError) {
    let code = error.code();
    if code == Code::Duplicate {
        // Both sides dialled; the other connection is kept.
        return tracing::debug!(%address, %code, "a peer dialled in for nothing: {error}");
    }
    let Some(Line { warning, suppressed }) = shared.log.allow_from(address.ip(), code) else { return };
    if warning {
        tracing::warn!(%address, %code, suppressed, "a peer that dialled in failed: {error}");
    } else {
        tracing::info!(%address, %code, suppressed, "a peer that dialled in is not connected yet: {error}");
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
