//! Starts all parts of an agent except HTTP.

use super::early::{offer_when_due, tell_of_early_keys};
use super::{Agent, Inner, ahead, descriptors, long_keys, store_row};
use crate::clock;
use crate::committer::{self, StoreHandle};
use crate::config::Config;
use crate::error::StartError;
use crate::gossip::Gossip;
use crate::intake::Intake;
use crate::metrics::Metrics;
use crate::peers::{Directory, Peers};
use crate::rights::Rights;
use crate::tls::ServerTls;
use crate::watch::Hub;
use kvgossip_engine::{Replica, Storage};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

impl Agent {
    /// Starts an agent that does not serve HTTP yet. `http` is the TCP address at which it will be served.
    pub(crate) async fn start_without_http(
        mut config: Config,
        replica: Replica,
        storage: Box<dyn Storage>,
        http: Option<SocketAddr>,
    ) -> Result<Self, StartError> {
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
        let (peers, gossip) = started.inspect_err(|_| stop.cancel())?;
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
        tasks.spawn(tell_of_early_keys(intake.waiting().clone(), hub.clone(), stop.clone()));
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
            http,
            socket: config.socket,
            started_at: clock::now(),
            stop,
            tasks,
            committer: Mutex::new(Some(committer)),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Starts the connections to other replicas, and gossip if it is configured; otherwise the second value is `None`.
    async fn start_network(
        config: &Config,
        intake: Intake,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) -> Result<(Peers, Option<Gossip>), StartError> {
        let directory = Arc::new(Directory::default());
        let peers = Peers::start(config.peers(), intake, directory.clone(), stop, tasks)?;
        let Some(gossip) = config.gossip.clone() else { return Ok((peers, None)) };
        let cluster = config.root.cluster();
        let known = (directory, config.resolver.clone());
        let gossip = Gossip::start(gossip, cluster, &peers, known, stop, tasks).await?;
        Ok((peers, Some(gossip)))
    }
}

/// Retries, every `pause`, the reads of the store that failed. Notifies watchers of keys that can be read again, and
/// retries the sessions that such reads had stopped.
async fn look_again(store: StoreHandle, hub: Hub, peers: Peers, pause: Duration, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        if store.unreadable().is_some() {
            let store = store.clone();
            // A panic in there is logged.
            if let Ok(reads_again) = tokio::task::spawn_blocking(move || store.look_again()).await {
                hub.tell_again(reads_again);
                peers.retry_stuck();
            }
        }
    }
}

/// Requests facts that were not merged for lack of room again, as soon as the store is no longer full.
async fn retry_when_there_is_room(store: StoreHandle, peers: Peers, stop: CancellationToken) {
    let mut fullness = store.fullness();
    drop(store);
    while let Some(Ok(())) = stop.run_until_cancelled(fullness.changed()).await {
        if !*fullness.borrow_and_update() {
            peers.retry_stuck();
        }
    }
}
