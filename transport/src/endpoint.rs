//! UDP socket of a replica: dials peers and accepts their connections.

use crate::acceptor;
use crate::admission::{Admission, Direction};
use crate::code::Code;
use crate::conduct::Conduct;
use crate::config::{Configs, endpoint_config};
use crate::connection::{Connection, Established};
use crate::error::TransportError;
use crate::failures::Failures;
use crate::instance::Instance;
use crate::key::ReplicaKey;
use crate::limits::{ACCEPT_QUEUE, CLOSE_TIMEOUT, Limits};
use crate::link::{self, LinkFilter};
use crate::log_limit::LogLimit;
use crate::offenders::ShutOut;
use crate::pending::Pending;
use crate::refused::RefusedPeer;
use crate::shared::{Counters, Shared, admitted, explain};
use crate::welcome;
use kvgossip_grants::ReplicaId;
use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, timeout};

/// Counters of an endpoint since it was bound; `pending` is the current number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointStats {
    /// Number of incoming handshakes in progress now.
    pub pending: usize,
    /// Number of incoming handshakes that were admitted.
    pub accepted: u64,
    /// Number of incoming handshakes that failed: refused, too slow, or not speaking the protocol.
    pub failed: u64,
    /// Number of first packets answered with a Retry to validate the sender's address.
    pub retried: u64,
    /// Number of first packets refused because too many handshakes were in progress.
    pub turned_away: u64,
}

/// Bound UDP socket with a replica's key. Clones share it; it closes when the last clone is dropped.
#[derive(Clone)]
pub struct Endpoint {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    ready: Mutex<mpsc::Receiver<Connection>>,
    failures: Failures,
}

impl Endpoint {
    /// Binds `address` as the replica of `key`. Port 0 selects a free port. Needs a tokio runtime.
    pub fn bind(
        address: SocketAddr,
        key: ReplicaKey,
        admission: Arc<dyn Admission>,
        limits: Limits,
    ) -> Result<Self, TransportError> {
        Self::bind_filtered(address, key, admission, limits, None)
    }

    /// Like [`Endpoint::bind`], with an optional filter that drops datagrams: fault injection for tests and
    /// demonstrations.
    pub fn bind_filtered(
        address: SocketAddr,
        key: ReplicaKey,
        admission: Arc<dyn Admission>,
        limits: Limits,
        filter: Option<LinkFilter>,
    ) -> Result<Self, TransportError> {
        let bind = |source| TransportError::Bind { address, source };
        let socket = UdpSocket::bind(address).map_err(bind)?;
        let configs = Configs::new(key, admission, &limits)?;
        let quic = quinn::Endpoint::new_with_abstract_socket(
            endpoint_config(configs.key()),
            Some(configs.default_server()),
            link::wrap(socket, filter).map_err(bind)?,
            Arc::new(quinn::TokioRuntime),
        )
        .map_err(bind)?;
        let shared = Arc::new(Shared {
            quic,
            configs,
            pending: Pending::new(&limits),
            conduct: Conduct::new(&limits),
            limits,
            counters: Counters::default(),
            log: LogLimit::new(),
            dial_log: LogLimit::new(),
        });
        let (sender, ready) = mpsc::channel(ACCEPT_QUEUE);
        tokio::spawn(acceptor::run(Arc::clone(&shared), sender));
        Ok(Self {
            inner: Arc::new(Inner { shared, ready: Mutex::new(ready), failures: Failures::default() }),
        })
    }

    /// Id of this replica.
    pub fn id(&self) -> ReplicaId {
        self.inner.shared.configs.key().id()
    }

    /// Instance number of this endpoint; other endpoints with the same replica key have another number.
    pub fn instance(&self) -> Instance {
        self.inner.shared.configs.instance()
    }

    /// Rate limit for log lines about this endpoint's dials.
    pub(crate) fn dial_log(&self) -> &LogLimit {
        &self.inner.shared.dial_log
    }

    /// Address of the endpoint's UDP socket, with the port that was bound.
    pub fn local_addr(&self) -> Result<SocketAddr, TransportError> {
        let address = self.inner.shared.quic.local_addr();
        address.map_err(|error| TransportError::Setup(format!("the socket has no address: {error}")))
    }

    /// Dials `expected`, or any admitted replica if it is `None`.
    ///
    /// Returns once the peer has confirmed that it admits us, one round trip after QUIC's handshake. Fails
    /// within [`Limits::handshake_timeout`] with the reason.
    pub async fn connect(
        &self,
        address: SocketAddr,
        expected: Option<ReplicaId>,
    ) -> Result<Connection, TransportError> {
        let dialled = self.dial(address, expected).await;
        let failure = dialled.as_ref().err().map(|error| (error.code(), error.to_string()));
        self.inner.failures.note(address, failure);
        if let Ok(connection) = &dialled {
            self.inner.shared.conduct.note_outbound(&connection.peer());
        }
        dialled
    }

    /// Returns the code and text of the failure of the last dial of an address; `None` after a success, without
    /// a dial, or if the failure has been forgotten in favour of other addresses.
    pub fn last_failure(&self, address: &SocketAddr) -> Option<(Code, String)> {
        self.inner.failures.of(address)
    }

    async fn dial(
        &self,
        address: SocketAddr,
        expected: Option<ReplicaId>,
    ) -> Result<Connection, TransportError> {
        let shared = &self.inner.shared;
        expected.map_or(Ok(()), |peer| shared.conduct.check(&peer))?;
        let direction = Direction::Outbound { expected };
        let (config, outcome) = shared.configs.client(direction)?;
        let (began, met) = (Instant::now(), shared.configs.met_itself());
        let name = shared.configs.instance().server_name();
        let connecting = shared.quic.connect_with(config, address, &name).map_err(|error| match error {
            quinn::ConnectError::EndpointStopping => TransportError::ClosedHere,
            error => TransportError::CannotDial { address, reason: error.to_string() },
        })?;
        let dial = async {
            let quic = connecting.await?;
            let welcome = welcome::receive(&quic).await?;
            Ok((quic, welcome))
        };
        let limit = shared.limits.handshake_timeout;
        let (quic, welcome) = match timeout(limit, dial).await {
            Ok(done) => done.map_err(|error| {
                let is_itself = shared.configs.met_itself() != met;
                itself_or_a_clone(explain(error, &outcome, address), is_itself)
            })?,
            Err(_) => return Err(TransportError::HandshakeTimeout { address, limit }),
        };
        let (peer, access) = admitted(&outcome, address)?;
        shared.refuse_offender(&quic, &peer)?;
        let local = self.id();
        let (granted, instance) = (welcome.granted, welcome.instance);
        let facts = Established { local, peer, instance, direction, access, granted, began };
        Ok(Connection::new(quic, facts, shared.limits.clone(), shared.conduct.clone()))
    }

    /// Waits for the next admitted peer that dialled in; `None` once the endpoint is closed.
    pub async fn accept(&self) -> Option<Connection> {
        self.inner.ready.lock().await.recv().await
    }

    /// Lists the replicas that are shut out now because they misbehaved, in order of their ids.
    pub fn shut_out(&self) -> Vec<ShutOut> {
        self.inner.shared.conduct.list()
    }

    /// Lists replicas that dialled in within the last [`REFUSED_FOR`](crate::REFUSED_FOR), proved their keys,
    /// and were refused; the latest first.
    pub fn refused(&self) -> Vec<RefusedPeer> {
        self.inner.shared.conduct.list_refused()
    }

    /// Number of shut-outs so far, by the code of the offence.
    pub fn offences(&self) -> BTreeMap<Code, u64> {
        self.inner.shared.conduct.counts()
    }

    /// Returns the endpoint's counters so far.
    pub fn stats(&self) -> EndpointStats {
        let Shared { pending, counters, .. } = &*self.inner.shared;
        EndpointStats {
            pending: pending.len(),
            accepted: counters.accepted.load(Ordering::Relaxed),
            failed: counters.failed.load(Ordering::Relaxed),
            retried: counters.retried.load(Ordering::Relaxed),
            turned_away: counters.turned_away.load(Ordering::Relaxed),
        }
    }

    /// Closes every connection with this code and reason, and waits until the peers have confirmed it, at most
    /// [`CLOSE_TIMEOUT`]: a peer that does not answer would otherwise delay the end for the whole idle timeout.
    pub async fn close(&self, code: Code, reason: &str) {
        self.inner.shared.quic.close(code.var_int(), reason.as_bytes());
        if timeout(CLOSE_TIMEOUT, self.inner.shared.quic.wait_idle()).await.is_err() {
            tracing::debug!(limit = ?CLOSE_TIMEOUT, "some peers did not answer that this replica closes");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The accepting task holds a handle of its own; this ends it.
        self.shared.quic.close(Code::Shutdown.var_int(), b"");
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("id", &self.id()).field("stats", &self.stats()).finish()
    }
}

/// Distinguishes the two cases of a peer with this replica's own key: the endpoint dialled itself if it
/// received a handshake from itself meanwhile; otherwise another process has the key.
fn itself_or_a_clone(error: TransportError, is_itself: bool) -> TransportError {
    match error {
        TransportError::Refused { peer, address, code: Code::OwnKey, .. } if !is_itself => {
            let reason = "another process there has this replica's own key".into();
            TransportError::Refused { peer, address, code: Code::Cloned, reason }
        }
        error => error,
    }
}
