//! The configuration of an agent.

use crate::address::Resolver;
use crate::clients::HttpLimits;
use crate::clock::Clock;
use crate::committer::Patience;
use crate::gossip::GossipConfig;
use crate::peers::{PeerTarget, PeersConfig};
use crate::readiness::{DEFAULT_READY_AFTER, ReadinessConfig};
use crate::tls::ServerTls;
use kvgossip_engine::declined::Declined;
use kvgossip_grants::{MAX_VALUE_BYTES, PublicKey, SigningKey};
use kvgossip_transport::{AllowList, Limits, LinkFilter, ReplicaKey};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The configuration of an agent.
pub struct Config {
    /// Public root key of the cluster.
    pub root: PublicKey,
    /// The key that proves this replica's id to its peers.
    pub replica_key: ReplicaKey,
    /// Signing key for the routes `PUT` and `DELETE`; `None`: these requests are refused.
    pub identity: Option<SigningKey>,
    /// UDP address for sync sessions; port 0 picks a free port.
    pub sync: SocketAddr,
    /// TCP address of the HTTP API; `None`: the API is not served over TCP.
    pub http: Option<SocketAddr>,
    /// Path of the HTTP API's Unix socket; `None`: the API is not served on a Unix socket.
    pub socket: Option<PathBuf>,
    /// Bearer token that gives requests over TCP all rights of the Unix socket.
    pub token: Option<String>,
    /// Bearer token that lets requests over TCP read. If it is set, or [`ServerTls`] asks for client certificates,
    /// reading over TCP needs one of them.
    pub read_token: Option<String>,
    /// Additional host names accepted in requests over TCP, beside IP addresses, `localhost` and the names in the
    /// certificate.
    pub http_hosts: Vec<String>,
    /// Configured peers, with which the agent stays connected.
    pub peers: Vec<PeerTarget>,
    /// Allow list: ids of the replicas that are admitted to sessions.
    pub allowed: AllowList,
    /// Whether replicas outside the allow list may pull facts, in read-only sessions.
    pub open_read: bool,
    /// Maximum size of a value in a direct put, in bytes. Facts from peers are limited by the protocol alone.
    pub max_value_bytes: usize,
    /// Maximum total weight of the facts in the store, in bytes; see [`View::weight`](kvgossip_engine::View::weight).
    /// `None`: unlimited.
    pub max_store_bytes: Option<u64>,
    /// Directory of the store's files, to report their size on disk; `None` for a store in memory.
    pub store_dir: Option<PathBuf>,
    /// TLS settings of the HTTP API on TCP; `None`: plain HTTP.
    pub tls: Option<ServerTls>,
    /// Gossip settings; `None`: no gossip.
    pub gossip: Option<GossipConfig>,
    /// Resolver of the host names of peers and gossip members.
    pub resolver: Resolver,
    /// The addresses that sessions can reach and be reached from, for fault injection.
    pub link_filter: Option<LinkFilter>,
    /// Initial set of declined facts: the entries that [`forget_future`](crate::forget_future) took out of the store.
    pub declined: Option<Declined>,
    /// Clock that stamps entries, judges them and is reported to peers. Other than the system clock only for fault
    /// injection.
    pub clock: Clock,
    /// Limits on the time and the number of connections and sessions of peers.
    pub limits: Limits,
    /// Limits on the time and the number of connections and requests of HTTP clients.
    pub http_limits: HttpLimits,
    /// Limit on the duration of a commit, and the retry interval on a full disk.
    pub patience: Patience,
    /// File that remembers whether this replica was ever compared with a peer; `None` for a store in memory.
    pub sync_state: Option<PathBuf>,
    /// Whether other replicas exist although none is configured; a peer is named later.
    pub expects_others: bool,
    /// Whether the agent is ready without having been compared with a peer: what it lacks counts as absent.
    pub ready_alone: bool,
    /// How long an agent that was compared in an earlier run waits for a new comparison before it is ready.
    pub ready_after: Duration,
}

impl Config {
    /// Returns a configuration on free loopback ports, without peers or identity.
    pub fn new(root: PublicKey, replica_key: ReplicaKey) -> Self {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            root,
            replica_key,
            identity: None,
            sync: loopback,
            http: Some(loopback),
            socket: None,
            token: None,
            read_token: None,
            http_hosts: Vec::new(),
            peers: Vec::new(),
            allowed: std::iter::empty().collect(),
            open_read: false,
            max_value_bytes: MAX_VALUE_BYTES,
            max_store_bytes: None,
            store_dir: None,
            tls: None,
            gossip: None,
            resolver: Resolver::default(),
            link_filter: None,
            declined: None,
            clock: Clock::system(),
            limits: Limits::default(),
            http_limits: HttpLimits::default(),
            patience: Patience::default(),
            sync_state: None,
            expects_others: false,
            ready_alone: false,
            ready_after: DEFAULT_READY_AFTER,
        }
    }

    /// Returns the part of the configuration that the connections to other replicas use.
    pub(crate) fn peers(&self) -> PeersConfig {
        let joins = self.gossip.as_ref().is_some_and(GossipConfig::expects_others);
        let readiness = ReadinessConfig {
            file: self.sync_state.clone(),
            members_file: self.gossip.as_ref().and_then(|gossip| gossip.snapshot.clone()),
            told_of_others: self.expects_others || !self.peers.is_empty() || joins,
            alone_is_fine: self.ready_alone,
            ready_after: self.ready_after,
        };
        PeersConfig {
            address: self.sync,
            replica_key: self.replica_key.clone(),
            listed: self.peers.clone(),
            joins,
            allowed: self.allowed.clone(),
            open_read: self.open_read,
            limits: self.limits.clone(),
            resolver: self.resolver.clone(),
            clock: self.clock.clone(),
            link_filter: self.link_filter.clone(),
            readiness,
        }
    }
}
