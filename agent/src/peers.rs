//! The other replicas: staying connected with them, and syncing when the scheduler says so.

mod allowance;
mod book;
mod clocks;
mod company;
mod config;
mod diff;
pub(crate) mod directory;
mod lines;
mod members;
mod places;
mod request;
mod roots;
mod sessions;
#[cfg(test)]
mod sessions_tests;
mod target;
mod under_way;
mod unmet;
mod whereabouts;

use crate::address::Resolver;
use crate::clock::{self, Monotonic};
use crate::intake::Intake;
use crate::readiness::Standing;
use crate::report::transport_error;
use book::Book;
use clocks::PeerClocks;
pub(crate) use clocks::{ClockReason, offset_text};
pub(crate) use config::PeersConfig;
pub(crate) use directory::Directory;
use kvgossip_api::{ApiError, Holds, PeerRow, SyncReport};
use kvgossip_engine::scheduler::{Due, First, Scheduler};
use kvgossip_grants::ReplicaId;
use kvgossip_transport::{
    Access, AllowList, Code, Connection, ConnectionTable, Endpoint, Policy, Target, TransportError,
    Whereabouts, keep_connected,
};
use lines::{Lines, Whose};
use members::Dials;
use parking_lot::Mutex;
use places::Places;
use rand::SeedableRng;
pub(crate) use roots::KnownRoot;
use roots::Roots;
use sessions::Host;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
pub use target::{DEFAULT_SYNC_PORT, ParsePeerError, PeerTarget};
use tokio::sync::{Notify, broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use under_way::UnderWay;
use whereabouts::Listed;

/// How many reports a listener may be behind before it misses some.
const REPORT_BUFFER: usize = 1024;
/// How long a sync that a person asked for waits for a session under way with the same peer to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often peers are compared while this replica may lack what they hold.
const GAP_PAUSE: Duration = Duration::from_secs(1);

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
    /// Whether this replica can know what they know.
    standing: Arc<Standing>,
    host: Arc<Host>,
    scheduler: Mutex<Scheduler>,
    clock: Monotonic,
    /// What is known of the peers' clocks.
    clocks: PeerClocks,
    /// Wakes the scheduler's task.
    wake: Notify,
    places: Places,
    book: Book,
    /// Which log lines peers may still cause.
    lines: Mutex<Lines>,
    reports: broadcast::Sender<SyncReport>,
    listed: Vec<Arc<Listed>>,
    resolver: Resolver,
    /// Whether this replica was told of members to join.
    joins: bool,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Peers {
    /// Binds the QUIC socket and starts dialling, serving and scheduling.
    pub(crate) fn start(
        config: PeersConfig,
        intake: Intake,
        directory: Arc<Directory>,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) -> Result<Self, TransportError> {
        let members = directory.clone();
        let policy = Policy::new(config.allowed)
            .vouched_by(move |peer| members.vouches_for(peer))
            .open_read(config.open_read);
        let policy = Arc::new(policy);
        let limits = config.limits;
        let endpoint = Endpoint::bind_filtered(
            config.address,
            config.replica_key,
            policy.clone(),
            limits.clone(),
            config.link_filter,
        )?;
        let clock = Monotonic::start();
        let root = intake.store().view().root();
        let resolver = config.resolver;
        let listed = config.listed.into_iter().map(|peer| Arc::new(Listed::new(peer, resolver.clone())));
        let listed = listed.collect();
        let standing = Arc::new(Standing::new(config.readiness));
        let places = Places::new(limits.max_sessions);
        let inner = Inner {
            address: endpoint.local_addr()?,
            table: ConnectionTable::new(limits),
            policy,
            directory,
            dials: Dials::default(),
            roots: Roots::new(root),
            host: Arc::new(Host::new(intake)),
            standing,
            scheduler: Mutex::new(Scheduler::new(endpoint.id(), root, random(), clock.now_us())),
            clock,
            clocks: PeerClocks::new(config.clock, clock),
            wake: Notify::new(),
            places,
            book: Book::default(),
            lines: Mutex::default(),
            reports: broadcast::Sender::new(REPORT_BUFFER),
            listed,
            resolver,
            joins: config.joins,
            tasks: tasks.clone(),
            stop: stop.clone(),
            endpoint,
        };
        let peers = Self { inner: Arc::new(inner) };
        peers.spawn_dialers();
        peers.spawn(Self::accept);
        peers.spawn(Self::schedule);
        peers.spawn(Self::close_gap);
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
        for listed in self.inner.listed.clone() {
            self.spawn(|peers| async move {
                let expected = listed.target.id;
                let target = Target { address: listed, expected };
                peers.stay_connected(target, First::Session, CancellationToken::new()).await;
            });
        }
    }

    /// Dials the target whenever no connection with it stands, and serves what comes of it, until it is cancelled.
    async fn stay_connected<W: Whereabouts>(
        &self,
        target: Target<W>,
        first: First,
        cancelled: CancellationToken,
    ) {
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
                    match self.inner.lines.lock().allow_news(Whose::Peer(peer), self.inner.clock.elapsed()) {
                        None => tracing::debug!(%peer, %address, "a peer connected"),
                        Some(suppressed) => {
                            tracing::info!(%peer, %address, suppressed, "a peer connected");
                        }
                    }
                    let member = self.inner.directory.is_live(&peer);
                    self.serve(connection, if member { First::Gossip } else { First::TheirSession });
                }
                Err(error) => tracing::debug!(%peer, %address, code = %error.code(), "not kept: {error}"),
            }
        }
    }

    /// Serves the sessions that the peer opens, for as long as the connection stands.
    fn serve(&self, connection: Connection, first: First) {
        let (peer, number) = (connection.peer(), connection.number());
        // Gossip, which takes it for failed, would not find out what it holds.
        let failed = first == First::Gossip && !self.inner.directory.is_live(&peer);
        let first = if failed { First::Session } else { first };
        if connection.access() == Access::Full {
            let mut scheduler = self.inner.scheduler.lock();
            // Another connection may have taken its place already, and that one counts.
            if self.inner.table.get(&peer).is_some_and(|now| now.is_same(&connection)) {
                scheduler.peer_up(peer, number, first, self.inner.clock.now_us());
            }
            drop(scheduler);
            self.inner.wake.notify_one();
        }
        let serving = self.serving(connection.clone());
        self.spawn(move |peers| async move {
            let ended = peers.serve_sessions(&connection).await;
            drop(serving);
            if peers.inner.table.get(&peer).is_none_or(|now| now.is_same(&connection)) {
                let code = ended.code();
                match peers.inner.lines.lock().allow_news(Whose::Peer(peer), peers.inner.clock.elapsed()) {
                    None => tracing::debug!(%peer, %code, "a peer is gone: {ended}"),
                    Some(suppressed) => tracing::info!(%peer, %code, suppressed, "a peer is gone: {ended}"),
                }
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
            self.inner.scheduler.lock().root_changed(root, self.inner.clock.now_us());
            while let Some((due, under_way)) = self.next_due() {
                self.begin_due(due, under_way);
            }
            let next =
                self.inner.clock.instant(self.inner.scheduler.lock().poll_timeout(self.inner.clock.now_us()));
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => {}
                () = self.inner.wake.notified() => {}
                changed = batches.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Has connected peers compared as long as this replica may lack what they hold, and keeps what is known of that.
    async fn close_gap(self) {
        loop {
            tokio::time::sleep(GAP_PAUSE).await;
            if self.inner.standing.gap().is_some() {
                self.inner.scheduler.lock().compare_all();
                self.inner.wake.notify_one();
            }
            let standing = self.inner.standing.clone();
            // It ends with the process at the latest.
            drop(tokio::task::spawn_blocking(move || standing.save(false)).await);
        }
    }

    fn begin_due(&self, due: Due, under_way: UnderWay) {
        let peer = due.peer;
        let fits = |connection: &Connection| connection.number() == due.connection;
        let connection = self.inner.table.get(&peer).filter(fits);
        self.spawn(move |peers| async move {
            match connection {
                Some(connection) => peers.begin(&connection, under_way, due.cause.into()).await,
                None => peers.inner.scheduler.lock().peer_down(&due.peer, due.connection),
            }
        });
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
            self.inner.scheduler.lock().is_equal(peer, &root)
        };
        let failure = |listed: &Listed| match listed.last_found() {
            Ok(found) => {
                let (code, message) = found.iter().find_map(|at| self.inner.endpoint.last_failure(at))?;
                Some(error(code.name(), message))
            }
            Err(why) => Some(error("peer.cannot_dial", why)),
        };
        let mut rows = self.inner.book.rows(&self.inner.listed, &self.inner.table.list(), equal, failure);
        for row in &mut rows {
            let id = row.id.as_ref().and_then(|id| id.parse().ok());
            row.clock_offset_us = id.and_then(|id| self.clock_offset_us(&id));
            // What a replica holds is not known once its members have failed, though the connection may not have ended yet.
            let there = id.filter(|id| !self.has_failed(id));
            (row.holds, row.holds_since_us) = holds(there.and_then(|id| self.known_root(&id)));
            row.equal &= id.is_none() || there.is_some();
        }
        rows
    }

    /// A report of each session that ends from now on, whoever began it.
    pub fn reports(&self) -> broadcast::Receiver<SyncReport> {
        self.inner.reports.subscribe()
    }

    /// What could not be taken in or sent may go now.
    pub(crate) fn retry_stuck(&self) {
        self.inner.scheduler.lock().retry_stuck(self.inner.clock.now_us());
        self.inner.wake.notify_one();
    }

    /// Exchanges the list of admitted replicas; connections that it no longer admits are closed.
    pub fn set_allowed(&self, allowed: AllowList) {
        self.inner.policy.set_allowed(allowed);
        self.inner.table.enforce(self.inner.policy.as_ref());
    }

    /// Whether this replica can know what its peers know.
    pub(crate) fn standing(&self) -> &Arc<Standing> {
        &self.inner.standing
    }

    /// Tells all peers that this replica goes.
    pub async fn close(&self) {
        self.inner.table.close_all(Code::Shutdown, "the agent stops");
        self.inner.endpoint.close(Code::Shutdown, "the agent stops").await;
    }
}

/// What is known of a replica's root, in the API's form.
pub(crate) fn holds(known: Option<KnownRoot>) -> (Holds, Option<u64>) {
    let Some(known) = known else { return (Holds::Unknown, None) };
    let holds = if known.is_same() { Holds::Same } else { Holds::Differs };
    (holds, Some(known.since.as_micros()))
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
