//! The other replicas: staying connected with them, and syncing when the scheduler says so.

mod book;
mod diff;
mod members;
mod places;
mod roots;
mod sessions;

use crate::clock::{self, Monotonic};
use crate::config::{Config, PeerTarget};
use crate::gossip::Directory;
use crate::intake::Intake;
use crate::metrics::SessionCause;
use crate::report::transport_error;
use book::Book;
use kvgossip_api::{ApiError, PeerRow, SyncReport};
use kvgossip_engine::scheduler::{Due, First, Scheduler};
use kvgossip_grants::PathPrefix;
use kvgossip_transport::{
    Access, AllowList, Code, Connection, ConnectionTable, Endpoint, Policy, ReplicaId, Target,
    TransportError, keep_connected,
};
use members::Dials;
use places::Places;
use rand::SeedableRng;
use roots::Roots;
use sessions::Host;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How many reports a listener may be behind before it misses some.
const REPORT_BUFFER: usize = 1024;
/// How long a sync that a person asked for waits for a session under way with the same peer to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The other replicas. Clones share it.
#[derive(Clone)]
pub struct Peers {
    inner: Arc<Inner>,
}

struct Inner {
    endpoint: Endpoint,
    address: SocketAddr,
    table: ConnectionTable,
    policy: Arc<Policy>,
    /// Which replicas are live members of the cluster.
    directory: Arc<Directory>,
    /// Whom membership has this replica dial.
    dials: Dials,
    /// What is known of the others' roots.
    roots: Roots,
    host: Arc<Host>,
    scheduler: Mutex<Scheduler>,
    clock: Monotonic,
    /// Wakes the scheduler's task.
    wake: Notify,
    places: Places,
    book: Book,
    reports: broadcast::Sender<SyncReport>,
    targets: Vec<PeerTarget>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Peers {
    /// Binds the QUIC socket and starts dialling, serving and scheduling.
    pub(crate) fn start(
        config: &Config,
        intake: Intake,
        directory: Arc<Directory>,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) -> Result<Self, TransportError> {
        let members = directory.clone();
        let policy = Policy::new(config.allowed.clone())
            .vouched_by(move |peer| members.vouches_for(peer))
            .open_read(config.open_read);
        let policy = Arc::new(policy);
        let limits = config.limits.clone();
        let endpoint = Endpoint::bind_filtered(
            config.sync,
            config.replica_key.clone(),
            policy.clone(),
            limits.clone(),
            config.link_filter.clone(),
        )?;
        let clock = Monotonic::start();
        let root = intake.store().view().root();
        let inner = Inner {
            address: endpoint.local_addr()?,
            table: ConnectionTable::new(limits),
            policy,
            directory,
            dials: Dials::default(),
            roots: Roots::new(root),
            host: Arc::new(Host::new(intake)),
            scheduler: Mutex::new(Scheduler::new(*endpoint.id().as_bytes(), root, random(), clock.now_us())),
            clock,
            wake: Notify::new(),
            places: Places::new(),
            book: Book::default(),
            reports: broadcast::Sender::new(REPORT_BUFFER),
            targets: config.peers.clone(),
            tasks: tasks.clone(),
            stop: stop.clone(),
            endpoint,
        };
        let peers = Self { inner: Arc::new(inner) };
        peers.spawn_dialers();
        peers.spawn(Self::accept);
        peers.spawn(Self::schedule);
        Ok(peers)
    }

    /// Runs a task until the agent stops.
    fn spawn<F>(&self, task: impl FnOnce(Self) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.inner.stop.clone();
        let future = task(self.clone());
        self.inner.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = future => {}
            }
        });
    }

    fn spawn_dialers(&self) {
        for target in self.inner.targets.clone() {
            self.spawn(|peers| async move {
                let target = Target { address: target.address, expected: target.id };
                peers.stay_connected(target, First::Session, CancellationToken::new()).await;
            });
        }
    }

    /// Dials the target whenever no connection with it stands, and serves what comes of it, until it is cancelled.
    async fn stay_connected(&self, target: Target, first: First, cancelled: CancellationToken) {
        let (up, mut connected) = mpsc::channel::<Connection>(1);
        let rng = rand::rngs::StdRng::seed_from_u64(random());
        let (endpoint, table) = (self.inner.endpoint.clone(), self.inner.table.clone());
        let serve = async {
            while let Some(connection) = connected.recv().await {
                self.serve(connection, first);
            }
        };
        tokio::select! {
            () = cancelled.cancelled() => {}
            () = keep_connected(endpoint, table, target, rng, up) => {}
            () = serve => {}
        }
        // What was made in the last moment stands in the table: somebody has to serve it.
        while let Ok(connection) = connected.try_recv() {
            self.serve(connection, first);
        }
    }

    async fn accept(self) {
        while let Some(connection) = self.inner.endpoint.accept().await {
            let (peer, address) = (connection.peer(), connection.address());
            match self.inner.table.insert(connection.clone()) {
                Ok(()) => {
                    tracing::info!(%peer, %address, "a peer connected");
                    let member = self.inner.directory.vouches_for(&peer);
                    self.serve(connection, if member { First::Gossip } else { First::TheirSession });
                }
                Err(error) => tracing::debug!(%peer, %address, code = %error.code(), "not kept: {error}"),
            }
        }
    }

    /// Serves the sessions that the peer opens, for as long as the connection stands.
    fn serve(&self, connection: Connection, first: First) {
        let (peer, number) = (connection.peer(), connection.number());
        if connection.access() == Access::Full {
            let mut scheduler = self.scheduler();
            // Another connection may have taken its place already, and that one counts.
            if self.inner.table.get(&peer).is_some_and(|now| now.is_same(&connection)) {
                scheduler.peer_up(*peer.as_bytes(), number, first, self.inner.clock.now_us());
            }
            drop(scheduler);
            self.inner.wake.notify_one();
        }
        self.spawn(move |peers| async move {
            let ended = peers.serve_sessions(&connection).await;
            peers.scheduler().peer_down(peer.as_bytes(), number);
            if peers.inner.table.get(&peer).is_none_or(|now| now.is_same(&connection)) {
                tracing::info!(%peer, code = %ended.code(), "a peer is gone: {ended}");
                peers.inner.book.note_error(peer, transport_error(&ended));
            }
        });
    }

    /// Begins sessions when they are due.
    async fn schedule(self) {
        let mut batches = self.inner.host.store().batches();
        loop {
            let root = self.inner.host.store().view().root();
            self.inner.roots.own_changed(root, clock::now());
            let due = {
                let mut scheduler = self.scheduler();
                let now = self.inner.clock.now_us();
                scheduler.root_changed(root, now);
                let mut due = Vec::new();
                while let Some(session) = scheduler.poll(now) {
                    scheduler.session_started(&session.peer, session.connection, now);
                    due.push(session);
                }
                due
            };
            due.into_iter().for_each(|session| self.begin(session));
            let next = self.inner.clock.instant(self.scheduler().poll_timeout(self.inner.clock.now_us()));
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => {}
                () = self.inner.wake.notified() => {}
                changed = batches.changed() => if changed.is_err() { return },
            }
        }
    }

    fn begin(&self, due: Due) {
        let peer = ReplicaId::from_bytes(due.peer);
        let fits = |connection: &Connection| connection.number() == due.connection;
        let connection = self.inner.table.get(&peer).filter(fits);
        self.spawn(move |peers| async move {
            match connection {
                Some(connection) => {
                    drop(peers.initiate(&connection, PathPrefix::root(), due.cause.into()).await);
                }
                None => peers.scheduler().peer_down(&due.peer, due.connection),
            }
        });
    }

    /// Syncs with a peer now: `[ID@]ADDR:PORT`, or the beginning (8 digits or more) of a connected peer's id.
    pub async fn sync_with(&self, peer: &str, prefix: PathPrefix) -> Result<SyncReport, ApiError> {
        let (connection, is_new) = self.find(peer).await?;
        if is_new {
            // The report is of the session that was asked for: the scheduler hears of the peer only afterwards.
            let report = self.initiate(&connection, prefix, SessionCause::Request).await;
            self.serve(connection, First::Session);
            return report.map_err(|error| transport_error(&error));
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let busy = match self.initiate(&connection, prefix.clone(), SessionCause::Request).await {
                Ok(report) if !report.reasons.iter().any(|code| code == Code::Busy.name()) => {
                    return Ok(report);
                }
                Ok(report) => Ok(report),
                Err(error) if error.code() == Code::Busy => Err(transport_error(&error)),
                Err(error) => return Err(transport_error(&error)),
            };
            if Instant::now() >= deadline {
                return busy;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A connection with the peer, and whether it was made for this.
    async fn find(&self, peer: &str) -> Result<(Connection, bool), ApiError> {
        let table = &self.inner.table;
        let is_id = peer.len() >= 8 && peer.bytes().all(|b| b.is_ascii_hexdigit());
        if is_id {
            let begins = |connection: &Connection| connection.peer().to_string().starts_with(peer);
            let mut found = table.list().into_iter().filter(begins);
            return match (found.next(), found.next()) {
                (Some(connection), None) => Ok((connection, false)),
                (Some(_), Some(_)) => {
                    Err(error("peer.ambiguous", format!("several peers' ids begin with {peer}")))
                }
                (None, _) => {
                    Err(error("peer.not_connected", format!("no connected peer's id begins with {peer}")))
                }
            };
        }
        let target: PeerTarget = peer.parse().map_err(|why| error("peer.malformed", format!("{why}")))?;
        let fits = |connection: &Connection| {
            connection.address() == target.address && target.id.is_none_or(|id| id == connection.peer())
        };
        if let Some(connection) = table.list().into_iter().find(fits) {
            return Ok((connection, false));
        }
        let dialled = self.inner.endpoint.connect(target.address, target.id).await;
        let connection = dialled.map_err(|why| transport_error(&why))?;
        match table.insert(connection.clone()) {
            Ok(()) => Ok((connection, true)),
            Err(TransportError::Duplicate { peer }) => {
                let found = table.get(&peer).map(|connection| (connection, false));
                found.ok_or_else(|| error("connection.lost", format!("{peer} is gone again")))
            }
            Err(why) => Err(transport_error(&why)),
        }
    }

    /// This replica's id.
    pub fn id(&self) -> ReplicaId {
        self.inner.endpoint.id()
    }

    /// Where sessions are taken.
    pub fn address(&self) -> SocketAddr {
        self.inner.address
    }

    /// Every listed or connected peer.
    pub fn rows(&self) -> Vec<PeerRow> {
        let equal = |peer: &ReplicaId| {
            let root = self.inner.host.store().view().root();
            self.scheduler().is_equal(peer.as_bytes(), &root)
        };
        let failure = |address: &SocketAddr| {
            let (code, message) = self.inner.endpoint.last_failure(address)?;
            Some(error(code.name(), message))
        };
        self.inner.book.rows(&self.inner.targets, &self.inner.table.list(), equal, failure)
    }

    /// A report of each session that ends from now on, whoever began it.
    pub fn reports(&self) -> broadcast::Receiver<SyncReport> {
        self.inner.reports.subscribe()
    }

    /// Exchanges the list of admitted replicas; connections that it no longer admits are closed.
    pub fn set_allowed(&self, allowed: AllowList) {
        self.inner.policy.set_allowed(allowed);
        self.inner.table.enforce(self.inner.policy.as_ref());
    }

    /// Tells all peers that this replica goes.
    pub async fn close(&self) {
        self.inner.table.close_all(Code::Shutdown, "the agent stops");
        self.inner.endpoint.close(Code::Shutdown, "the agent stops").await;
    }

    fn scheduler(&self) -> MutexGuard<'_, Scheduler> {
        // Every method leaves the scheduler whole, so a panic elsewhere does no harm.
        self.inner.scheduler.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn error(code: &str, message: String) -> ApiError {
    ApiError { code: code.into(), message }
}

/// Eight random bytes of the system.
pub(crate) fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without the system's generator nothing secret could be made either; TLS would have failed before.
    if getrandom::fill(&mut bytes).is_err() {
        tracing::error!("the system gives no random bytes");
    }
    u64::from_le_bytes(bytes)
}
