//! An authenticated connection with another replica.

use crate::admission::{Access, Direction};
use crate::code::Code;
use crate::conduct::{Blame, Conduct};
use crate::error::TransportError;
use crate::instance::Instance;
use crate::limits::Limits;
use crate::slot::{Slot, SlotGuard};
use crate::stream::{Context, SessionStream};
use kvgossip_grants::ReplicaId;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;

/// Number of the next connection of this process.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

/// Cost of a connection's handshake on the wire, until both sides have admitted each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandshakeCost {
    /// UDP payload bytes sent by this side.
    pub sent: u64,
    /// UDP payload bytes received by this side.
    pub received: u64,
    /// Time from the first packet to the admission by both sides.
    pub time: Duration,
}

/// Connection that both sides have admitted. Clones share it; it closes when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Connection {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    number: u64,
    quic: quinn::Connection,
    local: ReplicaId,
    peer: ReplicaId,
    instance: Option<Instance>,
    blame: Blame,
    direction: Direction,
    access: Access,
    granted: Access,
    handshake: HandshakeCost,
    established: Instant,
    limits: Limits,
    slot: Arc<Slot>,
    opened_by_peer: Mutex<mpsc::Receiver<Opened>>,
}

/// Session stream opened by the peer, with the slot that it holds.
type Opened = ((quinn::SendStream, quinn::RecvStream), SlotGuard);

/// Results of a successful handshake.
pub(crate) struct Established {
    pub(crate) local: ReplicaId,
    pub(crate) peer: ReplicaId,
    /// Instance of the peer; `None` if it announced none.
    pub(crate) instance: Option<Instance>,
    pub(crate) direction: Direction,
    /// What the peer may do in sessions with this replica.
    pub(crate) access: Access,
    /// What this replica may do in sessions with the peer.
    pub(crate) granted: Access,
    pub(crate) began: Instant,
}

impl Connection {
    pub(crate) fn new(
        quic: quinn::Connection,
        facts: Established,
        limits: Limits,
        conduct: Arc<Conduct>,
    ) -> Self {
        let stats = quic.stats();
        let established = Instant::now();
        let handshake = HandshakeCost {
            sent: stats.udp_tx.bytes,
            received: stats.udp_rx.bytes,
            time: established - facts.began,
        };
        let slot = Slot::new(facts.local, facts.peer);
        // Capacity 2, because the peer's stream may take the slot over from ours; see `Slot::accept`.
        let (opened, opened_by_peer) = mpsc::channel(2);
        tokio::spawn(take_streams(quic.clone(), Arc::clone(&slot), opened));
        let inner = Inner {
            number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
            quic,
            local: facts.local,
            peer: facts.peer,
            instance: facts.instance,
            blame: Blame { conduct, peer: facts.peer },
            direction: facts.direction,
            access: facts.access,
            granted: facts.granted,
            handshake,
            established,
            limits,
            slot,
            opened_by_peer: Mutex::new(opened_by_peer),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Process-wide unique number of this connection.
    pub fn number(&self) -> u64 {
        self.inner.number
    }

    /// Replica id of the peer.
    pub fn peer(&self) -> ReplicaId {
        self.inner.peer
    }

    /// Instance of the other replica; `None` if it announced none.
    pub fn instance(&self) -> Option<Instance> {
        self.inner.instance
    }

    /// Current address of the peer; QUIC follows a peer whose address changes.
    pub fn address(&self) -> SocketAddr {
        self.inner.quic.remote_address()
    }

    /// Side that dialled this connection.
    pub fn direction(&self) -> Direction {
        self.inner.direction
    }

    /// Id of the replica that dialled.
    pub fn dialled_by(&self) -> ReplicaId {
        match self.inner.direction {
            Direction::Inbound => self.inner.peer,
            Direction::Outbound { .. } => self.inner.local,
        }
    }

    /// What the peer may do in sessions with this replica.
    pub fn access(&self) -> Access {
        self.inner.access
    }

    /// What this replica may do in sessions with the peer. A dialled peer announces it in its welcome; a peer
    /// that dials grants full access.
    pub fn granted(&self) -> Access {
        self.inner.granted
    }

    /// Current estimate of the connection's round-trip time.
    pub fn rtt(&self) -> Duration {
        self.inner.quic.rtt()
    }

    /// Cost of this connection's handshake.
    pub fn handshake(&self) -> HandshakeCost {
        self.inner.handshake
    }

    /// UDP payload bytes of the whole connection so far, including the handshake, as (sent, received).
    pub fn udp_bytes(&self) -> (u64, u64) {
        let stats = self.inner.quic.stats();
        (stats.udp_tx.bytes, stats.udp_rx.bytes)
    }

    /// Time since both sides admitted each other on this connection.
    pub fn age(&self) -> Duration {
        self.inner.established.elapsed()
    }

    /// Opens the session stream. The peer learns of it with the first frame.
    ///
    /// Fails with [`TransportError::Busy`] while a session of either side is running. If the peer opens one at
    /// the same moment, the first read or write may fail with `Busy`.
    pub async fn open_session(&self) -> Result<SessionStream, TransportError> {
        let slot = self.inner.slot.open().ok_or(TransportError::Busy)?;
        let limit = self.inner.limits.no_progress_timeout;
        // Waits only while the peer has not yet ended earlier streams of ours.
        let opened = tokio::time::timeout(limit, self.inner.quic.open_bi()).await;
        let streams = opened.map_err(|_| TransportError::TooSlow { limit })??;
        Ok(SessionStream::new(streams, slot, self.context(true)))
    }

    /// Waits for the peer to open a session stream. Only one task per connection should call this.
    pub async fn accept_session(&self) -> Result<SessionStream, TransportError> {
        match self.inner.opened_by_peer.lock().await.recv().await {
            Some((streams, slot)) => Ok(SessionStream::new(streams, slot, self.context(false))),
            None => Err(self.closed().await),
        }
    }

    fn context(&self, opened_here: bool) -> Context<'_> {
        let Inner { quic, limits, blame, access, .. } = self.inner.as_ref();
        Context { quic, limits, blame, access: *access, opened_here }
    }

    /// Returns whether a session is running on this connection; another one would be rejected with
    /// [`Code::Busy`].
    pub fn is_busy(&self) -> bool {
        self.inner.slot.is_taken()
    }

    /// Closes the connection with everything that runs on it; the peer receives this code and reason.
    pub fn close(&self, code: Code, reason: &str) {
        self.inner.quic.close(code.var_int(), reason.as_bytes());
    }

    /// Waits until the connection ends, and returns the reason.
    pub async fn closed(&self) -> TransportError {
        self.inner.quic.closed().await.into()
    }

    /// Returns whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.inner.quic.close_reason().is_some()
    }

    /// Returns whether `other` is a handle of the same connection as `self`.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Sends a byte that the peer has to acknowledge, so that the connection ends soon if the peer has
    /// restarted, rather than at the next ping.
    pub(crate) fn probe(&self) {
        let quic = self.inner.quic.clone();
        tokio::spawn(async move {
            if let Ok(mut stream) = quic.open_uni().await {
                let _ = stream.write_all(&[0]).await;
                let _ = stream.finish();
            }
        });
    }

    /// Underlying QUIC connection; watching its end does not keep the [`Connection`] open.
    pub(crate) fn quic(&self) -> &quinn::Connection {
        &self.inner.quic
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The task that accepts streams holds a handle too, which would keep the connection open.
        self.quic.close(Code::Closed.var_int(), b"");
    }
}

/// Accepts every stream that the peer opens. The first becomes the session, further ones are rejected with
/// [`Code::Busy`]; unidirectional streams after the welcome are stopped.
async fn take_streams(quic: quinn::Connection, slot: Arc<Slot>, opened: mpsc::Sender<Opened>) {
    loop {
        tokio::select! {
            streams = quic.accept_bi() => match streams {
                Ok(streams) => hand_over(streams, &slot, &opened),
                Err(_) => return,
            },
            stream = quic.accept_uni() => match stream {
                Ok(mut stream) => { let _ = stream.stop(Code::Closed.var_int()); }
                Err(_) => return,
            },
        }
    }
}

fn hand_over(
    streams: (quinn::SendStream, quinn::RecvStream),
    slot: &Arc<Slot>,
    opened: &mpsc::Sender<Opened>,
) {
    let refused = match slot.accept() {
        Some(guard) => opened.try_send((streams, guard)).err().map(|error| error.into_inner().0),
        None => Some(streams),
    };
    if let Some((mut send, mut recv)) = refused {
        // An error means that the peer has already given up the stream.
        let _ = send.reset(Code::Busy.var_int());
        let _ = recv.stop(Code::Busy.var_int());
    }
}
