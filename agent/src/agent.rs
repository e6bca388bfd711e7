//! The agent as a whole.

mod health;

use crate::clock;
use crate::committer::{self, Condition, Store, THREAD_ENDED};
use crate::config::Config;
use crate::error::{StartError, WriteError, unfinished};
use crate::gossip::{Directory, Gossip, GossipError};
use crate::http::{HttpLimits, Listener, ServerTls, bind_tcp, bind_unix};
use crate::intake::Intake;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::refusals::FactName;
use crate::watch::Hub;
use bytes::Bytes;
use kvgossip_api::{ApiError, SyncReport};
use kvgossip_engine::{Replica, Storage, StorageError};
use kvgossip_grants::{
    Code, Entry, EntryFact, EntryId, Explanation, Fact, Key, Op, PathPrefix, Signer, SigningKey, Timestamp,
    Verdict,
};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

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
    token: Option<String>,
    max_value_bytes: usize,
    http_limits: HttpLimits,
    tls: Option<ServerTls>,
    store_dir: Option<PathBuf>,
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
        config: Config,
        replica: Replica,
        storage: Box<dyn Storage>,
    ) -> Result<Self, StartError> {
        let listeners = Listeners::bind(&config).await?;
        warn_of_descriptors(&config);
        let metrics = Metrics::new();
        let started = committer::start(replica, storage, config.patience, metrics.commit());
        let (store, committer) = started.map_err(StartError::Thread)?;
        let intake = Intake::new(store, metrics);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let started = Self::start_network(&config, intake.clone(), &stop, &tasks).await;
        let (peers, gossip) = started.inspect_err(|_| {
            stop.cancel();
            if let Some(socket) = &config.socket {
                // Nobody would answer there.
                let _ = std::fs::remove_file(socket);
            }
        })?;
        let hub = Hub::start(intake.store().clone(), &stop, &tasks);
        tasks.spawn(look_again(intake.store().clone(), hub.clone(), config.patience.room, stop.clone()));
        let inner = Inner {
            intake,
            peers,
            gossip,
            hub,
            identity: config.identity.map(Arc::new),
            token: config.token,
            max_value_bytes: config.max_value_bytes,
            http_limits: config.http_limits,
            tls: config.tls,
            store_dir: config.store_dir,
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
        let gossip = Gossip::start(gossip, cluster, &peers, directory, stop, tasks).await?;
        Ok((peers, Some(gossip)))
    }

    /// Stops: no new work, what is under way ends, the store is closed, the socket removed.
    pub async fn stop(self) {
        self.inner.stop.cancel();
        self.inner.peers.close().await;
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        if let Some(socket) = &self.inner.socket {
            // It may have been taken away already.
            let _ = std::fs::remove_file(socket);
        }
        let committer = self.inner.committer.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(self);
        if let Some(committer) = committer {
            // It ends when the last handle is dropped; a handle kept elsewhere keeps the store open.
            let _ = tokio::time::timeout(
                Duration::from_secs(10),
                tokio::task::spawn_blocking(move || committer.join()),
            )
            .await;
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

    /// Whether a token lets a request over TCP do what the Unix socket may.
    pub(crate) fn accepts_token(&self, given: &str) -> bool {
        // Hashes of equal length are compared, so that the time tells nothing of the token.
        let own = self.inner.token.as_deref();
        own.is_some_and(|own| {
            kvgossip_grants::value_hash(own.as_bytes()) == kvgossip_grants::value_hash(given.as_bytes())
        })
    }

    /// The entry that a reader of `key` sees now, with its value.
    pub async fn read(&self, key: &Key) -> Result<Option<EntryFact>, StorageError> {
        let (key, store) = (key.clone(), self.store().clone());
        let read = move || {
            // An entry that is replaced between the two reads is looked up again.
            for _ in 0..MAX_STAMPS {
                let view = store.view();
                let Some(shown) = view.shown(&key, clock::now()) else { return Ok(None) };
                let Some(record) = store.reader().entry(&key, &shown.id)? else { continue };
                return match Fact::from_record(view.authority().cluster(), &record) {
                    Ok(Fact::Entry(entry)) => Ok(Some(entry)),
                    _ => Err(StorageError::Damaged(format!("the entry of {key} does not read"))),
                };
            }
            Err(StorageError::Damaged(format!("the value of {key} is missing")))
        };
        let done = tokio::task::spawn_blocking(read).await;
        done.unwrap_or_else(|error| Err(unfinished(&error)))
    }

    /// Sets (or, without a value, unsets) a key under the agent's own identity.
    ///
    /// With `only_if` the given entry must be the one that is shown at this agent (`Some(None)`: the key must be
    /// unset) at the moment of writing.
    pub async fn write(
        &self,
        key: Key,
        value: Option<Bytes>,
        only_if: Option<Option<EntryId>>,
    ) -> Result<EntryFact, WriteError> {
        let identity = self.inner.identity.clone().ok_or(WriteError::NoIdentity)?;
        for _ in 0..MAX_STAMPS {
            let fact = self.sign(&identity, &key, value.clone()).await?;
            let offered = Fact::Entry(fact.clone());
            let limit = self.inner.max_value_bytes;
            if let Err(code) = self.store().view().authority().check_direct(&offered, clock::now(), limit) {
                return Err(WriteError::Verdict(Verdict::Refused(code)));
            }
            let condition = only_if.map(|shown| Condition { key: key.clone(), shown });
            let verdicts = self.inner.intake.offer_if(vec![offered], "put", condition).await?;
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
        let (view, now) = (self.store().view(), clock::now());
        let signer = identity.public().entity();
        let grant = match view.authority().explain(key, signer, now) {
            Explanation::Root => None,
            Explanation::Accepted(chain) => chain.last().map(|link| link.grant),
            Explanation::Rejected(chains) => {
                let code = chains.first().map_or(Code::GrantUnknown, |chain| chain.code);
                let message = format!(
                    "{} may not write {key}: {}",
                    signer.short(),
                    if chains.is_empty() { "no grant to it is known here" } else { code.help() }
                );
                return Err(WriteError::NotAuthorised { code, message });
            }
        };
        let op = value.as_deref().map_or(Op::Delete, Op::set);
        let timestamp = view.stamp(key, grant.as_ref(), now);
        let entry = Entry { key: key.clone(), timestamp, op, signer, grant };
        let (identity, cluster) = (identity.clone(), view.authority().cluster());
        let sign = move || EntryFact::sign(cluster, entry, value.unwrap_or_default(), identity.as_ref());
        let signed = tokio::task::spawn_blocking(sign).await;
        signed.ok().and_then(Result::ok).ok_or(WriteError::Signing)
    }

    /// Takes in what is put here directly: facts, or the code of what could not be read as one. A verdict each.
    pub async fn put_facts(&self, facts: &[Result<Fact, Code>]) -> Result<Vec<Verdict>, StorageError> {
        let (view, now) = (self.store().view(), clock::now());
        let mut verdicts = vec![Verdict::Merged; facts.len()];
        let (mut places, mut offered) = (Vec::new(), Vec::new());
        for (place, fact) in facts.iter().enumerate() {
            match fact {
                Err(code) => {
                    self.inner.intake.refusals().note_bytes("put", *code, now);
                    verdicts[place] = Verdict::Refused(*code);
                    self.inner.intake.metrics().facts("put", &verdicts[place..=place]);
                }
                Ok(fact) => match view.authority().check_direct(fact, now, self.inner.max_value_bytes) {
                    Err(code) => {
                        verdicts[place] = Verdict::Refused(code);
                        self.inner.intake.refusals().note("put", &FactName::of(fact), verdicts[place], now);
                        self.inner.intake.metrics().facts("put", &verdicts[place..=place]);
                    }
                    Ok(()) => {
                        places.push(place);
                        offered.push(fact.clone());
                    }
                },
            }
        }
        for (place, verdict) in places.into_iter().zip(self.inner.intake.offer_all(offered, "put").await?) {
            verdicts[place] = verdict;
        }
        Ok(verdicts)
    }

    /// Syncs with a peer now: `[ID@]ADDR:PORT`, or the beginning of a connected peer's id.
    pub async fn sync_with(&self, peer: &str, prefix: PathPrefix) -> Result<SyncReport, ApiError> {
        self.inner.peers.sync_with(peer, prefix).await
    }

    /// Why the agent is not ready; nothing if it is.
    pub fn unready(&self) -> Vec<String> {
        let error = self.store().failure().or_else(|| {
            let stopped = !self.store().is_running() && !self.inner.stop.is_cancelled();
            stopped.then(|| StorageError::Stopped(THREAD_ENDED.into()))
        });
        let error = error.or_else(|| self.store().unreadable());
        let gossip = self.inner.gossip.as_ref().and_then(Gossip::failure);
        let gossip = gossip.map(|error| format!("{}: {error}", error.code()));
        error.map(|error| format!("{}: {error}", error.code())).into_iter().chain(gossip).collect()
    }
}

/// Looks from time to time whether what could not be read reads again.
async fn look_again(store: Store, hub: Hub, pause: Duration, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        if store.unreadable().is_some() {
            let store = store.clone();
            // A fault there is told by the log.
            if let Ok(reads_again) = tokio::task::spawn_blocking(move || store.look_again()).await {
                hub.tell_again(reads_again);
            }
        }
    }
}

/// Connections that the system would refuse are better known of at the start.
fn warn_of_descriptors(config: &Config) {
    let rpc = config.gossip.as_ref().and_then(|gossip| gossip.rpc.as_ref());
    let rpc = rpc.map_or(0, |rpc| rpc.options.limits.connections);
    let (needed, allowed) = (config.http_limits.descriptors() + rpc, crate::metrics::max_fds());
    if usize::try_from(allowed).is_ok_and(|allowed| (1..needed).contains(&allowed)) {
        tracing::warn!(
            "{needed} file descriptors may be needed, and the system allows {allowed}: raise the limit (LimitNOFILE= of \
             systemd, ulimit -n), or lower --max-connections"
        );
    }
}

/// The doors, bound before anything else runs, so that a taken port is noticed first.
struct Listeners {
    all: Vec<Listener>,
    http: Option<SocketAddr>,
}

impl Listeners {
    async fn bind(config: &Config) -> Result<Self, StartError> {
        let mut listeners = Self { all: Vec::new(), http: None };
        if let Some(address) = config.http {
            let bound = bind_tcp(address).await;
            let (listener, address) = bound.map_err(|error| StartError::Http(address, error))?;
            listeners.all.push(listener);
            listeners.http = Some(address);
        }
        if let Some(path) = &config.socket {
            let bound = bind_unix(path).await;
            listeners.all.push(bound.map_err(|error| StartError::Socket { path: path.clone(), error })?);
        }
        Ok(listeners)
    }
}
