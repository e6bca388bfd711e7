//! One authenticated connection with another replica.

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

/// The number of the next connection.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

/// What the handshake cost on the wire: UDP payloads up to the admission by both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandshakeCost {
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
    /// From the first packet to the admission.
    pub time: Duration,
}

/// A connection that both sides have admitted. Clones share it; it closes when the last one is dropped.
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

/// A session stream that the peer opened.
type Opened = ((quinn::SendStream, quinn::RecvStream), SlotGuard);

/// What the handshake established.
pub(crate) struct Established {
    pub(crate) local: ReplicaId,
    pub(crate) peer: ReplicaId,
    /// Which of its processes, if it tells.
    pub(crate) instance: Option<Instance>,
    pub(crate) direction: Direction,
    /// What the peer may do here.
    pub(crate) access: Access,
    /// What we may do at the peer's.
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
        // Two, because the peer's stream may take the place over from ours: see `Slot::accept`.
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

    /// A number that no other connection of this process has.
    pub fn number(&self) -> u64 {
        self.inner.number
    }

    /// The other replica.
    pub fn peer(&self) -> ReplicaId {
        self.inner.peer
    }

    /// The process behind the other replica's key, if it tells.
    pub fn instance(&self) -> Option<Instance> {
        self.inner.instance
    }

    /// Where it is now; QUIC follows a peer whose address changes.
    pub fn address(&self) -> SocketAddr {
        self.inner.quic.remote_address()
    }

    /// Who dialled.
    pub fn direction(&self) -> Direction {
        self.inner.direction
    }

    /// The replica that dialled.
    pub fn dialled_by(&self) -> ReplicaId {
        match self.inner.direction {
            Direction::Inbound => self.inner.peer,
            Direction::Outbound { .. } => self.inner.local,
        }
    }

    /// What the peer may do here.
    pub fn access(&self) -> Access {
        self.inner.access
    }

    /// What this replica may do at the peer's, as far as it told: a dialled peer tells, one that dials
    /// gives full access.
    pub fn granted(&self) -> Access {
        self.inner.granted
    }

    /// The current estimate of the round-trip time.
    pub fn rtt(&self) -> Duration {
        self.inner.quic.rtt()
    }

    /// What the handshake cost.
    pub fn handshake(&self) -> HandshakeCost {
        self.inner.handshake
    }

    /// UDP payload bytes of the whole connection so far, handshake included: sent, received.
    pub fn udp_bytes(&self) -> (u64, u64) {
        let stats = self.inner.quic.stats();
        (stats.udp_tx.bytes, stats.udp_rx.bytes)
    }

    /// How long ago both sides had admitted each other.
    pub fn age(&self) -> Duration {
        self.inner.established.elapsed()
    }

    /// Opens the session stream. The peer hears of it with the first frame.
    ///
    /// Fails with [`TransportError::Busy`] while a session of either side is under way; a session that the
    /// peer began at the same moment shows as `Busy` on the first read or write.
    pub async fn open_session(&self) -> Result<SessionStream, TransportError> {
        let slot = self.inner.slot.open().ok_or(TransportError::Busy)?;
        let limit = self.inner.limits.no_progress_timeout;
        // It waits only for a peer that has not yet ended earlier streams of ours.
        let opened = tokio::time::timeout(limit, self.inner.quic.open_bi()).await;
        let streams = opened.map_err(|_| TransportError::TooSlow { limit })??;
        Ok(SessionStream::new(streams, slot, self.context(true)))
    }

    /// Waits for the peer to open a session stream. One task should do this for each connection.
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

    /// Whether a session is under way, so that another would be answered `busy`.
    pub fn is_busy(&self) -> bool {
        self.inner.slot.is_taken()
    }

    /// Ends the connection and all that runs on it.
    pub fn close(&self, code: Code, reason: &str) {
        self.inner.quic.close(code.var_int(), reason.as_bytes());
    }

    /// Waits for the end of the connection; gives the reason.
    pub async fn closed(&self) -> TransportError {
        self.inner.quic.closed().await.into()
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.inner.quic.close_reason().is_some()
    }

    /// Whether both are handles of one connection.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Sends something that has to be acknowledged, so that a connection whose peer has restarted finds
    /// that out now and not at the next ping.
    pub(crate) fn probe(&self) {
        let quic = self.inner.quic.clone();
        tokio::spawn(async move {
            if let Ok(mut stream) = quic.open_uni().await {
                let _ = stream.write_all(&[0]).await;
                let _ = stream.finish();
            }
        });
    }

    /// The QUIC connection, to watch its end without keeping it open.
    pub(crate) fn quic(&self) -> &quinn::Connection {
        &self.inner.quic
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The task that takes streams holds a handle, too: without this it would keep the connection open.
        self.quic.close(Code::Closed.var_int(), b"");
    }
}

/// Takes every stream that the peer opens, at once: the first becomes the session, others are answered
/// `busy`, and unidirectional ones after the welcome carry nothing.
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
        // Errors mean that the peer has given the stream up already.
        let _ = send.reset(Code::Busy.var_int());
        let _ = recv.stop(Code::Busy.var_int());
    }
}
