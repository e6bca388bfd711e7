//! A running agent: its parts, and how it stops.

mod ahead;
mod descriptors;
mod discovery;
mod early;
mod first_sync;
mod health;
mod long_keys;
mod put;
mod read;
mod start;
mod store_row;
mod write;

use crate::clients::HttpLimits;
use crate::committer::StoreHandle;
use crate::gossip::{Gossip, GossipError};
use crate::intake::Intake;
use crate::peers::Peers;
use crate::readiness::FirstSync;
use crate::rights::Rights;
use crate::tls::ServerTls;
use crate::watch::Hub;
use kvgossip_api::{ApiError, SyncReport};
use kvgossip_grants::{PathPrefix, SigningKey, Timestamp};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Maximum duration of [`Agent::stop`], whatever peers, clients and the disk do.
pub const STOP_LIMIT: Duration = Duration::from_millis(4500);

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
    /// Runs a task for as long as the agent runs. When the agent stops, it waits for the end of the task.
    pub(crate) fn run<F>(&self, task: impl FnOnce(Self, CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.inner.tasks.spawn(task(self.clone(), self.inner.stop.clone()));
    }

    /// Stops the agent within [`STOP_LIMIT`]: accepts no new work, ends the work in progress, closes the store and
    /// removes the socket.
    pub async fn stop(self) {
        self.stop_by(Instant::now() + STOP_LIMIT).await;
    }

    /// Stops the agent before a deadline. Work that has not ended by then is abandoned and ends with the process;
    /// everything acknowledged is durable.
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
                // The file may have been removed already.
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
            // The committer ends when the last handle is dropped; a handle kept elsewhere keeps the store open.
            let joined = timeout_at(deadline, tokio::task::spawn_blocking(move || committer.join())).await;
            if joined.is_err() {
                tracing::warn!(
                    "the store is not closed yet, and is left: everything acknowledged is durable"
                );
            }
        }
    }

    /// Returns the handle to the committer and to the published state.
    pub fn store(&self) -> &StoreHandle {
        self.inner.intake.store()
    }

    /// Returns the intake, through which all facts enter the replica.
    pub fn intake(&self) -> &Intake {
        &self.inner.intake
    }

    /// Returns the connections to other replicas.
    pub fn peers(&self) -> &Peers {
        &self.inner.peers
    }

    /// Returns the current time, as used to stamp entries.
    pub fn now(&self) -> Timestamp {
        self.inner.intake.now()
    }

    /// Returns the hub, which notifies watchers.
    pub fn hub(&self) -> &Hub {
        &self.inner.hub
    }

    /// Returns the limits for clients of the HTTP API.
    pub(crate) fn http_limits(&self) -> &HttpLimits {
        &self.inner.http_limits
    }

    /// Returns the TLS settings of the HTTP API on TCP; `None`: plain HTTP.
    pub fn tls(&self) -> Option<&ServerTls> {
        self.inner.tls.as_ref()
    }

    /// Returns the gossip layer, or [`GossipError::Off`] if the agent was started without gossip.
    pub fn gossip(&self) -> Result<&Gossip, GossipError> {
        self.inner.gossip.as_ref().ok_or(GossipError::Off)
    }

    /// Completes when this agent has to end: an RPC client made it leave (`serf leave`), or it gave up joining. Never
    /// completes without gossip.
    pub async fn told_to_end(&self) {
        match &self.inner.gossip {
            Some(gossip) => gossip.told_to_end().await,
            None => std::future::pending().await,
        }
    }

    /// Returns the TCP address of the HTTP API; `None`: the API is not served over TCP.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.inner.http
    }

    /// Returns the tokens and certificates that give rights to requests over TCP.
    pub(crate) fn rights(&self) -> &Rights {
        &self.inner.rights
    }

    /// Whether HTTP is served under this host name: it is in the certificate, or the operator configured it.
    pub(crate) fn serves_name(&self, name: &str) -> bool {
        let named = self.inner.http_hosts.iter().any(|host| host.eq_ignore_ascii_case(name));
        named || self.inner.tls.as_ref().is_some_and(|tls| tls.serves(name))
    }

    /// Fails while this replica knows of others and was never compared with a peer: until then, a key missing here may
    /// exist elsewhere.
    pub(crate) fn check_complete(&self) -> Result<(), FirstSync> {
        if self.inner.peers.standing().is_newcomer() { Err(FirstSync) } else { Ok(()) }
    }

    /// Runs a sync session with a peer now. `peer`: `[ID@]ADDR:PORT`, or the first digits of a connected peer's id.
    pub async fn sync_with(&self, peer: &str, prefix: PathPrefix) -> Result<SyncReport, ApiError> {
        self.inner.peers.sync_with(peer, prefix).await
    }
}
