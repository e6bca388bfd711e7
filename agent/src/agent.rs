//! The agent as a whole.

mod ahead;
mod descriptors;
mod discovery;
mod first_sync;
mod health;
mod listeners;
mod long_keys;
mod store_row;

pub(crate) use health::REASON_CODES;
use listeners::Listeners;

use crate::clock;
use crate::committer::{self, Condition, Store};
use crate::condition::Precondition;
use crate::config::Config;
use crate::error::{StartError, WriteError, unfinished};
use crate::gossip::{Directory, Gossip, GossipError};
use crate::http::{HttpLimits, ServerTls};
use crate::intake::{Intake, Origin};
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::readiness::FirstSync;
use crate::rights::Rights;
use crate::waiting::offer_when_due;
use crate::watch::Hub;
use bytes::Bytes;
use kvgossip_api::{ApiError, SyncReport};
use kvgossip_engine::{Failure, Replica, Storage, StorageError};
use kvgossip_grants::{
    Code, EntryDraft, EntryFact, Explanation, Fact, Key, PathPrefix, Signer, SigningKey, Timestamp, Verdict,
};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// From the call of [`Agent::stop`] to its end, whatever peers, clients and the disk do.
pub const STOP_LIMIT: Duration = Duration::from_millis(4500);

/// How often a write under the agent's identity is stamped anew when another one came in between.
const MAX_STAMPS: usize = 8;

/// A running agent. Clones share it.
#[derive(Clone)]
pub struct Agent {
    inner: Arc<Inner>,
}

struct Inner {
    intake: Intake,
    peers: Peers,
    gossip: Option<Gossip>,
    hub: Hub,
    identity: Option<Arc<SigningKey>>,
    rights: Rights,
    http_hosts: Vec<String>,
    max_value_bytes: usize,
    http_limits: HttpLimits,
    tls: Option<ServerTls>,
    store_dir: Option<PathBuf>,
    store_limit: Option<u64>,
    weights: store_row::Weights,
    ahead: Arc<ahead::Ahead>,
    http: Option<SocketAddr>,
    socket: Option<PathBuf>,
    started_at: Timestamp,
    stop: CancellationToken,
    tasks: TaskTracker,
    committer: Mutex<Option<JoinHandle<()>>>,
}

impl Agent {
    /// Starts an agent on a store. It serves as soon as this returns.
    pub async fn start(config: Config, storage: Box<dyn Storage>) -> Result<Self, StartError> {
        let replica = Replica::load(config.root.clone(), storage.as_ref())?;
        Self::start_loaded(config, replica, storage).await
    }

    /// The same, with what was [loaded](crate::open_store) from the store.
    pub async fn start_loaded(
        mut config: Config,
        replica: Replica,
        storage: Box<dyn Storage>,
    ) -> Result<Self, StartError> {
        let listeners = Listeners::bind(&config).await?;
        descriptors::ensure(&config);
        let metrics = Metrics::new();
        let limit = config.max_store_bytes;
        let started = committer::start(replica, storage, config.patience, metrics.commit(), limit);
        let (store, committer) = started.map_err(StartError::Thread)?;
        let mut intake = Intake::new(store, metrics).with_clock(config.clock.clone());
        if let Some(declined) = config.declined.take() {
            intake = intake.with_declined(declined);
        }
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let started = Self::start_network(&config, intake.clone(), &stop, &tasks).await;
        let (peers, gossip) = started.inspect_err(|_| {
            stop.cancel();
            if let Some(socket) = &config.socket {
                // Nobody would answer there.
                let _ = std::fs::remove_file(socket);
            }
        })?;
        let hub = Hub::start(&intake, peers.id().to_string(), &stop, &tasks);
        tasks.spawn(long_keys::warn(intake.store().clone(), stop.clone()));
        tasks.spawn(look_again(
            intake.store().clone(),
            hub.clone(),
            peers.clone(),
            config.patience.room,
            stop.clone(),
        ));
        tasks.spawn(retry_when_there_is_room(intake.store().clone(), peers.clone(), stop.clone()));
        tasks.spawn(offer_when_due(intake.clone(), peers.clone(), config.clock.clone(), stop.clone()));
        let ahead = Arc::<ahead::Ahead>::default();
        let (store, clock) = (intake.store().clone(), config.clock.clone());
        tasks.spawn(ahead::follow(ahead.clone(), store, clock, stop.clone()));
        let asks_certificates = config.tls.as_ref().is_some_and(ServerTls::asks_certificates);
        let inner = Inner {
            intake,
            peers,
            gossip,
            hub,
            identity: config.identity.map(Arc::new),
            rights: Rights::new(config.token.as_deref(), config.read_token.as_deref(), asks_certificates),
            http_hosts: config.http_hosts,
            max_value_bytes: config.max_value_bytes,
            http_limits: config.http_limits,
            tls: config.tls,
            store_dir: config.store_dir,
            store_limit: limit,
            weights: store_row::Weights::default(),
            ahead,
            http: listeners.http,
            socket: config.socket,
            started_at: clock::now(),
            stop: stop.clone(),
            tasks: tasks.clone(),
            committer: Mutex::new(Some(committer)),
        };
        let agent = Self { inner: Arc::new(inner) };
        for listener in listeners.all {
            tasks.spawn(listener.serve(agent.clone(), stop.clone()));
        }
        Ok(agent)
    }

    /// Sessions with others, and gossip.
    async fn start_network(
        config: &Config,
        intake: Intake,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) -> Result<(Peers, Option<Gossip>), StartError> {
        let directory = Arc::new(Directory::default());
        let peers = Peers::start(config, intake, directory.clone(), stop, tasks)?;
        let Some(gossip) = config.gossip.clone() else { return Ok((peers, None)) };
        let cluster = config.root.cluster();
        let known = (directory, config.resolver.clone());
        let gossip = Gossip::start(gossip, cluster, &peers, known, stop, tasks).await?;
        Ok((peers, Some(gossip)))
    }

    /// Stops the agent within [`STOP_LIMIT`]: it takes no new work, ends its work under way, closes the store and removes the
    /// socket.
    pub async fn stop(self) {
        self.stop_by(Instant::now() + STOP_LIMIT).await;
    }

    /// The same up to a deadline. What has not ended by then is left to the end of the process: everything acknowledged is
    /// durable.
    pub async fn stop_by(self, deadline: Instant) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        let network = async { tokio::join!(self.inner.peers.close(), self.inner.tasks.wait()) };
        if timeout_at(deadline, network).await.is_err() {
            tracing::warn!("some work did not end in time, and is left");
        }
        let (socket, standing) = (self.inner.socket.clone(), self.inner.peers.standing().clone());
        let files = tokio::task::spawn_blocking(move || {
            if let Some(socket) = socket {
                // It may have been taken away already.
                let _ = std::fs::remove_file(socket);
            }
            standing.save(true);
        });
        if timeout_at(deadline, files).await.is_err() {
            tracing::warn!("the disk does not answer: what was compared since the last minute is not kept");
        }
        let committer = self.inner.committer.lock().take();
        drop(self);
        if let Some(committer) = committer {
            // It ends when the last handle is dropped; a handle kept elsewhere keeps the store open.
            let joined = timeout_at(deadline, tokio::task::spawn_blocking(move || committer.join())).await;
            if joined.is_err() {
                tracing::warn!(
                    "the store is not closed yet, and is left: everything acknowledged is durable"
                );
            }
        }
    }

    /// The state and its feeds.
    pub fn store(&self) -> &Store {
        self.inner.intake.store()
    }

    /// The way in for facts.
    pub fn intake(&self) -> &Intake {
        &self.inner.intake
    }

    /// The other replicas.
    pub fn peers(&self) -> &Peers {
        &self.inner.peers
    }

    /// What the clock says that entries are stamped with.
    pub fn now(&self) -> Timestamp {
        self.inner.intake.now()
    }

    /// Where keys are watched.
    pub fn hub(&self) -> &Hub {
        &self.inner.hub
    }

    /// What clients of the HTTP API may take.
    pub(crate) fn http_limits(&self) -> &HttpLimits {
        &self.inner.http_limits
    }

    /// What the HTTP API is served with on TCP, if not in clear.
    pub fn tls(&self) -> Option<&ServerTls> {
        self.inner.tls.as_ref()
    }

    /// The agent's part in gossip.
    pub fn gossip(&self) -> Result<&Gossip, GossipError> {
        self.inner.gossip.as_ref().ok_or(GossipError::Off)
    }

    /// Waits until somebody has this agent end (`serf leave`); for ever without gossip.
    pub async fn told_to_end(&self) {
        match &self.inner.gossip {
            Some(gossip) => gossip.told_to_end().await,
            None => std::future::pending().await,
        }
    }

    /// Where HTTP is served on TCP.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.inner.http
    }

    /// What requests over TCP may do.
    pub(crate) fn rights(&self) -> &Rights {
        &self.inner.rights
    }

    /// Whether HTTP is served under a name: one of the certificate's, or one that the operator named.
    pub(crate) fn serves_name(&self, name: &str) -> bool {
        let named = self.inner.http_hosts.iter().any(|host| host.eq_ignore_ascii_case(name));
        named || self.inner.tls.as_ref().is_some_and(|tls| tls.serves(name))
    }

    /// The entry that a reader of `key` sees now, with its value.
    pub async fn read(&self, key: &Key) -> Result<Option<EntryFact>, Failure> {
        let (key, store) = (key.clone(), self.store().clone());
        let read = move || {
            let now = store.snapshot();
            let Some(shown) = now.view.shown(&key, clock::now()) else { return Ok(None) };
            let record = now.reader.entry(&key, &shown.id)?;
            match record.map(|record| Fact::from_record(now.view.authority().cluster(), &record)) {
                Some(Ok(Fact::Entry(entry))) => Ok(Some(entry)),
                _ => Err(StorageError::Damaged(format!("the entry of {key} does not read"))),
            }
        };
        let done = tokio::task::spawn_blocking(read).await;
        Ok(done.map_err(|error| unfinished(&error, "a read of the store"))??)
    }

    /// Sets (or, without a value, unsets) a key under the agent's own identity.
    ///
    /// What `only_if` asks must hold of the entry that is shown at this agent at the moment of writing.
    pub async fn write(
        &self,
        key: Key,
        value: Option<Bytes>,
        only_if: Precondition,
    ) -> Result<EntryFact, WriteError> {
        let identity = self.inner.identity.clone().ok_or(WriteError::NoIdentity)?;
        if !only_if.is_empty() {
            self.check_complete()?;
        }
        let standing = self.inner.peers.clock_standing();
        if standing.is_contradicted() {
            return Err(WriteError::ClockContradicted(standing));
        }
        for _ in 0..MAX_STAMPS {
            let fact = self.sign(&identity, &key, value.clone()).await?;
            let offered = vec![Fact::Entry(fact.clone())];
            let waiting = self.inner.intake.waiting().clone();
            let condition = Condition { key: key.clone(), only_if: only_if.clone(), waiting };
            let condition = Some(condition).filter(|condition| !condition.only_if.is_empty());
            let verdicts = self.inner.intake.offer_if(offered, "put", self.direct(), condition).await?;
            match verdicts.first().copied() {
                // The same entry made twice at the same time is one entry.
                Some(Verdict::Merged | Verdict::Moot(Code::Known)) | None => return Ok(fact),
                // Another write came in between and took the same stamp, or a later one.
                Some(Verdict::Moot(Code::Dominated)) => {}
                Some(verdict) => return Err(WriteError::Verdict(verdict)),
            }
        }
        Err(WriteError::Verdict(Verdict::Moot(Code::Dominated)))
    }

    async fn sign(
        &self,
        identity: &Arc<SigningKey>,
        key: &Key,
        value: Option<Bytes>,
    ) -> Result<EntryFact, WriteError> {
        let (view, now) = (self.store().view(), self.now());
        let signer = identity.public().entity();
        let grant = match view.authority().explain(key, signer, now) {
            Explanation::Root => None,
            Explanation::Accepted(chain) => chain.last().map(|link| link.grant),
            Explanation::Rejected(chains) => {
                self.check_complete()?;
                let code = chains.first().map_or(Code::GrantUnknown, |chain| chain.code);
                let message = format!(
                    "{} may not write {key}: {}",
                    signer.short(),
                    if chains.is_empty() { "no grant to it is known here" } else { code.help() }
                );
                return Err(WriteError::NotAuthorised { code, message });
            }
        };
        let timestamp = view.stamp(key, grant.as_ref(), now);
        let draft = EntryDraft { key: key.clone(), value, timestamp, grant };
        let (identity, cluster) = (identity.clone(), view.authority().cluster());
        let sign = move || EntryFact::sign(cluster, draft, identity.as_ref());
        let signed = tokio::task::spawn_blocking(sign).await.map_err(|_| WriteError::Signing)?;
        signed.map_err(|error| match error.code() {
            Some(code) => WriteError::Verdict(Verdict::Refused(code)),
            None => WriteError::Signing,
        })
    }

    /// Refuses what would tell ignorance as absence: before the first comparison has ended.
    pub(crate) fn check_complete(&self) -> Result<(), FirstSync> {
        if self.inner.peers.standing().is_newcomer() { Err(FirstSync) } else { Ok(()) }
    }

    fn direct(&self) -> Origin {
        Origin::Direct { max_value_bytes: self.inner.max_value_bytes }
    }

    /// Takes in what its writer has just signed: facts, or the code of what could not be read as one. A verdict each.
    /// Beyond what [`Agent::offer_facts`] refuses, these are refused: chains that have expired, floors that reach into the
    /// future, and values over the agent's own limit.
    pub async fn put_facts(&self, facts: &[Result<Fact, Code>]) -> Result<Vec<Verdict>, Failure> {
        self.take_in(facts, self.direct()).await
    }

    /// Takes in facts that came whole, such as those of an export; a verdict each. They are judged like a peer's, so that a
    /// replica takes in all that another one holds.
    pub async fn offer_facts(&self, facts: &[Result<Fact, Code>]) -> Result<Vec<Verdict>, Failure> {
        self.take_in(facts, Origin::Relayed).await
    }

    async fn take_in(&self, facts: &[Result<Fact, Code>], origin: Origin) -> Result<Vec<Verdict>, Failure> {
        let mut verdicts = vec![Verdict::Merged; facts.len()];
        let (mut places, mut offered) = (Vec::new(), Vec::new());
        for (place, fact) in facts.iter().enumerate() {
            match fact {
                Err(code) => {
                    self.inner.intake.refusals().note_bytes("put", *code, clock::now());
                    verdicts[place] = Verdict::Refused(*code);
                    self.inner.intake.metrics().facts("put", &verdicts[place..=place]);
                }
                Ok(fact) => {
                    places.push(place);
                    offered.push(fact.clone());
                }
            }
        }
        let taken_in = self.inner.intake.offer_all(offered, "put", origin).await?;
        for (place, verdict) in places.into_iter().zip(taken_in) {
            verdicts[place] = verdict;
        }
        Ok(verdicts)
    }

    /// Syncs with a peer now: `[ID@]ADDR:PORT`, or the beginning of a connected peer's id.
    pub async fn sync_with(&self, peer: &str, prefix: PathPrefix) -> Result<SyncReport, ApiError> {
        self.inner.peers.sync_with(peer, prefix).await
    }
}

/// Looks from time to time whether what could not be read reads again.
async fn look_again(store: Store, hub: Hub, peers: Peers, pause: Duration, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        if store.unreadable().is_some() {
            let store = store.clone();
            // A fault there is told by the log.
            if let Ok(reads_again) = tokio::task::spawn_blocking(move || store.look_again()).await {
                hub.tell_again(reads_again);
                peers.retry_stuck();
            }
        }
    }
}

/// What found no room is asked for again when there is some.
async fn retry_when_there_is_room(store: Store, peers: Peers, stop: CancellationToken) {
    let mut fullness = store.fullness();
    drop(store);
    while let Some(Ok(())) = stop.run_until_cancelled(fullness.changed()).await {
        if !*fullness.borrow_and_update() {
            peers.retry_stuck();
        }
    }
}
